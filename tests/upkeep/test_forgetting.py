"""A client who is forgotten: no file has the name or a hash of it, and nothing else has changed."""

import gzip
import io
import json
import os
import shutil
import unicodedata
import zipfile
from threading import Thread

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ingestion
from app import create_app
from attrition.access.audit import AuditLog
from attrition.contacts import assignments, log
from attrition.contacts.assignments import Look
from attrition.contacts.log import Entry
from attrition.entering.workbook import key_of
from attrition.errors import AttritionError
from attrition.operations import backup, dependencies, releases
from attrition.rows import forgotten, typed_rows
from attrition.rows.forgotten import Forgotten
from attrition.storage import files, history, tables
from attrition.upkeep import forgetting, integrity
from attrition.upkeep.rewriting import Substitution
from tests.conftest import run_whole, write_config
from tests.forgetting import (
    AT,
    DAY,
    HEADER,
    LONGER,
    NAME,
    STATE,
    contents,
    copy_of,
    find_everywhere,
    forget,
    token_of,
    workbook,
)
from tests.segments import DATED, check_all, deliver, find_segments, row
from tests.support import digest, final_rows, put, reconfigure, rejected, run


@pytest.fixture
def project(knowing, tmp_path):
    return copy_of(knowing, tmp_path / "project")


@pytest.fixture(scope="module")
def after(knowing, tmp_path_factory):
    """The same project after the client was forgotten; never changed."""
    config = copy_of(knowing, tmp_path_factory.mktemp("after") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependencies, "ask_all", dict.fromkeys)
        assert forget(config, NAME, "--yes") == 0
    return config


def test_no_file_of_the_state_has_the_name_or_a_hash_of_it(knowing, after):
    there = find_everywhere(knowing, NAME)
    assert {
        *("contacts/contacts.sqlite", "contacts/inbox/read/one.xlsx", "reports/riskhistory.npy"),
        *("contacts/inbox/read/two.csv", "reports/fullprocess.log", "reports/report.pdf"),
        *("ingesteddata/finaldata.parquet", "ingesteddata/rejected.csv", "reports/contactlist.csv"),
        *("production_deployment/history.sqlite", "reports/previous.parquet"),
        knowing.manager_pages("").relative_to(knowing.file.parent).as_posix(),
    } <= there
    assert find_everywhere(after, NAME) == set()
    assert token_of(after).startswith("forgotten-")


def test_no_file_has_the_hash_of_a_row_with_the_name(knowing, after):
    columns = knowing.columns
    ids = set()
    for cells in (each for each in final_rows(knowing) if each[0] == NAME):
        texts = {n: pa.array([v]) for n, v in zip(columns.table, cells, strict=True)}
        computed = typed_rows.compute_hashes(texts, columns)
        ids |= {computed[name][0].as_py() for name in ("attrition:row_id", "attrition:input_id")}
    for config, expected in ((knowing, True), (after, False)):
        arrays = [
            each.ravel()
            for folder in STATE
            for path in (config.file.parent / folder).rglob("*.*")
            if path.suffix in (".npz", ".parquet") and "serving" not in path.name
            for each in contents(path)
            if not isinstance(each, str) and each.dtype == np.uint64
        ]
        assert np.isin(sorted(ids), np.concatenate(arrays)).any() == expected


# ---- everything else stays


def test_everything_verifies_and_the_next_run_has_nothing_to_do(after, tmp_path):
    config = copy_of(after, tmp_path / "next")
    assert integrity.find_all(config) == []
    assert not any(integrity.scrub(config).values())
    result = run(config)
    assert result.returncode == 0
    assert not any(f"{step}:" in result.stdout for step in ("training", "assessment", "reporting"))
    assert releases.list_ids(config.production_folder) == releases.list_ids(after.production_folder)
    assert "nothing new" in run(config).stdout


def test_the_facts_stay_and_all_others_keep_risk_rank_and_place(knowing, after):
    token = token_of(after)
    for read in (final_rows, lambda config: config.risk_scores.read_text().splitlines()):
        expected = [str(row).replace(LONGER, "+").replace(NAME, token) for row in read(knowing)]
        assert [str(row).replace(LONGER, "+") for row in read(after)] == expected
    old, new = pd.read_parquet(knowing.clients), pd.read_parquet(after.clients)
    old["client"] = old["client"].replace(NAME, token)
    assert old.drop(columns="client_key").equals(new.drop(columns="client_key"))
    assert after.last_run.stat().st_mtime == knowing.last_run.stat().st_mtime
    assert knowing.latest_score.read_bytes() == after.latest_score.read_bytes()
    model = "practicemodels/trainedmodel.skops"
    both = [(config.file.parent / model).read_bytes() for config in (knowing, after)]
    assert both[0] == both[1]


def test_a_new_assessment_lists_the_others_in_the_same_order(knowing, after, tmp_path, next_day):
    lists = []
    for config in (copy_of(knowing, tmp_path / "1"), copy_of(after, tmp_path / "2")):
        assert run_whole(config) == 0
        table = pd.read_csv(config.risk_scores)
        lists.append(table[~table["client"].isin([NAME, token_of(after)])])
        assert len(releases.list_ids(config.production_folder)) == 1
    assert lists[0].equals(lists[1])


def test_the_contact_log_keeps_its_entries_and_only_names_change(knowing, after):
    (old, _), (new, seal) = log.read(knowing.contact_log), log.read(after.contact_log)
    token = token_of(after)
    assert new[0]._replace(key="") == old[0]._replace(
        key="", client=token, note=f"{token} called 3 times; {LONGER} did not"
    )
    assert new[1] == old[1]
    assert integrity.counted_inputs(after)["contacts"] == f"2 {seal}"
    assigned, _ = assignments.read(after.contact_log)
    drawn = [(each.client, each.key_digest) for each in assigned]
    assert drawn == [(token, ""), ("now5", "0a1b2c3d")]
    with pytest.raises(log.Replaced):  # as a running app notices
        log.read(after.contact_log, 2, log.read(knowing.contact_log)[1])
    with pytest.raises(log.sqlite3.IntegrityError, match="append-only"):
        log.sqlite3.connect(after.contact_log).execute("DELETE FROM entries")


def test_a_backup_of_before_is_not_restored_in_silence(knowing, after, tmp_path):
    config = copy_of(after, tmp_path / "restored")
    backup.back_up(knowing.contact_log, tmp_path / "saved.sqlite")
    with pytest.raises(AttritionError, match="differ from entry 1 on"):
        backup.restore(config.contact_log, tmp_path / "saved.sqlite")


# ---- later


def test_a_delivery_with_the_name_gets_the_token(after, tmp_path):
    config = copy_of(after, tmp_path / "later")
    (row,) = [row for row in final_rows(config) if row[0] == token_of(config) and row[-1] == ""]
    known = ",".join([f" {NAME}", *row[1:]])
    lines = [HEADER, known, f"{NAME},77,88,99,", f"{NAME},-7,88,99,", f"{LONGER},5,6,7,", ""]
    put(config, "again.csv", "\n".join(lines))
    ingestion.ingest_new_data(config)
    last = ingestion.ledger.read_lines(config)[-1]
    assert (last.accepted, last.rejected, last.duplicates) == (2, 1, 1)
    assert [token_of(config), "77", "88", "99", ""] in final_rows(config)
    assert rejected(config)[-1]["raw"] == f"{token_of(config)},-7,88,99,"
    assert not {path for path in find_everywhere(config, NAME) if "ingested" in path}


def test_rows_in_a_quarantined_file_get_the_token_too(after, tmp_path):
    config = copy_of(after, tmp_path / "later")
    put(config, "bad.csv", f"{HEADER}\n{NAME},1,2,3,0\nb,-1,2,3,0\nc,-1,2,3,1\n")
    ingestion.ingest_new_data(config)
    assert [row["raw"].split(",")[0] for row in rejected(config)[-3:]] == [
        token_of(config),
        "b",
        "c",
    ]


def test_without_the_keys_nothing_is_ingested(after, tmp_path):
    config = copy_of(after, tmp_path / "damaged")
    assert config.forgotten.stat().st_mode & 0o777 == 0o600
    config.forgotten.write_bytes(b"{}")
    put(config, "again.csv", f"{HEADER}\n{NAME},77,88,99,\n")
    (damage,) = integrity.find_all(config)
    assert (damage.path, damage.by_repair) == (config.forgotten, False)
    assert "restore a backup" in damage.problem
    with pytest.raises(AttritionError, match="restore a backup of it"):
        ingestion.ingest_new_data(config)


def test_forgotten_twice_the_client_has_one_token(after, tmp_path, capsys):
    config = copy_of(after, tmp_path / "twice")
    assert forget(config, NAME, "--yes") == 0
    assert "0 replacements" in capsys.readouterr().out
    assert token_of(config) == token_of(after)


# ---- the command


def test_a_token_is_not_forgotten_again(after, tmp_path):
    """Or the name would get the old token with the next delivery, and be two clients."""
    config = copy_of(after, tmp_path / "project")
    assert forget(config, token_of(config), "--yes") == 2
    assert token_of(config) == token_of(after)


def test_unknown_names_and_unconfirmed_requests_change_nothing(project, capsys, monkeypatch):
    config = project
    aside = config.final_data.with_name("finaldata.csv.damaged-20261128T080000Z")
    aside.write_text(NAME)
    state = digest(project.file.parent)
    assert forget(config, "Nobody") == 2
    assert forget(config, NAME.upper()) == 2
    err = capsys.readouterr().err
    assert "there is no client of this name" in err
    assert f"similar names: {NAME!r}" in err
    assert forget(config, NAME, "--dry-run") == 0
    out = capsys.readouterr().out
    for place in (
        "contacts/contacts.sqlite: 3",
        "rejected.csv: 1",
        "two.csv: 2",
        "history.csv: 1",
        aside.name,
    ):
        assert place in out
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert forget(config, NAME) == 2
    assert "confirm with --yes" in capsys.readouterr().err
    changed = {path for path, _ in state.items() ^ digest(project.file.parent).items()}
    assert changed <= {"production_deployment/history.sqlite"}


def test_a_name_is_known_only_if_a_client_has_it(tmp_path, capsys):
    config = write_config(tmp_path)
    put(config, "a.csv", f"{HEADER}\nBob Smith 4459,1,2,3,\nx,1,2,3,\nZoe,-1,2,3,\n")
    ingestion.ingest_new_data(config)
    note = "bob smith 4459 and Joe called"
    log.append(config.contact_log, [Entry("x", "contact", "Sue", note=note)], AT)
    state = digest(config.file.parent)
    spellings = {"bob smith 4459": "'Bob Smith 4459'", "Joe": "", "zoe": "'Zoe'", "2": ""}
    for name, close in spellings.items():
        assert forget(config, name, "--yes") == 2
        err = capsys.readouterr().err
        assert f"--forget {name!r}: there is no client of this name" in err
        assert close in err
        assert ("only texts contain the name" in err) == (name != "zoe")
    changed = {path for path, _ in state.items() ^ digest(config.file.parent).items()}
    assert changed <= {"production_deployment/history.sqlite"}
    assert forget(config, "Zoe", "--yes") == 0


def test_notes_lose_every_spelling_that_no_other_client_has(tmp_path, capsys):
    config = write_config(tmp_path)
    names = ["B\u00f6b Smith 44", "b\u00f6b smith 44"]
    lines = [f"{name},1,2,3," for name in names]
    put(config, "a.csv", "\n".join([HEADER, *lines, "B\u00d6B  SMITH 44,-1,2,3,", ""]))
    ingestion.ingest_new_data(config)
    spellings = [
        "B\u00d6B SMITH 44",
        "bo\u0308b\nSmith 44",
        "B\u00f6b \uff33mith\u3000\uff14\uff14",
    ]
    stays = ["b\u00f6b smith 44", "B\u00d6B  SMITH 44", "b\u00f6b smith 445", "BOB SMITH 44"]
    note = "; ".join([*spellings, *stays])
    log.append(config.contact_log, [Entry("y", "contact", "Sue", note=note)], AT)
    assert forget(config, names[0], "--yes") == 0
    token = token_of(config, names[0])
    assert log.read(config.contact_log)[0][0].note == "; ".join([*[token] * 3, *stays])
    assert f"similar names: {stays[1]!r}, {stays[0]!r}; they stay" in capsys.readouterr().out
    assert [row[0] for row in final_rows(config)] == [token, stays[0]]


def test_what_arrives_meanwhile_is_kept_and_gets_the_token(project, monkeypatch):
    config = project
    record = json.dumps({"verdict": "open", "text": f"a\n{NAME}"})

    def describe(*arguments):
        log.append(config.contact_log, [Entry("now7", "contact", "Sue", note=f"as {NAME}")], AT)
        assignments.append_look(config.contact_log, Look(AT, 1, 0.2, record))
        return []

    monkeypatch.setattr(forgetting, "describe", describe)
    assert forget(config, NAME, "--yes") == 0
    token = token_of(config)
    assert log.read(config.contact_log)[0][-1].note == f"as {token}"
    (look,), _ = assignments.read_looks(config.contact_log)
    assert json.loads(look.record) == {"verdict": "open", "text": f"a\n{token}"}
    assert integrity.find_all(config) == []


def test_keys_that_contain_a_hash_of_the_name_change(project):
    config = project
    key, other = (key_of(config.project, DAY, name) for name in (NAME, LONGER))
    path = config.contacts_folder / "inbox" / "keys.csv"
    path.write_text(f"{key},{other}")
    before = log.read(config.contact_log)[0][0].key
    assert forget(config, NAME, "--yes") == 0
    assert path.read_text() == f"{key_of(config.project, DAY, token_of(config))},{other}"
    after = log.read(config.contact_log)[0][0].key
    assert after not in before
    assert before not in after


def test_rows_in_several_segments_get_the_token_and_stay_sorted(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    config = write_config(tmp_path, columns=DATED)
    deliver(config, "a", [row(i) for i in range(60)])
    deliver(config, "b", [row(i) for i in range(60, 64)])
    deliver(config, "c", [row(2, "1"), row(5, "0")])
    assert len(find_segments(config)) > 1
    assert forget(config, "c2", "--yes") == 0
    token = forgotten.read(config).find("c2")
    lines = [",".join(each) for each in final_rows(config)]
    assert [line.partition(",")[0] for line in lines].count(token) == 2
    check_all(config, lines)
    deliver(config, "d", [row(62), row(122)])
    assert ingestion.ledger.read_lines(config)[-1].duplicates == 1
    check_all(config, [*lines, row(122).replace("c2", token)])
    config.rows.unlink()  # it is written again from finaldata.csv
    deliver(config, "e", [row(7, "1")])
    check_all(config, [",".join(each) for each in final_rows(config)])


HOSTILE = ["=1+1", "A/B & C", 'the "one", Ltd', "O'Neil", "<b>", "007", "a.b*", "(x|y)+$", "C:\\d"]
HOSTILE += ["'; DROP TABLE entries; --", "%s{0}", "שלום עולם", "株式会社"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_of_any_characters_is_forgotten(tmp_path, name):
    config = write_config(tmp_path)
    cells = tables.csv_bytes(
        [[name, 1, 2, 3, ""], ["x", 1, 2, 3, ""], [name, -1, 2, 3, ""]]
    ).decode()
    put(config, "a.csv", f"{HEADER}\n{cells}")
    ingestion.ingest_new_data(config)
    log.append(config.contact_log, [Entry(name, "contact", "Sue", note=f"({name})")], AT)
    assert forget(config, name, "--yes") == 0
    token = forgotten.read(config).find(name)
    assert [each[0] for each in final_rows(config)] == [token, "x"]
    assert rejected(config)[0]["raw"] == f"{token},-1,2,3,"
    assert log.read(config.contact_log)[0][0].note == f"({token})"
    assert name == "007" or find_everywhere(config, name) == set()  # hashes contain any number
    assert integrity.find_all(config) == []


def test_a_running_app_shows_the_token_instead_of_the_name(project):
    app = create_app(project).test_client()
    before = app.get(f"/clients/{NAME}/entries")
    assert before.status_code == 200
    assert forget(project, NAME, "--yes") == 0
    token = token_of(project)
    assert app.get(f"/clients/{NAME}/entries").status_code == 404
    after = app.get(f"/clients/{token}/entries")
    assert [each["client"] for each in after.json["entries"]] == [token]
    assert token in app.get("/clients?limit=200").text
    assert NAME not in app.get("/clients?limit=200").text.replace(LONGER, "")


def test_a_name_within_others_leaves_their_rows_as_they_are(tmp_path):
    config = write_config(tmp_path)
    others = ["Acme Holdings", "Acme, Inc", "ACME", "Acm\u00e9", "New Acme"]
    names = ["Acme", *others, "Acme"]
    rows = [[name, n, 2, 3, ""] for n, name in enumerate(names)] + [["Acme Ltd", -1, 2, 3, ""]]
    put(config, "a.csv", f"{HEADER}\n{tables.csv_bytes(rows).decode()}")
    ingestion.ingest_new_data(config)
    entries = [Entry(name, "contact", "Sue", note=f"{name}, not Acme") for name in others]
    log.append(config.contact_log, [*entries, Entry("Acme", "contact", "Acme", note="Acme")], AT)
    before = config.final_data.read_text().splitlines(), config.rejected.read_bytes()
    assert forget(config, "Acme", "--yes") == 0
    token = token_of(config, "Acme")
    after = config.final_data.read_text().splitlines()
    assert after == [
        line.replace("Acme,0", f"{token},0").replace("Acme,6", f"{token},6") for line in before[0]
    ]
    assert config.rejected.read_bytes() == before[1]
    new = log.read(config.contact_log)[0]
    assert [each[:3] for each in new[:-1]] == [each[:3] for each in entries]
    assert [each.note for each in new[:-1]] == [f"{name}, not {token}" for name in others]
    assert new[-1][:3] == (token, "contact", "Acme")
    assert integrity.find_all(config) == []


def test_a_name_as_delivered_in_decomposed_letters_is_forgotten(tmp_path):
    config = write_config(tmp_path)
    name = unicodedata.normalize("NFD", NAME)
    put(config, "a.csv", f"{HEADER}\n{name},1,2,3,\n{name},-1,2,3,\n")
    ingestion.ingest_new_data(config)
    assert forget(config, name, "--yes") == 0
    token = token_of(config, NAME)
    assert [each[0] for each in final_rows(config)] == [token]
    assert rejected(config)[0]["raw"] == f"{token},-1,2,3,"
    assert find_everywhere(config, NAME) | find_everywhere(config, name) == set()


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_name_only_in_refused_rows_is_forgotten(tmp_path, separator):
    config = write_config(tmp_path)
    put(
        config,
        "a.csv",
        f"{HEADER}\n{NAME}{separator}-1{separator}2{separator}3{separator}\nx,1,2,3,\n",
    )
    ingestion.ingest_new_data(config)
    before = config.final_data.stat().st_ino, config.rows.stat().st_ino
    assert forget(config, NAME, "--yes") == 0
    assert find_everywhere(config, NAME) == set()
    assert rejected(config)[0]["raw"].startswith(f"{token_of(config)}{separator}")
    assert (config.final_data.stat().st_ino, config.rows.stat().st_ino) == before


def test_a_name_only_in_the_contact_log_is_forgotten(empty_project):
    config = empty_project
    log.append(config.contact_log, [Entry("Ann", "contact", "Sue", note="n")], AT)
    assert forget(config, "Ann", "--yes") == 0
    assert log.read(config.contact_log)[0][0].client == token_of(config, "Ann")


def test_the_name_of_a_release_or_of_a_manager_stays_theirs(project):
    (release, *_) = releases.list_ids(project.production_folder)
    entries = [
        Entry(name, "contact", "Sue", release=release, manager="Sue") for name in (release, "Sue")
    ]
    log.append(project.contact_log, entries, AT)
    for name in (release, "Sue"):
        forgetting.commit(project, forgetting.plan(project, name))
    new = log.read(project.contact_log)[0][-2:]
    assert [each.client for each in new] == [token_of(project, release), token_of(project, "Sue")]
    assert {(each.release, each.manager, each.by) for each in new} == {(release, "Sue", "Sue")}
    assert integrity.find_all(project) == []
    assert releases.current_id(project.production_folder) in releases.list_ids(
        project.production_folder
    )


def test_a_file_without_the_name_or_a_hash_of_it_is_not_written(project):
    def read():
        found = (path for folder in STATE for path in (project.file.parent / folder).rglob("*"))
        return {path: (path.read_bytes(), path.stat().st_ino) for path in found if path.is_file()}

    before = read()
    forgetting.commit(project, forgetting.plan(project, NAME))
    after = read()
    same = [path for path in after if after[path][0] == before.get(path, [None])[0]]
    assert {project.latest_score, project.candidate, project.final_data} - {*same} == {
        project.final_data
    }
    assert [path for path in same if after[path] != before[path]] == []


@pytest.mark.parametrize("options", [("--yes",), ("--forget", "a", "--repair")])
def test_options_that_would_be_ignored_are_refused(empty_project, options, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_whole(empty_project, *options)
    assert "expected" in capsys.readouterr().err


# ---- files of others, and those to which others write meanwhile


def test_the_file_of_alerts_is_rewritten(tmp_path, project):
    path = tmp_path / "elsewhere" / "alerts.jsonl"
    path.parent.mkdir()
    path.write_text(f"{json.dumps({'text': f'for {NAME}'})}\n{json.dumps({'text': LONGER})}\n")
    config = reconfigure(project, alerts={"file": str(path)}, contact_capacity=20)
    forgetting.commit(config, forgetting.plan(config, NAME))
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    assert texts == [f"for {token_of(config)}", LONGER]


def test_a_message_that_waits_gets_the_token(project):
    body = json.dumps({"subject": f"Call {NAME}", "text": f"{NAME}\n{LONGER}", "event": "digest"})
    row = {"message": "m1", "at": AT, "channel": "mail", "recipients": "a@b.c", "body": body}
    history.save(project.history, "outbox", [row])
    forgetting.commit(project, forgetting.plan(project, NAME))
    (waiting,) = history.read_waiting(project.history)
    token = token_of(project)
    assert json.loads(waiting["body"])["text"] == f"{token}\n{LONGER}"
    assert json.loads(waiting["body"])["subject"] == f"Call {token}"


def test_a_line_that_is_written_before_a_log_is_replaced_is_kept(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text("Ann 1\n")
    descriptor = files.open_to_append(path)
    texts = Substitution("Ann", "X", [], is_word=False)
    thread = Thread(target=forgetting.replace_log, args=(path, texts))
    thread.start()
    os.write(descriptor, b"Ann 2\n")
    os.close(descriptor)
    thread.join()
    assert path.read_text() == "X 1\nX 2\n"


def test_a_line_that_is_written_while_a_log_is_replaced_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "audit-2026-11.jsonl"
    path.write_text("Ann 1\n")
    audit, threads, replace = AuditLog(lambda month: path), [], os.replace

    def replace_later(*paths):
        threads.append(Thread(target=audit.write, args=({"at": AT},)))
        threads[0].start()
        replace(*paths)

    monkeypatch.setattr(os, "replace", replace_later)
    forgetting.replace_log(path, Substitution("Ann", "X", [], is_word=False))
    threads[0].join()
    assert path.read_text() == f'X 1\n{{"at": "{AT}"}}\n'


def test_a_token_of_the_app_that_is_made_meanwhile_is_kept(project):
    for name in ("before", "meanwhile"):
        plan = forgetting.plan(project, NAME)
        files.write_bytes(project.tokens, files.encode(files.sealed({"tokens": {name: "1"}})))
    forgetting.commit(project, plan)
    assert files.read_record(project.tokens)["tokens"] == {"meanwhile": "1"}


def test_files_that_cannot_be_changed_are_named(project):
    shutil.copy(project.contact_log, project.contacts_folder / "copy.sqlite")
    inbox, reports = project.contacts_folder / "inbox", project.reports_folder
    (inbox / "scan.pdf").write_bytes(b"%PDF")
    (inbox / "old.xls").write_bytes(NAME.encode("utf-16-le"))
    (reports / ".clients.parquet.12.tmp").write_bytes(b"")
    (reports / "old.parquet").write_bytes(b"PAR1")
    with gzip.open(reports / "fullprocess.log.gz", "wb") as file:
        file.write(NAME.encode())
    (inbox / "secret.xlsx").write_bytes(encrypted_zip())
    assert [path.name for path in forgetting.plan(project, NAME).kept] == [
        *("copy.sqlite", "old.xls", "scan.pdf", "secret.xlsx"),
        *(".clients.parquet.12.tmp", "fullprocess.log.gz", "old.parquet"),
    ]


def encrypted_zip():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("xl/workbook.xml", "<a/>")
    packed = bytearray(data.getvalue())
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(header) + place] |= 1
    return bytes(packed)


def test_a_table_of_others_beside_the_rows_is_named(project):
    other = project.output_folder / "finaldata-old.parquet"
    pq.write_table(pa.table({project.columns.client_name: [NAME]}), other)
    plan = forgetting.plan(project, NAME)
    assert (plan.kept, other in plan.staged) == ([other], False)


def test_a_user_of_the_same_name_keeps_it_and_is_named(project):
    record = files.encode(files.sealed({"users": {NAME: "1"}}))
    files.write_bytes(project.users, record)
    plan = forgetting.plan(project, NAME)
    (line,) = [line for line in forgetting.describe(project, plan) if "users.json" in line]
    assert line.endswith("users.json; to change that, python app.py --revoke NAME")
    forgetting.commit(project, plan)
    assert project.users.read_bytes() == record


def test_a_log_that_may_not_be_replaced_does_not_stop_the_rest(project, monkeypatch, caplog):
    plan = forgetting.plan(project, NAME)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(forgetting, "replace_log", refuse)
    forgetting.commit(project, plan)
    assert not project.forgetting.exists()
    assert f"{project.diary}: still contains the name: Operation not permitted" in caplog.text


# ---- the parts


def test_a_word_is_no_client_where_it_is_a_column_a_value_or_a_source(tmp_path):
    columns = {"client": "who", "outcome": "left", "numeric": ["Size"], "categorical": ["town"]}
    config = write_config(tmp_path, columns=columns)
    put(
        config,
        "Bo 2026.csv",
        "who,Size,town,left\nBo,1,Bo Hill,0\nSize,2,Ely,1\nEly,3,Bo Hill,0\nBo Ltd,1,,0\n",
    )
    ingestion.ingest_new_data(config)
    paths = forgetting.list_segments(config)
    texts = [
        forgetting.make_substitution(config, paths, each, "X")[0] for each in ("Bo", "Size", "Ely")
    ]
    assert [each.is_word for each in texts] == [False, True, True]
    assert texts[0].in_message("Bo, Bo Ltd, Bo 2026.csv") == "X, Bo Ltd, Bo 2026.csv"
    assert texts[0].in_message("Bo, Bo Hill") == "X, Bo Hill"
    assert texts[2].in_message("Ely, 'Ely'") == "Ely, 'X'"


def test_rows_of_others_keep_their_hashes_if_a_value_is_the_name(tmp_path):
    config = write_config(tmp_path)
    columns = config.columns
    row = ["Ann", "1", "2", "3", "0"]
    header = [*forgetting.ledger.WITHDRAWN_HEADER, *columns.table]
    config.output_folder.mkdir()
    config.withdrawn.write_text(
        f"{','.join(header)}\n{AT},crm,{','.join(row)}\n{AT},crm,1,1,1,1,0\n"
    )
    (texts,) = forgetting.list_texts(config, [], "1")
    assert texts[columns.client_name].to_pylist() == ["1"]
    assert len(forgetting.pair_ids(config, [texts], "1", "X").old) == 2 + 1 + 3


def test_a_token_is_random_and_on_the_side_of_the_client():
    for name in ("a", "b", "c", "d", "e", "f"):
        tokens = {forgetting.choose_token(name, [0.2, 0.5]) for _ in range(5)}
        assert len(tokens) == 5
        for share in (0.2, 0.5):
            hashes = [forgetting.name_hash(each) for each in (name, *tokens)]
            assert len(set(typed_rows.held_out(hashes, share).tolist())) == 1


def test_a_colleague_with_the_same_name_keeps_it():
    texts = Substitution("Ann", "X", [], is_word=False)
    columns = ("client", "by", "manager", "note")
    new = forgetting.change_entry(texts, Forgotten("11"), dict.fromkeys(columns, "Ann"))
    assert [*new.values()] == ["X", "Ann", "Ann", "X"]


def test_a_name_in_decomposed_letters_is_replaced_too():
    decomposed = unicodedata.normalize("NFD", NAME)
    texts = Substitution(NAME, "X", [], is_word=False)
    assert texts.in_prose(f"{decomposed} called {NAME}") == "X called X"
    assert texts.in_message(json.dumps(f"client {decomposed}")) == '"client X"'
    assert texts.cell(decomposed) == "X"


def test_an_entry_from_a_page_of_before_is_not_stored_under_the_name(project):
    app = create_app(project).test_client()
    assert app.get(f"/clients/{NAME}/entries").status_code == 200
    forgetting.commit(project, forgetting.plan(project, NAME))
    entry = {"kind": "contact", "outcome": "reached", "by": "Sue", "note": "n"}
    assert app.post(f"/clients/{NAME}/entries", json=entry).status_code == 404
    assert all(each.client != NAME for each in log.read(project.contact_log)[0])


def test_an_entry_saved_while_the_app_knows_the_old_clients_is_not_stored(project, monkeypatch):
    client = create_app(project).test_client()
    append = log.append

    def forget_first(*given):
        monkeypatch.setattr(log, "append", append)
        forgetting.commit(project, forgetting.plan(project, NAME))
        return append(*given)

    monkeypatch.setattr(log, "append", forget_first)
    entry = {"kind": "contact", "outcome": "reached", "by": "Sue", "note": "n"}
    assert client.post(f"/clients/{NAME}/entries", json=entry).status_code == 422
    assert all(each.client != NAME for each in log.read(project.contact_log)[0])


def test_files_that_people_named_after_the_client_are_named(project, capsys):
    """A sheet is named in the log, and its headers and formats may split or hide the name."""
    folder = project.contacts_folder / "inbox" / "read"
    paths = [folder / f"{NAME}.csv", folder / "header.xlsx", folder / "split.xlsx"]
    paths[0].write_text("client,note\n")
    paths[1].write_bytes(workbook(f"&amp;L{NAME}"))
    paths[2].write_bytes(workbook("Ann</t><t> Möller"))
    via = f"sheet {NAME}.csv"
    log.append(project.contact_log, [Entry("now7", "contact", "Sue", note="n", via=via)], AT)
    assert forget(project, NAME, "--yes") == 0
    lines = capsys.readouterr().out.splitlines()
    kept = [line for line in lines if line.startswith("still contains the name")]
    assert [path for path in paths if any(str(path) in line for line in kept)] == paths
    assert not any("one.xlsx" in line for line in kept)
    assert log.read(project.contact_log)[0][-1].via == f"sheet {token_of(project)}.csv"
