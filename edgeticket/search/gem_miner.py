"""Gem-Miner (Sreenivasan et al., NeurIPS 2022, arXiv 2202.12002), without the training of weights that follows it there.

A score in [0, 1] is rounded: above a half its edge is kept. Now and then the lowest scores of all layers together are dropped
for good, a constant share of what is left each time, until the asked density is reached: how many edges a layer, and a filter,
keeps is found by the search. Differs from the paper: as many edges as other methods keep of the same `--density`, counted over
all masked layers; from the last drop on, all edges left are kept whatever their score, so the density is exact, and every
filter keeps one; 29 drops a search, as in the paper's 150 epochs, however long it is; among equal scores (many are 0 or 1)
chance decides; learned scale and bias per channel.
"""

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.masked import MaskedNet
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight

DROPS = 29
STEP_SHARE = 8  # times the common score step: scores run from 0 to 1 here, not from 0 to a hundredth
PENALTY = 1e-5  # times the sum of squared scores
DECAY = 1e-4


class GemMiner(MaskedWeight):
    """A score from 0 to 1 per edge, like `signs`, and its state: -1 dropped, 0 kept while above a half, 1 kept for good."""

    state: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__(signs, density, signed, generator)
        self.register_buffer("state", torch.zeros_like(self.signs))

    def first_scores(self, generator: torch.Generator) -> Tensor:
        return torch.rand(self.signs.shape, generator=generator)

    def mask(self) -> Tensor:
        return (self.score.detach() + self.state > 0.5).to(self.signs)

    def integers(self) -> Tensor:
        straight = self.mask() + (self.score - self.score.detach()) * (self.state >= 0)
        return (self.signs * straight).sum(1)

    def chosen(self) -> np.ndarray:
        return self.mask().to(torch.int8).cpu().numpy()


def drop(weights: list[GemMiner], progress: float, source: np.random.Generator) -> None:
    """Drop the lowest scores of all `weights`, until density^progress of them are left; progress 1 is the last time."""
    ranks = [(weight.score.detach() + weight.state).cpu().numpy() for weight in weights]
    if progress == 1:
        for rank in ranks:
            rows = rank.reshape(len(rank), -1)
            rows[np.arange(len(rows)), rows.argmax(1)] = np.inf  # every filter's best
    rank = np.concatenate([rank.ravel() for rank in ranks])
    final = sum(weight.k * len(weight.signs) for weight in weights)
    left = round(len(rank) * (final / len(rank)) ** progress)
    mixed = source.permutation(len(rank))
    state = np.full(len(rank), -1, np.float32)
    state[mixed[np.argsort(-rank[mixed], kind="stable")[:left]]] = progress == 1
    ends = np.cumsum([weight.state.numel() for weight in weights])
    for weight, part in zip(weights, np.split(state, ends[:-1]), strict=True):
        weight.state.copy_(torch.from_numpy(part).view_as(weight.state))


WEIGHT = GemMiner


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place. Raises UsageError where signs are to be learned."""
    if settings.signs == "learned":
        raise UsageError("gem_miner keeps the seed's signs: leave --signs out, or take --method signed_supermask")
    job.steps_by_kind = {"score": STEP_SHARE * settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": 2 * PENALTY, "weight": DECAY}

    def due(step: int) -> int:
        return min(DROPS, step * (DROPS + 1) // job.total)

    def after_step(net: MaskedNet, step: int) -> None:
        weights = [module for module in net.modules() if isinstance(module, GemMiner)]
        for weight in weights:
            weight.score.data.clamp_(0, 1)
        if weights and due(step) > due(step - 1):
            drop(weights, due(step) / DROPS, np.random.default_rng([job.seed, step]))

    job.after_step = after_step
    train(job, checkpoint)
