import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from attrition.monitoring import drift

REFERENCE = 10_000


def table(n, seed, *, shift=0.0, missing=0.0, levels=(0.5, 0.3, 0.2)):
    """Six columns of different kinds, one law; `shift` moves x by so many standard deviations."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, n)
    return pd.DataFrame(
        {
            "x": np.where(rng.random(n) < missing, np.nan, x),
            "count": rng.poisson(0.3, n).astype(float),
            "value": np.where(rng.random(n) < 0.05, np.nan, rng.lognormal(8, 1, n)),
            "level": rng.choice(["a", "b", ""], n, p=levels),
            "many": rng.integers(0, 50, n).astype(str),
            drift.SCORE: rng.beta(2, 5, n),
        }
    )


def look(reference, batch):
    return drift.compare_columns(reference, batch, ["x", "count", "value"], ["level", "many"])


def verdict(found, name):
    return next(column for column in found.columns if column.column == name)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_no_shift_is_no_alarm(n):
    reference = table(REFERENCE, 10_000)
    looks = [look(reference, table(n, seed)) for seed in range(200)]
    alarmed = [any(c.verdict in ("act", "look") for c in found.columns) for found in looks]
    assert np.mean(alarmed) <= 0.08


def test_no_shift_is_no_alarm_against_a_small_reference():
    pairs = [(table(200, 1000 + seed), table(200, seed)) for seed in range(200)]
    assert np.mean([look(*pair).verdict == "moved" for pair in pairs]) <= 0.08


def test_half_a_standard_deviation_is_found_in_a_hundred_rows():
    reference = table(REFERENCE, 1)
    found = [look(reference, table(100, seed, shift=0.5)) for seed in range(20)]
    seen = [verdict(one, "x").verdict in ("act", "look") for one in found]
    assert np.mean(seen) >= 0.8


def test_the_column_that_moved_is_the_one_that_is_named():
    found = look(table(REFERENCE, 1), table(1000, 2, shift=0.5))
    assert found.verdict == "moved"
    assert [c.column for c in found.columns if c.verdict != "stable"] == ["x"]
    assert found.sentence == (
        "data has drifted: x (1,000 rows; shifts of 0.12 SD or more would be detected)"
    )


def test_values_that_go_missing_are_found():
    found = look(table(REFERENCE, 1), table(1000, 2, missing=0.1))
    assert verdict(found, "x").verdict in ("act", "look")
    assert verdict(found, "x").missing_pct == pytest.approx(10, abs=3)
    assert verdict(found, "x").reference_missing_pct == 0


# ---- all columns together


def correlated(n, seed, correlation):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, n))
    return pd.DataFrame({"a": a, "b": correlation * a + np.sqrt(1 - correlation**2) * b, "c": c})


def jointly(n, seed, correlation):
    return drift.compare_jointly(
        correlated(5000, 99, 0.0), correlated(n, seed, correlation), "abc", []
    )


def test_columns_that_now_rise_together_are_found_and_named():
    found = jointly(2000, 1, 0.6)
    assert found.verdict == "moved"
    assert {name for name, _ in found.columns[:2]} == {"a", "b"}


def test_columns_that_are_as_they_were_are_stable_together():
    found = [jointly(2000, seed, 0.0) for seed in range(5)]
    assert {one.verdict for one in found} == {"stable"}


def test_few_rows_are_not_looked_at_together():
    found = jointly(99, 1, 0.6)
    assert (found.verdict, found.roc_auc) == ("insufficient", None)
    assert found.sentence == "99 rows are too few to compare all columns jointly (at least 100)"


def test_odd_columns_are_no_trouble_together():
    odd = table(300, 1).assign(x=np.r_[np.full(150, np.inf), np.full(150, np.nan)], count=3.0)
    found = drift.compare_jointly(table(300, 2), odd, ["x", "count"], ["level", "many"])
    assert found.verdict == "moved"
    assert found.columns[0][0] in ("x", "count")


# ---- one column


def test_significant_but_tiny_is_stable():
    found = look(table(100_000, 1), table(100_000, 2, shift=0.03))
    assert verdict(found, "x").q_value < 0.001
    assert verdict(found, "x").verdict == "stable"


def test_levels_that_change_their_shares_are_found():
    found = look(table(REFERENCE, 1), table(500, 2, levels=(0.2, 0.6, 0.2)))
    assert verdict(found, "level").verdict == "act"


def test_levels_never_seen_before_are_found_and_their_share_told():
    batch = table(300, 2)
    batch.loc[:99, "level"] = "new"
    found = verdict(look(table(REFERENCE, 1), batch), "level")
    assert found.verdict == "act"
    assert found.unseen_pct == pytest.approx(100 / 3)


@pytest.mark.parametrize("usual", [0.0, 5.0])
@pytest.mark.parametrize("change", [-3.0, 3.0])
def test_a_nearly_constant_column_that_moves_is_found_in_either_direction(usual, change):
    reference, batch = table(REFERENCE, 1), table(300, 2)
    reference["count"], batch["count"] = usual, usual + change
    reference.loc[:99, "count"] = usual + 7
    assert verdict(look(reference, batch), "count").verdict == "act"


ODD = {
    "constant": 3.0,
    "all missing": np.nan,
    "half infinite": np.r_[np.full(150, np.inf), np.arange(150.0)],
    "all infinite": -np.inf,
}


@pytest.mark.parametrize("before", ODD)
@pytest.mark.parametrize("now", ODD)
def test_an_odd_numeric_column_neither_breaks_nor_gives_nan(before, now):
    reference = table(300, 1).assign(x=ODD[before])
    found = look(reference, table(300, 2).assign(x=ODD[now]))
    assert_plain(found)


@pytest.mark.parametrize("before", ["", "one"])
@pytest.mark.parametrize("now", ["", "one", "other"])
def test_an_odd_categorical_column_neither_breaks_nor_gives_nan(before, now):
    found = look(table(300, 1).assign(level=before), table(300, 2).assign(level=now))
    assert_plain(found)
    assert verdict(found, "level").verdict == ("stable" if before == now else "act") or (
        before == now and verdict(found, "level").verdict == "insufficient"
    )


def assert_plain(found):
    for column in found.to_dict()["columns"]:
        figures = [value for value in column.values() if isinstance(value, float)]
        assert np.isfinite(figures).all()
        assert column["verdict"] in ("stable", "look", "act", "insufficient")


def test_a_column_without_a_value_on_either_side_has_no_verdict():
    found = look(table(300, 1).assign(x=np.nan), table(300, 2).assign(x=np.nan))
    assert verdict(found, "x").verdict == "insufficient"
    assert verdict(found, "x").p_value is None


@pytest.mark.parametrize("n", [0, 5, 29])
def test_few_rows_are_no_verdict_but_say_what_they_could_show(n):
    found = look(table(REFERENCE, 1), table(n, 2, shift=3))
    assert (found.verdict, found.rows, found.columns) == ("insufficient", n, ())
    assert ("would be detected" in found.sentence) == (n > 0)


def test_psi_of_no_shift_is_nought_on_average():
    rng = np.random.default_rng(0)
    expected = rng.multinomial(REFERENCE, np.full(10, 0.1))
    drawn = [drift.psi(expected, rng.multinomial(100, np.full(10, 0.1))) for _ in range(500)]
    assert np.median(drawn) < 0.02  # with its noise it would be 0.09


def test_psi_of_a_large_shift_is_the_textbook_formula():
    expected, found = np.array([500_000, 500_000]), np.array([800_000, 200_000])
    textbook = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert drift.psi(expected, found) == pytest.approx(textbook, abs=1e-4)


def test_psi_of_an_empty_cell_is_finite():
    assert np.isfinite(drift.psi(np.array([100, 0]), np.array([0, 100])))


def test_p_value_of_a_shift_is_that_of_mann_and_whitney_for_two_tests():
    a, b = table(500, 1)["x"], table(200, 2, shift=0.3)["x"]
    expected = 2 * stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert drift._compare_numbers(a, b)["p_value"] == pytest.approx(expected)


@pytest.mark.parametrize("step", [0.001, 0.5, 3])
def test_mann_and_whitneys_test_is_that_of_scipy_whatever_the_ties(step):
    rng = np.random.default_rng(0)
    a, b = (np.sort(np.round(rng.normal(size=n) / step)) for n in (500, 200))
    expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert drift._mann_whitney(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("hits", [90, 120, 200])
def test_two_shares_of_many_rows_are_compared_by_chi_squared_with_yates_correction(hits):
    table = [[hits, 1000 - hits], [1000, 9000]]
    expected = stats.chi2_contingency(table).pvalue
    assert drift._compare_shares(hits, 1000, 1000, 10_000) == pytest.approx(expected)
    assert expected == pytest.approx(stats.fisher_exact(table).pvalue, rel=0.2)


def test_two_shares_of_few_rows_are_compared_exactly():
    expected = stats.fisher_exact([[9, 41], [1000, 9000]]).pvalue
    assert drift._compare_shares(9, 50, 1000, 10_000) == pytest.approx(expected)


def test_levels_are_compared_as_text_even_if_they_have_no_hash():
    a = pd.Series([["x", 1], ("x", 1), None, 1, 1.0, "1"] * 50, dtype=object)
    assert drift._count_categories(a) == {
        "['x', 1]": 50,
        "('x', 1)": 50,
        "": 50,
        "1": 100,
        "1.0": 50,
    }


def test_a_wider_spread_around_the_same_middle_is_found():
    batch = table(1000, 2)
    batch["x"] *= 1.5
    found = verdict(look(table(REFERENCE, 1), batch), "x")
    assert found.verdict in ("act", "look")


def test_distance_is_in_interquartile_ranges():
    a, b = table(REFERENCE, 1)["value"], table(REFERENCE, 1)["value"] + 700
    spread = a.quantile(0.75) - a.quantile(0.25)
    assert drift._compare_numbers(a, b)["distance"] == pytest.approx(700 / spread, rel=0.02)


def test_p_value_of_levels_is_chi_squared():
    a, b = (table(n, n)["level"].replace("", "c") for n in (500, 200))
    counts = [[int((x == level).sum()) for level in "abc"] for x in (a, b)]
    found = drift._compare_categories(a, b)
    expected = stats.chi2_contingency(counts, correction=False).pvalue
    assert found["p_value"] == pytest.approx(expected)
    assert found["unseen_pct"] == 0


def test_rare_levels_are_pooled_until_they_count():
    a = pd.Series(["a"] * 80 + [f"r{i // 2}" for i in range(20)])
    b = pd.Series(["a"] * 60 + [f"r{i // 4}" for i in range(40)])
    expected = stats.chi2_contingency([[80, 20], [60, 40]], correction=False).pvalue
    assert drift._compare_categories(a, b)["p_value"] == pytest.approx(expected)


def test_new_levels_are_natural_in_a_column_of_very_many():
    rng = np.random.default_rng(0)
    a, b = (pd.Series(rng.integers(0, 50_000, n).astype(str)) for n in (5000, 1000))
    found = drift._compare_categories(a, b)
    assert found["unseen_pct"] > 80
    assert found["points"] < 5
    assert found["p_value"] > 0.01


def test_a_column_that_the_model_hardly_goes_by_does_not_move_the_batch():
    reference, batch = table(REFERENCE, 1), table(1000, 2, shift=0.5)
    uses = {"x": 0.05, "count": 0.95}
    found = drift.compare_columns(
        reference, batch, ["x", "count", "value"], ["level", "many"], uses
    )
    assert verdict(found, "x").verdict == "act"
    assert found.verdict == "stable"
    assert "x drifted, but has little importance to the model" in found.sentence
    uses = {"x": 0.15, "count": 0.85}
    found = drift.compare_columns(
        reference, batch, ["x", "count", "value"], ["level", "many"], uses
    )
    assert found.verdict == "moved"


def test_levels_the_model_never_met_move_the_batch_whatever_it_goes_by():
    batch = table(300, 2)
    batch.loc[:99, "level"] = "new"
    uses = {"x": 1.0}
    found = drift.compare_columns(table(REFERENCE, 1), batch, ["x"], ["level"], uses)
    assert found.verdict == "moved"


@pytest.mark.parametrize(("used", "expected"), [("a", "moved"), ("c", "stable")])
def test_columns_that_rise_together_move_the_batch_where_the_model_goes_by_them(used, expected):
    rng = np.random.default_rng(5)
    reference, batch = (
        correlated(n, n, r).assign(**{drift.SCORE: rng.beta(2, 5, n)})
        for n, r in ((5000, 0.0), (2000, 0.6))
    )
    found = drift.detect_drift(reference, batch, "abc", [], {used: 1.0})
    assert (found.verdict, found.joint.verdict) == (expected, "moved")


# ---- columns that age


def months(*, first=0, last=6, clients=600, replaced=0.0, seed=0, moved=0.0):
    """A panel: tenure grows by 1 a month, x varies around each client's mean; `moved` shifts tenure."""
    rng = np.random.default_rng(seed)
    start, own = rng.integers(1, 40, clients), rng.normal(size=clients)
    new_in = np.where(rng.random(clients) < replaced, rng.integers(1, 36, clients), -100)
    tables = []
    for month in range(last):
        tenure = np.where(new_in <= month, month - new_in, start + month)
        tenure = np.where(new_in < 0, start + month, np.maximum(tenure, 0))
        x = own + 0.3 * rng.normal(size=clients)
        risk = special.expit(-1 - 0.02 * tenure + x + 0.1 * rng.normal(size=clients))
        columns = {"tenure": tenure + moved, "x": x, drift.SCORE: risk, "time": day(month)}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables[first:], ignore_index=True)


def day(month):
    return f"{2024 + month // 12}-{month % 12 + 1:02d}-01"


def compare_panel(batch, reference=None, time="time"):
    training = {
        "features": {"numeric": ["tenure", "x"], "categorical": []},
        "importance": {"tenure": 0.4, "x": 0.6},
    }
    reference = months() if reference is None else reference
    return drift.compare_clients(reference, batch, batch[drift.SCORE].to_numpy(), training, time)


@pytest.mark.parametrize("month", [7, 15, 23])
def test_clients_who_grow_older_are_no_drift_if_the_times_are_known(month):
    batch = months(first=month, last=month + 1)
    assert compare_panel(batch).verdict == "stable"
    assert "tenure: compared along its trend, +1 a month" in compare_panel(batch).sentence
    assert compare_panel(batch, time=None).verdict == "moved"


def test_three_months_show_a_trend_even_if_they_are_not_equally_long():
    report = compare_panel(months(first=15, last=16), months(last=3))
    assert "tenure: compared along its trend, +1 a month" in report.sentence


def test_predicted_risk_ages_with_the_clients():
    report = compare_panel(months(first=23, last=24))
    assert "predicted risk: compared along its trend, log-odds -0.01" in report.sentence


@pytest.mark.parametrize("moved", [-30, 10])
def test_a_shift_on_top_of_a_trend_is_drift(moved):
    report = compare_panel(months(first=15, last=16, moved=moved))
    assert report.verdict == "moved"
    assert verdict(report, "tenure").verdict == "act"


def test_a_shift_of_another_column_is_drift_while_clients_age():
    batch = months(first=15, last=16)
    report = compare_panel(batch.assign(x=batch["x"] + 0.6))
    assert verdict(report, "x").verdict == "act"
    assert verdict(report, "tenure").verdict == "stable"


def test_new_clients_among_those_who_age_are_no_drift():
    panel = {"replaced": 0.6, "clients": 1500}
    reference, batch = months(**panel), months(first=17, last=18, **panel)
    report = compare_panel(batch, reference)
    assert verdict(report, "tenure").verdict != "act"
    assert verdict(compare_panel(batch, reference, time=None), "tenure").verdict == "act"


def test_a_column_whose_trend_has_ended_is_compared_as_it_is():
    batch = months(first=5, last=6).assign(time=day(23))
    report = compare_panel(batch)
    assert report.verdict == "stable"
    assert "tenure: compared" not in report.sentence


def test_columns_without_a_trend_are_compared_as_they_are():
    sentences = []
    for seed in range(10):
        calm = months(seed=seed, clients=200, last=7)
        calm["tenure"] -= pd.to_datetime(calm["time"]).dt.month
        calm[drift.SCORE] = special.expit(calm["x"])
        reference, batch = calm[calm["time"] < day(6)], calm[calm["time"] == day(6)]
        sentences.append(compare_panel(batch, reference).sentence)
    assert sum("trend" in sentence for sentence in sentences) <= 1


@pytest.mark.parametrize("times", [[""], ["", "2024-01-01"], ["2024-01-01", "2024-02-01"]])
def test_fewer_than_three_times_are_no_trend(times):
    reference = months()
    reference["time"] = np.resize(times, len(reference))
    assert "trend" not in compare_panel(months(first=5, last=6), reference).sentence


def test_rows_without_times_is_compared_as_it_is():
    batch, reference = months(first=15, last=16), months()
    assert "trend" not in compare_panel(batch.assign(time="")).sentence
    assert "trend" not in compare_panel(batch, reference.drop(columns="time")).sentence


def test_upper_quantiles_may_rise_more_than_lower_ones():
    rng = np.random.default_rng(0)
    times = np.repeat(np.arange(12.0), 500)
    rank = rng.random(len(times))
    slopes = drift.fit_trend(times, 100 * rank + 3 * times * rank)
    assert slopes.mean() == pytest.approx(1.5, abs=0.3)
    assert slopes[0] == pytest.approx(0, abs=0.6)
    assert slopes[-1] == pytest.approx(3, abs=0.6)


def test_one_column_in_a_hundred_has_a_trend_by_chance():
    rng = np.random.default_rng(0)
    times = np.repeat(np.arange(6.0), 50)
    trends = [drift.fit_trend(times, rng.normal(size=300)) is not None for _ in range(500)]
    assert 0.002 <= np.mean(trends) <= 0.025


def test_infinite_and_missing_values_have_no_trend():
    times = np.repeat(np.arange(6.0), 50)
    values = np.where(np.arange(300) % 2 == 0, drift.LARGEST, np.nan)
    assert drift.fit_trend(times, values) is None
    assert drift.fit_trend(times, np.full(300, np.nan)) is None


def test_q_values_are_those_of_benjamini_and_hochberg():
    """By hand: sorted .01, .02, .04 times 3/1, 3/2, 3/3, made monotone from the right."""
    found = drift._benjamini_hochberg([0.04, None, 0.01, 0.02])
    assert found[1] is None
    assert [found[0], *found[2:]] == pytest.approx([0.04, 0.03, 0.03])
