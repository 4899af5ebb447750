"""A trained ReLU network as plain arrays: what `edgeticket construct` approximates.

y = W_L relu(... relu(W_1 x + b_1) ...) + b_L, for x = (the example as stored, flattened, - offset) * step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.datasets import npz
from edgeticket.errors import DataError

MAX_LAYERS = 16
LARGEST = 1e9  # magnitude of a value
HELP = "w1 [outputs, inputs], b1 [outputs], w2, b2 and so on, floats; offset and step (one value, or one an input) may be left out"


@dataclass(frozen=True)
class ReluNetwork:
    """`layers`: (W [outputs, inputs], b [outputs]) in float64, ReLU between them; `offset`, `step`: [] or [inputs]."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    offset: np.ndarray
    step: np.ndarray

    @property
    def parameters(self) -> int:
        return sum(weights.size + bias.size for weights, bias in self.layers)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `parse` reads."""
        named = {
            f"{name}{i}": array
            for i, layer in enumerate(self.layers, 1)
            for name, array in zip("wb", layer, strict=True)
        }
        return {"offset": self.offset, "step": self.step, **named}

    def examples(self, x: np.ndarray) -> np.ndarray:
        """float64 [n, inputs] of raw examples [n, ...]. Raises DataError where they are of another size."""
        flat, wanted = x.reshape(len(x), -1).astype(np.float64), self.layers[0][0].shape[1]
        if flat.shape[1] != wanted:
            raise DataError(f"an example has {flat.shape[1]} values, the network reads {wanted}: give its own data")
        return (flat - self.offset) * self.step

    def homogeneous(self) -> tuple[list[np.ndarray], float]:
        """Matrices A_i of norm 1, and a scale: y = scale * A_L relu(... relu(A_1 (x, 1))).

        A bias is the weight of a constant input 1, which every layer but the last hands on; ReLU is homogeneous, so every
        matrix can be divided by its spectral norm.
        """
        last, matrices, scale = len(self.layers) - 1, [], 1.0
        for i, (weights, bias) in enumerate(self.layers):
            matrix = np.concatenate([weights, bias[:, None]], axis=1)
            if i < last:
                matrix = np.concatenate([matrix, np.eye(1, matrix.shape[1], matrix.shape[1] - 1)])
            norm = float(np.linalg.norm(matrix, 2))
            matrices.append(matrix / norm)
            scale *= norm
        return matrices, scale


def outputs(matrices: Sequence[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """What every layer gives for x [n, inputs], after its ReLU but for the last."""
    found = []
    for matrix in matrices[:-1]:
        x = np.maximum(x @ matrix.T, 0)
        found.append(x)
    return [*found, x @ matrices[-1].T]


def read(path: Path) -> ReluNetwork:
    """From an .npz file. Raises DataError where it holds something else."""
    arrays = npz.read(path).arrays
    try:
        return parse(arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def parse(arrays: Mapping[str, Any]) -> ReluNetwork:
    """Raises DataError, which says what is missing or does not fit."""
    count = sum(name.startswith("w") for name in arrays)
    expected = [f"{name}{i}" for i in range(1, count + 1) for name in "wb"]
    unknown = sorted(arrays.keys() ^ {*expected, *arrays.keys() & {"offset", "step"}})
    if unknown or not 1 <= count <= MAX_LAYERS:
        raise DataError(
            f"{', '.join(unknown) or 'its layers'}: missing, unknown or more than {MAX_LAYERS}: store {HELP}"
        )
    floats = {name: _floats(name, arrays[name]) for name in arrays}
    layers = tuple((floats[f"w{i}"], floats[f"b{i}"]) for i in range(1, count + 1))
    for i, (weights, bias) in enumerate(layers, 1):
        if weights.ndim != 2 or not weights.size or bias.shape != weights.shape[:1] or not weights.any():
            raise DataError(f"w{i} {weights.shape}, b{i} {bias.shape}: store {HELP}, not all zero")
    for i, ((first, _), (second, _)) in enumerate(pairwise(layers), 1):
        if second.shape[1] != first.shape[0]:
            raise DataError(
                f"w{i + 1} reads {second.shape[1]} values, w{i} gives {first.shape[0]}: layers must follow one another"
            )
    offset, step = floats.get("offset", np.zeros(())), floats.get("step", np.ones(()))
    if any(each.shape not in ((), layers[0][0].shape[1:]) for each in (offset, step)):
        raise DataError(f"offset {offset.shape}, step {step.shape}: one value, or one for each input")
    return ReluNetwork(layers, offset, step)


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" or not (np.abs(array) <= LARGEST).all():
        raise DataError(f"{name} is {array.dtype}, or not finite or beyond {LARGEST:g}: store {HELP}")
    return array.astype(np.float64)
