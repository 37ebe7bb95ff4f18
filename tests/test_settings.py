"""Which settings make a step run again: those that it declares, each of them, and no other."""

import importlib
import shutil
from dataclasses import replace

import pytest

from attrition import config as configuration
from attrition import config_file
from attrition.contacts import log
from attrition.errors import Undeclared
from attrition.rows import ledger
from tests.conftest import make_rows, read_rows, write_config

STEPS = {
    "ingestion": "ingest_new_data",
    "monitoring": "monitor_model",
    "training": "train_model",
    "scoring": "score_model",
    "assessment": "assess_clients",
    "diagnostics": "run_diagnostics",
    "reporting": "write_report",
}
DECLARED = {
    name: ledger.SETTINGS if name == "ingestion" else importlib.import_module(name).SETTINGS
    for name in STEPS
}
OTHER = {
    "columns": configuration.Columns(ignore=("note",)),
    "dataset_format": "parquet",
    "databases": (configuration.Database("crm", "sqlite:////nowhere", "clients"),),
    "files": configuration.Files(by_name=(("none*", configuration.Dialect(decimal=",")),)),
    "missing_markers": (*configuration.MISSING_MARKERS, "unknown"),
    "contact_capacity": 10,
    "contact_order": "value_at_risk",
    "manager_capacity": (("Ann", 5),),
    "cooldown_reached_days": 10,
    "cooldown_not_reached_days": 1,
    "contact_cost": 50.0,
    "contact_success": 0.2,
    "experiment": configuration.Experiment(share=0.3),
    "time_zone": "Europe/Berlin",
    "outcome_after_days": 30.0,
    "max_days_ahead": 30.0,
    "held_out_share": 0.3,
    "settle_seconds": 1.0,
    "max_source_mb": 100.0,
    "max_source_seconds": 100.0,
    "sources_may_vanish": True,
    "ignore_files": ("*.bak",),
    "accept_leakage": ("lastyear_activity",),
    "run_limit_minutes": 10.0,
    "overdue_minutes": 10.0,
    "currency": "CHF",
    "labels": {"lastyear_activity": configuration.Label("lastyear_activity", "orders", fixed=True)},
    "api": configuration.Api(port=8001),
}


def run_step(name, config):
    return getattr(importlib.import_module(name), STEPS[name])(config)


def reach_client_with_outcome(config, place):
    rows = read_rows(config).dropna(subset=config.columns.outcome)
    client = rows[config.columns.client].iloc[place]
    reached = log.Entry(client, log.CONTACT, "Ann", log.REACHED)
    log.append(config.contact_log, [reached], "2020-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def stepped_folder(finished_folder, tmp_path_factory):
    """A finished project in which each step is up to date when it is run by hand."""
    folder = tmp_path_factory.mktemp("stepped") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    config = config_file.load(folder / "config.json")
    reach_client_with_outcome(config, 0)
    for name in STEPS:
        run_step(name, config)
    return folder


@pytest.fixture
def stepped(stepped_folder, tmp_path):
    shutil.copytree(stepped_folder, tmp_path / "project", symlinks=True)
    return config_file.load(tmp_path / "project" / "config.json")


def test_every_setting_has_another_value_here():
    assert OTHER.keys() | {"contact_rule"} == configuration.SETTINGS


def change(config, setting):
    """Give a setting another value, or switch the experiment on, which gives a rule for contacts."""
    changed = "experiment" if setting == "contact_rule" else setting
    return replace(config, **{changed: OTHER[changed]})


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name in STEPS for setting in DECLARED[name] if name != "ingestion"],
)
def test_a_declared_setting_makes_its_step_run_again_and_it_reads_no_other(stepped, name, setting):
    assert run_step(name, stepped).up_to_date
    config = change(stepped, setting)
    if name == "diagnostics":  # it describes the clients as they were assessed
        run_step("assessment", config)
    assert not run_step(name, config.limited_to(*DECLARED[name])).up_to_date


@pytest.mark.parametrize("setting", DECLARED["ingestion"])
def test_a_setting_that_decides_how_a_row_reads_makes_ingestion_read_again(stepped, setting):
    assert not run_step("ingestion", replace(stepped, **{setting: OTHER[setting]})).up_to_date


@pytest.mark.parametrize("name", STEPS)
def test_no_other_setting_makes_a_step_run_again(stepped, name):
    others = OTHER.keys() - set(DECLARED[name])
    if "contact_rule" in DECLARED[name]:
        others -= {"experiment"}
    for setting in others:
        assert run_step(name, change(stepped, setting)).up_to_date, setting


def test_other_missing_markers_change_what_scoring_reads(stepped):
    import scoring

    rows = make_rows(300, seed=5, prefix="marked").astype(object)
    rows.loc[::3, "lastmonth_activity"] = "unknown"
    rows.to_csv(stepped.test_folder / "testdata.csv", index=False)
    before = scoring.score_model(stepped)
    assert any("100 rows refused" in warning for warning in before.warnings)
    markers = {"missing_markers": OTHER["missing_markers"]}
    after = scoring.score_model(replace(stepped, **markers))
    assert not after.up_to_date
    assert not any("refused" in warning for warning in after.warnings)


def test_another_contact_capacity_is_monitored_and_diagnosed_again(stepped):
    config = replace(stepped, contact_capacity=10)
    assert not run_step("monitoring", config).up_to_date
    assert not run_step("diagnostics", config).up_to_date


def test_a_refusal_for_leakage_is_asked_again_if_other_columns_are_accepted(stepped):
    import deployment

    deployment.refuse(stepped, deployment.LEAKAGE, "a column knows the outcome")
    assert deployment.find_current_decision(replace(stepped, currency="CHF")) is not None
    accepted = replace(stepped, accept_leakage=OTHER["accept_leakage"])
    assert deployment.find_current_decision(accepted) is None


# ---- the view of a step


def test_a_limited_view_has_every_path_and_the_declared_settings(tmp_path):
    config = write_config(tmp_path, contact_capacity=7)
    view = config.limited_to("contact_capacity")
    assert (view.contact_capacity, view.final_data) == (7, config.final_data)


def test_reading_an_undeclared_setting_raises_and_names_it(tmp_path):
    view = write_config(tmp_path).limited_to("contact_capacity")
    with pytest.raises(Undeclared, match="currency .* add it to SETTINGS"):
        _ = view.currency


def test_a_view_of_a_view_cannot_declare_more(tmp_path):
    view = write_config(tmp_path).limited_to("contact_capacity")
    with pytest.raises(Undeclared, match="columns"):
        view.limited_to("columns")


def test_a_fingerprint_changes_with_each_declared_setting_and_with_no_other(tmp_path):
    config = write_config(tmp_path)
    for setting, value in OTHER.items():
        other = replace(config, **{setting: value})
        is_changed = value != getattr(config, setting)
        one, two = (each.limited_to(setting).fingerprint() for each in (config, other))
        assert (one != two) == is_changed
        rest = OTHER.keys() - {setting}
        one, two = (each.limited_to(*rest).fingerprint() for each in (config, other))
        assert one == two


def test_rule_for_contacts_changes_with_the_experiment_and_the_time_zone_but_not_with_the_share(
    tmp_path,
):
    off = write_config(tmp_path)
    on = replace(off, experiment=configuration.Experiment())

    def fingerprint(config):
        return config.limited_to("contact_rule").fingerprint()

    assert fingerprint(off) == off.limited_to().fingerprint()
    assert fingerprint(off) == fingerprint(change(off, "time_zone"))
    assert fingerprint(on) == fingerprint(change(on, "experiment"))
    others = [change(on, "time_zone"), change(on, "outcome_after_days"), off]
    assert fingerprint(on) not in map(fingerprint, others)


def test_scores_are_computed_again_if_another_client_was_reached(stepped):
    config = replace(stepped, experiment=configuration.Experiment())
    run_step("scoring", config)
    assert run_step("scoring", config).up_to_date
    reach_client_with_outcome(config, 1)
    assert not run_step("scoring", config).up_to_date
