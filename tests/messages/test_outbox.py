"""Alerts that are stored, delivered and retried: once each, whatever the receiver does."""

import json
import socket
import sqlite3
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta

import pytest

import fullprocess
from attrition.errors import AttritionError
from attrition.messages import heartbeat, outbox
from attrition.operations.runs import Complaint
from attrition.storage import files, history
from tests.conftest import write_config
from tests.messages.receivers import http_receiver, make_certificates

FAULT = Complaint("run", "the last run failed; see its log")
START = datetime.fromisoformat("2026-03-01T00:00:00Z")


def tick(minutes):
    return (START + timedelta(minutes=minutes)).strftime(files.TIME)


def end_run(config, minutes, *complaints):
    """End a run at a time, and deliver in this process; return how many messages were tried."""
    names = outbox.store(config, tick(minutes), complaints)
    outbox.deliver(config, names)
    return len(names)


def events(receiver):
    return [body["event"] for body in receiver.bodies]


def rows(config):
    return history.read_messages(config.history, stored_names(config))


def stored_names(config):
    with closing(sqlite3.connect(config.history)) as connection:
        return [name for (name,) in connection.execute("SELECT message FROM outbox")]


@pytest.fixture
def receiver():
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def config(tmp_path, receiver):
    return write_config(tmp_path, alerts={"webhook": {"url": receiver.url}})


# ---- once


def test_day_of_runs_with_a_standing_fault_is_one_alert_and_one_resolve(config, receiver):
    tried = [end_run(config, 10 * i, *[FAULT] * (i < 100)) for i in range(144)]
    assert events(receiver) == ["opened", "resolved"]
    assert (tried[0], tried[106], sum(tried)) == (1, 1, 2)
    (opened, resolved) = receiver.bodies
    assert opened["alerts"][0] | {"until": None} == {
        **{"cause": "run", "code": "run", "sentence": FAULT.sentence},
        **{"since": tick(0), "until": None},
    }
    assert resolved["alerts"][0]["until"] == tick(1000)
    assert history.read_open_alerts(config.history) == []


def test_run_that_dies_after_it_stored_an_alert_leaves_it_to_a_later_run(config, receiver):
    outbox.store(config, tick(0), [FAULT])
    assert end_run(config, 4, FAULT) == 0
    assert end_run(config, 10, FAULT) == 1
    assert end_run(config, 60, FAULT) == 0
    assert events(receiver) == ["opened"]


def test_faults_of_one_run_are_one_message(config, receiver):
    end_run(config, 0, FAULT, Complaint("unused", "not used: a.zip", "a.zip"))
    assert [len(body["alerts"]) for body in receiver.bodies] == [2]
    assert end_run(config, 10, FAULT) == 0


# ---- receivers that fail


def test_alert_that_is_refused_is_tried_again_ever_later_and_delivered_once(config, receiver):
    receiver.status = 500
    tried = [m for m in range(0, 200, 10) if end_run(config, m, FAULT)]
    assert tried == [0, 10, 20, 40, 80, 160]
    receiver.status = 200
    assert [m for m in range(200, 700, 10) if end_run(config, m, FAULT)] == [320]
    assert len(receiver.requests) == len(tried) + 1
    assert len({body["id"] for body in receiver.bodies}) == 1


@pytest.mark.parametrize("way", ["dead", "certificate"])
def test_alert_to_a_receiver_that_cannot_be_reached_is_delivered_later_once(
    tmp_path, monkeypatch, way
):
    context, authority = make_certificates(tmp_path)
    context = context if way == "certificate" else None
    with http_receiver(context=context) as receiver:
        config = write_config(tmp_path, alerts={"webhook": {"url": receiver.url}})
        if way == "certificate":
            end_run(config, 0, FAULT)
    if way == "dead":
        end_run(config, 0, FAULT)
    reason = {"dead": "connection refused", "certificate": "its certificate is not valid"}[way]
    assert [(row["error"], row["outcome"]) for row in rows(config)] == [(reason, None)]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    port = int(receiver.url.rpartition(":")[2])
    with http_receiver(port, context) as again:
        assert [end_run(config, m, FAULT) for m in (4, 10, 20)] == [0, 1, 0]
    assert (receiver.requests, events(again)) == ([], ["opened"])


def test_message_is_given_up_after_three_days_with_a_line_and_without_its_body(
    config, receiver, caplog
):
    receiver.status = 500
    for minutes in range(0, 3 * 1440 + 400, 10):
        end_run(config, minutes, FAULT)
    assert "given up after 3 days: it answered 500" in caplog.text
    (row,) = rows(config)
    assert (row["outcome"], row["body"]) == (outbox.GIVEN_UP, None)
    assert 15 < len(receiver.requests) == row["attempts"] < 25


def test_channel_that_fails_does_not_stop_another(tmp_path, receiver):
    receiver.status = 500
    config = write_config(
        tmp_path, alerts={"webhook": {"url": receiver.url}, "file": "alerts.jsonl"}
    )
    for minutes in (0, 10, 20):
        end_run(config, minutes, FAULT)
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 1
    assert len(receiver.requests) == 3


def test_delivered_message_leaves_no_body_in_the_history(config):
    end_run(config, 0, FAULT)
    assert [(row["outcome"], row["body"]) for row in rows(config)] == [(outbox.DELIVERED, None)]
    assert b"What to do" not in config.history.read_bytes()
    assert b"Sent by the attrition run" not in config.history.read_bytes()


def test_message_whose_delivery_could_not_be_recorded_is_sent_again_with_the_same_id(
    config, receiver, monkeypatch
):
    def fail(*_):
        raise AttritionError("the history cannot be written now")

    names = outbox.store(config, tick(0), [FAULT])
    with monkeypatch.context() as patch:
        patch.setattr(history, "save", fail)
        outbox.deliver(config, names)
    end_run(config, 10, FAULT)
    assert [body["id"] for body in receiver.bodies] == [receiver.bodies[0]["id"]] * 2
    assert [headers["Idempotency-Key"] for _, headers, _ in receiver.requests] == names * 2


def test_receiver_reads_that_a_problem_began_before_that_it_is_resolved(config, receiver):
    receiver.status = 500
    for minutes in (0, 10, 20, 40, 80):
        end_run(config, minutes, FAULT)
    end_run(config, 85)
    receiver.status = 200
    assert end_run(config, 145) == 2
    assert events(receiver)[-2:] == ["opened", "resolved"]


def test_clock_that_is_set_back_delays_no_message_and_no_alert(config, receiver):
    receiver.status, year = 500, 525_600
    end_run(config, year, FAULT)
    end_run(config, year + 10)
    receiver.status = 200
    assert outbox.next_at(config, tick(0)) <= tick(0)
    assert end_run(config, 0) == 1
    assert end_run(config, 60) == 1
    assert events(receiver)[-2:] == ["opened", "resolved"]


def test_clock_that_is_set_back_by_a_moment_sends_nothing_twice(config, receiver):
    outbox.store(config, tick(1), [FAULT])  # a delivery is at work
    assert end_run(config, 0, FAULT) == 0


def test_failed_delivery_restores_no_text_that_was_changed_meanwhile(config, receiver, monkeypatch):
    receiver.status, send = 500, outbox.channels.send

    def forget_meanwhile(*given):
        history.rewrite(config.history, lambda _, text: text.replace("last run", "token"))
        return send(*given)

    monkeypatch.setattr(outbox.channels, "send", forget_meanwhile)
    end_run(config, 0, FAULT)
    (row,) = rows(config)
    assert ("token" in row["body"], "last run" in row["body"]) == (True, False)
    assert row["error"] == "it answered 500, expected 2xx"


# ---- the time that a run spends


def timed(config, **end):
    start = time.monotonic()
    outbox.report_end(config, is_good=False, **end)
    return time.monotonic() - start


def test_run_waits_less_than_two_seconds_for_a_slow_receiver_which_still_gets_it_once(
    config, receiver
):
    receiver.pause_s = 2.2
    assert timed(config, extra=[FAULT]) < 2
    assert timed(config, extra=[FAULT]) < 1
    until = time.monotonic() + 20
    while rows(config)[0]["outcome"] is None and time.monotonic() < until:
        time.sleep(0.05)
    assert [(row["outcome"], row["attempts"]) for row in rows(config)] == [(outbox.DELIVERED, 1)]
    assert events(receiver) == ["opened"]


def test_run_waits_less_than_two_seconds_for_a_resolver_that_never_answers(tmp_path, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60) and [])
    alerts = {"heartbeat": "http://check.example", "file": "alerts.jsonl"}
    config = write_config(tmp_path, alerts=alerts)
    fullprocess.ping_heartbeat(config.alerts.heartbeat, heartbeat.START, wait_s=0)
    start = time.monotonic()
    fullprocess.report_end(config, is_good=False, extra=[FAULT])
    assert time.monotonic() - start < 2
    answered.set()


def test_failed_delivery_is_logged_without_the_address(config, receiver, caplog, monkeypatch):
    receiver.status = 500
    monkeypatch.setattr(outbox, "WAIT_S", 20)
    outbox.report_end(config, is_good=True, extra=[FAULT])
    assert "a message by webhook was not delivered: it answered 500" in caplog.text
    assert receiver.url not in caplog.text


def test_run_with_nothing_to_report_starts_no_process(config, monkeypatch):
    monkeypatch.setattr(outbox, "start_delivery", None)
    model = Complaint("no_model", "no model is in production yet")
    outbox.store(config, files.utc_now(), [model])
    before = config.history.read_bytes()
    outbox.report_end(config, is_good=True, failed={})
    assert config.history.read_bytes() == before


def test_table_that_this_run_could_not_write_is_a_problem(config):
    complaints = outbox.find_complaints(config, {"unwritten": ["crm: locked"]})
    assert "write_back" in [complaint.code for complaint in complaints]


def test_history_that_is_gone_is_not_made_again(config):
    config.current.parent.mkdir()
    config.current.symlink_to("releases/one")
    outbox.report_end(config, is_good=True, extra=[FAULT])
    assert not config.history.exists()


def test_run_at_work_stores_a_report_which_its_end_delivers(config, receiver):
    outbox.report_end(config, is_good=None, extra=[FAULT])
    assert receiver.requests == []
    names = outbox.store(config, files.utc_now(), [FAULT])
    outbox.deliver(config, names)
    assert (len(names), events(receiver)) == (1, ["opened"])


# ---- when the next run has something to do


def test_next_time_is_that_of_a_retry_or_of_a_resolve(config, receiver):
    assert outbox.next_at(config, tick(0)) is None
    end_run(config, 0, FAULT)
    assert outbox.next_at(config, tick(0)) is None
    end_run(config, 10)
    assert outbox.next_at(config, tick(10)) == tick(70)
    receiver.status = 500
    end_run(config, 70)
    assert outbox.next_at(config, tick(70)) == tick(75)


# ---- the test by hand


def test_test_reports_each_channel(tmp_path, receiver):
    alerts = {"webhook": {"url": receiver.url}, "file": "alerts.jsonl", "heartbeat": "${NOT_SET}"}
    mail = {"host": "127.0.0.1", "port": 9, "sender": "a@example.com", "security": "none"}
    config = write_config(tmp_path, alerts=alerts, mail=mail)
    assert outbox.send_test(config) == {
        **{"webhook": "", "file": "", "mail": "connection refused"},
        "heartbeat": "the environment variable NOT_SET is not set",
    }
    line = json.loads((tmp_path / "alerts.jsonl").read_text())
    assert (line["event"], receiver.bodies) == ("test", [line])
