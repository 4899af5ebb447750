"""A budget, made into what its search needs: what narrower networks would cost, and how wide uniform scaling would leave them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from edgeticket.budget import CORES, Budget, Verdict
from edgeticket.cost import Estimator, PacketEstimate
from edgeticket.errors import BudgetError
from edgeticket.plan import Plan
from edgeticket.plugins import load
from edgeticket.search._shrink import lowest, widths_for
from edgeticket.search.subset_sum import SubsetSum
from edgeticket.settings import Settings
from edgeticket.stand_in import Chosen, Outlines
from edgeticket.ticket import Input

# Estimates are off by a few percent (docs/latency.md, docs/cores.md): channels leave until they are this much below the limit.
AIM = {"latency_ms": 0.95, "packet_bytes": 0.99, "flash_bytes": 0.98, "ram_bytes": 0.99, "instructions": 0.95}
ROUNDS = 4  # widths decide which layers are learned and how dense they are, and these decide widths


class Latency(Protocol):
    """What a network would take on this CPU (edgeticket/latency.py)."""

    def fill(self, plans: Sequence[Plan]) -> Any:
        """Measure what `predict` will need of these plans."""

    def predict(self, plan: Plan) -> float:
        """Milliseconds of one inference."""


@dataclass(frozen=True)
class Spending:
    """`judge`: what a plan would cost beside the budget. `uniform`: the plan scaled alike everywhere until it fits.

    Densities, edges and learned layers are decided on the widths of `decided`: `uniform`, or nearly so where each decides the
    other.
    """

    judge: Callable[[Plan], tuple[Verdict, ...]]
    prepare: Callable[[Sequence[Plan]], None] | None
    uniform: Plan
    decided: Plan


def spending(
    plan: Plan, settings: Settings, *, budget: Budget, inputs: Mapping[str, Input], latency: Latency | None
) -> Spending:
    """Raises BudgetError where the narrowest form of `plan` exceeds the budget."""
    aim = Budget(tuple(replace(term, limit=term.limit * AIM.get(term.resource, 1)) for term in budget.terms))
    uniform = plan
    for _ in range(ROUNDS):
        decided, chosen = uniform, _chosen(settings, uniform, inputs)
        outlines = Outlines(plan, chosen) if any(target in CORES for target in budget.targets) else None
        packet = PacketEstimate(plan, chosen) if budget.has("packet_bytes") else None
        estimated = (chosen, outlines, packet, latency.predict if latency else None)
        judge, widths = _fit(plan, settings, (aim, budget), estimated)
        first = {name: np.arange(len(plan.groups[name].ids)) < width for name, width in widths.items()}
        uniform = plan.narrow(plan.fill(first))
        if _chosen(settings, uniform, inputs) == chosen:
            break
    return Spending(judge, latency.fill if latency else None, uniform, decided)


def _fit(
    plan: Plan, settings: Settings, budgets: Sequence[Budget], estimated: tuple[Any, ...]
) -> tuple[Callable[[Plan], tuple[Verdict, ...]], dict[str, int]]:
    """By the first of the budgets that can be met. Raises BudgetError in the words of the last."""
    for budget in budgets[:-1]:
        judge = Estimator(budget, *estimated).judge
        with suppress(BudgetError):
            return judge, widths_for(plan, judge, settings.units(plan), lowest(settings, plan))
    judge = Estimator(budgets[-1], *estimated).judge
    return judge, widths_for(plan, judge, settings.units(plan), lowest(settings, plan))


def _chosen(settings: Settings, plan: Plan, inputs: Mapping[str, Input]) -> Chosen:
    in_order = issubclass(load("search", settings.method).WEIGHT, SubsetSum)  # of equal edges the first stay
    return Chosen.by(settings, plan, inputs, in_order)
