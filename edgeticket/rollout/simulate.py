"""A fleet that is made up, and what the gates would decide of it: the same code decides as for a real one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeticket.errors import UsageError
from edgeticket.rollout.gating import Counts, feed, fresh, judge
from edgeticket.rollout.members import size
from edgeticket.rollout.plan import Plan
from edgeticket.rollout.reports import MEASURES

CHUNK = 500  # reports between two verdicts; every report is looked at


@dataclass(frozen=True)
class Fleet:
    """`rates` by gate: the true share of failures. A device has `reports` a day of `inferences` each.

    `within` and `between`: correlation of inferences of one report, and of reports of one device, 0 to 1 (beta-binomial): 0 means
    that they are independent, and 1 that they all fail or none.
    """

    devices: int
    rates: dict[str, float]
    reports: int = 20
    inferences: int = 200
    within: float = 0.0
    between: float = 0.0

    def __post_init__(self) -> None:
        if min(self.devices, self.reports, self.inferences) < 1:
            raise UsageError("a fleet has at least one device, report a day and inference a report")
        if wrong := [name for name, rate in self.rates.items() if name not in MEASURES or not 0 <= rate <= 1]:
            raise UsageError(f"rate {wrong[0]}: rates are of {', '.join(MEASURES)}, each between 0 and 1")
        if not (0 <= self.within <= 1 and 0 <= self.between <= 1):
            raise UsageError("a correlation lies between 0 and 1")


@dataclass(frozen=True)
class Outcome:
    """state: done, reverted, or running where `days` were over; got: the largest share of devices that the model answered on,
    and shadowed, that it ran aside on."""

    state: str
    stage: str
    days: float
    got: float
    shadowed: float


def simulate(plan: Plan, fleet: Fleet, seed: int, days: int = 365) -> Outcome:
    """One roll-out. Devices that the model reaches get it at once and report in turns."""
    random = np.random.default_rng(seed)
    latent = {name: _rates(random, fleet.rates[name], fleet.between, fleet.devices) for name in plan.gates}
    found = Outcome("running", plan.stages[0].name, 0.0, 0.0, 0.0)
    for index, stage in enumerate(plan.stages):
        inside = size(fleet.devices, stage.percent)
        share = inside / fleet.devices
        found = replace(found, stage=stage.name, **{"shadowed" if stage.shadow else "got": share})  # type: ignore[arg-type]
        verdict, took = _stage(
            random, plan, index, fleet, {name: each[:inside] for name, each in latent.items()}, days - found.days
        )
        found = replace(found, days=found.days + took)
        if verdict != "pass":
            return replace(found, state="reverted" if verdict == "revert" else "running")
    return replace(found, state="done")


def _stage(
    random: np.random.Generator, plan: Plan, index: int, fleet: Fleet, latent: dict[str, np.ndarray], days: float
) -> tuple[str, float]:
    """The verdict and the days that it took."""
    evidence, inside = fresh(plan, index), len(next(iter(latent.values())))
    heard, sent = 0, 0
    limit = days * fleet.reports * inside
    for devices in _turns(random, inside):
        first = sent < inside
        evidence = feed(plan, index, evidence, _counts(random, plan, fleet, latent, devices, first))
        heard += len(devices) if first else 0
        sent += len(devices)
        verdict = judge(evidence, heard / inside, plan.quorum)
        if verdict != "wait" or sent >= limit:
            break
    return verdict, sent / (fleet.reports * inside)


def _turns(random: np.random.Generator, inside: int) -> Iterator[np.ndarray]:
    """Devices that report next, for ever: each once before any reports again."""
    while True:
        order = random.permutation(inside)
        yield from (order[start : start + CHUNK] for start in range(0, inside, CHUNK))


def _counts(
    random: np.random.Generator,
    plan: Plan,
    fleet: Fleet,
    latent: dict[str, np.ndarray],
    devices: np.ndarray,
    first: bool,
) -> Counts:
    found = {}
    for name, gate in plan.gates.items():
        trials = np.full(len(devices), 1 if name == "self_test" else fleet.inferences)
        rates = _rates(random, latent[name][devices], fleet.within, len(devices))
        counts = first or gate.unit != "device"
        found[name] = random.binomial(trials, rates), trials if counts else np.zeros_like(trials)
    return found


def _rates(random: np.random.Generator, mean: float | np.ndarray, correlation: float, count: int) -> np.ndarray:
    """`count` rates of that mean, whose trials correlate so: beta-distributed, of parameters mean (1 - c) / c and its mirror."""
    means = np.broadcast_to(np.asarray(mean, dtype=np.float64), (count,))
    if correlation == 0:
        return means
    if correlation == 1:
        return (random.random(count) < means).astype(np.float64)
    spread = (1 - correlation) / correlation
    inside = np.clip(means, 1e-12, 1 - 1e-12)
    return np.where((means > 0) & (means < 1), random.beta(inside * spread, (1 - inside) * spread), means)
