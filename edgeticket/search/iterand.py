"""IteRand (Chijiwa et al., NeurIPS 2021, arXiv 2106.09269): edge-popup whose pruned weights are drawn anew now and then.

Every few steps each edge that is not kept just now gets, with a small probability, a new random sign; scores stay. A search so
meets more random values than the network has. Differs from the paper: new signs come from (seed, step, layer), so that a search
resumes; there are a hundred draws a search, however long it is (300 steps apart, they were 117 there on CIFAR-10), of one edge
in a hundred instead of ten (docs/methods.md); k per filter instead of per layer; learned scale and bias per channel. What ships
is not the history of draws but every kept edge's flip against the seed's sign: purity P3, though no sign is learned.
"""

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.masked import MaskedNet
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.search.edge_popup import KeepTop
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top

DRAWS, SHARE = 100, 0.01  # times per search, and of the edges not kept, each time
DECAY = 1e-4


class IteRand(MaskedWeight):
    """A score per edge, like `signs`, and whether its sign is now the seed's (1) or the other (-1)."""

    turned: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__(signs, density, signed, generator)
        self.register_buffer("turned", torch.ones_like(self.signs))

    def integers(self) -> Tensor:
        return (self.signs * self.turned * KeepTop.apply(self.score, self.k, False)).sum(1)

    def kept(self) -> np.ndarray:
        """bool like `signs`."""
        return keep_top(self.score.detach().cpu().numpy(), self.k)

    def chosen(self) -> np.ndarray:
        return (self.kept() * self.turned.cpu().numpy()).astype(np.int8)

    def draw(self, source: np.random.Generator) -> None:
        """New signs for some of the edges that are not kept."""
        chance, sign = source.random(self.signs.shape), source.choice([-1.0, 1.0], self.signs.shape)
        again = torch.from_numpy(~self.kept() & (chance < SHARE)).to(self.signs.device)
        self.turned = torch.where(again, torch.from_numpy(sign).to(self.signs), self.turned)


WEIGHT = IteRand


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place. Raises UsageError unless signs may differ from the seed's."""
    if settings.signs != "learned":
        raise UsageError("iterand draws signs anew, so they differ from the seed's: add --signs learned (purity P3)")
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": DECAY, "weight": DECAY}
    every = max(1, job.total // DRAWS)

    def after_step(net: MaskedNet, step: int) -> None:
        if step % every == 0 and step < job.total:
            for index, weight in enumerate(module for module in net.modules() if isinstance(module, IteRand)):
                weight.draw(np.random.default_rng([job.seed, step, index]))

    job.after_step = after_step
    train(job, checkpoint)
