"""Runs that are killed, lose power, or have a call fail; and that the checks of this can fail."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.campaigns.faults import conditions, harness, plants, recording, worker
from tests.campaigns.faults.harness import Fault, Shim

pytestmark = pytest.mark.skipif(harness.COMPILER is None, reason="the shim needs a C compiler")

WRITE = "from pathlib import Path; import os; os.chdir({folder!r})\n"
# Every kind of call, by Python, by SQLite and by pyarrow.
EVERYTHING = """
import shutil, sqlite3
import pyarrow as pa, pyarrow.csv
Path("made/inner").mkdir(parents=True)
Path("made/a").write_text("a" * 100)
with open("made/a", "r+") as file:
    file.seek(10); file.write("b"); file.truncate(50); file.flush(); os.fsync(file.fileno())
with open("made/a", "a") as file:
    file.write("end")
os.writev(os.open("made/vector", os.O_CREAT | os.O_WRONLY), [b"one", b"two"])
os.symlink("a", "made/link"); os.link("made/a", "made/inner/hard"); os.chmod("made/a", 0o600)
shutil.copyfile("made/a", "made/copy"); os.truncate("made/copy", 3)
os.rename("made", "moved"); os.replace("moved/vector", "moved/copy")
shutil.copytree("moved", "again"); shutil.rmtree("again")
connection = sqlite3.connect("base.sqlite")
connection.execute("CREATE TABLE t (x)"); connection.execute("INSERT INTO t VALUES (1)")
connection.commit(); connection.close()
pyarrow.csv.write_csv(pa.table({"x": range(1000)}), "table.csv")
"""


@pytest.fixture(scope="module")
def shim_file(tmp_path_factory):
    return harness.build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def run_program(shim_file, tmp_path):
    """Return a function that runs a program in an empty folder under the shim: (folder, code, log)."""
    folder, control = tmp_path / "project", tmp_path / "control"
    environment = harness.environment(shim_file, control)
    shim, log = Shim(control), tmp_path / "log"

    def run(program, fault=harness.NOTHING):
        recording.empty(folder)
        before = recording.Disk(folder)
        shim.arm(folder, fault, log)
        command = [sys.executable, "-c", WRITE.format(folder=str(folder)) + program]
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        shim.disarm()
        return folder, before, recording.read_calls(log), done

    return run


def after(disk, calls, death):
    for call in calls:
        disk.apply(call)
    return {name: content for name, (kind, _, content) in disk.tree(death).items() if name}


# ---- the shim, and the model of a power cut


def test_recording_replayed_is_what_is_on_the_disk(run_program):
    folder, disk, calls, done = run_program(EVERYTHING)
    assert done.returncode == 0, done.stderr
    for call in calls:
        disk.apply(call)
    assert recording.difference(disk.tree(), recording.read_tree(folder)) == []
    assert {call.name for call in calls} == set(recording.NAMES[1:])


def test_data_that_was_not_synced_is_gone_after_a_power_cut(run_program):
    _, disk, calls, _ = run_program('Path("a").write_text("new")')
    assert after(disk, calls, "power_cut") == {"a": b""}
    assert after(disk, [], "lost_names") == {}


SYNCED = """
with open("{name}", "w") as file:
    file.write("{text}"); file.flush(); os.fsync(file.fileno())
"""
SYNC_FOLDER = 'os.fsync(os.open(".", os.O_RDONLY))\n'


def test_data_and_names_that_were_synced_stay(run_program):
    _, disk, calls, _ = run_program(SYNCED.format(name="a", text="new") + SYNC_FOLDER)
    assert after(disk, calls, "power_cut") == {"a": b"new"}
    assert after(disk, [], "lost_names") == {"a": b"new"}


def test_data_written_after_the_last_sync_is_gone(run_program):
    more = 'with open("a", "a") as file: file.write("more")\n'
    _, disk, calls, _ = run_program(SYNCED.format(name="a", text="new") + more)
    assert after(disk, calls, "power_cut") == {"a": b"new"}


def test_rename_whose_folder_was_not_synced_is_undone(run_program):
    first = SYNCED.format(name="a", text="old") + SYNC_FOLDER
    _, disk, calls, _ = run_program(
        first + SYNCED.format(name="b", text="new") + 'os.replace("b", "a")'
    )
    assert after(disk, calls, "power_cut") == {"a": b"new"}
    assert after(disk, [], "lost_names") == {"a": b"old"}


def test_removal_whose_folder_was_not_synced_is_undone(run_program):
    first = SYNCED.format(name="a", text="old") + SYNC_FOLDER
    _, disk, calls, _ = run_program(first + 'os.unlink("a")')
    assert after(disk, calls, "power_cut") == {}
    assert after(disk, [], "lost_names") == {"a": b"old"}


def test_file_made_with_the_inode_of_a_removed_one_is_another(run_program):
    first = SYNCED.format(name="a", text="old") + SYNC_FOLDER
    _, disk, calls, _ = run_program(first + 'os.unlink("a"); Path("b").write_text("new")')
    assert after(disk, calls, "power_cut") == {"b": b""}
    assert after(disk, [], "lost_names") == {"a": b"old"}


@pytest.mark.parametrize("crash", ["kill_before", "kill_after", "torn"])
def test_what_a_crash_leaves_by_derivation_is_what_it_leaves_in_truth(run_program, crash):
    program = "import shutil\n" + EVERYTHING.partition("connection =")[0].replace(
        "import pyarrow as pa, pyarrow.csv\n", ""
    )
    _, disk, calls, _ = run_program(program)
    points = {call.k for call in calls}
    trees = {k: tree for k, _, _, tree in recording.crash_trees(disk, calls, points, {crash})}
    for k in sorted(points):
        folder, _, _, done = run_program(program, Fault(crash, k))
        assert done.returncode == -signal.SIGKILL
        assert recording.difference(trees[k], recording.read_tree(folder)) == [], k


def test_failing_call_fails_once_or_for_ever(run_program):
    program = """
for name in "abc":
    try: os.mkdir(name)
    except OSError as error: print(name, error.errno)
"""
    assert run_program(program, Fault("fail", 2, 28))[3].stdout == "b 28\n"
    assert run_program(program, Fault("fail_forever", 2, 30))[3].stdout == "b 30\nc 30\n"


def test_short_write_writes_half_and_an_interrupted_call_is_made_again(run_program):
    program = 'file = os.open("a", os.O_CREAT | os.O_WRONLY); print(os.write(file, b"12345678"))'
    assert run_program(program, Fault("short", 2))[3].stdout == "4\n"
    assert run_program(program, Fault("fail", 2, 4))[3].stdout == "8\n"


# ---- the whole process


def read_results(process):
    """Return the head and the results of a worker that ended well."""
    lines = [json.loads(line) for line in process.stdout]
    process.stdout.close()
    assert process.wait() == 0
    return lines[0], lines[1:]


def broken(results):
    return [
        f"{result['action']} at call {result['point']} ({result['call']} {result['path']}): {line}"
        for result in results
        for line in result["broken"]
    ]


def work(*jobs):
    """Let a worker a job work at the same time, in memory; return the results of each in order."""
    with tempfile.TemporaryDirectory(dir=harness.work_folder()) as place:
        folders = [Path(place) / str(i) for i in range(len(jobs))]
        processes = [worker.start(folder, job) for folder, job in zip(folders, jobs, strict=True)]
        return [read_results(process) for process in processes]


@pytest.fixture(scope="module")
def crashes():
    jobs = [
        {"scenario": name, "actions": recording.CRASHES, "sample": 32, "seed": 1}
        for name in ("first", "news")
    ]
    return work(*jobs)


def test_run_that_died_at_any_call_is_finished_by_the_next(crashes):
    for head, results in crashes:
        assert head["points"] >= 32
        assert len(results) == head["points"] * 5
        assert broken(results) == []


def test_sample_reaches_all_kinds_of_calls_not_only_the_database(crashes):
    results = [result for _, results in crashes for result in results]
    assert sum("history.sqlite" in result["path"] for result in results) <= len(results) / 2
    kinds = {"open", "write", "fsync", "rename", "unlink", "mkdir", "rmdir", "symlink"}
    assert kinds <= {result["call"] for result in results}


@pytest.fixture(scope="module")
def failures():
    jobs = [
        {"scenario": name, "actions": list(worker.FAILURES), "sample": 6, "seed": 2, "double": 4}
        for name in ("first", "news")
    ]
    return work(*jobs)


def test_failing_call_is_told_and_made_good_by_the_next_run(failures):
    results = [result for _, results in failures for result in results]
    assert broken(results) == []
    tried = Counter(result["action"] for result in results)
    assert set(tried) == {*worker.FAILURES, "double"}


@pytest.fixture(scope="module")
def odd():
    job = {"scenario": "news", "actions": [], "sample": 1, "conditions": [*conditions.CONDITIONS]}
    [(_, results)] = work(job)
    return {result["action"]: result["broken"] for result in results}


@pytest.mark.parametrize("condition", conditions.CONDITIONS)
def test_run_in_an_odd_condition_ends_well_and_is_made_good(odd, condition):
    if any(line.startswith("skipped") for line in odd[condition]):
        pytest.skip(odd[condition][0])
    assert odd[condition] == []


# ---- the checks can fail

PLANTED = {
    # bug -> the actions that bring it to light
    "no_fsync": ["power_cut"],
    "pointer_before_data": ["kill_before"],
    "write_in_place": ["torn"],
    "record_before_data": ["kill_before"],
    "pid_file_lock": ["kill_before"],
}


@pytest.fixture(scope="module")
def planted():
    job = {"scenario": "news", "sample": 60, "seed": 3, "until_broken": True}
    jobs = [job | {"plant": name, "actions": actions} for name, actions in PLANTED.items()]
    results = [*work(*jobs[:3]), *work(*jobs[3:])]
    return dict(zip(PLANTED, (found for _, found in results), strict=True))


@pytest.mark.parametrize("bug", plants.PLANTS)
def test_planted_bug_is_found(planted, bug):
    assert broken(planted[bug]) != []


# ---- many runs


def benchmark(name, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=harness.ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_of_many_runs_at_once_exactly_one_works():
    done = benchmark("crowd", "--rounds", "3", "--runs", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 rounds of 12 runs: 3 worked" in done.stdout


def test_days_with_faults_end_as_days_without():
    done = benchmark("week", "--ticks", "60", "--share", "0.5", "--seed", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
