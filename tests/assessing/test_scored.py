"""The clients of all parts as one table."""

import shutil
from dataclasses import replace
from itertools import pairwise

import pandas as pd

import assessment
from attrition.assessing.scored import PARTS
from attrition.config import Engine
from attrition.contacts import log
from attrition.data import clients
from attrition.rows import ledger
from attrition.storage import files
from tests.conftest import make_rows
from tests.support import arrive, enter, read_table


def test_parts_of_an_interrupted_assessment_are_removed_even_if_nothing_is_assessed(project):
    assessment.assess_clients(project)
    left_over = project.reports_folder / f"{PARTS}killed"
    left_over.mkdir()
    (left_over / "part.arrow").write_bytes(b"half")
    assert assessment.assess_clients(project).up_to_date
    assert not left_over.exists()


def test_files_are_the_same_to_the_byte_whatever_the_size_of_parts(
    project, next_day, monkeypatch, tmp_path
):
    first = clients.ClientTable(project.clients).listed[0]["client"]
    enter(project, first, kind=log.REASSIGNMENT, manager="Cy", date="2999-01-01")
    same = dict.fromkeys(project.columns.features, 90)
    arrive(project, make_rows(40, prefix="new").assign(**same, exited=""))  # many of one risk
    paths = [project.clients, project.risk_scores, project.contact_list, project.risk_history]
    before, results = tmp_path / "before", []
    shutil.copytree(project.reports_folder, before)
    threads = replace(project, engine=Engine("loky", workers=2))  # for a single part, no process
    for config, count in ((project, 1), (threads, 1), (project, 2), (project, 4)):
        shutil.copytree(before, project.reports_folder, dirs_exist_ok=True)
        ends = [i * 2**64 // count for i in range(count + 1)]
        parts = [ledger.Part(low, high) for low, high in pairwise(ends)]
        monkeypatch.setattr(ledger, "split_rows", lambda *_, parts=parts: parts)
        assert not assessment.assess_clients(config).up_to_date
        record = files.read_record(project.assessment_record)
        results.append(([path.read_bytes() for path in paths], record))
    assert all(result == results[0] for result in results)
    assert not list(project.reports_folder.glob(f"{PARTS}*"))
    scores = read_table(project.risk_scores)
    assert scores["risk"].duplicated().any()
    pd.testing.assert_frame_equal(
        scores, scores.sort_values(["risk", "client"], ascending=[False, True], ignore_index=True)
    )
    assert read_table(project.risk_scores).set_index("client").loc[first, "manager"] == "Cy"
    assert read_table(project.contact_list).set_index("client").loc[first, "manager"] == "Cy"
    assert not clients.ClientTable(project.clients).find(first)["manager"]
