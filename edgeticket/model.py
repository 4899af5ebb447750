"""A network ready for any runtime: a narrow plan and, per layer, weight = scale[filter] * value.

Values are small integers for tickets (a sum of kept random signs), int8 for learned layers, float for imported or trained
controls, so every exporter and every bench serves all of them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from edgeticket import prng
from edgeticket.plan import Plan
from edgeticket.ticket import Input, Quant, Target


@dataclass(frozen=True)
class Signs:
    """Frozen random signs, some of them kept. `rows`, `columns`: kept filters and input channels, by their wide index."""

    seed: int
    layer: int
    mask: np.ndarray  # bool [filters, edges, inputs, *kernel]
    rows: np.ndarray
    columns: np.ndarray
    flips: np.ndarray | None = None  # bool like mask: signs that were learned to differ from the seed's

    def edge_signs(self) -> np.ndarray:
        """int8 like `mask`: the sign of every edge, kept or not."""
        taps = prod(self.mask.shape[3:])
        positions = (self.columns[:, None] * taps + np.arange(taps)).reshape(-1)
        edges = [prng.signs(self.seed, self.layer, edge, self.rows, positions) for edge in range(self.mask.shape[1])]
        signs = np.stack(edges, 1).reshape(self.mask.shape)
        return signs if self.flips is None else np.where(self.flips, -signs, signs)

    @cached_property
    def values(self) -> np.ndarray:
        """int8 [filters, inputs, *kernel]: the sum of the kept signs of each connection."""
        return (self.edge_signs() * self.mask).sum(1, dtype=np.int8)

    @property
    def kept(self) -> int:
        return int(self.mask.sum())


@dataclass(frozen=True)
class Int8:
    values: np.ndarray

    @property
    def kept(self) -> int:
        return self.values.size


@dataclass(frozen=True)
class Float:
    values: np.ndarray  # float32

    @property
    def kept(self) -> int:
        return self.values.size


Weights = Signs | Int8 | Float
Raw = np.ndarray | Mapping[str, np.ndarray]  # sensor values [batch, *shape]; of a network with several inputs, by name


@dataclass(frozen=True)
class Model:
    """`scale`, `bias`, `slope`: float32 per channel of layers that have them. `digest` identifies what is computed, not how it is stored."""

    plan: Plan
    weights: Mapping[str, Weights]
    scale: Mapping[str, np.ndarray]
    bias: Mapping[str, np.ndarray]
    inputs: Mapping[str, Input]
    quant: Mapping[str, Quant]
    task: str = "classification"
    slope: Mapping[str, np.ndarray] = field(default_factory=dict)
    target: Target | None = None

    def weight(self, name: str) -> np.ndarray:
        """float32 [filters, inputs, *kernel], one rounding: float32(value) * float32(scale)."""
        values = self.weights[name].values
        scale = self.scale[name].astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        return values.astype(np.float32) * scale

    def in_units(self, output: np.ndarray) -> np.ndarray:
        """The first output in the units of the task: of a regression, those of its targets."""
        return self.target.apply(output) if self.target else output

    def kept_macs(self) -> dict[str, int]:
        """Multiply-accumulates that a kernel with add and subtract lists does, by layer."""
        return {name: weights.kept * self.plan.positions(name) for name, weights in self.weights.items()}

    def random_inputs(self, count: int) -> Raw:
        """The same raw sensor values every time, [count, *shape] of each input.

        Over all of uint8; of other sensors over what the input's quantisation covers, or -1 to 1 where it has none.
        """
        rng = np.random.default_rng(0)
        made = {name: self._random_input(name, count, rng) for name in self.inputs}
        return made if len(made) > 1 else next(iter(made.values()))

    def _random_input(self, name: str, count: int, rng: np.random.Generator) -> np.ndarray:
        sensor, shape, quant = self.inputs[name], self.plan.shapes[name], self.quant.get(name)
        if sensor.dtype == "uint8":
            return rng.integers(0, 256, (count, *shape), np.uint8)
        low, high = ((code - quant.zero_point) * quant.scale for code in (0, 255)) if quant else (-1.0, 1.0)
        offset, step = np.reshape((sensor.offset, sensor.step), (2, -1, *[1] * (len(shape) - 1)))
        raw = rng.uniform(low, high, (count, *shape)) / step + offset
        if sensor.dtype == "int16":
            raw = np.clip(np.rint(raw), -(1 << 15), (1 << 15) - 1)
        return raw.astype(sensor.dtype)

    @property
    def digest(self) -> str:
        """SHA-256 over the plan, the weights, the values per channel and the maps of inputs and targets."""
        maps: list[Any] = [{name: asdict(sensor) for name, sensor in self.inputs.items()}]
        maps += [asdict(self.target)] if self.target else []
        whole = hashlib.sha256(json.dumps([self.plan.to_json(), *maps], sort_keys=True).encode())
        for name in sorted(self.weights):
            whole.update(self.weight(name).tobytes())
        norms = {name: scale for name, scale in self.scale.items() if name not in self.weights}
        for values in (norms, self.bias, self.slope):
            for name in sorted(values):
                whole.update(values[name].astype(np.float32).tobytes())
        return whole.hexdigest()
