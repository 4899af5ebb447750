"""The shape of a network: layers in topological order, no weights.

Shapes leave the batch out: (channels, height, width), (channels, length) or (features,). Operations carry ONNX's names and
attributes. A norm or an activation that directly follows a Conv or Linear is a field of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from edgeticket.coupling import Group, couple
from edgeticket.errors import UnsupportedError
from edgeticket.ops import (
    MAX_ELEMENTS,
    SCALED,
    WEIGHTED,
    Conv,
    ConvTranspose,
    Gather,
    Layer,
    Shape,
    op_from_json,
    op_to_json,
    out_shape,
    sizes,
)

# Checked before anything is allocated, so that a hostile file cannot ask for more memory or time than a large plan needs.
MAX_LAYERS = 4096
MAX_CHANNELS = 1 << 19  # that all layers together read and make
MAX_WEIGHTS = 1 << 27


Kept = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """`inputs`: tensor name -> shape. Raises UnsupportedError where a layer does not fit its inputs."""

    inputs: Mapping[str, Shape]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in (*self.inputs, *(layer.name for layer in self.layers)):
            if not name or not name.isprintable():
                raise UnsupportedError(f"plan: {name!r} cannot name a tensor: use printable characters")
        missing = [name for name in self.outputs if name not in self.shapes]
        if missing or not self.outputs:
            raise UnsupportedError(
                f"plan: output {', '.join(map(repr, missing)) or '(none)'} is not the name of a layer"
            )
        if sum(self.weights().values()) > MAX_WEIGHTS:
            raise UnsupportedError(f"plan: more than {MAX_WEIGHTS} weights: use a narrower one")

    # shapes and costs

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor, inputs first."""
        if len(self.layers) > MAX_LAYERS:
            raise UnsupportedError(f"plan: more than {MAX_LAYERS} layers")
        shapes = {name: _check_size(f"input {name}", tuple(shape)) for name, shape in self.inputs.items()}
        channels = 0
        for layer in self.layers:
            if layer.name in shapes:
                raise UnsupportedError(f"plan: two tensors are named {layer.name!r}")
            try:
                inputs = [shapes[name] for name in layer.inputs]
                shapes[layer.name] = _check_size("output", out_shape(layer.op, inputs))
                channels += shapes[layer.name][0] + sum(shape[0] for shape in inputs)
                if channels > MAX_CHANNELS:
                    raise UnsupportedError(f"more than {MAX_CHANNELS} channels up to here: use a narrower plan")
            except KeyError as error:
                raise UnsupportedError(f"layer {layer.name}: reads {error}, which no earlier layer makes") from error
            except UnsupportedError as error:
                got = ", ".join("x".join(map(str, shapes[name])) for name in layer.inputs)
                raise UnsupportedError(
                    f"layer {layer.name} ({type(layer.op).__name__}, input {got}): {error}"
                ) from error
        return shapes

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def __getitem__(self, name: str) -> Layer:
        return self._by_name[name]

    def weighted(self) -> Iterator[Layer]:
        """The layers that have weights, in order."""
        return (layer for layer in self.layers if isinstance(layer.op, WEIGHTED))

    def scaled(self) -> Iterator[Layer]:
        """The layers that have a scale and a bias per channel, in order."""
        return (layer for layer in self.layers if isinstance(layer.op, SCALED))

    def weight_shape(self, layer: Layer) -> Shape:
        """(filters, input channels of one filter, *kernel)."""
        assert isinstance(layer.op, WEIGHTED)
        channels = self.shapes[layer.inputs[0]][0] // getattr(layer.op, "groups", 1)
        return (layer.op.out, channels, *getattr(layer.op, "kernel", ()))

    def depthwise(self, layer: Layer) -> bool:
        """Whether each channel is filtered alone."""
        return isinstance(layer.op, Conv) and 1 < layer.op.groups == self.shapes[layer.inputs[0]][0]

    def widths(self) -> dict[str, int]:
        """Filters of each weighted layer."""
        return {layer.name: self.shapes[layer.name][0] for layer in self.weighted()}

    def weights(self) -> dict[str, int]:
        return {layer.name: prod(self.weight_shape(layer)) for layer in self.weighted()}

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of one inference by layer, padding counted as work."""
        return {name: count * self.positions(name) for name, count in self.weights().items()}

    def positions(self, name: str) -> int:
        """How often an inference uses each weight of layer `name`: its outputs, or inputs where it is transposed."""
        layer = self[name]
        return prod(self.shapes[layer.inputs[0] if isinstance(layer.op, ConvTranspose) else name][1:])

    def peak_activations(self) -> int:
        """Largest number of elements alive at once, each tensor from its layer to its last reader (no in-place reuse)."""
        last = {name: len(self.layers) for name in self.outputs}
        for i in reversed(range(len(self.layers))):
            for name in self.layers[i].inputs:
                last.setdefault(name, i)
        live, peak = set(self.inputs), 0
        for i, layer in enumerate(self.layers):
            live.add(layer.name)
            peak = max(peak, sum(prod(self.shapes[name]) for name in live))
            live = {name for name in live if last.get(name, -1) > i}
        return peak

    def stem(self) -> list[str]:
        """Weighted layers that read an input, directly or through layers without weights."""
        raw, stem = set(self.inputs), []
        for layer in self.layers:
            if not raw.isdisjoint(layer.inputs):
                if isinstance(layer.op, WEIGHTED):
                    stem.append(layer.name)
                else:
                    raw.add(layer.name)
        return stem

    def head(self) -> list[str]:
        """Weighted layers that make an output, directly or through layers without weights."""
        final, head = set(self.outputs), []  # type: set[str], list[str]
        for layer in reversed(self.layers):
            if layer.name in final and isinstance(layer.op, WEIGHTED):
                head.insert(0, layer.name)
            elif layer.name in final:
                final.update(layer.inputs)
        return head

    # coupled channels

    @cached_property
    def _coupling(self) -> tuple[dict[str, np.ndarray], dict[str, Group]]:
        return couple(self.layers, self.shapes, tuple(self.inputs), self.outputs)

    @property
    def channels(self) -> dict[str, np.ndarray]:
        """Id of every channel of every tensor; channels with one id live or die together (residual, depthwise, concat)."""
        return self._coupling[0]

    @property
    def groups(self) -> dict[str, Group]:
        """Every channel id in one group, named after the first layer that makes it. Inputs included, as fixed."""
        return self._coupling[1]

    @property
    def channel_ids(self) -> int:
        """One more than the largest channel id."""
        return 1 + max(int(group.ids.max()) for group in self.groups.values())

    def alive(self, kept: Kept) -> dict[str, np.ndarray]:
        """bool per channel of every tensor."""
        flat = np.ones(self.channel_ids, bool)
        for name, mask in kept.items():
            flat[self.groups[name].ids] = mask
        return {name: flat[ids] for name, ids in self.channels.items()}

    def fill(self, kept: Kept, among: Kept | None = None) -> dict[str, np.ndarray]:
        """`kept`, and one channel of every tensor that would have none: the first of those that `among` keeps."""
        before, after = self.alive(among or {}), self.alive(kept)
        small_first = sorted(self.channels.items(), key=lambda item: len(item[1]))  # a slice's may do for its source
        revived: list[int] = []
        for name, ids in small_first:
            if not after[name].any() and not np.isin(ids, revived).any():
                revived.append(int(ids[before[name]][0]))
        return {name: mask | np.isin(self.groups[name].ids, revived) for name, mask in kept.items()}

    def narrow(self, kept: Kept) -> "Plan":
        """The plan without the channels that left."""
        alive = self.alive(kept)
        layers = []
        for layer in self.layers:
            op = layer.op
            source = alive[layer.inputs[0]]
            if isinstance(op, WEIGHTED):
                op = replace(op, out=int(alive[layer.name].sum()))
            if isinstance(op, Conv) and self.depthwise(layer):
                op = replace(op, groups=int(source.sum()))
            if isinstance(op, Gather):
                place = np.cumsum(source) - 1
                op = Gather(tuple(int(place[i]) for i in op.channels if source[i]))
            layers.append(replace(layer, op=op))
        return Plan(self.inputs, tuple(layers), self.outputs)

    def rows_columns(self, layer: Layer, kept: Kept) -> tuple[np.ndarray, np.ndarray]:
        """Which filters of a weighted layer, and which input channels of each filter, are left."""
        alive = self.alive(kept)
        rows, columns = np.flatnonzero(alive[layer.name]), alive[layer.inputs[0]]
        if self.depthwise(layer):
            return rows, np.arange(1)
        return rows, np.flatnonzero(columns[: self.weight_shape(layer)[1]])

    # JSON

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "layers": [
                {
                    "name": layer.name,
                    "op": type(layer.op).__name__,
                    "inputs": list(layer.inputs),
                    **op_to_json(layer.op),
                }
                for layer in self.layers
            ],
            "outputs": list(self.outputs),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Plan":
        """Inverse of `to_json`. Raises UnsupportedError for an unknown operation or a wrong field."""
        try:
            layers = tuple(
                Layer(_names([row["name"]])[0], op_from_json(row), _names(row["inputs"])) for row in data["layers"]
            )
            inputs = {name: sizes(shape) for name, shape in data["inputs"].items()}
            return Plan(inputs, layers, _names(data["outputs"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnsupportedError(f"plan: malformed field {error}") from error


def _names(values: Any) -> tuple[str, ...]:
    if type(values) is not list or not all(type(value) is str for value in values):
        raise UnsupportedError(f"plan: {values!r} is not a list of names")
    return tuple(values)


def _check_size(what: str, shape: Shape) -> Shape:
    """`shape` of a tensor; its dimensions are multiplied only as far as they stay small."""
    elements = 1
    for size in shape:
        elements *= size
        if not 1 <= elements <= MAX_ELEMENTS:
            raise UnsupportedError(f"{what} of {size} in one direction: a tensor has 1 to {MAX_ELEMENTS} elements")
    if len(shape) not in (1, 2, 3):
        raise UnsupportedError(f"{what} has {len(shape)} dimensions: 1 to 3 are possible")
    return shape
