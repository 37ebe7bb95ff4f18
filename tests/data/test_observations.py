"""The rows of one client, found in the typed rows."""

import dataclasses

import numpy as np
import pandas as pd

from attrition.data import ledger
from attrition.data.observations import DELIVERED, Observation, ObservedRows
from attrition.storage import files
from tests.conftest import make_rows


def read(config):
    lines = [(line.ingested_at, line.source) for line in ledger.read_lines(config)]
    return files.read_arrays(config.deliveries)[DELIVERED], lines


def test_observations_of_a_client_have_outcome_and_delivery(project):
    rows = ObservedRows(project.rows, project.columns)
    delivered, lines = read(project)
    source = pd.read_csv(project.input_folder / "history.csv")
    for name, exited in zip(source["corporation"][:5], source["exited"], strict=False):
        (one,) = rows.find(name, delivered, lines)
        assert (one.churned, one.source) == (exited == 1, "history.csv")
        assert one.ingested_at == lines[0][0] or one.ingested_at == lines[1][0]
    (current,) = rows.find("now3", delivered, lines)
    assert (current.churned, current.source) == (None, "current.csv")
    assert rows.find("nobody", delivered, lines) == []


def test_rows_of_an_earlier_version_have_no_delivery(project):
    rows = ObservedRows(project.rows, project.columns)
    assert rows.find("now3", np.zeros(0, np.int32), []) == [Observation("", None, "", "")]


def test_columns_that_config_names_anew_are_unknown_until_the_next_run(project):
    columns = dataclasses.replace(project.columns, outcome="other", time="at")
    rows = ObservedRows(project.rows, columns)
    assert rows.find(make_rows(1)["corporation"][0], *read(project))[0].churned is None
