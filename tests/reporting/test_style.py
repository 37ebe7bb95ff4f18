import subprocess
import sys

from attrition.reporting import style
from tests.conftest import ROOT


def test_undrawable_characters_become_squares():
    assert style.drawable("emoji 🦄") == "emoji □"
    assert style.drawable("\u202eevil\x00\x1b[31m\ud800") == "□evil□□[31m□"
    assert style.drawable("Søn\u2003Ω שלום\t5\u00a0%") == "Søn Ω שלום 5\u00a0%"


def test_fonts_are_those_that_matplotlib_includes():
    assert style.font_file(style.FONT).is_file()
    assert style.font_file(style.BOLD).is_file()


def test_layout_needs_no_matplotlib():
    code = "import sys, reporting; print({'matplotlib', 'scipy', 'pandas'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
