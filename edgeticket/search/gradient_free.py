"""Baseline: the mask is searched by asking for the loss alone; scale, bias and learned layers are taught as everywhere.

Simultaneous perturbation (SPSA: Spall, IEEE Trans. Automatic Control 37, 1992; the antithetic pair of evolution strategies,
Salimans et al., arXiv 1703.03864): all scores move along one random direction, there and back, and the difference of the two
losses on the step's batch, times that direction, stands for their gradient. It costs two forward passes a step more. The masks
are those of subset_sum. Genetic search over mask bits (arXiv 2411.04658) is the other known way; it was not built.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgeticket.masked import MaskedNet
from edgeticket.search import subset_sum
from edgeticket.search._training import Checkpoint, Job, backpropagate, train
from edgeticket.settings import Settings

WEIGHT = subset_sum.SubsetSum
REACH = 0.3  # of the scores' own root mean square
STEP_SHARE = 0.01  # of the common score step


@torch.no_grad()
def estimate(net: MaskedNet, loss: Callable[[], Tensor], seed: int, step: int) -> None:
    """Fill the scores' gradients by two losses."""
    scores = [module.score for module in net.modules() if isinstance(module, WEIGHT)]
    source = torch.Generator().manual_seed(
        int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    )
    before = [score.clone() for score in scores]
    moves = [torch.randint(0, 2, score.shape, generator=source).to(score) * 2 - 1 for score in scores]
    reach = [REACH * float(score.square().mean().sqrt()) for score in scores]
    losses = []
    for way in (1, -1):
        for score, start, move, size in zip(scores, before, moves, reach, strict=True):
            score.copy_(start + way * size * move)
        losses.append(loss())
    for score, start, move, size in zip(scores, before, moves, reach, strict=True):
        score.copy_(start)
        score.grad = move * ((losses[0] - losses[1]) / (2 * size))


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train `job.net` in place, its scores without their gradients."""
    job.steps_by_kind = {"score": STEP_SHARE * settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": 0.0, "weight": subset_sum.WEIGHT_DECAY}

    def gradients(net: MaskedNet, loss: Callable[[], Tensor], step: int) -> Tensor:
        value = backpropagate(net, loss, step)
        estimate(net, loss, settings.seed, step)
        return value

    job.gradients = gradients
    train(job, checkpoint)
