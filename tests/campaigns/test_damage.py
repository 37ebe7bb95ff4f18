"""Every file of ours, spoiled in every way: it is noticed, the model serves on, --repair repairs it."""

import random
import shutil

import pytest

import app as api
import diagnostics
from attrition import config_file
from attrition.operations import releases
from attrition.storage import history
from attrition.upkeep import integrity
from tests.conftest import run_whole
from tests.damage import FILES, NEW, OLD, OLDEST, WAYS, place, spoil

GOOD = {"lastmonth_activity": 3, "lastyear_activity": 40, "number_of_employees": 7}

# ---- every file, in every way: is it noticed?

# Nobody reads the lock file; the link of the model is written again by every run. What only saves time
# does not count if it is damaged.
UNREAD = (
    *("production_deployment/.lock", "production_deployment/trainedmodel.skops"),
    *("production_deployment/hashes.json", "production_deployment/watchlist.bin"),
)
# What every run writes where it is missing, as before the first run.
WRITTEN_WHERE_MISSING = {
    *("production_deployment/lastrun.json", "production_deployment/monitoring.json"),
    *("reports/assessment.json", "reports/diagnostics.json", "reports/report.json"),
}
# A file of an earlier day may show in another one that is of today.
NAMED_ELSEWHERE = {
    "ingesteddata/ingestion.json": "finaldata.csv",
    "production_deployment/current": OLDEST,
    "production_deployment/history.sqlite": "decision.json",
}


def is_harmless(name, way):
    """Need nobody notice it? An older lastrun.json only means that there is work to do."""
    if name in UNREAD:
        return way != "folder"
    if way == "missing":
        return name in WRITTEN_WHERE_MISSING
    return (name, way) == ("production_deployment/lastrun.json", "older")


@pytest.fixture(scope="module")
def looked_at(aged_folder, tmp_path_factory):
    """A copy of the project with two releases, which every test leaves as it was."""
    folder = tmp_path_factory.mktemp("looked") / "project"
    shutil.copytree(aged_folder, folder, symlinks=True)
    return config_file.load(folder / "config.json")


def remove(path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_every_spoiled_file_is_noticed_and_named(looked_at, tmp_path, name, way):
    assert integrity.find_all(looked_at) == []
    path, _ = place(looked_at, name)
    kept = tmp_path / "kept"
    shutil.copy2(path, kept, follow_symlinks=False)
    try:
        spoil(looked_at, name, way)
        is_file = path.is_file() and not kept.is_symlink()
        is_same = is_file and path.read_bytes() == kept.read_bytes()
        paths = {each.path for each in integrity.find_all(looked_at)}
    finally:
        remove(path)
        remove(looked_at.releases / OLDEST)
        shutil.copy2(kept, path, follow_symlinks=False)
    if is_same or is_harmless(name, way):
        assert not paths
    elif way == "older" and name in NAMED_ELSEWHERE:
        assert NAMED_ELSEWHERE[name] in {other.name for other in paths}
    else:
        assert paths & {path, path.parent}


# ---- one of each kind, through the whole process

# One for each way in which a repair goes.
REPAIRED = [
    ("ingesteddata/finaldata.csv", "half"),  # ingested again from all sources
    ("ingesteddata/ingestion.json", "missing"),
    ("ingesteddata/ingestion.json", "older"),
    ("practicemodels/decision.json", "braces"),  # restored from the release in production
    ("practicemodels/decision.json", "older"),
    ("practicemodels/trainedmodel.skops", "missing"),
    (f"production_deployment/releases/{NEW}/trainedmodel.skops", "half"),  # back to the one before
    (f"production_deployment/releases/{NEW}/manifest.json", "folder"),
    (f"production_deployment/releases/{OLD}/trainedmodel.skops", "empty"),  # set aside
    ("production_deployment/current", "folder"),
    ("production_deployment/current", "missing"),
    ("production_deployment/current", "older"),
    ("production_deployment/history.sqlite", "tail"),  # goes on with the rows that are left
    ("production_deployment/history.sqlite", "missing"),
    ("production_deployment/history.sqlite", "older"),
    ("production_deployment/.lock", "folder"),  # in the way
    ("production_deployment/lastrun.json", "braces"),  # written again by any run
    ("production_deployment/monitoring.json", "older"),
    ("reports/riskscores.csv", "missing"),
    ("reports/riskscores.csv", "folder"),
]
# Where the history was spoiled, its first rows need not be left.
LOSES_ROWS = ("production_deployment/history.sqlite",)
# After going back to another release, its risks are not those of the one before.
GOES_BACK = {name for name, _ in REPAIRED if NEW in name or name.endswith("/current")}


def check_served(config):
    """Check that the API, started beside the damage, answers from a release that verifies."""
    client = api.create_app(config).test_client()
    answer = client.post("/prediction", json={"records": [GOOD]})
    assert answer.status_code == 200, answer.json
    assert answer.json["model"] in releases.list_ids(config.production_folder)
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200


def first_deployment(config):
    return history.read_deployments(config.history)[:1]


def check_repaired(config, path, capsys):
    """Run, and repair where the run asks for it, until all is clean."""
    check_served(config)
    code, output = run_whole(config), capsys.readouterr().err
    assert "Traceback" not in output
    if code == 0:
        assert not integrity.find_all(config), "a run that could not repair it has to fail"
    else:
        assert path.name in output or path.parent.name in output, output
        check_served(config)
        assert run_whole(config, "--repair") == 0, capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    assert integrity.find_all(config) == []
    assert run_whole(config) == 0
    assert diagnostics.main(["--config", str(config.file), "--verify"]) == 0
    check_served(config)


@pytest.mark.parametrize(("name", "way"), REPAIRED)
def test_spoiled_file_is_repaired_by_one_command(aged, name, way, capsys):
    run_whole(aged)
    capsys.readouterr()
    rows, risks = aged.final_data.read_bytes(), aged.risk_scores.read_bytes()
    deployed, release = first_deployment(aged), releases.current_id(aged.production_folder)
    check_repaired(aged, spoil(aged, name, way), capsys)
    assert aged.final_data.read_bytes() == rows
    if releases.current_id(aged.production_folder) == release:
        assert aged.risk_scores.read_bytes() == risks
    else:
        assert name in GOES_BACK
    assert name in LOSES_ROWS or first_deployment(aged) == deployed


# ---- bit rot


def is_noticed(config, path):
    """Is a change of one file noticed by those who read it?"""
    units = [
        integrity.ingested(config),
        *integrity.candidate_units(config),
        *integrity.run_units(config),
    ]
    if path.parent.parent == config.releases:
        release = path.parent.name
        return bool([*integrity.find_in_release(config, release, is_current=False)])
    if path in (config.last_run, config.dependencies):
        return bool([*integrity.find_in_record(path)])
    ours = [unit for unit in units if unit.record.parent == path.parent]
    return any([*integrity.find_in_unit(unit, is_expected=True)] for unit in ours)


ROTTING = [
    name for name in FILES if name not in UNREAD and not name.endswith((".sqlite", "current"))
]


@pytest.mark.parametrize("name", ROTTING)
def test_each_of_200_flipped_bits_is_noticed(aged, name):
    path, _ = place(aged, name)
    data, rng = path.read_bytes(), random.Random(name)
    assert not is_noticed(aged, path)
    path.chmod(0o640)
    for _ in range(200):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        assert is_noticed(aged, path)


@pytest.mark.parametrize(
    "name", ["ingesteddata/ingestion.json", f"production_deployment/releases/{NEW}/score.json"]
)
def test_a_flipped_bit_is_repaired_by_one_command(aged, name, capsys):
    run_whole(aged)
    rows = aged.final_data.read_bytes()
    path, _ = place(aged, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    check_repaired(aged, path, capsys)
    assert aged.final_data.read_bytes() == rows
