"""Find the sources that are there and of which nothing is used, and describe what to do about each.

A source is unused if it was quarantined as a whole, or if it is passed over although its name is that of
data. It stays a warning until it is corrected, removed or in `ignore_files`.
"""

import re
from collections.abc import Collection, Iterable, Sequence

from attrition.rows.ledger import QUARANTINED, SKIPPED, Line, Unused
from attrition.sources.files import INPUT_ENDINGS, not_an_input

MAX_REASON = 300
READ = f"{', '.join(INPUT_ENDINGS[:-1])} or {INPUT_ENDINGS[-1]}"
# What to do with data that is not read, by the endings of its name.
ADVICE = {
    f"save it as {READ}": "xls xlsx xlsm xlsb xltx ods numbers dbf wk1 sxc",
    "if it contains delimited text, let its name end in .csv": "tsv tab txt text dat psv prn asc del "
    "ssv data",
    "unpack it here": "zip 7z gz bz2 xz tar tgz tbz txz zst lz4 rar z lzma br snappy",
    "name its table under databases in config.json": "sqlite sqlite3 db db3 s3db duckdb mdb accdb",
    f"convert it to {READ}": "json jsonl ndjson geojson xml feather arrow ipc orc avro pq parq dta sav "
    "zsav por sas7bdat xpt rds rda rdata pkl pickle joblib npy npz mat h5 hdf hdf5 hdfs nc sql dump "
    "yaml yml toml html htm pdf csvs",
}
ADVICE_OF_ENDING = {ending: advice for advice, all_ in ADVICE.items() for ending in all_.split()}
# Names that programs give to files of their own.
NOT_DATA = re.compile(r"thumbs\.db|desktop\.ini|~\$.*", re.IGNORECASE)
# What is added to the name of a copy: "clients.csv.1", "clients.csv.bak", "clients (2).json.old".
OF_A_COPY = re.compile(r"([ ._-]*\(?\d+\)?|[ ._-]*(bak|backup|old|orig|copy)|~)$", re.IGNORECASE)
ADVICE_OF_CODE = {
    "SYMLINK": "put the file itself here",
    "NOT_REGULAR": "put a file here",
    "TOO_LARGE": "raise max_source_mb in config.json or split it",
}


def advice_on_name(name: str) -> str | None:
    """Return what to do with a file that is passed over, None if its name is not that of data.

    >>> advice_on_name("clients.zip"), advice_on_name("notes.md"), advice_on_name("a.xlsx.part")
    ('unpack it here', None, None)
    """
    folder, _, plain = name.rpartition("/")
    if any(part.startswith(".") for part in name.split("/")) or NOT_DATA.fullmatch(plain):
        return None
    while (shorter := OF_A_COPY.sub("", plain)) != plain and "." in shorter:
        plain = shorter
    if not_an_input(plain) is None:
        is_copy = not folder and not_an_input(name)
        return f"let its name end in {READ}" if is_copy else "move it into the source folder itself"
    return ADVICE_OF_ENDING.get(plain.lower().rpartition(".")[2]) if "." in plain else None


def describe(line: Line) -> Unused | None:
    """Describe the source of a line, None if it is used or need not be."""
    reason = line.reason if len(line.reason) <= MAX_REASON else line.reason[:MAX_REASON] + "..."
    reason = "".join(c if c.isprintable() else "?" for c in reason)
    if line.verdict == QUARANTINED:
        is_judged = line.records > 0
        code = "MOST_ROWS_BAD" if is_judged else line.reason.partition(":")[0]
        default = "python ingestion.py --check FILE names its faults; correct it"
        if is_judged:
            default = "rejected.csv names the fault of each row; correct them"
        advice = ADVICE_OF_CODE.get(code, default)
    elif line.verdict == SKIPPED and line.reason in ("NOT_AN_INPUT_NAME", "NOT_TOP_LEVEL"):
        code, advice = line.reason, advice_on_name(line.source) or ""
        is_in_folder = code == "NOT_TOP_LEVEL"
        reason = "it is in a sub-folder" if is_in_folder else f"its name does not end in {READ}"
    else:
        return None
    advice = advice and f"{advice}, remove it, or name it in ignore_files of config.json"
    return Unused(line.source, code, reason, advice, line.ingested_at) if advice else None


def find(
    lines: Iterable[Line], before: Sequence[Unused], not_read: Collection[str]
) -> list[Unused]:
    """Return the unused sources, by name.

    lines: the verdicts on what is there now; before: those of the last run, which still count for a
    table of `not_read` because it has not changed or cannot be read
    """
    unused = [one for line in lines if (one := describe(line))]
    unused += [one for one in before if one.source in not_read]
    return sorted(set(unused))
