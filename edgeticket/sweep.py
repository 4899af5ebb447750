"""Many searches over a grid of settings, row by row; pareto.py says what of them is worth its cost.

The file of rows is the state: a line of JSON for each finished search, and a search whose line is there is not run again.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from edgeticket import __version__
from edgeticket.auto import effort, wanted
from edgeticket.budget import Budget, Cost, Verdict
from edgeticket.compact import compact
from edgeticket.cost import estimated
from edgeticket.data import Data
from edgeticket.describe import describe
from edgeticket.errors import BudgetError, PluginError, UnsupportedError, UsageError
from edgeticket.files import write_atomic
from edgeticket.find import find
from edgeticket.found import Found
from edgeticket.network import network_plan
from edgeticket.pareto import CORE, read_rows
from edgeticket.search._training import Progress
from edgeticket.session import Session
from edgeticket.settings import Settings
from edgeticket.spending import Latency

TIMED_STEPS = 12


@dataclass(frozen=True)
class Search:
    """One row to be. `budget`: as on the command line, or empty."""

    network: str
    budget: str
    settings: Settings

    def key(self, data: Data) -> dict[str, Any]:
        """What a finished row must share to be this one's: never where a plug-in lies, but what it says.

        Raises PluginError for a file that is not there.
        """
        words = self.settings.words()
        return {
            "edgeticket": __version__,
            "network": _identity(self.network),
            "budget": self.budget,
            "data": data.digest,
            "examples": len(data.train[0]),
        } | {name: _identity(word) if name in ("method", "teacher") else word for name, word in words.items()}


def _identity(word: str) -> str:
    """Of PATH.py or PATH.py:MORE with the file's SHA-256; a name as it is."""
    named = re.fullmatch(r"(.+?\.py)(:.*)?", word)
    if not named:
        return word
    path = Path(named[1])
    if not path.is_file():
        raise PluginError(f"{path}: there is no such file")
    return f"{path.name}{named[2] or ''} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def grid(networks: Sequence[str], budgets: Sequence[str], seeds: Sequence[int], **axes: Sequence[Any]) -> list[Search]:
    """Every combination once, seeds last, so that one seed of all comes first. `axes`: options of `Settings.parse`, each with values.

    Raises UsageError for values that no search takes.
    """
    limits = [Budget.parse(budget).words() if budget else "" for budget in budgets]
    searches: list[Search] = []
    for seed in seeds:
        for network, budget, *values in product(networks, limits, *axes.values()):
            search = Search(network, budget, Settings.parse(seed=seed, **dict(zip(axes, values, strict=True))))
            if budget and search.settings.keep < 1:
                raise UsageError("--keep and --budget both say how wide the result is: leave one of them out")
            if search not in searches:  # 0.5 and 0.50 are one
                searches.append(search)
    return searches


def done(search: Search, data: Data, rows: Sequence[Mapping[str, Any]]) -> bool:
    return _of(search.key(data), rows) is not None


def _of(key: Mapping[str, Any], rows: Sequence[Any]) -> Any:
    return next((row for row in rows if row["key"] == key), None)


def sweep(
    searches: Sequence[Search],
    data: Data,
    path: Path,
    *,
    latency: Latency | None = None,
    report: Callable[[int, int, Progress], None] = lambda row, rows, progress: None,
) -> list[dict[str, Any]]:
    """Run what is missing in the file; the rows of these searches, in their order. Several sweeps may share a file.

    A search that is interrupted goes on from a checkpoint of its own beside the file. A budget that no width meets gives a row
    that says so. `report` gets the row's number, how many there are, and how far its search is.
    """
    rows, found, number = read_rows(path), [], 0
    missing = sum(not done(search, data, rows) for search in searches)
    for search in searches:
        key = search.key(data)  # before the search: a plug-in's file may be edited while it runs
        row = _of(key, read_rows(path))
        if row is None:
            number += 1
            mark = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
            checkpoint = path.with_name(f"{path.name}.{mark}.checkpoint")
            figures = _row(search, data, checkpoint, latency, partial(report, number, max(number, missing)))
            row = _append(path, {"key": key} | figures)
            checkpoint.unlink(missing_ok=True)
        found.append(row)
    return found


def _append(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """The row that the file has then: another sweep's where that was faster."""
    with _alone(path.parent):
        rows = read_rows(path)
        there: dict[str, Any] | None = _of(row["key"], rows)
        if there is None:
            write_atomic(path, "".join(json.dumps(one) + "\n" for one in [*rows, row]).encode())
    return there or row


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Between reading a file of `folder` and replacing it; the file itself cannot be locked, as it is replaced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
            checkpoint=checkpoint,
            report=report,
        )
    except BudgetError as error:
        return {"failed": str(error)}
    return _figures(found, latency)


def _figures(found: Found, latency: Latency | None) -> dict[str, Any]:
    told, model, result = describe(found.ticket), compact(found.ticket), found.results[0]
    narrow = model.plan
    try:
        core = estimated(model, CORE)
    except UnsupportedError:  # it has no C form
        core = Cost(CORE, "none")
    if latency:
        latency.fill([narrow])
    return {
        "select": result.task.headline(result.select),
        "certify": result.task.headline(result.certify),
        "headline": result.task.headline_word,
        "lower_is_better": result.task.lower_is_better,
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


def tried(search: Search) -> bool:
    """Whether short trials choose its density first."""
    return bool(search.budget) and wanted(search.settings, Budget.parse(search.budget))


def seconds(search: Search, data: Data, rows: Sequence[Mapping[str, Any]]) -> float:
    """CPU seconds that the search will take, about, with its trials: as rows like it took, else from a few steps of it.

    Without what narrows on the way, so rather too many.
    """
    own = search.key(data)
    known = [row["cpu_seconds"] for row in rows if "cpu_seconds" in row and _alike(row["key"], own)]
    if known:
        return mean(known)
    plan, settings = network_plan(search.network, data), search.settings
    total = settings.epochs * (len(data.train[0]) // settings.batch)
    session = Session(plan, data, settings, None, None, lambda progress: None)
    share = min(1.0, TIMED_STEPS / max(1, total))
    session.attempt("warm up", plan, settings, share)
    whole = session.attempt("timing", plan, settings, share)[1] / share
    return whole * (1 + effort(plan, settings)) if tried(search) else whole


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Keys of searches that take about the same time; which density does not matter, but whether it is chosen."""
    same = all(one[name] == other[name] for name in ("network", "epochs", "examples", "budget"))
    return same and str(one["density"]).startswith("auto") == str(other["density"]).startswith("auto")
