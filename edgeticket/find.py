"""The search, start to end: a ticket, proven and calibrated, and the controls that tell what it is worth."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import __version__
from edgeticket.calibration import calibrate
from edgeticket.compact import compact, remove_dead
from edgeticket.data import Data
from edgeticket.errors import DataError, UsageError
from edgeticket.masked import Choices, MaskedNet, MaskedWeight, outputs
from edgeticket.model import Float, Model
from edgeticket.plan import Plan
from edgeticket.plugins import load
from edgeticket.reference import require_equal, run
from edgeticket.search._training import Checkpoint, Job, Progress, train, use_device
from edgeticket.settings import Settings
from edgeticket.theory import interval, paired_p_value
from edgeticket.ticket import Quant, Ticket

PROOF_IMAGES = 256
CALIBRATION_IMAGES = 1024


@dataclass(frozen=True)
class Result:
    """One trained network on the certify set. `seconds` is CPU time, all threads and resumed processes together."""

    name: str
    correct: np.ndarray  # bool per certify example
    purity: str
    widths: dict[str, int]
    seconds: float

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    def to_json(self) -> dict[str, Any]:
        k, n = int(self.correct.sum()), len(self.correct)
        low, high = interval(k, n)
        return {
            "name": self.name,
            "accuracy": k / n,
            "correct": k,
            "of": n,
            "low": low,
            "high": high,
            "purity": self.purity,
            "widths": self.widths,
            "cpu_seconds": self.seconds,
        }


@dataclass(frozen=True)
class Found:
    """A ticket, what it and its controls reached, and how far the masked torch network is from the numpy reference."""

    ticket: Ticket
    results: tuple[Result, ...]
    difference: float
    controls: Mapping[str, Ticket | Model]

    def to_json(self) -> dict[str, Any]:
        return {
            "results": [result.to_json() for result in self.results],
            "verdict": self.verdict(),
            "torch_against_numpy": self.difference,
            "digest": self.ticket.digest,
        }

    def text(self) -> str:
        """A line a network: accuracy on the certify set with its 95 % Clopper-Pearson interval, purity, widths, cost."""
        lines = []
        for row in (result.to_json() for result in self.results):
            accuracy = f"{100 * row['accuracy']:6.2f} % [{100 * row['low']:.2f}, {100 * row['high']:.2f}]"
            shape = "-".join(map(str, row["widths"].values()))
            count = f"{row['correct']:,} of {row['of']:,}"
            lines.append(
                f"{row['name']:8} {accuracy}  {count:16} {row['purity']:16} {shape}  {row['cpu_seconds']:.1f} s CPU"
            )
        verdict = self.verdict()
        if verdict:
            lines.append(f"channel search against the narrow control: {verdict}")
        lines.append(
            f"masked torch network = numpy reference of the compacted one to {self.difference:.1e} of the largest output"
        )
        return "\n".join(lines)

    def verdict(self) -> str | None:
        """Who won, ticket or narrow control, by the paired exact McNemar test at 5 %; None without a control."""
        ticket, control = (next((r for r in self.results if r.name == name), None) for name in ("ticket", "control"))
        if ticket is None or control is None:
            return None
        a, b = (int((x.correct & ~y.correct).sum()) for x, y in ((ticket, control), (control, ticket)))
        p = paired_p_value(a, b)
        if p > 0.05:
            return f"tie: the channel search is not distinguishable from the narrow control (p = {p:.2g})"
        who = "channel search" if a > b else "narrow control, so the channel search was not worth its cost"
        return f"won by the {who} (p = {p:.2g})"


def find(
    plan: Plan,
    data: Data,
    settings: Settings,
    *,
    control: bool = True,
    float_control: bool = False,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Found:
    """Search `plan` for a ticket, then train the controls. Resumes from `checkpoint` when that file exists.

    Raises DataError where data and plan do not fit, EquivalenceError when torch and the numpy reference disagree.
    """
    _check_data(plan, data, settings)
    session = _Session(plan, data, settings, checkpoint, report)
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
    return load("architectures", name).plan(*widths, input=tuple(data.train[0].shape[1:]), classes=len(data.classes))


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
            raise DataError(f"{len(data.train[0])} training examples do not fill one batch of {s.batch}: lower --batch")
        net = MaskedNet(plan, s.seed, choices)
        return Job(phase, net, data.train, data.select, data.input, s.seed, s.epochs, s.batch, s.device, self.report)

    def ticket(self, phase: str, plan: Plan, settings: Settings) -> tuple[Ticket, Result, float]:
        edges, final = settings.edge_counts(plan), settings.final(plan)
        choices = Choices(settings.densities(final), edges, settings.learned(final), settings.signs == "learned")
        job = self.job(phase, plan, choices)
        start = time.process_time()
        load("search", settings.method).search(job, settings, self.checkpoint)
        ticket = self._finish(job, edges, settings)
        seconds = job.seconds + time.process_time() - start
        model = compact(ticket)
        proof = self.data.select[0][:PROOF_IMAGES]
        difference = require_equal(
            f"{phase}: masked torch network against the numpy reference of the compacted one",
            outputs(job.net, proof, job.input),
            run(model, proof),
        )
        return ticket, self._result(phase, job, ticket.purity, seconds), difference

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
        return model, self._result("float", job, "trained float32", job.seconds + time.process_time() - start)

    def _result(self, name: str, job: Job, purity: str, seconds: float) -> Result:
        x, y = self.data.certify
        correct = outputs(job.net, x, job.input).argmax(1) == y
        return Result(name, correct, purity, job.net.plan.widths(), seconds)

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
            quant={name: Quant(1.0, 0) for name in net.wide.shapes},
            task=self.data.task,
            purity=settings.purity(settings.final(net.wide)),
            provenance=_provenance(self.data, settings),
        )
        ticket = remove_dead(ticket)
        return replace(ticket, quant=calibrate(compact(ticket), self.data.train[0][:CALIBRATION_IMAGES]))


def _check_data(plan: Plan, data: Data, settings: Settings) -> None:
    (shape,) = plan.inputs.values()
    if tuple(data.train[0].shape[1:]) != tuple(shape):
        raise DataError(
            f"{data.name} has examples of shape {data.train[0].shape[1:]}, the network reads {tuple(shape)}"
        )
    outputs = plan.shapes[plan.outputs[0]]
    if outputs != (len(data.classes),):
        raise DataError(f"{data.name} has {len(data.classes)} classes, the network's output is {outputs}")


def _provenance(data: Data, settings: Settings) -> dict[str, Any]:
    return {
        "edgeticket": __version__,
        "torch": version("torch"),
        "numpy": np.__version__,
        "data": data.name,
        "data_digest": data.digest,
        "settings": settings.to_json(),
    }


def _key(plan: Plan, data: Data, settings: Settings) -> str:
    """What must be the same for a checkpoint to be gone on from."""
    text = json.dumps([plan.to_json(), data.digest, asdict(settings), len(data.train[0])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
