"""Rules at work: a status for each frame of a sensor, from it and from those before.

`Watch` computes with numpy. edgeticket/_watch.c has one that says the same of every frame in a single call, built where a compiler was at
hand; for integer sensors so does exporters/c/guard.h on a device. What they say, and when: docs/guard.md.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum
from math import prod

import numpy as np

from edgeticket.drift import MAXIMUM, MINIMUM, Limits, statistics

try:
    from edgeticket._watch import Watch as Compiled
except ImportError:  # no compiler was at hand
    Compiled = None

KINDS = {"uint8": "B", "int16": "h", "float32": "f"}  # dtype -> numpy's letter for it
FOREVER = 2**63 - 1


class Status(StrEnum):
    """In the order in which they are looked for: a frame has the first that holds, or is ok. `fault`: nothing was measured, and
    there is no label; an attribute, for a property takes longer than C does for a small frame."""

    fault: bool

    DTYPE = "dtype"
    SHAPE = "shape"
    NOT_FINITE = "not-finite"
    RANGE = "range"
    CONSTANT = "constant"
    STUCK = "stuck"
    DRIFT = "drift"
    UNFAMILIAR = "unfamiliar"
    OK = "ok"

    def __init__(self, word: str) -> None:
        self.fault = word not in ("drift", "unfamiliar", "ok")


@dataclass(frozen=True)
class Rules:
    """What a guard knows of frames of `shape`, channels first, and `dtype`.

    `least`, `most`: values of each channel that are in range. `flat`: whether a channel may be constant. `stuck`: the same frame so
    many times is a fault; 0: never. `held_out`: how many frames set the limits, for a false-alarm `rate` of one frame, and of a run
    of `windows` frames.
    """

    shape: tuple[int, ...]
    dtype: str
    least: np.ndarray
    most: np.ndarray
    flat: np.ndarray
    stuck: int
    rate: float
    windows: int
    held_out: int
    limits: Limits


class Watch:
    """Calls from several threads are taken one after the other."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._dtype, self._channels = np.dtype(rules.dtype), rules.shape[0]
        self._varies, self._drifted = prod(rules.shape[1:]) > 1, False
        self._up = self._down = np.zeros(0)
        self._lock = threading.Lock()
        self.reset()

    def check(self, frame: np.ndarray) -> Status:
        """A fault, UNFAMILIAR or OK."""
        with self._lock:
            status = self._judge(frame)
            self._fresh = not status.fault
            return status

    def follow(self, answer: int) -> bool:
        """Count the frame that was checked last, if it had no fault, with those of the same answer; whether frames have drifted."""
        own = self.rules.limits
        row = int(answer) if 0 <= answer < len(own.low) else -1
        with self._lock:
            if self._fresh:
                cut = np.minimum(np.maximum(self._found, own.lower), own.upper)
                self._up = np.maximum(self._up + (cut - own.high[row]), 0)
                self._down = np.maximum(self._down + (own.low[row] - cut), 0)
                self._drifted = self._drifted or bool((np.maximum(self._up, self._down) > own.limit).any())
            self._fresh = False
            return self._drifted

    def reset(self) -> None:
        with self._lock:
            size = len(self.rules.limits.limit)
            self._found, self._times, self._fresh = np.full(size, np.nan), 0, False
            self._up, self._down, self._drifted = np.zeros(size), np.zeros(size), False

    def _judge(self, frame: np.ndarray) -> Status:
        if not isinstance(frame, np.ndarray) or frame.dtype != self._dtype:
            return Status.DTYPE
        if frame.shape != self.rules.shape:
            return Status.SHAPE
        values = np.asarray(frame).reshape(-1)
        if self._dtype.kind == "f" and not np.isfinite(values).all():
            return Status.NOT_FINITE
        found = statistics(values, self._channels)
        own = self.rules.limits
        inside = (own.lower <= found).all() and (found <= own.upper).all()
        return self._fault(found) or (Status.OK if inside else Status.UNFAMILIAR)

    def _fault(self, found: np.ndarray) -> Status | None:
        rules = self.rules
        self._times = self._times + 1 if np.array_equal(found, self._found) else 1
        self._found = found
        least, most = ends(found, rules.shape)
        if (least < rules.least).any() or (most > rules.most).any():
            return Status.RANGE
        if self._varies and ((least == most) & ~rules.flat).any():
            return Status.CONSTANT
        return Status.STUCK if 0 < rules.stuck <= self._times else None


def compiled_watch(rules: Rules) -> Watch | None:
    """A watch in C that says what `Watch` says; None where it was not built."""
    if Compiled is None:
        return None
    own = rules.limits
    edges = own.low.reshape(-1), own.high.reshape(-1)
    numbers = (own.lower, own.upper, own.limit, rules.least, rules.most, rules.flat, *edges)
    kind, stuck = KINDS[rules.dtype], min(rules.stuck, FOREVER)
    watch: Watch = Compiled(tuple(Status), rules.shape, kind, stuck, np.concatenate(numbers, dtype=np.float64))
    return watch


def ends(found: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each channel [..., channels], from the statistics of frames of `shape`."""
    channels = found.reshape(*found.shape[:-1], shape[0], -1)
    if prod(shape[1:]) == 1:
        return channels[..., 0], channels[..., 0]
    return channels[..., MINIMUM], channels[..., MAXIMUM]
