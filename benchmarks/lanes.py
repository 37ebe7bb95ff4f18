"""Mutate the files of the catalogue, and judge each mutation in the fast lane and in the strict one.

Bits are flipped, parts cut, repeated and spliced in from other files, quotes, line ends, BOMs, NULs and
delimiters inserted, in files of both forms. Both lanes must agree on every word, nothing but a verdict
may come out, every record must be accounted for, and no file may cost much.

Run: python -m benchmarks.lanes [--files 100000] [--processes 2] [--seed 0]
"""

import argparse
import codecs
import csv
import gzip
import io
import multiprocessing
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attrition.config import Config
from attrition.data.schema import Refused
from attrition.rows import deduplication, ledger
from attrition.rows.ledger import Ledger, Line
from attrition.sources import files as source_files
from attrition.sources.csv_reader import NotPlain
from attrition.storage import tables
from tests.campaigns import catalogue
from tests.campaigns.catalogue import Form
from tests.conftest import write_config

MAX_SECONDS, MAX_MB = 5.0, 500
BATCH = 500
INSERTED = (
    *(b'"', b'""', b"'", b"\\", b",", b";", b"\t", b"|", b"\r", b"\n", b"\r\n", b"\n\n", b"\x00"),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xc3",
        b"\xc3\xa9",
        b"\xe2\x80\xa8",
        b"\x1a",
        b"\x1c",
        b"\x85",
    ),
    *(b"\x0b", b"\x0c", b" ", b"sep=;\n", b"NA", b"-0", b"1e3", b"yes", b"0" * 400, b"x," * 2100),
)
ENDINGS = (*[".csv"] * 18, ".csv.gz", ".parquet")


@dataclass
class Found:
    """What came of a batch of files."""

    files: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mb: float = 0.0

    def add(self, other: "Found") -> None:
        self.files += other.files
        self.records += other.records
        self.wrong += other.wrong
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.peak_mb = max(self.peak_mb, other.peak_mb)


# ---- the mutations


@cache
def originals(form: Form) -> tuple[bytes, ...]:
    """Return the text of every case that is one, and a longer file of all kinds of good rows."""
    texts = [case.content for case in catalogue.all_cases(form) if isinstance(case.content, bytes)]
    rows = [form.row(f"client{i}", str(i % 90), (form.stayed, form.left)[i % 2]) for i in range(60)]
    odd = [form.row('"echo, Inc."'), form.row("Café", "NA", ""), form.row('ec"ho', "12.0")]
    return (*texts, *[form.lines(*rows, *odd, *rows[:5]).encode()] * (len(texts) // 2))


def mutate(text: bytes, others: tuple[bytes, ...], rng: random.Random) -> bytes:
    """Harm a text in one to four places, four in five of them below its header."""
    made = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        begin = made.find(b"\n") + 1 if rng.random() < 0.8 else 0
        at = rng.randint(begin, len(made))
        end = min(len(made), at + rng.choice((1, 3, 10, 40, 200)))
        kind = rng.choice(("flip", "cut", "tail", "splice", "repeat", "insert", "insert", "insert"))
        if kind == "flip" and made:
            made[min(at, len(made) - 1)] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del made[at:end]
        elif kind == "tail":
            del made[max(0, len(made) - rng.randint(1, 30)) :]
        elif kind == "splice":
            other = rng.choice(others)[:100_000]
            begin = rng.randint(0, len(other))
            made[at:at] = other[begin : begin + rng.choice((5, 40, 400))]
        elif kind == "repeat":
            made[at:at] = made[at:end] * rng.choice((1, 1, 5))
        elif kind == "insert":
            made[at:at] = rng.choice(INSERTED)
    return bytes(made)


def packed(ending: str, text: bytes, rng: random.Random) -> bytes:
    """Pack a text as the name says, and harm every second package too."""
    if ending == ".csv.gz":
        data = gzip.compress(text, 1, mtime=0)
    else:
        lines = [line.split(b",")[:4] for line in text.splitlines()[:200]]
        columns = zip(*(line for line in lines if len(line) == 4), strict=True)
        table = {f"{i}": pa.array(column, pa.binary()) for i, column in enumerate(columns)}
        buffer = io.BytesIO()
        pq.write_table(pa.table(table), buffer)
        data = buffer.getvalue()
    return mutate(data, (data,), rng) if rng.random() < 0.5 else data


# ---- the verdicts


def known_rows(config: Config, form: Form) -> Ledger:
    """Return a ledger that knows two rows of the form, one of them with the other outcome."""
    known = Ledger(config)
    table = source_files.read_table(
        source_files.File("a.csv", "", io.BytesIO(form.good.encode()), 0)
    )
    with closing(tables.make_spool()) as spool:
        judged = deduplication.judge(table, config.columns, known, Line("", "a.csv", ""), spool)
        rows, outcome = next(judged.accepted())[:2], config.columns.outcome
        place = rows.schema.get_field_index(outcome)
        known.add_rows(rows.set_column(place, outcome, pa.array(["1", "0"])))
    return known


def verdict(name: str, data: bytes, known: Ledger, *, fast: bool) -> Any:
    """Return all that a file comes to in one lane; None where the fast lane does not judge it."""
    file = source_files.File(name, "", io.BytesIO(data), 0)
    try:
        with (
            source_files.open_table(file, fast=fast) as table,
            closing(tables.make_spool()) as spool,
        ):
            judged = deduplication.judge(
                table, known.config.columns, known, Line("", name, ""), spool
            )
            ledger.check_line(judged.line)
            rows = [row for part in judged.accepted() for row in part.to_pylist()]
            refusals = list(judged.refusals())
    except NotPlain:
        return None
    except Refused as refused:
        return refused.code, refused.reason, refused.unfinished
    is_used = judged.line.verdict == ledger.ACCEPTED
    assert len(refusals) == judged.line.rejected
    assert not is_used or len(rows) == judged.line.accepted
    return judged.line, judged.unfinished, rows if is_used else [], refusals


def count_records(data: bytes) -> int:
    """Count the records below the header of a text that was judged, in the plainest way there is."""
    is_wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = data.decode("utf-16" if is_wide else "utf-8-sig")
    lines = iter(re.split("(?<=\n)|(?<=\r)(?!\n)", text))
    header = next(line for line in lines if line.strip())
    if header.lower().startswith(("sep=", '"sep=')):
        header = next(line for line in lines if line.strip())
    delimiter = max(",;\t|", key=header.count)
    rows = csv.reader(chain([header], lines), delimiter=delimiter)
    return sum(len(row) > 1 or bool("".join(row).strip(" \t")) for row in rows) - 1


def judge_batch(seed: int, count: int) -> Found:
    """Mutate and judge some files; what is wrong is told with the seed that makes it again."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        places = {form: Path(folder, form.name) for form in catalogue.FORMS}
        ledgers = {
            form: known_rows(write_config(place, **form.settings), form)
            for form, place in places.items()
        }
        for i in range(count):
            rng = random.Random(f"{seed} {i}")
            form = rng.choice(catalogue.FORMS)
            texts = originals(form)
            ending = rng.choice(ENDINGS)
            data = mutate(rng.choice(texts), texts, rng)
            if ending != ".csv":
                data = packed(ending, data, rng)
            judge_one(f"m{ending}", data, ledgers[form], found, f"{form.name} {seed} {i}{ending}")
        for known in ledgers.values():
            known.close()
    found.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def judge_one(name: str, data: bytes, known: Ledger, found: Found, what: str) -> None:
    began = time.monotonic()
    try:
        strict = verdict(name, data, known, fast=False)
        fast = verdict(name, data, known, fast=True)
    except Exception as error:  # whatever comes out of a lane is what we look for
        found.wrong.append(f"{what}: {type(error).__name__}: {error}")
        return
    elapsed_s = (time.monotonic() - began) / 2
    found.slowest_s = max(found.slowest_s, elapsed_s)
    found.files["all"] += 1
    found.files[f"*{name[1:]}"] += 1
    found.files["fast lane"] += fast is not None
    if fast is not None and fast != strict:
        found.wrong.append(f"{what}: fast {fast!r:.300} is not strict {strict!r:.300}")
    if elapsed_s > MAX_SECONDS:
        found.wrong.append(f"{what}: {elapsed_s:.1f} s")
    line = strict[0]
    if isinstance(line, Line):
        if name.endswith(".csv") and line.records and line.records != count_records(data):
            found.wrong.append(f"{what}: {line.records} records of {count_records(data)}")
        found.files[line.verdict] += 1
        found.records.update({n: getattr(line, n) for n in ledger.COUNTS})
    else:
        found.files["quarantined"] += 1
        found.files[f"  {line}"] += 1


def main(argv: list[str] | None = None) -> int:
    """Return 0 when both lanes agreed on everything, within the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    began = time.monotonic()
    total = Found()
    batches = -(-options.files // BATCH)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context) as pool:
        sizes = [min(BATCH, options.files - i * BATCH) for i in range(batches)]
        seeds = [options.seed * 1_000_000 + i for i in range(batches)]
        for found in pool.map(judge_batch, seeds, sizes):
            total.add(found)
    for name in sorted(total.files, key=lambda name: (name[0] == " ", name)):
        print(f"{total.files[name]:>9,} files   {name}")
    told = ", ".join(f"{total.records[name]:,} {name}" for name in ledger.COUNTS)
    print(f"{told}\nslowest file {total.slowest_s:.2f} s a lane (at most {MAX_SECONDS:g} s)")
    print(f"peak memory of a process {total.peak_mb:,.0f} MB (at most {MAX_MB} MB)")
    print(f"{len(total.wrong)} wrong, in {time.monotonic() - began:,.0f} s")
    for line in total.wrong[:20]:
        print(f"  {line!a}")
    return int(bool(total.wrong) or total.peak_mb > MAX_MB)


if __name__ == "__main__":
    sys.exit(main())
