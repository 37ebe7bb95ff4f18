"""Deliveries into several segments of rows, and a check of all their readers."""

import sqlite3

import numpy as np

from attrition.rows import ledger, typed_rows
from attrition.storage import files, tables
from ingestion import ingest_new_data
from tests.support import final_rows, put

DATED = {"client": "who", "outcome": "left", "numeric": ["x"], "dates": ["end"], "time": "seen"}
HEADER = "who,seen,x,end,left"
TABLE = {"name": "crm", "url": "sqlite:///crm.sqlite", "table": "clients"}


def deliver(config, name, rows):
    put(config, f"{name}.csv", "\n".join([HEADER, *rows, ""]))
    ingest_new_data(config)


def row(i, outcome=""):
    return f"c{i % 60},,{i},2026-{1 + i % 12:02d}-01,{outcome}"


def find_segments(config):
    record = files.read_record(config.ingestion_record)
    return config.list_segments(record["outputs"])


def check_all(config, rows):
    """Check that all readers find the expected lines, in the order of arrival."""
    assert [",".join(each) for each in final_rows(config)] == rows
    names = ("who", "x", "left", typed_rows.NUMBER, *typed_rows.COMPUTED)
    table = ledger.read_rows(config, names)
    texts = [
        f"{who},{x:g},{'' if np.isnan(left) else int(left)}"
        for who, x, left in zip(table["who"], table["x"], table["left"], strict=True)
    ]
    cells = [each.split(",") for each in rows]
    assert texts == [f"{each[0]},{each[2]},{each[4]}" for each in cells]
    assert table[typed_rows.NUMBER].is_monotonic_increasing
    parts = [ledger.read_rows(config, names, part=part) for part in ledger.split_rows(config, 30)]
    assert sum(map(len, parts)) == len(rows)
    assert len({name for part in parts for name in set(part["who"])}) == len(set(table["who"]))
    hashes = table[typed_rows.CLIENT_HASH]
    some = np.unique(hashes.to_numpy()[::3])
    of_some = table[hashes.isin(some)].reset_index(drop=True)
    read = tables.to_frame(ledger.read_table(config, names, clients=some))
    assert read.equals(of_some)
    middle = int(table[typed_rows.NUMBER].iloc[len(table) // 2])
    later = ledger.read_rows(config, names, since=middle)
    assert later.equals(table.iloc[len(table) // 2 :].reset_index(drop=True))
    assert {path.name for path in config.output_folder.glob("finaldata*.parquet")} == {
        path.name for path in find_segments(config)
    }


def execute(config, sql):
    connection = sqlite3.connect(config.file.parent / "crm.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()
