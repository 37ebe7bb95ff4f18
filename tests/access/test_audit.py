"""The audit log: whole lines, few refusals, and no error for the request."""

import json
import os
import stat

import pytest

from attrition.access.audit import MAX_REFUSALS, AuditLog


@pytest.fixture
def log(tmp_path):
    return AuditLog(lambda month: tmp_path / "access" / f"audit-{month}.jsonl")


def lines(tmp_path, month="2026-11"):
    text = (tmp_path / "access" / f"audit-{month}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_each_month_has_a_private_file_with_a_line_for_each_event(log, tmp_path):
    for at in ("2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z", "2026-12-01T00:00:01Z"):
        log.write({"at": at, "who": "ann\nroot"})
    assert lines(tmp_path) == [{"at": "2026-11-30T23:59:59Z", "who": "ann\nroot"}]
    assert len(lines(tmp_path, "2026-12")) == 2
    path = tmp_path / "access" / "audit-2026-12.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_refusals_beyond_the_limit_are_counted_and_writes_are_never_left_out(log, tmp_path):
    for _ in range(MAX_REFUSALS + 5):
        log.write({"at": "2026-11-28T10:00:30Z"}, is_refusal=True)
    log.write({"at": "2026-11-28T10:00:40Z", "write": 1})
    log.write({"at": "2026-11-28T10:01:00Z"}, is_refusal=True)
    *refusals, write, left_out, last = lines(tmp_path)
    assert (len(refusals), write["write"], left_out["left_out"]) == (MAX_REFUSALS, 1, 5)
    assert "left_out" not in last


def test_full_disk_is_logged_once_and_breaks_nothing(log, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", fail)
        for _ in range(3):
            log.write({"at": "2026-11-28T10:00:00Z"})
    assert caplog.text.count("No space left on device") == 1
    log.write({"at": "2026-11-28T10:00:01Z"})
    assert lines(tmp_path) == [{"at": "2026-11-28T10:00:01Z"}]


def test_line_after_a_torn_one_is_whole(log, tmp_path, monkeypatch):
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        log.write({"at": "2026-11-28T10:00:00Z"})
    log.write({"at": "2026-11-28T10:00:01Z"})
    text = (tmp_path / "access" / "audit-2026-11.jsonl").read_text()
    assert json.loads(text.splitlines()[-1]) == {"at": "2026-11-28T10:00:01Z"}


def test_link_in_place_of_the_file_is_not_followed(log, tmp_path, caplog):
    (tmp_path / "access").mkdir()
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / "access" / "audit-2026-11.jsonl").symlink_to(tmp_path / "victim")
    log.write({"at": "2026-11-28T10:00:00Z"})
    assert (tmp_path / "victim").read_text() == "theirs"
    assert "not recorded" in caplog.text
