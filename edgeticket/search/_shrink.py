"""When and which channels leave a network for good while it is searched: down to given widths, or until a budget is met.

Under a budget, channels leave where they are worth least for what they cost. The worth of a channel is its accumulated gate
gradient (Molchanov et al., CVPR 2019, arXiv 1906.10771: a first-order estimate of what the loss would rise by); its cost is what
a budget that is still exceeded would save. One step after the other takes `unit` channels of the group with the smallest worth
per saving (the greedy rule for knapsacks; for networks under a measured latency: Yang et al., NetAdapt, ECCV 2018, arXiv
1804.03230, and Shen et al., NeurIPS 2022, arXiv 2110.10811). Differs from these: one pass inside the search, no fine-tuning
between steps, coupled groups as a whole, several costs at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

import numpy as np

from edgeticket.budget import Verdict
from edgeticket.errors import BudgetError
from edgeticket.masked import MaskedNet
from edgeticket.plan import Kept, Plan
from edgeticket.search._training import Job
from edgeticket.settings import Settings, rounded

SHRINK_AT = (0.05, 0.0625, 0.075)  # of the steps; the width, or cost, falls by the same factor each time
FLOOR = 8  # channels that a budget leaves at least

Judge = Callable[[Plan], tuple[Verdict, ...]]
Prepare = Callable[[Sequence[Plan]], None]
Widths = Mapping[str, int]  # channel ids that stay, of each group that may lose some
Narrow = Callable[[MaskedNet, np.ndarray], Kept]


def schedule(
    job: Job, settings: Settings, goal: Widths | Judge | None = None, prepare: Prepare | None = None
) -> dict[int, Narrow]:
    """What leaves before which step; nothing where the goal is reached. `goal`: widths, a budget, or what `keep` says.

    `prepare` is given the plans that are judged next, so that what they cost can be measured at once. Raises BudgetError where a
    budget cannot be met.
    """
    wide, units = job.net.wide, settings.units(job.net.wide)
    if callable(goal):
        floors = lowest(settings, wide)
        _require_possible(wide, goal, floors)
        if not _over(goal(wide)):
            return {}
        return _at(job, lambda share: _until(goal, share, units, floors, prepare))
    if goal is None and settings.keep == 1:
        return {}
    final = settings.targets(wide) if goal is None else goal
    if all(final[name] == len(wide.groups[name].ids) for name in final):
        return {}
    return _at(job, lambda share: lambda net, importance: _keep_best(net, importance, final, share, units))


def lowest(settings: Settings, plan: Plan) -> dict[str, int]:
    """Ids of each group that a budget leaves at least: 8 channels or the next multiple of `align`."""
    align = -(-FLOOR // settings.align) * settings.align
    units = replace(settings, align=align).units(plan)
    return {name: min(unit, len(plan.groups[name].ids)) for name, unit in units.items()}


def widths_for(plan: Plan, judge: Judge, units: Widths, floors: Widths) -> dict[str, int]:
    """The widths of the largest uniform `keep` that meets a budget: what its search must beat, and first decides upon.

    Raises BudgetError where the floors exceed it.
    """
    sizes = {name: len(plan.groups[name].ids) for name in units}
    steps = {
        Fraction(2 * n - 1, 2) * units[name] / size
        for name, size in sizes.items()
        for n in range(1, size // units[name] + 2)
    }
    keeps = [Fraction(0), *sorted(keep for keep in steps if keep < 1), Fraction(1)]

    def widths(keep: Fraction) -> dict[str, int]:
        wanted = {name: floor(keep * size / units[name] + Fraction(1, 2)) * units[name] for name, size in sizes.items()}
        return dict(sizes) if keep == 1 else {n: min(sizes[n], max(floors[n], wanted[n])) for n in sizes}

    _require_possible(plan, judge, floors)
    low, high = 0, len(keeps)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _over(judge(_first(plan, widths(keeps[middle])))) else (middle, high)
    return widths(keeps[low])


def _first(plan: Plan, widths: Widths) -> Plan:
    """The plan of so many ids of each group, the first ones."""
    return plan.narrow(plan.fill({name: np.arange(len(plan.groups[name].ids)) < n for name, n in widths.items()}))


def _require_possible(plan: Plan, judge: Judge, floors: Widths) -> None:
    verdicts = judge(_first(plan, floors))
    if _over(verdicts):
        raise _impossible(verdicts)


def _over(verdicts: Iterable[Verdict]) -> bool:
    return any(verdict.over for verdict in verdicts)


def _impossible(verdicts: Iterable[Verdict]) -> BudgetError:
    told = "; ".join(verdict.text() for verdict in verdicts if verdict.over)
    return BudgetError(
        f"the budget cannot be met with the fewest channels that may stay, {told}: raise it, or take a network with fewer or "
        "narrower layers that cannot shrink, a lower --density, fewer --edges, or a smaller --align"
    )


def _at(job: Job, narrower: Callable[[float], Narrow]) -> dict[int, Narrow]:
    count, last = len(SHRINK_AT), job.total - 1
    return {min(max(1, round(at * job.total)), last): narrower((i + 1) / count) for i, at in enumerate(SHRINK_AT)}


def _keep_best(net: MaskedNet, importance: np.ndarray, final: Widths, share: float, units: Widths) -> Kept:
    """Each group's most important channels, the width `share` of the way (on a log scale) from the wide to the final one."""
    widths = {}
    for name, old in net.kept.items():
        size, target, unit = len(old), final[name], units[name]
        width = target if share == 1 else max(target, rounded(size * (target / size) ** share / unit) * unit)
        widths[name] = min(width, int(old.sum()))
    return _best(net, importance, widths)


def _best(net: MaskedNet, importance: np.ndarray, widths: Widths) -> Kept:
    """The most important of each group's channels that are left; equals by their index."""
    kept = {}
    for name, old in net.kept.items():
        score = np.where(old, importance[net.wide.groups[name].ids], -1.0)
        kept[name] = np.zeros(len(old), bool)
        kept[name][np.argsort(-score, kind="stable")[: widths[name]]] = True
    return net.wide.fill(kept, net.kept)


# under a budget


def _until(judge: Judge, share: float, units: Widths, floors: Widths, prepare: Prepare | None) -> Narrow:
    """Narrow until each cost is `share` of the way (on a log scale) from the wide network's to the budget.

    Nothing leaves that would not, by today's importance, on the whole of the way: a later step could not take it back.
    """

    def narrow(net: MaskedNet, importance: np.ndarray) -> Kept:
        wide = [max(1.0, verdict.ratio or 0.0) for verdict in judge(net.wide)]
        whole = _Allocation(net, importance, judge, [1.0] * len(wide), units, floors, prepare)
        goals = [ratio ** (1 - share) for ratio in wide]
        widths = replace(whole, goals=goals, floors=whole.widths()).widths()
        return _best(net, importance, widths)

    return narrow


@dataclass
class _Allocation:
    """One narrowing. All of it follows from the net's channels and their importance, so a resumed search repeats it."""

    net: MaskedNet
    importance: np.ndarray
    judge: Judge
    goals: Sequence[float]  # what each term's ratio shall be
    units: Widths
    floors: Widths
    prepare: Prepare | None
    known: dict[tuple[int, ...], list[float]] = field(default_factory=dict)  # ratios by widths

    def widths(self) -> Widths:
        before: Widths = {name: int(kept.sum()) for name, kept in self.net.kept.items()}
        widths = before
        while self.excess(widths) > 0:
            widths = self.step(widths)
        while wider := self.more(widths, before):
            widths = wider
        return widths

    def step(self, widths: Widths) -> Widths:
        """One unit less of the group whose loss per saving is the smallest, among those that save anything."""
        narrower = [self.less(widths, name, 1) for name in widths if widths[name] > self.floors[name]]
        self.measure(narrower)
        now = self.excess(widths)
        saving = [(now - self.excess(each), each) for each in narrower]
        able = [(self.lost(widths, each) / saved, -saved, i) for i, (saved, each) in enumerate(saving) if saved > 0]
        return narrower[min(able)[2]] if able else self.together(widths)

    def together(self, widths: Widths) -> Widths:
        """No group saves by itself (two largest tensors of one size): the fewest that do so together, the least important."""
        now, units = self.excess(widths), 1
        groups = [name for name in widths if widths[name] > self.floors[name]]
        made = widths
        while not self.excess(made) < now:
            if all(made[name] == self.floors[name] for name in groups):
                raise _impossible(self.judge(self.net.wide.narrow(_best(self.net, self.importance, made))))
            made = {name: self.less(widths, name, units)[name] for name in widths}
            units *= 2
        for name in sorted(groups, key=lambda name: -self.lost(widths, {**widths, name: made[name]})):
            without = {**made, name: widths[name]}
            if self.excess(without) < now:
                made = without
        return made

    def more(self, widths: Widths, before: Widths) -> Widths | None:
        """A unit given back where it still fits (the last ones taken were large), the most important; None where none does."""
        units = self.units
        wider = [
            {**widths, name: min(before[name], (width // units[name] + 1) * units[name])}
            for name, width in widths.items()
            if width < before[name]
        ]
        self.measure(wider)
        fits = [each for each in wider if self.excess(each) == 0]
        return max(fits, key=lambda each: self.lost(each, widths), default=None)

    def less(self, widths: Widths, name: str, units: int) -> dict[str, int]:
        """`units` multiples of the group's unit below its width, which becomes a multiple of it."""
        unit, width = self.units[name], widths[name]
        return {**widths, name: min(width, max(self.floors[name], (-(-width // unit) - units) * unit))}

    def lost(self, widths: Widths, narrower: Widths) -> float:
        """Importance of the channels that are in `widths` and not in `narrower`."""
        total = 0.0
        for name, width in widths.items():
            if narrower[name] < width:
                old = np.sort(self.importance[self.net.wide.groups[name].ids][self.net.kept[name]])[::-1]
                total += float(old[narrower[name] : width].sum())
        return total

    def excess(self, widths: Widths) -> float:
        """By how much the goals are exceeded, added up; what is met counts nothing."""
        key = tuple(widths.values())
        if key not in self.known:
            self.known[key] = [verdict.ratio or 0.0 for verdict in self.judge(self.plan(widths))]
        return sum(max(0.0, ratio / goal - 1) for ratio, goal in zip(self.known[key], self.goals, strict=True))

    def plan(self, widths: Widths) -> Plan:
        return self.net.wide.narrow(_best(self.net, self.importance, widths))

    def measure(self, candidates: Iterable[Widths]) -> None:
        if self.prepare:
            self.prepare([self.plan(each) for each in candidates if tuple(each.values()) not in self.known])
