"""The search, start to end: a ticket, proven and calibrated, and the controls that tell what it is worth."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import __version__, tasks
from edgeticket.calibration import calibrated
from edgeticket.cells import MaskedWeight
from edgeticket.compact import compact, remove_dead
from edgeticket.data import Data
from edgeticket.errors import DataError, InsufficientDataError, UnsupportedError
from edgeticket.found import Found, Result
from edgeticket.masked import Choices, MaskedNet, outputs
from edgeticket.model import Float, Model
from edgeticket.ops import Weighted
from edgeticket.plan import Plan
from edgeticket.plugins import blame, load
from edgeticket.reference import require_equal, run
from edgeticket.search._teaching import Teaching
from edgeticket.search._training import Checkpoint, Job, Progress, train, use_device
from edgeticket.settings import Settings
from edgeticket.ticket import Ticket

LOG = logging.getLogger("edgeticket.find")
PROOF_IMAGES = 256


def find(
    plan: Plan,
    data: Data,
    settings: Settings,
    *,
    control: bool = True,
    float_control: bool = False,
    checkpoint: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Found:
    """Search `plan` for a ticket, then train the controls. Resumes from `checkpoint` when that file exists.

    Raises UnsupportedError for a network that no search can teach, DataError where data and plan do not fit,
    EquivalenceError when torch and the numpy reference disagree.
    """
    check_plan(plan, data)
    session = _Session(plan, data, settings, Path(checkpoint) if checkpoint else None, report)
    ticket, result, difference = session.ticket("ticket", plan, settings)
    results, controls = [result], {}  # type: list[Result], dict[str, Ticket | Model]
    if control and settings.keep < 1:
        controls["control"], result, _ = session.ticket("control", ticket.narrow, replace(settings, keep=1.0))
        results.append(result)
    if float_control:
        controls["float"], result = session.floating(ticket)
        results.append(result)
    return Found(ticket, tuple(results), difference, controls)


class _Session:
    """What all networks of one `find` share."""

    def __init__(
        self, plan: Plan, data: Data, settings: Settings, path: Path | None, report: Callable[[Progress], None]
    ) -> None:
        self.data, self.settings, self.report, self.teaching = data, settings, report, Teaching(data)
        self.inputs = {next(iter(plan.inputs)): data.input}
        use_device(settings.device, settings.threads)
        self.checkpoint = Checkpoint(path, _key(plan, data, settings))
        if path is not None and path.exists():
            self.checkpoint.load()

    def job(self, phase: str, plan: Plan, choices: Choices) -> Job:
        data, s = self.data, self.settings
        if len(data.train[0]) < s.batch:
            raise InsufficientDataError(
                f"{len(data.train[0])} training examples do not fill one batch of {s.batch}: lower --batch"
            )
        net = MaskedNet(plan, s.seed, choices)
        net.target = self.teaching.target
        LOG.info(
            "%s: %s weights, %d examples, %d epochs",
            phase,
            f"{sum(plan.weights().values()):,}",
            len(data.train[0]),
            s.epochs,
        )
        return Job(
            phase=phase,
            net=net,
            train=(data.train[0], self.teaching.wanted()),
            loss=self.teaching.loss,
            watch=self.teaching.watch,
            clip=self.teaching.clip,
            input=data.input,
            seed=s.seed,
            epochs=s.epochs,
            batch=s.batch,
            device=s.device,
            report=self.report,
        )

    def ticket(self, phase: str, plan: Plan, settings: Settings) -> tuple[Ticket, Result, float]:
        edges, final = settings.edge_counts(plan), settings.final(plan)
        choices = Choices(settings.densities(final), edges, settings.learned(final), settings.signs == "learned")
        job = self.job(phase, plan, choices)
        start = time.process_time()
        method = load("search", settings.method).search
        with blame("search", settings.method):
            method(job, settings, self.checkpoint)
        ticket = self._finish(job, edges, settings)
        seconds = job.seconds + time.process_time() - start
        model = compact(ticket)
        proof = self.data.select[0][:PROOF_IMAGES]
        difference = require_equal(
            f"{phase}: masked torch network against the numpy reference of the compacted one",
            outputs(job.net, proof, self.inputs)[0],
            run(model, proof),
        )
        result = self._result(phase, job, ticket.narrow, ticket.purity, seconds)
        if self.teaching.task.thresholds:
            alarm = result.to_json()["threshold"]
            ticket = replace(ticket, provenance={**ticket.provenance, "alarm_above": alarm})
        return ticket, result, difference

    def floating(self, ticket: Ticket) -> tuple[Model, Result]:
        """An ordinary network of the ticket's final shape, trained in float32 for the same steps."""
        job = self.job("float control", ticket.narrow, Choices({}, {}, frozenset(), floating=True))
        job.steps_by_kind, job.weight_decay = {"weight": self.settings.float_step}, {"weight": 5e-4}
        start = time.process_time()
        train(job, self.checkpoint)
        weights = {name: Float(job.net.cell(name).weight().detach().cpu().numpy()) for name in job.net.names}
        scale, bias, slope = job.net.folded()
        model = Model(ticket.narrow, weights, scale, bias, self.inputs, {}, self.data.task, slope, self.teaching.target)
        model = calibrated(model, self.data)
        seconds = job.seconds + time.process_time() - start
        return model, self._result("float", job, model.plan, "trained float32", seconds)

    def _result(self, name: str, job: Job, plan: Plan, purity: str, seconds: float) -> Result:
        certify, select = (self.teaching.score(job.net, part) for part in (self.data.certify, self.data.select))
        return Result(name, self.teaching.task, certify, select, purity, plan.widths(), seconds)

    def _finish(self, job: Job, edges: dict[str, int], settings: Settings) -> Ticket:
        """Fold, freeze, drop what is dead, calibrate."""
        net = job.net
        masks, flips, learned = {}, {}, {}
        for name in net.names:
            weight = net.cell(name).weight
            if isinstance(weight, MaskedWeight):
                masks[name], flip = weight.choose()
                if settings.signs == "learned":
                    flips[name] = flip
            else:
                learned[name] = weight.codes()
        scale, bias, slope = net.folded()
        ticket = Ticket(
            plan=net.wide,
            seed=settings.seed,
            edges={name: n for name, n in edges.items() if name not in learned},
            kept=net.kept,
            masks=masks,
            flips=flips,
            learned=learned,
            scale=scale,
            bias=bias,
            inputs=self.inputs,
            quant={},
            task=self.data.task,
            purity=settings.purity(settings.final(net.wide)),
            provenance=_provenance(self.data, settings),
            slope=slope,
            target=self.teaching.target,
        )
        alive = remove_dead(ticket)
        LOG.info(
            "dead channels removed: %s",
            {name: int((kept & ~alive.kept[name]).sum()) for name, kept in net.kept.items()},
        )
        ticket = alive
        return replace(ticket, quant=calibrated(compact(ticket), self.data).quant)


def check_plan(plan: Plan, data: Data) -> None:
    """Raise UnsupportedError or DataError unless a search can teach `plan` the task of `data`."""
    for word, names in (("input", plan.inputs), ("output", plan.outputs)):
        if len(names) != 1:
            raise UnsupportedError(
                f"the network has {len(names)} {word}s ({', '.join(names)}): a search teaches one with one {word}; "
                "inspect and export take it as it is"
            )
    if not plan.weights():
        raise UnsupportedError("the network has no layer with weights: there is nothing to search")
    (shape,), output = plan.inputs.values(), plan.shapes[plan.outputs[0]]
    if tuple(data.train[0].shape[1:]) != tuple(shape):
        raise DataError(
            f"{data.name} has examples of shape {data.train[0].shape[1:]}, the network reads {tuple(shape)}"
        )
    wanted = tasks.of(data).outputs(data)
    if prod(output) != wanted or (data.task != "anomaly" and len(output) != 1):
        raise DataError(f"{data.name} ({data.task}) needs {wanted} outputs, the network's output is {output}")
    last = plan[plan.outputs[0]]
    if data.task == "regression" and not (isinstance(last.op, Weighted) and last.op.activation == "none"):
        raise UnsupportedError(
            f"layer {last.name} ({type(last.op).__name__}): targets have units, so the last layer must be a Linear or Conv "
            "without activation"
        )


def _provenance(data: Data, settings: Settings) -> dict[str, Any]:
    """What a ticket says of its making: nothing that does not decide its bytes, and no paths."""
    choices = settings.words()
    del choices["float_step"]
    if Path(settings.method).suffix == ".py":
        file = Path(settings.method)
        choices["method"] = f"{file.name} sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
    return {
        "edgeticket": __version__,
        "torch": version("torch"),
        "numpy": np.__version__,
        "data": data.name,
        "data_digest": data.digest,
        "training_examples": len(data.train[0]),
        "settings": choices,
    }


def _key(plan: Plan, data: Data, settings: Settings) -> str:
    """What must be the same for a checkpoint to be gone on from."""
    made_by = _provenance(data, settings)
    text = json.dumps([plan.to_json(), made_by, settings.float_step], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
