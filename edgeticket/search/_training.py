"""One training loop for every method and every control: same data order, same steps, same schedule, resumable."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeticket.cells import Norm
from edgeticket.errors import EdgeTicketError
from edgeticket.files import write_atomic
from edgeticket.masked import MaskedNet, prepare
from edgeticket.plan import Kept
from edgeticket.ticket import Input
from edgeticket.weights import LearnedWeight, MaskedWeight

NORM_IMAGES = 20_000
QUICK_NORM_IMAGES = 1000
LOSS_EVERY = 20  # steps: reading it makes a GPU wait
SMALL_STEP = 0.05  # scales and biases


@dataclass(frozen=True)
class Progress:
    """After `step` of `steps`; `loss` is of a recent step, `watched` (in words) is empty until the first epoch is over."""

    phase: str
    step: int
    steps: int
    loss: float
    watched: str


def nesterov(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum 0.9."""
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)


def backpropagate(net: MaskedNet, loss: Callable[[], Tensor], step: int) -> Tensor:
    """Fill every parameter's gradient; returns the loss."""
    value = loss()
    value.backward()
    return value


@dataclass
class Job:
    """One network to train, and all that decides the result."""

    phase: str
    net: MaskedNet
    train: tuple[
        np.ndarray, np.ndarray
    ]  # raw, and what the outputs shall be: classes, or values in the outputs' own scale
    loss: Callable[[Tensor, Tensor], Tensor]
    watch: Callable[[MaskedNet], str]
    clip: float  # largest norm of a step's gradient
    input: Input
    seed: int
    epochs: int
    batch: int
    device: str
    report: Callable[[Progress], None]
    # what a search method decides:
    steps_by_kind: dict[str, float] = field(default_factory=dict)  # step size of "score" and "weight" tensors
    weight_decay: dict[str, float] = field(default_factory=dict)
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] = field(default=nesterov)
    penalty: Callable[[MaskedNet], Tensor] | None = None  # added to the loss
    gradients: Callable[[MaskedNet, Callable[[], Tensor], int], Tensor] = field(default=backpropagate)
    after_step: Callable[[MaskedNet, int], None] | None = None  # given the steps done; random only by (seed, step)
    # what `find` decides, whatever the method:
    shrink_at: dict[int, Callable[[MaskedNet, np.ndarray], Kept]] = field(default_factory=dict)
    seconds: float = 0.0  # CPU time of earlier processes, where this one resumed
    profile: dict[str, float] = field(default_factory=dict)  # see `_profile`; empty where nothing was left to do

    @property
    def total(self) -> int:
        return self.epochs * (len(self.train[0]) // self.batch)


def _profile(seconds: dict[str, float], weights: float) -> dict[str, float]:
    """Shares of the wall time of this process's steps.

    data: batches and their conversion; weights: scores to weights; forward without that; backward; update: optimizer and the
    method's own; other: norm statistics, watching and saving between epochs.
    """
    if not seconds.get("forward"):
        return {}
    seconds = seconds | {"weights": weights, "forward": seconds["forward"] - weights}
    return {word: spent / sum(seconds.values()) for word, spent in seconds.items()}


class Clock:
    """Wall seconds of a process by what they went to, each lap from the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, word: str) -> None:
        now = time.perf_counter()
        self.seconds[word] = self.seconds.get(word, 0.0) + now - self.last
        self.last = now


class Checkpoint:
    """A file with the state of every phase; saved at most every `seconds`, and when a phase ends or `report` stops it."""

    def __init__(self, path: Path | None, key: str, seconds: float = 30.0) -> None:
        self.path, self.key, self.seconds = path, key, seconds
        self.phases: dict[str, Any] = {}
        self.saved = time.monotonic()

    def load(self) -> None:
        """Raises EdgeTicketError when the file is damaged or belongs to another search."""
        assert self.path is not None
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
            key, phases = content["key"], content["phases"]
        except Exception as error:  # torch raises many types, with texts of many lines
            raise EdgeTicketError(
                f"{self.path}: damaged or no checkpoint, it cannot be resumed from: delete it and start again"
            ) from error
        if key != self.key:
            raise EdgeTicketError(f"{self.path} belongs to a search with other settings: repeat those, or delete it")
        self.phases = phases

    def put(self, phase: str, state: Callable[[], dict[str, Any]], now: bool) -> None:
        if self.path is None or (not now and time.monotonic() - self.saved < self.seconds):
            return
        self.phases[phase] = state()
        buffer = BytesIO()
        torch.save({"key": self.key, "phases": self.phases}, buffer)
        write_atomic(self.path, buffer.getvalue())
        self.saved = time.monotonic()


def use_device(device: str, threads: int) -> None:
    """Raises EdgeTicketError when there is no such device."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EdgeTicketError(f"--device {device}: torch sees no GPU here: use --device cpu")
    torch.set_num_threads(threads)
    weight = nn.Parameter(torch.zeros(1, 1, 3, 3))
    F.conv2d(torch.zeros(2, 1, 4, 4), weight).sum().backward()
    torch.optim.SGD([weight], lr=0.1).step()  # what torch loads once per process is no cost of the first network


def train(job: Job, checkpoint: Checkpoint) -> None:
    """Train `job.net` in place; from where the checkpoint left it, if it did. Leaves the net in eval mode, norms recomputed.

    `job.report` is called between steps, and may raise to stop: only there is the state whole, and saved.
    """
    net = job.net.to(job.device)
    optimizer = _optimizer(job)
    run = _Run(job, optimizer, np.zeros(net.wide.channel_ids))
    if job.phase in checkpoint.phases:
        run.restore(checkpoint.phases[job.phase])
    x, y = (torch.from_numpy(values).to(job.device) for values in job.train)
    mixed = _order(job, job.epochs)  # of what norm statistics are taken: data may lie sorted by class
    for order in _orders(job, run.step):
        run.clock.lap("other")
        batch = x[order], y[order]
        run.clock.lap("data")
        run.one_step(*batch)
        if run.step % run.epoch_steps == 0 and run.step < job.total:
            recalibrate(net, x[mixed[:QUICK_NORM_IMAGES]], job)  # quick norm statistics: recomputed properly at the end
            run.watched = job.watch(net)
        try:
            job.report(Progress(job.phase, run.step, job.total, run.loss, run.watched))
        except BaseException:
            checkpoint.put(job.phase, run.state, True)
            raise
        checkpoint.put(job.phase, run.state, run.step == job.total)
    run.clock.lap("other")
    job.profile = _profile(run.clock.seconds, run.weights)
    recalibrate(net, x[mixed[:NORM_IMAGES]], job)
    net.eval()


class _Run:
    """Where a training is: everything that a checkpoint holds."""

    def __init__(self, job: Job, optimizer: torch.optim.Optimizer, importance: np.ndarray) -> None:
        self.job, self.optimizer, self.importance = job, optimizer, importance
        self.step, self.loss = 0, math.nan
        self.watched = ""
        self.epoch_steps = job.total // job.epochs
        self.start = time.process_time()
        self.clock, self.weights = Clock(), 0.0

    def one_step(self, x: Tensor, y: Tensor) -> None:
        job, net = self.job, self.job.net
        if self.step in job.shrink_at:
            net.shrink(job.shrink_at[self.step](net, self.importance), self.optimizer.state)
            self.importance[:] = 0
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * 0.5 * (1 + math.cos(math.pi * self.step / job.total))
        net.train()
        self.optimizer.zero_grad()
        loss = job.gradients(net, lambda: self.loss_of(x, y), self.step)
        self.clock.lap("backward")
        if math.isfinite(job.clip):
            nn.utils.clip_grad_norm_(net.parameters(), job.clip)
        if job.shrink_at and self.step < max(job.shrink_at):
            _add_importance(net, self.importance)
        self.optimizer.step()
        self.step += 1
        if job.after_step:
            job.after_step(net, self.step)
        self.clock.lap("update")
        if self.step % LOSS_EVERY == 1 or self.step == job.total:
            self.loss = float(loss.detach())
            if not math.isfinite(self.loss):
                raise EdgeTicketError(
                    f"{job.phase}: the loss became {self.loss} at step {self.step}: try smaller step sizes"
                )

    def weight_seconds(self) -> float:
        return sum(cell.weight_seconds for cell in self.job.net.cells)  # type: ignore[misc]

    def loss_of(self, x: Tensor, y: Tensor) -> Tensor:
        job = self.job
        inputs = prepare(x, job.input)
        self.clock.lap("data")
        before = self.weight_seconds()
        loss = job.loss(job.net(inputs), y)
        self.weights += self.weight_seconds() - before
        if job.penalty:
            loss = loss + job.penalty(job.net)
        self.clock.lap("forward")
        return loss

    def state(self) -> dict[str, Any]:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return {
            "step": self.step,
            "watched": self.watched,
            "seconds": self.job.seconds + time.process_time() - self.start,
            "kept": {name: torch.from_numpy(kept.copy()) for name, kept in self.job.net.kept.items()},
            "net": {name: tensor.clone() for name, tensor in self.job.net.state_dict().items()},
            "momentum": [dict(self.optimizer.state.get(p, {})) for p in parameters],
            "importance": torch.from_numpy(self.importance.copy()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        net = self.job.net
        net.shrink({name: kept.numpy() for name, kept in state["kept"].items()}, {})
        net.load_state_dict(state["net"])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for parameter, momentum in zip(parameters, state["momentum"], strict=True):
            self.optimizer.state[parameter] = {
                name: value.to(parameter.device) if isinstance(value, Tensor) and value.dim() else value
                for name, value in momentum.items()
            }
        self.importance[:] = state["importance"].numpy()
        self.step, self.watched, self.job.seconds = state["step"], state["watched"], state["seconds"]


def _optimizer(job: Job) -> torch.optim.Optimizer:
    kinds: dict[str, list[nn.Parameter]] = {"score": [], "weight": [], "small": []}
    for module in job.net.modules():
        masked, learned = isinstance(module, MaskedWeight), isinstance(module, LearnedWeight)
        kinds["score" if masked else "weight" if learned else "small"] += module.parameters(recurse=False)
    steps, decay = {**job.steps_by_kind, "small": SMALL_STEP}, {**job.weight_decay, "small": 0.0}
    groups = [
        {"params": parameters, "lr": steps[kind], "base": steps[kind], "weight_decay": decay[kind]}
        for kind, parameters in kinds.items()
        if parameters
    ]
    return job.optimizer(groups)


def _orders(job: Job, done: int) -> Iterator[Tensor]:
    """Indices of every batch from step `done` on."""
    steps = len(job.train[0]) // job.batch
    for epoch in range(done // steps, job.epochs):
        order = _order(job, epoch)
        for i in range(done % steps if epoch == done // steps else 0, steps):
            yield order[i * job.batch : (i + 1) * job.batch]


def _order(job: Job, epoch: int) -> Tensor:
    """Indices of all training examples, shuffled by (seed, epoch) alone."""
    return torch.from_numpy(np.random.default_rng([job.seed, epoch]).permutation(len(job.train[0]))).to(job.device)


def _add_importance(net: MaskedNet, importance: np.ndarray) -> None:
    """Adds |sum of the gate gradients of the channel's layers| to each channel that is left."""
    gradient = np.zeros_like(importance)
    for layer in net.wide.weighted():
        rows, _ = net.wide.rows_columns(layer, net.kept)
        np.add.at(
            gradient, net.wide.channels[layer.name][rows], net.cell(layer.name).gate_gradient().double().cpu().numpy()
        )
    importance += np.abs(gradient)


@torch.no_grad()
def recalibrate(net: MaskedNet, raw: Tensor, job: Job) -> None:
    """Norm statistics of the net as it is: the plain average over batches of `raw`."""
    norms = [module for module in net.modules() if isinstance(module, Norm)]
    net.train()
    for norm in norms:
        norm.seen = 0
    for part in raw.split(min(500, len(raw))):
        if len(part) > 1:
            net(prepare(part, job.input))
    for norm in norms:
        norm.seen = None
