"""What the whole process reports when it ends: alerts, the heartbeat, and that none of it disturbs."""

import json
import runpy
import sys
import time

import pytest

import fullprocess
from attrition import idle
from attrition.messages import heartbeat, outbox
from attrition.operations import runs
from attrition.storage import files, history
from tests.conftest import damage, run_whole
from tests.messages.receivers import http_receiver
from tests.support import SCRIPT, reconfigure


@pytest.fixture
def receiver():
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def unlimited(monkeypatch):
    """Let a run wait for deliveries and pings until they end, however busy the machine is."""
    start = heartbeat.ping

    def ping(*arguments):
        thread = start(*arguments)
        thread.join()
        return thread

    monkeypatch.setattr(outbox, "WAIT_S", 600)
    monkeypatch.setattr(heartbeat, "ping", ping)


@pytest.fixture
def config(project, receiver, unlimited):
    alerts = {"file": "alerts.jsonl", "heartbeat": f"{receiver.url}/uuid"}
    return reconfigure(project, contact_capacity=20, alerts=alerts)


def read_alerts(config):
    lines = (config.file.parent / "alerts.jsonl").read_text().splitlines()
    return [(line["event"], [a["code"] for a in line["alerts"]]) for line in map(json.loads, lines)]


def test_run_reports_that_the_last_one_died_and_the_next_tick_only_pings(
    config, receiver, monkeypatch, capsys
):
    config.lock.write_text('{"run": "x", "started_at": "2026-03-01T00:00:00Z"}')
    assert fullprocess.main(["--config", str(config.file)]) == 0
    assert receiver.paths == ["/uuid/start", "/uuid"]
    assert read_alerts(config) == [("opened", ["run"])]
    assert idle.is_current(str(config.file))
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [SCRIPT[1], "--config", str(config.file)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(SCRIPT[1], run_name="__main__")
    assert (ended.value.code, *capsys.readouterr()) == (0, "nothing new\n", "")
    assert receiver.paths[2:] == ["/uuid"]
    valid_until = float(idle.read_watch_list(str(config.file))[2])
    assert 50 * 60 < valid_until - time.time() <= 60 * 60  # when the alert is resolved


def test_failed_run_is_reported_and_pinged_as_failed(config, receiver):
    damage(config.training_record)
    assert run_whole(config) == 1
    assert receiver.paths == ["/uuid/start", "/uuid/fail"]
    assert read_alerts(config) == [("opened", ["run"])]


def test_retry_is_delivered_by_a_tick_without_work_which_leaves_the_next_one_idle(config):
    assert run_whole(config) == 0
    row = outbox.new_row("alert-1-file", files.utc_now(), "file", "", {"event": "x", "alerts": []})
    history.save(config.history, "outbox", [row])
    fullprocess.keep_history(config)
    fullprocess.keep_watch(config)
    before = len(history.read_worked_runs(config.history))
    assert not idle.is_idle(["--config", str(config.file)])
    assert run_whole(config) == 0
    assert read_alerts(config) == [("x", [])]
    assert len(history.read_worked_runs(config.history)) == before
    pings = []
    assert idle.is_idle(["--config", str(config.file)], pings.append)
    assert pings == [config.alerts.heartbeat]


def test_run_that_hangs_is_reported_by_the_next_one(config, receiver):
    with files.run_lock(config.lock) as lock:
        runs.leave_mark(lock, "the other", files.utc_now(), -2.0 * runs.GRACE_S)
        assert run_whole(config) == 1
        runs.clear_mark(lock)
    assert receiver.paths == ["/uuid/fail"]
    assert read_alerts(config) == [("opened", ["hanging"])]


def test_exception_in_the_messages_is_logged_and_fails_nothing(config, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(outbox, "report_end", fail)
    fullprocess.report_end(config, is_good=True)
    assert "the messages of this run cannot be sent: a bug" in caplog.text


def test_test_alert_prints_the_result_of_each_channel(config, receiver, capsys):
    assert run_whole(config, "--test-alert") == 0
    assert capsys.readouterr().out == "file: sent\nheartbeat: sent\n"
    receiver.status = 500
    assert run_whole(config, "--test-alert") == 1
    assert "heartbeat: it answered 500, expected 200" in capsys.readouterr().out
    assert run_whole(reconfigure(config), "--test-alert") == 1
    assert "no channel to test" in capsys.readouterr().out
