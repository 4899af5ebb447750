"""Edge-popup (Ramanujan et al., CVPR 2020, arXiv 1911.13299) with exactly k weights per filter and physical compaction.

Differs from the paper: k per filter instead of per layer (the fixed-size subset sums of Natale et al., arXiv 2410.14754),
raw scores instead of their magnitude, learned scale and bias per channel, a far larger step (0.1 is too small for nets of
this size), and channels that leave for good after about 5 % of the steps, ranked by the gradient of a gate on each.
"""

from collections.abc import Callable

import numpy as np

from edgeticket.masked import MaskedNet
from edgeticket.plan import Kept
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.settings import Settings, rounded

SHRINK_AT = (0.05, 0.0625, 0.075)  # of the steps; the width falls by the same factor each time
DECAY = 1e-4
SIGNED_DECAY = 2e-3  # a learned sign changes when its score crosses 0: decay keeps that within reach


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place, narrowing it to `settings.keep` on the way."""
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": SIGNED_DECAY if settings.signs == "learned" else DECAY, "weight": DECAY}
    if settings.keep < 1:
        job.shrink_at = _schedule(job, settings)
    train(job, checkpoint)


def _schedule(job: Job, settings: Settings) -> dict[int, Callable[[MaskedNet, np.ndarray], Kept]]:
    final, units = settings.targets(job.net.wide), settings.units(job.net.wide)

    def narrower(share: float) -> Callable[[MaskedNet, np.ndarray], Kept]:
        return lambda net, importance: _keep_best(net, importance, final, share, units)

    count, last = len(SHRINK_AT), job.total - 1
    return {min(max(1, round(at * job.total)), last): narrower((i + 1) / count) for i, at in enumerate(SHRINK_AT)}


def _keep_best(
    net: MaskedNet, importance: np.ndarray, final: dict[str, int], share: float, units: dict[str, int]
) -> Kept:
    """Each group's most important channels, the width `share` of the way (on a log scale) from the wide to the final one."""
    kept = {}
    for name, old in net.kept.items():
        size, target, unit = len(old), final[name], units[name]
        width = target if share == 1 else max(target, rounded(size * (target / size) ** share / unit) * unit)
        score = np.where(old, importance[net.wide.groups[name].ids], -1.0)
        kept[name] = np.zeros(size, bool)
        kept[name][np.argsort(-score, kind="stable")[: min(width, int(old.sum()))]] = True
    return net.wide.fill(kept, net.kept)
