"""loky, Dask and Ray as engines; the latter two as clusters that are reached only by an address."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import diagnostics
import ingestion
from attrition import config_file
from attrition.assessing import scored
from attrition.config import Engine
from attrition.engine import backends
from attrition.errors import EngineError
from tests.clusters import AUTHENTICATION, dask_cluster, ray_cluster, stop, wait_until
from tests.conftest import ROOT, make_rows
from tests.support import settle


def start_run(engine, folder):
    """Start a run in a process of its own; return it when its first call has begun."""
    arguments = (engine.backend, engine.address, str(folder))
    command = (sys.executable, "-m", "tests.engine.tasks", *arguments)
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(folder.glob("began-*")))
    return run


def printed(run):
    return run.communicate(timeout=3 * backends.PATIENCE_S)[0].splitlines()


@pytest.fixture(params=[dask_cluster, ray_cluster], ids=["dask", "ray"])
def cluster(request, monkeypatch):
    for name, value in AUTHENTICATION.items():
        monkeypatch.setenv(name, value)
    with request.param() as parts:
        yield parts


def test_a_cluster_gives_the_results_of_this_process_and_names_its_errors(cluster):
    engine, *_ = cluster
    calls = [(number,) for number in range(20)]
    here = backends.run(Engine(), "tests.engine.tasks:double", calls)
    assert backends.run(engine, "tests.engine.tasks:double", calls) == here
    with pytest.raises(OSError, match="No space left on device: '/part3'"):
        backends.run(engine, "tests.engine.tasks:fill_disk", calls)


def test_a_scheduler_that_is_killed_ends_the_run_with_one_line(cluster, tmp_path):
    engine, scheduler, _ = cluster
    run = start_run(engine, tmp_path)
    stop([scheduler])
    (line,) = printed(run)
    assert line.startswith(f"engine {engine.backend} at {engine.address}: ")
    assert line.endswith(backends.ADVICE)


def test_work_of_a_killed_dask_worker_is_done_by_another(tmp_path):
    with dask_cluster() as (engine, _, workers):
        run = start_run(engine, tmp_path)
        stop(workers[:1])
        (tmp_path / "go").touch()
        assert printed(run) == ["[0, 1, 2, 3]"]


def test_a_cluster_without_workers_ends_the_run(tmp_path):
    with dask_cluster() as (engine, _, workers):
        run = start_run(engine, tmp_path)
        stop(workers)
        (line,) = printed(run)
        assert f"no worker answered for {backends.PATIENCE_S:g} s" in line


def test_a_worker_with_another_checkout_is_refused(tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "attrition", other / "attrition")
    shutil.copytree(ROOT / "tests" / "engine", other / "tests" / "engine")
    (other / "attrition" / "wording.py").write_text("")
    refused = pytest.raises(
        EngineError, match=r"has code \w+, expected \w+: install the same checkout"
    )
    with dask_cluster(root=other) as (engine, *_), refused:
        backends.run(engine, "tests.engine.tasks:double", [(1,), (2,)])


def test_a_killed_ray_worker_ends_the_run_with_one_line(tmp_path, monkeypatch):
    for name, value in AUTHENTICATION.items():
        monkeypatch.setenv(name, value)
    with ray_cluster() as (engine, _, workers):
        run = start_run(engine, tmp_path)
        stop(workers)
        *_, line = printed(run)  # Ray may print as well
        assert line.startswith(f"engine ray at {engine.address}: ")


# ---- an assessment, from the command line


ROWS, PARTS = 20_000, 20
OUTPUTS = ("clients.parquet", "riskscores.csv", "contactlist.csv", "riskhistory.npy")


@pytest.fixture(scope="module")
def larger_folder(finished_folder, tmp_path_factory):
    """A finished project that has ingested many clients since its last assessment."""
    folder = tmp_path_factory.mktemp("larger") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    more = make_rows(ROWS, seed=7, prefix="more").assign(exited="")
    more.to_csv(config.input_folder / "more.csv", index=False)
    settle(config.input_folder / "more.csv")
    ingestion.ingest_new_data(config)
    return folder


@pytest.fixture
def larger(larger_folder, tmp_path):
    folder = tmp_path / "larger"
    shutil.copytree(larger_folder, folder, symlinks=True)
    return config_file.load(folder / "config.json")


@pytest.fixture(scope="module")
def expected(larger_folder, tmp_path_factory):
    """What one process writes."""
    folder = tmp_path_factory.mktemp("expected") / "project"
    shutil.copytree(larger_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    assert finish(start_assessment(config, Engine())) == (0, [])
    return read_outputs(config)


def start_assessment(config, engine):
    settings = json.loads(config.file.read_text())
    named = {key: value for key, value in vars(engine).items() if value is not None}
    settings["engine"] = named | {"rows_per_part": ROWS // PARTS}
    config.file.write_text(json.dumps(settings))
    command = [sys.executable, ROOT / "assessment.py", "--config", config.file, "--quiet"]
    return subprocess.Popen(
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(run):
    """Wait for an assessment; return its exit code and the lines on stderr."""
    _, stderr = run.communicate(timeout=3 * backends.PATIENCE_S)
    return run.returncode, stderr.splitlines()


def read_outputs(config):
    assert not list(config.reports_folder.glob(".*")), "nothing is left over"
    return {name: (config.reports_folder / name).read_bytes() for name in OUTPUTS}


def wait_for_first_part(config):
    wait_until(lambda: any(config.reports_folder.glob(f"{scored.PARTS}*/*")), every_s=0.001)


def check_next_run(config, before, expected):
    """Nothing was changed; the next run, in one process, completes the work."""
    assert {name: (config.reports_folder / name).read_bytes() for name in OUTPUTS} == before
    assert diagnostics.main(["--config", str(config.file), "--verify", "--quiet"]) == 0
    assert finish(start_assessment(config, Engine())) == (0, [])
    assert read_outputs(config) == expected


def test_loky_writes_the_bytes_of_one_process(larger, expected):
    assert finish(start_assessment(larger, Engine("loky", workers=2))) == (0, [])
    assert read_outputs(larger) == expected


def test_a_cluster_writes_the_bytes_of_one_process(cluster, larger, expected):
    engine, *_ = cluster
    assert finish(start_assessment(larger, engine)) == (0, [])
    assert read_outputs(larger) == expected


def test_a_dask_worker_killed_in_an_assessment_changes_no_byte(larger, expected):
    with dask_cluster() as (engine, _, workers):
        run = start_assessment(larger, engine)
        wait_for_first_part(larger)
        stop(workers[:1])
        assert finish(run) == (0, [])
    assert read_outputs(larger) == expected


def test_a_killed_loky_worker_ends_an_assessment_with_one_line(larger, expected):
    before = read_outputs(larger)
    run = start_assessment(larger, Engine("loky", workers=2))
    wait_for_first_part(larger)
    os.kill(find_loky_worker(run), signal.SIGKILL)
    code, (line,) = finish(run)
    assert (code, line.endswith(backends.ADVICE)) == (1, True)
    assert "engine loky: TerminatedWorkerError: " in line
    check_next_run(larger, before, expected)


def find_loky_worker(run):
    tasks = Path(f"/proc/{run.pid}/task").glob("*/children")
    children = [pid for task in tasks for pid in task.read_text().split()]
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return min(pid for pid, line in lines.items() if b"LokyProcess" in line)


def find_ray_workers(sessions):
    """Return the processes of a cluster in which Ray runs our calls."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::PoolActor"):
                found.append(int(path.parent.name))
    return [pid for pid in found if os.getsid(pid) in sessions]


def test_a_killed_ray_worker_ends_an_assessment_with_one_line(larger, expected, monkeypatch):
    for name, value in AUTHENTICATION.items():
        monkeypatch.setenv(name, value)
    before = read_outputs(larger)
    with ray_cluster() as (engine, head, workers):
        run = start_assessment(larger, engine)
        wait_for_first_part(larger)
        for pid in find_ray_workers({process.pid for process in (head, *workers)}):
            os.kill(pid, signal.SIGKILL)
        code, (line,) = finish(run)
    assert (code, line.endswith(backends.ADVICE)) == (1, True)
    assert f"engine ray at {engine.address}: " in line
    check_next_run(larger, before, expected)


def test_a_full_disk_of_a_worker_ends_an_assessment_with_one_line(larger, expected):
    before = read_outputs(larger)
    with dask_cluster() as (engine, _, workers):
        for worker in workers:
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (10_000, 10_000))
        code, (line,) = finish(start_assessment(larger, engine))
    assert (code, line.endswith(": File too large; nothing was changed")) == (1, True)
    assert f"{larger.reports_folder}/{scored.PARTS}" in line
    check_next_run(larger, before, expected)
