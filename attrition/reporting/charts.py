"""Draw the figures of the PDF and the dashboard in one style, as matplotlib Figures.

If data is missing (None, empty, NaN, a single point), the figure has a sentence instead, never an
error. Neither pyplot nor matplotlib's settings are changed, so that several threads can draw at once.
Text that may be data is not parsed as mathematics. It is shortened in the middle if it is long, and a
square replaces a character if the font does not have it.

There is one accent colour besides greys. Series differ in lightness, line or marker too, so that they
can be distinguished when printed in black and white.
"""

import math
import struct
import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from attrition.monitoring.drift import ACT_PSI, LOOK_PSI
from attrition.reporting.style import ACCENT, GREY, INK, LIGHT, drawable
from attrition.wording import (
    DRIFT_VERDICTS,
    SETS,
    decimal,
    finite,
    is_known,
    percent,
    plural,
    shorten,
    with_interval,
)

Row = Mapping[str, Any]
Style = dict[str, Any]

HALF, LOW, WIDE = (4.2, 3.4), (4.2, 2.8), (8.7, 3.2)
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 11.5, 9.5, 8.5
DPI, PNG = 150, b"\x89PNG\r\n\x1a\n"
SECONDS_A_DAY = 86_400
STEPS = (1, 2, 5, 10)
GUIDE: Style = {"color": GREY, "linewidth": 1.0, "linestyle": (0, (4, 3))}

SCORES_SHOWN, LINES_NAMED, COLUMNS_SHOWN, SHARES_SHOWN = 60, 6, 40, 15
SERIES: tuple[Style, ...] = (
    {"color": ACCENT, "linestyle": "-", "marker": "o"},
    {"color": GREY, "linestyle": "--", "marker": "s"},
)
BARS: dict[str, Style] = {
    "": {"color": LIGHT, "edgecolor": GREY},
    "look": {"color": "white", "edgecolor": ACCENT, "hatch": "////"},
    "act": {"color": ACCENT, "edgecolor": ACCENT},
}
ACTIONS = {"promoted": ("deployed", "▼", "v"), "rolled back": ("rolled back", "✖", "X")}
LINE_STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))


# ---- the style of all figures


def draw(name: str, data: Mapping[str, Any]) -> bytes:
    """Draw the figure of a name as a PNG; data: the arguments of its function."""
    return png(FIGURES[name](**data))


def png(figure: Figure) -> bytes:
    """Render a figure as an opaque PNG; the bytes are equal if the numbers are."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return _encode(pixels[:, :, :3])


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    """Return (rows, columns, 3) values as a PNG.

    No filter is used: on areas of one colour they cost twice the time, for a larger file.
    Source: W3C, Portable Network Graphics (PNG) Specification
    """
    n_rows, n_columns, _ = pixels.shape
    lines = np.zeros((n_rows, 1 + 3 * n_columns), dtype="uint8")  # the first byte names the filter
    lines[:, 1:] = pixels.reshape(n_rows, -1)
    header = struct.pack(">IIBBBBB", n_columns, n_rows, 8, 2, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + zlib.compress(lines.tobytes()), b"IEND")
    return PNG + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def _plot(title: str, subtitle: str, size: tuple[float, float] = HALF) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    subtitle = textwrap.fill(subtitle, 54 if size[0] < WIDE[0] else 116)
    pad = 8 + 12 * len(subtitle.splitlines())
    style: Style = {"family": "DejaVu Sans", "parse_math": False}
    axes.set_title(title, loc="left", size=TITLE_SIZE, weight="bold", color=INK, pad=pad, **style)
    axes.annotate(
        subtitle,
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        va="bottom",
        size=SMALL_SIZE,
        color=GREY,
        annotation_clip=False,
        **style,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=SMALL_SIZE, labelfontfamily="DejaVu Sans", length=3)
    return figure, axes


def _label(axes: Axes, x: str, y: str) -> None:
    for set_label, text in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        set_label(text, size=TEXT_SIZE, color=INK, family="DejaVu Sans", parse_math=False)


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    defaults = {"size": TEXT_SIZE, "color": INK, "family": "DejaVu Sans", "parse_math": False}
    axes.text(x, y, text, **{**defaults, **style})


def _empty(title: str, sentence: str, size: tuple[float, float] = HALF) -> Figure:
    """Return a figure with a sentence about the missing data."""
    figure, axes = _plot(title, "", (WIDE[0], 1.5) if size == WIDE else size)
    axes.set_axis_off()
    text = textwrap.fill(sentence, 90 if size == WIDE else 44)
    _write(axes, 0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes)
    return figure


def _rows(rows: Iterable[Row] | None, *names: str) -> np.ndarray:
    """Return (n, len(names)) numbers of the rows in which every name has one."""
    numbers = [[finite(row.get(name)) for name in names] for row in rows or ()]
    table = np.array(numbers, dtype=float).reshape(-1, len(names))
    return table[~np.isnan(table).any(axis=1)]


def _curve(curve: Row | None, x: str, y: str) -> np.ndarray:
    """Return the (n, 2) points of a curve from two lists."""
    pairs = zip((curve or {}).get(x) or (), (curve or {}).get(y) or (), strict=False)
    return _rows(({x: a, y: b} for a, b in pairs), x, y)


def _shares(axes: Axes, *, x: float | None = 1.0, y: float | None = 1.0) -> None:
    """Scale the axes from 0 to a share, with labels in %."""
    for axis, limit, set_limits in (
        (axes.xaxis, x, axes.set_xlim),
        (axes.yaxis, y, axes.set_ylim),
    ):
        if limit is not None:
            set_limits(0, limit)
            axis.set_major_locator(MaxNLocator(5, steps=STEPS))
            axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _time(at: Any) -> float:
    """Convert a UTC ISO time to days as matplotlib counts them; NaN if it is not a time."""
    try:
        moment = datetime.fromisoformat(str(at))
    except ValueError:
        return math.nan
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.timestamp() / SECONDS_A_DAY


def _time_axis(axes: Axes, times: Iterable[float]) -> None:
    times = list(times)
    first, last = min(times), max(times)
    margin = max(0.03 * (last - first), 0.02) if last > first else 0.5
    axes.set_xlim(first - margin, last + margin)
    # With the default of 5, it would need 9 ticks of 12 hours for four days.
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.get_offset_text().set(size=SMALL_SIZE, color=GREY)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move labels up until they do not overlap.

    >>> _spread([5.0, 0.0, 0.25], gap=1.0)
    [5.0, 0.0, 1.0]
    """
    placed = list(heights)
    below = -math.inf
    for i in np.argsort(heights, kind="stable"):
        below = placed[i] = max(placed[i], below + gap)
    return placed


# ---- performance


def confusion_matrix(counts: Row | None, *, threshold: float = 0.5) -> Figure:
    """Draw the confusion matrix.

    counts: stayed_stayed, stayed_left, left_stayed, left_left, as actual_predicted
    """
    title = "Confusion matrix"
    names = ("stayed", "left")
    table = np.array([[finite((counts or {}).get(f"{a}_{p}")) for p in names] for a in names])
    if np.isnan(table).any() or table.sum() <= 0:
        return _empty(title, "No outcomes to compare predictions with yet.")
    right = percent(np.trace(table) / table.sum())
    subtitle = f"{right} of {table.sum():,.0f} right; “left” means a risk from {percent(threshold)}"
    figure, axes = _plot(title, subtitle)
    totals = table.sum(axis=1)
    for i, actual in enumerate(names):
        for j in range(2):
            share = table[i, j] / totals[i] if totals[i] else 0.0
            shade = [1 - share * (1 - part) for part in to_rgb(ACCENT)]
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=shade, edgecolor=GREY))
            ink = "white" if share > 0.77 else INK
            middle = {"ha": "center", "va": "center", "color": ink}
            _write(axes, j + 0.5, i + 0.44, f"{table[i, j]:,.0f}", size=15, **middle)
            of_them = f"{percent(share)} of those who {actual}" if totals[i] else "none " + actual
            _write(axes, j + 0.5, i + 0.68, of_them, size=SMALL_SIZE, **middle)
    axes.set(xlim=(0, 2), ylim=(2, 0), xticks=(0.5, 1.5), yticks=(0.5, 1.5))
    axes.set_xticklabels(names, parse_math=False)
    axes.set_yticklabels(names, rotation=90, va="center", parse_math=False)
    axes.tick_params(length=0)
    _label(axes, "predicted", "actual")
    return figure


def roc(curve: Row | None, area: Row | None) -> Figure:
    """Draw the ROC curve, with its area and the interval of the area as text.

    curve: false_positive_rate and true_positive_rate; area: value, low, high
    """
    title = "ROC curve"
    points = _curve(curve, "false_positive_rate", "true_positive_rate")
    if len(points) < 2:
        return _empty(title, "This curve needs clients who left and clients who stayed.")
    figure, axes = _plot(title, _describe_area(area))
    axes.plot([0, 1], [0, 1], **GUIDE)
    _write(axes, 0.68, 0.63, "by chance", color=GREY, size=SMALL_SIZE, va="top")
    axes.plot(points[:, 0], points[:, 1], color=ACCENT, linewidth=2)
    _shares(axes)
    false_positives = "False positive rate (stayed, but would be called)"
    _label(axes, false_positives, "True positive rate (leavers found)")
    return figure


def _describe_area(area: Row | None) -> str:
    if not is_known(area):
        return "ROC AUC unknown: too few outcomes."
    return (
        f"ROC AUC {with_interval(area, partial(decimal, digits=2))}: a client who left ranks above "
        f"one who stayed in {percent(area)} of pairs."
    )


def calibration(groups: Iterable[Row] | None) -> Figure:
    """Draw the share that left by predicted risk, in groups of similar risk.

    groups: mean_risk, observed, low, high as shares
    """
    title = "Calibration"
    points = _rows(groups, "mean_risk", "observed", "low", "high")
    if not len(points):
        return _empty(title, "No outcomes to compare the predicted risks with yet.")
    risk, observed, low, high = points[np.argsort(points[:, 0])].T
    subtitle = "Each point: clients with similar predicted risk, 95 % interval; "
    figure, axes = _plot(title, subtitle + "dashed line: perfect calibration.")
    limit = min(1.0, 1.05 * max(points.max(), 0.05))
    axes.plot([0, limit], [0, limit], **GUIDE)
    bars = np.clip([observed - low, high - observed], 0, None)
    style: Style = {"fmt": "o", "markersize": 4.5, "elinewidth": 1.1, "capsize": 2.5}
    axes.errorbar(risk, observed, yerr=bars, color=ACCENT, **style)
    _shares(axes, x=limit, y=limit)
    _label(axes, "predicted risk", "share that left")
    return figure


def gain(curve: Row | None, *, called: int | None = None, clients: int | None = None) -> Figure:
    """Draw the share of leavers found by the share of clients called, the riskiest first.

    curve: share_contacted, share_found; called: how many of the clients the team can call
    """
    title = "Gain"
    points = _curve(curve, "share_contacted", "share_found")
    if len(points) < 2:
        return _empty(title, "No client left among the outcomes, so there is no leaver to find.")
    figure, axes = _plot(title, "Calling the riskiest clients first finds leavers sooner.")
    axes.plot([0, 1], [0, 1], **GUIDE)
    _write(axes, 0.68, 0.63, "by chance", color=GREY, size=SMALL_SIZE, va="top")
    axes.plot(points[:, 0], points[:, 1], color=ACCENT, linewidth=2)
    if called and clients:
        share = min(1.0, called / clients)
        recall = float(np.interp(share, points[:, 0], points[:, 1]))
        axes.plot([share, share], [0, recall], color=INK, linewidth=1)
        axes.plot([share], [recall], color=INK, marker="D", markersize=5, clip_on=False)
        calls = f"{called:,} of {clients:,}" if called < clients else f"all {clients:,}"
        words = f"◆ calling {calls} finds\n{percent(recall)} of the leavers"
        _write(axes, 0.97, 0.07, words, ha="right", va="bottom", linespacing=1.3)
    _shares(axes)
    _label(axes, "share of clients called, riskiest first", "share of leavers found")
    return figure


def importance(shares: Row | None) -> Figure:
    """Draw the importance of each column, the most important on top; the others are added up.

    shares: column -> its share; they add up to 1
    """
    title = "Feature importance"
    if not shares:
        return _empty(title, "There is no model yet.", WIDE)
    ranked = sorted(shares.items(), key=lambda item: (-finite(item[1]), item[0]))
    if not finite(ranked[0][1]) > 0:
        return _empty(title, "The model uses no column: every client has the same risk.", WIDE)
    bars = [(shorten(drawable(name), 30), finite(share)) for name, share in ranked[:SHARES_SHOWN]]
    if rest := ranked[SHARES_SHOWN:]:
        bars.append((plural(len(rest), "other"), sum(finite(share) for _, share in rest)))
    subtitle = "Share of each column in the mean absolute contributions to the log-odds"
    figure, axes = _plot(title, subtitle, (WIDE[0], 0.7 + 0.21 * len(bars)))
    for i, (_, share) in enumerate(bars):
        style = BARS["" if i == SHARES_SHOWN else "act"]
        axes.barh(i, share, height=0.62, linewidth=0.8, **style)
        _write(axes, share, i, f" {percent(share)}", va="center", size=SMALL_SIZE)
    widest = max(share for _, share in bars)
    axes.set(xlim=(0, 1.08 * widest), ylim=(len(bars) - 0.4, -0.6), xticks=())
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    return figure


# ---- over time


def score_over_time(
    scores: Iterable[Row] | None, deployments: Iterable[Row] | None = None
) -> Figure:
    """Draw the ROC AUC of each candidate with its interval, and the times of deployments.

    scores: scored_at, set, metric, value, low, high, promoted; deployments: at, action
    """
    title = "Score over time"
    series = _score_series(scores or ())
    if not series:
        sentence = "No model has been scored yet on enough outcomes to rank clients."
        return _empty(title, sentence, WIDE)
    times = np.concatenate([points[:, 0] for points in series.values()])
    marks = _deployment_times(deployments, times.min())
    subtitle = "Each candidate with its 95 % interval; filled: put into production"
    subtitle += "".join(f"; {symbol} {words}" for (words, symbol, _), _ in marks)
    figure, axes = _plot(title, subtitle, WIDE)
    _time_axis(axes, [*times, *(time for _, at in marks for time in at)])
    aside = 0.006 * np.ptp(axes.get_xlim()) * np.array([1, 0, 0, 0, 0])
    for i, (points, style) in enumerate(zip(series.values(), SERIES, strict=False)):
        _draw_scores(axes, points + i * aside, style)
    low = min(np.nanmin(points[:, 1:4]) for points in series.values())
    high = max(np.nanmax(points[:, 1:4]) for points in series.values())
    room = 0.18 * max(high - low, 0.02)
    axes.set_ylim(max(0.0, low - room), min(1.02, high + 2 * room))
    edge: Style = {"transform": axes.get_xaxis_transform(), "color": INK, "clip_on": False}
    for (_, _, marker), at in marks:
        axes.vlines(at, 0, 1, color=LIGHT, linewidth=1, zorder=0, transform=edge["transform"])
        axes.plot(at, [1.0] * len(at), marker=marker, linestyle="none", **edge)
    ends = _spread([points[-1, 1] for points in series.values()], 0.07 * np.ptp(axes.get_ylim()))
    for (words, _), height, style in zip(series.items(), ends, SERIES, strict=False):
        end = {"transform": axes.get_yaxis_transform(), "va": "center"}
        _write(axes, 1.01, height, words, color=style["color"], **end)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.2f}"))
    _label(axes, "", "ROC AUC")
    return figure


def _score_series(scores: Iterable[Row]) -> dict[str, np.ndarray]:
    """Return (n, 5) time, value, low, high and promoted of the newest scores of up to two sets."""
    rows = [row for row in scores if row.get("metric") == "roc_auc"]
    series = {}
    for name, words in SETS.items():
        points = [_score(row) for row in rows if row.get("set") == name]
        points = sorted(point for point in points if not math.isnan(point[0] + point[1]))
        if points:
            series[words] = np.array(points[-SCORES_SHOWN:])
    return dict(list(series.items())[: len(SERIES)])


def _score(row: Row) -> tuple[float, float, float, float, float]:
    value, low, high = (finite(row.get(key)) for key in ("value", "low", "high"))
    return _time(row.get("scored_at")), value, low, high, float(bool(row.get("promoted")))


def _draw_scores(axes: Axes, points: np.ndarray, style: Style) -> None:
    time, value, low, high, promoted = points.T
    axes.plot(time, value, color=style["color"], linestyle=style["linestyle"], linewidth=1)
    bars = np.nan_to_num(np.clip([value - low, high - value], 0, None))
    thin: Style = {"fmt": "none", "elinewidth": 0.9, "capsize": 2, "alpha": 0.8}
    axes.errorbar(time, value, yerr=bars, ecolor=style["color"], **thin)
    for of, face in ((promoted == 1, style["color"]), (promoted == 0, "white")):
        dots: Style = {"marker": style["marker"], "linestyle": "none", "markersize": 5}
        axes.plot(time[of], value[of], markerfacecolor=face, color=style["color"], zorder=3, **dots)


def _deployment_times(
    deployments: Iterable[Row] | None, first: float
) -> list[tuple[tuple[str, str, str], list[float]]]:
    """Return the marker of each kind of deployment, and its times since `first`."""
    times: dict[str, list[float]] = {action: [] for action in ACTIONS}
    for row in deployments or ():
        time = _time(row.get("at"))
        if row.get("action") in times and time >= first:
            times[row["action"]].append(time)
    return [(ACTIONS[action], sorted(at)[-SCORES_SHOWN:]) for action, at in times.items() if at]


def missing_over_time(rows: Iterable[Row] | None) -> Figure:
    """Draw the share of missing values of each column, and name the six with the most.

    rows: at, column, missing_pct
    """
    title = "Missing values over time"
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows or ():
        point = _time(row.get("at")), finite(row.get("missing_pct"))
        if not math.isnan(sum(point)):
            series.setdefault(str(row.get("column")), []).append(point)
    if not series:
        return _empty(title, "Missing values have not been counted yet.", WIDE)
    most = {name: max(share for _, share in points) for name, points in series.items()}
    ranked = sorted(series, key=lambda name: (-most[name], name))
    named = [name for name in ranked[:LINES_NAMED] if most[name] > 0]
    if not named:
        return _empty(title, f"No value was missing in any of {len(series)} columns.", WIDE)
    subtitle = (
        f"The {len(named)} of {len(series)} columns with the most missing values are labelled"
    )
    if len(named) == len(series):
        subtitle = "Share of current clients with a missing value"
    figure, axes = _plot(title, subtitle, WIDE)
    for name in ranked[::-1]:
        times, shares = np.array(sorted(series[name])).T
        style: Style = {"color": LIGHT, "linewidth": 1, "marker": "."}
        if name in named:
            i = named.index(name)
            style = {"color": ACCENT if i < 2 else GREY, "linestyle": LINE_STYLES[i]}
            style |= {"linewidth": 1.6, "marker": ".", "zorder": 3}
        axes.plot(times, shares, clip_on=False, **style)
    axes.set_ylim(0, max(1.0, 1.1 * max(most.values())))
    _time_axis(axes, [time for points in series.values() for time, _ in points])
    lasts = [max(series[name])[1] for name in named]
    for i, height in enumerate(_spread(lasts, 0.08 * axes.get_ylim()[1])):
        words = f"{shorten(drawable(named[i]), 26)} {percent(lasts[i] / 100)}"
        end = {"transform": axes.get_yaxis_transform(), "va": "center", "size": SMALL_SIZE}
        _write(axes, 1.015, height, words, color=ACCENT if i < 2 else INK, **end)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    _label(axes, "", "missing")
    return figure


# ---- current data


def drift(columns: Iterable[Row] | None) -> Figure:
    """Draw the drift of each column, the largest on top, with the two thresholds.

    columns: column, kind, psi (population stability index), verdict
    """
    title = "Data drift"
    rows = sorted(columns or (), key=lambda row: str(row.get("column")))
    measured = [row for row in rows if is_known(row.get("psi"))]
    if not measured:
        return _empty(title, "No column has enough rows yet to measure drift.", WIDE)
    measured.sort(key=lambda row: -finite(row.get("psi")))
    shown = measured[:COLUMNS_SHOWN]
    subtitle = "How far each column has drifted from the rows that the model was trained on"
    if hidden := len(rows) - len(shown):
        subtitle += f"; {hidden} with less drift or nothing to compare are not shown"
    figure, axes = _plot(title, subtitle, (WIDE[0], 1.25 + 0.21 * max(len(shown), 4)))
    sizes = np.array([max(0.0, finite(row.get("psi"))) for row in shown])
    limit = min(0.3, max(1.3 * ACT_PSI, 1.1 * sizes.max()))
    for i, (row, size) in enumerate(zip(shown, sizes, strict=True)):
        verdict = str(row.get("verdict"))
        axes.barh(i, min(size, limit), height=0.62, linewidth=0.8, **BARS.get(verdict, BARS[""]))
        words = f"{size:.3f} {DRIFT_VERDICTS[verdict] if verdict in BARS else ''}"
        right = {"transform": axes.get_yaxis_transform(), "va": "center", "size": SMALL_SIZE}
        _write(axes, 1.01, i, words, weight="bold" if verdict == "act" else "normal", **right)
    for threshold, name in ((LOOK_PSI, "minor"), (ACT_PSI, "material")):
        axes.axvline(threshold, **GUIDE)
        _write(axes, threshold, -0.55, f" {name}", va="bottom", size=SMALL_SIZE, color=GREY)
    axes.set(xlim=(0, limit), ylim=(len(shown) - 0.3, -1.2), yticks=range(len(shown)))
    axes.set_yticklabels([_column_name(row) for row in shown], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    _label(axes, "PSI, corrected for sampling noise", "")
    return figure


def _column_name(row: Row) -> str:
    name = shorten(drawable(row.get("column")), 30)
    return "predicted risk" if row.get("kind") == "score" else name


def risk_distribution(histogram: Row | None) -> Figure:
    """Draw the histogram of the risks of current clients.

    histogram: edges (n + 1) and counts (n)
    """
    title = "Risk of the current clients"
    edges = np.array([finite(edge) for edge in (histogram or {}).get("edges") or ()])
    counts = np.array([finite(count) for count in (histogram or {}).get("counts") or ()])
    if not len(counts) or len(edges) != len(counts) + 1 or np.isnan([*edges, *counts]).any():
        return _empty(title, "The current clients have not been assessed yet.", LOW)
    if counts.sum() <= 0:
        return _empty(title, "There is no current client to assess.", LOW)
    likely = counts[edges[:-1] >= 0.5 - 1e-9].sum()
    subtitle = f"{likely:,.0f} of {counts.sum():,.0f} have a risk over 50 %."
    figure, axes = _plot(title, subtitle, LOW)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=ACCENT, edgecolor="white")
    _shares(axes, y=None)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    _label(axes, "risk of leaving", "clients")
    return figure


FIGURES: Mapping[str, Callable[..., Figure]] = {
    "confusionmatrix": confusion_matrix,
    "roc": roc,
    "calibration": calibration,
    "gain": gain,
    "importance": importance,
    "score_over_time": score_over_time,
    "missing_over_time": missing_over_time,
    "drift": drift,
    "risk_distribution": risk_distribution,
}
