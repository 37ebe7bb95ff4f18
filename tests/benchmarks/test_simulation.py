import sqlite3
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attrition.errors import ConfigError
from benchmarks import simulation

ROOT = Path(__file__).resolve().parents[2]
NUMERIC = ("lastmonth_activity", "lastyear_activity", "number_of_employees")
MAYBE = ("tenure_months", "open_tickets")
KEY = ["corporation", "observed_on"]


@pytest.fixture(scope="module")
def year():
    """Twelve months of 10,000 clients."""
    return list(islice(simulation.simulate_months(seed=5), 12))


@pytest.fixture(scope="module")
def old_model(year):
    """A model of the concept before any shift, from 12,000 rows."""
    return fit(pd.concat(rows.sample(1000, random_state=1) for rows in year))


@pytest.fixture(scope="module")
def up_to_date():
    """One month of another 10,000 clients."""
    return simulation.simulate(seed=6)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("company")
    simulation.write_sample(folder)
    return folder


@pytest.fixture(scope="module")
def history(sample):
    return pd.concat(map(pd.read_csv, sorted(sample.glob("sourcedata/*.csv"))), ignore_index=True)


@pytest.fixture(scope="module")
def book(sample):
    connection = sqlite3.connect(sample / "sourcedata/crm.sqlite")
    rows = pd.read_sql_query("SELECT * FROM clients", connection)
    connection.close()
    return rows


def design(rows):
    known = np.log1p(rows[[*NUMERIC, *MAYBE]].to_numpy(float, na_value=np.nan))
    missing = np.isnan(known[:, -2:])
    contracts = [rows["contract_type"] == name for name in simulation.CONTRACT_SHARES]
    industries = [rows["industry"] == name for name in simulation.INDUSTRY_SHARES]
    return np.column_stack([np.nan_to_num(known, nan=1.0), missing, *contracts, *industries])


def fit(rows):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return model.fit(design(rows), rows["exited"])


def auc(model, rows):
    return roc_auc_score(rows["exited"], model.predict_proba(design(rows))[:, 1])


def run(*args, cwd):
    command = [sys.executable, "-m", "benchmarks.simulation", *map(str, args)]
    env = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_same_seed_gives_same_rows():
    one, again = (simulation.simulate(clients=300, months=2, seed=7) for _ in range(2))
    other = simulation.simulate(clients=300, months=2, seed=8)
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_month_does_not_depend_on_how_many_are_asked_for():
    panel = simulation.simulate(clients=300, months=4)
    third = panel[panel["observed_on"] == simulation.month_start(2)].reset_index(drop=True)
    pd.testing.assert_frame_equal(third, simulation.simulate_month(2, clients=300))


def test_months_before_a_shift_are_as_without_it():
    plain = simulation.simulate(clients=300, months=3)
    shifted = simulation.simulate(clients=300, months=4, shift="harmful", shift_month=3)
    pd.testing.assert_frame_equal(plain, shifted.head(900))


def test_columns_and_missing_values_are_as_documented(year):
    rows = pd.concat(year)
    missing = rows.isna().mean()
    assert tuple(rows.columns) == simulation.COLUMNS
    assert set(missing[missing > 0].index) == {"tenure_months", "open_tickets", "industry"}
    assert missing["open_tickets"] == pytest.approx(0.08, abs=0.015)
    assert missing["industry"] == pytest.approx(0.03, abs=0.01)
    assert rows["number_of_employees"].min() >= 1
    assert (rows["industry"] == "mining").mean() == pytest.approx(0.005, abs=0.003)


def test_base_rate_is_fifteen_percent_in_every_month(year):
    rates = np.array([simulation.true_risk(rows).mean() for rows in year])
    assert np.abs(rates - 0.15).max() < 0.01


def test_outcomes_match_the_true_risk(year):
    rows = pd.concat(year)
    risk = simulation.true_risk(rows)
    for part in np.array_split(np.argsort(risk), 20):
        noise = np.sqrt((risk[part] * (1 - risk[part])).sum()) / len(part)
        assert abs(rows["exited"].to_numpy()[part].mean() - risk[part].mean()) < 4 * noise


def test_best_possible_auc_is_known_and_no_outcome_contradicts_it(year):
    risk = simulation.true_risk(year[0])
    best = simulation.describe_truth(risk).auc
    assert 0.84 < best < 0.87
    assert roc_auc_score(year[0]["exited"], risk) == pytest.approx(best, abs=0.02)


def test_simple_model_comes_close_to_the_best_possible(up_to_date, old_model):
    best = roc_auc_score(up_to_date["exited"], simulation.true_risk(up_to_date))
    assert best - 0.015 < auc(old_model, up_to_date) < best


def test_riskiest_clients_of_a_simple_model_are_nearly_the_riskiest_there_are(
    up_to_date, old_model
):
    risk = simulation.true_risk(up_to_date)
    listed = np.argsort(-old_model.predict_proba(design(up_to_date))[:, 1])[:100]
    best = simulation.describe_truth(risk).best_100
    assert 0.85 < best < 0.92
    assert risk[listed].mean() > 0.965 * best


def test_missing_tickets_have_an_effect_of_their_own():
    rows = simulation.simulate(clients=200)
    risks = {
        tickets: simulation.true_risk(rows.assign(open_tickets=tickets)).mean()
        for tickets in (0.0, np.nan, 9.0)
    }
    assert risks[0.0] < risks[np.nan] < risks[9.0]


def test_true_risk_is_the_same_for_rows_read_back_from_disk(tmp_path):
    path = simulation.write_month(tmp_path, 0, rows=300, clients=300)[0]
    direct = simulation.true_risk(simulation.simulate_month(0, clients=300))
    assert simulation.true_risk(pd.read_csv(path)) == pytest.approx(direct, abs=1e-12)


def test_harmless_shift_moves_the_rows_and_the_old_model_stays_right(year, old_model):
    rows = simulation.simulate_month(6, seed=5, clients=4000, shift="harmless", shift_month=4)
    is_channel = [(part["industry"] == "wholesale").mean() for part in (year[-1], rows)]
    assert is_channel[1] > 2 * is_channel[0]
    assert rows["number_of_employees"].mean() > 1.2 * year[-1]["number_of_employees"].mean()
    assert auc(old_model, rows) > 0.83


def test_harmful_shift_breaks_the_old_model_and_a_refit_recovers(year, old_model):
    assert auc(old_model, year[-1]) > 0.83
    rows = simulation.simulate(seed=5, clients=4000, shift="harmful")
    assert auc(old_model, rows) < 0.65
    refit = fit(rows.sample(1000, random_state=1))
    assert auc(refit, rows) > 0.75


def test_shift_month_splits_the_true_risk_by_date():
    rows = simulation.simulate(clients=200, months=4, shift="harmful", shift_month=2)
    risk = simulation.true_risk(rows, shift="harmful", shift_month=2)
    assert (risk[:400] == simulation.true_risk(rows[:400])).all()
    assert (risk[400:] == simulation.true_risk(rows[400:], shift="harmful")).all()


def test_client_who_left_is_never_seen_again(year):
    gone = set()
    for rows in year:
        assert gone.isdisjoint(rows["corporation"])
        assert rows["corporation"].is_unique
        gone |= set(rows.loc[rows["exited"] == 1, "corporation"])


def test_client_changes_gradually(year):
    pair = year[3].merge(year[4], on="corporation", suffixes=("", "_next"))
    yearly = pair[["lastyear_activity", "lastyear_activity_next"]]
    assert (pair["tenure_months_next"] - pair["tenure_months"]).dropna().eq(1).all()
    assert np.corrcoef(np.log1p(yearly.to_numpy()).T)[0, 1] > 0.9
    assert (yearly["lastyear_activity"] != yearly["lastyear_activity_next"]).mean() > 0.9


def test_outcomes_repeat_the_open_rows_of_two_months_before(tmp_path):
    simulation.write_month(tmp_path, 0, rows=50, clients=200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2025-09-open.csv"]
    simulation.write_month(tmp_path, 2, rows=50, clients=200)
    opened = (tmp_path / "2025-09-open.csv").read_text("utf-8").splitlines()
    known = (tmp_path / "2025-11-outcomes.csv").read_text("utf-8").splitlines()
    assert all(line.endswith(",") for line in opened[1:])
    assert [line[:-1] for line in known[1:]] == opened[1:]
    assert {line[-1] for line in known[1:]} == {"0", "1"}


def test_month_after_month_goes_on_where_the_sample_ends(tmp_path, sample):
    outcomes = simulation.write_month(tmp_path, 13)[1]
    assert outcomes.read_bytes() == (sample / "sourcedata/2026-08.csv").read_bytes()


def test_committed_sample_is_what_is_written_today(sample, book):
    names = sorted(path.relative_to(sample) for path in sample.glob("*/*.csv"))
    assert len(names) == 13
    for name in names:
        assert (ROOT / name).read_bytes() == (sample / name).read_bytes()
    connection = sqlite3.connect(ROOT / "sourcedata/crm.sqlite")
    pd.testing.assert_frame_equal(pd.read_sql_query("SELECT * FROM clients", connection), book)
    connection.close()


def test_committed_sample_is_small():
    files = [*ROOT.glob("sourcedata/20*.csv"), ROOT / "sourcedata/crm.sqlite"]
    files.append(ROOT / "testdata/testdata.csv")
    assert sum(path.stat().st_size for path in files) < 5_000_000


def test_book_holds_current_clients_only(history, book):
    assert len(book) == 10_000
    assert set(book["observed_on"]) == {"2026-10-01"}
    assert book["exited"].isna().all()
    assert book["updated_at"].is_monotonic_increasing
    left = history.loc[history["exited"] == 1, "corporation"]
    assert not left.isin(book["corporation"]).any()
    assert history["corporation"].isin(book["corporation"]).any()


def test_history_has_a_thousand_rows_a_month_and_no_repeats(history):
    assert history.groupby("observed_on").size().tolist() == [1000] * 12
    assert not history.duplicated(KEY).any()


def test_test_data_are_of_other_clients(sample, history, book):
    rows = pd.read_csv(sample / "testdata/testdata.csv")
    assert len(rows) == rows["corporation"].nunique() == 2000
    assert rows["observed_on"].unique().tolist() == history["observed_on"].unique().tolist()
    assert not rows["corporation"].isin([*history["corporation"], *book["corporation"]]).any()


def test_whole_numbers_are_written_without_a_decimal_point(sample):
    rows = pd.read_csv(sample / "testdata/testdata.csv", dtype=str)
    for column in (*NUMERIC, *MAYBE, "exited"):
        assert rows[column].dropna().str.fullmatch(r"\d+").all()
    assert rows["annual_contract_value"].str.fullmatch(r"\d+\.\d\d").all()


def test_names_are_unique_and_some_are_hard_to_write():
    names = [simulation.client_name(number) for number in range(100_000)]
    assert len(set(names)) == 100_000
    assert not any(name[-1].isdigit() for name in names[:92_160])
    assert any(name.startswith("O'Hara & Søn") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clients": 0}, "clients is 0, expected 1 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"shift": "odd"}, "shift is 'odd', expected one of none"),
        ({"first_month": "9/2025"}, "first_month is '9/2025', expected YYYY-MM"),
    ],
)
def test_bad_argument_is_refused_by_name(arguments, message):
    with pytest.raises(ConfigError, match=message):
        simulation.simulate(**{"clients": 10, **arguments})


def test_describe_prints_what_the_best_model_reaches(capsys):
    assert simulation.main(["describe", "--clients", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rows", "1000"]
    assert lines[2].startswith("best possible ROC AUC     0.8")


def test_more_rows_than_clients_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at most the number of clients, 10"):
        simulation.write_month(tmp_path, 0, rows=11, clients=10)


def test_script_runs_from_a_foreign_folder(tmp_path):
    result = run("month", "--out", "new", "--month", 0, "--rows", 9, "--clients", 9, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert len((tmp_path / "new/2025-09-open.csv").read_text("utf-8").splitlines()) == 10


def test_missing_parent_folder_is_one_line_and_exit_2(tmp_path):
    result = run("sample", "--out", "no/where", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"{tmp_path / 'no'} is not a folder" in result.stderr
    assert not list(tmp_path.iterdir())
