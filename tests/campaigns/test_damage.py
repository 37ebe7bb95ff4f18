"""Every file of ours, spoiled in every way: it is noticed, the model serves on, one command mends it."""

import random
import shutil

import pytest

import app as api
import diagnostics
from attrition import config as configuration
from attrition.operations import dependencies, integrity, releases
from attrition.storage import history
from tests.conftest import make_rows, run_whole, write_config

GOOD = {"lastmonth_activity": 3, "lastyear_activity": 40, "number_of_employees": 7}
FOLDERS = ("ingesteddata", "practicemodels", "production_deployment", "reports")
OLD, NEW = "{old}", "{new}"  # the release before, and the one in production
RELEASE = (
    *("decision.json", "ingestedfiles.txt", "known_rows.npz", "latestscore.txt", "manifest.json"),
    *("modelcard.md", "reference.csv", "score.json", "trainedmodel.skops", "training.json"),
)
FILES = (
    *(f"ingesteddata/{name}" for name in ("finaldata.csv", "ingestedfiles.txt", "ingestion.json")),
    *(f"ingesteddata/{name}" for name in ("rejected.csv", "withdrawn.csv", "table_rows.npz")),
    *(
        f"practicemodels/{name}"
        for name in RELEASE
        if name not in ("manifest.json", "ingestedfiles.txt", "modelcard.md")
    ),
    *(f"production_deployment/releases/{NEW}/{name}" for name in RELEASE),
    *(f"production_deployment/releases/{OLD}/{name}" for name in ("manifest.json", RELEASE[8])),
    *(f"production_deployment/{name}" for name in ("current", ".lock", "history.sqlite")),
    *(f"production_deployment/{name}" for name in ("lastrun.json", "monitoring.json")),
    *(f"production_deployment/{name}" for name in ("settled_rows.npz", "trainedmodel.skops")),
    *(f"reports/{name}" for name in ("assessment.json", "clients.parquet", "contactlist.csv")),
    *(f"reports/{name}" for name in ("diagnostics.json", "report.json", "report.pdf")),
    *(f"reports/{name}" for name in ("riskscores.csv", "roc.png")),
)
WAYS = ("empty", "half", "tail", "braces", "older", "missing", "folder")
# One of each kind for every run of the tests; all of them are a matter of minutes.
SAMPLE = (
    "ingesteddata/ingestion.json",
    "practicemodels/decision.json",
    f"production_deployment/releases/{NEW}/trainedmodel.skops",
    "production_deployment/current",
    "production_deployment/history.sqlite",
    "reports/riskscores.csv",
)


@pytest.fixture(scope="module")
def aged_folder(tmp_path_factory):
    """A project with two releases, and all of its state as it was after the first, in before/."""
    folder = tmp_path_factory.mktemp("aged")
    config = write_config(folder, contact_capacity=20)
    make_rows().to_csv(config.input_folder / "history.csv", index=False)
    make_rows(200, seed=1, prefix="now").assign(exited="").to_csv(
        config.input_folder / "current.csv", index=False
    )
    make_rows(300, seed=2, prefix="test").to_csv(config.test_folder / "testdata.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependencies, "ask_all", dict.fromkeys)
        assert run_whole(config) == 0
        for name in FOLDERS:
            shutil.copytree(folder / name, folder / "before" / name, symlinks=True)
        rows = make_rows(900, seed=9, prefix="new", signal=-2.0)
        rows.to_csv(config.input_folder / "new.csv", index=False)
        assert run_whole(config) == 0
    assert len(releases.list_ids(config.production_folder)) == 2
    return folder


@pytest.fixture
def aged(aged_folder, tmp_path):
    shutil.copytree(aged_folder, tmp_path / "project", symlinks=True)
    return configuration.load(tmp_path / "project" / "config.json")


def place(config, name):
    """Return the path of a file of the state by its name, and of what it was a release before."""
    old, new = releases.list_ids(config.production_folder)
    folder = config.file.parent
    path = folder / name.format(old=old, new=new)
    before = folder / name.format(old=old, new=old)
    return path, before if before != path else folder / "before" / name.format(old=old, new=old)


def spoil(config, name, way):
    """Spoil a file in one of the ways; return its path."""
    path, before = place(config, name)
    if path.name == "current":
        before = folder_of_old = config.production_folder / "releases" / "20200101T000000Z-00000000"
        shutil.copytree(
            config.releases / releases.list_ids(config.production_folder)[0], folder_of_old
        )
    was_link, data = path.is_symlink(), b"" if path.name == "current" else path.read_bytes()
    path.unlink(missing_ok=True)
    if way == "folder":
        path.mkdir()
    elif way == "older" and was_link and path.name == "current":
        path.symlink_to(f"releases/{before.name}")
    elif way == "older":
        path.write_bytes(before.read_bytes() if before.is_file() else b"other")
    elif way != "missing":
        spoiled = {
            "empty": b"",
            "half": data[: len(data) // 2],
            "tail": data[:-4096] + bytes(min(4096, len(data) or 4096)),
            "braces": b"{}",
        }
        path.write_bytes(spoiled[way])
        path.chmod(0o640)
    return path


def check_served(config):
    """The API, started beside the damage, answers from a release that verifies."""
    client = api.create_app(config).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert answer.status_code == 200, answer.json
    assert answer.json["model"] in releases.list_ids(config.production_folder)
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200


def state_of(config):
    """What has to be the same once all is mended."""
    return (
        config.final_data.read_bytes(),
        config.risk_scores.read_bytes(),
        [row["release"] for row in history.read_deployments(config.history)][:1],
    )


def check_mended(config, name, way, capsys):
    run_whole(config)
    capsys.readouterr()
    expected = state_of(config)
    path = spoil(config, name, way)
    check_served(config)
    code, told = run_whole(config), capsys.readouterr().err
    assert "Traceback" not in told
    found = integrity.find_all(config)
    if code == 0:
        assert not found, "a run that could not mend it has to fail"
    else:
        assert path.name in told or path.parent.name in told, told
        check_served(config)
        assert run_whole(config, "--repair") == 0, capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    assert integrity.find_all(config) == []
    assert run_whole(config) == 0
    assert diagnostics.main(["--config", str(config.file), "--verify"]) == 0
    check_served(config)
    return expected, state_of(config)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SAMPLE)
def test_spoiled_file_is_noticed_and_mended(aged, name, way, capsys):
    expected, found = check_mended(aged, name, way, capsys)
    assert found[0] == expected[0]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name in FILES if name not in SAMPLE])
def test_every_other_file_spoiled_is_noticed_and_mended(aged, name, way, capsys):
    expected, found = check_mended(aged, name, way, capsys)
    assert found[0] == expected[0]


# ---- bit rot


def noticed(config, path):
    """Is a change of one file noticed by those who read it?"""
    units = [
        integrity.ingested(config),
        *integrity.candidate_units(config),
        *integrity.made_units(config),
    ]
    if path.parent.parent == config.releases:
        release = path.parent.name
        return bool([*integrity.find_in_release(config, release, is_current=False)])
    if path in (config.last_run, config.dependencies):
        return bool([*integrity.find_in_record(path)])
    ours = [unit for unit in units if unit.record.parent == path.parent]
    return any([*integrity.find_in_unit(unit, is_expected=True)] for unit in ours)


HASHED = [name for name in FILES if name.rpartition("/")[2] not in ("current", ".lock")]
ROTTING = [name for name in HASHED if "sqlite" not in name and "deployment/trained" not in name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROTTING)
def test_each_of_200_flipped_bits_is_noticed(aged, name):
    path, _ = place(aged, name)
    data, rng = path.read_bytes(), random.Random(name)
    assert not noticed(aged, path)
    for _ in range(200):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        assert noticed(aged, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SAMPLE[:3], SAMPLE[5], "practicemodels/training.json"])
def test_a_flipped_bit_is_mended_by_one_command(aged, name, capsys):
    run_whole(aged)
    expected = state_of(aged)
    path, _ = place(aged, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    check_served(aged)
    code, told = run_whole(aged), capsys.readouterr().err
    assert path.name in told or path.parent.name in told
    if code:
        assert run_whole(aged, "--repair") == 0
    assert integrity.find_all(aged) == []
    assert state_of(aged)[0] == expected[0]


# ---- what is mended, and how


def aside(path):
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def test_a_run_on_an_undamaged_state_needs_no_repair_and_a_repair_changes_nothing(aged, capsys):
    run_whole(aged)
    expected = state_of(aged)
    capsys.readouterr()
    assert run_whole(aged, "--repair") == 0
    assert capsys.readouterr().err == ""
    assert state_of(aged) == expected
    assert not [*aged.file.parent.rglob("*.damaged-*")]


def test_nothing_that_is_damaged_is_deleted(aged):
    run_whole(aged)
    spoiled = {}
    release = aged.releases / releases.current_id(aged.production_folder)
    for path in (aged.final_data, aged.history, aged.score_record, release / releases.MODEL):
        path.write_bytes(path.read_bytes()[:-7] + b"damaged")
        spoiled[path] = path.read_bytes()
    assert run_whole(aged, "--repair") == 0
    for path in (aged.final_data, aged.history, aged.score_record):
        assert [found.read_bytes() for found in aside(path)] == [spoiled[path]]
    (kept,) = aside(release)
    assert (kept / releases.MODEL).read_bytes() == spoiled[release / releases.MODEL]


def test_a_source_that_is_gone_is_named_when_all_is_ingested_again(aged, capsys):
    run_whole(aged)
    (aged.input_folder / "history.csv").unlink()
    aged.final_data.write_bytes(b"damaged")
    capsys.readouterr()
    assert run_whole(aged, "--repair") == 1
    told = capsys.readouterr().err
    assert "rows of history.csv were there before and cannot be ingested again" in told
    assert "history.csv" in history.read_runs(aged.history)[-1]["reason"]


def test_a_history_that_can_still_be_read_in_part_goes_on(aged):
    run_whole(aged)
    rows = history.read_runs(aged.history)
    data = aged.history.read_bytes()
    aged.history.write_bytes(data[:-4096] + bytes(4096))
    assert run_whole(aged, "--repair") == 0
    found = history.read_runs(aged.history)
    assert [row for row in found if row in rows] == rows[: len(found) - 1] or len(found) >= 1
    assert [row["action"] for row in history.read_deployments(aged.history)]


def test_without_a_release_that_verifies_a_new_model_is_trained(aged):
    run_whole(aged)
    for release_id in releases.list_ids(aged.production_folder):
        (aged.releases / release_id / releases.MODEL).write_bytes(b"damaged")
    assert run_whole(aged) == 1
    assert run_whole(aged, "--repair") == 0
    check_served(aged)
    assert len(aside(aged.current)) == 1


def test_verify_names_what_is_wrong_and_exits_1(aged, capsys):
    run_whole(aged)
    old = releases.list_ids(aged.production_folder)[0]
    (aged.releases / old / releases.MODEL).write_bytes(b"damaged")
    aged.contact_list.write_bytes(b"damaged")
    capsys.readouterr()
    assert diagnostics.main(["--config", str(aged.file), "--verify"]) == 1
    lines = capsys.readouterr().out.splitlines()
    wrong = [line for line in lines if line.startswith("damaged")]
    assert any(f"{old}: trainedmodel.skops not as deployed" in line for line in wrong)
    assert any(f"{aged.contact_list}: is not what was written" in line for line in wrong)
    assert len(wrong) == 2
    assert len([line for line in lines if line.startswith("ok ")]) > 30
