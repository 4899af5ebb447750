"""Cheap statistics of a frame, and the limits beyond which one frame, or a run of them, is not what the sensor used to give.

Of each channel: sum, sum of squares, sum of |x[i+1] - x[i]| in the order of memory, how many of these are not 0, minimum, maximum.
Of a channel with one value the sum alone. Everything is float64; what an integer sensor gives stays an exact integer below 2^53, and what a
float sensor gives is summed one value after the other, so C computes the same.

One frame is judged by the largest |statistic - mean| / deviation. Its limit is an order statistic of held-out frames: with m of
n frames beyond it, the true rate of such frames is at most `rate` with confidence 1 - P(Binomial(n, rate) <= m) (Wilks 1941;
as a split-conformal set with that confidence: Vovk, Conditional validity of inductive conformal predictors, 2012).
A run is judged by two-sided CUSUMs (Page 1954) of the same statistics, cut off at the limits of one frame so that no single frame
decides, about the mean of frames with the same answer of the network: what a line makes more of today is no drift.
"""

from dataclasses import dataclass
from math import ceil, exp, log, log1p, prod

import numpy as np

from edgeticket.errors import InsufficientDataError, UnsupportedError

STATISTICS = ("sum", "squares", "steps", "changes", "minimum", "maximum")
MINIMUM, MAXIMUM = STATISTICS.index("minimum"), STATISTICS.index("maximum")
MOST = 1 << 22  # values of a channel: the squares of int16 then sum up to 2^52 at most
SLACK = 0.25  # deviations by which a mean may be off unseen: shifts from twice that on are what a CUSUM is fastest at
LEAST_FRAMES = 30  # held out with one answer, for runs of that answer alone to count
RUNS, SEED = 4000, 1
RESAMPLE = 1000  # frames at most, of those held out, that one run draws from
LEAST_RATE = 0.001  # that RUNS can tell
_BLOCK = 1 << 20  # values that are worked on together


@dataclass(frozen=True)
class Limits:
    """float64, whole numbers for an integer sensor: `low` and `high` [means, statistics], the others [statistics].

    One frame: `lower` <= statistic <= `upper`. A run: CUSUMs of what it is above `high` and below `low` of its answer, or else of the
    last row, stay at most at `limit`. `confidence`: that one frame in 1 / rate, at most, is beyond its limits; of the same frames as
    those that were held out.
    """

    lower: np.ndarray
    upper: np.ndarray
    low: np.ndarray
    high: np.ndarray
    limit: np.ndarray
    confidence: float


def statistics(frames: np.ndarray, channels: int) -> np.ndarray:
    """float64 [..., channels * kinds] of finite values [..., channels * values]."""
    x = frames.reshape(*frames.shape[:-1], channels, -1).astype(np.float64)
    whole = frames.dtype.kind != "f"
    total = _sums(x, whole)
    if x.shape[-1] == 1:
        return total
    found = np.empty((*total.shape, len(STATISTICS)))
    found[..., 0] = total
    steps = np.abs(x[..., 1:] - x[..., :-1])
    found[..., 2] = _sums(steps, whole)
    found[..., 3] = np.count_nonzero(steps, -1)
    np.minimum.reduce(x, -1, out=found[..., MINIMUM])
    np.maximum.reduce(x, -1, out=found[..., MAXIMUM])
    found[..., 1] = _sums(np.multiply(x, x, out=x), whole)
    return found.reshape(*total.shape[:-1], -1)


def _sums(x: np.ndarray, whole: bool) -> np.ndarray:
    """Sums [...] of x [..., values]: of whole numbers exact; of others one value after the other, where `reduce` would add pairs."""
    return np.add.reduce(x, -1) if whole else np.add.accumulate(x, -1)[..., -1]


def of_all(x: np.ndarray) -> np.ndarray:
    """Statistics [n, channels * kinds] of frames [n, channels, ...]. Raises UnsupportedError for frames that are too large."""
    channels, values = x.shape[1], prod(x.shape[2:])
    if values > MOST:
        raise UnsupportedError(f"{values} values in a channel: a guard takes {MOST} at most; give smaller frames")
    rows = max(1, _BLOCK // (channels * values))
    blocks = [x[i : i + rows].reshape(-1, channels * values) for i in range(0, len(x), rows)]
    return np.concatenate([statistics(block, channels) for block in blocks])


@dataclass(frozen=True)
class Seen:
    """Frames, by their statistics [n, statistics], and what the network answered, int [n]."""

    found: np.ndarray
    answers: np.ndarray


def limits(
    train: Seen, held_out: Seen, means: int, *, rate: float, confidence: float, windows: int, whole: bool
) -> Limits:
    """Limits from training frames, at false-alarm rates that held-out frames set; `means`: one for each answer, and that of all.

    `rate`: of one frame, with `confidence`; and of a run of `windows` frames, by drawing such runs from the held-out frames, and from those
    with one answer alone where they are LEAST_FRAMES. `whole`: limits are whole numbers. Raises InsufficientDataError where the
    held-out frames are too few, with how many it takes.
    """
    beyond, reached = _beyond(len(held_out.found), rate, confidence)
    floor = 1.0 if whole else 1e-6 * max(float(np.abs(train.found).max()), 1e-12)
    mean, deviation = train.found.mean(0), np.maximum(train.found.std(0), floor)
    farthest = np.sort(np.max(np.abs(held_out.found - mean) / deviation, axis=1))[-1 - beyond]
    lower, upper = mean - farthest * deviation, mean + farthest * deviation
    if whole:
        lower, upper = np.floor(lower), np.ceil(upper)
    cut = np.clip(train.found, lower, upper)
    middle = _means(cut, train.answers, means)
    deviation = np.maximum(np.sqrt(np.mean((cut - middle[train.answers]) ** 2, 0)), floor)
    low, high = middle - SLACK * deviation, middle + SLACK * deviation
    within = (np.clip(held_out.found, lower, upper) - middle[held_out.answers]) / deviation
    alone = [within[held_out.answers == answer] for answer in range(means - 1)]
    runs = [within, *(own for own in alone if len(own) >= LEAST_FRAMES)]
    last = -1 - _beyond(RUNS, rate, confidence)[0]
    limit = max(np.sort(_highest(own, windows))[last] for own in runs) * deviation
    if whole:
        low, high, limit = np.floor(low), np.ceil(high), np.ceil(limit)
    return Limits(lower, upper, low, high, limit, reached)


def _means(values: np.ndarray, answers: np.ndarray, count: int) -> np.ndarray:
    """[count, statistics]: of the frames with each answer, of all where there are none."""
    own = [values[answers == answer] for answer in range(count)]
    return np.stack([(each if len(each) else values).mean(0) for each in own])


def _beyond(n: int, rate: float, confidence: float) -> tuple[int, float]:
    """How many of n held-out frames may lie beyond a limit, and the confidence that this gives, at least what is asked for."""
    missing = exp(n * log1p(-rate))  # P(Binomial(n, rate) <= 0)
    if missing > 1 - confidence:
        needed = ceil(log(1 - confidence) / log1p(-rate))
        raise InsufficientDataError(
            f"{n} held-out frames cannot show a false-alarm rate of {rate:.2%} with confidence {confidence:.0%}: {needed} can; "
            f"give more data, or ask for a higher rate or less confidence (these show it with {1 - missing:.0%})"
        )
    k = np.arange(1, n)
    log_ratios = np.log((n - k + 1) / k) + log(rate) - log1p(-rate)  # of P(Binomial(n, rate) = k) to that of k - 1
    log_terms = n * log1p(-rate) + np.concatenate([[0.0], np.cumsum(log_ratios)])
    at_most = np.cumsum(np.exp(log_terms))  # P(Binomial(n, rate) <= k) [n]: the first terms may be 0
    beyond = int(np.searchsorted(at_most, 1 - confidence, side="right")) - 1
    return beyond, 1 - float(at_most[beyond])


def _highest(z: np.ndarray, windows: int) -> np.ndarray:
    """The largest CUSUM in any of the statistics z [n, statistics], in deviations, in each of RUNS runs of so many frames [RUNS].

    Each run draws from its own resample of the frames, so that how few they are counts too.
    """
    random = np.random.RandomState(SEED)  # numpy keeps this generator's stream frozen (NEP 19)
    up, down, highest = np.zeros((RUNS, z.shape[1])), np.zeros((RUNS, z.shape[1])), np.zeros(RUNS)
    n = len(z)
    own = random.randint(0, n, (RUNS, min(n, RESAMPLE)))
    for _ in range(windows):
        now = z[own[np.arange(RUNS), random.randint(0, own.shape[1], RUNS)]]
        up, down = np.maximum(0, up + now - SLACK), np.maximum(0, down - now - SLACK)
        highest = np.maximum(highest, np.maximum(up, down).max(1))
    return highest
