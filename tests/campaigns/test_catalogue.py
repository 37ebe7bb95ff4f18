"""Every file of the catalogue, in both forms, through ingestion: the verdict, the account, the rows."""

import csv
import gzip
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import lanes
from ingestion import ingest_new_data
from tests.campaigns import catalogue
from tests.campaigns.catalogue import ACCEPT, FILE_OUT, GOOD, MAX_SOURCE_MB, ROWS_OUT, SKIP
from tests.conftest import write_config
from tests.support import check_conserved, counts, final_rows, ledger, put, rejected, settle

VERDICTS = {ACCEPT: "accepted", ROWS_OUT: "accepted", FILE_OUT: "quarantined", SKIP: "skipped"}
CASES = [
    pytest.param(form, case, id=f"{form.name}-{tick}{case.name[:24]}")
    for form in catalogue.FORMS
    for tick, cases in (("", catalogue.first_tick), ("again-", catalogue.second_tick))
    for case in cases(form)
]
MENDABLE = {
    *("CONTROL_CHAR", "MISSING_VALUE", "BAD_ID", "BAD_LABEL"),
    *("BAD_NUMBER", "NOT_FINITE", "OUT_OF_RANGE", "LOCALE_NUMBER"),
}


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """What outlives a power cut is not asked here, and a thousand commits wait long for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def configured(folder, form):
    return write_config(folder, max_source_mb=MAX_SOURCE_MB, **form.settings)


def deliver(config, case):
    path = config.input_folder / case.name
    case.write(path)
    settle(path)
    return path


def account_of(config):
    """The lines of the account, but for what a symbolic link of a case points to."""
    return [line for line in ledger(config) if "target" not in line["source"]]


@pytest.mark.parametrize(("form", "case"), CASES)
def test_catalogue(tmp_path, form, case):
    config = configured(tmp_path, form)
    for earlier in case.after:
        deliver(config, earlier)
        ingest_new_data(config)
    known = len(account_of(config)) if case.after else 0
    rows_before = len(final_rows(config)) if case.after else 0
    refused_before = len(rejected(config)) if case.after else 0
    path = deliver(config, case)

    ingest_new_data(config)

    check_conserved(config)
    news = account_of(config)[known:]
    if case.outcome == SKIP and not case.code:
        assert news == []
        return
    [line] = news
    is_held = case.outcome == ROWS_OUT and case.counts[0] == 0
    assert line["verdict"] == ("quarantined" if is_held else VERDICTS[case.outcome])
    assert case.code in line["reason"]
    assert case.code or line["reason"] == form.always
    assert counts(line) == case.counts
    assert line["source"].isprintable()
    refused = rejected(config)[refused_before:]
    assert {row["source"] for row in refused} <= {line["source"]}
    assert len(refused) == case.counts[1]
    assert all(row["reason"].startswith(f"{case.code}: ") for row in refused)
    assert len(final_rows(config)) == rows_before + case.counts[0]
    if refused:
        check_mendable(config, form, case, path.read_bytes().decode(), refused)


def check_mendable(config, form, case, text, refused):
    """A row refused stands in rejected.csv as it was delivered; mended, it is taken."""
    delivered = records_by_line(text)
    for row in refused:
        fields = next(csv.reader([row["raw"]]))
        whole = delivered[int(row["line"])]
        is_cut = max(map(len, whole)) > 2000
        assert row["raw"].endswith("...") if is_cut else fields == whole
        if case.code in MENDABLE and not is_cut:
            good = dict(zip(form.columns, form.row("mended").split(","), strict=True))
            bad = {form.client, form.number, form.outcome}
            cells = dict(zip(form.columns, fields, strict=True))
            mended = [good[name] if name in bad else cells[name] for name in form.columns]
            put(config, f"mended{row['line']}.csv", form.lines(",".join(mended)))
            ingest_new_data(config)
            assert counts(ledger(config)[-1]) == (1, 0, 0)


def records_by_line(text):
    """The records of a CSV text by the line where each begins."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines)
    found, begin = {}, 1
    for fields in reader:
        found[begin] = fields
        begin = reader.line_num + 1
    return found


def test_both_forms_have_the_same_cases():
    plain, telco = ({case.name for case in catalogue.all_cases(form)} for form in catalogue.FORMS)
    assert telco - plain == {"f16_one.csv", "f17_zero.csv"}
    assert plain <= telco


def test_all_cases_in_one_folder_at_once(tmp_path):
    """What is wrong with one file is no other's affair."""
    form = catalogue.PLAIN
    config = configured(tmp_path, form)
    cases = [case for case in catalogue.first_tick(form) if "symlink" not in case.name]
    for case in cases:
        deliver(config, case)
    ingest_new_data(config)
    check_conserved(config)
    found = {line["source"]: line for line in account_of(config)}
    assert len(found) == len(cases)
    for case in cases:
        if case.outcome == FILE_OUT:
            assert found[case.name]["reason"].startswith(case.code)
    assert ingest_new_data(config).up_to_date


def test_plain_cell_values_reach_the_final_rows(empty_project):
    put(empty_project, "e.csv", catalogue.lines("NA,+12,1.50,-0,No", "007,NA,5e-324,,yes"))
    ingest_new_data(empty_project)
    assert final_rows(empty_project) == [
        ["NA", "12", "1.5", "0", "0"],
        ["007", "", "5e-324", "", "1"],
    ]


# ---- generated


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_mutated_file_is_never_a_crash_and_never_a_loss(data):
    text = bytearray((GOOD + '"echo, Inc.",1.5,,7,\nCafé,NA,2,3,yes\n').encode())
    for _ in range(data.draw(st.integers(1, 4), label="mutations")):
        at = data.draw(st.integers(0, len(text)), label="at")
        end = data.draw(st.integers(at, min(len(text), at + 40)), label="end")
        kind = data.draw(st.sampled_from(["cut", "flip", "splice", "repeat"]), label="kind")
        if kind == "cut":
            del text[at:end]
        elif kind == "flip":
            text[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == "splice":
            text[at:at] = data.draw(st.binary(max_size=8) | st.text('",;\n\r\t 0-.', max_size=8)
                                    .map(str.encode))  # fmt: skip
        else:
            text[at:at] = text[at:end]
    ending = data.draw(st.sampled_from([".csv", ".csv.gz"]), label="ending")
    content = bytes(text) if ending == ".csv" else mutated_gzip(bytes(text), data)
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder))
        put(config, f"m{ending}", content)
        ingest_new_data(config)
        check_conserved(config)


@pytest.mark.parametrize("seed", range(1, 5))
def test_both_lanes_agree_on_mutated_files(seed):
    found = lanes.judge_batch(seed, 500)
    assert found.wrong == []
    assert min(found.files["fast lane"], found.files["accepted"]) > 100


def mutated_gzip(text, data):
    packed = bytearray(gzip.compress(text, mtime=0))
    if data.draw(st.booleans(), label="harm the gzip too"):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(packed)
