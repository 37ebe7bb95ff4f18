"""Sessions end when they should, in every worker, and a damaged file signs everybody out."""

import sqlite3
import stat

import pytest

from attrition.access import sessions
from attrition.access.sessions import Session
from attrition.errors import AttritionError

NOW, LATE, ENDED = "2026-11-28T10:00:00Z", "2026-11-28T21:59:59Z", "2026-11-28T22:00:00Z"
ANN = Session("user", "ann", "stamp")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access" / "sessions.sqlite"


def test_session_lasts_twelve_hours(path):
    cookie = sessions.begin(path, ANN, NOW)
    assert sessions.find(path, cookie, LATE) == ANN
    assert sessions.find(path, cookie, ENDED) is None
    sessions.begin(path, ANN, ENDED)  # removes what has ended
    assert sessions.find(path, cookie, NOW) is None


def test_session_is_found_by_its_cookie_only(path):
    cookie = sessions.begin(path, ANN, NOW)
    for other in ("", "x", cookie[:-1], "ü" * 40, "' OR 1=1 --"):
        assert sessions.find(path, other, NOW) is None
    assert cookie.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ended_session_stays_ended_and_the_others_go_on(path):
    first, second = (sessions.begin(path, ANN, NOW) for _ in range(2))
    sessions.end(path, first)
    sessions.end(path, first)
    assert sessions.find(path, first, NOW) is None
    assert sessions.find(path, second, NOW) == ANN


def test_without_a_file_nobody_is_signed_in(path):
    assert sessions.find(path, "x", NOW) is None
    sessions.end(path, "x")
    assert not path.exists()


@pytest.mark.parametrize("data", [b"", b"not a database" * 100], ids=["empty", "other"])
def test_damaged_file_signs_everybody_out_and_is_replaced(path, data):
    cookie = sessions.begin(path, ANN, NOW)
    path.write_bytes(data)
    assert sessions.find(path, cookie, NOW) is None
    again = sessions.begin(path, ANN, NOW)
    assert sessions.find(path, again, NOW) == ANN
    assert sessions.find(path, cookie, NOW) is None


def test_busy_file_is_an_error_that_passes(path, monkeypatch):
    monkeypatch.setattr(sessions, "BUSY_S", 0)
    cookie = sessions.begin(path, ANN, NOW)
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    for use in (
        lambda: sessions.find(path, cookie, NOW),
        lambda: sessions.end(path, cookie),
        lambda: sessions.begin(path, ANN, NOW),
    ):
        with pytest.raises(AttritionError, match="now"):
            use()
    other.rollback()
    other.close()
    assert sessions.find(path, cookie, NOW) == ANN
