"""A project with two releases, and every way to spoil a file of it; its fixtures are for all tests."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from attrition import config_file
from attrition.contacts import log
from attrition.operations import releases
from attrition.storage import files
from tests.conftest import build_once, contradict, run_whole, write_sources

FOLDERS = ("ingesteddata", "practicemodels", "production_deployment", "reports", "contacts")
OLD, NEW = "{old}", "{new}"  # the release before, and the one in production
RELEASE = (
    *("decision.json", "ingestedfiles.txt", "known_rows.npz", "latestscore.txt", "manifest.json"),
    *("modelcard.md", "reference.csv", "score.json", "trainedmodel.skops", "training.json"),
    *("evaluationmodel.skops", "servingmodel.npz"),
)
FILES = (
    *(f"ingesteddata/{name}" for name in ("finaldata.csv", "ingestedfiles.txt", "ingestion.json")),
    *(f"ingesteddata/{name}" for name in ("rejected.csv", "withdrawn.csv", "table_rows.npz")),
    *("ingesteddata/finaldata.parquet", "ingesteddata/deliveries.npz"),
    *(
        f"practicemodels/{name}"
        for name in RELEASE
        if name not in ("manifest.json", "ingestedfiles.txt", "modelcard.md", "servingmodel.npz")
    ),
    *(f"production_deployment/releases/{NEW}/{name}" for name in RELEASE),
    *(f"production_deployment/releases/{OLD}/{name}" for name in ("manifest.json", RELEASE[8])),
    *(f"production_deployment/{name}" for name in ("current", ".lock", "history.sqlite")),
    *(f"production_deployment/{name}" for name in ("lastrun.json", "monitoring.json")),
    *(f"production_deployment/{name}" for name in ("hashes.json", "watchlist.bin")),
    *(f"production_deployment/{name}" for name in ("settled_rows.npz", "trainedmodel.skops")),
    *(f"reports/{name}" for name in ("assessment.json", "clients.parquet", "contactlist.csv")),
    *(f"reports/{name}" for name in ("diagnostics.json", "report.json", "report.pdf")),
    *(f"reports/{name}" for name in ("riskscores.csv", "roc.png", "riskhistory.npy")),
    *("reports/previous.parquet", "reports/contactlist.xlsx"),
)
WAYS = ("empty", "half", "tail", "braces", "older", "missing", "folder")
OLDEST = "20200101T000000Z-00000000"  # a release that `current` points at when it is to be older


@pytest.fixture(scope="session")
def aged_folder(tmp_path_factory):
    """A project with two releases, and all of its state as it was after the first, in before/."""
    return build_once(tmp_path_factory, "aged", build_aged)


def build_aged(folder):
    config = write_sources(folder)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime(files.TIME)
    with pytest.MonkeyPatch.context() as past:
        past.setattr(files, "utc_now", lambda: yesterday)
        enter(config)
        assert run_whole(config) == 0
    for name in FOLDERS:
        shutil.copytree(folder / name, folder / "before" / name, symlinks=True)
    contradict(config)
    enter(config)
    assert run_whole(config) == 0
    assert len(releases.list_ids(config.production_folder)) == 2


def enter(config):
    """Enter something about a company that is not a current client, so that the list stays as it is."""
    log.append(
        config.contact_log, [log.Entry("Nobody", "contact", "Ann", "reached")], files.utc_now()
    )


@pytest.fixture
def aged(aged_folder, tmp_path):
    """A copy of the project with two releases."""
    shutil.copytree(aged_folder, tmp_path / "project", symlinks=True)
    return config_file.load(tmp_path / "project" / "config.json")


def place(config, name):
    """Return the path of a file of the state by its name, and of what it was a release before."""
    old, new = sorted(set(releases.list_ids(config.production_folder)) - {OLDEST})
    folder = config.file.parent
    path = folder / name.format(old=old, new=new)
    before = folder / name.format(old=old, new=old)
    return path, before if before != path else folder / "before" / name.format(old=old, new=old)


def spoil(config, name, way):
    """Spoil a file in one of the ways; return its path."""
    path, before = place(config, name)
    if path == config.current:
        oldest = releases.list_ids(config.production_folder)[0]
        before = config.releases / OLDEST
        if way == "older":
            shutil.copytree(config.releases / oldest, before)
    data = b"" if path == config.current else path.read_bytes()
    path.unlink()
    if way == "folder":
        path.mkdir()
    elif way == "older" and path == config.current:
        path.symlink_to(f"releases/{OLDEST}")
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
