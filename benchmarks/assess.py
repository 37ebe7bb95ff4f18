"""Compare the assessment of many clients with the bare model on arrays.

After a run over the sample, its rows are replaced by one open row of each of many clients, as ingestion
stores them. The bare model predicts the same values, already in memory: scikit-learn's pipelines on a
DataFrame, and the flat model of the release on arrays. The assessment reads, ranks, explains, estimates
and writes everything; its CPU time is that of the whole process. Its peak memory is measured at half
and double the size of the parts too, and the files must be the same to the byte.

Run: python -m benchmarks.assess [--clients 1000000] [--project FOLDER]
     --project: a finished project to start from
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from attrition import config_file
from attrition.config import Config
from attrition.rows import ledger, observations, typed_rows
from attrition.storage import files, tables
from benchmarks.measure import Row, at_least, cpu_of, print_rows
from benchmarks.project import ROOT, finish_project

LEAST_SPEED = 0.8
OUTPUTS = ("clients.parquet", "riskscores.csv", "contactlist.csv", "riskhistory.npy")


def grow(config: Config, count: int) -> None:
    """Replace the rows of a finished project by one open row of each of `count` clients."""
    columns = config.columns
    names = [f"Client {i:08} Ltd" for i in range(count)]
    hashes = np.array([observations.name_hash(name) for name in names], "uint64")
    order = np.argsort(hashes)
    stored = pa.concat_tables(tables.read_parts(config.rows))
    is_open = np.flatnonzero(np.isnan(stored[columns.outcome].to_numpy()))
    drawn = is_open[np.random.default_rng(0).integers(len(is_open), size=count)]

    def blocks() -> Iterator[pa.Table]:
        for start in range(0, count, tables.ROW_GROUP):
            at = order[start : start + tables.ROW_GROUP]
            block = stored.take(pa.array(drawn[at]))
            replaced: dict[str, Any] = {
                columns.client_name: pa.array([names[i] for i in at.tolist()]),
                typed_rows.CLIENT_HASH: pa.array(hashes[at]),
                typed_rows.NUMBER: pa.array(at.astype("int64")),
            }
            for name, array in replaced.items():
                block = block.set_column(block.schema.get_field_index(name), name, array)
            yield block

    record = files.read_record(config.ingestion_record) or {}
    kept = [config.ingested_files, config.rejected, config.withdrawn, config.gone]
    contents: dict[Path, files.Content] = {
        path: path.read_bytes() for path in kept if path.exists()
    }
    unique = (*typed_rows.COMPUTED, typed_rows.NUMBER)
    contents[config.rows] = lambda file: tables.write_parquet(file, blocks(), unique=unique)
    record |= {"rows": count, "next_number": count}
    files.commit(config.ingestion_record, contents, record)


# ---- in a process of its own


def predict(config: Config, kind: str) -> float:
    """Predict every row with the bare model; return the CPU seconds of the predictions alone."""
    from attrition.modelling import models
    from attrition.operations import releases
    from attrition.serving import flattening, production

    release, flat = production.load_checked(
        config.production_folder, releases.current_id(config.production_folder)
    )
    model, cost = releases.load_model(release), 0.0
    for part in ledger.split_rows(config):
        rows = ledger.read_rows(config, config.columns.table, part=part)
        columns: Any = flattening.to_columns(flat, rows) if kind == "flat" else rows
        began = time.process_time()
        flat.predict(columns) if kind == "flat" else models.predict(model, columns)
        cost += time.process_time() - began
    return cost


# ---- side by side


class Assessed(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float
    hashes: dict[str, str]


def run(config: Config, rows_per_part: int) -> Assessed:
    """Assess all clients in a process of its own, from the same state each time."""
    engine = {"rows_per_part": rows_per_part}
    settings = json.loads(config.file.read_text()) | {"engine": engine}
    place = config.file.with_name("engine.json")
    place.write_text(json.dumps(settings))
    shutil.rmtree(config.reports_folder)
    config.reports_folder.mkdir(mode=0o750)
    cost = cpu_of([sys.executable, str(ROOT / "assessment.py"), "--config", str(place)])
    record = files.read_record(config.assessment_record) or {}
    return Assessed(*cost, {name: record["outputs"][name] for name in OUTPUTS})


def bare(config: Config, kind: str, folder: Path) -> float:
    """Return the CPU seconds of the bare model, measured in a process of its own."""
    out = folder / kind
    command = [sys.executable, "-m", "benchmarks.assess", "--worker", kind]
    cpu_of([*command, "--config", str(config.file), "--out", str(out)])
    return float(out.read_text())


def measure(config: Config, count: int, folder: Path) -> list[Row]:
    grow(config, count)
    size = ledger.ROWS_PER_PART
    costs = {kind: bare(config, kind, folder) for kind in ("pipelines", "flat")}
    results = {rows: run(config, rows) for rows in (size // 2, size, 2 * size)}
    base = results[size]
    rows = [
        Row(f"{kind}, bare", f"{costs[kind]:.1f} s, {costs[kind] / count * 1e6:.1f} us a client")
        for kind in costs
    ]
    speed = costs["pipelines"] / base.cpu_seconds
    figure = f"{base.cpu_seconds:.1f} CPU s, {base.cpu_seconds / count * 1e6:.1f} us a client"
    rows.append(Row(f"assessment of {count:,} clients", figure))
    rows.append(at_least("speed of the bare model", speed, LEAST_SPEED, "x"))
    for per_part, result in results.items():
        is_same = result.hashes == base.hashes
        figure = f"{result.peak_mb:.0f} MB, {result.seconds:.1f} s"
        name = f"peak memory, {per_part:,} rows a part, same bytes"
        rows.append(Row(name, figure, is_met=is_same))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Return 0 if all goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--project", type=Path)
    for name in ("--worker", "--config", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        config = config_file.load(Path(options.config))
        Path(options.out).write_text(str(predict(config, options.worker)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        config = finish_project(Path(name) / "project", options.project)
        return print_rows(measure(config, options.clients, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
