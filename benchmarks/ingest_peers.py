"""Parse, validate, deduplicate and write one clean CSV with polars or plain pandas.

Runs in an environment of its own and imports nothing of this project.

Each row is judged: numbers are numbers in their range, a client and an observation's time are there, the
outcome is a known word, texts have at most 200 characters. Refused rows are counted, the first of equal
rows stays, and the rest is written as CSV and as Parquet.

Reads:  SOURCE, a CSV of benchmarks/ingest; Writes: FOLDER/rows.csv, FOLDER/rows.parquet
Prints: accepted, refused and duplicate rows
Run:    PYTHON -P benchmarks/ingest_peers.py polars|pandas SOURCE FOLDER
"""

import sys
from pathlib import Path

MAX_TEXT = 200
WORDS = {"1": 1, "0": 0, "yes": 1, "no": 0}
# By the name of the client's column: texts, counts, amounts, times, outcome.
PLAIN = ([], ["lastmonth_activity", "lastyear_activity", "number_of_employees"], [], [], "exited")
MIXED = (["plan", "region"], ["calls", "logins", "users"], ["annual_value"], ["seen"], "churned")
TABLES = {"corporation": PLAIN, "client": MIXED}


def with_polars(source: Path, folder: Path) -> tuple[int, int, int]:
    import polars as pl

    text = pl.read_csv(source, infer_schema=False)
    client = text.columns[0]
    texts, counts, amounts, times, outcome = TABLES[client]
    typed = text.with_columns(
        pl.col(counts).cast(pl.Int64, strict=False),
        pl.col(amounts).cast(pl.Float64, strict=False),
        *(pl.col(name).str.to_date("%Y-%m-%d", strict=False) for name in times),
        pl.col(outcome).replace_strict(WORDS, default=None, return_dtype=pl.Int8),
    )
    numbers, converted = [*counts, *amounts], [*counts, *amounts, *times, outcome]
    is_good = pl.all_horizontal(
        pl.col(client).is_not_null(),
        *(pl.col(name).fill_null("").str.len_chars() <= MAX_TEXT for name in (client, *texts)),
        *(pl.col(name).fill_null(0).is_between(0, 1e15) for name in numbers),
        *(pl.col(name).is_not_null() | text[name].is_null() for name in converted),
    )
    good = typed.filter(is_good)
    rows = good.unique(subset=text.columns[:-1], keep="first", maintain_order=True)
    rows.write_csv(folder / "rows.csv")
    rows.write_parquet(folder / "rows.parquet")
    return len(rows), len(text) - len(good), len(good) - len(rows)


def with_pandas(source: Path, folder: Path) -> tuple[int, int, int]:
    import pandas as pd

    header = source.open().readline().strip().split(",")
    client = header[0]
    texts, counts, amounts, times, outcome = TABLES[client]
    words = dict.fromkeys((client, *texts, *times, outcome), "str")
    numbers = dict.fromkeys([*counts, *amounts], "float64")  # a missing one is NaN
    rows = pd.read_csv(source, dtype=words | numbers)
    records = len(rows)
    label = rows[outcome].map({word: float(value) for word, value in WORDS.items()})
    is_good = rows[client].notna() & (label.notna() | rows[outcome].isna())
    for name in (client, *texts):
        is_good &= ~(rows[name].str.len() > MAX_TEXT)
    for name in numbers:
        is_good &= rows[name].between(0, 1e15) | rows[name].isna()
    for name in times:
        seen = pd.to_datetime(rows[name], format="%Y-%m-%d", errors="coerce")
        is_good &= seen.notna() | rows[name].isna()
    rows[outcome] = label
    good = rows[is_good]
    rows = good.drop_duplicates(subset=header[:-1])
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_parquet(folder / "rows.parquet", index=False)
    return len(rows), records - len(good), len(good) - len(rows)


if __name__ == "__main__":
    work = {"polars": with_polars, "pandas": with_pandas}[sys.argv[1]]
    print(*work(Path(sys.argv[2]), Path(sys.argv[3])))
