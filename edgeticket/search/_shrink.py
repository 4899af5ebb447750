"""When and which channels leave a network for good while it is searched (stand-in: the helper for budgets replaces this)."""

from collections.abc import Callable

import numpy as np

from edgeticket.masked import MaskedNet
from edgeticket.plan import Kept
from edgeticket.search._training import Job
from edgeticket.settings import Settings, rounded

SHRINK_AT = (0.05, 0.0625, 0.075)  # of the steps; the width falls by the same factor each time


def schedule(job: Job, settings: Settings) -> dict[int, Callable[[MaskedNet, np.ndarray], Kept]]:
    if settings.keep == 1:
        return {}
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
