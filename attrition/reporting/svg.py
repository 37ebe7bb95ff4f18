"""Draw charts as SVG for the pages, in the colours of their style sheet, without matplotlib.

A chart contains the same numbers as a table, for people who cannot see it. If there is not enough data,
it has a sentence instead of a drawing. Nothing in it has an inline style, which the pages forbid.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from attrition import wording
from attrition.wording import decimal, finite, minute, percent

Row = Mapping[str, Any]
Point = tuple[float, float]

SIZE, WIDE = (460, 280), (920, 270)
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 24, 40
ASIDE = 9  # between two series at the same time
LABELS = 6  # below a drawing
SCORES_SHOWN, SERIES = 60, ("first", "second")
DAY_S = 86_400
DAY_STEPS = (1, 2, 7, 14, 30, 61, 91, 182, 365)
DEPLOYED = {"promoted": "deployed", "rolled back": "rolled back"}
MINUS = "−"
LOOK_VERDICTS = {"helps": "proven", "harms": "harm proven", "open": "not proven", "void": "void"}
HUNDREDTHS = partial(decimal, digits=2)


class Chart(NamedTuple):
    """A drawing, its legend (text and class), and its numbers as a table.

    columns: heading, and whether its cells are numbers; missing: the sentence instead of a drawing
    """

    title: str
    note: str = ""
    drawing: Markup | None = None
    legend: Sequence[tuple[str, str]] = ()
    columns: Sequence[tuple[str, bool]] = ()
    rows: Sequence[Sequence[str]] = ()
    missing: str = ""


# ---- elements and scales


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element; text is escaped. In the name of an attribute, _ stands for -.

    A trailing _ is removed: `class_`.

    >>> element("text", "<b>", x=1.25, class_="words")
    Markup('<text x="1.2" class="words">&lt;b&gt;</text>')
    """
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
    )
    inside = Markup("").join(escape(part) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(name, pairs, inside)


def _number(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from low to high, about `count` of them.

    >>> ticks(0, 1), ticks(0.81, 0.87)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.82, 0.84, 0.86])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(part for part in (1, 2, 5, 10) if part * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def time_ticks(first: float, last: float, count: int = 6) -> list[tuple[float, str]]:
    """Return times from first to last, in seconds since 1970, with their labels in UTC.

    >>> time_ticks(0, 4 * DAY_S)
    [(0, '1 Jan'), (86400, '2 Jan'), (172800, '3 Jan'), (259200, '4 Jan'), (345600, '5 Jan')]
    >>> time_ticks(3600, 3700)
    [(3600, '1 Jan 1970, 01:00')]
    """
    if last - first < DAY_S:
        return [(first, f"{_date(first, year=True)}, {datetime.fromtimestamp(first, UTC):%H:%M}")]
    days = (last - first) / DAY_S
    step = DAY_S * next((n for n in DAY_STEPS if days / n < count), math.ceil(days / count))
    start = math.ceil(first / DAY_S) * DAY_S
    return [(at, _date(at, year=days > 300)) for at in range(start, int(last) + 1, step)]


def _date(at: float, *, year: bool) -> str:
    day = datetime.fromtimestamp(at, UTC)
    return f"{day.day} {day:%b %Y}" if year else f"{day.day} {day:%b}"


class Scales(NamedTuple):
    """The size of a drawing, and the ends of its axes."""

    size: tuple[int, int]
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        width = self.size[0] - LEFT - RIGHT
        return LEFT + width * (value - self.low_x) / (self.high_x - self.low_x)

    def y(self, value: float) -> float:
        height = self.size[1] - TOP - BOTTOM
        return TOP + height * (1 - (value - self.low_y) / (self.high_y - self.low_y))

    def path(self, points: Iterable[Point]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)

    def line(self, start: Point, end: Point, class_: str) -> Markup:
        (x1, y1), (x2, y2) = [(self.x(x), self.y(y)) for x, y in (start, end)]
        return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _axes(
    to: Scales,
    x_ticks: Iterable[tuple[float, str]],
    y_ticks: Iterable[tuple[float, str]],
    x_title: str = "",
    y_title: str = "",
) -> list[Markup]:
    """Draw the axes with their ticks; rules cross the drawing at the ticks of the y axis."""
    width, height = to.size
    floor = height - BOTTOM
    parts = [element("line", x1=LEFT, y1=floor, x2=width - RIGHT, y2=floor, class_="axis")]
    for value, text in y_ticks:
        y = to.y(value)
        if y < floor - 0.5:
            parts.append(element("line", x1=LEFT, y1=y, x2=width - RIGHT, y2=y, class_="rule"))
        parts.append(element("text", text, x=LEFT - 7, y=y + 4, text_anchor="end"))
    for value, text in x_ticks:
        x = to.x(value)
        anchor = "start" if x < LEFT + 20 else "end" if x > width - RIGHT - 14 else "middle"
        parts.append(element("line", x1=x, y1=floor, x2=x, y2=floor + 4, class_="axis"))
        parts.append(element("text", text, x=x, y=floor + 17, text_anchor=anchor))
    middle = (LEFT + width - RIGHT) / 2
    parts.append(element("text", x_title, x=middle, y=height - 4, text_anchor="middle"))
    if y_title:
        parts.append(element("text", y_title, x=4, y=11))
    return parts


def _share_ticks(high: float) -> list[tuple[float, str]]:
    return [(value, percent(value)) for value in ticks(0, high)]


def _drawing(title: str, size: tuple[int, int], parts: Iterable[Markup]) -> Markup:
    body = element("title", title) + Markup("").join(parts)
    return element("svg", body, viewBox=f"0 0 {size[0]} {size[1]}", role="img")


# ---- scores over time


def scores_over_time(scores: Iterable[Row], deployments: Iterable[Row]) -> Chart:
    """Draw the ROC AUC of each candidate with its interval, and the times of deployments.

    scores: scored_at, set, metric, value, low, high, promoted; deployments: at, action
    """
    chart = Chart(
        "ROC AUC over time",
        "Each candidate with its 95\xa0% interval; filled: deployed. 0.5 is chance, 1 is perfect.",
        missing="No model has been scored yet on enough outcomes to rank clients.",
    )
    series = _score_series(scores)
    if not series:
        return chart
    points = [point for each in series.values() for point in each]
    first = min(_time(point["scored_at"]) for point in points)
    marks = [row for row in deployments if row["action"] in DEPLOYED and _time(row["at"]) >= first]
    times = [_time(point["scored_at"]) for point in points] + [_time(row["at"]) for row in marks]
    to = Scales(WIDE, *_time_limits(times), *_score_limits(points))
    y_ticks = [(value, HUNDREDTHS(value)) for value in ticks(to.low_y, to.high_y)]
    parts = _axes(to, time_ticks(min(times), max(times)), y_ticks)
    parts += [_deployment(to, row) for row in marks]
    for i, rows in enumerate(series.values()):
        drawn = _score_line(to, rows, SERIES[i])
        parts.append(element("g", *drawn, transform=f"translate({i * ASIDE} 0)"))
    legend = [(wording.SETS[name], class_) for name, class_ in zip(series, SERIES, strict=False)]
    return chart._replace(
        drawing=_drawing(chart.title, WIDE, parts),
        legend=[*legend, *([("deployed or rolled back", "mark")] if marks else [])],
        columns=[
            ("scored", False),
            ("on", False),
            ("ROC AUC (95 % interval)", True),
            ("decision", False),
        ],
        rows=[
            [
                minute(row["scored_at"]),
                wording.SETS[name],
                wording.with_interval(row, HUNDREDTHS, "–"),
                "deployed" if row["promoted"] else "not deployed",
            ]
            for name, rows in series.items()
            for row in reversed(rows)
        ],
    )


def _score_series(scores: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the newest scores of up to two sets, each by time; if a number is unknown, it is None."""
    rows = [
        row
        for row in scores
        if row.get("metric") == "roc_auc"
        and wording.is_known(row.get("value"))
        and not math.isnan(_time(row.get("scored_at")))
    ]
    series = {
        name: sorted((row for row in rows if row["set"] == name), key=lambda r: r["scored_at"])
        for name in wording.SETS
    }
    filled = [(name, each[-SCORES_SHOWN:]) for name, each in series.items() if each]
    return dict(filled[: len(SERIES)])


def _time(at: Any) -> float:
    """Return a UTC ISO time in seconds since 1970; NaN if it is not a time."""
    try:
        moment = datetime.fromisoformat(str(at))
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _time_limits(times: Sequence[float]) -> tuple[float, float]:
    first, last = min(times), max(times)
    margin = 0.03 * (last - first) or DAY_S / 2
    return first - margin, last + margin


def _score_limits(points: Iterable[Row]) -> tuple[float, float]:
    known = [finite(row.get(key)) for row in points for key in ("value", "low", "high")]
    values = [value for value in known if not math.isnan(value)]
    low, high = min(values), max(values)
    room = max(0.12 * (high - low), 0.01)
    return max(0.0, low - room), min(1.0, high + room)


def _deployment(to: Scales, row: Row) -> Markup:
    x, name = to.x(_time(row["at"])), DEPLOYED[row["action"]]
    flag = element("path", d=f"M{x:.1f} {TOP + 7}l-5 -8h10z", class_="flag")
    line = element("line", x1=x, y1=TOP, x2=x, y2=to.size[1] - BOTTOM, class_="mark")
    return element("g", element("title", f"{name} {minute(row['at'])}"), line, flag)


def _score_line(to: Scales, rows: Sequence[Row], class_: str) -> list[Markup]:
    """Draw the scores of a set: the band of their intervals, the line, and a dot for each.

    If there is only one score, its interval is a whisker.
    """
    points = [(_time(row["scored_at"]), finite(row["value"])) for row in rows]
    whole = [row for row in rows if wording.between(row, str)]
    parts = []
    if len(whole) > 1:
        ends = [
            [(_time(row["scored_at"]), finite(row[key])) for row in whole]
            for key in ("low", "high")
        ]
        area = to.path([*ends[0], *reversed(ends[1])])
        parts.append(element("polygon", points=area, class_=f"band {class_}"))
    for row in whole if len(whole) == 1 else []:
        parts.append(_whisker(to, _time(row["scored_at"]), row, class_))
    parts.append(element("polyline", points=to.path(points), class_=f"line {class_}"))
    for (x, y), row in zip(points, rows, strict=True):
        state = "" if row["promoted"] else " open"
        text = f"{minute(row['scored_at'])}: {wording.with_interval(row, HUNDREDTHS)}"
        dot = {"cx": to.x(x), "cy": to.y(y), "r": 4, "class_": f"dot {class_}{state}"}
        parts.append(element("circle", element("title", text), **dot))
    return parts


def _whisker(to: Scales, x: float, row: Row, class_: str) -> Markup:
    ends = ((x, finite(row["low"])), (x, finite(row["high"])))
    return to.line(*ends, f"whisker {class_}")


# ---- calibration and gain


def calibration(groups: Iterable[Row]) -> Chart:
    """Draw the share that left by predicted risk, in groups of similar risk.

    groups: mean_risk, observed, low, high as shares; rows
    """
    chart = Chart(
        "Calibration: do 20 of 100 clients with a risk of 20\xa0% leave?",
        "Each point: clients with similar predicted risk, with a 95\xa0% interval. The intervals should "
        "touch the dashed line.",
        missing="No outcomes to compare the predicted risks with yet.",
    )
    names = ("mean_risk", "observed", "low", "high")
    known = [row for row in groups if all(wording.is_known(row.get(name)) for name in names)]
    if not known:
        return chart
    known.sort(key=lambda row: finite(row["mean_risk"]))
    highest = max(finite(row[name]) for row in known for name in ("mean_risk", "high"))
    limit = min(1.0, 1.05 * max(highest, 0.05))
    to = Scales(SIZE, 0, limit, 0, limit)
    sides = _share_ticks(limit)
    parts = _axes(to, sides, sides, "predicted risk", "share that left")
    parts.append(to.line((0, 0), (limit, limit), "guide"))
    for row in known:
        x = finite(row["mean_risk"])
        dot = {"cx": to.x(x), "cy": to.y(finite(row["observed"])), "r": 4, "class_": "dot first"}
        text = f"predicted {percent(x)}, left {percent(row['observed'])}"
        parts += [_whisker(to, x, row, "first"), element("circle", element("title", text), **dot)]
    return chart._replace(
        drawing=_drawing(chart.title, SIZE, parts),
        columns=[("predicted risk", True), ("left (95 % interval)", True), ("rows", True)],
        rows=[
            [
                percent(row["mean_risk"]),
                wording.with_interval({**row, "value": row["observed"]}, percent, "–"),
                wording.count(row.get("rows")),
            ]
            for row in known
        ],
    )


def gain(curve: Row | None, *, contacted: int, clients: int) -> Chart:
    """Draw the share of leavers found by the share of clients contacted, the riskiest first.

    curve: share_contacted, share_found; contacted: the clients on the list, of all current clients
    """
    chart = Chart(
        "Gain: how many leavers the riskiest clients contain",
        missing="No client left among the outcomes, so there is no leaver to find.",
    )
    names = ("share_contacted", "share_found")
    points = [*zip(*[map(finite, (curve or {}).get(name) or ()) for name in names], strict=False)]
    points = [point for point in points if not math.isnan(sum(point))]
    if len(points) < 2:
        return chart
    to = Scales(SIZE, 0, 1, 0, 1)
    sides = _share_ticks(1)
    parts = _axes(to, sides, sides, "share of clients contacted", "share of leavers found")
    parts.append(to.line((0, 0), (1, 1), "guide"))
    parts.append(element("polyline", points=to.path(points), class_="line first"))
    note, legend = "Dashed line: contacting at random.", []
    if contacted and clients:
        share = min(1.0, contacted / clients)
        found_share = interpolate(points, share)
        parts.append(to.line((share, 0), (share, found_share), "mark"))
        mark = {"cx": to.x(share), "cy": to.y(found_share), "r": 4.5, "class_": "flag"}
        parts.append(element("circle", **mark))
        text = f"capacity: contacting {contacted:,} of {clients:,} finds {percent(found_share)}"
        legend.append((f"{text} of those who leave", "mark"))
    shown = [(share, interpolate(points, share)) for share in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)]
    return chart._replace(
        note=note,
        drawing=_drawing(chart.title, SIZE, parts),
        legend=legend,
        columns=[("clients contacted", True), ("leavers found", True)],
        rows=[[percent(share), percent(part)] for share, part in shown],
    )


def interpolate(points: Sequence[Point], x: float) -> float:
    """Return y at x on the line through points sorted by x.

    >>> interpolate([(0.0, 0.0), (0.5, 0.8), (1.0, 1.0)], 0.25)
    0.4
    """
    for (x1, y1), (x2, y2) in pairwise(points):
        if x <= x2:
            return y1 if x2 == x1 else y1 + (y2 - y1) * (x - x1) / (x2 - x1)
    return points[-1][1]


# ---- the effect of contacts


def effect_by_look(looks: Sequence[Row]) -> Chart:
    """Draw how many of 100 fewer left among the listed clients at each look, with the interval.

    looks: number, at, verdict and effect (difference, low and high as shares, below 0: fewer left)
    """
    chart = Chart(
        "How many fewer left among the listed clients",
        "At each look, in points: 8 means 8 fewer in 100. Line: 95\xa0% interval, which very likely "
        "contains the true number. Above the dashed line, contacting keeps clients. Filled dot: proven.",
        missing="Shown from the first look on.",
    )
    known = [
        look for look in looks if wording.is_known((look.get("effect") or {}).get("difference"))
    ]
    if not known:
        return chart
    points = [_points_fewer(look["effect"]) for look in known]
    ends = [0.0, *(end for point in points for end in point.values() if not math.isnan(end))]
    room = 0.08 * (max(ends) - min(ends)) or 1.0
    to = Scales(SIZE, 0.5, max(len(known), 4) + 0.5, min(ends) - room, max(ends) + room)
    y_ticks = [
        (value, f"{value:+g}".replace("-", MINUS) if value else "0")
        for value in ticks(to.low_y, to.high_y)
    ]
    months = [f"{datetime.fromisoformat(look['at']):%b %Y}" for look in known]
    x_ticks = [*enumerate(months, start=1)][:: math.ceil(len(known) / LABELS)]
    parts = _axes(to, x_ticks, y_ticks, "look", "fewer left, in points")
    parts.append(to.line((to.low_x, 0), (to.high_x, 0), "guide"))
    for i, (look, point) in enumerate(zip(known, points, strict=True), start=1):
        state = "" if look["verdict"] in ("helps", "harms") else " open"
        dot = {"cx": to.x(i), "cy": to.y(point["value"]), "r": 4, "class_": f"dot first{state}"}
        text = wording.with_interval(point, _signed)
        if not math.isnan(point["low"] + point["high"]):
            parts.append(_whisker(to, i, point, "first"))
        parts.append(element("circle", element("title", text), **dot))
    return chart._replace(
        drawing=_drawing(chart.title, SIZE, parts),
        columns=[
            ("look", False),
            ("fewer left, in points (95 % interval)", True),
            ("verdict", False),
        ],
        rows=[
            [month, wording.with_interval(point, _signed), LOOK_VERDICTS[look["verdict"]]]
            for month, look, point in zip(months, known, points, strict=True)
        ],
    )


def _points_fewer(effect: Row) -> dict[str, float]:
    """Return a difference of shares as points of 100 that fewer clients left."""
    ends = {"value": "difference", "low": "high", "high": "low"}
    return {name: -100 * finite(effect.get(key)) for name, key in ends.items()}


def _signed(value: Any) -> str:
    return decimal(value, digits=1, sign=True).replace("-", MINUS)


# ---- small lines in tables


def spark(values: Iterable[Any], *, at_least: float = 0.0, guide: float | None = None) -> Markup:
    """Draw a small line from 0, without axes, the newest value at the right; "" for fewer than two.

    at_least: the highest value that the scale has in any case; guide: a threshold
    """
    known = [value for value in map(finite, values) if not math.isnan(value)]
    if len(known) < 2:
        return Markup("")
    top = max(at_least, *known) or 1.0
    step = 100 / (len(known) - 1)
    points = " ".join(f"{i * step:.1f},{29 - 27 * v / top:.1f}" for i, v in enumerate(known))
    parts = [element("polyline", points=points, class_="line")]
    if guide is not None and guide <= top:
        y = 29 - 27 * guide / top
        parts.insert(0, element("line", x1=0, y1=y, x2=100, y2=y, class_="guide"))
    look = {"viewBox": "0 0 100 30", "preserveAspectRatio": "none", "aria-hidden": "true"}
    return element("svg", *parts, class_="spark", **look)


# ---- the risk of one client


def risk_over_time(risks: Sequence[tuple[str, str, float]]) -> Chart:
    """Draw the risk of a client at each assessment that is kept, and when another model assessed it.

    risks: date, release and risk, oldest first
    """
    chart = Chart("Risk over time", missing="Shown from the second day on which risks changed.")
    if len(risks) < 2:
        return chart
    points = [(_time(date), risk) for date, _, risk in risks]
    changed = [now[0] for before, now in pairwise(risks) if now[1] != before[1]]
    low, high = _time_limits([x for x, _ in points])
    top = min(1.0, 1.15 * max(0.05, *(risk for _, risk in points)))
    to = Scales(SIZE, low, high, 0, top)
    parts = _axes(to, time_ticks(points[0][0], points[-1][0], 4), _share_ticks(top))
    parts += [_new_model(to, date) for date in changed]
    parts.append(element("polyline", points=to.path(points), class_="line first"))
    for (x, risk), (date, *_) in zip(points, risks, strict=True):
        dot = {"cx": to.x(x), "cy": to.y(risk), "r": 3.5, "class_": "dot first"}
        parts.append(element("circle", element("title", f"{date}: {percent(risk)}"), **dot))
    return chart._replace(
        drawing=_drawing(chart.title, SIZE, parts),
        legend=[("risk", "first"), *([("model changed", "mark")] if changed else [])],
        columns=[("date", False), ("risk", True), ("release", False)],
        rows=[[date, percent(risk), release] for date, release, risk in reversed(risks)],
    )


def _new_model(to: Scales, date: str) -> Markup:
    x = to.x(_time(date))
    line = element("line", x1=x, y1=TOP, x2=x, y2=to.size[1] - BOTTOM, class_="mark")
    return element("g", element("title", f"model changed on {date}"), line)
