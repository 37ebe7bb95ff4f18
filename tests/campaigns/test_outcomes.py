"""How outcomes arrive: those who left first, and from one odd file; nothing else has changed."""

import shutil

import numpy as np
import pandas as pd
import pytest

from attrition import config_file
from attrition.operations import releases
from attrition.storage import files
from benchmarks.life import run_steps
from tests.conftest import make_rows, write_config

SIGNAL = 0.5  # ROC AUC 0.63
EARLY_LEAVERS, EARLY_STAYERS = 100, 25
CLIENTS = make_rows(1_200, seed=5, prefix="now", signal=SIGNAL)
# A third of those who will leave, and a few who renewed early.
EARLY = pd.concat(
    [
        CLIENTS[CLIENTS["exited"] == 1].head(EARLY_LEAVERS),
        CLIENTS[CLIENTS["exited"] == 0].head(EARLY_STAYERS),
    ]
)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A project whose champion learned from 2,000 outcomes, and 1,200 open clients; never changed."""
    config = write_config(tmp_path_factory.mktemp("before"), contact_capacity=20)
    deliver(config, "history", make_rows(2_000, signal=SIGNAL))
    deliver(config, "open", CLIENTS.assign(exited=""))
    run_steps(config)
    return config


@pytest.fixture(scope="module")
def after_early(before, tmp_path_factory):
    """The same project after the early outcomes; never changed."""
    config = copy(before, tmp_path_factory.mktemp("early"))
    deliver(config, "early", EARLY)
    run_steps(config)
    return config


def copy(config, folder):
    shutil.copytree(config.file.parent, folder, symlinks=True, dirs_exist_ok=True)
    return config_file.load(folder / "config.json")


def deliver(config, name, rows):
    rows.to_csv(config.input_folder / f"{name}.csv", index=False)


def monitoring(config):
    return files.read_record(config.monitoring_record)


def champion(config):
    return releases.read_current(config.production_folder).id


def risks(config):
    return pd.read_csv(config.risk_scores, usecols=["client", "risk"])


def test_leavers_known_first_change_neither_the_champion_nor_the_other_risks(before, after_early):
    assert champion(after_early) == champion(before)
    is_known = risks(before)["client"].isin(EARLY["corporation"])
    others = risks(before)[~is_known].reset_index(drop=True)
    pd.testing.assert_frame_equal(risks(after_early), others)
    listed = pd.read_csv(after_early.contact_list)["client"]
    assert listed.tolist() == others["client"].head(20).tolist()


def test_a_cohort_is_immature_as_long_as_few_of_its_outcomes_are_known(after_early):
    immature = [cohort for cohort in monitoring(after_early)["cohorts"] if not cohort["mature"]]
    counts = [(cohort["rows"], cohort["known"], cohort["left"]) for cohort in immature]
    assert counts == [(len(CLIENTS), len(EARLY), EARLY_LEAVERS)]


def test_a_complete_cohort_that_has_not_changed_is_judged_and_the_champion_kept(
    before, after_early, tmp_path
):
    config = copy(after_early, tmp_path)
    deliver(config, "late", CLIENTS.drop(EARLY.index))
    run_steps(config)
    assert champion(config) == champion(before)
    record = monitoring(config)
    assert all(cohort["mature"] for cohort in record["cohorts"])
    performance = record["performance"]
    assert (performance["verdict"], performance["rows"]) == ("fine", len(CLIENTS))


def test_an_odd_file_is_named_and_replaces_no_champion(before, tmp_path):
    config = copy(before, tmp_path)
    odd = make_rows(200, seed=2, prefix="odd")
    odd = odd.assign(exited=np.random.default_rng(3).integers(2, size=len(odd)))
    deliver(config, "odd", odd)
    run_steps(config)
    assert champion(config) == champion(before)
    pd.testing.assert_frame_equal(risks(config), risks(before))
    assert [entry["source"] for entry in monitoring(config)["suspicious"]] == ["odd.csv"]
