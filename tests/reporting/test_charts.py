import io
import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from PIL import Image

from attrition.reporting import charts

HOSTILE = ("$x$ \\frac{1}{0}", "<b>&amp;", "emoji 🦄", "日本", "a\nb\tc", "x" * 200, "%s {}", "")
NOTHING = (None, [], {})
AREA = {"value": 0.812, "low": 0.79, "high": 0.834}


def words(figure):
    """All that a figure says, on one line."""
    found = " ".join(text.get_text() for text in figure.findobj(Text))
    return " ".join(found.split())


def boxes(texts):
    """Where texts stand once they are drawn, from the top down."""
    figure = texts[0].get_figure()
    charts.png(figure)
    found = [text.get_window_extent() for text in texts]
    return sorted(found, key=lambda box: -box.y0)


def ink(figure):
    """Draw a figure; return how many of its pixels are dark."""
    return int((np.asarray(Image.open(io.BytesIO(charts.png(figure))).convert("L")) < 128).sum())


def points(figure):
    """How many points the first line of a figure has."""
    return len(figure.axes[0].lines[0].get_xdata())


def score(at, value, *, name="unseen", promoted=1, half=0.02, metric="roc_auc"):
    row = {"scored_at": at, "set": name, "metric": metric, "value": value, "promoted": promoted}
    return row | {"low": value - half, "high": value + half}


def drifted(n, psi=0.01, verdict="stable"):
    rows = [{"column": f"column {i:02d} " + "x" * 60, "kind": "numeric"} for i in range(n)]
    return [row | {"psi": psi, "verdict": verdict} for row in rows]


# ---- whatever comes in


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (charts.confusion_matrix, "No outcomes to compare"),
        (lambda nothing: charts.roc(nothing, None), "This curve needs clients who left"),
        (charts.calibration, "No outcomes to compare"),
        (charts.gain, "there is no leaver to find"),
        (charts.importance, "no model yet"),
        (charts.score_over_time, "No model has been scored yet"),
        (charts.missing_over_time, "not been counted yet"),
        (charts.drift, "No column has enough rows"),
        (charts.risk_distribution, "not been assessed yet"),
    ],
)
def test_chart_without_data_says_what_is_missing(draw, said, nothing):
    figure = draw(nothing)
    assert said in words(figure)
    assert ink(figure) > 100
    assert not [axes for axes in figure.axes if axes.lines or axes.patches or axes.collections]


def test_rows_with_holes_are_left_out():
    bad = [None, math.nan, "x", math.inf]
    groups = [{"mean_risk": x, "observed": 0.1, "low": 0.0, "high": 0.2} for x in (*bad, 0.1)]
    scores = [score(at, 0.8) for at in ("never", None, "2026-01-02T03:04:05Z")]
    scores.append(score("2026-01-03T03:04:05Z", math.nan))
    missing = [{"at": at, "column": "a", "missing_pct": 2.0} for at in ("", "2026-01-02")]
    risks = {"edges": [0, 0.5, None], "counts": [1, 2]}
    (bars,) = charts.calibration(groups).axes[0].findobj(LineCollection)
    assert len(bars.get_segments()) == 1
    scored = charts.score_over_time(scores, [{"at": None, "action": "promoted"}, {}])
    assert points(scored) == 1
    assert "deployed" not in words(scored)
    assert points(charts.missing_over_time(missing)) == 1
    moved = charts.drift([*drifted(1), *drifted(1, psi=None), *drifted(1, psi="x")])
    assert len(moved.axes[0].get_yticklabels()) == 1
    assert "2 with less drift or nothing to compare are not shown" in words(moved)
    assert "not been assessed" in words(charts.risk_distribution(risks))
    assert "No outcomes" in words(charts.confusion_matrix({"stayed_stayed": 3}))


def test_same_numbers_give_the_same_opaque_bytes():
    first, second = (charts.png(charts.drift(drifted(5))) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).mode == "RGB"


def test_png_has_every_pixel_that_was_drawn():
    figure = charts.drift(drifted(5))
    drawn = Image.open(io.BytesIO(charts.png(figure)))
    drawn.load()  # checks every sum
    assert np.array_equal(np.asarray(drawn), np.asarray(figure.canvas.buffer_rgba())[:, :, :3])


def test_hostile_names_are_drawn_as_they_are():
    rows = [row | {"column": name} for row, name in zip(drifted(8), HOSTILE, strict=True)]
    days = [
        {"at": "2026-01-02", "column": name, "missing_pct": 9 - i} for i, name in enumerate(HOSTILE)
    ]
    for figure in (charts.drift(rows), charts.missing_over_time(days)):
        assert ink(figure) > 1000
        assert "$x$ \\frac{1}{0}" in words(figure)
        data = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert not any(text.get_parse_math() for text in data)


# ---- how well the model predicts


def test_confusion_matrix_counts_and_shares_each_actual_class():
    counts = {"stayed_stayed": 90, "stayed_left": 10, "left_stayed": 3, "left_left": 9}
    said = words(charts.confusion_matrix(counts)).replace("\xa0", " ")
    for expected in ("90 % of those who stayed", "75 % of those who left", "88 % of 112 right"):
        assert expected in said


def test_confusion_matrix_without_anyone_who_left_has_no_share_of_them():
    counts = {"stayed_stayed": 5, "stayed_left": 0, "left_stayed": 0, "left_left": 0}
    assert "none left" in words(charts.confusion_matrix(counts))


def test_roc_says_area_and_interval_in_words():
    curve = {"false_positive_rate": [0, 0.2, 1], "true_positive_rate": [0, 0.7, 1]}
    assert "ROC AUC 0.81 (0.79 to 0.83): a client who left ranks above" in words(
        charts.roc(curve, AREA)
    )
    assert "too few outcomes" in words(charts.roc(curve, {"value": None}))
    assert "AUC 0.81:" in words(charts.roc(curve, {"value": 0.812, "low": None, "high": None}))


def test_calibration_draws_the_interval_of_each_group():
    rows = [{"mean_risk": r, "observed": r, "low": r - 0.1, "high": r + 0.1} for r in (0.2, 0.4)]
    (bars,) = charts.calibration(rows).axes[0].findobj(LineCollection)
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert ends == pytest.approx(np.array([[0.1, 0.3], [0.3, 0.5]]))


def test_gain_marks_what_the_team_can_call():
    curve = {"share_contacted": [0, 0.1, 1], "share_found": [0, 0.31, 1]}
    figure = charts.gain(curve, called=100, clients=1_000)
    assert "calling 100 of 1,000 finds 31 % of the leavers" in words(figure)
    assert "calling all 26 finds 100 %" in words(charts.gain(curve, called=100, clients=26))
    assert "calling" not in words(charts.gain(curve)).replace("calling the riskiest", "")


def test_importance_puts_the_most_on_top_and_sums_up_the_small():
    shares = {f"c{i:02d}": (i + 1) / 210 for i in range(20)}
    axes = charts.importance(shares).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [*(f"c{i:02d}" for i in range(19, 4, -1)), "5 others"]
    assert axes.patches[-1].get_width() == pytest.approx(15 / 210)


def test_importance_of_a_base_rate_says_that_it_uses_no_column():
    said = words(charts.importance({"a": 0.0, "b": 0.0}))
    assert "no column: every client has the same risk" in said


@pytest.mark.parametrize("n", [1, 2, 30])
def test_importance_of_hostile_names_is_drawn_and_none_overlap(n):
    shares = dict.fromkeys([*HOSTILE, *(f"column {i} " + "x" * 60 for i in range(n))], 0.1)
    figure = charts.importance(dict(list(shares.items())[:n]))
    labels = figure.axes[0].get_yticklabels()
    assert len(labels) == min(n, 16)
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes(labels)))


# ---- over time


def test_score_over_time_draws_intervals_and_deployments():
    days = [f"2026-0{month}-02T04:00:00Z" for month in (1, 2, 3)]
    scores = [score(day, 0.8, promoted=i != 1) for i, day in enumerate(days)]
    changes = [{"at": days[0], "action": "promoted"}, {"at": days[2], "action": "rolled back"}]
    figure = charts.score_over_time(scores, changes)
    assert "▼ deployed; ✖ rolled back" in words(figure)
    assert "unseen clients" in words(figure)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [1]


def test_score_over_time_of_one_day_and_another_measure():
    of_one_day = charts.score_over_time([score("2026-01-02", 0.8)])
    assert points(of_one_day) == 1
    assert of_one_day.axes[0].lines[0].get_ydata() == pytest.approx([0.8])
    assert "No model has been scored" in words(
        charts.score_over_time([score("2026", 1, metric="f1")])
    )


def test_missing_over_time_names_the_columns_with_most_and_none_overlap():
    rows = [
        {"at": f"2026-01-{day:02d}", "column": f"column_{i:02d}", "missing_pct": 5 + 0.01 * i}
        for day in (1, 2)
        for i in range(30)
    ]
    axes = charts.missing_over_time(rows).axes[0]
    named = [text for text in axes.texts if text.get_text().startswith("column")]
    assert [text.get_text()[:9] for text in named] == [f"column_{i}" for i in range(29, 23, -1)]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes(named)))


def test_missing_over_time_says_that_nothing_was_missing():
    rows = [{"at": "2026-01-01", "column": name, "missing_pct": 0} for name in "ab"]
    assert "No value was missing in any of 2 columns." in words(charts.missing_over_time(rows))


# ---- the data of today


def test_time_axis_of_any_length_has_three_to_nine_ticks():
    _, axes = charts._plot("", "")
    for minutes in np.geomspace(5, 5e6, 150):  # some minutes to ten years; a warning is an error
        charts._time_axis(axes, [20_000.0, 20_000.0 + minutes / 1440])
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.xaxis.get_major_locator()() if low <= tick <= high]
        assert 3 <= len(ticks) <= 9, minutes


def test_drift_of_30_long_columns_does_not_overlap():
    axes = charts.drift(drifted(30)).axes[0]
    labels = axes.get_yticklabels()
    assert len(labels) == 30
    assert all(len(label.get_text()) <= 30 and "…" in label.get_text() for label in labels)
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes(labels)))


def test_drift_puts_the_furthest_on_top_and_says_the_verdict():
    rows = drifted(2) + drifted(1, psi=2.5, verdict="act") + drifted(1, psi=0.05, verdict="look")
    figure = charts.drift([row | {"column": f"c{i}"} for i, row in enumerate(rows)])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["c2", "c3"]
    assert "2.500 material" in words(figure)
    assert "0.050 minor" in words(figure)


def test_drift_of_many_columns_shows_the_furthest_and_counts_the_rest():
    assert "; 60 with less drift or nothing to compare" in words(charts.drift(drifted(100)))


def test_risk_distribution_counts_the_clients_over_half():
    histogram = {"edges": [0, 0.25, 0.5, 0.75, 1], "counts": [9_000, 800, 150, 50]}
    figure = charts.risk_distribution(histogram)
    assert "200 of 10,000 have a risk over 50 %." in words(figure)


def test_risk_distribution_of_nobody():
    histogram = {"edges": [0, 0.5, 1], "counts": [0, 0]}
    assert "There is no current client" in words(charts.risk_distribution(histogram))
