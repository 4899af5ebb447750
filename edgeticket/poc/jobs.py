"""What worker processes do for a proof of concept: one search, or one network to compare with. Facts only; judging comes later."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeticket import rivals, tasks
from edgeticket.budget import Budget
from edgeticket.data import Data
from edgeticket.describe import describe
from edgeticket.errors import BudgetError, UnsupportedError
from edgeticket.export import export
from edgeticket.find import find
from edgeticket.found import Found, Result
from edgeticket.latency import Table
from edgeticket.plan import Plan
from edgeticket.reference import run
from edgeticket.rivals import Rival
from edgeticket.search._training import Progress
from edgeticket.settings import Settings
from edgeticket.tasks import Scored
from edgeticket.ticket import Ticket

SEARCHES = ("search", "sparser")
FLOPS = 6  # of a training step, per example and multiply-accumulate: forward, and twice that back (Hobbhahn and Sevilla, 2021)


@dataclass(frozen=True)
class Shared:
    """What all jobs of one proof share. `checkpoints` and `table` are places on this machine; None where a job may run elsewhere."""

    plan: Plan
    data: Data
    settings: Settings
    budget: str
    checkpoints: Path | None
    table: Path | None


@dataclass(frozen=True)
class Job:
    """`kind`: search, sparser, float, int8-narrow or pruned. `controlled`: search a control too; `density`: of a sparser one.

    `limit`: bytes that the last two may have.
    """

    kind: str
    seed: int
    controlled: bool = False
    density: float | None = None
    limit: int | None = None

    def __str__(self) -> str:
        at = f" {self.density:.3g}" if self.density else ""
        return f"{self.kind}{at} {self.seed}"

    @property
    def file(self) -> str:
        return str(self).replace("search ", "seed ").replace(" ", "-")


@dataclass(frozen=True)
class Done:
    """`rows` as in the record, `files` by their path in the run's folder."""

    rows: tuple[dict[str, Any], ...]
    files: Mapping[str, bytes]


def work(shared: Shared, job: Job) -> Done:
    """Raises what `find` raises; that no width meets the budget, or a network cannot be pruned, is a row that says so."""
    settings, start = replace(shared.settings, seed=job.seed), time.perf_counter()
    if job.density:
        settings = replace(settings, density=job.density)
    checkpoint = _checkpoint(shared, job)
    resumed = checkpoint is not None and checkpoint.exists()
    done = (_search if job.kind in SEARCHES else _rival)(shared, job, settings)
    wall = (
        None if resumed else time.perf_counter() - start
    )  # CPU seconds are in the checkpoint, those of the clock are not
    about = {"kind": job.kind, "seed": job.seed, "asked": job.density, "wall_seconds": wall}
    return Done(tuple(row | about for row in done.rows), done.files)


def _search(shared: Shared, job: Job, settings: Settings) -> Done:
    budget = Budget.parse(shared.budget) if shared.budget else None
    sensor = {next(iter(shared.plan.inputs)): shared.data.input}
    latency = Table(shared.table, settings.threads, sensor) if budget and budget.has("latency_ms") else None
    checkpoint, curve = _checkpoint(shared, job), Curve(settings.epochs)
    start = time.process_time()
    try:
        found = find(
            shared.plan,
            shared.data,
            settings,
            budget=budget,
            latency=latency,
            control=job.controlled,
            checkpoint=checkpoint,
            report=curve,
        )
    except BudgetError as error:
        row = {"failed": str(error), "cpu_seconds": time.process_time() - start}
        return Done((row,), {})
    told, path, control = describe(found.ticket), f"tickets/{job.file}.ticket", _control(found)
    reached = _reached(found.results[0])
    curve.end(reached["select"])
    row = {
        **reached,
        "terms": [one.to_json() for one in found.verdicts],
        "purity": found.ticket.purity,
        **ticket_facts(told),
        "ticket": path,
        "digest": found.ticket.digest,
        "flops": _flops(shared, settings),
        "curve": curve.rows,
    }
    return Done((row, *control.rows), {path: found.ticket.to_bytes(), **control.files})


def ticket_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of a ticket's size, from `describe(ticket)`."""
    total = told["total"]
    return {
        "density": total["density"],
        "kept_of_wide": total["kept_of_wide"],
        "kept": total["kept"],
        "bytes": told["bytes"]["packed"],
        "macs": total["macs"]["after"],
        "kept_macs": total["kept_macs"],
    }


def _control(found: Found) -> Done:
    """A random network that was narrow from the start: the same search, without channels to choose; none where none could leave."""
    result = next((result for result in found.results if result.name == "control"), None)
    if result is None:
        return Done((), {})
    ticket = found.controls["control"]
    assert isinstance(ticket, Ticket)
    told, path = describe(ticket), f"rivals/control-{ticket.seed}.onnx"
    row = {
        "name": "control",
        "what": "a random network of these widths from the start, and the same search",
        **_reached(result),
        "bytes": told["bytes"]["packed"],
        "macs": told["total"]["macs"]["after"],
        "onnx": path,
    }
    return Done((row,), {path: _onnx(ticket)})


def _reached(result: Result) -> dict[str, Any]:
    return {
        "select": result.task.headline(result.select),
        "certify": result.task.headline(result.certify),
        "figures": result.task.figures(result.certify, result.select),
        "widths": result.widths,
        "cpu_seconds": result.seconds,
    }


def _onnx(ticket: Ticket) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        return export(ticket, "onnx", Path(folder) / "ticket.onnx").path.read_bytes()


def _rival(shared: Shared, job: Job, settings: Settings) -> Done:
    try:
        if job.kind == "float":
            made = rivals.floating(shared.plan, shared.data, settings)
        else:
            make = rivals.narrow_int8 if job.kind == "int8-narrow" else rivals.pruned
            made = [make(shared.plan, shared.data, settings, job.limit or 0)]
    except (UnsupportedError, BudgetError) as error:
        row = {"name": job.kind, "failed": str(error), "cpu_seconds": 0.0}
        return Done((row,), {})
    rows, files = [], {}
    for rival in made:
        path = f"rivals/{rival.name}-{job.seed}.onnx"
        files[path] = rival.onnx
        rows.append(_rival_row(rival, path))
    if job.kind == "float":
        rows[0]["deviation"] = _deviation(shared.data, made[0])
    return Done(tuple(rows), files)


def _rival_row(rival: Rival, path: str) -> dict[str, Any]:
    return {
        "name": rival.name,
        "what": rival.what,
        "select": rival.select,
        "certify": rival.certify,
        "figures": rival.figures,
        "bytes": rival.bytes,
        "macs": rival.macs,
        "widths": rival.widths,
        "onnx": path,
        "cpu_seconds": rival.cpu_seconds,
    }


def _deviation(data: Data, rival: Rival) -> float:
    """Of one example of the select part, at the float network's own headline."""
    task, (raw, y) = tasks.of(data), data.select
    part = Scored(task.score(run(rival.model, raw), data.input.apply(raw), y), y)
    return task.deviation(part, rival.select)


def _flops(shared: Shared, settings: Settings) -> int:
    """Of the whole search as if no channel ever left: at most. Trials that choose a density are not in it."""
    examples = len(shared.data.train[0]) // settings.batch * settings.batch
    return FLOPS * sum(shared.plan.macs().values()) * examples * settings.epochs


def _checkpoint(shared: Shared, job: Job) -> Path | None:
    return shared.checkpoints / f"{job.file}.checkpoint" if shared.checkpoints else None


class Curve:
    """Keeps what a search reports at the end of each of its epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.rows: list[dict[str, Any]] = []

    def __call__(self, progress: Progress) -> None:
        if progress.phase != "ticket":
            return
        epoch = progress.step * self.epochs // progress.steps
        if epoch > (self.rows[-1]["epoch"] if self.rows else 0):
            watched = progress.watched.split()
            self.rows.append({"epoch": epoch, "loss": progress.loss, "select": float(watched[-1]) if watched else None})

    def end(self, select: float) -> None:
        """After the last epoch nothing is watched, but the whole select part is measured."""
        if self.rows:
            self.rows[-1]["select"] = select
