"""What a network costs: estimated before its search is over, by formulas fitted to measurements; of a ticket, measured."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import lgamma, log, prod
from pathlib import Path

import numpy as np

from edgeticket.bench import bench
from edgeticket.budget import Budget, Cost, Verdict
from edgeticket.codes import edges_of
from edgeticket.compact import compact
from edgeticket.export import export
from edgeticket.model import Int8, Model, Signs, Weights
from edgeticket.ops import SCALED, WEIGHTED, Layer
from edgeticket.packet import packed_bytes
from edgeticket.plan import Plan
from edgeticket.rounding import round_parameters
from edgeticket.settings import rounded
from edgeticket.ticket import Input, Ticket


@dataclass(frozen=True)
class Core:
    """Instructions per kept add, per output of a layer with weights, and per multiply-accumulate of a learned layer."""

    add: float
    output: float
    learned: float


# Least squares of relative errors over the counts of ../shared/research/mcu-lab.md (QEMU, -O2; tests/test_cost.py repeats it):
# `add` and `output` over form (h), masks decoded per filter, of three networks at densities .25 to .9, within 4 %; `learned`
# over CMSIS-NN's int8 kernels, with an `output` of their own that is within 15 % of that one but for M55 (31). There, M0 and
# M55 have two networks for two unknowns. M7 and M33 count what M4 counts.
_M4 = Core(1.60, 63, 1.64)
CORES = {
    "cortex-m0": Core(4.77, 124, 6.29),
    "cortex-m3": Core(2.18, 63, 2.59),
    "cortex-m4": _M4,
    "cortex-m7": _M4,
    "cortex-m33": _M4,
    "cortex-m55": Core(1.08, 70, 0.16),
}
# Flash of form (h) in the same three networks on M4, solved for its three unknowns; the code of int8 layers is form (b)'s.
FLASH_CODE, FLASH_EDGE, FLASH_CHANNEL, FLASH_LEARNED_CODE = 2916, 0.152, 15.2, 900
STACK = 1000  # bytes; form (h) took up to that much
# float32 ONNX of exporters/to_onnx.py: what is not weights or values per channel.
FILE_LAYER = 345  # of a layer with weights


def kept_edges(plan: Plan, layer: Layer, density: float, edges: int) -> int:
    """Edges that all filters of a masked layer keep together, as weights.MaskedWeight.k has it per filter."""
    filters, *rest = plan.weight_shape(layer)
    return filters * max(1, rounded(density * (edges * prod(rest))))


@dataclass(frozen=True)
class Estimator:
    """Costs of narrower forms of one network, `learned` layers as int8, under masks all others.

    `packet`: plan -> bytes, as PacketEstimate; `latency`: plan -> ms. What is left out costs None.
    """

    budget: Budget
    densities: Mapping[str, float]
    edges: Mapping[str, int]
    learned: frozenset[str]
    packet: Callable[[Plan], int] | None = None
    latency: Callable[[Plan], float] | None = None

    def costs(self, plan: Plan) -> tuple[Cost, ...]:
        """One cost for each target of the budget."""
        return tuple(
            estimate(plan, self.densities, self.edges, self.learned, target, packet=self.packet, latency=self.latency)
            for target in self.budget.targets
        )

    def judge(self, plan: Plan) -> tuple[Verdict, ...]:
        return self.budget.judge(self.costs(plan))


def estimate(
    plan: Plan,
    densities: Mapping[str, float],
    edges: Mapping[str, int],
    learned: frozenset[str],
    target: str = "",
    *,
    packet: Callable[[Plan], int] | None = None,
    latency: Callable[[Plan], float] | None = None,
) -> Cost:
    """The cost of a plan on "", "cpu" or a core, before any weight of it is chosen."""
    kept = {
        layer.name: kept_edges(plan, layer, densities[layer.name], edges[layer.name])
        for layer in plan.weighted()
        if layer.name not in learned
    }
    cost = _formulas(plan, kept, {name: edges[name] for name in kept}, target)
    if target == "":
        return replace(cost, packet_bytes=packet(plan) if packet else None)
    return replace(cost, latency_ms=latency(plan)) if target == "cpu" and latency else cost


def measure(ticket: Ticket, budget: Budget, *, threads: int = 1) -> tuple[Cost, ...]:
    """Costs of what was found: exact bytes and work, the float32 ONNX file on this CPU where the budget needs it.

    What the C export will measure (instructions, flash and RAM of cores) is estimated. Raises what export and bench raise.
    """
    model = compact(ticket)
    kept = {name: weights.kept for name, weights in model.weights.items() if isinstance(weights, Signs)}
    estimated = [_formulas(model.plan, kept, ticket.edges, target) for target in budget.targets if target != "cpu"]
    counted = Cost(
        "",
        "measured",
        packet_bytes=sum(packed_bytes(model).values()),
        macs=sum(model.plan.macs().values()),
        kept_macs=sum(model.kept_macs().values()),
    )
    if not budget.has("latency_ms") and not budget.has("file_bytes"):
        return (*estimated, counted)
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        made = export(ticket, "onnx", Path(folder) / "ticket.onnx")
        counted = replace(counted, file_bytes=made.file_bytes)
        if not budget.has("latency_ms"):
            return (*estimated, counted)
        (report,) = bench([made.path], on="cpu", threads=threads)
    return (*estimated, counted, report.cost)


def _formulas(plan: Plan, kept: Mapping[str, int], edges: Mapping[str, int], target: str) -> Cost:
    """`kept`: edges of each layer under a mask; all other layers are learned. On a core, work, RAM and flash for it."""
    macs, weights = plan.macs(), plan.weights()
    adds = sum(count * plan.positions(name) for name, count in kept.items())
    multiplies = sum(count for name, count in macs.items() if name not in kept)
    channels = sum(plan.shapes[layer.name][0] for layer in plan.scaled())
    cost = Cost(
        target,
        "estimated",
        macs=sum(macs.values()),
        kept_macs=adds + multiplies,
        file_bytes=4 * (sum(weights.values()) + channels) + FILE_LAYER * len(weights),
        ram_bytes=plan.peak_activations() + STACK,
    )
    if target not in CORES:
        return replace(cost, ram_bytes=None) if target == "cpu" else cost
    core, outputs = CORES[target], sum(prod(plan.shapes[name]) for name in weights)
    integers = sum(count for name, count in weights.items() if name not in kept)
    masks = FLASH_EDGE * sum(weights[name] * edges[name] for name in kept)
    code = FLASH_CODE + (FLASH_LEARNED_CODE if integers else 0)
    return replace(
        cost,
        instructions=round(core.add * adds + core.output * outputs + core.learned * multiplies),
        flash_bytes=round(code + masks + FLASH_CHANNEL * channels + integers),
    )


# packed bytes

Features = dict[str, float]


class PacketEstimate:
    """Plan -> packed bytes of a ticket of it, without making one.

    packet.py counts two random tickets, a half and a quarter as wide; between them each part of the count is a line over what it
    is made of: masks over their entropy (and flips, a bit per kept edge), int8 over weights, values over channels, the rest constant.
    """

    def __init__(
        self,
        wide: Plan,
        densities: Mapping[str, float],
        edges: Mapping[str, int],
        learned: frozenset[str],
        signed: bool = False,
        inputs: Mapping[str, Input] | None = None,
        in_order: bool = True,
    ) -> None:
        self.densities, self.edges, self.learned, self.signed = densities, edges, learned, signed
        rows = []
        for share in (2, 4):
            model = _random_model(wide, densities, edges, learned, signed, share, inputs or {}, in_order)
            parts = packed_bytes(model)
            parts["masks"] += parts.pop("flips")  # one code may hold both
            rows.append((self._features(model.plan), parts))
        self.lines = dict(self._lines(*rows))

    def __call__(self, plan: Plan) -> int:
        features = self._features(plan)
        return round(sum(first + slope * features.get(part, 0.0) for part, (first, slope) in self.lines.items()))

    def _lines(
        self, large: tuple[Features, dict[str, int]], small: tuple[Features, dict[str, int]]
    ) -> Iterator[tuple[str, tuple[float, float]]]:
        (x1, y1), (x0, y0) = large, small
        for part in y1:
            run = x1.get(part, 0.0) - x0.get(part, 0.0)
            slope = (y1[part] - y0[part]) / run if run else 0.0
            yield part, (y0[part] - slope * x0.get(part, 0.0), slope)

    def _features(self, plan: Plan) -> Features:
        """What each part of the packet grows with."""
        found = dict.fromkeys(("masks", "int8", "per filter"), 0.0)
        for layer in plan.layers:
            found["per filter"] += plan.shapes[layer.name][0] * isinstance(layer.op, SCALED)
            if layer.name in self.learned:
                found["int8"] += plan.weights()[layer.name]
            elif isinstance(layer.op, WEIGHTED):
                filters, *rest = plan.weight_shape(layer)
                kept = kept_edges(plan, layer, self.densities[layer.name], self.edges[layer.name])
                found["masks"] += filters * _log2_choose(self.edges[layer.name] * prod(rest), kept // filters) / 8
                found["masks"] += kept / 8 * self.signed
        return found


def _log2_choose(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)


def _random_model(
    wide: Plan,
    densities: Mapping[str, float],
    edges: Mapping[str, int],
    learned: frozenset[str],
    signed: bool,
    share: int,
    inputs: Mapping[str, Input],
    in_order: bool = True,
) -> Model:
    """The network of one in `share` channels of each group, chosen, masked and taught at random."""
    rng = np.random.default_rng(0)
    sizes = {name: len(group.ids) for name, group in wide.groups.items() if not group.fixed}
    kept = wide.fill({name: rng.permutation(size) < max(1, size // share) for name, size in sizes.items()})
    plan = wide.narrow(kept)
    weights: dict[str, Weights] = {}
    for index, layer in enumerate(wide.layers):
        if not isinstance(layer.op, WEIGHTED):
            continue
        shape, name = plan.weight_shape(plan[layer.name]), layer.name
        if name in learned:
            values = rng.normal(size=shape)
            largest = np.abs(values).reshape(len(values), -1).max(1).reshape(-1, *[1] * (values.ndim - 1))
            weights[name] = Int8(np.round(values / largest * 127).astype(np.int8))
            continue
        rows, columns = wide.rows_columns(layer, kept)
        every = np.ones((shape[0], edges[name], *shape[1:]), bool)
        k = kept_edges(plan, plan[name], densities[name], edges[name]) // shape[0]
        make = _random_sums if in_order else _random_mask
        mask, flips = make(Signs(0, index, every, rows, columns).edge_signs(), k, signed, rng)
        weights[name] = Signs(0, index, mask, rows, columns, flips if signed else None)
    channels = {layer.name: rng.normal(size=plan.shapes[layer.name][0]) for layer in plan.scaled()}
    parameters = {name: round_parameters(values) for name, values in channels.items()}
    return Model(plan, weights, parameters, parameters, inputs, {})


def _random_sums(signs: np.ndarray, k: int, signed: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask and flips like `signs`: k edges of each filter as search/subset_sum.py apportions them to random scores.

    Parallel edges of one sign are then kept in their order, which is less information than any k edges.
    """
    score = np.abs(rng.normal(size=(len(signs), 1, *signs.shape[2:])))
    wanted = rng.choice(np.array([-1, 1], np.int8), score.shape)
    serves = np.ones(signs.shape, bool) if signed else signs == wanted
    mask = _best(serves * score / (2 * np.cumsum(serves, 1) - 1), k)
    if not signed:
        return mask, np.zeros_like(mask)
    return edges_of(mask.sum(1, dtype=np.int8) * wanted[:, 0], signs, True)


def _random_mask(signs: np.ndarray, k: int, signed: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask and flips like `signs`: any k edges of each filter."""
    mask = _best(rng.random(signs.shape), k)
    return mask, mask & (rng.random(signs.shape) < 0.5) & signed


def _best(score: np.ndarray, k: int) -> np.ndarray:
    flat = score.reshape(len(score), -1)
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, np.argpartition(-flat, k - 1, axis=1)[:, :k], True, axis=1)
    return mask.reshape(score.shape)
