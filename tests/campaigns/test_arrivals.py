"""How files arrive: under hostile names, as what is no file, in pieces, swapped while they are read."""

import csv
import errno
import gzip
import hashlib
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest

from attrition.sources import files as source_files
from ingestion import ingest_new_data
from tests.campaigns import catalogue
from tests.campaigns.catalogue import GOOD, ROWS, lines
from tests.conftest import ROOT, write_config
from tests.support import counts, final_rows, ledger, put, rejected, settle

NAMES = [case.name for case in catalogue.in_folder(catalogue.PLAIN) if case.name[:3] in
         ("a30", "a31", "a32", "a33", "a34", "=a3")]  # fmt: skip
ADDRESS_SPACE = 1 << 30
FORGED = "x.csv\n2026-01-01T00:00:00Z ERROR   attrition.forged: all is lost\r\x1b[2J\u202e.csv"


@pytest.fixture
def no_fsync(monkeypatch):
    """What outlives a power cut is not asked here, and hundreds of commits wait long for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run_bounded(config, **options):
    """Run ingestion as a process of its own; one that waits for ever fails."""
    command = [sys.executable, str(ROOT / "ingestion.py"), "--config", str(config.file)]
    return subprocess.run(
        command, cwd="/", capture_output=True, text=True, check=False, timeout=120, **options
    )


# ---- names


@pytest.mark.parametrize("text", [GOOD, "", lines("a,x,1,1,0")], ids=["good", "empty", "bad"])
def test_no_name_of_a_file_writes_a_line_of_its_own(empty_project, text):
    for name in (*NAMES, FORGED):
        put(empty_project, name, text + f"{name[0]},{len(name)},1,1,0\n" * bool(text))
    done = run_bounded(empty_project)
    assert done.returncode == 0
    for line in done.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING)", line)
    for line in [*done.stdout.split("\n"), *done.stderr.split("\n")]:
        assert line.isprintable()
        assert not line.startswith("2026-01-01")
    assert len(ledger(empty_project)) == len(NAMES) + 1
    assert all(line["source"].isprintable() for line in ledger(empty_project))


def test_name_of_a_file_reaches_no_shell(empty_project):
    mark = empty_project.file.parent / "pwned"
    put(empty_project, f"$(touch {mark.name});`touch {mark.name}`|touch {mark.name}.csv", GOOD)
    assert run_bounded(empty_project, env={"PATH": os.environ["PATH"]}).returncode == 0
    assert not list(empty_project.file.parent.rglob("pwned"))


# ---- what is no file


def make_device(path):
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root can make a device")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        before = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)
        os.fchdir(before)
        os.close(before)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (os.mkfifo, "NOT_REGULAR"),
        (make_device, "NOT_REGULAR"),
        (make_socket, "NOT_REGULAR"),
        (lambda path: path.symlink_to("/dev/zero"), "SYMLINK"),
        (lambda path: path.symlink_to("/etc/passwd"), "SYMLINK"),
        (lambda path: path.symlink_to("/proc/self/fd/0"), "SYMLINK"),
        (lambda path: path.symlink_to(path), "SYMLINK"),
    ],
    ids=["fifo", "device", "socket", "endless", "secret", "stdin", "loop"],
)
def test_what_is_no_file_is_held_and_waited_for_by_nobody(empty_project, make, code):
    make(empty_project.input_folder / "a.csv")
    put(empty_project, "b.csv", GOOD)
    done = run_bounded(empty_project)
    assert done.returncode == 0
    held, taken = ledger(empty_project)
    assert (held["verdict"], held["reason"].split(":")[0]) == ("quarantined", code)
    assert counts(taken) == (4, 0, 0)


def test_folder_of_links_is_not_followed(empty_project, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "a.csv").write_text(GOOD)
    (empty_project.input_folder / "sub").symlink_to(outside)
    (empty_project.input_folder / "sub.csv").symlink_to(outside)
    ingest_new_data(empty_project)
    assert [line["verdict"] for line in ledger(empty_project)] == ["skipped", "quarantined"]


# ---- what would cost too much


@pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit of util-linux is not there")
def test_bombs_are_refused_in_little_memory(tmp_path):
    config = write_config(tmp_path, max_source_mb=256)
    names = ("d12_million", "g50", "g51", "z01", "e16", "g46")
    cases = [case for case in catalogue.first_tick(catalogue.PLAIN) if case.name.startswith(names)]
    for case in cases:
        case.write(config.input_folder / case.name)
        settle(config.input_folder / case.name)
    with gzip.open(config.input_folder / "z02.csv.gz", "wb", compresslevel=1) as bomb:
        for _ in range(300):
            bomb.write(b"0" * (1 << 20))
    settle(config.input_folder / "z02.csv.gz")
    put(config, "zz.csv", GOOD)
    script = [sys.executable, str(ROOT / "ingestion.py"), "--quiet", "--config", str(config.file)]
    process = subprocess.Popen(
        ["prlimit", f"--as={ADDRESS_SPACE}", *script], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss < 500 * 1024
    found = {line["source"]: line["reason"].split(":")[0] for line in ledger(config)}
    assert len(found) == len(cases) + 2
    assert (found["z01_sparse.csv"], found["z02.csv.gz"]) == ("TOO_LARGE", "TOO_LARGE")
    assert {case.name: found[case.name] for case in cases} == {
        case.name: case.code for case in cases
    }


def test_size_of_a_source_is_capped_by_config(tmp_path):
    config = write_config(tmp_path, max_source_mb=0.001)
    put(config, "a.csv", lines(*(f"c{i},1,1,1,0" for i in range(200))))
    put(config, "b.csv", GOOD)
    ingest_new_data(config)
    [held, taken] = ledger(config)
    assert held["reason"].endswith(", at most 1048") and held["reason"].startswith("TOO_LARGE: ")
    assert counts(taken) == (4, 0, 0)


def test_source_that_takes_too_long_is_held_and_tried_again(empty_project):
    put(empty_project, "a.csv", GOOD)
    result = ingest_new_data(replace(empty_project, max_source_seconds=-1.0))
    assert "a.csv: took longer than max_source_seconds" in result.unavailable[0]
    assert (result.rows, ledger(empty_project)) == (0, [])
    assert ingest_new_data(empty_project).rows == 4


# ---- in pieces


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize("seed", range(20))
def test_file_that_is_copied_in_seven_pieces_is_taken_whole(empty_project, seed):
    rng = random.Random(seed)
    rows = [f"client{i}é,{i},{i * 10},{rng.randint(1, 999)},{i % 2}" for i in range(40)]
    data = lines(*rows).encode()
    cuts = sorted(rng.sample(range(1, len(data)), 6))
    path = empty_project.input_folder / "a.csv"
    path.touch()
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        with path.open("ab") as file:
            file.write(data[begin:end])
        ingest_new_data(empty_project)
    assert [",".join(row) for row in final_rows(empty_project)] == rows
    assert rejected(empty_project) == []
    assert ingest_new_data(empty_project).up_to_date


# ---- swapped, cut and removed while it is read


@contextmanager
def meanwhile(monkeypatch, act):
    """Do something right after the first piece of a file was read."""
    real, done = os.read, []

    def read(descriptor, size):
        piece = real(descriptor, size)
        if not done:
            done.append(act())
        return piece

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        patch.setattr(
            source_files, "hash_file", lambda *_: "-"
        )  # the look before is not the one meant
        yield


def swap(path):
    other = path.with_name(".other")
    other.write_text(lines("zed,1,2,3,0"))
    os.replace(other, path)


@pytest.mark.parametrize("act", [os.unlink, swap], ids=["unlink", "swap"])
def test_file_that_goes_while_it_is_read_is_what_was_read(empty_project, monkeypatch, act):
    path = put(empty_project, "a.csv", GOOD)
    with meanwhile(monkeypatch, lambda: act(path)):
        ingest_new_data(empty_project)
    [line] = ledger(empty_project)
    assert line["sha256"] == hashlib.sha256(GOOD.encode()).hexdigest()
    assert [",".join(row) for row in final_rows(empty_project)] == list(ROWS)


@pytest.mark.parametrize(
    "act",
    [lambda path: os.truncate(path, 90), lambda path: path.write_text(lines("zed,1,2,3,0"))],
    ids=["truncate", "rewrite"],
)
def test_file_that_changes_while_it_is_read_is_read_next_time(empty_project, monkeypatch, act):
    path = put(empty_project, "a.csv", GOOD)
    with meanwhile(monkeypatch, lambda: act(path)):
        result = ingest_new_data(empty_project)
    assert (result.rows, result.deferred) == (0, 1)
    assert ledger(empty_project)[0]["reason"] == "UNSTABLE: it changed while it was read"
    put(empty_project, "a.csv", GOOD)
    assert ingest_new_data(empty_project).rows == 4


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_file_that_is_gone_when_it_is_opened_is_tried_again(empty_project, monkeypatch, code):
    put(empty_project, "a.csv", GOOD)
    real = os.open

    def vanish(path, *more, **options):
        if str(path).endswith("/a.csv"):
            raise OSError(code, os.strerror(code), path)
        return real(path, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", vanish)
        result = ingest_new_data(empty_project)
    assert (result.deferred, ledger(empty_project)[0]["verdict"]) == (1, "deferred")
    assert ingest_new_data(empty_project).rows == 4


@pytest.mark.usefixtures("no_fsync")
def test_rows_taken_are_those_of_the_bytes_that_were_hashed(empty_project, monkeypatch):
    """A racer renames, cuts and rewrites the file while it is read, hundreds of times."""
    path = empty_project.input_folder / "a.csv"
    texts = [lines(*(f"v{v:03}-{i:04},1,2,3,0" for i in range(400))).encode() for v in range(40)]
    seen = {}
    real = source_files.reading

    @contextmanager
    def spied(*arguments, **options):
        with real(*arguments, **options) as file:
            file.spool.seek(0)
            data = file.spool.read()
            assert hashlib.sha256(data).hexdigest() == file.sha256
            seen[file.sha256] = data
            yield file

    monkeypatch.setattr(source_files, "reading", spied)
    monkeypatch.setattr(source_files, "PIECE", 1024)
    go, stop = threading.Event(), threading.Event()
    rng = random.Random(0)

    def race():
        while not stop.is_set():
            go.wait()
            go.clear()
            for _ in range(rng.randint(0, 3)):
                text = rng.choice(texts)
                kind = rng.choice(("rename", "cut", "rewrite", "over"))
                if kind == "rename":
                    other = path.with_name(".other")
                    other.write_bytes(text)
                    os.replace(other, path)
                elif kind == "cut":
                    os.truncate(path, rng.randrange(len(text)))
                elif kind == "rewrite":
                    path.write_bytes(text)
                else:
                    with path.open("r+b") as file:
                        file.write(text)

    path.write_bytes(texts[0])
    racer = threading.Thread(target=race)
    racer.start()
    try:
        for _ in range(300):
            go.set()
            ingest_new_data(empty_project)
    finally:
        stop.set()
        go.set()
        racer.join()
    verdicts = Counter(line["verdict"] for line in ledger(empty_project))
    assert verdicts["accepted"] > 10
    used = [line for line in ledger(empty_project) if line["verdict"] == "accepted"]
    expected = set()
    for line in used:
        records = list(csv.reader(seen[line["sha256"]].decode().splitlines()[1:]))
        assert len(records) == int(line["records"])
        expected |= {tuple(row) for row in records if is_good(row)}
    assert {tuple(row) for row in final_rows(empty_project)} == expected


def is_good(row):
    return len(row) == 5 and all(cell.isdigit() for cell in row[1:4]) and row[4] in ("0", "")


# ---- times and names that say nothing


@pytest.mark.parametrize("time", [0, 1, 2**31, 4_000_000_000, -1000])
def test_time_of_a_file_decides_nothing(empty_project, time):
    for name in ("b.csv", "a.csv"):
        path = put(empty_project, name, lines(f"{name[0]},1,2,3,0"))
        os.utime(path, (time, time))
    ingest_new_data(empty_project)
    assert [row[0] for row in final_rows(empty_project)] == ["a", "b"]
    for name in ("b.csv", "a.csv"):
        os.utime(empty_project.input_folder / name, (5, 5))
    assert ingest_new_data(empty_project).up_to_date


def test_file_with_two_names_counts_once(empty_project):
    os.link(put(empty_project, "a.csv", GOOD), empty_project.input_folder / "b.csv")
    ingest_new_data(empty_project)
    assert [line["verdict"] for line in ledger(empty_project)] == ["accepted", "skipped"]
    assert len(final_rows(empty_project)) == 4
