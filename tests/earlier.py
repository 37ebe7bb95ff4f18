"""Turn the ingested data of a project into what the previous version stored."""

import hashlib

import numpy as np
import pyarrow.parquet as pq

from attrition.rows import ledger, segments, typed_rows
from attrition.storage import files


def become_earlier(config, *, without=()):
    """Store the rows as the previous version did; `without`: outputs that a still earlier one lacked."""
    columns, record = config.columns, files.read_record(config.ingestion_record)
    arrivals = segments.arrival_names(columns)
    rows = ledger.read_table(config, (*columns.table, *typed_rows.COMPUTED, *arrivals))
    arrays = {name: segments.column(rows, name) for name in arrivals[1:]}
    texts = {name: rows[name].cast("string") for name in columns.table if name in text_names(rows)}
    for name, values in texts.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    owned = {place: digests(config) for place in files.read_arrays(config.table_rows)}
    config.gone.unlink(missing_ok=True)
    with config.rows.open("wb") as file:
        pq.write_table(rows.drop_columns(arrivals), file)
    config.deliveries.write_bytes(files.arrays_bytes(**arrays))
    config.table_rows.write_bytes(files.arrays_bytes(**owned))
    names = [name for name in record["outputs"] if name not in (config.gone.name, *without)]
    for name in without:
        config.ingestion_record.with_name(name).unlink()
    outputs = {name: files.sha256_file(config.output_folder / name) for name in names}
    for name in ("seal", "next_number", "layout"):
        del record[name]
    seal(config, record | {"outputs": outputs})


def seal(config, record):
    """Write a record of ingestion, as the last one that was written."""
    config.ingestion_record.write_bytes(files.encode(files.sealed(record)))
    config.history.unlink(missing_ok=True)


def text_names(rows):
    return [field.name for field in rows.schema if str(field.type).startswith("dictionary")]


def digests(config):
    """The digests of all rows, as if one table contained them."""
    lines = config.final_data.read_bytes().splitlines()[1:]
    keys = sorted(
        hashlib.blake2b(line.rpartition(b",")[0], digest_size=16).digest() for line in lines
    )
    return np.frombuffer(b"".join(keys), "uint8").reshape(-1, 16)
