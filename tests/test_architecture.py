"""The arrows of the house, read from its source; and that importing any file does nothing."""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import attrition
from attrition.paths import Paths
from tests.conftest import ROOT, write_config
from tests.support import ARROWS

STEPS = (
    *("ingestion", "monitoring", "training", "scoring", "deployment"),
    *("assessment", "diagnostics", "reporting"),
)
SCRIPTS = (*STEPS, "app", "apicalls", "fullprocess")
MAX_FILES = 11
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "attrition").rglob("*.py")
    if path.stem != "__init__"
)
ROOMS = [file.removesuffix(".py").replace("/", ".") for file in FILES]
PURE = (
    *("wording", "data.cells", "data.plain_cells", "data.schema", "data.spelling"),
    *("data.summary_rows", "data.text_hashes"),
    *("sources.csv_reader", "sources.dialects", "contacts.ranking", "contacts.fields"),
    *("contacts.standings", "contacts.sentences", "contacts.experiment"),
    *(
        f"modelling.{name}"
        for name in (
            *("metrics", "models", "calibration", "selection", "backtest", "data_checks"),
            *("explanations", "groups", "number_scores", "reliability"),
        )
    ),
    "rows.sampling",
    *("monitoring.drift", "monitoring.performance", "monitoring.gate"),
    *("monitoring.updating", "monitoring.significance", "serving.flat_model"),
    *("reporting.charts", "reporting.model_card", "reporting.style"),
)
# What a pure room may know of this project: other pure rooms, the errors, and of the config only
# the records that say what a column means.
# The log declares what an entry is.
PURE_MAY_IMPORT = {
    *(f"attrition.{room}" for room in PURE),
    *("attrition.errors", "attrition.contacts.log"),
}
RECORDS_OF_CONFIG = {
    f"attrition.config.{name}"
    for name in (
        *("Columns", "DEFAULT_DIALECT", "Dialect", "Encoding", "Label", "MISSING_MARKERS"),
        "Numeric",
    )
}
EDGES_OF_APICALLS = {
    *("attrition.config", "attrition.errors"),
    *("attrition.web.auth", "attrition.operations.cli", "attrition.storage.files"),
    "attrition.operations.caller",
}
HEAVY = ("pandas", "numpy", "scipy", "sklearn", "skops", "matplotlib", "reportlab", "flask")
# The agreement on names, the release that travels by them, the file that writes, and the check that
# knows of no config.
SPELL_NAMES = (
    "attrition/paths.py",
    "attrition/idle.py",
    "attrition/operations/releases.py",
    "attrition/storage/files.py",
)
MODULES = [*(f"{name}.py" for name in SCRIPTS), *FILES]


def tree(file):
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@cache
def imports(file):
    """Every name that a file imports, inside functions too, such as attrition.config.Columns."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def rooms(names):
    """Of imported names, the modules of attrition: "attrition.config.Columns" is attrition.config."""
    found = set()
    for name in names:
        parts = name.split(".")
        for end in (3, 2):
            if ".".join(parts[:end]) in ROOMS:
                found.add(".".join(parts[:end]))
                break
    return found


@cache
def imported_rooms():
    """The modules of attrition that some file of the product imports."""
    return set().union(*(rooms(imports(file)) for file in MODULES))


def folder_of(room):
    """The folder of a module of attrition, "" for those above all folders."""
    return room.split(".")[1] if room.count(".") == 2 else ""


def run(folder, *arguments, **options):
    """Run Python in another folder, warnings being errors."""
    command = [sys.executable, "-W", "error", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **options
    )


# ---- who may import whom


@pytest.mark.parametrize("step", STEPS)
def test_a_step_imports_no_other_script(step):
    assert not {name.split(".")[0] for name in imports(f"{step}.py")} & set(SCRIPTS)


@pytest.mark.parametrize("file", FILES)
def test_a_module_of_attrition_imports_no_script(file):
    assert not {name.split(".")[0] for name in imports(file)} & set(SCRIPTS)


@pytest.mark.parametrize("file", FILES)
def test_a_module_imports_only_from_its_own_folder_and_those_below(file):
    own = folder_of(file.removesuffix(".py").replace("/", "."))
    reached = {folder_of(room) for room in rooms(imports(file))}
    assert reached <= {own, "", *ARROWS[own]}


@pytest.mark.parametrize("folder", [name for name in ARROWS if name])
def test_a_folder_holds_no_more_files_than_one_takes_in_at_a_glance(folder):
    names = {file for file in FILES if file.startswith(f"attrition/{folder}/")}
    assert 0 < len(names) <= MAX_FILES


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_of_attrition_serves_the_product_not_only_tests(room):
    text = (ROOT / f"{room.replace('.', '/')}.py").read_text(encoding="utf-8")
    has_command = 'if __name__ == "__main__":' in text
    assert has_command or room in imported_rooms()


def file_of(room):
    return f"attrition/{room.replace('.', '/')}.py"


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_imports_no_edge(room):
    names = imports(file_of(room)) - RECORDS_OF_CONFIG
    assert rooms(names) <= PURE_MAY_IMPORT


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_opens_no_file_and_logs_nothing(room):
    names = {name.split(".")[0] for name in imports(file_of(room))}
    assert not names & {"os", "shutil", "sqlite3", "logging", "subprocess", "tempfile", "requests"}
    called = {node.func for node in ast.walk(tree(file_of(room))) if is_call(node)}
    assert not {func.id for func in called if isinstance(func, ast.Name)} & {"open", "print"}


def is_call(node):
    return isinstance(node, ast.Call)


def test_apicalls_imports_edges_only():
    names = imports("apicalls.py")
    assert rooms(names) <= EDGES_OF_APICALLS
    others = {name.split(".")[0] for name in names} - {"attrition"}
    assert others <= sys.stdlib_module_names


def test_no_two_rooms_import_each_other():
    arrows = {room: rooms(imports(file)) - {room} for room, file in zip(ROOMS, FILES, strict=True)}
    while leaves := [room for room, reached in arrows.items() if not reached & arrows.keys()]:
        for room in leaves:
            del arrows[room]
    assert not arrows


# ---- the tests mirror the files


@pytest.mark.parametrize("file", FILES)
def test_each_module_has_a_test_file_of_its_name(file):
    folder, _, name = file.removeprefix("attrition/").rpartition("/")
    assert (ROOT / "tests" / folder / f"test_{name}").is_file()


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_has_a_test_file_of_its_name(name):
    assert (ROOT / "tests" / f"test_{name}.py").is_file()


TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("file", TESTS)
def test_no_test_file_is_imported_by_another(file):
    parts = {part for name in imports(file) for part in name.split(".")}
    assert not parts & {Path(name).stem for name in TESTS if "/test_" in name}


# ---- importing does nothing


LOOK = """
import importlib, logging, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    known = logging.root.manager.loggerDict.items()
    ours = [logger for place, logger in known if place.startswith("attrition")]
    assert not any(getattr(logger, "handlers", []) for logger in [logging.root, *ours]), name
    assert logging.root.level == logging.WARNING, name
"""


def test_importing_any_file_does_nothing(tmp_path):
    done = run(tmp_path, "-c", LOOK, *ROOMS, *SCRIPTS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_fullprocess_is_imported_without_any_of_the_heavy_libraries(tmp_path):
    code = f"import sys, fullprocess; print(sorted({set(HEAVY)!r} & sys.modules.keys()))"
    assert run(tmp_path, "-c", code).stdout == "[]\n"


def test_steps_of_a_run_without_training_are_imported_without_what_trains(tmp_path):
    """Only a test of joint drift, a training or an app that listens imports them: 2 s of CPU."""
    steps = "ingestion, monitoring, assessment, diagnostics, reporting, apicalls"
    others = {"scipy", "sklearn", "skops", "joblib", "requests", "matplotlib", "sqlalchemy"}
    code = f"import sys, {steps}; print(sorted({others!r} & sys.modules.keys()))"
    assert run(tmp_path, "-c", code).stdout == "[]\n"


# ---- the command line


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_of_a_script_is_its_docstring(capsys, name):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert ast.get_docstring(tree(f"{name}.py")) in told
    assert "--config PATH" in told


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_the_version_of_the_package(capsys, name):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith(f" {attrition.__version__}\n")


def test_the_version_is_written_in_one_place():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "attrition.__version__"
    files = [ROOT / file for file in [*MODULES, "attrition/__init__.py", "pyproject.toml"]]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert [name for name, text in texts.items() if f'"{attrition.__version__}"' in text] == [
        "__init__.py"
    ]


@pytest.mark.parametrize("name", ["fullprocess", "training", "app"])
def test_a_script_is_run_by_its_path_from_any_folder(tmp_path, name):
    done = run(tmp_path, ROOT / f"{name}.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends_with_the_guard(name):
    assert ast.unparse(tree(f"{name}.py").body[-1]) == (
        "if __name__ == '__main__':\n    sys.exit(main())"
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_docstring_says_what_is_read_and_written_and_how_to_run_it(name):
    text = ast.get_docstring(tree(f"{name}.py"))
    first, second = text.split("\n", 1)
    assert first.endswith((".", "?"))
    for heading in ("Reads:  ", "Writes: ", f"Run:    python {name}.py [--config PATH]"):
        assert heading in second


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_wants_the_config_that_it_was_given(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module(name)
    assert script.main(["--config", "nowhere.json"]) == 2
    assert f"{tmp_path}/nowhere.json: cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MODULES)
def test_every_file_says_in_its_docstring_what_it_is_for(name):
    assert ast.get_docstring(tree(name))


# ---- one place spells the names of our files


def our_names(folder):
    """The name of every file that the config knows of, but for config.json."""
    config = write_config(folder)
    paths = {path for name in vars(Paths) if isinstance(path := getattr(config, name), Path)}
    return {path.name for path in paths if path.suffix or path.name.startswith(".")}


def spelled(file):
    """The string constants of a file that are no docstrings."""
    found = tree(file)
    bodies = [node.body for node in ast.walk(found) if isinstance(getattr(node, "body", 0), list)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    constants = [node for node in ast.walk(found) if isinstance(node, ast.Constant)]
    return [c.value for c in constants if isinstance(c.value, str) and id(c) not in docstrings]


@pytest.mark.parametrize("file", [name for name in MODULES if name not in SPELL_NAMES])
def test_no_file_of_ours_is_spelled_outside_the_config(tmp_path, file):
    """Sentences for people and addresses of the API may name a file; code may not."""
    names = our_names(tmp_path)
    assert "finaldata.csv" in names
    assert not [
        text for text in spelled(file) if text.rpartition("/")[2] in names and text[0] != "/"
    ]


def test_names_that_travel_in_a_release_are_those_of_the_config(tmp_path):
    from attrition.operations import releases

    names = {
        releases.MODEL,
        releases.EVALUATION_MODEL,
        releases.TRAINING,
        releases.SCORE,
        releases.DECISION,
    }
    names |= {releases.REFERENCE, releases.KNOWN_ROWS, *releases.LINKS}
    assert names <= our_names(tmp_path)
    assert write_config(tmp_path).current.name == releases.CURRENT
