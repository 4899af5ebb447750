"""What stands between a sensor and a network: a frame that is no measurement gets a status, never a label.

Faults: wrong type, wrong shape, values that are not finite or out of range, a constant channel, the same frame again and again.
Alarms, beside a label: a run of frames that has drifted (`drift`, until `reset`), and a frame unlike those that were learned from
(`unfamiliar`). edgeticket/drift.py has the statistics behind alarms; docs/guard.md says what they see and what they do not.
"""

import json
from collections.abc import Callable, Sequence
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeticket.drift import LEAST_RATE, STATISTICS, Limits, Seen, limits, of_all
from edgeticket.drift import MOST as MOST_VALUES
from edgeticket.errors import BundleError, UnsupportedError, UsageError
from edgeticket.watch import KINDS, Rules, Status, Watch, compiled_watch, ends

if TYPE_CHECKING:
    from edgeticket.data import Data

FORMAT = "edgeticket-guard 2"
LIMITS = ("lower", "upper", "low", "high", "limit")
MARGIN = 0.1  # of what lies between the smallest and the largest training value, on both sides
MOST = 1 << 16  # statistics of a frame, times means
_WHOLE = 1 << 53  # integers below are exact in float64


class Guard:
    """One sensor's: it remembers the frames before. Calls from several threads are taken one after the other.

    `compiled`: whether C judges the frames, where it was built at installation, or numpy, which says the same and takes longer.
    `watch`: has the same `check` and `follow`, without a call in between.
    """

    def __init__(self, rules: Rules, *, compiled: bool = True) -> None:
        core = compiled_watch(rules) if compiled else None
        self.rules, self.compiled, self.watch = rules, core is not None, core or Watch(rules)

    @classmethod
    def fit(
        cls,
        data: "Data",
        answers: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        rate: float = 0.01,
        confidence: float = 0.95,
        windows: int = 200,
        stuck: int = 3,
        margin: float = MARGIN,
    ) -> "Guard":
        """From the parts `train` (what frames are like) and `select` (how far clean ones stray; normal ones, if some are not).

        `answers`: the network's classes, int [n], of raw frames [n, *shape]; a frame then counts towards a drift with those of its
        class. None, or a class that no frame had: with all. `rate`: of false alarms of one frame, at most, with `confidence`; and of
        runs of so many `windows`. Raises UsageError for numbers that mean nothing, UnsupportedError for frames that are too large,
        InsufficientDataError with the number of select frames that it takes.
        """
        _require(rate, confidence, windows, stuck, margin)
        train, (select, labels) = data.train[0], data.select
        select = select[labels == 0] if data.task == "anomaly" else select
        answer = answers or (lambda frames: np.zeros(len(frames), int))
        seen, held_out = (Seen(of_all(x), answer(x)) for x in (train, select))
        kind, given = train.dtype, np.concatenate([seen.answers, held_out.answers])
        means = 1 + max(len(data.classes), 1 + int(given.max())) if answers else 1
        if means * seen.found.shape[1] > MOST:
            raise UnsupportedError(
                f"{len(train[0])} channels and {means} means: a guard takes {MOST} statistics of all means at most; give fewer"
            )
        rates = {"rate": rate, "confidence": confidence}
        found = limits(seen, held_out, means, windows=windows, whole=kind != np.float32, **rates)
        smallest, largest = ends(seen.found, train.shape[1:])
        least, most = _range(smallest.min(0), largest.max(0), kind, margin)
        flat = (smallest == largest).any(0)
        return cls(Rules(train.shape[1:], kind.name, least, most, flat, stuck, rate, windows, len(select), found))

    def check(self, frame: np.ndarray) -> Status:
        """A fault, UNFAMILIAR or OK: the next frame, raw as the sensor gives it, without a batch axis."""
        return self.watch.check(frame)

    def follow(self, answer: int = 0) -> bool:
        """Whether frames have drifted, the last that was checked among them; it counts once, and not if it had a fault.

        `answer`: the network's class of it; nothing where `answers` was not given to `fit`. Calls for one frame follow its `check`:
        threads that share a guard need a lock around both.
        """
        return self.watch.follow(answer)

    def judge(self, frame: np.ndarray, answer: int = 0) -> Status:
        """`check` and `follow` together, where the answer is known already."""
        status = self.watch.check(frame)
        return Status.DRIFT if not status.fault and self.watch.follow(answer) else status

    def reset(self) -> None:
        """Forget the frames before, and a drift that was seen: after the sensor was looked after."""
        self.watch.reset()

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
            "means": len(own.low),
            **{name: list(map(number, getattr(own, name).reshape(-1))) for name in LIMITS},
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
    if dtype not in KINDS or not 1 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError("shape or type")
    channels = shape[0]
    values = prod(shape[1:])
    size = channels * (len(STATISTICS) if values > 1 else 1)
    if size > MOST or values > MOST_VALUES:
        raise ValueError("size")
    means = int(value["means"])
    if not 1 <= means <= MOST // size:
        raise ValueError("means")
    lower, upper, limit = (_numbers(value[name], size, dtype) for name in ("lower", "upper", "limit"))
    low, high = (_numbers(value[name], means * size, dtype).reshape(means, size) for name in ("low", "high"))
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
