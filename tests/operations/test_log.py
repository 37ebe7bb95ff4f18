import json
import logging
import re

import pytest

from attrition.operations import log


@pytest.fixture(autouse=True)
def _own_logging():
    """Give back the handlers and levels that pytest works with."""
    loggers = [
        logging.getLogger(name) for name in ("", "attrition", "attrition.requests", "fullprocess")
    ]
    handlers, levels = list(loggers[0].handlers), [logger.level for logger in loggers]
    loggers[0].handlers[:] = []
    yield
    log_handlers = list(loggers[0].handlers)
    loggers[0].handlers[:] = handlers
    for handler in log_handlers:
        handler.close()
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


OURS, THEIRS = logging.getLogger("attrition.training"), logging.getLogger("sqlalchemy")
LINE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    attrition.training: 3 rows\n"


def test_the_diary_goes_to_stderr_with_times_in_utc(capsys):
    log.set_up()
    OURS.info("%d rows", 3)
    assert re.fullmatch(LINE, capsys.readouterr().err)


def test_quiet_speaks_only_of_what_needs_a_person(capsys):
    log.set_up(quiet=True)
    OURS.info("3 rows")
    OURS.warning("look at this")
    assert capsys.readouterr().err.endswith("WARNING attrition.training: look at this\n")


def test_the_file_has_all_of_it_even_when_quiet(tmp_path):
    log.set_up(quiet=True, file=tmp_path / "x.log")
    OURS.info("3 rows")
    assert re.fullmatch(LINE, (tmp_path / "x.log").read_text())


def test_no_file_is_made_before_there_is_something_to_say(tmp_path):
    log.set_up(file=tmp_path / "x.log")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path, capsys):
    log.set_up(file=tmp_path / "nowhere" / "x.log")
    OURS.info("3 rows")
    assert "3 rows" in capsys.readouterr().err


def test_set_up_twice_says_everything_once(capsys):
    log.set_up()
    log.set_up()
    OURS.info("3 rows")
    assert capsys.readouterr().err.count("3 rows") == 1


def test_libraries_speak_only_of_warnings(capsys):
    log.set_up()
    THEIRS.info("chatter")
    THEIRS.warning("trouble")
    assert "chatter" not in capsys.readouterr().err


def test_a_name_with_a_line_break_cannot_forge_a_line(capsys):
    log.set_up()
    OURS.info("file %s", "a\nERROR root: forged\r")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_file_is_turned_over_before_it_fills_the_disk(tmp_path):
    log.set_up(quiet=True, file=tmp_path / "x.log")
    handlers = logging.getLogger().handlers
    limits = [(h.maxBytes, h.backupCount) for h in handlers if hasattr(h, "maxBytes")]
    assert limits == [(log.LOG_BYTES, log.LOG_FILES)]


def test_a_link_in_the_place_of_the_file_is_not_written_through(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "x.log").symlink_to(tmp_path / "theirs")
    log.set_up(quiet=True, file=tmp_path / "x.log")
    OURS.info("3 rows")
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_diary_that_cannot_be_written_is_one_line_and_the_run_goes_on(tmp_path, capsys):
    (tmp_path / "diary").mkdir()
    log.set_up(quiet=True, file=tmp_path / "diary")
    for _ in range(2):
        OURS.info("%d rows", 3)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/diary: the log cannot be written")


def test_lines_of_json_have_the_message_and_the_exception(capsys):
    log.set_up(as_json=True)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        OURS.exception("%d rows", 3)
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record["exception"].endswith("ValueError: two\nlines")
    assert (record["level"], record["logger"]) == ("error", "attrition.training")
    assert record["message"] == "3 rows"


@pytest.mark.parametrize(("as_json", "count"), [(True, 1), (False, 0)])
def test_requests_are_logged_as_json_only(capsys, as_json, count):
    log.set_up(as_json=as_json)
    log.log_request(request_id="a", status=200)
    assert len(capsys.readouterr().err.splitlines()) == count
