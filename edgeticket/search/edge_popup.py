"""Edge-popup (Ramanujan et al., CVPR 2020, arXiv 1911.13299): the edges with the highest scores stay, straight-through.

The forward pass keeps the k highest scores of every filter, the backward pass gives every score the gradient that its weight
would get. Differs from the paper: k per filter instead of per layer (the fixed-size subset sums of Natale et al., arXiv
2410.14754), raw scores instead of their magnitude, learned scale and bias per channel, and a larger step (docs/notes.md).
With learned signs, |score| chooses and its sign flips the seed's (signed supermasks, Koster et al., ICLR 2022).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top

DECAY = 1e-4
SIGNED_DECAY = 2e-3  # a learned sign changes when its score crosses 0: decay keeps that within reach


class EdgePopup(MaskedWeight):
    """A score per edge, like `signs`."""

    def integers(self) -> Tensor:
        return (self.signs * KeepTop.apply(self.score, self.k, self.signed)).sum(1)

    def chosen(self) -> np.ndarray:
        score = self.score.detach().cpu().numpy()
        mask = keep_top(np.abs(score) if self.signed else score, self.k)
        return (mask * np.where(self.signed & (score < 0), -1, 1)).astype(np.int8)


class KeepTop(torch.autograd.Function):
    """1 (times the score's sign, if signed) for the k largest of each row, 0 elsewhere; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, k: int, signed: bool) -> Tensor:
        flat = score.flatten(1)
        size = flat.abs() if signed else flat
        kept = torch.zeros_like(flat).scatter_(1, size.topk(k, dim=1, sorted=False).indices, 1.0)
        return (kept * flat.sign() if signed else kept).view_as(score)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


class StraightThrough(torch.autograd.Function):
    """A mask that was made of scores elsewhere; the gradient passes straight through to these."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, mask: Tensor) -> Tensor:
        return mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


WEIGHT = EdgePopup


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place."""
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": SIGNED_DECAY if settings.signs == "learned" else DECAY, "weight": DECAY}
    train(job, checkpoint)
