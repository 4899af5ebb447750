"""One search after another under the same conditions: tickets, float networks, teachers. What `find` and its controls share."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import __version__
from edgeticket.budget import Budget
from edgeticket.calibration import calibrated
from edgeticket.compact import compact, remove_dead
from edgeticket.data import Data
from edgeticket.errors import InsufficientDataError, UsageError
from edgeticket.found import Result
from edgeticket.masked import Choices, MaskedNet, of_ticket, outputs
from edgeticket.model import Float, Model
from edgeticket.plan import Plan
from edgeticket.plugins import blame, load
from edgeticket.reference import require_equal, run
from edgeticket.search._begin import begin
from edgeticket.search._shrink import schedule
from edgeticket.search._teaching import Teaching
from edgeticket.search._training import Checkpoint, Job, Progress, train, use_device
from edgeticket.settings import Settings
from edgeticket.spending import Spending
from edgeticket.ticket import Input, Ticket
from edgeticket.update import ranges
from edgeticket.weights import MaskedWeight

LOG = logging.getLogger("edgeticket.find")
PROOF_IMAGES = 256
FLOAT = "trained float32"  # its purity


class Session:
    """What all networks of one `find` share."""

    def __init__(
        self,
        plan: Plan,
        data: Data,
        settings: Settings,
        budget: Budget | None,
        path: Path | None,
        report: Callable[[Progress], None],
        old: Ticket | None = None,  # what is searched on from
    ) -> None:
        self.data, self.settings, self.report, self.teaching, self.old = data, settings, report, Teaching(data), old
        self.reasons = {"budget": budget.words()} if budget else {}
        if old:
            self.reasons["update_of"] = old.digest
        use_device(settings.device, settings.threads)
        self.checkpoint = Checkpoint(path, _key(plan, data, settings, self.reasons))
        if path is not None and path.exists():
            self.checkpoint.load()

    def sensor(self, plan: Plan) -> dict[str, Input]:
        return {next(iter(plan.inputs)): self.data.input}

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

    def ticket(
        self, phase: str, plan: Plan, settings: Settings, decided: Plan, spending: Spending | None = None
    ) -> tuple[Ticket, Result, float, Plan]:
        """A ticket, how far torch and numpy differ on it, and the plan as it was before dead channels left.

        Densities, edges and learned layers are those of `decided`, so that a ticket and its controls have the same.

        Under a budget `spending` says what leaves; without, `settings.keep` does.
        """
        start = time.process_time()
        job = self._searched(phase, plan, settings, decided, spending)
        with blame("search", settings.method):
            ticket = self._finish(job, settings, decided)
        seconds = job.seconds + time.process_time() - start
        model = compact(ticket)
        proof = self.data.select[0][:PROOF_IMAGES]
        difference = require_equal(
            f"{phase}: masked torch network against the numpy reference of the compacted one",
            outputs(job.net, proof, self.sensor(plan))[0],
            run(model, proof),
        )
        result = self._result(phase, job, ticket.narrow, ticket.purity, seconds)
        if self.teaching.task.thresholds:
            alarm = result.to_json()["threshold"]
            ticket = replace(ticket, provenance={**ticket.provenance, "alarm_above": alarm})
        return ticket, result, difference, job.net.plan

    def attempt(self, phase: str, plan: Plan, settings: Settings, share: float) -> tuple[float, float]:
        """The headline on the select part after a share of the steps, and CPU seconds."""
        start = time.process_time()
        job = self._searched(phase, plan, settings, plan, None, share)
        score = self.teaching.task.headline(self.teaching.score(job.net, self.data.select))
        return score, job.seconds + time.process_time() - start

    def _searched(
        self, phase: str, plan: Plan, settings: Settings, decided: Plan, spending: Spending | None, share: float = 1.0
    ) -> Job:
        method = load("search", settings.method)
        choices = Choices(
            settings.densities(decided),
            settings.edge_counts(decided),
            settings.learned(decided),
            settings.signs == "learned",
            weight=method.WEIGHT,
        )
        with blame("search", settings.method):
            job = self.job(phase, plan, choices)
            if self.old:
                begin(job.net, self.old, job.train[0], job.input)
            _shorten(job, share)
            job.shrink_at = schedule(job, settings, *((spending.judge, spending.prepare) if spending else ()))
            method.search(job, settings, self.checkpoint)
        return job

    def before(self, old: Ticket) -> Result:
        """What a ticket reaches that is there already."""
        net, start = of_ticket(old), time.process_time()
        certify, select = (self.teaching.score(net, part) for part in (self.data.certify, self.data.select))
        seconds = time.process_time() - start
        return Result("before", self.teaching.task, certify, select, old.purity, old.narrow.widths(), seconds)

    def teacher(self, plan: Plan) -> Result:
        """Train a float network of its own shape; whatever is trained from now on is advised by it."""
        if self.data.task != "classification":
            raise UsageError(
                f"--teacher advises on classes, but {self.data.name} is a {self.data.task} task: leave it out"
            )
        job, seconds = self.float_job("teacher", plan)
        result = self._result("teacher", job, plan, FLOAT, seconds)
        self.teaching = replace(self.teaching, advice=outputs(job.net, self.data.train[0], self.sensor(plan))[0])
        return result

    def float_job(self, phase: str, plan: Plan, net: MaskedNet | None = None) -> tuple[Job, float]:
        """A trained float network, and its CPU seconds. `net`: one that there is already is trained once more."""
        job = self.job(phase, plan, Choices({}, {}, frozenset(), floating=True))
        job.net = net or job.net
        job.steps_by_kind, job.weight_decay = {"weight": self.settings.float_step}, {"weight": 5e-4}
        start = time.process_time()
        train(job, self.checkpoint)
        return job, job.seconds + time.process_time() - start

    def float_model(self, net: MaskedNet) -> Model:
        """What a float network computes, with the channels that it has left; without ranges."""
        weights = {name: Float(net.cell(name).weight().detach().cpu().numpy()) for name in net.names}
        scale, bias, slope = net.folded()
        return Model(
            net.plan, weights, scale, bias, self.sensor(net.plan), {}, self.data.task, slope, self.teaching.target
        )

    def floating(self, name: str, plan: Plan) -> tuple[Model, Result]:
        """An ordinary network, trained in float32 for the same steps."""
        job, seconds = self.float_job(f"{name} control", plan)
        return calibrated(self.float_model(job.net), self.data), self._result(name, job, plan, FLOAT, seconds)

    def _result(self, name: str, job: Job, plan: Plan, purity: str, seconds: float) -> Result:
        certify, select = (self.teaching.score(job.net, part) for part in (self.data.certify, self.data.select))
        return Result(name, self.teaching.task, certify, select, purity, plan.widths(), seconds, job.profile)

    def _finish(self, job: Job, settings: Settings, decided: Plan) -> Ticket:
        """Fold, freeze, drop what is dead, calibrate."""
        net, edges = job.net, job.net.choices.edges
        masks, flips, learned = {}, {}, {}
        for name in net.names:
            weight = net.cell(name).weight
            if isinstance(weight, MaskedWeight):
                masks[name], flip = weight.choose()
                if weight.signed:
                    flips[name] = flip
            else:
                learned[name] = weight.codes()
        net.round()
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
            inputs=self.sensor(net.wide),
            quant={},
            task=self.data.task,
            purity=settings.purity(decided),
            provenance=_provenance(self.data, settings) | self.reasons,
            slope=slope,
            target=self.teaching.target,
        )
        if self.old:  # its firmware has all channels, dead or not
            return replace(ticket, quant=ranges(self.old.quant, calibrated(compact(ticket), self.data).quant))
        alive = remove_dead(ticket)
        LOG.info(
            "dead channels removed: %s",
            {name: int((kept & ~alive.kept[name]).sum()) for name, kept in net.kept.items()},
        )
        ticket = alive
        return replace(ticket, quant=calibrated(compact(ticket), self.data).quant)


def _provenance(data: Data, settings: Settings) -> dict[str, Any]:
    """What a ticket says of its making: nothing that does not decide its bytes, and no paths."""
    choices = settings.words()
    del choices["float_step"]
    for choice in ("method", "teacher"):
        if file := re.fullmatch(r"(.+\.py)(:.*)?", choices[choice]):
            digest = hashlib.sha256(Path(file[1]).read_bytes()).hexdigest()
            choices[choice] = f"{Path(file[1]).name}{file[2] or ''} sha256 {digest}"
    return {
        "edgeticket": __version__,
        "torch": version("torch"),
        "numpy": np.__version__,
        "data": data.name,
        "data_digest": data.digest,
        "training_examples": len(data.train[0]),
        "settings": choices,
    }


def _shorten(job: Job, share: float) -> None:
    """Fewer epochs of fewer examples, `share` of the steps in all."""
    if share == 1:
        return
    x, y = job.train
    epochs = max(1, round(job.epochs * share))
    examples = max(job.batch, round(len(x) * job.epochs * share / epochs))
    mixed = np.random.default_rng(job.seed).permutation(len(x))[:examples]  # data may lie sorted by class
    job.train, job.epochs = (x[mixed], y[mixed]), epochs


def _key(plan: Plan, data: Data, settings: Settings, budget: dict[str, str]) -> str:
    """What must be the same for a checkpoint to be gone on from."""
    made_by = _provenance(data, settings) | budget
    text = json.dumps([plan.to_json(), made_by, settings.float_step], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
