"""What a task asks of a network while it is trained, and what the trained network reaches."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from edgeticket import tasks
from edgeticket.data import Data
from edgeticket.datasets.arrays import Part
from edgeticket.masked import MaskedNet, outputs
from edgeticket.tasks import Scored, Task
from edgeticket.ticket import Target

WATCHED = 1000  # examples
SQUARED_CLIP = 1.0  # norm of the gradient
ADVICE, TEMPERATURE = 0.5, 4.0  # a teacher's share of the loss, and what its outputs are divided by (docs/notes.md)


@dataclass(frozen=True)
class Teaching:
    """Targets of a regression are learned at mean 0 and deviation 1; the net's `target` is the way back.

    `advice`: a teacher's outputs for the training part, [n, classes].
    """

    data: Data
    advice: np.ndarray | None = None

    @cached_property
    def task(self) -> Task:
        return tasks.of(self.data)

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        if self.advice is not None:
            return _distilled
        return F.cross_entropy if self.data.task == "classification" else _squared

    @property
    def target(self) -> Target | None:
        if self.data.task != "regression":
            return None
        return Target(self.data.target_offset, self.data.target_step)

    @property
    def clip(self) -> float:
        """Squared errors have no bound: one outlier of a sensor must not throw the network off (docs/notes.md)."""
        return math.inf if self.data.task == "classification" else SQUARED_CLIP

    def wanted(self) -> np.ndarray:
        """What the outputs for the training part shall be: classes, or float32 values [n, outputs].

        With a teacher the class and its outputs side by side, float32 [n, 1 + classes].
        """
        x, y = self.data.train
        if self.advice is not None:
            return np.column_stack([y, self.advice]).astype(np.float32)
        if self.data.task == "anomaly":
            return self.data.input.apply(x).reshape(len(x), -1)
        if self.data.task == "regression":
            offset, step = np.array([self.data.target_offset, self.data.target_step])
            return ((y.reshape(len(y), -1) - offset) * step).astype(np.float32)
        return y

    def watch(self, net: MaskedNet) -> str:
        """The headline on some of the select part."""
        every = -(-len(self.data.select[1]) // WATCHED)  # not the first ones: data may lie sorted by class
        raw, y = (values[::every] for values in self.data.select)
        if self.data.task == "anomaly" and len(np.unique(y)) < 2:
            return ""
        return f"{self.task.headline_word} {self.task.headline(self.score(net, (raw, y))):.3f}"

    def score(self, net: MaskedNet, part: Part) -> Scored:
        raw, y = part
        (name,) = net.wide.inputs
        made = outputs(net, raw, {name: self.data.input})[0]
        return Scored(self.task.score(made, self.data.input.apply(raw), y), y)


def _distilled(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531, equation 1 and section 2."""
    classes, advice = wanted[:, 0].long(), F.log_softmax(wanted[:, 1:] / TEMPERATURE, 1)
    apart = F.kl_div(F.log_softmax(outputs / TEMPERATURE, 1), advice, reduction="batchmean", log_target=True)
    return (1 - ADVICE) * F.cross_entropy(outputs, classes) + ADVICE * TEMPERATURE**2 * apart


def _squared(outputs: Tensor, wanted: Tensor) -> Tensor:
    return F.mse_loss(outputs.flatten(1), wanted)
