"""What is not used stands wherever people look; what would only repeat is neither paid nor mailed."""

import pandas as pd
import pytest
from pypdf import PdfReader

import app as api
import fullprocess
import ingestion
from attrition.storage import files
from tests.conftest import make_rows, run_whole, write_config
from tests.support import put, reconfigure, settle

ROWS = make_rows(40, seed=7, prefix="odd")
CSV = ROWS.to_csv(index=False)
BAD = ROWS.assign(lastmonth_activity="many").to_csv(index=False)
UNUSABLE = ["encoding.csv", "old.xls", "header.csv", "rows.csv", "folder.csv"]


def spoil(config):
    """Put five files that are unusable for five reasons."""
    put(config, "encoding.csv", CSV.replace("odd1", "Müller").encode("cp1252"))
    put(config, "old.xls", b"\xd0\xcf\x11\xe0")
    put(config, "header.csv", CSV.replace("exited", "gone"))
    put(config, "rows.csv", BAD)
    (config.input_folder / "folder.csv").mkdir()


def mend(config):
    put(config, "encoding.csv", CSV.replace("odd1", "Müller"))
    put(config, "header.csv", CSV.replace("odd", "even"))
    put(config, "rows.csv", CSV.replace("odd", "other"))
    (config.input_folder / "old.xls").unlink()
    (config.input_folder / "folder.csv").rmdir()


def places(config, capsys, *more):
    """Run once; return the text of every place where people look."""
    code = fullprocess.main(["--config", str(config.file), *more])
    printed = capsys.readouterr()
    client = api.create_app(config).test_client()
    pages = [page.extract_text() for page in PdfReader(config.report).pages]
    return code, {
        "terminal": printed.err + printed.out,
        "health": " ".join(client.get("/health").json["warnings"]),
        "dashboard": client.get("/data").text,
        "first page": pages[0],
        "report": " ".join("".join(pages).split()),
    }


def test_what_is_unusable_stands_everywhere_until_it_is_mended(project, capsys):
    spoil(project)
    code, texts = places(project, capsys)
    assert code == 0
    for place, text in texts.items():
        assert all(name in text for name in UNUSABLE), place
        if place != "first page":
            assert text.count("remove it, or name it in ignore_files") >= 5, place
    health = api.create_app(project).test_client().get("/health").json
    assert (health["status"], health["complaints"]) == ("degraded", ["unused"])
    assert "gone" not in " ".join(health["warnings"])  # no content of a file
    last_lines = texts["terminal"].splitlines()[-3:]
    assert last_lines[0].startswith("not used: encoding.csv (ENCODING), folder.csv (NOT_REGULAR)")
    # The day's mail: once at the first tick, not again on the same day, and again on the next.
    mails = []
    for day in ("2026-11-28", "2026-11-28", "2026-11-29"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "utc_now", lambda day=day: f"{day}T08:00:00Z")
            assert run_whole(project) == 0
        mails.append(capsys.readouterr())
    assert [mail.out for mail in mails] == ["", "", ""]
    assert all(name in mails[i].err for name in UNUSABLE for i in (0, 2))
    assert mails[1].err == ""
    mend(project)
    code, texts = places(project, capsys)
    assert code == 0
    for place, text in texts.items():
        assert not any(f"not used: {name}" in text for name in UNUSABLE), place
        assert "ignore_files" not in text, place
    assert api.create_app(project).test_client().get("/health").json["status"] == "ok"


def test_damaged_notices_are_reported_and_written_again(project, capsys):
    put(project, "a.zip", b"PK")
    run_whole(project)
    project.notices.write_bytes(b"{}")
    put(project, "b.csv", CSV)
    capsys.readouterr()
    assert run_whole(project) == 0
    assert "notices.json: is not what was written; it is made again" in capsys.readouterr().err
    assert files.read_record(project.notices)


# ---- runs that fail


def test_a_first_run_without_a_row_names_the_cause(empty_project, capsys):
    spoil(empty_project)
    assert run_whole(empty_project) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no usable row so far" in last
    assert all(f"not used: {name} (" in last for name in UNUSABLE)


@pytest.mark.parametrize(
    "rows",
    [
        "nothing",
        make_rows(50).assign(exited=1),
        make_rows(50).assign(exited=""),
        make_rows(600).assign(leak=lambda rows: rows["exited"] * 5),
    ],
    ids=["no rows", "one class", "no outcome", "leakage"],
)
def test_a_failure_of_the_inputs_is_paid_and_mailed_once(empty_project, capsys, monkeypatch, rows):
    config = empty_project
    if isinstance(rows, pd.DataFrame):
        if "leak" in rows:
            names = ["lastmonth_activity", "leak"]
            config = reconfigure(config, columns={"numeric": names})
        rows.to_csv(config.input_folder / "rows.csv", index=False)
        settle(config.input_folder / "rows.csv")
    asked = []
    monkeypatch.setattr(fullprocess, "ask_latest", lambda names: asked.append(names) or {})
    assert run_whole(config) == 1
    first = capsys.readouterr().err
    assert first.strip()
    with monkeypatch.context() as patch:
        patch.setattr(fullprocess, "process", None)
        assert run_whole(config) == 1
        assert capsys.readouterr().err == ""
        assert fullprocess.main(["--config", str(config.file)]) == 1
        assert first.splitlines()[-1].split(": ", 1)[1] in capsys.readouterr().err
    assert config.diary.read_text().count(first.splitlines()[-1].split("Z ")[1]) == 3
    assert asked == []
    make_rows(600, seed=3).to_csv(config.input_folder / "more.csv", index=False)
    if isinstance(rows, str):
        assert run_whole(config) == 0
        assert not config.notices.exists()


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "full"), KeyboardInterrupt()])
def test_a_failure_that_may_pass_is_tried_again(empty_project, capsys, monkeypatch, error):
    put(empty_project, "a.csv", CSV)
    calls = []

    def fail(config, **_):
        calls.append(config)
        raise error

    monkeypatch.setattr(ingestion, "ingest_new_data", fail)
    for _ in range(2):
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                run_whole(empty_project)
        else:
            assert run_whole(empty_project) == 1
    assert len(calls) == 2


def test_last_lines_name_the_command_for_this_project(tmp_path):
    config = write_config(tmp_path / "R&D co")
    command = fullprocess.command_to_serve(config)
    assert command == f"python app.py --config '{config.file}'"


def test_a_file_that_arrives_during_a_failing_run_is_read_by_the_next(empty_project, monkeypatch):
    def deliver(config, ingested):
        make_rows(9).assign(exited=1).to_csv(config.input_folder / "late.csv", index=False)
        return "no rows"

    with monkeypatch.context() as patch:
        patch.setattr(fullprocess, "describe_no_rows", deliver)
        assert run_whole(empty_project) == 1
    assert run_whole(empty_project) == 1  # nobody stayed
    assert "late.csv" in empty_project.ingested_files.read_text()
