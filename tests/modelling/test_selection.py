import numpy as np
import pandas as pd
import pytest

from attrition.modelling import calibration, metrics, models, selection
from attrition.modelling.groups import group_rows
from attrition.modelling.selection import ANCIENT, OLDER, RECENT, Table
from attrition.rows import sampling
from tests.conftest import make_rows


def table(clients, a, b):
    return pd.DataFrame({"client": list(clients), "a": np.array(a, float), "b": list(b)})


def group(rows):
    return group_rows(rows, "client", ["a", "b"])


def learned_from(rows, *, numeric=("lastmonth_activity", "lastyear_activity"), age=None):
    """The table of rows as `make_rows` makes them, each a client of its own."""
    n = len(rows)
    age = np.full(n, RECENT) if age is None else age
    outcome = rows["exited"].to_numpy(float)
    return Table(rows, outcome, np.arange(n), age, tuple(numeric), ())


def cross_validated(table, name):
    folds = selection.make_folds(table, 0)
    return selection.cross_validate(table, name, selection.ALL_ROWS, folds)


def tried(name, *losses):
    score = np.zeros((len(losses), 1))
    return selection.CandidateScore(name, selection.ALL_ROWS, score, np.array(losses))


# ---- folds


@pytest.mark.parametrize("seed", range(3))
def test_linked_rows_are_always_in_the_same_fold(seed):
    rng = np.random.default_rng(seed)
    rows = table(rng.integers(0, 80, 200).astype(str), rng.integers(0, 150, 200), ["x"] * 200)
    outcome = (rng.random(200) < 0.3).astype(float)
    folds = selection.make_folds(
        Table(rows, outcome, group(rows), np.full(200, RECENT), ("a",), ()), seed
    )
    assert len(folds) == 5
    for train, test in folds:
        for name in ("client", "a"):
            assert not set(rows[name].iloc[train]) & set(rows[name].iloc[test])


def test_folds_are_alike_in_size_and_in_outcomes():
    """Groups of 1 to 40 rows: a fold may miss a row of its share, not a group."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), np.minimum(rng.zipf(1.8, 400), 40))
    outcome = (rng.random(len(groups)) < 0.2).astype(float)
    fold = selection.deal_groups(outcome, groups, 5, seed=0)
    assert np.ptp(np.bincount(fold, outcome)) <= 1
    assert np.ptp(np.bincount(fold)) <= 2
    assert all(len(np.unique(fold[groups == group])) == 1 for group in range(400))


def test_repeats_cut_the_rows_in_other_ways():
    table = learned_from(make_rows(100))
    first, second = (selection.make_folds(table, repeat)[0][1] for repeat in (0, 1))
    assert not np.array_equal(first, second)


# ---- candidates


def test_where_the_truth_moved_the_older_rows_may_count_less():
    old, new = make_rows(400, seed=1), make_rows(200, seed=2, prefix="d")
    rows = pd.concat([old, new.assign(exited=1 - new["exited"])], ignore_index=True)
    age = np.where(np.arange(600) < 400, OLDER, RECENT)
    learned = selection.select_model(learned_from(rows, age=age))
    assert learned.chosen.window == "only the rows since the change"
    assert all(len(one.loss) == 200 for one in learned.candidates)


@pytest.mark.parametrize(
    ("ages", "count"), [([RECENT], 1), ([OLDER, RECENT], 3), ([ANCIENT, OLDER, RECENT], 4)]
)
def test_ways_to_count_older_rows_are_tried_only_where_they_differ(ages, count):
    found = selection.windows(np.array(ages))
    assert len(found) == count
    assert found[0] == selection.ALL_ROWS


def test_where_nothing_moved_there_is_one_window():
    found = selection.select_model(learned_from(make_rows(120))).candidates
    assert [one.title for one in found] == models.candidates(120, 30)


def test_risks_of_the_folds_are_those_of_models_that_never_saw_the_row():
    """A name as its own level: only a model that saw the client could know."""
    rng = np.random.default_rng(0)
    rows = table([f"c{i // 4}" for i in range(200)], rng.normal(size=200), ["x"] * 200)
    rows["b"] = rows["client"]
    outcome = (rng.random(50) < 0.5).astype(float).repeat(4)
    found = selection.select_model(
        Table(rows, outcome, group(rows), np.full(200, RECENT), ("a",), ("b",))
    )
    assert found.chosen.name == models.BASE_RATE


def test_who_is_clearly_beaten_is_tried_once():
    found = selection.select_model(learned_from(make_rows(600)))
    repeats = {one.name: one.score.shape[1] for one in found.candidates}
    assert repeats[models.BASE_RATE] == 1
    assert repeats[found.chosen.name] > 1


@pytest.mark.parametrize(("second", "repeats"), [(3.0, 2), (-3.0, 3)])
def test_repeats_end_once_one_more_does_not_change_the_choice(monkeypatch, second, repeats):
    """Logistic regression is best on the first split; on the second one it is again, or very wrong."""
    table = learned_from(make_rows(100))
    strength = {0: 3.0, 1: second, 2: 3.0}

    def predict(table, name, window, each):
        sign = 2 * table.outcome - 1
        return sign * strength[each[0]] if name == models.LOGISTIC else sign * 0.0

    monkeypatch.setattr(selection, "cross_validate", predict)
    compared = selection.compare_candidates(table, [[0], [1], [2]])
    assert max(one.score.shape[1] for one in compared) == repeats


def test_the_lowest_loss_is_chosen_when_it_is_clearly_the_lowest():
    chosen, why = selection.choose_candidate(
        [tried("simple", 1, 1.1, 0.9), tried("best", 0.5, 0.6, 0.4)]
    )
    assert chosen.name == "best"
    assert why == "cross-validated log loss 0.5000, the lowest of 2"


def test_the_simplest_within_one_standard_error_is_chosen():
    """By hand: differences .5, -.3, -.05 have the mean .05 and the standard error .24."""
    chosen, why = selection.choose_candidate(
        [tried("simple", 1, 0.2, 0.45), tried("best", 0.5, 0.5, 0.5)]
    )
    assert chosen.name == "simple"
    assert "within one standard error of the lowest (best 0.5000)" in why


def test_levels_are_tried_as_numbers_that_keep_their_order():
    rows = table("pqrs", [1, 2, 3, 4], ["b", "", "a", "b"])
    coded = selection._encode_categories(
        Table(rows, np.zeros(4), np.arange(4), np.zeros(4), ("a",), ("b",))
    )
    assert coded.rows["b"].tolist() == [2, 0, 1, 2]
    assert rows["b"].tolist() == ["b", "", "a", "b"]


def test_one_that_is_beaten_is_tried_again_where_a_blend_would_take_it_in():
    """Two that err on other rows: each knows what the other does not."""
    rng = np.random.default_rng(0)
    known = rng.normal(0, 2, (2000, 2))
    outcome = (rng.random(2000) < metrics.expit(known @ [1, 0.5])).astype(float)
    made = Table(
        pd.DataFrame(index=range(2000)), outcome, np.arange(2000), np.full(2000, RECENT), (), ()
    )
    both = [
        selection._score_candidate(made, name, selection.ALL_ROWS, [score])
        for name, score in zip((models.LOGISTIC, models.DEEP), known.T * [[1], [0.5]], strict=True)
    ]
    assert selection._is_clearly_worse(both[1], both[0])
    assert selection._useful_in_blend(made, both) == {models.LOGISTIC, models.DEEP}


def ugly(n=240):
    """Tables that want to break a fit, by name: columns, outcomes and clients."""
    rng = np.random.default_rng(0)
    a, left = rng.normal(size=n), rng.random(n) < 0.3
    one, names = np.arange(n) == 7, [f"c{i}" for i in range(n)]
    return {
        "a level for every row": ({"a": a, "b": [f"day {i}" for i in range(n)]}, left, names),
        "numbers too large": ({"a": a * 1e300, "b": "x"}, left, names),
        "numbers too small": ({"a": a * 1e-300, "b": "x"}, left, names),
        "heavy tails": ({"a": np.exp(20 * a), "b": "x"}, left, names),
        "nothing known": ({"a": np.nan, "b": ""}, left, names),
        "one value known": ({"a": np.where(one, 1.0, np.nan), "b": ""}, left, names),
        "rows all alike": ({"a": 1.0, "b": "x"}, left, names),
        "one who left": ({"a": a, "b": "x"}, one, names),
        "one who stayed": ({"a": a, "b": "x"}, ~one, names),
        "one client with nearly all": ({"a": a, "b": "x"}, left, ["big"] * (n - 9) + names[:9]),
        "a perfect column": ({"a": left * 1.0, "b": "x"}, left, names),
    }


@pytest.mark.parametrize("name", ugly())
def test_an_ugly_table_still_makes_a_model(name):
    columns, left, clients = ugly()[name]
    rows = pd.DataFrame({"client": clients}).assign(**columns)
    everything = np.full(len(rows), RECENT)
    made = Table(rows, left.astype(float), group(rows), everything, ("a",), ("b",))
    model = selection.select_model(made).model
    new = pd.DataFrame({"a": [np.nan, 1e300, -1e300, 0], "b": ["", "never seen", "x", "x" * 200]})
    risk = models.predict(model, new)
    assert ((risk >= 0) & (risk <= 1)).all()


# ---- blends


def two_halves(n=1500, seed=0):
    """Half of the log-odds is a straight line of eight columns, half a checkerboard of two others."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(rng.normal(size=(n, 10)), columns=list("abcdefghij"))
    odds = rows[list("cdefghij")].sum(axis=1) + 1.5 * np.sign(rows["a"] * rows["b"])
    return rows.assign(exited=(rng.random(n) < metrics.expit(odds)).astype(float))


def test_a_blend_is_chosen_where_it_pays():
    found = selection.select_model(learned_from(two_halves(), numeric="abcdefghij"))
    assert found.chosen.name == models.BLEND
    assert {models.LOGISTIC, models.BOOSTING} <= set(found.chosen.parts)


def test_the_model_of_a_blend_has_its_parts_and_weights():
    table = learned_from(make_rows(300))
    names, weights = (models.LOGISTIC, models.BOOSTING), (0.7, 0.2)
    blend = selection.CandidateScore(
        models.BLEND, selection.ALL_ROWS, np.zeros((300, 1)), np.zeros(300), names, weights
    )
    model = selection.fit_model(table, blend, models.AS_IT_IS)
    alone = [selection.fit_part(table, name, np.ones(300), np.arange(300)) for name in names]
    expected = sum(
        w * models.score_part(part, table.rows) for w, part in zip(weights, alone, strict=True)
    )
    assert models.predict(model, table.rows) == pytest.approx(metrics.expit(expected))


# ---- what is learned


def test_the_risks_of_the_folds_are_calibrated():
    found = selection.select_model(learned_from(make_rows(1200)))
    rows = make_rows(1200)
    assert found.risk.sum() == pytest.approx(rows["exited"].sum(), rel=0.1)
    assert set(found.calibrations) == set(calibration.FITS)


def test_the_risks_of_the_folds_are_of_one_model_each_as_those_of_new_rows_are():
    """Drift is held against them: means over the repeats would be drawn to the middle."""
    found = selection.select_model(learned_from(make_rows(600)))
    assert found.model.calibration.kind == "none"
    assert found.risk == pytest.approx(metrics.expit(found.chosen.score[:, 0]))
    assert found.risk != pytest.approx(metrics.expit(found.chosen.score.mean(axis=1)))


def test_the_same_rows_make_the_same_model():
    one, other = (selection.select_model(learned_from(make_rows(300))) for _ in range(2))
    rows = make_rows(50, seed=9)
    np.testing.assert_array_equal(
        models.predict(one.model, rows), models.predict(other.model, rows)
    )


# ---- samples


def many_rows(n=6000, *, seed=0):
    """Rows of which a tenth leave, and their true risks."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n)})
    risk = metrics.expit(1.5 * rows["a"].to_numpy() - 3)
    outcome = (rng.random(n) < risk).astype(float)
    everything = np.full(n, RECENT)
    return Table(rows, outcome, np.arange(n), everything, ("a", "b"), ()), risk


def draw(table, *sizes):
    ids = np.random.default_rng(1).integers(0, 2**64, len(table.rows), dtype=np.uint64)
    place, stratum = sampling.place_rows(ids, [table.outcome.astype(np.intp)])
    return {
        size: sampling.take_sample(place, stratum, table.outcome, table.age, size) for size in sizes
    }


def test_a_model_of_a_sample_has_the_level_of_all_rows():
    """Half of the sample left; the risks are those of the whole table, in the mean and for each row."""
    table, risk = many_rows()
    part = table.sample(draw(table, 800)[800])
    assert part.outcome.mean() == pytest.approx(0.5, abs=0.01)
    learned = selection.select_model(part)
    predicted = models.predict(learned.model, table.rows)
    assert predicted.mean() == pytest.approx(table.outcome.mean(), rel=0.1)
    assert np.abs(predicted - risk).mean() < 0.03
    crossed = np.average(learned.risk, weights=part.recent_weight)
    assert crossed == pytest.approx(table.outcome.mean(), rel=0.1)
    assert learned.chosen.loss.mean() == pytest.approx(
        metrics.row_log_loss(table.outcome, risk).mean(), rel=0.1
    )


def test_a_curve_ends_once_more_rows_add_nothing():
    table, _ = many_rows()
    curve = selection.draw_learning_curve(table, draw(table, 500, 1000, 2000, 4000, 6000), 1000)
    assert curve.is_enough
    assert curve.chosen < 4000
    assert curve.points[0]["gain"] is None
    assert curve.points[-1]["gain"] <= max(0.0005, curve.points[-1]["standard_error"])


def test_a_curve_goes_on_while_more_rows_help():
    """Forty columns matter alike, which takes rows to learn."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6000, 40))
    outcome = (rng.random(6000) < metrics.expit(values.sum(axis=1))).astype(float)
    rows = pd.DataFrame(values, columns=[f"x{i}" for i in range(40)])
    everything = np.full(6000, RECENT)
    table = Table(rows, outcome, np.arange(6000), everything, tuple(rows), ())
    curve = selection.draw_learning_curve(table, draw(table, 500, 1000, 2000), 500)
    assert (curve.chosen, curve.is_enough) == (2000, False)
    assert all(point["gain"] > 2 * point["standard_error"] for point in curve.points[1:])
