"""What stands between a sensor and a network: a frame that is no measurement gets a status, never a label.

Faults: wrong type, wrong shape, values that are not finite or out of range, a constant channel, the same frame again and again.
Alarms, beside a label: a run of frames that has drifted (`drift`, until `reset`), and a frame unlike those that were learned from
(`unfamiliar`). edgeticket/drift.py has the statistics behind alarms; docs/guard.md says what they see and what they do not.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeticket.drift import LEAST_RATE, MAXIMUM, MINIMUM, STATISTICS, Limits, limits, of_all, statistics
from edgeticket.errors import BundleError, UsageError

if TYPE_CHECKING:
    from edgeticket.data import Data

FORMAT = "edgeticket-guard 1"
DTYPES = ("uint8", "int16", "float32")
LIMITS = ("lower", "upper", "low", "high", "limit")
MARGIN = 0.1  # of what lies between the smallest and the largest training value, on both sides
MOST = 1 << 16  # statistics of a frame
_WHOLE = 1 << 53  # integers below are exact in float64


class Status(StrEnum):
    """In the order in which they are looked for: a frame has the first that holds, or is ok."""

    DTYPE = "dtype"
    SHAPE = "shape"
    NOT_FINITE = "not-finite"
    RANGE = "range"
    CONSTANT = "constant"
    STUCK = "stuck"
    DRIFT = "drift"
    UNFAMILIAR = "unfamiliar"
    OK = "ok"

    @property
    def fault(self) -> bool:
        """Nothing was measured: there is no label."""
        return self not in (Status.OK, Status.DRIFT, Status.UNFAMILIAR)


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


class Guard:
    """One sensor's: it remembers the frames before. Calls from several threads are taken one after the other."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._dtype, self._channels = np.dtype(rules.dtype), rules.shape[0]
        self._varies = prod(rules.shape[1:]) > 1
        self._lock = threading.Lock()
        self.reset()

    @classmethod
    def fit(
        cls,
        data: "Data",
        *,
        rate: float = 0.01,
        confidence: float = 0.95,
        windows: int = 200,
        stuck: int = 3,
        margin: float = MARGIN,
    ) -> "Guard":
        """From the parts `train` (what frames are like) and `select` (how far clean ones stray; normal ones, if some are not).

        `rate`: of false alarms of one frame, at most, with `confidence`; and of runs of so many `windows`. Raises UsageError for
        numbers that mean nothing, InsufficientDataError with the number of select frames that it takes.
        """
        _require(rate, confidence, windows, stuck, margin)
        train, (select, labels) = data.train[0], data.select
        select = select[labels == 0] if data.task == "anomaly" else select
        seen, kind = of_all(train), train.dtype
        found = limits(
            seen, of_all(select), rate=rate, confidence=confidence, windows=windows, whole=kind != np.float32
        )
        smallest, largest = _ends(seen, train.shape[1:])
        least, most = _range(smallest.min(0), largest.max(0), kind, margin)
        flat = (smallest == largest).any(0)
        return cls(Rules(train.shape[1:], kind.name, least, most, flat, stuck, rate, windows, len(select), found))

    def check(self, frame: np.ndarray) -> Status:
        """The status of the next frame, raw as the sensor gives it, without a batch axis."""
        if not isinstance(frame, np.ndarray) or frame.dtype != self._dtype:
            return Status.DTYPE
        if frame.shape != self.rules.shape:
            return Status.SHAPE
        if self._dtype.kind == "f" and not np.isfinite(frame).all():
            return Status.NOT_FINITE
        found = statistics(frame.reshape(-1), self._channels)
        with self._lock:
            return self._fault(found) or self._alarm(found)

    def reset(self) -> None:
        """Forget the frames before, and a drift that was seen: after the sensor was looked after."""
        with self._lock:
            size = len(self.rules.limits.limit)
            self._last, self._times = b"", 0
            self._up, self._down, self._drifted = np.zeros(size), np.zeros(size), False

    def _fault(self, found: np.ndarray) -> Status | None:
        rules, same = self.rules, found.tobytes()
        self._times = self._times + 1 if same == self._last else 1
        self._last = same
        least, most = _ends(found, rules.shape)
        if (least < rules.least).any() or (most > rules.most).any():
            return Status.RANGE
        if self._varies and ((least == most) & ~rules.flat).any():
            return Status.CONSTANT
        return Status.STUCK if 0 < rules.stuck <= self._times else None

    def _alarm(self, found: np.ndarray) -> Status:
        own = self.rules.limits
        cut = np.minimum(np.maximum(found, own.lower), own.upper)
        self._up = np.maximum(self._up + (cut - own.high), 0)
        self._down = np.maximum(self._down + (own.low - cut), 0)
        self._drifted = self._drifted or bool((np.maximum(self._up, self._down) > own.limit).any())
        if self._drifted:
            return Status.DRIFT
        return Status.OK if (cut == found).all() else Status.UNFAMILIAR

    def to_json(self) -> dict[str, Any]:
        """The rules; nothing of what was seen."""
        rules, own = self.rules, self.rules.limits
        number = float if rules.dtype == "float32" else int
        return {
            "format": FORMAT,
            "shape": list(rules.shape),
            "dtype": rules.dtype,
            "least": list(map(number, rules.least)),
            "most": list(map(number, rules.most)),
            "flat": list(map(bool, rules.flat)),
            "stuck": rules.stuck,
            "rate": rules.rate,
            "windows": rules.windows,
            "held_out": rules.held_out,
            "confidence": own.confidence,
            **{name: list(map(number, getattr(own, name))) for name in LIMITS},
        }

    @classmethod
    def from_json(cls, value: Any) -> "Guard":
        """The inverse of `to_json`. Raises BundleError, code `guard`, for anything that `to_json` does not give."""
        try:
            guard = cls(_rules(value))
            same = _canonical(guard.to_json()) == _canonical(value)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BundleError("guard", "the guard is damaged, or of another version") from error
        if not same:
            raise BundleError("guard", "the guard is not in the form that it is written in")
        return guard


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _require(rate: float, confidence: float, windows: int, stuck: int, margin: float) -> None:
    if not (LEAST_RATE <= rate < 1 and 0 < confidence <= 0.99):
        raise UsageError(
            f"rate {rate}, confidence {confidence}: a rate is {LEAST_RATE} or more and a confidence 0.99 or less, for example 0.01 and 0.95"
        )
    if windows < 1 or stuck < 0 or stuck == 1 or not 0 <= margin < float("inf"):
        raise UsageError(
            f"windows {windows}, stuck {stuck}, margin {margin}: take 1 or more windows, stuck from 2 on (0: never), and a "
            "margin of 0 or more"
        )


def _ends(found: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each channel [..., channels], from the statistics of frames of `shape`."""
    channels = found.reshape(*found.shape[:-1], shape[0], -1)
    if prod(shape[1:]) == 1:
        return channels[..., 0], channels[..., 0]
    return channels[..., MINIMUM], channels[..., MAXIMUM]


def _range(least: np.ndarray, most: np.ndarray, kind: np.dtype, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """What each channel may give: what it gave, and a margin, within its type."""
    room = margin * (most - least)
    if kind == np.float32:
        return least - room, most + room
    ends = np.iinfo(kind)
    return np.maximum(np.floor(least - room), ends.min), np.minimum(np.ceil(most + room), ends.max)


def _rules(value: dict[str, Any]) -> Rules:
    """Raises KeyError, TypeError, ValueError or OverflowError where there is no such guard."""
    shape, dtype = tuple(map(int, value["shape"])), value["dtype"]
    if dtype not in DTYPES or not 1 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError("shape or type")
    channels = shape[0]
    size = channels * (len(STATISTICS) if prod(shape[1:]) > 1 else 1)
    if size > MOST:
        raise ValueError("size")
    lower, upper, low, high, limit = (_numbers(value[name], size, dtype) for name in LIMITS)
    least, most = (_numbers(value[name], channels, dtype) for name in ("least", "most"))
    flat = np.array([flag is True for flag in value["flat"]], bool)
    shares = [float(value[name]) for name in ("rate", "confidence")]
    counts = [int(value[name]) for name in ("windows", "stuck", "held_out")]
    ordered = (lower <= upper).all() and (low <= high).all() and (least <= most).all() and (limit >= 0).all()
    if not (ordered and len(flat) == channels and all(0 < share < 1 for share in shares)) or min(counts) < 0:
        raise ValueError("limits")
    own = Limits(lower, upper, low, high, limit, shares[1])
    return Rules(shape, dtype, least, most, flat, counts[1], shares[0], counts[0], counts[2], own)


def _numbers(values: Sequence[Any], size: int, dtype: str) -> np.ndarray:
    """float64 [size]: finite numbers, whole ones for integer sensors."""
    kind = float if dtype == "float32" else int
    if len(values) != size or not all(type(v) is kind and isfinite(v) for v in values):
        raise ValueError("numbers")
    if kind is int and max(map(abs, values)) >= _WHOLE:
        raise ValueError("too large")
    return np.array(values, np.float64)
