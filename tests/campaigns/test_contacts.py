"""The contact log under faults and at work; and its rules over many random logs."""

import errno
import json
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings

from attrition.contacts import log
from attrition.errors import AttritionError
from tests.campaigns.faults import harness, recording
from tests.campaigns.faults.harness import Fault, Shim
from tests.conftest import run_whole
from tests.contacts import rules
from tests.contacts.writers import write_at_once

CASES = 10_000
# Each entry that was acknowledged is printed; each that failed may be there or not.
WRITER = """
import os, sys
from pathlib import Path
from attrition.contacts import log
from attrition.errors import AttritionError
acknowledge = os.open(Path(sys.argv[1]) / "acknowledged", os.O_CREAT | os.O_WRONLY) if sys.argv[2] else 1
path = Path(sys.argv[1]) / "contacts" / "contacts.sqlite"
for i in range(4):
    clients = ("Acme", "B") if i == 2 else ("Acme",)
    entries = [log.Entry(name, "contact", "Ann", note=f"{i} " + "x" * 3000) for name in clients]
    try:
        for entry in log.append(path, entries, "2026-11-28T08:00:00Z").entries:
            os.write(acknowledge, f"{entry.id} {entry.note[0]}\\n".encode())
    except AttritionError as error:
        print("failed", i, type(error).__name__, flush=True)
"""
LATER = log.Entry("C", "contact", "Ann", note="9")
NOTES = ["0", "1", "2", "2", "3"]


@pytest.fixture(scope="module")
def shim_file(tmp_path_factory):
    if harness.COMPILER is None:
        pytest.skip("the shim needs a C compiler")
    return harness.build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def run_writer(shim_file, tmp_path):
    """Return a function that runs the writer in an empty folder under the shim."""
    folder, control = tmp_path / "project", tmp_path / "control"
    environment = harness.environment(shim_file, control)
    shim, calls = Shim(control), tmp_path / "calls"

    def run(fault=harness.NOTHING, *, recorded=False):
        recording.empty(folder)
        before = recording.Disk(folder)
        shim.arm(folder, fault, calls)
        done = subprocess.run(
            [sys.executable, "-c", WRITER, str(folder), "yes" if recorded else ""],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        count, _, _ = shim.disarm()
        return folder, before, recording.read_calls(calls), count, done

    return run


def acknowledged(output):
    return [line.split()[1] for line in output.splitlines() if line[0] != "f"]


def notes(folder):
    """Return the notes in the log, all of it verified."""
    path = folder / "contacts" / "contacts.sqlite"
    log.check(path)
    return [entry.note[0] for entry in log.read(path)[0]]


def is_whole(stored):
    """Return whether the two entries of one transaction are both there or both not."""
    return stored.count("2") in (0, 2)


def test_each_acknowledged_entry_is_there_after_any_death(run_writer, tmp_path):
    folder, disk, calls, _, _ = run_writer(recorded=True)
    assert acknowledged((folder / "acknowledged").read_text()) == NOTES
    ends = [call.k for call in calls if call.name == "write" and call.path.endswith("acknowledged")]
    points = {call.k for call in calls}
    place, checked = tmp_path / "crashed", 0
    for k, crash, _, tree in recording.crash_trees(disk, calls, points, {*recording.CRASHES}):
        recording.write_tree(place, tree)
        stored = notes(place)
        certain = [note for note, end in zip(NOTES, ends, strict=True) if end < k]
        assert stored[: len(certain)] == certain, (k, crash)
        assert is_whole(stored), (k, crash)
        log.append(
            place / "contacts" / "contacts.sqlite", [log.Entry("C", "contact", "Ann", note="9")], ""
        )
        assert notes(place) == [*stored, "9"]
        checked += 1
    assert checked > 200


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("action", ["fail", "fail_forever"])
def test_an_entry_is_acknowledged_or_an_error_whatever_call_fails(run_writer, error, action):
    *_, count, _ = run_writer()
    for k in range(1, count + 1, 3):
        folder, *_, done = run_writer(Fault(action, k, error))
        assert done.returncode == 0, (k, done.stderr)
        stored = notes(folder)
        assert set(acknowledged(done.stdout)) <= set(stored), k
        assert is_whole(stored), k
        assert "Damaged" not in done.stdout, (k, done.stdout)


def test_each_of_400_flipped_bits_is_noticed_or_changes_no_entry(tmp_path):
    path, rng = tmp_path / "contacts" / "contacts.sqlite", random.Random(0)
    log.append(path, [LATER._replace(client=str(i), note="x" * 90) for i in range(80)], "")
    data, entries, noticed = path.read_bytes(), log.read(path), 0
    for _ in range(400):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            log.check(path)
            assert log.read(path) == entries
        except AttritionError:
            noticed += 1
    assert noticed > 200


def test_each_entry_is_stored_once_while_runs_and_repairs_go_on(project):
    path = project.contact_log
    writers = write_at_once(path, pause_s=0.1)
    codes = [run_whole(project, *more) for more in (["--repair"], [], ["--repair"])]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert codes == [0, 0, 0]
    assert log.check(path) == 900
    assert len({entry.note for entry in log.read(path)[0]}) == 900
    assert run_whole(project) == 0
    record = json.loads(project.assessment_record.read_text())
    assert record["inputs"]["contacts"] == f"900 {log.read(path)[1]}"
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == [path.name]


@settings(max_examples=CASES, deadline=None)
@given(rules.cases())
def test_nobody_who_rests_is_listed_in_many_cases(case):
    rules.check_list(case)
