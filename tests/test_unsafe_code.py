"""The code runs no data, starts no shell and skips no check; each finding of bandit is answered."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.conftest import ROOT

PRODUCT = sorted([*ROOT.glob("*.py"), *(ROOT / "attrition").rglob("*.py")])
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
TEMPLATES = sorted([*(ROOT / "attrition").rglob("templates/*")])
# Modules that load objects from bytes, which runs code of whoever wrote the bytes.
UNSAFE_MODULES = {
    "cloudpickle",
    "cPickle",
    "dill",
    "jsonpickle",
    "marshal",
    "pickle",
    "shelve",
    "yaml",
}
UNSAFE_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "joblib.load"),
    *("pandas.read_pickle", "subprocess.getoutput", "subprocess.getstatusoutput"),
}
# Arguments that are safe with this value only.
SAFE_VALUE = {"shell": False, "debug": False, "allow_pickle": False, "verify": True}
# Where input of strangers is checked. An assertion is gone with `python -O`.
CHECK_INPUT = ("web", "access", "serving", "pages", "data/api_records.py")


def unsafe(text, *, checks_input=False):
    """Describe what is unsafe in a source text, each with its line."""
    tree = ast.parse(text)
    names = imported(tree)
    return [
        f"line {node.lineno}: {problem}"
        for node in ast.walk(tree)
        for problem in problems(node, names, checks_input=checks_input)
    ]


def imported(tree):
    """What each imported name of a file stands for: {"np": "numpy", "run": "subprocess.run"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name.split(".")[0]: each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return names


def problems(node, names, *, checks_input):
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = getattr(node, "module", None)
        modules = {(module or each.name).split(".")[0] for each in node.names}
        yield from sorted(modules & UNSAFE_MODULES)
    if isinstance(node, ast.Call):
        first, _, rest = ast.unparse(node.func).partition(".")
        function = ".".join(part for part in (names.get(first, first), rest) if part)
        if function in UNSAFE_CALLS:
            yield function
        for each in node.keywords:
            value = getattr(each.value, "value", ...)
            if each.arg in SAFE_VALUE and value is not SAFE_VALUE[each.arg]:
                yield f"{each.arg}={ast.unparse(each.value)}"
    if isinstance(node, ast.Assign):
        targets = {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
        if "debug" in targets and getattr(node.value, "value", ...) is not False:
            yield "debug"
    if isinstance(node, ast.Assert) and checks_input:
        yield "assert"


def third_party(text):
    """Name the packages of others that a source text imports, inside functions too."""
    top = {name.split(".")[0] for name in imported(ast.parse(text)).values()}
    ours = {"attrition", "tests", "benchmarks", *(path.stem for path in ROOT.glob("*.py"))}
    return top - sys.stdlib_module_names - ours


def required():
    """The modules of requirements.txt, and of what these packages are made of, such as Werkzeug."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {normal(re.split(r"[=\[]", line)[0]) for line in lines if not line.startswith("#")}
    parts = [part for name in names for part in importlib.metadata.requires(name) or ()]
    names |= {normal(re.match(r"[\w-]+", part)[0]) for part in parts if "extra ==" not in part}
    modules = importlib.metadata.packages_distributions().items()
    return {module for module, packages in modules if names & {normal(each) for each in packages}}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


PLANTED = {
    "pickle": "import pickle",
    "shelve": "from shelve import open",
    "marshal": "import marshal as m",
    "yaml": "from yaml import safe_load",
    "joblib.load": "from joblib import load\nload('model')",
    "eval": "print(eval('1'))",
    "exec": "exec('x = 1')",
    "os.system": "import os as o\no.system('ls')",
    "shell=True": "import subprocess\nsubprocess.run('ls', shell=True)",
    "shell=wanted": "run('ls', shell=wanted)",
    "debug=True": "app.run(debug=True)",
    "debug": "app.debug = True",
    "allow_pickle=True": "import numpy\nnumpy.load('a.npz', allow_pickle=True)",
    "verify=False": "import requests\nrequests.get('https://a', verify=False)",
    "pandas.read_pickle": "import pandas as pd\npd.read_pickle('a')",
    "assert": "def check(body):\n    assert body",
}


@pytest.mark.parametrize("problem", PLANTED)
def test_planted_problem_is_found(problem):
    (line,) = unsafe(PLANTED[problem], checks_input=True)
    assert line.endswith(f": {problem}")


def test_safe_code_is_not_reported():
    text = "import re\nre.compile('a')\nrun('ls', shell=False)\napp.debug = False\nmodel.eval()"
    assert unsafe(text) == []


@pytest.mark.parametrize(
    "path", [*PRODUCT, *BENCHMARKS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_file_contains_nothing_unsafe(path):
    place = path.relative_to(ROOT).as_posix().removeprefix("attrition/")
    checks_input = place.startswith(CHECK_INPUT)
    assert unsafe(path.read_text(encoding="utf-8"), checks_input=checks_input) == []


def test_templates_escape_all_that_they_insert():
    is_raw = re.compile(r"\|\s*safe\b|autoescape\s+false|\bMarkup\b")
    assert is_raw.search("{{ name | safe }}") and is_raw.search("{% autoescape false %}")
    assert len(TEMPLATES) > 5
    texts = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES}
    assert [name for name, text in texts.items() if is_raw.search(text)] == []


def test_product_imports_only_what_requirements_contain():
    assert third_party("import flask, os\nfrom lxml import etree\nimport app") == {"flask", "lxml"}
    imports = {name for path in PRODUCT for name in third_party(path.read_text(encoding="utf-8"))}
    engines = (ROOT / "requirements-engines.txt").read_text(encoding="utf-8")
    optional = set(re.findall(r"^\w+", engines, re.MULTILINE))
    assert optional == {"dask", "ray"}
    assert imports - required() == optional


def test_security_answers_each_finding_of_bandit_and_no_other():
    command = [sys.executable, "-m", "bandit", "--quiet", "--format", "json", "--skip", "B101"]
    command += ["--recursive", *(path.name for path in ROOT.glob("*.py")), "attrition"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    record = json.loads(result.stdout)
    assert record["errors"] == []
    findings = Counter((each["test_id"], each["filename"]) for each in record["results"])
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (B\d+)[^|]*\| (\d+) in `([^`]+)`", text, re.MULTILINE)
    assert {(test, file): int(n) for test, n, file in rows} == findings
