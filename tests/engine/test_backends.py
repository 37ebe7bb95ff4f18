import pytest

from attrition import idle
from attrition.config import Engine
from attrition.engine import backends
from attrition.errors import EngineError
from attrition.storage import files

LOKY = Engine("loky", workers=2)
CALLS = [(number,) for number in range(6)]


def test_results_are_in_the_order_of_the_calls():
    assert backends.run(Engine(), "operator:sub", [(3, 1), (10, 4)]) == [2, 6]
    assert backends.run(LOKY, "tests.engine.tasks:double", CALLS) == [0, 2, 4, 6, 8, 10]


def test_processes_share_the_work():
    processes = backends.run(LOKY, "tests.engine.tasks:process_id", CALLS)
    assert len(set(processes)) == 2


def test_workers_do_not_read_a_file_again_whose_hash_the_run_knows(tmp_path, monkeypatch):
    paths = [tmp_path / "unchanged", tmp_path / "changed"]
    for path in paths:
        path.write_bytes(b"content")
    known = {str(path): [idle.sign(path.stat()), "known"] for path in paths}
    monkeypatch.setattr(files, "known_hashes", lambda: known)
    paths[1].write_bytes(b"other content")
    calls = [(path,) for path in paths]
    hashes = backends.run(LOKY, "attrition.storage.files:sha256_file", calls)
    assert hashes == ["known", files.sha256_bytes(b"other content")]


@pytest.mark.parametrize("engine", [Engine(), LOKY], ids=["here", "loky"])
def test_an_error_of_a_call_is_raised_as_it_is(engine):
    with pytest.raises(OSError, match="No space left on device: '/part3'"):
        backends.run(engine, "tests.engine.tasks:fill_disk", CALLS)


def test_a_worker_that_dies_is_an_error_of_the_engine():
    with pytest.raises(
        EngineError, match=r"^engine loky: TerminatedWorkerError: .*; this step changed"
    ):
        backends.run(LOKY, "os:_exit", [(9,), (9,)])


def test_a_worker_with_other_versions_does_not_work():
    result, error = backends.work(
        "operator:sub", (3, 1), backends.versions() | {"numpy": "1.0"}, {}
    )
    assert result is None
    assert "numpy" in str(error)
    assert ", expected 1.0: install the same checkout and requirements.lock" in str(error)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_that_is_not_there_is_named(backend):
    pytest.importorskip(backend)
    with pytest.raises(
        EngineError, match=rf"^engine {backend} at 127.0.0.1:9: ConnectionRefusedError"
    ):
        backends.run(Engine(backend, "127.0.0.1:9"), "operator:sub", [(3, 1), (10, 4)])


def test_a_single_call_needs_no_cluster():
    engine = Engine("dask", "127.0.0.1:9")
    assert backends.run(engine, "operator:sub", [(3, 1)]) == [2]
