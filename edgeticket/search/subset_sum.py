"""Random fixed-size subset sums, searched as such: one score per connection, whose kept edges add up to an integer weight.

The paper that promises tickets (Natale et al., NeurIPS 2024, arXiv 2410.14754) approximates a weight by a subset, of a fixed
size, of several random values. Here a filter has n random signs per connection and keeps exactly k edges of all its
connections together. A connection's score is the weight it would like to have, up to the filter's scale, and the k edges are
apportioned to connections in proportion to |score| by the method of Webster and Sainte-Lague (greatest score / (j - 1/2) for
the j-th edge; M. Balinski, H. Young, "Fair Representation", 1982): the integers with sum of magnitudes k that are nearest to
being proportional to the scores. An edge serves only the side that its random sign is on, so a connection whose n signs are
all positive cannot become negative, which happens to one in 2^(n-1).

The gradient of a weight goes straight to its connection's score. With one edge this is edge-popup on raw scores, with a score's
sign turned by its random sign; with learned signs, every edge serves either side (signed supermasks, Koster et al., ICLR 2022).
No paper has it in this form; its nearest relative is the multicoated supermask (Okoshi et al., ICML 2022), whose thresholds are
fixed beforehand.
"""

from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top

DECAY, WEIGHT_DECAY = 5e-4, 1e-4
SIGNED_DECAY = 2e-3  # a weight changes its sign when its score crosses 0: decay keeps that within reach


class SubsetSum(MaskedWeight):
    """One score per connection, [filters, 1, inputs, *kernel]."""

    near: Tensor
    far: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__(signs, density, signed, generator)
        earlier = [
            (np.ones(signs[:, edge].shape) * edge) if signed else (signs[:, :edge] == signs[:, edge : edge + 1]).sum(1)
            for edge in range(signs.shape[1])
        ]
        divisor = torch.from_numpy(
            2 * np.stack(earlier, 1) + 1
        ).float()  # 2j - 1 for the j-th edge of a side: Webster's
        self.register_buffer("near", self.signs / divisor)
        self.register_buffer("far", self.signs * divisor)

    def first_scores(self, generator: torch.Generator) -> Tensor:
        shape = (len(self.signs), 1, *self.signs.shape[2:])
        return (torch.rand(shape, generator=generator) * 2 - 1) * (0.1 / sqrt(prod(shape[1:])))

    def priority(self) -> Tensor:
        """What edges compete with, like `signs`: those of a connection's wrong side, below 0, stand behind all others."""
        score = self.score.detach()
        if self.signed:
            return score.abs() * self.near.abs()
        return torch.minimum(score * self.near, score * self.far)

    def integers(self) -> Tensor:
        return _Apportioned.apply(self.score, self)

    def kept(self) -> Tensor:
        """1 kept, -1 kept with the opposite sign, 0 not kept; like `signs`."""
        priority = self.priority()
        best = priority.flatten(1).topk(self.k, dim=1, sorted=False).indices
        return self.with_flips(torch.zeros_like(priority.flatten(1)).scatter_(1, best, 1.0).view_as(priority))

    def with_flips(self, mask: Tensor) -> Tensor:
        return mask * (self.score.detach().sign() * self.signs) if self.signed else mask

    def chosen(self) -> np.ndarray:
        mask = torch.from_numpy(keep_top(self.priority().cpu().numpy(), self.k))
        return self.with_flips(mask.to(self.score)).to(torch.int8).cpu().numpy()


class _Apportioned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, score: Tensor, weight: SubsetSum) -> Tensor:
        return (weight.kept() * weight.signs).sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].unsqueeze(1), None


WEIGHT = SubsetSum


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place."""
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": SIGNED_DECAY if settings.signs == "learned" else DECAY, "weight": WEIGHT_DECAY}
    train(job, checkpoint)
