"""The metrics of the records, and the textfile that a run writes."""

import errno
import os
import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

import fullprocess
from attrition.errors import AttritionError
from attrition.operations import metrics, runs
from attrition.storage import files
from tests.conftest import ROOT, damage, run_whole

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def samples(text):
    """The value of each sample by its name and its label, without the prefix."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name.removeprefix("attrition_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def textfile(config):
    return samples(config.metrics.read_text(encoding="utf-8"))


def hours_ago(config, hours):
    """Let the last good run have ended some hours ago; return when."""
    at = float(int(time.time() - 3600 * hours))
    os.utime(config.last_run, (at, at))
    return at


def write(config, good_at="2026-03-01T12:00:00Z"):
    metrics.write_textfile(config, [], good_at)


# ---- from one record


@pytest.mark.parametrize("outcome", metrics.OUTCOMES)
def test_exactly_the_outcome_of_the_last_run_is_1(outcome):
    run = {"outcome": outcome, "ended_at": "1970-01-01T00:01:00Z", "elapsed_s": 7.5}
    values = metrics.describe_run(run)
    assert [name for name, value in values["last_run_outcome"].items() if value] == [outcome]
    assert values["last_run_end_timestamp_seconds"] == {"": 60.0}


def test_run_that_died_has_no_end():
    values = metrics.describe_run({"outcome": "died", "ended_at": None, "elapsed_s": None})
    assert values.keys() == {"last_run_outcome"}


def test_verdict_on_another_release_does_not_count():
    record = {"release": "old", "performance": {"verdict": "degraded"}}
    of = [metrics.describe_monitoring(record | {"served": name}) for name in ("old", "new")]
    assert [each["model_performance"]["degraded"] for each in of] == [1.0, 0.0]


def test_columns_are_counted_by_the_extent_of_their_drift():
    verdicts = ("act", "act", "look", "stable")
    packages = [{"outdated": outdated} for outdated in (True, False, None)]
    record = {
        "drift": {"columns": [{"verdict": verdict} for verdict in verdicts]},
        "dependencies": {"packages": packages},
    }
    values = metrics.describe_diagnostics(record)
    assert values["drifted_columns"] == {"minor": 1, "material": 2}
    assert values["outdated_dependencies"] == {"": 1}


def test_broken_record_costs_its_own_metrics_only():
    def fail():
        raise AttritionError("damaged")

    of_a_run = {"outcome": "done", "ended_at": None}
    values = metrics.compute(
        {
            "history": lambda: of_a_run,
            "ingestion": lambda: {"sources": 3},
            "assessment": fail,
            "diagnostics": lambda: None,
        }
    )
    assert values["record_readable"] == {"history": 1.0, "ingestion": 0.0, "assessment": 0.0}
    assert values.keys() == {"last_run_outcome", "record_readable"}


def test_size_of_a_folder_counts_each_file_below_it(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x" * 700)
    (tmp_path / "b").write_bytes(b"y" * 300)
    assert metrics.folder_size(tmp_path) == 1000
    assert metrics.folder_size(tmp_path / "none") == 0


# ---- the textfile


def test_textfile_has_the_figures_of_the_records_and_nothing_that_changes_without_a_run(project):
    values, assessment = textfile(project), files.read_record(project.assessment_record)
    assert values["clients",] == assessment["clients"] == 200
    assert values["clients_listed",] == 20
    assert values["clients_expected_to_leave",] == assessment["expected_to_leave"]["value"]
    assert values["assessment_timestamp_seconds",] == metrics.timestamp(assessment["assessed_at"])
    assert values["records", "accepted"] == 800
    assert values["last_run_outcome", "done"] == values["release_verified",] == 1
    live = {gauge.name for gauge in metrics.GAUGES if gauge.is_live}
    assert {name for name, *_ in values} <= {gauge.name for gauge in metrics.GAUGES} - live


def test_textfile_names_no_client_and_no_path(project):
    text = project.metrics.read_text(encoding="utf-8")
    assert not re.search(r"now\d|corporation|/", text)


def test_run_with_nothing_new_renews_the_time_and_changes_no_byte(project):
    hours_ago(project, 3)
    before = project.metrics.stat()
    os.utime(project.metrics, (0, 0))
    assert run_whole(project) == 0
    after = project.metrics.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert time.time() - after.st_mtime < 60


def test_failed_run_is_in_the_textfile_and_leaves_the_time_of_the_last_good_run(
    project, monkeypatch
):
    good_at = hours_ago(project, 3)

    def fail(*_, **__):
        raise AttritionError("no disk")

    monkeypatch.setattr(fullprocess, "process", fail)
    (project.input_folder / "new.csv").write_text("x")
    assert run_whole(project) == 1
    values = textfile(project)
    assert (values["last_run_outcome", "failed"], values["last_run_outcome", "done"]) == (1, 0)
    assert project.metrics.stat().st_mtime == good_at
    assert runs.read_mark(project.lock) is None


def test_first_run_that_fails_leaves_a_textfile_without_a_good_run(empty_project):
    assert run_whole(empty_project) == 1
    assert textfile(empty_project)["last_run_outcome", "failed"] == 1
    assert empty_project.metrics.stat().st_mtime == 0


@pytest.mark.parametrize("spoiled", [b"", None])
def test_spoiled_or_missing_textfile_is_written_again(project, spoiled):
    before = project.metrics.read_bytes()
    project.metrics.unlink()
    if spoiled is not None:
        project.metrics.write_bytes(spoiled)
    assert run_whole(project) == 0
    assert project.metrics.read_bytes() == before


def test_textfile_shows_damage(project):
    damage(project.assessment_record)
    damage(project.current / "training.json")
    write(project)
    values = textfile(project)
    assert values["record_readable", "assessment"] == 0
    assert values["release_verified",] == 0
    assert ("clients",) not in values
    assert values["records", "accepted"] == 800


def test_folder_in_place_of_the_textfile_fails_the_run_and_hides_no_other_error(project, capsys):
    project.metrics.unlink()
    project.metrics.mkdir()
    assert run_whole(project) == 1
    errors = capsys.readouterr().err
    assert f"{project.metrics}: a folder stands in its place" in errors
    assert "the metrics do not show this" in errors
    assert runs.read_mark(project.lock) is None
    assert run_whole(project, "--repair") == 0
    assert textfile(project)["last_run_outcome", "done"] == 1


def test_textfile_that_cannot_be_written_fails_the_run_so_that_the_next_one_writes_it(
    project, monkeypatch, capsys
):
    (project.input_folder / "new.csv").write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "write_textfile", full_disk)
        assert run_whole(project) == 1
    assert str(project.metrics) in capsys.readouterr().err
    before = project.metrics.stat().st_ino
    assert run_whole(project) == 0
    assert project.metrics.stat().st_ino != before
    assert textfile(project)["last_run_outcome", "done"] == 1


def full_disk(config, *_):
    raise OSError(errno.ENOSPC, "no space left", str(config.metrics))


def test_same_records_give_the_same_bytes(project):
    before = project.metrics.read_bytes()
    project.metrics.unlink()
    write(project)
    assert project.metrics.read_bytes() == before
    assert project.metrics.stat().st_mtime == metrics.timestamp("2026-03-01T12:00:00Z")


# ---- the names


def test_names_follow_the_conventions():
    for gauge in metrics.GAUGES:
        assert re.fullmatch(r"[a-z_]+", gauge.name)
        assert not gauge.name.endswith(("_total", "_count", "_sum", "_bucket")), gauge.name
        assert not re.search(r"_(ms|minutes|hours|mb|percent|age)\b", gauge.name)
    assert len({gauge.name for gauge in metrics.GAUGES}) == len(metrics.GAUGES)


def test_table_of_the_docs_is_that_of_the_code():
    section = OPERATIONS.partition("\n## Monitor it\n")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| `(attrition_\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", section, re.MULTILINE
    )
    documented = {name: (label.strip("`"), meaning, where) for name, label, meaning, where in rows}
    for gauge in metrics.GAUGES:
        where = "`/metrics`" if gauge.is_live else "both"
        row = documented.pop(f"attrition_{gauge.name}")
        assert row == (gauge.label, gauge.meaning, where)
    assert documented.keys() == {
        "attrition_http_requests_total",
        "attrition_http_request_duration_seconds",
    }
