"""Plant known bugs, one at a time, in a copy of the project, and show which tests fall.

A test that never fails proves nothing. Each bug here is a way in which systems of this kind lose data;
the tests named for it must pass without the bug and fall with it.

Run: python -m benchmarks.planted [--only NAME]
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.project import ROOT


class Bug(NamedTuple):
    """A change of one file, and the tests that have to notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


BUGS = (
    Bug(
        "no fsync",
        "attrition/storage/files.py",
        "            file.flush()\n            os.fsync(file.fileno())\n",
        "            file.flush()\n",
        ("tests/storage/test_files.py",),
    ),
    Bug(
        "pointer before data",
        "attrition/operations/releases.py",
        "    files.commit(new / MANIFEST,",
        '    replace_link(production / CURRENT, f"releases/{release_id}")\n'
        "    files.commit(new / MANIFEST,",
        ("tests/operations/test_releases.py",),
    ),
    Bug(
        "watermark before rows",
        "ingestion.py",
        "        with databases.reading(database, since,",
        "        account.marks[database.name] = mark\n        with databases.reading(database, since,",
        (
            "tests/campaigns/test_ingested_tables.py::"
            "test_reading_cut_off_in_the_middle_leaves_everything_as_it_was",
        ),
    ),
    Bug(
        "write in place",
        "attrition/storage/files.py",
        "    write_new(temporary, data)\n    os.replace(temporary, path)\n",
        "    path.write_bytes(data)\n",
        ("tests/storage/test_files.py",),
    ),
    Bug(
        "> for >=",
        "attrition/databases/reader.py",
        'changed >= _literal(since["bound"])',
        'changed > _literal(since["bound"])',
        ("tests/sources/test_databases.py", "-k", "sqlite or shares"),
    ),
    Bug(
        "PID-file lock",
        "attrition/storage/files.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except BlockingIOError as error:",
        '            os.open(path.with_name(".pid"), os.O_CREAT | os.O_EXCL)\n'
        "        except FileExistsError as error:",
        ("tests/storage/test_files.py",),
    ),
    Bug(
        "read_csv defaults",
        "attrition/sources/csv_reader.py",
        "    scan = _scan(text)\n    with _as_text(text, scan.encoding) as reader:\n        beginning",
        "    import pandas\n\n"
        '    table = pandas.read_csv(text).astype(str).replace("nan", "")\n'
        "    rows = table.values.tolist()\n"
        "    chunk = schema.make_chunk(rows, range(2, 2 + len(rows)), len(table.columns))\n"
        "    return Table(tuple(table.columns), [chunk])\n"
        "    scan = _scan(text)\n    with _as_text(text, scan.encoding) as reader:\n        beginning",
        (
            "tests/campaigns/test_catalogue.py",
            "-k",
            "short_row or long_first_row or leading_zero or 2p63",
        ),
    ),
    Bug(
        "joblib fallback",
        "attrition/modelling/persistence.py",
        '        raise Damaged(f"the model file cannot be trusted: {error}") from error\n',
        "        import joblib\n\n        return joblib.load(io.BytesIO(data))\n",
        ("tests/modelling/test_persistence.py",),
    ),
    Bug(
        "missing conservation check",
        "attrition/rows/ledger.py",
        "    if counted != line.records:\n",
        "    if counted < 0:\n",
        ("tests/rows/test_ledger.py",),
    ),
    Bug(
        "record before data",
        "attrition/storage/files.py",
        "    for path, content in files.items():\n        assert path.parent == folder",
        "    write_new(folder / record_path.name, encode(sealed(record)))\n"
        "    for path, content in files.items():\n        assert path.parent == folder",
        ("tests/storage/test_files.py",),
    ),
)


def copy_project(folder: Path) -> None:
    """Copy what git knows of the project, the tests included."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def plant(folder: Path, bug: Bug) -> None:
    """Change the one place where the bug goes; where it has moved, say so."""
    path = folder / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        raise SystemExit(f"{bug.name}: {bug.file} holds {text.count(bug.old)} times {bug.old!r}")
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, list[str]]:
    """Run tests in a copy; return how many passed, and the names of those that fell."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rf", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    fallen = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    passed = re.search(r"(\d+) passed", done.stdout)
    if not passed and not fallen:
        raise SystemExit(f"no test ran: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return int(passed[1]) if passed else 0, fallen


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAME", help="plant this bug only")
    options = parser.parse_args(argv)
    unnoticed = 0
    for bug in BUGS:
        if options.only and options.only != bug.name:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "project"
            copy_project(folder)
            passed, broken = run_tests(folder, bug.tests)
            plant(folder, bug)
            _, fallen = run_tests(folder, bug.tests)
        noticed = bool(fallen) and not broken and passed
        unnoticed += not noticed
        verdict = "noticed" if noticed else f"NOT NOTICED (before it: {passed} passed, {broken})"
        print(f"{bug.name}: {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
        print("\n".join(f"    {name}" for name in fallen[:6]), flush=True)
    print(f"{unnoticed} of {len(BUGS)} bugs were not noticed")
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
