"""Stochastic gates: every edge is kept with a probability that is learned by the gradient of a soft sample, not straight-through.

Bernoulli supermasks are those of Zhou et al. (NeurIPS 2019, arXiv 1905.01067); their relaxation is the binary concrete
distribution (Maddison et al., ICLR 2017, arXiv 1611.00712; gates for pruning: Louizos et al., ICLR 2018, arXiv 1712.01312).
Differs from these: a filter's logits count from its k-th largest, so that about k of its gates are open without a penalty, the
noise falls beside the logits over the search, and what ships is the k likeliest edges, not a sample.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.masked import MaskedNet
from edgeticket.search._training import Checkpoint, Job, backpropagate, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight, keep_top

SHARE = 20.0  # of the common score step: logits, unlike scores, have a scale
WARM, COLD = 1.0, 0.05  # what logits are divided by, first and last
DECAY = 1e-4


class Gates(MaskedWeight):
    """A logit per edge, like `signs`."""

    source: torch.Generator | None = None
    temperature = WARM

    def first_scores(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.signs.shape, generator=generator)

    def integers(self) -> Tensor:
        if not torch.is_grad_enabled():  # norm statistics and outputs are those of what will ship
            return (self.signs * torch.from_numpy(self.chosen()).to(self.signs)).sum(1)
        flat = self.score.flatten(1)
        logits = flat - flat.detach().kthvalue(flat.shape[1] - self.k + 1, 1, keepdim=True).values
        uniform = torch.rand(flat.shape, generator=self.source).clamp(1e-6, 1 - 1e-6).to(flat)
        gates = torch.sigmoid(logits / self.temperature + uniform.logit())
        return (self.signs * gates.view_as(self.signs)).sum(1)

    def chosen(self) -> np.ndarray:
        return keep_top(self.score.detach().cpu().numpy(), self.k).astype(np.int8)


WEIGHT = Gates


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the logits of `job.net` in place. Raises UsageError where signs are to be learned."""
    if settings.signs == "learned":
        raise UsageError("concrete_gates keeps the seed's signs: leave --signs out")
    job.steps_by_kind = {"score": SHARE * settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": DECAY, "weight": DECAY}

    def sampled(net: MaskedNet, loss: Callable[[], Tensor], step: int) -> Tensor:
        for index, weight in enumerate(module for module in net.modules() if isinstance(module, Gates)):
            seed = np.random.SeedSequence([settings.seed, step, index]).generate_state(1, np.uint64)
            weight.source = torch.Generator().manual_seed(int(seed[0] >> 1))
            weight.temperature = WARM * (COLD / WARM) ** (step / job.total)
        return backpropagate(net, loss, step)

    job.gradients = sampled
    train(job, checkpoint)
