"""Many searches over a grid of settings, row by row; pareto.py says what of them is worth its cost.

The file of rows is the state: a line of JSON for each finished search, and a search whose line is there is not run again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from edgeticket.auto import effort, wanted
from edgeticket.budget import Budget
from edgeticket.data import Data
from edgeticket.errors import UsageError
from edgeticket.files import remove_aside, write_atomic
from edgeticket.lock import alone
from edgeticket.network import network_plan
from edgeticket.pareto import read_rows
from edgeticket.pool import open_pool
from edgeticket.row import Search, Task, run
from edgeticket.search._training import Progress
from edgeticket.session import Session
from edgeticket.settings import Settings
from edgeticket.spending import Latency

TIMED_STEPS = 12


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
    workers: int = 1,
    cluster: str = "",
    finished: Callable[[int, int], None] = lambda row, rows: None,
) -> list[dict[str, Any]]:
    """Run what is missing in the file; the rows of these searches, in their order.

    A search that is interrupted goes on from a checkpoint of its own beside the file, unless it ran on a `cluster`. A budget
    that no width meets gives a row that says so. `report` gets the row's number, how many there are, and how far its search
    is. More `workers`, or a `cluster` (edgeticket/pool.py), report rows that are `finished` instead.
    Raises UsageError where these are to measure latency, which is true only of a machine that does nothing else, and where
    another sweep is at work on the file.
    """
    pooled = workers > 1 or bool(cluster)
    if pooled and (latency or any("latency" in search.budget for search in searches)):
        raise UsageError("latency is measured on this machine while nothing else runs: use one worker, or leave it out")
    with alone(path):
        rows, keys = read_rows(path), []  # type: list[Any], list[dict[str, Any]]
        missing = sum(not done(search, data, rows) for search in searches)
        tasks = _tasks(searches, data, path, keys, not cluster)
        ran = _elsewhere(tasks, data, workers, cluster) if pooled else _here(tasks, data, latency, report, missing)
        if pooled:
            finished(0, missing)
        for number, (task, figures) in enumerate(ran, 1):
            _append(path, {"key": task.key} | figures)
            if task.checkpoint:
                task.checkpoint.unlink(missing_ok=True)
            if pooled:
                finished(number, max(number, missing))
        rows = read_rows(path)
        return [_of(key, rows) for key in keys]


def _tasks(
    searches: Sequence[Search], data: Data, path: Path, keys: list[dict[str, Any]], resumable: bool
) -> Iterator[Task]:
    """Of searches whose row the file has not by then; `keys` gets the key of each search."""
    for search in searches:
        key = search.key(data)  # before the search: a plug-in's file may be edited while it runs
        keys.append(key)
        mark = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        checkpoint = path.with_name(f"{path.name}.{mark}.checkpoint")
        remove_aside(checkpoint)
        if _of(key, read_rows(path)) is None:
            yield Task(search, key, network_plan(search.network, data), checkpoint if resumable else None)
        else:
            checkpoint.unlink(missing_ok=True)  # of a sweep that was killed just after its row was written


def _here(
    tasks: Iterable[Task],
    data: Data,
    latency: Latency | None,
    report: Callable[[int, int, Progress], None],
    missing: int,
) -> Iterator[tuple[Task, dict[str, Any]]]:
    for number, task in enumerate(tasks, 1):
        yield task, run(data, task, latency, partial(report, number, max(number, missing)))


def _elsewhere(tasks: Iterable[Task], data: Data, workers: int, cluster: str) -> Iterator[tuple[Task, dict[str, Any]]]:
    with open_pool(workers, cluster) as pool:
        yield from pool.run(run, data, tasks)


def _append(path: Path, row: dict[str, Any]) -> None:
    write_atomic(path, "".join(json.dumps(one) + "\n" for one in [*read_rows(path), row]).encode())


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
    share = min(0.5, TIMED_STEPS / max(1, total))
    session.attempt("warm up", plan, settings, share)
    few, twice = (session.attempt("timing", plan, settings, part)[1] for part in (share, 2 * share))
    whole = (
        few + max(0.0, twice - few) * (1 - share) / share
    )  # judging a network costs the same however long it was trained
    return whole * (1 + effort(plan, settings)) if tried(search) else whole


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Keys of searches that take about the same time; which density does not matter, but whether it is chosen."""
    same = all(one[name] == other[name] for name in ("network", "epochs", "examples", "budget"))
    return same and str(one["density"]).startswith("auto") == str(other["density"]).startswith("auto")
