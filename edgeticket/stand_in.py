"""Networks that stand for one that is still searched: of its shape, with as many weights, none of them chosen for anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import ceil, prod, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeticket.codes import edges_of
from edgeticket.footprint import Footprint
from edgeticket.integer import IntegerModel, integerise
from edgeticket.integer_layer import IntegerLayer, fixed_point
from edgeticket.model import Int8, Model, Signs, Weights
from edgeticket.ops import SCALED, WEIGHTED, Conv, Flatten, Layer, Linear, PRelu
from edgeticket.plan import Plan
from edgeticket.rounding import round_parameters
from edgeticket.settings import Settings, rounded
from edgeticket.ticket import Input, Quant
from edgeticket.wire import Wire, numbers, pack
from edgeticket.wire_plan import HEADER, INT8, SEED, SIGNS, firmware
from exporters.c_layout import Layout, packed
from exporters.c_steps import Steps

PACKED = 32  # channels of each group, of the network whose masks are packed to see how long they get
USUAL = 40  # magnitude of int8 weights, on average
CHECKSUM = 4
FILTERS = 1 + 4 + 9  # bytes of a convolution's constants beside those of its filters: zero point, head, grids
SIZES = 5  # bytes of a section of masked weights that say how long its parts are


@dataclass(frozen=True)
class Chosen:
    """What is settled before a search: per layer with weights density and edges, `learned` layers as int8, all others masked.

    `signed`: flips are learned. `in_order`: of equal parallel edges the first stay. `inputs`: sensors; uint8 where none are given.
    """

    densities: Mapping[str, float]
    edges: Mapping[str, int]
    learned: frozenset[str] = frozenset()
    signed: bool = False
    in_order: bool = True
    inputs: Mapping[str, Input] = field(default_factory=dict)

    @staticmethod
    def by(
        settings: Settings, plan: Plan, inputs: Mapping[str, Input] | None = None, in_order: bool = True
    ) -> "Chosen":
        """What `settings` say of a network of the widths of `plan`."""
        densities, edges, learned = settings.densities(plan), settings.edge_counts(plan), settings.learned(plan)
        return Chosen(densities, edges, learned, settings.signs == "learned", in_order, inputs or {})

    def kept(self, plan: Plan) -> dict[str, int]:
        """Edges that all filters of each masked layer keep together, as weights.MaskedWeight.k has it per filter."""
        found = {}
        for layer in plan.weighted():
            name, (filters, *rest) = layer.name, plan.weight_shape(layer)
            if name not in self.learned:
                found[name] = filters * max(1, rounded(self.densities[name] * (self.edges[name] * prod(rest))))
        return found


def random_model(wide: Plan, chosen: Chosen, share: int = 1) -> Model:
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
        if name in chosen.learned:
            values = rng.normal(size=shape)
            largest = np.abs(values).reshape(len(values), -1).max(1).reshape(-1, *[1] * (values.ndim - 1))
            weights[name] = Int8(np.round(values / largest * 127).astype(np.int8))
            continue
        rows, columns = wide.rows_columns(layer, kept)
        every = np.ones((shape[0], chosen.edges[name], *shape[1:]), bool)
        k = chosen.kept(plan)[name] // shape[0]
        make = random_sums if chosen.in_order else random_mask
        mask, flips = make(Signs(0, index, every, rows, columns).edge_signs(), k, chosen.signed, rng)
        weights[name] = Signs(0, index, mask, rows, columns, flips if chosen.signed else None)
    channels = {layer.name: rng.normal(size=plan.shapes[layer.name][0]) for layer in plan.scaled()}
    parameters = {name: round_parameters(values) for name, values in channels.items()}
    return Model(plan, weights, parameters, parameters, chosen.inputs, {})


def random_sums(signs: np.ndarray, k: int, signed: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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


def random_mask(signs: np.ndarray, k: int, signed: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask and flips like `signs`: any k edges of each filter."""
    mask = _best(rng.random(signs.shape), k)
    return mask, mask & (rng.random(signs.shape) < 0.5) & signed


def _best(score: np.ndarray, k: int) -> np.ndarray:
    flat = score.reshape(len(score), -1)
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, np.argpartition(-flat, k - 1, axis=1)[:, :k], True, axis=1)
    return mask.reshape(score.shape)


class Places:
    """What Footprint.work asks of exporters/c_steps.Steps, without laying anything out: like `like`, at the widths of `plan`."""

    def __init__(self, plan: Plan, like: Steps) -> None:
        self.plan, self.suffix, self.half_tiles, self.bands = plan, like.suffix, like.half_tiles, like.bands

    def wanted(self, layer: Layer) -> Layout:
        assert isinstance(layer.op, Conv)
        return packed(layer.op, self.plan.shapes[layer.inputs[0]], self.plan.shapes[layer.name])


def _same(name: str) -> Any:
    return property(lambda sketch: getattr(sketch.like, name))


@dataclass(frozen=True)
class Sketch(Footprint):
    """A footprint whose code, tables, stack and RAM are those of `like`, the same network at other widths; all filters are alike."""

    like: Footprint | None = None

    @cached_property
    def network(self) -> Any:
        assert self.like is not None
        return SimpleNamespace(steps=Places(self.model.plan, self.like.network.steps))

    code, stack, table_bytes, ram_bytes, _features = map(
        _same, ("code", "stack", "table_bytes", "ram_bytes", "_features")
    )

    @cached_property
    def _known_sides(self) -> dict[str, np.ndarray]:
        return {}

    def _sides(self, record: IntegerLayer) -> np.ndarray:
        assert record.values is not None
        name, filters = record.layer.name, len(record.values)
        if name not in self._known_sides:
            own = super()._sides(replace(record, values=record.values[:1]))
            self._known_sides[name] = np.broadcast_to(own, (2, filters))
        return self._known_sides[name]

    def _left(self, record: IntegerLayer) -> int:
        assert record.values is not None
        return len(record.values) * super()._left(replace(record, values=record.values[:1]))


class Outlines:
    """Plan -> footprint of a ticket of it, without making one: a few ms each.

    The masks of one random ticket, 32 channels wide, are packed once: bytes and non-zero weights per weight of each layer are
    taken to be those. `wide`: whose channels leave; a map of those that stay is counted where some have left.
    """

    def __init__(self, wide: Plan, chosen: Chosen) -> None:
        self.wide, self.chosen = wide, chosen
        self.known: dict[tuple[bool, bool], Footprint] = {}  # what sketches are made after
        sizes = {name: len(group.ids) for name, group in wide.groups.items() if not group.fixed}
        first = {name: np.arange(size) < PACKED for name, size in sizes.items()}
        model = random_model(wide.narrow(wide.fill(first)), chosen)
        model = replace(model, inputs=self._inputs(model.plan), quant=_quant(model.plan))
        self.packed = pack(model)
        # of a masked layer: share of its weights that are not 0
        self.left = {
            record.layer.name: float((record.values != 0).mean())
            for record in self.packed.integer.layers
            if record.values is not None
        }

    def __call__(self, plan: Plan, boot: bool = False) -> Footprint:
        """All of it, RAM too."""
        values, kept = self._values(plan), self.chosen.kept(plan)
        scale = _scales(plan, values)
        bias = {name: np.zeros_like(own) for name, own in scale.items()}
        slope = {
            y.name: np.full(plan.shapes[y.name][0], 0.5, np.float32) for y in plan.layers if isinstance(y.op, PRelu)
        }
        integers = {name: Int8(own) for name, own in values.items()}
        model = Model(plan, integers, scale, bias, self._inputs(plan), _quant(plan), slope=slope)
        integer = integerise(model)
        model = self._masked(model, kept)
        codings = {name: INT8 if name not in kept else SIGNS if self.chosen.signed else SEED for name in values}
        sections = {name: self._section(plan, name, codings[name]) for name in values}
        size = HEADER + CHECKSUM + sum(self._size(plan, name, codings[name]) for name in values)
        size += sum(1 if own.dtype == "uint8" else 2 * len(own.offset) for own in model.inputs.values())
        size += sum(_numbers(model, integer, record) for record in integer.layers)
        return Footprint(model, Wire(bytes(size), integer, codings, sections, firmware(model, integer, codings)), boot)

    def sketch(self, plan: Plan, boot: bool = False) -> Footprint:
        """Work and model bytes at the widths of `plan`; the rest as at the first widths that were asked of, with maps or without."""
        kept = self.chosen.kept(plan)
        key = boot, any(size for name in kept for size in self._maps(plan, name))
        if key not in self.known:
            self.known[key] = self(plan, boot)
        like = self.known[key]
        values, old = self._values(plan), like.wire
        steps = {name: own.scale for name, own in old.integer.tensors.items()}
        shift = {
            layer.name: _shift(*_size_of(plan, layer, values), steps[layer.inputs[0]] / steps[layer.name])
            for layer in plan.weighted()
        }
        records = tuple(
            replace(own, layer=layer, values=values.get(layer.name), shift=shift.get(layer.name, own.shift))
            for own, layer in zip(old.integer.layers, plan.layers, strict=True)
        )
        more = sum(
            self._size(plan, name, old.codings[name]) - self._size(like.model.plan, name, old.codings[name])
            for name in values
        )
        for layer, before in zip(plan.layers, like.model.plan.layers, strict=True):
            if isinstance(layer.op, SCALED):
                more += 2 * (plan.shapes[layer.name][0] - like.model.plan.shapes[before.name][0])
        wire = replace(
            old, packet=bytes(len(old.packet) + more), integer=replace(old.integer, plan=plan, layers=records)
        )
        return Sketch(self._masked(replace(like.model, plan=plan), kept), wire, boot, like)

    def _values(self, plan: Plan) -> dict[str, np.ndarray]:
        """int8 weights of each layer that has some."""
        kept, found = self.chosen.kept(plan), {}
        for layer in plan.weighted():
            shape, name = plan.weight_shape(layer), layer.name
            own = (
                _sums(shape, kept[name] // shape[0], self.left[name], self.chosen.edges[name]) if name in kept else None
            )
            found[name] = _int8(shape) if own is None else own
        return found

    def _masked(self, model: Model, kept: Mapping[str, int]) -> Model:
        shapes = {name: model.plan.weight_shape(model.plan[name]) for name in kept}
        masked = {name: self._signs(shapes[name], name, count // shapes[name][0]) for name, count in kept.items()}
        return replace(model, weights={**model.weights, **masked})

    def _inputs(self, plan: Plan) -> dict[str, Input]:
        usual = {name: Input("uint8", (0.0,) * shape[0], (1 / 255,) * shape[0]) for name, shape in plan.inputs.items()}
        return usual | dict(self.chosen.inputs)

    def _signs(self, shape: tuple[int, ...], name: str, k: int) -> Signs:
        """Edges, places and how many are kept; not which."""
        edges = self.chosen.edges[name], *shape[1:]
        mask = np.broadcast_to((np.arange(prod(edges)) < k).reshape(edges), (shape[0], *edges))
        flips = mask if self.chosen.signed else None
        wide = self.wide.weight_shape(self.wide[name])
        rows, columns = (np.arange(wide[i] - shape[i], wide[i]) for i in (0, 1))  # the last ones
        return Signs(0, self.wide.layers.index(self.wide[name]), mask, rows, columns, flips)

    def _section(self, plan: Plan, name: str, coding: int) -> bytes:
        """The first bytes that a section of weights would have."""
        if coding == INT8:
            return bytes([INT8])
        maps = b"".join(b"\1\1\1" if size else b"\0" for size in self._maps(plan, name)) if coding == SEED else b""
        rice = "RICE" in self.packed.features
        return bytes([coding, self.chosen.edges[name]]) + maps + bytes([1, 0 if rice else 255, 0])

    def _maps(self, plan: Plan, name: str) -> list[int]:
        """Bytes of the maps of kept filters and of kept inputs; 0 where all are left."""
        layer = plan[name]
        own, wide = plan.weight_shape(layer), self.wide.weight_shape(self.wide[name])
        source = self.wide[layer.inputs[0]] if layer.inputs[0] not in plan.inputs else None
        flat = isinstance(layer.op, Linear) and source is not None and isinstance(source.op, Flatten)
        each = prod(self.wide.shapes[source.inputs[0]][1:]) if flat and source else 1
        return [0 if own[i] == wide[i] else ceil(wide[i] / (each if i else 1) / 8) + 2 for i in (0, 1)]

    def _size(self, plan: Plan, name: str, coding: int) -> int:
        """Bytes of a layer's section of weights."""
        weights = prod(plan.weight_shape(plan[name]))
        if coding == INT8:
            return 1 + weights
        head = SIZES + (4 if coding == SEED else 2)
        packed = self.packed.integer.plan
        each = (len(self.packed.weights[name]) - head) / prod(packed.weight_shape(packed[name]))
        return head + round(each * weights) + sum(self._maps(plan, name)) * (coding == SEED)


def _quant(plan: Plan) -> dict[str, Quant]:
    return dict.fromkeys(plan.shapes, Quant(1.0, 0))


def _numbers(model: Model, integer: IntegerModel, record: IntegerLayer) -> int:
    """Bytes of a layer's constants but its weights; those of filters lie on grids."""
    if not isinstance(record.layer.op, Conv | Linear):
        return len(numbers(model, integer, record))
    curve = 3 * (record.table is not None or record.below is not None)
    return FILTERS + curve + 2 * model.plan.shapes[record.layer.name][0]


def _scales(plan: Plan, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {layer.name: _scale(*_size_of(plan, layer, values)) for layer in plan.scaled()}


def _size_of(plan: Plan, layer: Layer, values: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Channels of a layer, and the sum of the squares of a filter's weights."""
    row = values[layer.name][0].astype(int).reshape(-1) if layer.name in values else np.ones(2, int)
    return plan.shapes[layer.name][0], int(row @ row)


@lru_cache(maxsize=4096)
def _scale(channels: int, squares: int) -> np.ndarray:
    """float32, within a half and one and a half of what keeps the size of activations."""
    return round_parameters(sqrt(2 / squares) * (1.5 - np.arange(channels) % 64 / 64))


@lru_cache(maxsize=4096)
def _shift(channels: int, squares: int, step: float) -> np.ndarray:
    """The shifts of ratios that are `step` times `_scale`."""
    return fixed_point(step * _scale(channels, squares).astype(np.float64), "")[1]


@lru_cache(maxsize=4096)
def _int8(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.int8(USUAL), shape)


@lru_cache(maxsize=4096)
def _sums(shape: tuple[int, ...], k: int, left: float, edges: int) -> np.ndarray:
    """int8 weights whose magnitudes add up to k in each filter, such a share of them not 0, with either sign in turn."""
    size = prod(shape[1:])
    count = min(max(round(left * size), ceil(k / edges), 1), size, k)
    row = np.zeros(size, np.int8)
    row[:count] = k // count
    row[: k % count] += 1
    row[1::2] *= -1
    return np.broadcast_to(row.reshape(1, *shape[1:]), shape)
