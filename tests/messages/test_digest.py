"""The weekly mails of a project with two managers, over a real SMTP server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import pytest

from attrition.config import Digest, Mail
from attrition.contacts.log import Entry
from attrition.messages import digest, outbox, weekly
from attrition.messages.weekly import Recipient
from attrition.storage import files, history
from tests.apps import day_after, enter
from tests.messages.receivers import smtp_receiver

ANN, BOB, LEAD = Recipient("Ann", "ann@x.example"), Recipient("@Bob", "b@x.example"), "l@x.example"


@pytest.fixture
def config(odd_project):
    managers = (tuple(ANN), tuple(BOB), ("Nobody", "n@x.example"))
    return replace(
        odd_project,
        mail=Mail("127.0.0.1", "run@x.example", "none"),
        digest=Digest(managers=managers, lead=(LEAD,), hour=0, link="https://app.example/"),
    )


def end_week(config, weeks=0):
    """End a run some weeks from now; return the mails that it sends."""
    now = (datetime.now(UTC) + timedelta(weeks=weeks)).strftime(files.TIME)
    with smtp_receiver() as box:
        config = replace(config, mail=replace(config.mail, port=box.port))
        for _ in range(3):
            outbox.deliver(config, outbox.store(config, now, [], outbox.make_digests(config, now)))
    mails = [message_from_bytes(mail.content, policy=policy.default) for mail in box.mails]
    return {mail["To"]: mail for mail in mails}, len(mails)


def texts(config, *recipients):
    missing = {str(i): each for i, each in enumerate(recipients)}
    digests = digest.make_digests(config, missing, files.utc_now())
    return [content["text"] if content else None for content in digests.values()]


def test_each_gets_one_mail_a_week_and_nobody_one_without_content(config):
    mails, count = end_week(config)
    assert (sorted(mails), count) == (["ann@x.example", "b@x.example", LEAD], 3)
    assert mails["ann@x.example"]["Subject"].startswith("Your clients: ")
    assert not any("\xa0" in mail.get_content() for mail in mails.values())
    again, count = end_week(config, weeks=1)
    assert (sorted(again), count) == (sorted(mails), 3)
    stored = [*weekly.missing(config, "2030-01-07T00:00:00Z")]
    assert len(stored) == 4  # of another week
    assert b"https://app.example" not in config.history.read_bytes()
    assert history.read_waiting(config.history) == []


def test_manager_reads_the_own_list_with_reasons_to_call(config):
    text, other = texts(config, ANN, BOB)
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    assert "To call today (" in text and lines
    assert all(": risk " in line for line in lines if not line.startswith("  and "))
    assert text.splitlines()[-1] == "The list: https://app.example/?manager=Ann"
    assert other.splitlines()[-1] == "The list: https://app.example/?manager=%40Bob"
    names = {line.partition(":")[0] for line in lines if ": risk" in line}
    assert not any(name in other for name in names)


def test_follow_ups_of_the_week_are_named_the_oldest_first(config):
    contact = Entry("now620", "contact", "Ann", "reached", date=day_after(2))
    enter(config, contact, contact._replace(client="now621", date=day_after(9)))
    enter(config, contact._replace(client="now622", date=day_after(-1)), days_ago=3)
    (text,) = texts(config, ANN)
    section = text.partition("Follow-ups until")[2].partition("\n\n")[0].splitlines()
    assert [line.partition(":")[0].strip() for line in section[1:]] == ["now622", "now620"]
    assert "1 overdue" in text.splitlines()[0]


def test_lead_reads_the_portfolio_and_whether_calling_helps(config):
    (text,) = texts(config, Recipient(None, LEAD))
    assert text.splitlines()[0].endswith(" are expected to leave.")
    assert "Value at risk: EUR" in text and "Follow-ups overdue: 0, 0 of them on the list" in text
    assert "  Ann: 18 on the list, 0 reached, follow-ups kept: none due\n" in text
    assert "Does calling help?" not in text
    record = files.read_record(config.assessment_record)
    coming = {"number": 1, "of": 4, "on": "2026-07-01", "more_outcomes": 120}
    record["experiment"] = {"verdict": "open", "next_look": coming | {"smallest_effect": 0.12}}
    files.write_bytes(config.assessment_record, files.encode(files.sealed(record)))
    assert "Does calling help? Not known yet: next" in texts(config, Recipient(None, LEAD))[0]


def test_before_the_first_assessment_there_is_no_digest(config):
    config.assessment_record.unlink()
    assert texts(config, ANN) == []


def test_contact_log_that_is_damaged_is_logged_and_stops_no_alert(config, caplog):
    enter(config, Entry("now620", "contact", "Ann", "reached"))
    config.contact_log.write_bytes(b"no database" * 100)
    assert outbox.make_digests(config, files.utc_now()) == []
    assert "the weekly mails cannot be written" in caplog.text
