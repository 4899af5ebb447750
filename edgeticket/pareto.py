"""The rows of a sweep and what they say: the seeds of a combination together, and which of them nothing beats at its cost."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.files import check_free, write_atomic
from edgeticket.text import columns

LOG = logging.getLogger("edgeticket.sweep")
CORE = "cortex-m4"  # whose instructions are estimated
AXES = {  # a row's cost: its name in tables
    "latency_ms": "latency ms",
    "packed_bytes": "packed",
    "kept_macs": "kept MACs",
    "instructions": f"instr. {CORE}, est.",
    "ram_bytes": "RAM est.",
}
UNDATED = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}  # suffix: what keeps the bytes the same
ROW = {"key", "select", "certify", "lower_is_better", "cpu_seconds", "missed", "cost"}
KEY = {"network", "budget", "examples", "method", "density", "epochs", "seed"}
START = '{"key": '  # of the line of every row
_DIGEST = re.compile(r"( sha256 [0-9a-f]{8})[0-9a-f]{56}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The finished rows. A last line that was cut short is dropped; raises EdgeTicketError for any other that is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
            if number == len(lines) and line[: len(START)] == START[: len(line)]:
                LOG.warning("%s: the last line was cut short and is dropped", path)
                break
        if not _is_row(row):
            raise EdgeTicketError(f"{path}, line {number}: not a row of a sweep: delete it, or name another file")
        rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("key"), dict) or not row["key"].keys() >= KEY:
        return False
    return "failed" in row or (row.keys() >= ROW and isinstance(row["cost"], dict) and row["cost"].keys() >= set(AXES))


@dataclass(frozen=True)
class Summary:
    """The seeds of one combination together. `best`: the costs at which no other combination is better on the select part."""

    label: str
    network: str
    method: str
    seeds: int
    select: float
    spread: float
    certify: float
    costs: Mapping[str, float | None]
    seconds: float
    missed: int
    lower_is_better: bool  # of select and certify
    best: tuple[str, ...] = ()


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """One for each combination, in the order of its first row; those that failed are left out."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if "failed" not in row:
            groups.setdefault(_label(row, rows), []).append(row)
    own = [_summary(label, group) for label, group in groups.items()]
    return [Summary(**one.__dict__ | {"best": tuple(axis for axis in AXES if _optimal(one, own, axis))}) for one in own]


def _label(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What differs between rows, but for the seed."""
    told = [key for key in row["key"] if key != "seed" and len({str(other["key"][key]) for other in rows}) > 1]
    text = " ".join(f"{key}={row['key'][key]}" for key in told) or str(row["key"]["network"])
    return _DIGEST.sub(r"\1", text)


def _summary(label: str, group: Sequence[Mapping[str, Any]]) -> Summary:
    select = [row["select"] for row in group]
    costs = {axis: [row["cost"][axis] for row in group if row["cost"][axis] is not None] for axis in AXES}
    return Summary(
        label=label,
        network=group[0]["key"]["network"],
        method=_DIGEST.sub(r"\1", group[0]["key"]["method"]),
        seeds=len(group),
        select=mean(select),
        spread=stdev(select) if len(select) > 1 else 0.0,
        certify=mean(row["certify"] for row in group),
        costs={axis: mean(values) if values else None for axis, values in costs.items()},
        seconds=mean(row["cpu_seconds"] for row in group),
        missed=sum(bool(row["missed"]) for row in group),
        lower_is_better=group[0]["lower_is_better"],
    )


def _optimal(one: Summary, others: Sequence[Summary], axis: str) -> bool:
    """No other is at least as good in both, and better in one."""
    cost = one.costs[axis]
    if cost is None:
        return False
    error = _error(one)
    for other in others:
        theirs = other.costs[axis]
        if (
            theirs is not None
            and _error(other) <= error
            and theirs <= cost
            and (_error(other), theirs) != (error, cost)
        ):
            return False
    return True


def _error(one: Summary) -> float:
    """The less, the better."""
    return one.select if one.lower_is_better else -one.select


def _select(own: Sequence[Summary]) -> str:
    return "select, lower is better" if own and own[0].lower_is_better else "select"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each combination; * marks a cost at which no other is better on the select part."""
    own = summaries(rows)
    shown = [axis for axis in AXES if any(one.costs[axis] is not None for one in own)]
    head = [
        "settings",
        "seeds",
        _select(own),
        "+-",
        "certify",
        *(AXES[axis] for axis in shown),
        "CPU s",
        "budget missed",
    ]
    body = [
        [
            one.label,
            str(one.seeds),
            f"{one.select:.4f}",
            f"{one.spread:.4f}",
            f"{one.certify:.4f}",
            *(_cell(one, axis) for axis in shown),
            f"{one.seconds:.0f}",
            str(one.missed or ""),
        ]
        for one in own
    ]
    failed = [f"{_label(row, rows)} seed {row['key']['seed']}: {row['failed']}" for row in rows if "failed" in row]
    return "\n".join([*columns([head, *body], "<"), *failed])


def _cell(one: Summary, axis: str) -> str:
    cost = one.costs[axis]
    if cost is None:
        return "-"
    return (f"{cost:.4g}" if axis == "latency_ms" else f"{cost:,.0f}") + ("*" if axis in one.best else " ")


def front(own: Sequence[Summary], axis: str) -> Iterator[tuple[float, float]]:
    """Cost and select of what is optimal, by rising cost."""
    pairs = [(cost, one.select) for one in own if axis in one.best and (cost := one.costs[axis]) is not None]
    yield from sorted(pairs)


def check_picture(path: Path, overwrite: bool) -> None:
    """Raise UsageError unless `picture` can draw to `path`: no sweep for nothing."""
    if path.suffix not in UNDATED:
        raise UsageError(f"--picture {path}: name a file that ends in {', '.join(UNDATED)}")
    check_free(path, overwrite)
    if find_spec("matplotlib") is None:
        raise UsageError("--picture needs matplotlib: pip install 'edgeticket[picture]'")


def picture(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One panel per cost, with the front of what is optimal. The file's suffix says what it is; an old one is replaced.

    Raises UsageError where no row has a cost.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    own = summaries(rows)
    shown = [axis for axis in AXES if any(one.costs[axis] is not None for one in own)]
    if not shown:
        raise UsageError("--picture: no row of the sweep has a result to draw")
    drawn = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "edgeticket", "font.size": 8}):
        figure = Figure(figsize=(3.2 * len(shown), 3.2), layout="constrained")
        for panel, axis in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _draw(panel, own, axis)
        figure.savefig(drawn, format=path.suffix[1:], metadata=UNDATED[path.suffix])
    write_atomic(path, drawn.getvalue())


def _draw(panel: Any, own: Sequence[Summary], axis: str) -> None:
    for i, method in enumerate(dict.fromkeys(one.method for one in own)):
        points = [one for one in own if one.method == method and one.costs[axis] is not None]
        panel.errorbar(
            [one.costs[axis] for one in points],
            [one.select for one in points],
            yerr=[one.spread for one in points],
            fmt="osD^vPX*<>"[i % 10],
            markersize=4,
            capsize=2,
            label=method,
        )
    line = list(front(own, axis))
    panel.plot([cost for cost, _ in line], [select for _, select in line], color="0.6", linewidth=1, zorder=0)
    panel.set(xlabel=AXES[axis], ylabel=_select(own), xscale="log")
    panel.legend(fontsize=6)
