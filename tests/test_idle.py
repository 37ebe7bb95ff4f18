import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

import fullprocess
from attrition import config_file, idle
from attrition.contacts import log
from attrition.storage import files
from tests.conftest import ROOT, damage, run_whole, write_config
from tests.support import digest

SOURCE = "sourcedata/crm.sqlite"


def write(path, text="some text\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(path, mode):
    """Commit a row, in one of SQLite's modes; with WAL it stays in the log, as beside a live writer."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE IF NOT EXISTS clients (name TEXT)")
    connection.execute("INSERT INTO clients VALUES ('x')")
    connection.commit()
    return connection


def finish(config, **changes):
    """Record the present state as that of a complete run, and write the watch list."""
    record = {
        **{"complete": True, "good": True, "next_mature_at": None},
        "state": fullprocess.find_sources(config) | fullprocess.find_products(config),
        "list_inputs": fullprocess.find_list_inputs(config),
    }
    files.write_bytes(config.last_run, files.encode(files.sealed(record | changes)))
    fullprocess.keep_watch(config)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project with a file in each folder, an SQLite database and a contact log."""
    tmp_path = tmp_path_factory.mktemp("template")
    table = {"name": "crm", "url": f"sqlite:///{SOURCE}", "table": "clients"}
    config = write_config(tmp_path, databases=[table])
    for path in (config.input_folder / "a.csv", config.test_folder / "sub" / "t.csv"):
        write(path)
    for path in (config.final_data, config.candidate, config.report, config.figure("roc")):
        write(path)
    write(config.releases / "one" / "model")
    config.current.symlink_to("releases/one")
    write(config.lock, "")
    write(config.metrics)
    commit(tmp_path / SOURCE, "DELETE").close()
    entry = log.Entry("Alder", "contact", "Ann", "reached")
    log.append(config.contact_log, [entry], files.utc_now())
    (config.output_folder / "empty").mkdir()
    return tmp_path


@pytest.fixture
def config(template, tmp_path):
    """A copy of the template, as after a complete run."""
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    config = config_file.load(tmp_path / "project" / "config.json")
    finish(config)
    return config


def tick(config, *more):
    return idle.is_idle(["--config", str(config.file), *more])


def test_run_that_finds_nothing_new_renews_two_times_and_writes_no_content(config, capsys):
    before = digest(config.file.parent)
    os.utime(config.last_run, (0, 0))
    assert tick(config)
    assert capsys.readouterr().out == "nothing new\n"
    assert tick(config, "--quiet")
    assert capsys.readouterr().out == ""
    assert digest(config.file.parent) == before
    assert time.time() - config.last_run.stat().st_mtime < 60


def edit_and_set_times_back(config):
    path = config.final_data
    about = path.stat()
    with path.open("r+b") as file:
        file.write(b"S")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace_by_equal_size(config):
    path = config.input_folder / "a.csv"
    other = config.file.parent / "other"
    write(other, "SOME TEXT\n")
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    os.replace(other, path)


def point_elsewhere(config):
    config.current.unlink()
    config.current.symlink_to("releases/two")


def move_sources(config):
    """Let the folder of the sources be a link to another folder with the same files."""
    folder = config.input_folder
    shutil.copytree(folder, config.file.parent / "elsewhere")
    shutil.rmtree(folder)
    folder.symlink_to(config.file.parent / "elsewhere")


def enter(config):
    entry = log.Entry("Birch", "contact", "Ann", "reached")
    log.append(config.contact_log, [entry], files.utc_now())


def die_at_work(config):
    config.lock.write_text('{"run": "the one that died"}')


CHANGES = {
    "source edited": lambda config: write(config.input_folder / "a.csv", "more text\n"),
    "edited in place, times set back": edit_and_set_times_back,
    "replaced by rename": replace_by_equal_size,
    "new source": lambda config: write(config.input_folder / "b.csv"),
    "new source in a sub-folder": lambda config: write(config.input_folder / "sub" / "b.csv"),
    "new test file in a sub-folder": lambda config: write(config.test_folder / "sub" / "u.csv"),
    "new file in an empty folder": lambda config: write(config.output_folder / "empty" / "x"),
    "source removed": lambda config: (config.input_folder / "a.csv").unlink(),
    "folder of sources replaced": move_sources,
    "another release in production": point_elsewhere,
    "link removed": lambda config: config.current.unlink(),
    "new file in a release": lambda config: write(config.releases / "one" / "x"),
    "new release": lambda config: write(config.releases / "two" / "model"),
    "bit of a model": lambda config: damage(config.candidate),
    "bit of a release": lambda config: damage(config.releases / "one" / "model"),
    "bit of a figure": lambda config: damage(config.figure("roc")),
    "new figure": lambda config: write(config.figure("new")),
    "bit of the record of the run": lambda config: damage(config.last_run),
    "bit of the metrics": lambda config: damage(config.metrics),
    "metrics removed": lambda config: config.metrics.unlink(),
    "report removed": lambda config: config.report.unlink(),
    "history appears": lambda config: write(config.history),
    "commit": lambda config: commit(config.file.parent / SOURCE, "DELETE").close(),
    "contact": enter,
    "contact log removed": lambda config: config.contact_log.unlink(),
    "config edited": lambda config: write(config.file, config.file.read_text() + " "),
    "notice": lambda config: write(config.notices),
    "run that died": die_at_work,
    "lock removed": lambda config: config.lock.unlink(),
    "bit of the watch list": lambda config: damage(config.watch_list),
    "half of the watch list": lambda config: os.truncate(config.watch_list, 300),
    "watch list removed": lambda config: config.watch_list.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_left_to_the_run(config, change):
    assert tick(config)
    CHANGES[change](config)
    assert not tick(config)


def test_commit_that_is_only_in_the_write_ahead_log_is_left_to_the_run(config):
    with closing(commit(config.file.parent / SOURCE, "WAL")):
        finish(config)
        assert tick(config)
        commit(config.file.parent / SOURCE, "WAL").close()
        assert not tick(config)


def test_database_behind_a_link_is_watched(config):
    place = config.file.parent / SOURCE
    place.rename(config.file.parent / "real.sqlite")
    place.symlink_to(config.file.parent / "real.sqlite")
    finish(config)
    assert tick(config)
    commit(config.file.parent / "real.sqlite", "DELETE").close()
    assert not tick(config)


def test_run_beside_another_is_left_to_report_that(config):
    with files.run_lock(config.lock):
        assert not tick(config)
    assert tick(config)


def test_times_at_which_a_run_has_work_without_a_change_end_the_list(config, monkeypatch):
    assert tick(config)
    real = time.time()
    for seconds in (-3600, files.DAY_S + 1):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda seconds=seconds: real + seconds)
            assert not tick(config)
    finish(config, next_mature_at="2020-01-01T00:00:00Z")
    assert not tick(config)
    yesterday = {"contacts": log.newest(config.contact_log), "day": "2020-01-01"}
    finish(config, list_inputs=yesterday)
    assert not tick(config)


@pytest.mark.parametrize("changes", [{"complete": False}, {"state": {}}])
def test_after_a_run_that_missed_something_there_is_no_list(config, changes):
    write(config.input_folder / "a.csv", "other\n")
    finish(config, **changes)
    assert not config.watch_list.exists()
    assert not tick(config)


def test_source_that_changed_while_the_run_worked_is_not_taken_as_read(config):
    state = fullprocess.find_sources(config) | fullprocess.find_products(config)
    write(config.input_folder / "a.csv", "newer\n")
    finish(config, state=state)
    assert not tick(config)


def test_unused_source_is_left_to_the_run_which_reports_it(config):
    unused = {"source": "x.txt", "code": "NOT_AN_INPUT_NAME", "problem": "", "remedy": ""}
    files.write_bytes(config.ingestion_record, files.encode(files.sealed({"unused": [unused]})))
    finish(config)
    assert not tick(config)


@pytest.mark.parametrize(
    "arguments", [["--dry-run"], ["--repair"], ["--conf", "x"], ["--config"], ["--help"], ["x"]]
)
def test_all_but_the_plain_command_is_left_to_the_run(config, arguments):
    assert not tick(config, *arguments)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"prod_deployment_path": 1}', '"prod_deployment_path"']
)
def test_config_that_cannot_be_read_is_left_to_the_run(tmp_path, text):
    write(tmp_path / "config.json", text)
    assert not idle.is_idle(["--config", str(tmp_path / "config.json")])


def test_list_of_another_config_does_not_count(config):
    other = config.file.with_name("other.json")
    shutil.copy2(config.file, other)
    assert not idle.is_idle(["--config", str(other)])


def test_list_of_a_config_of_the_same_path_behind_a_link_does_not_count(config, tmp_path):
    (tmp_path / "other" / "inner").mkdir(parents=True)
    shutil.copy2(config.file, tmp_path / "other")
    (config.file.parent / "link").symlink_to(tmp_path / "other" / "inner")
    path = config.file.parent / "link" / ".." / "config.json"
    assert path.samefile(tmp_path / "other" / "config.json")
    assert tick(config)
    assert not idle.is_idle(["--config", str(path)])


def test_config_is_found_beside_the_scripts_and_by_a_relative_path(config, tmp_path):
    """Copies beside the config: whatever is imported but for `idle` is missing there."""
    folder = config.file.parent
    (folder / "attrition").mkdir()
    for name in ("fullprocess.py", "attrition/__init__.py", "attrition/idle.py"):
        shutil.copy(ROOT / name, folder / name)
    script = os.fspath(folder / "fullprocess.py")
    for more in ([], ["--config", os.path.relpath(config.file, tmp_path)]):
        done = subprocess.run(
            [sys.executable, script, *more], cwd=tmp_path, env={}, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, b"nothing new\n")


def test_names_may_have_any_bytes(config):
    name = os.fsdecode(b"\xff line\nbreak.csv")
    write(config.input_folder / name)
    finish(config)
    assert tick(config)
    write(config.input_folder / name, "more\n")
    assert not tick(config)


def test_coarse_times_count_as_settled_later():
    second = 10**9
    assert idle.is_settled(10 * second + 50_000_000, 10 * second + 1, 5)
    assert not idle.is_settled(10 * second + 50_000_000, 10 * second, 5 * second)
    assert idle.is_settled(13 * second, 10 * second, 5 * second)


def test_signatures_are_taken_when_the_newest_file_is_settled_and_no_later(tmp_path, monkeypatch):
    slept, sleep = [], time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: slept.append(seconds) or sleep(seconds))
    paths = [str(tmp_path / name) for name in ("some", "none")]
    write(tmp_path / "some")
    expected = dict(zip(paths, map(idle.sign_path, paths), strict=True))
    assert idle.sign_settled(paths) == expected
    assert sum(slept) <= 0.02
    sleep(0.02)
    slept.clear()
    assert idle.sign_settled(paths) == expected
    assert not slept
    os.utime(paths[0], (time.time() + 60, time.time() + 60))
    assert idle.sign_settled(paths) is None
    assert not slept


def test_script_that_finds_nothing_new_imports_next_to_nothing(project):
    assert run_whole(project) == 0
    before = digest(project.file.parent)
    command = [sys.executable, "-X", "importtime", str(ROOT / "fullprocess.py")]
    command += ["--config", str(project.file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (done.returncode, done.stdout) == (0, "nothing new\n")
    assert names & {"attrition.idle"}
    assert not names & {"json", "re", "pathlib", "argparse", "logging", "hashlib", "collections"}
    assert digest(project.file.parent) == before


def test_run_writes_the_list_again_where_a_time_changed_and_no_content(project):
    assert run_whole(project) == 0
    os.utime(project.final_data)
    assert not tick(project)
    assert run_whole(project) == 0
    assert tick(project)
    assert json.loads(project.hashes.read_text())["files"][str(project.final_data)]
