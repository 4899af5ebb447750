"""A proof of concept before a roll-out: what sparsity to expect, how likely a search succeeds, and what it costs.

Success is defined before the first search, from float networks on the select part; every seed is judged on the certify part,
which chose nothing. What comes out is a folder with every ticket and one record, from which `edgeticket report` makes a page.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

from edgeticket import __version__, tasks
from edgeticket.budget import Budget, Verdict
from edgeticket.data import Data, summary
from edgeticket.network import network_plan
from edgeticket.poc import energy, indicators, judge
from edgeticket.poc.chosen import deliver, latencies
from edgeticket.poc.folder import Folder, opened
from edgeticket.poc.jobs import SEARCHES, Job, Shared, work
from edgeticket.poc.judge import FLOATS
from edgeticket.poc.record import FORMAT, NAME, PROTOCOL, write
from edgeticket.poc.request import Request, sparser_densities
from edgeticket.poc.success import Criterion, bar, require_enough
from edgeticket.pool import Pool
from edgeticket.row import Search
from edgeticket.sweep import seconds
from edgeticket.targets.on_cpu import describe_machine

__all__ = ["Request", "Stage", "estimate", "poc"]


@dataclass(frozen=True)
class Stage:
    """How far one stage is: `done` of `of` jobs, `note` about the last one."""

    name: str
    done: int
    of: int
    note: str

    def of_proof(self, name: str) -> "Stage":
        """The same as one of several proofs'."""
        return Stage(f"{name}: {self.name}", self.done, self.of, self.note)


def poc(
    request: Request,
    data: Data,
    target: Path,
    pool: Pool,
    *,
    origin: Mapping[str, Any],
    prices: Mapping[str, Any] | None = None,
    table: Path | None = None,
    workers: int = 1,
    remote: bool = False,
    overwrite: bool = False,
    report: Callable[[Stage], None] = lambda stage: None,
) -> dict[str, Any]:
    """Run what is missing, then judge; the sealed record, which also lies in the folder `target` with all files.

    `origin`: how the data were asked for and the command, kept in the record for whoever repeats it. `table`: where entries of
    the latency table are kept. `remote`: workers may not see this machine's files. Raises InsufficientDataError where the data
    cannot tell success from failure: before any search is paid for.
    """
    request.check(data, target, workers=workers, remote=remote, overwrite=overwrite)
    plan, task = network_plan(request.model, data), tasks.of(data)
    criterion = Criterion.parse(request.success, data.task, task.lower_is_better)
    with opened(target, request.key(data), overwrite) as folder:
        shared = Shared(plan, data, request.settings, request.budget, None if remote else folder.checkpoints, table)
        run = _Run(request, folder, shared, pool, report)
        start, joules = time.perf_counter(), energy.read()
        floats = run.all("float networks", [Job("float", seed) for seed in range(FLOATS)])
        found = bar(criterion, task, [row for row in floats if row["name"] == "float"], data)
        require_enough(found, criterion, data)
        searched = run.searches()
        rows, controls = ([row for row in searched if ("name" in row) == named] for named in (False, True))
        sparser = run.sparser()
        spent = None if remote or run.resumed else energy.joules(joules, energy.read())
        rivals = floats + controls + run.rivals(rows)
        wall = None if run.resumed else time.perf_counter() - start  # what stopped earlier kept no clock
        costs = {"run_wall_seconds": wall, "workers": workers, "joules": _joules(spent)}
        _measure(folder.partial, rows, rivals, request.settings.threads)
        for row in [*rows, *sparser]:
            row["why"] = judge.why_not(row, criterion, found)
            row["success"] = not row["why"]
        record = {
            "format": FORMAT,
            "protocol": PROTOCOL,
            "request": {**request.words(), **origin},
            "data": summary(data),
            "bar": found,
            "rows": rows,
            "sparser": sparser,
            "rivals": rivals,
            "indicators": indicators.summarise(rows, sparser, rivals, request.confidence, costs),
            "environment": _environment(),
            "prices": dict(prices) if prices else None,
        }
        record["chosen"] = _deliver(record, folder.partial, data, judge.chosen_seed(rows, task.lower_is_better))
        return write({**record, "verdict": judge.verdict(record)}, folder.partial / NAME)


def estimate(request: Request, data: Data) -> tuple[float, int]:
    """CPU seconds of one search, about, from a few of its steps; and how many there will be, the sparser ones too."""
    each = seconds(Search(request.model, request.budget, request.settings), data, [])
    return each, request.seeds + FLOATS * len(sparser_densities(request))


class _Run:
    """Jobs through the pool, those that are done left out. `resumed`: an earlier run did some of them."""

    def __init__(
        self, request: Request, folder: Folder, shared: Shared, pool: Pool, report: Callable[[Stage], None]
    ) -> None:
        self.request, self.folder, self.shared, self.pool, self.report = request, folder, shared, pool, report
        self.resumed = bool(folder.rows)

    def all(self, name: str, jobs: Sequence[Job], go_on: Callable[[], bool] = lambda: True) -> list[dict[str, Any]]:
        """The rows of these jobs that are done in the end, in the order of the jobs."""
        missing = [job for job in jobs if not self._done(job)]
        done = len(jobs) - len(missing)
        self.report(Stage(name, done, len(jobs), ""))
        for job, made in self.pool.run(work, self.shared, missing, go_on):
            self.folder.add(job, made)
            done += 1
            self.report(Stage(name, done, len(jobs), str(job)))
        return [row for job in jobs for row in self.folder.of(job)]

    def _done(self, job: Job) -> bool:
        return bool(self.folder.of(job))

    def searches(self) -> list[dict[str, Any]]:
        """Until all seeds are searched, or the next one would exceed the cost. Which are left out depends on cost alone."""
        first = self.request.first_seed
        seeds = range(first, first + self.request.seeds)
        jobs = [Job("search", seed, controlled=seed < first + FLOATS) for seed in seeds]
        return self.all("searches", jobs, self._affordable(jobs))

    def sparser(self) -> list[dict[str, Any]]:
        """A few searches each at ever lower densities."""
        seeds = range(self.request.first_seed, self.request.first_seed + FLOATS)
        jobs = [Job("sparser", seed, density=density) for density in sparser_densities(self.request) for seed in seeds]
        return self.all("sparser searches", jobs, self._affordable(jobs)) if jobs else []

    def _affordable(self, jobs: Sequence[Job]) -> Callable[[], bool]:
        """Whether one more of these fits the cost beside what was searched, and what is running now."""
        begun, limit, kind = sum(map(self._done, jobs)), self.request.max_cost_s, jobs[0].kind

        def go_on() -> bool:
            nonlocal begun
            done = [row for row in self.folder.rows if row["kind"] in SEARCHES and "name" not in row]
            costs, running = (
                [row["cpu_seconds"] for row in done],
                max(0, begun - sum(row["kind"] == kind for row in done)),
            )
            if limit is not None and costs and sum(costs) + mean(costs) * (running + 1) > limit:
                return False
            begun += 1
            return True

        return go_on

    def rivals(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the user would do otherwise, at the bytes of the median ticket; nothing where no search gave one."""
        sizes = [row["bytes"] for row in rows if "failed" not in row]
        if not sizes:
            return []
        limit = int(median(sizes))
        jobs = [Job(kind, seed, limit=limit) for kind in ("int8-narrow", "pruned") for seed in range(FLOATS)]
        return self.all("what to compare with", jobs)


def _measure(folder: Path, rows: Sequence[dict[str, Any]], rivals: Sequence[dict[str, Any]], threads: int) -> None:
    """Latency of all in turns, now that nothing else runs; terms of a budget of it are judged by that."""
    found, others = [row for row in rows if "failed" not in row], [row for row in rivals if "failed" not in row]
    measured = latencies(folder, found, others, threads)
    for row, figures in zip([*found, *others], measured, strict=True):
        row["latency_ms"] = figures
    for row in found:
        for term in row["terms"]:
            if term["term"].startswith("latency="):
                (own,) = Budget.parse(term["term"]).terms
                value = row["latency_ms"]["p50"]
                term |= Verdict(own, value, value / own.limit, "measured").to_json()


def _deliver(record: Mapping[str, Any], folder: Path, data: Data, seed: int | None) -> dict[str, Any] | None:
    """`device_seconds`: by the clock, of the one search that is delivered and from there to proven and measured files.

    None where that search was stopped in between.
    """
    if seed is None:
        return None
    start, request = time.perf_counter(), record["request"]
    row = next(row for row in record["rows"] if row["seed"] == seed)
    made = deliver(
        folder,
        request["name"],
        row,
        data,
        budget=request["budget"],
        rivals=[rival for rival in record["rivals"] if "failed" not in rival and rival["name"] != "control"],
        threads=request["settings"]["threads"],
        period_ms=request["period_ms"],
    )
    search = row["wall_seconds"]
    return {**made, "device_seconds": None if search is None else search + time.perf_counter() - start}


def _joules(spent: float | None) -> dict[str, Any] | None:
    return None if spent is None else {"searches_and_floats": spent, "source": energy.SOURCE}


def _environment() -> dict[str, Any]:
    machine = describe_machine()
    packages = {name: version(name) for name in ("torch", "numpy", "onnxruntime")}
    return {"edgeticket": __version__, **packages, **{key: machine[key] for key in ("python", "cpu", "cores", "os")}}
