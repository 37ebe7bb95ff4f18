"""What a planted link, a hostile model or a file beside the data must not be able to do."""

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile

import pypdf
import pytest

import apicalls
import app as api
import deployment
import diagnostics
import fullprocess
import ingestion
from attrition.errors import Damaged
from attrition.modelling import persistence
from attrition.operations import releases, runs
from attrition.storage import files
from attrition.upkeep import integrity
from tests.apps import wait_for_complaints
from tests.conftest import (
    ROOT,
    count_as_asked,
    make_rows,
    run_whole,
    write_config,
    write_sources,
)
from tests.support import SCRIPT, run

GOOD = {"lastmonth_activity": 3, "lastyear_activity": 40, "number_of_employees": 7}
NOBODY = 65534


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_another_release_under_the_name_of_this_one_is_not_loaded(aged):
    old, new = releases.list_ids(aged.production_folder)
    shutil.rmtree(aged.releases / new)
    shutil.copytree(aged.releases / old, aged.releases / new)
    with pytest.raises(Damaged, match="contains another release"):
        releases.read_current(aged.production_folder)


# ---- links where we write


def plant(path, target):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


PLANTED = (
    *("production_deployment/.lock", "production_deployment/history.sqlite"),
    *("production_deployment/lastrun.json", "production_deployment/.staging"),
    *("ingesteddata/finaldata.csv", "ingesteddata/.staging", "ingesteddata/.committed"),
    *("practicemodels/trainedmodel.skops", "reports/report.pdf", "reports/fullprocess.log"),
)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_link_is_never_written_through(project, tmp_path, name, capsys):
    victim = tmp_path / "victim"
    if name.endswith((".staging", ".committed")):
        victim.mkdir()
        (victim / "finaldata.csv").write_text("theirs")
    else:
        victim.write_text("theirs")
    plant(project.file.parent / name, victim)
    make_rows(20, seed=3, prefix="x").to_csv(project.input_folder / "x.csv", index=False)
    code, told = run_whole(project), capsys.readouterr().err
    assert "Traceback" not in told
    inside = victim / "finaldata.csv" if victim.is_dir() else victim
    assert inside.read_text() == "theirs"
    assert mode(victim) & 0o600
    assert code == 1
    assert run_whole(project, "--repair") == 0, capsys.readouterr().err
    assert inside.read_text() == "theirs"


# ---- models


def packed(parts, **how):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", **how) as file:
        for name, data in parts:
            file.writestr(name, data)
    return made.getvalue()


def parts_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [(name, file.read(name)) for name in file.namelist()]


HOSTILE = {
    "no archive": lambda good: b"MZ" * 1000,
    "empty": lambda good: b"",
    "bomb": lambda good: packed(
        [("schema.json", b"[" + b" " * (200 << 20) + b"]")], compression=zipfile.ZIP_DEFLATED
    ),
    "out of the folder": lambda good: packed([*parts_of(good), ("../../evil.npy", b"x")]),
    "absolute": lambda good: packed([*parts_of(good), ("/tmp/evil.npy", b"x")]),
    "unknown type": lambda good: packed(
        [
            (
                name,
                data.replace(b"sklearn.pipeline", b"subprocess") if name == "schema.json" else data,
            )
            for name, data in parts_of(good)
        ]
    ),
    "deep": lambda good: packed([("schema.json", b"[" * 100_000)]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_model_file_is_refused(project, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    data = HOSTILE[kind](project.candidate.read_bytes())
    with pytest.raises(Damaged, match="cannot be trusted"):
        persistence.loads(data)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_part_that_stands_twice_is_refused(project):
    parts = parts_of(project.candidate.read_bytes())
    with pytest.raises(Damaged, match="contains a part twice"):
        persistence.loads(packed([*parts, parts[0]]))


def deploy_by_hand(config, change):
    """Deploy a release whose seals all match, made by somebody who can write to our folders."""
    folder = releases.read_current(config.production_folder).folder
    contents = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != releases.MANIFEST}
    change(contents)
    manifest = {"deployed_at": files.utc_now(), "model": "by hand"}
    made = releases.create(config.production_folder, contents, manifest)
    releases.activate(config.production_folder, made)
    return made


@pytest.mark.parametrize("name", [releases.SERVING_MODEL, releases.MODEL])
def test_the_old_model_serves_on_when_a_hostile_one_is_deployed(project, name):
    """The model of scikit-learn is loaded if there is no flat one, as in an earlier version."""

    def change(contents):
        del contents[releases.SERVING_MODEL]
        contents[name] = HOSTILE["bomb"](b"")

    old = releases.current_id(project.production_folder)
    for held in (True, False):
        releases.activate(project.production_folder, old)
        client = api.create_app(project).test_client()
        if held:
            assert client.get("/health").json["release"] == old
        deploy_by_hand(project, change)
        wait_for_complaints(client, "release")
        answer = client.post("/prediction", json={"records": [GOOD]})
        assert (answer.status_code, answer.json["model"]) == (200, old)
        health = client.get("/health")
        assert (health.status_code, health.json["complaints"]) == (200, ["release"])


def retrained_with(contents, **changes):
    record = files.sealed({**training_of(contents), **changes})
    contents[releases.TRAINING] = files.encode(record)


def training_of(contents):
    return json.loads(contents[releases.TRAINING])


OTHER = {"versions": {"python": "3.11", "numpy": "1.0", "scikit-learn": "0.1", "skops": "0.1"}}


def test_a_model_of_other_versions_that_gives_the_same_risks_is_served(project):
    deploy_by_hand(project, lambda contents: retrained_with(contents, **OTHER))
    release = releases.read_current(project.production_folder)
    assert releases.load_model(release) is not None
    assert len(release.training["probe"]) == 200


@pytest.mark.parametrize("shift", [1e-6, float("nan")])
def test_a_model_of_other_versions_that_gives_other_risks_is_refused(project, shift):
    def change(contents):
        probe = training_of(contents)["probe"]
        changed = [*probe[:-1], probe[-1] + shift] if shift == shift else []
        retrained_with(contents, **OTHER, probe=changed)

    old = releases.current_id(project.production_folder)
    deploy_by_hand(project, change)
    release = releases.read_current(project.production_folder)
    with pytest.raises(
        Damaged, match=r"gives other risks under numpy 1.0 -> .*scikit-learn 0.1 ->"
    ):
        releases.load_model(release)
    client = api.create_app(project).test_client()
    assert client.post("/prediction", json={"records": [GOOD]}).json["model"] == old


def test_other_risks_under_other_versions_are_mended_by_going_back(project):
    old = releases.current_id(project.production_folder)
    deploy_by_hand(
        project,
        lambda contents: retrained_with(
            contents, **OTHER, probe=[0.5] * len(training_of(contents)["probe"])
        ),
    )
    make_rows(20, seed=3, prefix="x").to_csv(project.input_folder / "x.csv", index=False)
    assert run_whole(project) == 1
    assert run_whole(project, "--repair") == 0
    assert releases.current_id(project.production_folder) == old


def test_every_model_says_with_which_versions_it_was_trained(project):
    release = releases.read_current(project.production_folder)
    assert release.training["versions"] == persistence.versions()


# ---- code from the folders we work on


def test_no_code_is_taken_from_where_the_data_lies(tmp_path):
    config = write_sources(tmp_path, 100)
    taken = tmp_path / "taken"
    code = f"import pathlib\npathlib.Path({str(taken)!r}).touch()\nraise SystemExit(9)\n"
    for folder in (config.input_folder, tmp_path):
        for name in ("json", "sitecustomize", "usercustomize", "numpy", "attrition"):
            (folder / f"{name}.py").write_text(code)
    count_as_asked(config)
    line = re.search(r'python" (.*?)"\$ATTRITION/fullprocess', (ROOT / "cronjob.txt").read_text())
    command = [sys.executable, *line[1].split(), SCRIPT[1], "--config", str(config.file)]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(config.input_folder)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not taken.exists()


# ---- secrets


SECRET = "secret123"


def texts(config):
    """Yield every file of the state, the text of the PDF and the parts of archives included."""
    for folder in integrity.folders(config):
        for path in folder.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()
            if path.suffix == ".pdf" and path.is_file():
                pages = pypdf.PdfReader(path).pages
                yield path, "\n".join(page.extract_text() for page in pages).encode()
            if zipfile.is_zipfile(path):
                yield from ((path, data) for _, data in parts_of(path.read_bytes()))


URLS = {
    "of_user": "postgresql+psycopg://crm:${CRM_PASSWORD}@127.0.0.1:1/crm",
    "of_query": "postgresql+psycopg://127.0.0.1:1/crm?user=crm&password=${CRM_PASSWORD}",
    "of_mysql": "mysql://crm:${CRM_PASSWORD}@127.0.0.1:1/crm",
    "of_path": "sqlite:///${CRM_PASSWORD}/crm.sqlite",
}


def test_a_password_is_in_no_output(tmp_path, monkeypatch, capfd):
    """One run is a process of its own; the others are calls, which saves the imports of each."""
    tables = [{"name": name, "url": url, "table": "clients"} for name, url in URLS.items()]
    config = write_config(tmp_path, databases=tables, contact_capacity=20)
    make_rows(100).to_csv(config.input_folder / "history.csv", index=False)
    for name in ("CRM_PASSWORD", "ATTRITION_TOKEN"):
        monkeypatch.setenv(name, SECRET)

    def output_of(script, *more):
        code = script.main(["--config", str(config.file), *more])
        captured = capfd.readouterr()
        assert SECRET not in captured.out + captured.err, script
        return code, captured.out, captured.err

    done = run(config, "--quiet")
    results = [(done.returncode, done.stdout, done.stderr)]
    results += [output_of(fullprocess, *more) for more in ((), ("--repair",), ("--dry-run",))]
    assert [code for code, *_ in results] == [1, 1, 1, 0]
    for _, out, err in results:
        assert SECRET not in out + err
        assert all(name in out + err for name in URLS)
        assert "Traceback" not in err
    output_of(ingestion)
    output_of(diagnostics, "--verify")
    output_of(deployment, "--list")
    output_of(apicalls)
    client = api.create_app(config).test_client()
    for path in ("/", "/health", "/diagnostics", "/scoring", "/summarystats", "/clients"):
        assert SECRET.encode() not in client.get(path).data
    found = [path for path, data in texts(config) if SECRET.encode() in data]
    assert not found


def test_a_token_is_in_no_output(project, monkeypatch, capsys):
    monkeypatch.setenv("ATTRITION_TOKEN", SECRET)
    settings = json.loads(project.file.read_text())
    settings["api"] |= {"token": "${ATTRITION_TOKEN}"}
    project.file.write_text(json.dumps(settings))
    make_rows(20, seed=3, prefix="x").to_csv(project.input_folder / "x.csv", index=False)
    assert fullprocess.main(["--config", str(project.file)]) == 0
    client = api.create_app(project.file).test_client()
    for path in ("/", "/health", "/scoring"):
        assert SECRET.encode() not in client.get(path).data
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    assert not [path for path, data in texts(project) if SECRET.encode() in data]


def test_a_mark_names_no_folder_and_no_setting(project):
    with files.run_lock(project.lock) as lock:
        runs.leave_mark(lock, "a run", files.utc_now(), 60.0)
        text = project.lock.read_text()
    assert str(project.file.parent) not in text
