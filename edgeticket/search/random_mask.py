"""Control: a random mask that never changes. Scale, bias and learned layers are taught, and what that reaches is no search's merit.

Frankle, Schwab and Morcos (ICLR 2021, arXiv 2003.00152) trained batch norm alone on random features: the same idea without a mask.
"""

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top


class RandomMask(MaskedWeight):
    """Scores are drawn once; the k largest of every filter stay."""

    def integers(self) -> Tensor:
        return (self.signs * torch.from_numpy(self.chosen()).to(self.signs)).sum(1)

    def chosen(self) -> np.ndarray:
        return keep_top(self.score.detach().cpu().numpy(), self.k).astype(np.int8)


WEIGHT = RandomMask


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train everything but the scores. Raises UsageError where signs are to be learned."""
    if settings.signs == "learned":
        raise UsageError("random_mask learns nothing of a mask, and no signs: leave --signs out")
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}  # scores get no gradient
    job.weight_decay = {"score": 0.0, "weight": 1e-4}
    train(job, checkpoint)
