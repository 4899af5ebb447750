"""Many searches over a grid of settings, row by row, and what of them is worth its cost.

The file of rows is the state: a line of JSON for each finished search, and a search whose line is there is not run again.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from edgeticket.budget import Budget, Verdict
from edgeticket.compact import compact
from edgeticket.cost import estimate
from edgeticket.data import Data
from edgeticket.describe import describe
from edgeticket.errors import BudgetError, EdgeTicketError, UsageError
from edgeticket.files import write_atomic
from edgeticket.find import find
from edgeticket.found import Found
from edgeticket.network import network_plan
from edgeticket.search._training import Progress
from edgeticket.session import Session
from edgeticket.settings import Settings
from edgeticket.spending import Latency
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
TIMED_STEPS = 12


@dataclass(frozen=True)
class Search:
    """One row to be. `budget`: as on the command line, or empty."""

    network: str
    budget: str
    settings: Settings

    def key(self, data: Data) -> dict[str, Any]:
        """What a finished row must share to be this one's."""
        words = self.settings.words()
        return {
            "network": self.network,
            "budget": self.budget,
            "data": data.digest,
            "examples": len(data.train[0]),
        } | words


def grid(networks: Sequence[str], budgets: Sequence[str], seeds: Sequence[int], **axes: Sequence[Any]) -> list[Search]:
    """Every combination, seeds last, so that one seed of all comes first. `axes`: options of `Settings.parse`, each with values.

    Raises UsageError for values that no search takes.
    """
    for budget in budgets:
        if budget:
            Budget.parse(budget)
    return [
        Search(network, budget, Settings.parse(seed=seed, **dict(zip(axes, values, strict=True))))
        for seed in seeds
        for network, budget, *values in product(networks, budgets, *axes.values())
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The finished rows. A last line that was cut short is dropped; raises EdgeTicketError for any other that is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise EdgeTicketError(
                    f"{path}, line {number}: not a row of a sweep: delete it, or name another file"
                ) from error
            LOG.warning("%s: the last line was cut short and is dropped", path)
    return rows


def done(search: Search, data: Data, rows: Sequence[Mapping[str, Any]]) -> bool:
    key = search.key(data)
    return any(row["key"] == key for row in rows)


def sweep(
    searches: Sequence[Search],
    data: Data,
    path: Path,
    *,
    latency: Latency | None = None,
    report: Callable[[int, int, Progress], None] = lambda row, rows, progress: None,
) -> list[dict[str, Any]]:
    """Run what is missing in the file; the rows of these searches, in their order.

    A search that is interrupted goes on from a checkpoint beside the file. A budget that no width meets gives a row that says so.
    `report` gets the row's number, how many there are, and how far its search is.
    """
    rows = read_rows(path)
    checkpoint = path.with_name(path.name + ".checkpoint")
    missing = [search for search in searches if not done(search, data, rows)]
    for number, search in enumerate(missing, 1):
        row = _row(search, data, checkpoint, latency, partial(report, number, len(missing)))
        rows.append({"key": search.key(data)} | row)
        write_atomic(path, "".join(json.dumps(one) + "\n" for one in rows).encode())
        for left in (checkpoint, checkpoint.with_suffix(".key")):
            left.unlink(missing_ok=True)
    keys = [search.key(data) for search in searches]
    return [next(row for row in rows if row["key"] == key) for key in keys]


def _row(
    search: Search, data: Data, checkpoint: Path, latency: Latency | None, report: Callable[[Progress], None]
) -> dict[str, Any]:
    budget = Budget.parse(search.budget) if search.budget else None
    plan = network_plan(search.network, data)
    try:
        found = find(
            plan,
            data,
            search.settings,
            budget=budget,
            latency=latency,
            control=False,
            checkpoint=_own(checkpoint, search, data),
            report=report,
        )
    except BudgetError as error:
        return {"failed": str(error)}
    return _figures(found, latency)


def _own(checkpoint: Path, search: Search, data: Data) -> Path:
    """The checkpoint, unless it is of another row: then it is of no more use."""
    note = checkpoint.with_suffix(".key")
    key = json.dumps(search.key(data), sort_keys=True)
    if checkpoint.exists() and (not note.exists() or note.read_text(encoding="utf-8") != key):
        checkpoint.unlink()
    write_atomic(note, key.encode())
    return checkpoint


def _figures(found: Found, latency: Latency | None) -> dict[str, Any]:
    told, model, result = describe(found.ticket), compact(found.ticket), found.results[0]
    narrow = model.plan
    masked = {row["name"]: row for row in told["layers"] if row["kind"] != "int8"}
    core = estimate(
        narrow,
        {name: row["density"] for name, row in masked.items()},
        {name: row["edges"] for name, row in masked.items()},
        frozenset(found.ticket.learned),
        CORE,
    )
    if latency:
        latency.fill([narrow])
    return {
        "select": result.task.headline(result.select),
        "certify": result.task.headline(result.certify),
        "headline": result.task.headline_word,
        "purity": result.purity,
        "widths": result.widths,
        "cpu_seconds": result.seconds + sum(trial.seconds for trial in found.trials),
        "missed": [verdict.text() for verdict in found.verdicts if not verdict.met],
        "cost": {
            "latency_ms": _measured(found.verdicts) or (latency.predict(narrow) if latency else None),
            "packed_bytes": told["bytes"]["packed"],
            "kept_macs": told["total"]["kept_macs"],
            "instructions": core.instructions,
            "ram_bytes": core.ram_bytes,
        },
    }


def _measured(verdicts: Sequence[Verdict]) -> float | None:
    return next((verdict.value for verdict in verdicts if verdict.term.resource == "latency_ms"), None)


def seconds(search: Search, data: Data, rows: Sequence[Mapping[str, Any]]) -> float:
    """CPU seconds that the search will take, about: as rows of its network took, else from a few steps of it.

    Without what narrows on the way (so rather too many), and without the trials of `--density auto`.
    """
    key, own = ("network", "epochs", "examples", "budget"), search.key(data)
    known = [row["cpu_seconds"] for row in rows if "cpu_seconds" in row and all(row["key"][k] == own[k] for k in key)]
    if known:
        return mean(known)
    plan, total = (
        network_plan(search.network, data),
        search.settings.epochs * (len(data.train[0]) // search.settings.batch),
    )
    session = Session(plan, data, search.settings, None, None, lambda progress: None)
    share = min(1.0, TIMED_STEPS / max(1, total))
    session.attempt("warm up", plan, search.settings, share)
    return session.attempt("timing", plan, search.settings, share)[1] / share


# what the rows say


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
    return " ".join(f"{key}={row['key'][key]}" for key in told) or row["key"]["network"]


def _summary(label: str, group: Sequence[Mapping[str, Any]]) -> Summary:
    select = [row["select"] for row in group]
    costs = {axis: [row["cost"][axis] for row in group if row["cost"][axis] is not None] for axis in AXES}
    return Summary(
        label=label,
        network=group[0]["key"]["network"],
        method=group[0]["key"]["method"],
        seeds=len(group),
        select=mean(select),
        spread=stdev(select) if len(select) > 1 else 0.0,
        certify=mean(row["certify"] for row in group),
        costs={axis: mean(values) if values else None for axis, values in costs.items()},
        seconds=mean(row["cpu_seconds"] for row in group),
        missed=sum(bool(row["missed"]) for row in group),
    )


def _optimal(one: Summary, others: Sequence[Summary], axis: str) -> bool:
    """No other is at least as good in both, and better in one."""
    cost = one.costs[axis]
    if cost is None:
        return False
    for other in others:
        theirs = other.costs[axis]
        if (
            theirs is not None
            and other.select >= one.select
            and theirs <= cost
            and (other.select, theirs) != (one.select, cost)
        ):
            return False
    return True


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each combination; * marks a cost at which no other is better on the select part."""
    own = summaries(rows)
    shown = [axis for axis in AXES if any(one.costs[axis] is not None for one in own)]
    head = ["settings", "seeds", "select", "+-", "certify", *(AXES[axis] for axis in shown), "CPU s", "budget missed"]
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


def picture(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One panel per cost, with the front of what is optimal. The file's suffix says what it is (.svg, .png, .pdf).

    Raises UsageError where matplotlib is missing or no row has a cost.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--picture needs matplotlib: pip install 'edgeticket[picture]'") from error
    own = summaries(rows)
    shown = [axis for axis in AXES if any(one.costs[axis] is not None for one in own)]
    if not shown:
        raise UsageError("--picture: no row of the sweep has a result to draw")
    with mpl.rc_context({"svg.hashsalt": "edgeticket", "font.size": 8}):
        figure = Figure(figsize=(3.2 * len(shown), 3.2), layout="constrained")
        for panel, axis in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _draw(panel, own, axis)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


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
    panel.set(xlabel=AXES[axis], ylabel="select part", xscale="log")
    panel.legend(fontsize=6)
