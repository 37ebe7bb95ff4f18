import fcntl
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

import assessment
import deployment
import fullprocess
import reporting
from attrition import config_file
from attrition.contacts import log
from attrition.operations import releases
from attrition.storage import files, history
from tests.conftest import ROOT, contradict, make_rows, run_whole, write_config
from tests.support import digest, run

STEPS = ("ingestion", "monitoring", "training", "scoring", "deployment", "assessment", "reporting")
AGAIN = "would check every step again: "


def test_first_run_makes_everything_a_person_needs(project):
    assert len(pd.read_csv(project.contact_list)) == 20
    assert len(pd.read_csv(project.risk_scores)) == 200
    assert project.report.read_bytes().startswith(b"%PDF")
    assert releases.read_current(project.production_folder).training["rows"] > 400
    assert [row["outcome"] for row in history.read_runs(project.history)] == ["done"]


def test_second_run_says_nothing_new_and_changes_no_file(project, capsys):
    run_whole(project)  # a copied project has other paths, so it is looked at once more
    before = digest(project.file.parent)
    assert fullprocess.main(["--config", str(project.file)]) == 0
    assert capsys.readouterr().out.endswith("nothing new\n")
    assert digest(project.file.parent) == before


def test_quiet_tick_imports_none_of_the_heavy_libraries(project):
    run_whole(project)
    code = (
        "import sys, fullprocess\n"
        f"assert fullprocess.main(['--config', {str(project.file)!r}]) == 0\n"
        "print(sorted({'numpy', 'pandas', 'sklearn', 'matplotlib', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "nothing new\n[]\n", done.stderr


def test_new_rows_in_order_keep_the_champion(project):
    before = releases.current_id(project.production_folder)
    make_rows(300, seed=9, prefix="new").to_csv(project.input_folder / "new.csv", index=False)
    assert run_whole(project) == 0
    assert releases.current_id(project.production_folder) == before
    monitoring = files.read_record(project.monitoring_record)
    assert monitoring is not None
    assert monitoring["performance"]["verdict"] == "fine"


def test_outcomes_that_contradict_the_model_end_in_a_new_one(project):
    before = releases.current_id(project.production_folder)
    contradict(project)
    assert run_whole(project) == 0
    after = releases.read_current(project.production_folder)
    assert after.id != before
    decision = files.read_record(project.decision_record)
    assert decision is not None
    assert decision["rule"] == "champion_degraded"
    assert run_whole(project) == 0
    assert releases.current_id(project.production_folder) == after.id


def test_note_and_new_day_make_the_list_anew_and_train_nothing(project, monkeypatch):
    run_whole(project)
    first, second = pd.read_csv(project.contact_list)["client"][:2]
    releases_before = releases.list_ids(project.production_folder)
    assert fullprocess.nothing_new(project)
    entry = log.Entry(client=first, kind=log.CONTACT, by="Kim", outcome=log.REACHED)
    log.append(project.contact_log, [entry], files.utc_now())
    assert not fullprocess.nothing_new(project)
    news = "a day has begun, or the contact log or the experiment has changed"
    assert fullprocess.plan(project) == [AGAIN + news]
    steps_before = {name: len(history.read_steps(project.history, name)) for name in STEPS}
    assert run_whole(project) == 0
    steps = {name: len(history.read_steps(project.history, name)) for name in STEPS}
    assert {name for name in STEPS if steps[name] > steps_before[name]} == {
        "assessment",
        "reporting",
    }
    assert releases.list_ids(project.production_folder) == releases_before
    assert pd.read_csv(project.contact_list)["client"][0] == second
    assert fullprocess.nothing_new(project)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime(files.TIME)
    monkeypatch.setattr(files, "utc_now", lambda: tomorrow)
    assert not fullprocess.nothing_new(project), "a client who rests may come back"


def test_new_day_without_notes_and_due_dates_is_nothing_new(project, monkeypatch):
    run_whole(project)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime(files.TIME)
    monkeypatch.setattr(files, "utc_now", lambda: tomorrow)
    assert fullprocess.nothing_new(project)


def test_file_that_arrives_during_a_run_is_taken_by_the_next(project, monkeypatch):
    real = reporting.write_report

    def deliver(config, unavailable):
        make_rows(40, seed=5, prefix="late").to_csv(config.input_folder / "late.csv", index=False)
        return real(config, unavailable)

    with monkeypatch.context() as patch:
        patch.setattr(reporting, "write_report", deliver)
        assert run_whole(project) == 0
    assert "late.csv" not in project.ingested_files.read_text()
    assert run_whole(project) == 0
    assert "late.csv" in project.ingested_files.read_text()


def test_decision_not_to_deploy_is_not_asked_again(project):
    run_whole(project)
    trained = project.training_record.read_bytes()
    make_rows(40, seed=5, prefix="few").to_csv(project.input_folder / "few.csv", index=False)
    assert run_whole(project) == 0
    assert run_whole(project) == 0
    assert project.training_record.read_bytes() == trained


def test_rolling_back_is_not_undone_by_the_next_run(project):
    contradict(project)
    run_whole(project)
    first, second = releases.list_ids(project.production_folder)
    assert deployment.main(["--config", str(project.file), "--rollback"]) == 0
    assert run_whole(project) == 0
    assert releases.current_id(project.production_folder) == first
    assessed = files.read_record(project.assessment_record)
    assert assessed is not None
    assert assessed["release"] == first != second


def test_dry_run_tells_and_writes_nothing(small_project, capsys):
    before = digest(small_project.file.parent)
    assert fullprocess.main(["--config", str(small_project.file), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "would read history.csv" in told
    assert "would train, score and deploy a first model" in told
    assert digest(small_project.file.parent) == before


def test_dry_run_names_why_a_run_has_something_to_do(project, monkeypatch, capsys):
    def planned(config, capsys):
        assert fullprocess.main(["--config", str(config.file), "--dry-run"]) == 0
        return capsys.readouterr().out.splitlines()

    config = project
    assert planned(config, capsys)[0].endswith(" more changed")  # a copy is at another place
    config.last_run.unlink()
    assert planned(config, capsys) == [AGAIN + "the last run is not recorded as complete"]
    run_whole(config)
    assert planned(config, capsys) == ["nothing new"]
    with monkeypatch.context() as patch:
        patch.setattr(fullprocess, "has_server", lambda config: True)  # its tables are as they were
        assert planned(config, capsys) == ["nothing new"]
    with monkeypatch.context() as patch:
        patch.setattr(fullprocess, "_have_matured", lambda last: True)
        assert planned(config, capsys) == [AGAIN + "outcomes have matured"]
    config.report.unlink()
    assert planned(config, capsys) == [f"{AGAIN}{config.report} changed"]
    for name in ("a", "b", "c"):
        (config.test_folder / f"{name}.txt").write_text("")
    assert planned(config, capsys)[0].endswith("and 1 more changed")
    config.lock.write_text("{}")
    assert planned(config, capsys)[0] == "would record that the last run died, and finish it"


def test_second_run_beside_a_running_one_ends_at_once(small_project):
    files.make_folder(small_project.production_folder)
    with small_project.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = run(small_project)
    assert (second.returncode, second.stderr) == (0, "")
    assert "another run is at work" in second.stdout
    assert not small_project.final_data.exists()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda config: shutil.rmtree(config.input_folder), "create the folder"),
        (lambda config: None, "no usable row so far"),
        (lambda config: write(config, make_rows().assign(exited=1)), "left and clients who stayed"),
        (lambda config: write(config, make_rows().assign(exited="")), "no row has an outcome"),
        (
            lambda config: write(config, make_rows().assign(**dict.fromkeys(FEATURES, 5))),
            "no feature differs",
        ),
    ],
)
def test_what_cannot_work_is_one_clear_line_and_exit_1(empty_project, capsys, spoil, told):
    spoil(empty_project)
    assert run_whole(empty_project) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1]
    assert len(lines) == 1


def test_profile_shows_the_steps_until_one_failed(empty_project, capsys):
    assert run_whole(empty_project, "--profile") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[-4:]] == [
        "step",
        "ingestion",
        "the rest",
        "total",
    ]


FEATURES = ("lastmonth_activity", "lastyear_activity", "number_of_employees")


def write(config, rows):
    rows.to_csv(config.input_folder / "rows.csv", index=False)


def test_one_class_later_keeps_the_champion_and_exits_0(project, tmp_path):
    before = releases.current_id(project.production_folder)
    write(project, make_rows(50, seed=3, prefix="x").assign(exited=1))
    assert run_whole(project) == 0
    assert releases.current_id(project.production_folder) == before


def test_all_missing_and_constant_columns_do_not_break_a_run(empty_project):
    write(empty_project, make_rows().assign(lastyear_activity="", number_of_employees=7))
    assert run_whole(empty_project) == 0
    training = files.read_record(empty_project.training_record)
    assert training is not None
    assert set(training["dropped"]) == {"lastyear_activity", "number_of_employees"}


def test_no_test_folder_is_a_note_not_an_error(small_project):
    shutil.rmtree(small_project.test_folder)
    assert run_whole(small_project) == 0
    assert small_project.latest_score.read_text() == "nan\n"


def test_unreachable_database_is_told_and_the_files_still_count(tmp_path, capsys):
    table = {"name": "crm", "url": "sqlite:///gone.sqlite", "table": "clients"}
    config = write_config(tmp_path, databases=[table])
    write(config, make_rows())
    assert run_whole(config) == 1
    assert "there is no SQLite file" in capsys.readouterr().err
    assert config.contact_list.exists()
    assert run_whole(config) == 1, "it is said at every run until somebody mends it"


def test_columns_named_anew_train_a_new_model(project):
    settings = json.loads(project.file.read_text())
    numeric = ["lastmonth_activity", "lastyear_activity"]
    settings["columns"] = {"numeric": numeric, "ignore": ["number_of_employees"]}
    project.file.write_text(json.dumps(settings))
    config = config_file.load(project.file)
    assert run_whole(config) == 0
    features = releases.read_current(config.production_folder).training["features"]
    assert features["numeric"] == numeric


def test_bare_environment_from_the_root_folder(small_project):
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/", "SHELL": "/bin/sh"}
    done = run(small_project, "--quiet", cwd="/", env=bare)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert small_project.report.exists()


@pytest.mark.parametrize("way", ["missing", "damaged"])
def test_client_who_must_not_be_contacted_is_not_listed_again_by_a_lost_log(project, way, capsys):
    name = listed_clients(project)[0]
    taboo = log.Entry(name, "contact", "Ann", outcome="do_not_contact")
    log.append(project.contact_log, [taboo], files.utc_now())
    assert run_whole(project) == 0
    before = listed_clients(project)
    assert name not in before
    kept = project.contact_log.read_bytes()
    project.contact_log.unlink()
    if way == "damaged":
        project.contact_log.write_bytes(kept[:5000])
    for work in (run_whole, lambda config: run_whole(config, "--repair"), assess):
        assert work(project) == 1
        assert f"{project.contact_log}: " in capsys.readouterr().err
        assert listed_clients(project) == before
    if way == "damaged":
        assert run_whole(project, "--accept-log-loss") == 1
        assert listed_clients(project) == before
        return
    assert not project.contact_log.exists()
    assert run_whole(project, "--accept-log-loss") == 0
    assert name in listed_clients(project)
    assert run_whole(project) == 0


def listed_clients(config):
    return pd.read_csv(config.contact_list)["client"].tolist()


def assess(config):
    return assessment.main(["--config", str(config.file), "--quiet"])
