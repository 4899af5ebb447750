"""What one search is asked to do, checked once; nothing here needs torch."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import floor, gcd, inf, prod
from typing import Any

import numpy as np

from edgeticket.errors import UsageError
from edgeticket.ops import Layer
from edgeticket.plan import Plan
from edgeticket.ticket import MAX_EDGES

LEARNED_SHARE = 0.05  # of the plan's weights that stem and head together may be
SMALL_FAN_IN, SMALL_DENSITY = 32, 0.5
# What `auto` means (docs/evidence.md): random edges of a connection, and how many of them stay on average.
AUTO_EDGES, AUTO_SMALL_EDGES = 3, 8
AUTO_KEPT, AUTO_SMALL_KEPT = 0.5, 2.0


@dataclass(frozen=True)
class Settings:
    """`density` = kept edges of a filter / (fan-in x edges). Raises UsageError for values out of range.

    None is `auto`: of layers with a fan-in of at least 32, 3 edges a connection of which half a one stays on average; of others
    8, of which two stay; one edge where signs are learned.
    """

    seed: int = 0
    density: float | None = None
    layer_density: Mapping[str, float] = field(default_factory=dict)
    edges: int | None = None
    layer_edges: Mapping[str, int] = field(default_factory=dict)
    keep: float = 1.0
    align: int = 8
    epochs: int = 10
    batch: int = 128
    learn: str = "stem,head"  # or "none", "all", "depthwise", layer names
    signs: str = "seed"  # or "learned"
    method: str = "subset_sum"
    teacher: str = ""  # a network that is trained in float first, and advises
    score_step: float = 0.5
    weight_step: float = 0.5
    float_step: float = 0.5  # a float network's best of 0.1 to 2 here; the usual 0.1 would flatter the ticket
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        checks = {
            "--seed is from 0 to 2^64 - 1": 0 <= self.seed < 1 << 64,
            "--density is above 0 and at most 1": all(
                d is None or 0 < d <= 1 for d in (self.density, *self.layer_density.values())
            ),
            f"--edges is from 1 to {MAX_EDGES}": all(
                n is None or 1 <= n <= MAX_EDGES for n in (self.edges, *self.layer_edges.values())
            ),
            "--keep is above 0 and at most 1": 0 < self.keep <= 1,
            "--align is at least 1": self.align >= 1,
            "--epochs is at least 1": self.epochs >= 1,
            "--batch is at least 2": self.batch >= 2,
            "--signs is seed or learned": self.signs in ("seed", "learned"),
            "--threads is at least 1": self.threads >= 1,
            "a step size is above 0 and finite": all(
                0 < step < inf for step in (self.score_step, self.weight_step, self.float_step)
            ),
            "--device is cpu, cuda or cuda:N": re.fullmatch(r"cpu|cuda(:\d+)?", self.device) is not None,
        }
        for rule, good in checks.items():
            if not good:
                raise UsageError(rule)

    @staticmethod
    def parse(*, density: Any = "auto", edges: Any = "auto", pure: bool = False, **given: Any) -> "Settings":
        """From the words of a command line: `density` is "auto", "0.1" or "0.1,conv1=0.5", `edges` alike."""
        densities, counts = _by_layer("--density", str(density), float), _by_layer("--edges", str(edges), int)
        if pure and given.get("learn", Settings.learn) not in (Settings.learn, "none"):
            raise UsageError("--pure and --learn contradict each other: leave one of them out")
        if pure:
            given["learn"] = "none"
        return Settings(
            density=densities.pop("", None),
            layer_density=densities,
            edges=counts.pop("", None),
            layer_edges=counts,
            **given,
        )

    def words(self) -> dict[str, Any]:
        """What `parse` makes these settings of."""
        given = asdict(self)
        for name in ("density", "edges"):
            given[name] = "auto" if given[name] is None else given[name]
            layers = given.pop(f"layer_{name}").items()
            if layers:
                given[name] = ",".join([str(given[name]), *(f"{layer}={value}" for layer, value in layers)])
        return given

    def edge_counts(self, plan: Plan) -> dict[str, int]:
        """Random edges per connection of every weighted layer."""
        _require_layers("--edges", set(self.layer_edges), plan)
        return {
            layer.name: self.layer_edges.get(layer.name, self._edges(_fan_in(plan, layer))) for layer in plan.weighted()
        }

    def _edges(self, fan_in: int) -> int:
        if self.edges is not None:
            return self.edges
        return 1 if self.signs == "learned" else AUTO_SMALL_EDGES if fan_in < SMALL_FAN_IN else AUTO_EDGES

    def densities(self, plan: Plan) -> dict[str, float]:
        """Density of every weighted layer; filters with few edges keep at least half of them unless set by name."""
        _require_layers("--density", set(self.layer_density), plan)
        edges = self.edge_counts(plan)
        return {
            layer.name: self.layer_density.get(layer.name, self._density(_fan_in(plan, layer), edges[layer.name]))
            for layer in plan.weighted()
        }

    def _density(self, fan_in: int, edges: int) -> float:
        if self.density is not None:
            return max(self.density, SMALL_DENSITY) if fan_in * edges < SMALL_FAN_IN else self.density
        small = min(max(AUTO_SMALL_KEPT * edges / AUTO_SMALL_EDGES, SMALL_DENSITY), AUTO_SMALL_KEPT)
        return (small if fan_in < SMALL_FAN_IN else AUTO_KEPT) / edges

    def learned(self, plan: Plan) -> frozenset[str]:
        """Layers with int8 weights: stem and head while they are at most 5 % of the weights (the head leaves first).

        Others as asked for: by name, or every depthwise one (few weights, and of 9 random signs a mask cannot make much).
        `all`: every layer, as in an ordinary int8 network that is trained under its rounding.
        """
        weights, asked = plan.weights(), [part for part in self.learn.split(",") if part and part != "none"]
        if "all" in asked:
            return frozenset(weights)
        named = {part for part in asked if part not in ("stem", "head", "depthwise")}
        _require_layers("--learn", named, plan)
        if "depthwise" in asked:
            named |= {layer.name for layer in plan.weighted() if plan.depthwise(layer)}
        stem, head = (
            set(names) if word in asked else set() for word, names in (("stem", plan.stem()), ("head", plan.head()))
        )
        room = LEARNED_SHARE * sum(weights.values())
        for chosen in (stem | head, stem):
            if sum(weights[name] for name in chosen) <= room:
                return frozenset(chosen | named)
        return frozenset(named)

    def purity(self, plan: Plan) -> str:
        """The purity level that is printed beside every accuracy (README: purity)."""
        learned = self.learned(plan)
        if self.signs == "learned" or not learned <= {*plan.stem(), *plan.head()}:
            return "P3"
        if learned and learned <= set(plan.head()):
            return "P2+head"
        return "P2+stem" if learned else "P2"

    def units(self, plan: Plan) -> dict[str, int]:
        """How many ids of each group that may lose some make a multiple of `align` channels of the layer they come from."""
        units = {}
        for name, group in plan.groups.items():
            each = int(np.isin(plan.channels[name], group.ids).sum()) // len(group.ids)  # several where groups tie them
            units[name] = self.align // gcd(self.align, each)
        return {name: unit for name, unit in units.items() if not plan.groups[name].fixed}

    def targets(self, plan: Plan) -> dict[str, int]:
        """Channels of each group that `keep` leaves: a multiple of `align`, at least one such, at most all."""
        units = self.units(plan)
        sizes = {name: len(plan.groups[name].ids) for name in units}
        final = {
            name: min(size, max(units[name], rounded(self.keep * size / units[name]) * units[name]))
            for name, size in sizes.items()
        }
        if self.keep < 1 and final == sizes:
            raise UsageError(
                f"--keep {self.keep} in multiples of {self.align} removes nothing: use wider layers, or a smaller --align"
            )
        return final

    def final(self, plan: Plan) -> Plan:
        """The plan at the widths that `keep` leaves: what densities and learned layers are decided on, as for a control."""
        first = {name: np.arange(len(plan.groups[name].ids)) < n for name, n in self.targets(plan).items()}
        return plan.narrow(plan.fill(first))


def _fan_in(plan: Plan, layer: Layer) -> int:
    return prod(plan.weight_shape(layer)[1:])


def rounded(value: float) -> int:
    """To the nearest integer, halves up: 2.5 of 5 weights are 3, where Python's round says 2 and of 7 weights 4."""
    return floor(value + 0.5)


def _by_layer(option: str, text: str, number: type) -> dict[str, Any]:
    """ "0.1,conv1=0.5" -> {"": 0.1, "conv1": 0.5}; "auto" is None."""
    values = {}
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        if name in values:
            raise UsageError(f"{option} {text}: {name or 'the default'} is set twice; write N or N,LAYER=N")
        try:
            values[name] = None if value == "auto" else number(value)
        except ValueError:
            raise UsageError(f"{option} {text}: {value!r} is not a number; write auto, N or N,LAYER=N") from None
    return values


def _require_layers(option: str, named: set[str], plan: Plan) -> None:
    known = plan.weights()
    if named - set(known):
        raise UsageError(f"{option} names {', '.join(sorted(named - set(known)))}: the layers are {', '.join(known)}")
