"""`--density auto` under a budget of bytes or work: edges, density and width chosen together, by short searches.

At one number of bytes a network may be wide with a bit or less for each weight, or narrow with several: the paper's trade-off
(Natale et al., NeurIPS 2024: n * H2(density) bits must carry log(1/error)). Candidates are scaled to the budget and compete by
successive halving (Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943) on the select part; what that costs is counted.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import prod

from edgeticket.budget import Budget
from edgeticket.errors import BudgetError
from edgeticket.found import Trial
from edgeticket.plan import Plan
from edgeticket.settings import SMALL_FAN_IN, Settings
from edgeticket.spending import Spending

KEPT = (
    (1, 0.1),
    (1, 0.25),
    (3, 0.25),
    (3, 0.5),
    (3, 1.0),
    (8, 1.5),
)  # edges of a connection, and how many stay on average
KEPT_SIGNED = ((1, 0.1), (1, 0.25), (1, 0.5), (1, 1.0))
RUNGS = ((0.1, 2), (0.25, 1))  # share of the steps, and how many are left after it
DEPENDS = ("packet_bytes", "kept_macs", "instructions", "flash_bytes")

Attempt = Callable[[str, Plan, Settings, float], tuple[float, float]]


def wanted(settings: Settings, budget: Budget) -> bool:
    """Whether density is left open and the budget depends on it."""
    return settings.density is None and any(budget.has(resource) for resource in DEPENDS)


def choose(
    plan: Plan,
    settings: Settings,
    spend: Callable[[Settings], Spending],
    attempt: Attempt,
    lower_is_better: bool = False,
) -> tuple[Settings, tuple[Trial, ...]]:
    """Settings with edges and density set, and what was tried. `attempt`: phase, plan, settings, share -> score, CPU seconds;
    of an error the lower score is the better one.

    Raises BudgetError where no candidate fits.
    """
    left, trials = _fitting(candidates(plan, settings), spend), []
    for share, survivors in RUNGS:
        rung = []
        for own, network in left:
            assert own.density is not None
            assert own.edges is not None
            phase = f"{own.edges} edges, density {own.density:.3g}, {share:.0%} of the steps"
            score, seconds = attempt(phase, network, own, share)
            trials.append(Trial(own.edges, own.density, share, network.widths(), score, seconds))
            rung.append((score, own, network))
        rung.sort(key=lambda row: row[0], reverse=not lower_is_better)  # of equals the first stays first
        left = [(own, network) for _, own, network in rung[:survivors]]
    return left[0][0], tuple(trials)


def effort(plan: Plan, settings: Settings) -> float:
    """Steps of all trials as a share of the search's own, where every candidate fits."""
    left, total = len(list(candidates(plan, settings))), 0.0
    for share, survivors in RUNGS:
        total, left = total + share * left, min(left, survivors)
    return total


def candidates(plan: Plan, settings: Settings) -> Iterator[Settings]:
    """Small filters keep what `auto` gives them: their bits are few and worth most."""
    small = [layer.name for layer in plan.weighted() if prod(plan.weight_shape(layer)[1:]) < SMALL_FAN_IN]
    edges, densities = settings.edge_counts(plan), settings.densities(plan)
    fixed = replace(
        settings,
        layer_edges={name: edges[name] for name in small} | dict(settings.layer_edges),
        layer_density={name: densities[name] for name in small} | dict(settings.layer_density),
    )
    pairs: tuple[tuple[int, float], ...] = KEPT_SIGNED if settings.signs == "learned" else KEPT
    if settings.edges is not None:
        pairs = tuple(dict.fromkeys((settings.edges, kept) for _, kept in pairs if kept <= settings.edges))
    for count, kept in pairs:
        yield replace(fixed, edges=count, density=kept / count)


def _fitting(settings: Iterable[Settings], spend: Callable[[Settings], Spending]) -> list[tuple[Settings, Plan]]:
    fitting, failed = [], None
    for own in settings:
        try:
            fitting.append((own, spend(own).uniform))
        except BudgetError as error:
            failed = error
    if failed and not fitting:
        raise failed
    return fitting
