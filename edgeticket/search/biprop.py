"""Biprop (Diffenderfer & Kailkhura, ICLR 2021, arXiv 2103.09377): a binary network under a mask, of a random float network.

The random weights W are floats; the forward pass sees their signs alone, under a mask of the largest |score| of a layer, and
the gradient of a score is that of its binary weight times W: edges with a large |W| learn faster. Differs from the paper: |W|
is drawn beside the seed's signs and serves the search alone, as only signs ship; the gain of a layer, mean |W| of what is kept,
is left out, as the norm behind every masked layer cancels it; every filter keeps an edge; learned scale and bias per channel
(the paper's +BN variant); SGD, which the paper has for ResNet-18, for all networks. The paper's global mask is not built.
"""

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top

STEP_SHARE, DECAY = 0.4, 1e-4  # of the common score step


class Biprop(MaskedWeight):
    """A score per edge, like `signs`, and the magnitude of its random weight, 1 on average."""

    magnitude: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__(signs, density, signed, generator)
        normal = torch.randn(self.signs.shape, generator=generator).abs()
        self.register_buffer("magnitude", normal / normal.mean())

    def priority(self) -> Tensor:
        """|score|, but the best edge of every filter stands before all others; like `signs`."""
        size = self.score.detach().abs().flatten(1)
        return size.scatter(1, size.argmax(1, keepdim=True), torch.inf).view_as(self.score)

    def integers(self) -> Tensor:
        flat = self.priority().flatten()
        best = flat.topk(self.k * len(self.signs), sorted=False).indices
        mask = torch.zeros_like(flat).scatter_(0, best, 1.0).view_as(self.score)
        size = self.score.abs() * self.magnitude
        return (self.signs * (mask + (size - size.detach()))).sum(1)

    def chosen(self) -> np.ndarray:
        layer = self.priority().cpu().numpy()[None]
        return keep_top(layer, self.k * len(self.signs))[0].astype(np.int8)


WEIGHT = Biprop


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place. Raises UsageError where signs are to be learned."""
    if settings.signs == "learned":
        raise UsageError("biprop keeps the seed's signs: leave --signs out, or take --method signed_supermask")
    job.steps_by_kind = {"score": STEP_SHARE * settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": DECAY, "weight": DECAY}
    train(job, checkpoint)
