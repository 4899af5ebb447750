"""What a network reaches, by running its ONNX file again.

A search counts in torch's float32, and an int8 file may answer otherwise on another kind of CPU: an example whose answer hangs on a
rounding may be answered either way. Figures come as `Near`, which allows for as many examples as there are of these, usually none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import tasks
from edgeticket.claims.leaves import Near
from edgeticket.data import Data
from edgeticket.datasets.arrays import Part
from edgeticket.reference import TOLERANCE
from edgeticket.targets import _confined
from edgeticket.tasks import Scored
from edgeticket.verify import EQUAL_ANSWERS
from exporters import to_onnx

FLOAT32 = 2 * TOLERANCE  # of a figure: two float32 computations beside each other
OTHER_CPU = 0.02  # of a figure of an int8 file, where it is not made of answers


@dataclass(frozen=True)
class Reached:
    """`doubt`: examples of each part that may be answered either way; `off`: by how much other figures may differ, relatively."""

    data: Data
    select: Scored
    certify: Scored
    doubt: int
    off: float

    def figures(self) -> dict[str, Any]:
        """What rows and rivals say of a network."""
        task = tasks.of(self.data)
        return {
            "select": self.near(task.headline(self.select), len(self.select.labels)),
            "certify": self.near(task.headline(self.certify), len(self.certify.labels)),
            "figures": self._all(task.figures(self.certify, self.select), len(self.certify.labels)),
        }

    def near(self, value: float, examples: int) -> Near:
        """Of a figure of so many examples; an interval moves by up to twice what its middle moves by."""
        return Near(value, 2 * self.doubt / examples + self.off * abs(value))

    def _all(self, value: Any, examples: int) -> Any:
        if isinstance(value, Mapping):
            n = value.get("of", examples)
            return {key: inner if key == "of" else self._all(inner, n) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._all(inner, examples) for inner in value]
        if isinstance(value, int):
            return Near(value, self.doubt)
        return self.near(value, examples) if isinstance(value, float) else value


def reached(onnx: bytes, data: Data) -> Reached:
    """Run on both parts what was just made of a ticket."""
    return _judged([to_onnx.run_bytes(onnx, part[0]) for part in (data.select, data.certify)], data, False, False)


def reached_by_files(paths: Sequence[Path], data: Data, elsewhere: bool) -> list[Reached]:
    """The same of files that came from anywhere. `elsewhere`: on another CPU than the one that they are compared with."""
    (select, _), (certify, _) = data.select, data.certify
    made = _confined.outputs(paths, np.concatenate([select, certify]), tasks.of(data).outputs(data))
    return [
        _judged(np.split(own, [len(select)]), data, "QuantizeLinear" in operations, elsewhere)
        for own, operations in made
    ]


def _judged(outputs: Sequence[np.ndarray], data: Data, int8: bool, elsewhere: bool) -> Reached:
    """Of the outputs for the select part and the certify part."""
    select, certify = (
        _scored(made, data, part) for made, part in zip(outputs, (data.select, data.certify), strict=True)
    )
    other = elsewhere and int8
    if int8:  # its outputs are few codes: two that are equal are so everywhere
        doubt = ceil((1 - EQUAL_ANSWERS) * max(len(select.labels), len(certify.labels))) if other else 0
    else:
        doubt = max(_doubtful(made, own, select, data) for made, own in zip(outputs, (select, certify), strict=True))
    return Reached(data, select, certify, doubt, OTHER_CPU if other else FLOAT32)


def _scored(outputs: np.ndarray, data: Data, part: Part) -> Scored:
    raw, y = part
    return Scored(tasks.of(data).score(outputs, data.input.apply(raw), y), y)


def _doubtful(outputs: np.ndarray, own: Scored, select: Scored, data: Data) -> int:
    """Examples whose answer hangs on a rounding: their two largest outputs, or score and threshold, are as good as equal."""
    if data.task == "classification":
        first, second = np.sort(outputs, axis=1)[:, :-3:-1].T
        return int((first - second <= FLOAT32 * np.abs(outputs).max()).sum())
    if data.task == "anomaly":
        threshold = tasks.of(data).figures(own, select)["threshold"]
        return int((np.abs(own.values - threshold) <= FLOAT32 * threshold).sum())
    return 0
