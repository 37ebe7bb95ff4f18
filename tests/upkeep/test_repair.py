"""What a repair sets aside, what it begins anew, and what it does not touch."""

import pytest

from attrition.operations import releases
from attrition.storage import files, history
from attrition.upkeep import integrity, repair
from tests.conftest import run_whole
from tests.support import digest


def mend(config):
    """Repair without the run that follows."""
    with files.run_lock(config.lock):
        return repair.repair_state(config)


def aside(path):
    """What of a path was set aside."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def test_a_repair_of_an_undamaged_state_changes_nothing(project):
    before = digest(project.file.parent)
    assert mend(project).lines == []
    assert digest(project.file.parent) == before


def test_what_is_set_aside_twice_in_a_second_is_kept_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "utc_now", lambda: "2026-03-01T10:00:00Z")
    for text in ("one", "two"):
        (tmp_path / "a.csv").write_text(text)
        repair.set_aside(tmp_path / "a.csv")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.csv.damaged-20260301T100000Z": "one",
        "a.csv.damaged-20260301T100000Z-1": "two",
    }


def test_nothing_that_is_damaged_is_deleted(aged):
    spoiled = {}
    release = aged.releases / releases.current_id(aged.production_folder)
    for path in (aged.final_data, aged.history, aged.score_record, release / releases.MODEL):
        path.write_bytes(path.read_bytes()[:-7] + b"damaged")
        spoiled[path] = path.read_bytes()
    mend(aged)
    for path in (aged.final_data, aged.history, aged.score_record):
        assert [kept.read_bytes() for kept in aside(path)] == [spoiled[path]]
    (kept,) = aside(release)
    assert (kept / releases.MODEL).read_bytes() == spoiled[release / releases.MODEL]


@pytest.mark.parametrize("name", ["final_data", "ledger", "ingestion_record"])
def test_one_damaged_file_of_ingestion_has_all_of_them_ingested_again(project, name):
    path = project.ingested_files if name == "ledger" else getattr(project, name)
    path.write_bytes(b"damaged")
    assert mend(project).needs_ingestion
    assert not project.final_data.exists()
    assert not project.ingestion_record.exists()
    assert len(aside(project.final_data)) == len(aside(project.ingestion_record)) == 1
    assert integrity.find(project) == []


def test_production_goes_back_to_the_newest_release_that_verifies(aged):
    old, new = releases.list_ids(aged.production_folder)
    (aged.releases / new / releases.MODEL).write_bytes(b"damaged")
    mend(aged)
    assert releases.current_id(aged.production_folder) == old
    last = history.read_deployments(aged.history)[-1]
    assert (last["action"], last["release"]) == ("rolled back", old)
    assert last["reason"].startswith("by --repair: ")


def test_without_a_release_that_verifies_a_new_model_is_trained(project):
    first = releases.current_id(project.production_folder)
    (project.releases / first / releases.MODEL).write_bytes(b"damaged")
    assert run_whole(project) == 1
    assert run_whole(project, "--repair") == 0
    assert len(aside(project.current)) == 1
    actions = [row["action"] for row in history.read_deployments(project.history)]
    assert actions == ["promoted", "withdrawn", "promoted"]
    assert releases.load_model(releases.read_current(project.production_folder)) is not None
    assert integrity.find_all(project) == []


def test_a_damaged_candidate_is_again_the_one_of_the_release_in_production(project):
    expected = project.candidate.read_bytes(), project.score_record.read_bytes()
    project.candidate.write_bytes(b"damaged")
    project.score_record.unlink()
    mend(project)
    assert (project.candidate.read_bytes(), project.score_record.read_bytes()) == expected
    assert integrity.find_all(project) == []


def test_a_history_that_can_still_be_read_in_part_goes_on(project):
    for i in range(300):
        row = {"run": f"run {i}", "started_at": f"day {i}", "outcome": "done", "reason": "x" * 50}
        history.save(project.history, "runs", [row])
    rows = history.read_runs(project.history, 1000)
    data = project.history.read_bytes()
    project.history.write_bytes(data[:-4096] + bytes(4096))
    told = mend(project).lines
    kept = history.read_runs(project.history, 1000)
    assert kept == rows[: len(kept)]
    assert 100 < len(kept) < len(rows)
    assert any("started again with the" in line for line in told)
    assert history.read_deployments(project.history)


def test_a_history_that_is_gone_is_begun_anew(project):
    project.history.unlink()
    assert mend(project).lines[0] == f"{project.history}: {integrity.GONE}; started again, empty"
    assert history.read_runs(project.history) == []


@pytest.mark.parametrize("make", ["mkdir", "link"])
def test_what_stands_where_the_lock_belongs_is_set_aside(project, tmp_path, make):
    project.lock.unlink(missing_ok=True)
    project.lock.mkdir() if make == "mkdir" else project.lock.symlink_to(tmp_path)
    repair.free_lock(project)
    assert len(aside(project.lock)) == 1
    mend(project)


def test_a_source_that_is_gone_is_named_when_all_is_ingested_again(project, capsys):
    (project.input_folder / "history.csv").unlink()
    project.final_data.write_bytes(b"damaged")
    assert run_whole(project, "--repair") == 1
    told = capsys.readouterr().err
    assert "rows of history.csv were ingested before and cannot be ingested again" in told
    assert "history.csv" in history.read_runs(project.history)[-1]["reason"]


def test_the_older_decision_stands_where_the_later_was_never_written(project):
    later = {"at": files.utc_now(), "made": "never written", "action": "refused"}
    history.save(project.history, "deployments", [later])
    assert len(integrity.find_all(project)) == 1
    repair.accept_decision(project)
    assert integrity.find_all(project) == []


@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_the_contact_log_is_never_touched(project, content):
    if content is None:
        project.contact_log.mkdir(parents=True)
    else:
        project.contact_log.parent.mkdir(exist_ok=True)
        project.contact_log.write_bytes(content)
    (line,) = mend(project).lines
    assert line.startswith(f"{project.contact_log}: ")
    assert line.endswith("it stays as it is")
    names = {path.name for path in project.contact_log.parent.iterdir()}
    assert names == {"contacts.sqlite", "inbox"}
    if content is not None:
        assert project.contact_log.read_bytes() == content
