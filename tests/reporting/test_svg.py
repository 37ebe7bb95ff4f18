"""Charts as SVG: planted points at their places, the same numbers as a table, nothing inline."""

import re
from xml.etree import ElementTree

import pytest

from attrition.reporting import svg
from tests.effect.records import FIRST, SECOND

CURVE = {"share_contacted": [0, 0.5, 1], "share_found": [0, 0.8, 1]}
GROUP = {"mean_risk": 0.5, "observed": 0.4, "low": 0.3, "high": 0.5, "rows": 80}


def score(at, value, name="test", promoted=0):
    limits = {"low": value - 0.02, "high": value + 0.02}
    return {"scored_at": at, "set": name, "metric": "roc_auc", "value": value} | {
        "promoted": promoted,
        **limits,
    }


def scores():
    return [
        score(f"2026-0{month}-01T00:00:00Z", 0.7 + month / 100, name, promoted=month == 2)
        for month in (3, 1, 2)
        for name in ("unseen", "test")
    ]


def tags(drawing, name):
    return list(ElementTree.fromstring(drawing).iter(name))


def texts(drawing):
    return [each.text or "" for each in tags(drawing, "text")]


def test_scores_are_drawn_by_time_with_one_mark_for_each_deployment():
    deployments = [
        {"at": "2026-02-01T00:00:00Z", "action": "promoted"},
        {"at": "2026-02-02T00:00:00Z", "action": "refused"},
        {"at": "2025-01-01T00:00:00Z", "action": "promoted"},
    ]
    chart = svg.scores_over_time(scores(), deployments)
    dots = tags(chart.drawing, "circle")
    assert len(dots) == 6
    assert [dot.get("class") for dot in dots[:3]] == [
        "dot first open",
        "dot first",
        "dot first open",
    ]
    places = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in dots[:3]]
    assert places == sorted(places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert chart.drawing.count('class="flag"') == 1
    assert chart.rows[0] == [
        "2026-03-01 00:00",
        "unseen clients",
        "0.73 (0.71–0.75)",
        "not deployed",
    ]
    assert len(chart.rows) == 6


def test_single_score_is_a_dot_with_its_interval():
    chart = svg.scores_over_time([score("2026-01-01T00:00:00Z", 0.8)], [])
    assert len(tags(chart.drawing, "circle")) == 1
    assert len(re.findall('class="whisker', chart.drawing)) == 1
    assert "polygon" not in chart.drawing


def test_calibration_and_gain_are_at_their_places():
    chart = svg.calibration([GROUP])
    (dot,) = tags(chart.drawing, "circle")
    width = svg.SIZE[0] - svg.LEFT - svg.RIGHT
    assert float(dot.get("cx")) == pytest.approx(svg.LEFT + width * 0.5 / 0.525, abs=0.1)
    assert chart.rows == [["50\xa0%", "40\xa0% (30\xa0%–50\xa0%)", "80"]]
    gain = svg.gain(CURVE, contacted=25, clients=100)
    assert gain.legend[0][0].startswith("capacity: contacting 25 of 100 finds 40\xa0%")
    assert gain.rows[2] == ["10\xa0%", "16\xa0%"]


@pytest.mark.parametrize(
    "chart",
    [
        svg.scores_over_time([], []),
        svg.scores_over_time(
            [score("no time", 0.8), score("2026-01-01T00:00:00Z", float("nan"))], []
        ),
        svg.calibration([{**GROUP, "low": None}]),
        svg.gain(None, contacted=1, clients=2),
        svg.gain({"share_contacted": [0], "share_found": [0]}, contacted=0, clients=0),
    ],
)
def test_chart_without_data_has_a_sentence(chart):
    assert chart.drawing is None
    assert chart.missing.endswith(".")


def test_drawing_has_a_name_and_nothing_inline():
    for chart in (
        svg.scores_over_time(scores(), []),
        svg.calibration([GROUP]),
        svg.gain(CURVE, contacted=1, clients=9),
    ):
        root = ElementTree.fromstring(chart.drawing)
        assert (root.get("role"), root[0].tag, root[0].text) == ("img", "title", chart.title)
        assert not re.search(r"style=|on\w+=|<script", chart.drawing)


def test_text_in_a_drawing_is_escaped():
    assert svg.element("text", "<script>", title='"') == '<text title="&#34;">&lt;script&gt;</text>'


def test_spark_ends_at_the_newest_value_and_shows_its_threshold():
    line = svg.spark([0.0, None, 0.05, 0.2], guide=0.1)
    assert "0.0,29.0 50.0,22.2 100.0,2.0" in line
    assert 'y1="15.5"' in line
    assert svg.spark([0.3]) == svg.spark([]) == ""
    assert svg.spark([0, 0]).count("29.0") == 2


def test_risk_of_a_client_is_drawn_with_the_change_of_the_model():
    risks = [("2026-05-01", "a", 0.1), ("2026-05-02", "a", 0.2), ("2026-05-03", "b", 0.4)]
    chart = svg.risk_over_time(risks)
    assert chart.drawing.count("<circle") == 3
    assert chart.drawing.count('class="mark"') == 1
    assert "model changed on 2026-05-03" in chart.drawing
    assert [row[0] for row in chart.rows] == ["2026-05-03", "2026-05-02", "2026-05-01"]
    assert svg.risk_over_time(risks[:1]).drawing is None


def test_effect_is_drawn_upwards_and_an_unproven_look_is_open():
    chart = svg.effect_by_look([FIRST, SECOND])
    first, second = tags(chart.drawing, "circle")
    assert [dot.get("class") for dot in (first, second)] == ["dot first open", "dot first"]
    assert float(first.get("cy")) < float(second.get("cy"))  # 10 fewer left, then 8
    assert len([one for one in tags(chart.drawing, "line") if one.get("class") == "guide"]) == 1
    assert chart.rows[1] == ["Jul 2026", "+8.0 (+2.0 to +14.0)", "proven"]


def test_effect_of_many_looks_has_room_for_the_labels_of_some():
    looks = [FIRST | {"at": f"2026-{month:02d}-01T06:00:00Z"} for month in range(1, 13)]
    chart = svg.effect_by_look(looks)
    assert [text for text in texts(chart.drawing) if "2026" in text] == [
        *("Jan 2026", "Mar 2026", "May 2026", "Jul 2026", "Sep 2026", "Nov 2026")
    ]
    assert len(tags(chart.drawing, "circle")) == len(chart.rows) == 12


def test_effect_without_an_estimate_has_a_sentence_instead():
    assert svg.effect_by_look([]).drawing is None
    assert svg.effect_by_look([FIRST | {"effect": None}]).drawing is None
