"""Signed supermask (Koster et al., ICLR 2022, arXiv 2201.13361): keep, hide or invert each random weight.

The ternary mask is the sign of a score where the score's magnitude exceeds a fixed threshold, 0 elsewhere, with straight-through
gradients. How many weights stay follows from step size and decay there; here costs are compared at equal density, so a layer's
threshold, the one that leaves the asked density at first, is fixed for the first half of the search alone: from then on the
asked number of the layer's largest scores is kept. Every filter keeps one. Differs further: the network's own activation with a
norm, instead of ELU with weights scaled for it (ELUS); cosine steps; learned scale and bias per channel. What ships is a flip
per kept edge, against the seed's sign: purity P3.
"""

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.masked import MaskedNet
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top

FIXED = 0.5  # share of the steps with a fixed threshold
DECAY, WEIGHT_DECAY = 2e-3, 1e-4


class SignedSupermask(MaskedWeight):
    """A score per edge, like `signs`; `threshold`, broadcast to it, is of its magnitude: 0 stands for the k largest."""

    threshold: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__(signs, density, signed, generator)
        last = self.priority().flatten().topk(self.k * len(signs)).values[-1]
        self.register_buffer("threshold", last.expand_as(self.signs[:, :1]).clone())

    def first_scores(self, generator: torch.Generator) -> Tensor:
        return super().first_scores(generator) * (2 * torch.randint(2, self.signs.shape, generator=generator) - 1)

    def priority(self) -> Tensor:
        """|score|, but the best edge of every filter stands before all others; like `signs`."""
        size = self.score.detach().abs().flatten(1)
        return size.scatter(1, size.argmax(1, keepdim=True), torch.inf).view_as(self.score)

    def mask(self) -> Tensor:
        priority = self.priority()
        best = priority.flatten().topk(self.k * len(self.signs), sorted=False).indices
        exact = torch.zeros_like(priority.flatten()).scatter_(0, best, 1.0).view_as(priority)
        return torch.where(self.threshold > 0, (priority >= self.threshold).to(exact), exact)

    def integers(self) -> Tensor:
        score = self.score.detach()
        return (self.signs * (self.mask() * torch.where(score < 0, -1.0, 1.0) + (self.score - score))).sum(1)

    def chosen(self) -> np.ndarray:
        mask = keep_top(self.priority().cpu().numpy()[None], self.k * len(self.signs))[0]
        return (mask * np.where(self.score.detach().cpu().numpy() < 0, -1, 1)).astype(np.int8)


WEIGHT = SignedSupermask


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place. Raises UsageError unless signs may differ from the seed's."""
    if settings.signs != "learned":
        raise UsageError(
            "signed_supermask inverts weights, so signs differ from the seed's: add --signs learned (purity P3)"
        )
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": DECAY, "weight": WEIGHT_DECAY}

    def after_step(net: MaskedNet, step: int) -> None:
        if step >= FIXED * job.total:
            for weight in (module for module in net.modules() if isinstance(module, SignedSupermask)):
                weight.threshold.zero_()

    job.after_step = after_step
    train(job, checkpoint)
