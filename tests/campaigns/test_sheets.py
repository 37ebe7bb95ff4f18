"""Two hundred hostile workbooks in one folder: no crash, bounded memory, and each one accounted for."""

import io
import resource
import subprocess
import sys

import pytest
import xlsxwriter

from tests.campaigns.catalogue import GOOD
from tests.campaigns.workbooks import MAX_SOURCE_MB, hostile
from tests.conftest import ROOT, write_config
from tests.support import check_conserved, final_rows, ledger, put


def good_workbook():
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        page = book.add_worksheet()
        for i, line in enumerate(GOOD.splitlines()):
            for j, text in enumerate(line.split(",")):
                page.write_number(i, j, int(text)) if text.isdigit() else page.write(i, j, text)
    return buffer.getvalue()


GOOD_BOOK = good_workbook()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder of hostile workbooks that one bounded process has ingested, twice."""
    config = write_config(tmp_path_factory.mktemp("sheets"), max_source_mb=MAX_SOURCE_MB)
    for i, data in enumerate([GOOD_BOOK, *hostile(GOOD_BOOK)]):
        put(config, f"{i:03}.xlsx", data)
    command = [sys.executable, str(ROOT / "ingestion.py"), "--config", str(config.file)]
    for _ in range(2):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("nothing new"), done.stdout
    return config


def test_each_hostile_workbook_is_accounted_for(project):
    files = sorted(path.name for path in project.input_folder.iterdir())
    lines = {line["source"]: line for line in ledger(project)}
    assert len(files) >= 200
    assert sorted(lines) == files
    check_conserved(project)
    for line in lines.values():
        assert line["verdict"] in ("accepted", "quarantined", "skipped")
        assert line["verdict"] == "accepted" or line["reason"].split(":")[0].isupper()


def test_no_hostile_workbook_changes_a_good_row(project):
    good = [line.split(",") for line in GOOD.splitlines()[1:]]
    assert final_rows(project)[: len(good)] == good
