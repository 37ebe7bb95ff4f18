import pytest

from attrition.messages import outbox, weekly
from attrition.storage import history
from tests.conftest import write_config

MAIL = {"host": "localhost", "sender": "run@example.com"}
SUNDAY, EARLY, MONDAY = "2026-03-01T12:00:00Z", "2026-03-02T04:59:00Z", "2026-03-02T05:00:00Z"


@pytest.fixture
def config(tmp_path):
    digest = {"managers": {"Ann": "ann@example.com"}, "lead": ["lead@example.com"]}
    return write_config(tmp_path, mail=MAIL, digest=digest, time_zone="Europe/Berlin")


def missing(config, now):
    return {each.manager for each in weekly.missing(config, now).values()}


def store(config, now):
    rows = [
        outbox.new_row(name, now, "mail", each.address, None)
        for name, each in weekly.missing(config, now).items()
    ]
    history.save(config.history, "outbox", rows)


def test_digest_is_due_once_a_week_from_six_in_the_morning_where_the_managers_work(config):
    store(config, SUNDAY)
    assert missing(config, EARLY) == set()
    assert weekly.next_at(config, EARLY) == MONDAY
    assert missing(config, MONDAY) == {"Ann", None}
    assert weekly.next_at(config, MONDAY) == MONDAY
    store(config, MONDAY)
    assert missing(config, "2026-03-08T23:00:00Z") == set()
    assert weekly.next_at(config, MONDAY) == "2026-03-09T05:00:00Z"
    assert missing(config, "2026-03-09T05:00:00Z") == {"Ann", None}


def test_week_in_which_the_clock_changes_is_a_week(config):
    store(config, "2026-03-23T06:00:00Z")
    assert weekly.next_at(config, "2026-03-23T06:00:00Z") == "2026-03-30T04:00:00Z"


def test_digest_that_was_missed_on_monday_is_sent_on_a_later_day(config):
    store(config, SUNDAY)
    assert missing(config, "2026-03-05T10:00:00Z") == {"Ann", None}
