"""The release that is served, while others are deployed, damaged and rolled back."""

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import deployment
from app import create_app
from attrition.errors import NotReady
from attrition.modelling import models
from attrition.operations import releases
from attrition.serving import flattening, production
from attrition.serving.flat_model import Calibration, FlatModel
from attrition.serving.production import Production
from attrition.storage import files
from tests.apps import GOOD, deploy_again, wait_for_complaints, wait_until
from tests.conftest import ROOT, damage

ROW = {name: np.array([float(value)]) for name, value in GOOD.items()}


@pytest.fixture
def served(project):
    """Production with its release loaded."""
    state = Production(project.production_folder)
    state.get()
    return state


def current(project):
    return releases.current_id(project.production_folder)


def wait_for(served, release_id):
    wait_until(lambda: served.get()[0].id == release_id)


def risk_of(project, release_id):
    model = releases.load_model(releases.read(project.production_folder, release_id))
    return models.predict(model, pd.DataFrame(ROW))


# ---- a new release


def test_first_request_waits_for_the_release(project):
    release, model = Production(project.production_folder).get()
    assert release.id == current(project)
    assert isinstance(model, FlatModel)
    np.testing.assert_allclose(model.predict(ROW), risk_of(project, release.id), atol=1e-12)


def test_new_release_is_served_soon_and_named_once(project, served, caplog):
    caplog.set_level(logging.INFO)
    new = deploy_again(project)
    wait_for(served, new)
    for _ in range(3):
        assert served.get()[0].id == new
    assert [record.getMessage() for record in caplog.records] == [f"serving release {new}"]


def test_old_release_is_served_while_the_new_one_is_loaded_by_one_thread(
    project, served, monkeypatch
):
    old, is_read, loads, read = current(project), threading.Event(), [], releases.read

    def slow(*arguments):
        loads.append(threading.get_ident())
        assert is_read.wait(10)
        return read(*arguments)

    new = deploy_again(project)
    monkeypatch.setattr(releases, "read", slow)
    assert [served.get()[0].id for _ in range(50)] == [old] * 50
    wait_until(lambda: loads)
    is_read.set()
    wait_for(served, new)
    assert len(loads) == 1
    assert threading.get_ident() not in loads


def test_request_costs_little(served):
    start = time.process_time()
    for _ in range(1000):
        served.get()
    assert time.process_time() - start < 0.5  # 0.5 ms each, on a machine that has no time


def test_threads_get_whole_pairs_while_releases_are_switched(project, served):
    """Each release of a pair goes with its own model, and no thread meets an error."""
    other = reversed_bytes(project)
    first, second = current(project), deploy_again(project, **other)
    expected = {first: served.get()[1].predict(ROW)[0]}
    wait_for(served, second)
    expected[second] = served.get()[1].predict(ROW)[0]
    assert expected[first] != expected[second]
    is_over, wrong, seen = threading.Event(), [], set()

    def ask():
        while not is_over.is_set():
            release, model = served.get()
            seen.add(release.id)
            if model.predict(ROW)[0] != expected[release.id]:
                wrong.append(release.id)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for release_id in (first, second) * 4:
            deployment.roll_back(project, release_id)
            start = time.monotonic()
            wait_for(served, release_id)
            assert time.monotonic() - start < 5
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert (wrong, seen) == ([], {first, second})


def reversed_bytes(project):
    """Return the files of a release whose model gives each client the risk of staying."""
    release = releases.read_current(project.production_folder)
    flat = FlatModel.from_bytes((release.folder / releases.SERVING_MODEL).read_bytes())
    turned = replace(flat, calibration=Calibration("sigmoid", (0.0, 1.0), (0.0, -1.0)))
    probe = turned.predict(production._read_probe(release, 200)).tolist()
    training = files.encode(files.sealed({**release.training, "probe": probe}))
    return {"servingmodel": turned.to_bytes(), "training": training}


def test_memory_does_not_grow_over_200_switches(project, served, monkeypatch):
    monkeypatch.setattr(
        production.logger, "disabled", True
    )  # the lines would be kept for the report
    ids = [current(project), deploy_again(project, **reversed_bytes(project))]

    def switch(times):
        for i in range(times):
            releases.replace_link(project.current, f"releases/{ids[i % 2]}")
            wait_for(served, ids[i % 2])
        gc.collect()

    switch(20)
    before = len(gc.get_objects())
    switch(180)
    assert len(gc.get_objects()) < before + 500
    assert len(served._models) == 2


def test_models_of_the_last_releases_are_kept_and_no_more(project, served):
    first, model = current(project), served.get()[1]
    same = deploy_again(project)
    wait_for(served, same)
    assert served.get()[1] is model
    turned = deploy_again(project, **reversed_bytes(project))
    wait_for(served, turned)
    releases.activate(project.production_folder, first)
    wait_for(served, first)
    assert served.get()[1] is model
    for i in range(2 * production.MODELS_KEPT):
        served._models[str(i)] = model
    wait_for(served, deploy_again(project))
    assert len(served._models) == production.MODELS_KEPT


# ---- a release that does not verify


def test_damaged_new_release_leaves_the_old_one_in_service(project, served, caplog, monkeypatch):
    old, new = current(project), deploy_again(project)
    damage(project.releases / new / releases.SERVING_MODEL)
    wait_until(lambda: served.get() and served.problem)
    assert served.get()[0].id == old
    assert old in served.problem
    assert str(project.production_folder) not in served.problem
    monkeypatch.setattr(production, "RETRY_S", 0.0)
    wait_until(lambda: served.get() and served._tried[1] > time.monotonic() - 0.001)
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    releases.activate(project.production_folder, old)
    assert served.get()[0].id == old
    assert served.problem is None


def test_release_that_verifies_later_is_served_then(project, served, monkeypatch):
    new = deploy_again(project)
    path = project.releases / new / releases.SERVING_MODEL
    data = path.read_bytes()
    damage(path)
    wait_until(lambda: served.get() and served.problem)
    tried = served._tried
    assert [served.get()[0].id != new for _ in range(20)] == [True] * 20
    assert served._tried == tried  # it is not read again at each request
    path.write_bytes(data)
    monkeypatch.setattr(production, "RETRY_S", 0.0)
    wait_for(served, new)
    assert served.problem is None


def test_flat_model_that_gives_other_risks_than_in_training_is_not_served(project, served):
    old = current(project)
    deploy_again(project, servingmodel=reversed_bytes(project)["servingmodel"])
    wait_until(lambda: served.get() and served.problem)
    assert served.get()[0].id == old
    assert Production(project.production_folder).get()[0].id == old


@pytest.mark.parametrize("text", [b"", b"other\n1\n", b"\xff", b"lastmonth_activity\nmany\n"])
def test_release_whose_files_do_not_fit_together_is_not_served(project, served, text):
    old = current(project)
    deploy_again(project, reference=text)
    wait_until(lambda: served.get() and served.problem)
    assert served.get()[0].id == old


def test_damaged_first_release_is_not_ready_and_names_the_rollback(project, monkeypatch):
    path = project.current / releases.SERVING_MODEL
    data = path.read_bytes()
    damage(path)
    state = Production(project.production_folder)
    for _ in range(2):
        with pytest.raises(NotReady, match=r"deployment\.py --rollback") as error:
            state.get()
        assert error.value.code == "damaged"
    path.write_bytes(data)
    monkeypatch.setattr(production, "RETRY_S", 0.0)
    assert state.get()[0].id == current(project)
    assert state.problem is None


def test_without_a_release_it_is_not_ready_until_there_is_one(project):
    release_id = current(project)
    aside = project.releases.rename(project.releases.with_name("aside"))
    project.current.unlink()
    state = Production(project.production_folder)
    with pytest.raises(NotReady, match="no model is in production yet") as error:
        state.get()
    assert (error.value.code, state.is_flat) == ("no_model", True)
    aside.rename(project.releases)
    releases.activate(project.production_folder, release_id)
    assert state.get()[0].id == release_id


# ---- as the API shows it


def test_api_serves_on_beside_a_damaged_release_and_says_so(project):
    running = create_app(project).test_client()
    old = running.get("/health").json["release"]
    damage(project.releases / deploy_again(project) / releases.SERVING_MODEL)
    for client in (running, create_app(project).test_client()):
        wait_for_complaints(client, "release")
        answer = client.post("/prediction", json={"records": [GOOD]})
        assert (answer.status_code, answer.json["model"]) == (200, old)
        assert client.get("/health").json["status"] == "degraded"


def test_api_serves_on_when_the_pointer_is_gone(project):
    running = create_app(project).test_client()
    old = running.get("/health").json["release"]
    project.current.unlink()
    for client in (running, create_app(project).test_client()):
        wait_for_complaints(client, "release")
        assert client.post("/prediction", json={"records": [GOOD]}).json["model"] == old


def test_api_beside_a_damaged_first_release_is_503(project):
    damage(project.current / releases.MODEL)
    client = create_app(project).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert (answer.status_code, answer.json["code"]) == (503, "damaged")
    assert client.get("/health").status_code == 503
    assert client.get("/").status_code == 200


# ---- releases without a flat model


def test_release_of_an_earlier_version_is_flattened_at_load(project):
    deploy_again(project, servingmodel=None)
    state = Production(project.production_folder)
    release, model = state.get()
    assert releases.SERVING_MODEL not in release.manifest["outputs"]
    assert state.is_flat
    np.testing.assert_allclose(model.predict(ROW), risk_of(project, release.id), atol=1e-12)


def test_model_that_cannot_be_flattened_is_served_as_it_is(project, monkeypatch, caplog):
    def refuse(model):
        raise flattening.NotFlat("a part is odd")

    monkeypatch.setattr(flattening, "flatten", refuse)
    deploy_again(project, servingmodel=None)
    client = create_app(project).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]}).json
    assert answer["predictions"][0]["risk"] == risk_of(project, answer["model"])[0]
    health = client.get("/health").json
    assert (health["status"], health["complaints"]) == ("degraded", ["slow"])
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line.endswith("cannot be flattened: a part is odd; predictions are slower")


LOADED = """
import sys
from pathlib import Path
from app import create_app
state = create_app(Path(sys.argv[1])).extensions["attrition"].production
release, model = state.get()
columns = {name: [1.0] for name in model.features}
assert model.predict(columns).shape == (1,)
assert model.explain(columns, release.training["baseline"]).shape == (1, len(columns))
print(sorted({"sklearn", "scipy", "skops", "pandas"} & sys.modules.keys()))
"""


def test_worker_serves_a_flat_model_without_the_libraries_of_training(project):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, project.file],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
