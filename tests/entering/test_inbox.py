"""The folder for filled-in sheets: each is read once, with a verdict for each line."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest

import fullprocess
from attrition import idle
from attrition.contacts import log
from attrition.entering import inbox
from attrition.storage import files, tables
from tests.conftest import ROOT, run_whole
from tests.entering.sheets import HEADINGS, write
from tests.support import settle

ANSWERS = [
    HEADINGS,
    ["now0", "reached", "=1+1", "", "Ann"],
    ["now1", "called", "", "", "Ann"],
    ["now2", "", "", "", ""],
]
TEXT = "contacts: 1 line of anna.xlsx saved, 1 refused (line 3: outcome: is 'called', expected "


def drop(config, lines=ANSWERS, name="anna.xlsx", *, is_settled=True):
    """Copy a sheet into the inbox."""
    config.inbox.mkdir(parents=True, exist_ok=True)
    path = config.inbox / name
    path.write_bytes(lines if isinstance(lines, bytes) else write(lines))
    if is_settled:
        settle(path)
    return path


def verdicts(config):
    (path,) = (config.inbox / "read").glob("*-verdicts.csv")
    return [
        (row["line"], row["client"], row["verdict"])
        for row in tables.parse_dicts(path.read_bytes())
    ]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def clients_entered(config):
    return [entry.client for entry in log.read(config.contact_log)[0]]


def test_a_sheet_is_read_and_moved_with_a_verdict_for_each_line(project, monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: "2026-11-28T09:00:00Z")
    path = drop(project)
    data = path.read_bytes()
    (text,) = inbox.read_inbox(project)
    assert text.startswith(TEXT)
    assert names(project.inbox) == []
    assert names(project.inbox / "read") == [
        *("anna-20261128T090000Z-verdicts.csv", "anna-20261128T090000Z.xlsx"),
    ]
    assert (project.inbox / "read" / "anna-20261128T090000Z.xlsx").read_bytes() == data
    assert verdicts(project) == [
        *(("2", "now0", "saved"), ("3", "now1", "refused"), ("4", "now2", "nothing filled in")),
    ]
    (entry,) = log.read(project.contact_log)[0]
    assert (entry.via, entry.note, entry.by) == ("sheet anna.xlsx", "=1+1", "Ann")
    drop(project, name="anna.xlsx")
    (text,) = inbox.read_inbox(project)
    assert text.startswith("contacts: 0 lines of anna.xlsx saved, 1 saved before, 1 refused")
    assert len(names(project.inbox / "read")) == 4 and clients_entered(project) == ["now0"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"PK\x03\x04", "not an .xlsx workbook"),
        (b"%PDF-1.4", "found a PDF"),
        (write([["a"], ["b"]]), "expected the columns client, outcome, note and follow-up"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused_as_a_whole_and_moved(project, data, reason):
    drop(project, data)
    (text,) = inbox.read_inbox(project)
    assert text.startswith("contacts: anna.xlsx refused: ") and reason in text
    assert verdicts(project) == [("0", "", "refused")]
    assert names(project.inbox) == [] and not project.contact_log.exists()


def test_what_is_being_written_is_no_sheet_or_is_left_until_it_has_settled(project):
    (project.inbox / "folder").mkdir(parents=True)
    os.symlink(project.file, project.inbox / "link.csv")
    os.mkfifo(project.inbox / "pipe.csv")
    for name in (".hidden.xlsx", "~$anna.xlsx", "anna.xlsx.part"):
        drop(project, name=name)
    assert inbox.find_sheets(project) == {}
    path = drop(project, is_settled=False)
    assert ([*inbox.find_sheets(project)], inbox.find_settled(project)) == ([path], [])
    assert inbox.read_inbox(project) == [] and path.exists()
    os.utime(path, (1e11, 1e11))
    assert inbox.find_settled(project) == [path]


def test_an_inbox_that_cannot_be_read_is_reported_and_stops_no_run(project, caplog):
    shutil.rmtree(project.inbox, ignore_errors=True)
    assert inbox.find_sheets(project) == {}
    assert not caplog.text
    project.inbox.write_text("no folder")
    assert inbox.find_sheets(project) == {}
    assert "Not a directory; no sheet is read" in caplog.text


def test_a_sheet_waits_until_there_are_clients(empty_project):
    path = drop(empty_project)
    assert inbox.read_inbox(empty_project) == [] and path.exists()


@pytest.mark.parametrize("step", ["append", "write_bytes", "rename"])
def test_a_process_killed_anywhere_stores_each_line_exactly_once(project, monkeypatch, step):
    owner = {"append": log, "write_bytes": files, "rename": os}[step]
    work = getattr(owner, step)

    class Killed(BaseException):
        pass

    def killed(*arguments, **options):
        work(*arguments, **options)
        raise Killed

    drop(project)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, step, killed)
        inbox.read_inbox(project)
    inbox.read_inbox(project)
    assert clients_entered(project) == ["now0"]
    assert names(project.inbox) == []
    assert [name for name in names(project.inbox / "read") if name.endswith(".xlsx")]


def test_a_sheet_stays_while_the_log_is_busy_or_it_is_replaced(project, monkeypatch, caplog):
    path = drop(project)
    with monkeypatch.context() as patch:
        error = log.AttritionError("the contact log cannot be written now")
        patch.setattr(log, "append", lambda *_, **__: (_ for _ in ()).throw(error))
        assert inbox.read_inbox(project) == []
    assert "anna.xlsx: the contact log cannot be written now; it stays" in caplog.text
    put_away = inbox._put_away

    def replaced(*arguments):
        drop(project, [HEADINGS, ["now5", "reached", "", "", "Ann"]])
        put_away(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_put_away", replaced)
        assert inbox.read_inbox(project) == []
    assert path.exists() and clients_entered(project) == ["now0"]
    inbox.read_inbox(project)
    assert clients_entered(project) == ["now0", "now5"]


def test_the_run_reads_the_inbox_first_and_the_next_run_is_idle(project, capsys):
    config = str(project.file)
    assert run_whole(project) == 0
    assert idle.is_current(config)
    path = drop(project, is_settled=False)
    assert not idle.is_current(config)
    assert run_whole(project) == 0  # it may still be being written
    assert path.exists() and not idle.is_current(config)
    settle(path)
    assert fullprocess.find_reason(project) == f"there are sheets in {project.inbox}"
    capsys.readouterr()
    assert fullprocess.main(["--config", config]) == 0
    out = capsys.readouterr().out
    assert out.startswith(TEXT) and "\nassessment: " in out
    assert fullprocess.find_reason(project) is None
    record = files.read_record(project.assessment_record)
    assert record["inputs"]["contacts"].startswith("1 ")
    assert "now0" not in project.contact_list.read_text(encoding="utf-8-sig")


def test_the_command_reads_the_inbox(project):
    drop(project)
    command = [sys.executable, "-m", "attrition.entering.inbox", "--config", str(project.file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith(TEXT)
    assert clients_entered(project) == ["now0"]
    assert datetime.now(UTC).date().isoformat() == log.read(project.contact_log)[0][0].at[:10]
