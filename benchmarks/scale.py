"""Ingest five million rows, as one file of each kind and as ten thousand small ones.

Each run is a process of its own: its seconds and its peak memory are the kernel's figures. Beside them
what pandas takes to read the same file and drop its duplicates, without judging a row of it.

Run: python -m benchmarks.scale [--rows 5000000] [--files 10000] [--only NAME]
"""

import argparse
import gzip
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from attrition.config import Config
from attrition.storage import files
from benchmarks.measure import Cost, cpu_of
from benchmarks.project import ROOT, make_project

MAX_SECONDS, MAX_MB = 600, 2048
FEATURES = ("lastmonth_activity", "lastyear_activity", "number_of_employees")
SETTINGS = {"databases": [], "columns": {"numeric": {name: {"minimum": 0} for name in FEATURES}}}
KINDS = ("csv", "quoted", "gzip", "parquet", "many")
PEER = {
    "csv": "import sys, pandas as pd; print(len(pd.read_csv(sys.argv[1]).drop_duplicates()))",
    "parquet": "import sys, pandas as pd; print(len(pd.read_parquet(sys.argv[1]).drop_duplicates()))",
}


def make_rows(count: int) -> pa.Table:
    """Rows of the plain form, all of them different; one in five is open."""
    rng = np.random.default_rng(0)
    clients = pa.array(np.arange(count)).cast(pa.string())
    outcome = pa.array(rng.choice(np.array(["0", "1", ""]), count, p=(0.6, 0.2, 0.2)))
    found = {"corporation": pa.compute.binary_join_element_wise("client", clients, "")}
    found |= {name: pa.array(rng.integers(0, 10**5, count)) for name in FEATURES}
    return pa.table({**found, "exited": outcome.cast(pa.string())})


def write_csv(rows: pa.Table, path: Path, *, quoted: bool = False) -> None:
    style = "all_valid" if quoted else "none"
    texts = pa.table({name: rows[name].cast(pa.string()) for name in rows.column_names})
    options = pyarrow.csv.WriteOptions(quoting_style=style, include_header=False)
    with path.open("wb") as file:
        file.write(",".join(rows.column_names).encode() + b"\n")
        pyarrow.csv.write_csv(texts, file, options)


def write_gzip(rows: pa.Table, path: Path) -> None:
    plain = path.with_suffix("")
    write_csv(rows, plain)
    with plain.open("rb") as file, gzip.open(path, "wb", compresslevel=1) as packed:
        shutil.copyfileobj(file, packed, 1 << 20)
    plain.unlink()


def write_many(rows: pa.Table, folder: Path, files: int) -> None:
    each = -(-len(rows) // files)
    for i in range(files):
        write_csv(rows[i * each : (i + 1) * each], folder / f"part{i:05}.csv")


def write_source(name: str, folder: Path, count: int, files: int) -> None:
    rows = make_rows(count)
    if name == "many":
        write_many(rows, folder, files)
    elif name == "gzip":
        write_gzip(rows, folder / "a.csv.gz")
    elif name == "parquet":
        pq.write_table(rows, folder / "a.parquet")
    else:
        write_csv(rows, folder / "a.csv", quoted=name == "quoted")


def apart(work: Callable[..., None], *arguments: object) -> None:
    """Work in a process of its own: the kernel counts our memory to whatever we start."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def ingest(config: Config) -> Cost:
    script = [sys.executable, str(ROOT / "ingestion.py"), "--quiet"]
    return cpu_of([*script, "--config", str(config.file)])


def tell(name: str, cost: Cost, peer: Cost | None = None) -> bool:
    shown = f"{cost.seconds:6.1f} s {cost.cpu_seconds:6.1f} s cpu {cost.peak_mb:6,.0f} MB"
    if peer:
        ratio = cost.cpu_seconds / peer.cpu_seconds
        shown += f"   pandas {peer.cpu_seconds:5.1f} s cpu {peer.peak_mb:6,.0f} MB: {ratio:.1f} x"
    print(f"{name:26} {shown}", flush=True)
    return cost.seconds <= MAX_SECONDS and cost.peak_mb <= MAX_MB


def check_rows(config: Config, rows: int, sources: int) -> None:
    record = files.read_record(config.ingestion_record)
    assert record is not None
    assert record["rows"] == record["totals"]["accepted"] == rows, record
    assert record["sources"] == sources, record


def run(place: Path, name: str, rows: int, files: int) -> bool:
    """Ingest all rows from sources of one kind, and then a hundred more."""
    config = make_project(place, **SETTINGS)
    apart(write_source, name, config.input_folder, rows, files)
    if name == "many":
        held = tell(f"{files:,} csv files", ingest(config))
        check_rows(config, rows, files)
        held &= tell("  nothing new", ingest(config))
    else:
        [path] = config.input_folder.iterdir()
        peer = PEER["parquet" if name == "parquet" else "csv"]
        held = tell(name, ingest(config), cpu_of([sys.executable, "-c", peer, str(path)]))
        check_rows(config, rows, 1)
    if name in ("csv", "many"):
        write_csv(make_rows(100), config.input_folder / "z.csv")
        held &= tell("  100 rows more", ingest(config))
        check_rows(config, rows + 100, 2 if name == "csv" else files + 1)
    shutil.rmtree(place)
    return held


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every run kept its limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--only", choices=KINDS)
    options = parser.parse_args(argv)
    held = True
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.only] if options.only else KINDS:
            held &= run(Path(folder, name), name, options.rows, options.files)
    print(f"limits: {MAX_SECONDS} s, {MAX_MB:,} MB: {'held' if held else 'NOT HELD'}")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
