"""Write the risks of assessed clients into tables of SQLite files and of a PostgreSQL server."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

import fullprocess
from attrition import config as configuration
from attrition import config_file, idle
from attrition.contacts import fields
from attrition.data.cells import Reason
from attrition.databases import postgres, risk_table, write_back
from attrition.errors import ConfigError, Damaged
from attrition.storage import files, history
from tests.conftest import damage, run_whole, write_config
from tests.databases.conftest import MORNING, assess
from tests.postgres import PASSWORD

NOON = "2026-03-01T12:00:00Z"
HOSTILE = ("O'Hara; DROP TABLE risks", 'a,"b"\\.', "Zoë\t", "NULL", "", "مرحبا")
COLUMNS = "client, risk, rank, value_at_risk, reasons, release, assessed_at"


@pytest.fixture
def config(target, tmp_path):
    return write_config(tmp_path, write_back={"url": target.config_url, "table": "risks"})


def counts(result):
    assert not result.problem
    return result.counts.inserted, result.counts.updated, result.counts.deleted


def write(config, **options):
    return counts(write_back.write_back(config, **options))


def stored(target, columns="client, risk"):
    return dict(target.execute(f"SELECT {columns} FROM risks ORDER BY rank"))


# ---- what is written


def test_every_client_is_in_the_table_which_is_created(config, target):
    reasons = [[Reason("tickets", 5.0, 1.0, 0.8), Reason("plan", "monthly", "yearly", 0.1)], []]
    assess(config, [0.75, 0.1], value_at_risk=[1500.5, np.nan], reasons=reasons)
    assert write(config) == (2, 0, 0)
    first, second = target.execute(f"SELECT {COLUMNS} FROM risks ORDER BY rank")
    texts = "; ".join(fields.reason_text(each, {}) for each in reasons[0])
    assert first[:6] == ("c0", 0.75, 1, 1500.5, texts, "r1")
    assert second[:6] == ("c1", 0.1, 2, None, "", "r1")
    is_text = target.kind == "sqlite"
    assert (first[6] if is_text else f"{first[6].timestamp():.0f}") == (
        MORNING if is_text else "1772352000"
    )


def test_labels_name_the_features_in_the_reasons(config, target):
    label = configuration.Label("tickets", label="open tickets")
    assess(config, [0.5], reasons=[[Reason("tickets", None, 1.0, 0.8)]])
    write(replace(config, labels={"tickets": label}))
    assert stored(target, "client, reasons") == {"c0": "open tickets: not known (baseline: 1)"}


def test_names_of_any_characters_are_written_compared_and_deleted(config, target):
    assess(config, [0.5] * len(HOSTILE), client=HOSTILE)
    assert write(config) == (len(HOSTILE), 0, 0)
    assert set(stored(target)) == set(HOSTILE)
    assert write(config, always=True) == (0, 0, 0)
    assess(config, [0.5], client=["other"])
    assert write(config) == (1, 0, len(HOSTILE))
    assert stored(target) == {"other": 0.5}


def test_release_without_clients_empties_the_table(config, target):
    assess(config, [0.5, 0.4])
    write(config)
    assess(config, [])
    assert write(config) == (0, 0, 2)
    assert stored(target) == {}


# ---- only what changed


def test_only_changed_rows_are_sent(config, target):
    assess(config, [0.9, 0.8, 0.7, 0.6])
    write(config)
    assess(config, [0.9, 0.85, 0.7, 0.5], NOON, client=["c0", "c1", "c2", "c4"])
    assert write(config) == (1, 1, 1)
    assert stored(target) == {"c0": 0.9, "c1": 0.85, "c2": 0.7, "c4": 0.5}
    times = target.execute("SELECT client, assessed_at FROM risks ORDER BY client")
    assert [name for name, at in times if at != times[0][1]] == ["c1", "c4"]


def test_next_assessment_with_the_same_risks_sends_nothing(config, target):
    rng = np.random.default_rng(0)
    risk = sorted([*rng.random(300), *10 ** rng.uniform(-300, -3, 100), 1.0, 0.0, 0.5, 1e-5])[::-1]
    value = rng.lognormal(9, 5, len(risk))
    assess(config, risk, value_at_risk=value)
    assert write(config) == (len(risk), 0, 0)
    before = stored(target, "client, assessed_at")
    assess(config, risk, NOON, value_at_risk=value)
    assert write(config) == (0, 0, 0)
    assert stored(target, "client, assessed_at") == before


def test_new_release_updates_every_row(config, target):
    assess(config, [0.9, 0.8, 0.7])
    write(config)
    assess(config, [0.9, 0.8, 0.7], release="r2", client=["c0", "c1", "new"])
    assert write(config) == (1, 2, 1)
    assert stored(target, "client, release") == {"c0": "r2", "c1": "r2", "new": "r2"}


def test_what_others_changed_in_the_table_is_repaired_at_the_next_assessment(config, target):
    assess(config, [0.9, 0.8, 0.7, 0.6])
    write(config)
    target.execute("UPDATE risks SET risk = 0.1 WHERE client = 'c0'")
    target.execute("UPDATE risks SET release = NULL WHERE client = 'c3'")
    target.execute("DELETE FROM risks WHERE client = 'c1'")
    target.execute("INSERT INTO risks (client) VALUES ('stranger')")
    assess(config, [0.9, 0.8, 0.7, 0.6], NOON)
    assert write(config) == (1, 2, 1)
    assert stored(target) == {"c0": 0.9, "c1": 0.8, "c2": 0.7, "c3": 0.6}


def test_table_that_was_dropped_is_created_again(config, target):
    assess(config, [0.9])
    write(config)
    target.execute("DROP TABLE risks")
    assert write(config, always=True) == (1, 0, 0)


def test_nothing_is_opened_until_there_is_another_assessment(config, monkeypatch):
    assess(config, [0.9])
    write(config)
    with monkeypatch.context() as patch:
        patch.setattr(risk_table, "opened", None)
        result = write_back.write_back(config)
    assert result.up_to_date
    assert counts(result) == (1, 0, 0)  # of the last time
    other = replace(config, write_back=replace(config.write_back, table="other"))
    assert not write_back.write_back(other).up_to_date


def test_dry_run_counts_and_writes_nothing(config, target, capsys):
    assess(config, [0.9, 0.8])
    command = ["--config", str(config.file), "--dry-run"]
    assert write_back.main(command) == 0
    assert "2 inserted, 0 updated, 0 deleted" in capsys.readouterr().out
    assert target.kind != "sqlite" or not target.path.exists()
    write(config)
    assess(config, [0.9, 0.7], client=["c0", "c2"])
    assert write_back.main(command) == 0
    assert "1 inserted, 0 updated, 1 deleted; 2 clients in all" in capsys.readouterr().out
    assert stored(target) == {"c0": 0.9, "c1": 0.8}


def test_by_hand_the_table_is_compared_although_this_assessment_was_written(config, target, capsys):
    assess(config, [0.9])
    write(config)
    target.execute("DELETE FROM risks")
    assert write_back.main(["--config", str(config.file)]) == 0
    assert capsys.readouterr().out == "1 inserted, 0 updated, 0 deleted; 1 client in all\n"


# ---- others read and write meanwhile


def test_write_that_fails_half_way_leaves_the_table_as_it_was(config, target, monkeypatch):
    assess(config, [0.9, 0.8])
    write(config)
    assess(config, [0.5, 0.4])
    read_rows = write_back.read_rows

    def half(*given):
        yield from read_rows(*given)
        raise MemoryError

    monkeypatch.setattr(write_back, "read_rows", half)
    with pytest.raises(MemoryError):
        write_back.write_back(config)
    assert stored(target) == {"c0": 0.9, "c1": 0.8}


def test_table_that_another_has_locked_is_written_at_the_next_run(config, target, monkeypatch):
    assess(config, [0.9])
    write(config)
    assess(config, [0.8])
    for module in (risk_table, postgres):
        monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    if target.kind == "sqlite":
        other, lock = sqlite3.connect(target.path), "BEGIN IMMEDIATE"
    else:
        other, lock = target.server.connect(), "LOCK TABLE risks IN ROW EXCLUSIVE MODE"
    with closing(other):
        other.execute(lock)
        result = write_back.write_back(config)
        assert re.search("locked|lock timeout", result.problem)
        assert stored(target) == {"c0": 0.9}
    assert write(config) == (0, 1, 0)


def test_server_that_is_down_is_named_without_its_password_and_written_to_later(
    config, target, caplog
):
    assess(config, [0.9])
    nowhere = "sqlite:////nowhere/crm.sqlite"
    if target.kind == "postgres":
        nowhere = re.sub(r":\d+/", ":9/", target.config_url)
    down = replace(config, write_back=replace(config.write_back, url=nowhere))
    for _ in range(2):
        result = write_back.write_back(down)
        assert result.problem.startswith("write_back: ")
        assert result.up_to_date  # nothing was done
    assert "the next run writes it" in caplog.text
    assert (
        PASSWORD
        not in caplog.text + files.encode(files.read_record(config.write_back_record)).decode()
    )
    assert write(config) == (1, 0, 0)


def test_assessment_that_is_damaged_is_not_written(config, target):
    assess(config, [0.9] * 50)
    damage(config.clients)
    with pytest.raises(Damaged, match="clients.parquet"):
        write_back.write_back(config)


# ---- configuration and runs


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"url": "postgresql://joe:hunter2@host/crm", "table": "t"},
            "contains the password itself",
        ),
        ({"url": "mysql://host/crm", "table": "t"}, "names another kind of database"),
        ({"url": "sqlite:///crm.sqlite"}, "go together"),
        ({"table": "risks"}, "go together"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        write_config(tmp_path, write_back=settings)
    assert "hunter2" not in str(raised.value)


def test_run_writes_back_waits_for_a_table_that_is_locked_and_is_idle_then(
    project, monkeypatch, capsys
):
    """One project, because a run takes seconds: off, on, idle, locked, written, damaged."""
    assert not project.write_back_record.exists()
    path, record = project.file.parent / "crm.sqlite", project.write_back_record
    settings = json.loads(project.file.read_text())
    settings["write_back"] = {"url": "sqlite:///crm.sqlite", "table": "risks"}
    project.file.write_text(json.dumps(settings))
    config = config_file.load(project.file)
    assert fullprocess.main(["--config", str(config.file), "--dry-run"]) == 0
    assert "200 inserted, 0 updated, 0 deleted" in capsys.readouterr().out
    assert run_whole(config) == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM risks").fetchone() == (200,)
    assert idle.is_idle(["--config", str(config.file), "--quiet"])
    damage(record)
    monkeypatch.setattr(risk_table, "BUSY_SECONDS", 0.1)
    ends = []
    monkeypatch.setattr(fullprocess, "report_end", lambda config, **end: ends.append(end))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert run_whole(config) == 1
    assert (ends[-1]["is_good"], len(ends[-1]["failed"]["unwritten"])) == (False, 1)
    assert "locked" in files.read_record(record)["problem"]
    last = history.read_worked_runs(config.history, 1)[-1]
    assert (last["outcome"], "write_back: " in last["reason"]) == ("unavailable", True)
    assert files.read_record(config.last_run)["good"]  # every source was read
    assert not idle.is_idle(["--config", str(config.file), "--quiet"])
    assert run_whole(config) == 0
    assert files.read_record(record)["problem"] == ""
    assert idle.is_idle(["--config", str(config.file), "--quiet"])
