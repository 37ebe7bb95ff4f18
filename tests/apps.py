"""Clients of apps over projects after a whole run, and what tests of the API share."""

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

from app import create_app
from attrition import config_file
from attrition.config import Api, Config
from attrition.contacts import log
from attrition.data import clients
from attrition.data.clients import ClientTable
from attrition.operations import releases
from attrition.storage import files
from tests.conftest import TOKEN, build_once, make_rows, run_whole, write_config

LISTS = ("reasons", "cautions", "list_reasons", "changes")
GOOD = {"lastmonth_activity": 12, "lastyear_activity": 150, "number_of_employees": 40}


ODD_NAMES = ("A/B & C", "Über Söhne 東京", "/lead", "=1+1", "<b>bold</b>", "50% off?", "a#b;c")


GETS = (
    *("/scoring", "/summarystats", "/diagnostics", "/clients"),
    *("/contactlist.csv", "/report.pdf", "/modelcard.md"),
)


@pytest.fixture
def client(project):
    return create_app(project).test_client()


@pytest.fixture(scope="session")
def odd_folder(tmp_path_factory):
    """A project with a categorical column, missing values, values, managers and odd names."""
    return build_once(tmp_path_factory, "odd", build_odd)


def build_odd(folder):
    numeric = {name: {"minimum": 0} for name in GOOD}
    columns = {
        "numeric": numeric,
        "categorical": ["industry"],
        "value": "worth",
        "manager": "cares",
    }
    config = write_config(folder, contact_capacity=30, columns=columns)
    rows = make_rows(700).assign(worth=1000, cares="Ann", industry="retail")
    rows.loc[::3, "industry"] = "mining"
    rows.loc[::5, "number_of_employees"] = float("nan")
    names = rows["corporation"].mask(rows.index >= 600)
    rows["corporation"] = names.fillna(pd.Series([f"now{i}" for i in range(700)]))
    rows.loc[600 : 600 + len(ODD_NAMES) - 1, "corporation"] = ODD_NAMES
    rows.loc[600 : 600 + len(ODD_NAMES) - 1, ["lastmonth_activity", "lastyear_activity"]] = 0
    rows["exited"] = rows["exited"].astype(object).mask(rows.index >= 600, "")
    rows.loc[rows.index >= 650, "cares"] = "@Bob"
    rows.to_csv(config.input_folder / "all.csv", index=False)
    assert run_whole(config) == 0


@pytest.fixture
def odd_project(odd_folder, tmp_path):
    shutil.copytree(odd_folder, tmp_path / "odd", symlinks=True)
    return config_file.load(tmp_path / "odd" / "config.json")


@pytest.fixture
def odd_client(odd_project):
    return create_app(odd_project).test_client()


@pytest.fixture
def guarded(project, monkeypatch):
    """A client of an app that requires a token."""
    monkeypatch.setenv("API_TOKEN", TOKEN)
    return create_app(replace(project, api=Api(token="${API_TOKEN}"))).test_client()


def deploy_again(config: Config, **changed: bytes | None) -> str:
    """Make another release of the same model, and put it into production.

    changed: for files by their stem, other bytes; None leaves it out
    """
    old = releases.read_current(config.production_folder)
    contents = {name: (old.folder / name).read_bytes() for name in old.manifest["outputs"]}
    for name in [name for name in contents if name.partition(".")[0] in changed]:
        data = changed[name.partition(".")[0]]
        contents |= {name: data} if data is not None else {}
        if data is None:
            del contents[name]
    left_out = ("outputs", "seal")
    manifest = {key: value for key, value in old.manifest.items() if key not in left_out}
    manifest["deployed_at"] = "2031-01-01T00:00:00Z"
    release_id = releases.create(config.production_folder, contents, manifest)
    releases.activate(config.production_folder, release_id)
    return release_id


def wait_until(is_so, seconds=10):
    """Wait until a condition is true, such as that a thread has loaded a release."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def wait_for_complaints(client, *codes):
    wait_until(lambda: client.get("/health").json["complaints"] == list(codes))


def rewrite(config, change):
    """Let the assessment have written another table of clients; `change` gets it and returns it."""
    names = pq.read_schema(config.clients).names
    table = clients.read_clients(config.clients, [name for name in names if name != clients.KEY])
    rows = ClientTable(config.clients).read(range(len(table)))
    data = {name: [row[name] for row in rows] for name in LISTS}
    places = {"list_rank": "Int64", "previous_rank": "Int64"}
    changed = change(table.assign(**data).astype(places))
    contents = {path: path.read_bytes() for path in (config.risk_scores, config.contact_list)}
    contents[config.clients] = lambda path: clients.write_clients(path, changed)
    files.commit(config.assessment_record, contents, files.read_record(config.assessment_record))


RECORD = '{"lastmonth_activity": %s, "lastyear_activity": 150, "number_of_employees": 40}'


JSON = {"Content-Type": "application/json"}


def one(value: str) -> str:
    return '{"records": [' + RECORD % value + "]}"


def enter(config, *new, days_ago=0):
    at = datetime.now(UTC) - timedelta(days=days_ago)
    log.append(config.contact_log, new, at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def day_after(days):
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
