"""What make prints and does in folders with any name."""

import subprocess

import pytest

from tests.conftest import ROOT

FOLDERS = ["R&D co", "a|b", "x\\y\\1", 'it\'s "mine" at 50% of $HOME', "R&D co|x\\y"]


@pytest.mark.parametrize("name", FOLDERS)
def test_cron_lines_name_the_folder_as_it_is_and_work_in_sh(tmp_path, name):
    folder = tmp_path / name
    (folder / ".venv" / "bin").mkdir(parents=True)
    for file in ("Makefile", "cronjob.txt"):
        (folder / file).write_bytes((ROOT / file).read_bytes())
    python = folder / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o700)
    make = ["make", "-s", "-C", str(folder), "cron"]
    lines = subprocess.run(make, capture_output=True, text=True, check=True).stdout.splitlines()
    (setting,) = [line for line in lines if line.startswith("ATTRITION=")]
    assert setting == f"ATTRITION={folder}"
    command = lines[-1].removeprefix("*/10 * * * * ")
    assert "%" not in command  # cron would end the command there
    environment = {"PATH": "/usr/bin:/bin", "ATTRITION": setting.removeprefix("ATTRITION=")}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["-E", "-s", f"{folder}/fullprocess.py", "--quiet"]


def test_reset_keeps_what_people_entered_and_says_so(tmp_path):
    for name in ("reports", "contacts"):
        (tmp_path / name).mkdir()
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), "-C", str(tmp_path), "reset"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert asked.returncode != 0
    assert "contacts (what people entered) stay" in asked.stderr
    subprocess.run([*command, "CONFIRM=yes"], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["contacts"]
