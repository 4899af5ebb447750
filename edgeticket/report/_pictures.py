"""What is drawn: quality against a cost, widths, the search, latencies. Each with its numbers in words for who does not see it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from edgeticket.report._records import Row, found, rivals, sparser
from edgeticket.report._svg import INK, OWN, PAPER, RULE, SOFT, Picture, inline, style
from edgeticket.report._words import PERCENT, Words

WIDTH, HEIGHT = 5.0, 3.3  # inches of 72 units; a unit is a pixel at the width of a phone
MARKERS = {"float": "s", "float-int8": "D", "int8-narrow": "^", "pruned": "v", "control": "P"}
OTHER = "X"
BINS, WIDE_RANGE, CURVES = 40, 5, 100
Point = tuple[float, float]


def pareto(record: Row, words: Words, cost: str) -> Picture | None:
    """`cost`: bytes or latency. Every network that has it; None where none has."""
    points = {name: [(x, row["certify"]) for row in rows if (x := _cost(row, cost))] for name, rows in _series(record)}
    every = [point for own in points.values() for point in own]
    if not every:
        return None
    title = words(f"pareto.{cost}", headline=words.headline_title)
    with style():
        figure, axes = _axes()
        for name, own in points.items():
            if own:
                axes.plot(*zip(*own, strict=True), **_look(name))
        axes.plot(*_front(every, record["bar"]["lower_is_better"]), color=SOFT, linewidth=0.8, zorder=1)
        axes.axhline(record["bar"]["value"], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        _cost_axis(axes, [x for x, _ in every])
        _quality_axis(axes, words)
        return inline(figure, f"pareto-{cost}", title, _told(every, words, cost))


def _series(record: Row) -> Iterator[tuple[str, Sequence[Row]]]:
    """In the order of drawing: what matters most comes last, on top."""
    yield from rivals(record).items()
    yield "sparser", sparser(record)
    yield "failure", [row for row in found(record) if not row["success"]]
    yield "success", [row for row in found(record) if row["success"]]
    own = record["chosen"]["seed"] if record["chosen"] else None
    yield "chosen", [row for row in found(record) if row["seed"] == own]


def _cost(row: Row, cost: str) -> float | None:
    if cost == "bytes":
        return float(row["bytes"])
    return row["latency_ms"]["p50"] if row.get("latency_ms") else None


def _look(name: str) -> dict[str, Any]:
    common = {"linestyle": "none", "markersize": 6, "markeredgewidth": 1.0}
    if name in ("success", "failure"):
        fill = OWN if name == "success" else PAPER
        return common | {"marker": "o", "color": OWN, "markerfacecolor": fill, "markersize": 5, "alpha": 0.75}
    if name == "sparser":
        return common | {"marker": "x", "color": OWN, "markersize": 5}
    if name == "chosen":
        return common | {"marker": "o", "color": INK, "markerfacecolor": "none", "markersize": 11}
    return common | {"marker": MARKERS.get(name, OTHER), "color": INK, "markerfacecolor": PAPER}


def _front(points: Sequence[Point], lower_is_better: bool) -> tuple[list[float], list[float]]:
    """A stair through all points that no other beats in both, by rising cost."""
    sign = -1 if lower_is_better else 1
    best: list[Point] = []
    for x, y in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if not best or sign * y > sign * best[-1][1]:
            best.append((x, y))
    xs = [*[x for x, _ in best for _ in range(2)][1:], max(x for x, _ in points)]
    return xs, [y for _, y in best for _ in range(2)]


def _told(points: Sequence[Point], words: Words, cost: str) -> str:
    xs, ys = zip(*points, strict=True)
    shown: Callable[[float], str] = words.size if cost == "bytes" else words.milliseconds
    ends = {"low": shown(min(xs)), "high": shown(max(xs)), "worst": words.plain(min(ys)), "best": words.plain(max(ys))}
    return words("pareto.describe", count=len(points), headline=words.headline_word, **ends)


def widths(chosen: Row, words: Words) -> Picture:
    layers = chosen["layers"]
    title = words("widths.picture")
    told = [
        words("format.pair", name=layer["name"], value=words("format.arrow", **layer["channels"])) for layer in layers
    ]
    with style():
        figure, axes = _axes(height=min(9.0, 0.7 + 0.3 * len(layers)))
        places = range(len(layers))
        axes.barh(places, [one["channels"]["before"] for one in layers], color="none", edgecolor=SOFT, linewidth=0.8)
        axes.barh(places, [one["channels"]["after"] for one in layers], color=OWN, height=0.5)
        axes.set_yticks(places, [_short(one["name"]) for one in layers])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return inline(figure, "widths", title, words.list(told))


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def curve(record: Row, words: Words) -> Picture | None:
    """The select part by epoch; None where no search watched it."""
    title = words("curve.picture", headline=words.headline_title)
    own = _watched(record["chosen"]["curve"])
    if not own:
        return None
    with style():
        figure, axes = _axes()
        for row in found(record)[:CURVES]:
            others = _watched(row.get("curve", ()))
            if others:
                axes.plot(*zip(*others, strict=True), color=RULE, linewidth=0.6)
        axes.plot(*zip(*own, strict=True), color=OWN, linewidth=1.8, marker="o" if len(own) == 1 else None)
        axes.axhline(record["bar"]["value"], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel(words("curve.epoch"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _quality_axis(axes, words)
        return inline(figure, "curve", title, curve_text(record, words))


def _watched(points: Sequence[Row]) -> list[tuple[int, float]]:
    return [(point["epoch"], point["select"]) for point in points if point["select"] is not None]


def curve_text(record: Row, words: Words) -> str:
    own = _watched(record["chosen"]["curve"])
    if not own:
        return ""
    (begin, first), (end, last) = own[0], own[-1]
    return words("curve.text", begin=begin, end=end, first=words.quality(first), last=words.quality(last))


def latency(row: Row, label: str, words: Words) -> Picture | None:
    """Samples of one file, with its deadline; None without samples."""
    samples, period = row["samples_ms"], row["period_ms"]
    if not samples:
        return None
    title = words("latency.picture", file=label, count=len(samples))
    p50, p99, most = (words.milliseconds(float(q)) for q in np.percentile(samples, (50, 99, 100)))
    told = [f"p50 {p50}", f"p99 {p99}", words("format.pair", name=words("latency.max"), value=most)]
    with style():
        figure, axes = _axes(height=2.6)
        shown = [min(samples), max(samples), *([period] if period else [])]
        spaced = np.geomspace if _far_apart(shown) else np.linspace
        axes.hist(samples, bins=spaced(min(shown), max(shown), BINS + 1).tolist(), color=OWN)
        if period is not None:
            axes.axvline(period, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        _cost_axis(axes, shown)
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        return inline(figure, "latency", title, words.list(told))


def _axes(height: float = HEIGHT) -> tuple[Any, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _far_apart(values: Sequence[float]) -> bool:
    return 0 < WIDE_RANGE * min(values) < max(values)


def _cost_axis(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where values are far apart."""
    if _far_apart(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1000 else f"{x:.4g}"))


def _quality_axis(axes: Axes, words: Words) -> None:
    if words.headline == PERCENT:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.4g}"))
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
