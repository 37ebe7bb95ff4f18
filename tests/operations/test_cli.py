import io
import json
import logging
import os
import sys
from dataclasses import dataclass

import pytest

from attrition.errors import Busy, ConfigError, Damaged, TooLittleData
from attrition.operations import cli, runs
from attrition.operations.runs import Ended
from attrition.storage import files, history


@dataclass(frozen=True)
class Made:
    up_to_date: bool = False
    seal: str = "seal"

    def summary(self):
        return "3 rows\nnote: few"


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch):
    """Leave pytest's handlers alone; test_log looks at what set_up does."""
    monkeypatch.setattr("attrition.operations.log.set_up", lambda **_: None)


def options(config, *more):
    return cli.parser("Does this.").parse_args(["--config", str(config.file), *more])


def raising(error):
    def work(config):
        raise error

    return work


def test_the_help_is_the_docstring_as_it_stands(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parser("First line.\n\nReads:  a\nWrites: b\n").parse_args(["--help"])
    assert ended.value.code == 0
    assert "First line.\n\nReads:  a\nWrites: b\n" in capsys.readouterr().out


def test_a_wrong_command_line_is_2(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parser("Does this.").parse_args(["--no-such"])
    assert ended.value.code == 2


def test_a_wrong_config_is_2_and_told_in_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"input_folder_path": "a"}))
    chosen = cli.parser("x").parse_args(["--config", str(tmp_path / "config.json")])
    assert cli.run_command(chosen, lambda config: 0) == 2
    told = capsys.readouterr().err
    assert "output_folder_path is missing" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooLittleData("no row"), 1),
        (Damaged("a file"), 1),
        (ConfigError("a key"), 2),
        (Busy("another run"), 0),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
)
def test_what_goes_wrong_has_its_exit_code_and_no_traceback(empty_project, caplog, error, code):
    assert cli.run_command(options(empty_project), raising(error)) == code
    assert "Traceback" not in caplog.text


def test_a_full_disk_is_told_with_what_still_counts(empty_project, caplog):
    error = OSError(28, "No space left on device", "/data/x")
    cli.run_command(options(empty_project), raising(error))
    assert "/data/x: No space left on device; nothing was changed" in caplog.text


def test_our_own_mistakes_are_not_hidden(empty_project):
    with pytest.raises(ZeroDivisionError):
        cli.run_command(options(empty_project), raising(ZeroDivisionError()))


def test_another_run_at_work_is_told_unless_quiet(empty_project, capsys):
    cli.run_command(options(empty_project), raising(Busy("another run is at work")))
    cli.run_command(options(empty_project, "--quiet"), raising(Busy("another run is at work")))
    assert capsys.readouterr().out == "another run is at work\n"


def test_a_step_run_by_hand_prints_what_it_made(empty_project, capsys):
    assert cli.run(options(empty_project), "training", lambda config: Made()) == 0
    assert capsys.readouterr().out == "3 rows\nnote: few\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "Zo\\xeb \\u2013 \\udcff\n"), ("utf-8", "Zo\xeb \u2013 \\udcff\n")],
)
def test_a_name_that_the_terminal_cannot_show_is_escaped(
    empty_project, monkeypatch, encoding, expected
):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)

    def work(config):
        print("Zo\xeb \u2013 \udcff")  # the last is a byte of a file name that is not UTF-8
        return 0

    assert cli.run_command(options(empty_project), work) == 0
    assert stdout.buffer.getvalue().decode(encoding) == expected


def test_a_step_run_by_hand_waits_for_nobody(empty_project, capsys):
    with files.run_lock(empty_project.lock):
        assert cli.run(options(empty_project), "training", raising(AssertionError("ran"))) == 0
    assert "another run is at work" in capsys.readouterr().out


def test_a_step_has_the_lock_while_it_runs(empty_project):
    def step(config):
        with pytest.raises(Busy), files.run_lock(config.lock):
            pytest.fail("the lock was free")
        return Made()

    assert cli.run(options(empty_project), "training", step) == 0


def test_what_a_step_cost_is_kept(empty_project, caplog):
    caplog.set_level(logging.INFO, "attrition")
    assert cli.run_step(empty_project, "training", lambda config: Made()) == Made()
    (row,) = history.read_steps(empty_project.history, "training")
    assert (row["made"], row["outcome"]) == ("seal", "3 rows")
    assert min(row["elapsed_s"], row["cpu_s"]) >= 0
    assert "training: 3 rows" in caplog.text


def test_a_step_that_had_nothing_to_do_leaves_no_trace(empty_project):
    cli.run_step(empty_project, "training", lambda config: Made(up_to_date=True))
    assert not empty_project.history.exists()


def test_a_step_repeated_after_a_crash_counts_once(empty_project):
    for _ in range(2):
        cli.run_step(empty_project, "training", lambda config: Made())
    assert len(history.read_steps(empty_project.history, "training")) == 1


@pytest.mark.parametrize("error", [MemoryError(), Ended("ended by SIGTERM", 143)])
def test_no_memory_and_a_signal_are_one_line(empty_project, caplog, error):
    code = cli.run_command(options(empty_project), raising(error))
    assert code == (143 if isinstance(error, Ended) else 1)
    assert caplog.text.count("\n") == 1


def test_a_step_by_hand_that_was_killed_is_recorded_by_the_next(empty_project):
    with files.run_lock(empty_project.lock) as lock:
        runs.leave_mark(lock, "killed", "2026-01-01T00:00:00Z", None)
    assert cli.run(options(empty_project), "training", lambda config: Made()) == 0
    (row,) = history.read_runs(empty_project.history)
    assert (row["run"], row["outcome"]) == ("killed", "died")
    assert runs.read_mark(empty_project.lock) is None


def test_a_step_by_hand_does_not_begin_a_history_that_is_gone_anew(empty_project, caplog):
    files.make_folder(empty_project.production_folder)
    empty_project.current.symlink_to("releases/x")
    assert cli.run(options(empty_project), "training", raising(AssertionError("ran"))) == 1
    assert "history.sqlite: is missing" in caplog.text
    assert not empty_project.history.exists()


def test_a_pipe_in_place_of_the_file_that_stdout_was_is_no_error(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    with (tmp_path / "out").open("w") as file, os.fdopen(reader) as pipe:
        os.dup2(writer, file.fileno())
        os.close(writer)
        monkeypatch.setattr(sys, "stdout", file)
        cli.open_standard_streams()
        print("done", file=file)
        file.close()
        assert pipe.read() == "done\n"
