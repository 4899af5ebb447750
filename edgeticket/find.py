"""The search, start to end: a ticket, proven and calibrated, and the controls that tell what it is worth."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import __version__
from edgeticket.calibration import calibrate
from edgeticket.cells import MaskedWeight
from edgeticket.compact import compact, remove_dead
from edgeticket.data import Data
from edgeticket.errors import DataError, InsufficientDataError, PluginError, UsageError
from edgeticket.found import Found, Result
from edgeticket.masked import Choices, MaskedNet, outputs
from edgeticket.model import Float, Model
from edgeticket.plan import Plan
from edgeticket.plugins import blame, load
from edgeticket.reference import require_equal, run
from edgeticket.search._training import Checkpoint, Job, Progress, train, use_device
from edgeticket.settings import Settings
from edgeticket.ticket import Ticket

LOG = logging.getLogger("edgeticket.find")
PROOF_IMAGES = 256
CALIBRATION_IMAGES = 1024


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

    Raises DataError where data and plan do not fit, EquivalenceError when torch and the numpy reference disagree.
    """
    _check_data(plan, data)
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


def network_plan(spec: str, data: Data) -> Plan:
    """The plan of `NAME[:WIDTH,...]` (or PATH.py[:WIDTH,...]) for the data's shape and classes."""
    name, _, sizes = spec.partition(":")
    try:
        widths = [int(size) for size in sizes.split(",") if size]
    except ValueError:
        raise UsageError(f"network {spec!r}: write NAME:WIDTH,WIDTH,..., for example conv:32,64,64") from None
    if any(width < 1 for width in widths):
        raise UsageError(f"network {spec!r}: a width is at least 1")
    make = load("architectures", name).plan
    with blame("architectures", name):
        plan = make(*widths, input=tuple(data.train[0].shape[1:]), classes=len(data.classes))
    if not isinstance(plan, Plan):
        raise PluginError(f"architecture {name}: plan(...) returned {type(plan).__name__}, not an edgeticket Plan")
    return plan


class _Session:
    """What all networks of one `find` share."""

    def __init__(
        self, plan: Plan, data: Data, settings: Settings, path: Path | None, report: Callable[[Progress], None]
    ) -> None:
        self.data, self.settings, self.report = data, settings, report
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
        LOG.info(
            "%s: %s weights, %d examples, %d epochs",
            phase,
            f"{sum(plan.weights().values()):,}",
            len(data.train[0]),
            s.epochs,
        )
        return Job(phase, net, data.train, data.select, data.input, s.seed, s.epochs, s.batch, s.device, self.report)

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
            outputs(job.net, proof, job.input),
            run(model, proof),
        )
        return ticket, self._result(phase, job, ticket.narrow, ticket.purity, seconds), difference

    def floating(self, ticket: Ticket) -> tuple[Model, Result]:
        """An ordinary network of the ticket's final shape, trained in float32 for the same steps."""
        job = self.job("float control", ticket.narrow, Choices({}, {}, frozenset(), floating=True))
        job.steps_by_kind, job.weight_decay = {"weight": self.settings.float_step}, {"weight": 5e-4}
        start = time.process_time()
        train(job, self.checkpoint)
        folded = {name: job.net.cell(name).fold() for name in job.net.names}
        model = Model(
            ticket.narrow,
            {name: Float(job.net.cell(name).weight().detach().cpu().numpy()) for name in job.net.names},
            {name: scale for name, (scale, _) in folded.items()},
            {name: bias for name, (_, bias) in folded.items()},
            self.data.input,
            {},
            self.data.task,
        )
        model = replace(model, quant=calibrate(model, self.data.train[0][:CALIBRATION_IMAGES]))
        seconds = job.seconds + time.process_time() - start
        return model, self._result("float", job, model.plan, "trained float32", seconds)

    def _result(self, name: str, job: Job, plan: Plan, purity: str, seconds: float) -> Result:
        correct, select = (
            outputs(job.net, x, job.input).argmax(1) == y for x, y in (self.data.certify, self.data.select)
        )
        return Result(name, correct, float(select.mean()), purity, plan.widths(), seconds)

    def _finish(self, job: Job, edges: dict[str, int], settings: Settings) -> Ticket:
        """Fold, freeze, drop what is dead, calibrate."""
        net = job.net
        masks, flips, learned, scale, bias = {}, {}, {}, {}, {}
        for name in net.names:
            cell = net.cell(name)
            if isinstance(cell.weight, MaskedWeight):
                masks[name], flip = cell.weight.choose()
                if settings.signs == "learned":
                    flips[name] = flip
            else:
                learned[name] = cell.weight.codes()
            scale[name], bias[name] = cell.fold()
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
            input=self.data.input,
            quant={},
            task=self.data.task,
            purity=settings.purity(settings.final(net.wide)),
            provenance=_provenance(self.data, settings),
        )
        alive = remove_dead(ticket)
        LOG.info(
            "dead channels removed: %s",
            {name: int((kept & ~alive.kept[name]).sum()) for name, kept in net.kept.items()},
        )
        ticket = alive
        return replace(ticket, quant=calibrate(compact(ticket), self.data.train[0][:CALIBRATION_IMAGES]))


def _check_data(plan: Plan, data: Data) -> None:
    (shape,) = plan.inputs.values()
    if tuple(data.train[0].shape[1:]) != tuple(shape):
        raise DataError(
            f"{data.name} has examples of shape {data.train[0].shape[1:]}, the network reads {tuple(shape)}"
        )
    outputs = plan.shapes[plan.outputs[0]]
    if outputs != (len(data.classes),):
        raise DataError(f"{data.name} has {len(data.classes)} classes, the network's output is {outputs}")


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
