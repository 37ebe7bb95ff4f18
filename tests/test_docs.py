"""Links and paths in the documents lead somewhere, and the README stays on one page."""

import re
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT
from tests.support import ARROWS

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
)
MAX_README_LINES = 150
LINK = re.compile(r"\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"`(?:python )?(\w+\.py)\b")
PATH = re.compile(
    r"(?<![\w/.])((?:attrition|tests|benchmarks|docs|examples|\.github)/[\w./-]*\w/?)(?=\W|$)"
)
MODULE = re.compile(r"\b(benchmarks\.[a-z]+)\b")
TARGET = re.compile(r"(?:^|`|\(|; )make (?:-s )?([a-z]+)\b", re.MULTILINE)
NEW_FILE = re.compile(r"`([^`]+)` \(new\b")


def read(document):
    return (ROOT / document).read_text(encoding="utf-8")


def relative_links(document):
    targets = {target.partition("#")[0] for target in LINK.findall(read(document))}
    return {unquote(target) for target in targets if target and not re.match(r"[a-z]+:", target)}


def named_paths(document):
    """Every file that a document names, except those that a table proposes as new."""
    text = read(document)
    modules = {module.replace(".", "/") + ".py" for module in MODULE.findall(text)}
    return {*PATH.findall(text), *SCRIPT.findall(text), *modules} - {*NEW_FILE.findall(text)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_link_leads_to_a_file(document):
    folder = (ROOT / document).parent
    assert not {target for target in relative_links(document) if not (folder / target).exists()}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_path_that_a_document_names_exists(document):
    assert not {path for path in named_paths(document) if not (ROOT / path).exists()}


def test_readme_fits_on_a_page():
    assert len(read("README.md").splitlines()) <= MAX_README_LINES


def test_readme_links_to_every_page_of_the_docs():
    pages = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")}
    assert pages <= relative_links("README.md")


def test_architecture_describes_every_file_of_the_package_and_every_script():
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "attrition").rglob("*.py")}
    files = {path for path in package if not path.endswith("__init__.py")}
    files |= {path.name for path in ROOT.glob("*.py")}
    assert files <= named_paths("docs/architecture.md")


def test_architecture_states_the_arrows_that_the_tests_enforce():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", read("docs/architecture.md"), re.MULTILINE)
    stated = {folder: set(re.findall(r"`(\w+)`", cell)) for folder, cell in rows}
    assert stated == {folder: arrows for folder, arrows in ARROWS.items() if folder}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_target_that_a_document_names_exists(document):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert set(TARGET.findall(read(document))) <= targets


def test_workflow_installs_what_the_local_check_installs():
    block = read(".ci/run").partition("packages=(\n")[2].partition("\n)")[0]
    packages = re.sub(r"#.*", "", block).split()
    assert "postgresql" in packages
    assert set(packages) <= set(read(".github/workflows/check.yml").split())
