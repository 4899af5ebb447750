"""The Random Fixed-Size Subset Sum, measured: of n random numbers, do exactly k add up to a target within eps?

Numbers are integers in units of 2^-24 (a sum of them is exact, in any order), drawn by edgeticket.prng: alike on every machine.
The search is exact as well: meet in the middle (Horowitz and Sahni, J. ACM 21, 1974), by size. All subsets of each half
that can be part of k are listed, one half is sorted, and each subset of the other half looks up what it lacks.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import ceil, comb, sqrt
from typing import Any

import numpy as np

from edgeticket.errors import UsageError
from edgeticket.prng import LIMIT, layer_keys, permute
from edgeticket.theory import interval, trials_needed

BITS = 24  # a float32 holds every odd multiple of 2^-24 below 1
ONE = 1 << BITS
MAX_SUBSETS = 1 << 21  # of a half: some 100 MB in all
MAX_DRAWS = 1 << 24
FINEST = 2**-16  # an eps below it is too near to the step of the numbers, 2^-23
REACH = 1 << 27  # subsets of halves in all draws together: half a minute
_CHUNK = 1 << 21  # sums that are listed at once
_EDGE = 1  # of the generator; construct's networks have edge 0


def uniform(seed: int, layer: int, edge: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Uniform[-1, 1] as int64 in units of 2^-24, odd: the random weight at each (row, column), broadcast; both below 2^16."""
    keys = layer_keys(seed, layer, edge)
    counter = np.asarray(rows, np.uint32) << np.uint32(16) | np.asarray(columns, np.uint32)
    words = permute(counter + np.uint32(keys[0]), keys[1:])
    return 2 * (words >> np.uint32(32 - BITS)).astype(np.int64) + 1 - ONE


@dataclass(frozen=True)
class _Half:
    """The subsets of `len(parents)` numbers that have `low` to `high` of them, each made of an earlier one and a number."""

    parents: tuple[np.ndarray, ...]  # of what the i-th number adds: those that had fewer than `high`
    starts: tuple[int, ...]  # how many subsets there were before it
    total: int
    kept: np.ndarray  # those with `low` or more,
    sizes: np.ndarray  # and how many they have

    def sums(self, values: np.ndarray) -> np.ndarray:
        """int64 [draws, subsets] of values [draws, numbers]."""
        sums = np.zeros((len(values), self.total), np.int64)
        for i, (start, parents) in enumerate(zip(self.starts, self.parents, strict=True)):
            np.add(sums[:, parents], values[:, i : i + 1], out=sums[:, start : start + len(parents)])
        return sums[:, self.kept] if len(self.kept) < self.total else sums

    def members(self, subset: int) -> list[int]:
        """Indices of the numbers in one of the kept subsets."""
        found, at = [], int(self.kept[subset])
        for i in reversed(range(len(self.parents))):
            if at >= self.starts[i]:
                found.append(i)
                at = int(self.parents[i][at - self.starts[i]])
        return found[::-1]


@lru_cache(maxsize=64)
def _halves(n: int, k: int) -> tuple[_Half, _Half]:
    """Raises UsageError where there are none, or too many."""
    if not 1 <= k <= n:
        raise UsageError(f"k = {k} of n = {n}: take at least 1 and at most all of them")
    if n > LIMIT:
        raise UsageError(f"n = {n}: at most {LIMIT:,} numbers are drawn at once")
    left, right = n // 2, n - n // 2
    if _subsets(right, k) > MAX_SUBSETS:
        raise UsageError(f"n = {n}, k = {k}: a half has more than {MAX_SUBSETS:,} subsets: choose a smaller n or k")
    return _half(left, max(0, k - right), min(k, left)), _half(right, max(0, k - left), min(k, right))


def _subsets(count: int, most: int) -> int:
    return sum(comb(count, j) for j in range(min(count, most) + 1))


def _half(count: int, low: int, high: int) -> _Half:
    sizes, parents, starts = np.zeros(1, np.int64), [], []
    for _ in range(count):
        starts.append(len(sizes))
        parents.append(np.flatnonzero(sizes < high))
        sizes = np.concatenate([sizes, sizes[parents[-1]] + 1])
    kept = np.flatnonzero(sizes >= low)
    return _Half(tuple(parents), tuple(starts), len(sizes), kept, sizes[kept])


def _nearest(values: np.ndarray, k: int, targets: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """For each row of values [draws, n]: the smallest error, its subset of the left half, and the key of the right one.

    The key of a sum is the sum, moved by its size times `span`, which is further than any error reaches: one sorted list
    serves all sizes.
    """
    middle = values.shape[1] // 2
    left, right = _halves(values.shape[1], k)
    span = _span(values, k, targets)
    owed, moved = (k - left.sizes) * span, right.sizes * span
    step = max(1, _CHUNK // len(moved))
    for start in range(0, len(values), step):
        chunk, wanted = values[start : start + step], targets[start : start + step, None] + owed
        lacking, keys = wanted - left.sums(chunk[:, :middle]), right.sums(chunk[:, middle:]) + moved
        keys.sort(axis=1)
        for needles, ordered in zip(lacking, keys, strict=True):
            at = np.searchsorted(ordered, needles)
            above, below = ordered[np.minimum(at, len(ordered) - 1)], ordered[np.maximum(at - 1, 0)]
            nearer = np.where(np.abs(above - needles) < np.abs(below - needles), above, below)
            errors = np.abs(nearer - needles)
            found = int(errors.argmin())
            yield int(errors[found]), found, int(nearer[found])


def _span(values: np.ndarray, k: int, targets: np.ndarray) -> int:
    span = 4 * int(np.abs(values).sum(1).max(initial=0) + np.abs(targets).max(initial=0)) + 1
    if (k + 2) * span >= 1 << 63:
        raise UsageError(f"{k} of {values.shape[1]} numbers: their sums leave 64 bits: choose a smaller n or k")
    return span


def subsets(values: np.ndarray, k: int, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exactly `k` of each row of `values` whose sum is nearest to the row's target: indices [rows, k], errors [rows].

    `values` [rows, n] and `targets` [rows] are int64 in one unit, which is the errors' unit too. Raises UsageError for k outside
    1..n, and where subsets are too many or sums too large.
    """
    middle, span = values.shape[1] // 2, _span(values, k, targets)
    left, right = _halves(values.shape[1], k)
    members, errors = np.empty((len(values), k), np.int64), np.empty(len(values), np.int64)
    for row, (error, first, key) in enumerate(_nearest(values, k, targets)):
        keys = right.sums(values[row : row + 1, middle:])[0] + right.sizes * span
        second = right.members(int(np.flatnonzero(keys == key)[0]))
        members[row], errors[row] = [*left.members(first), *(middle + i for i in second)], error
    return members, errors


def errors(n: int, k: int, z: float = 0.0, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """float64 [draws]: how near k of n draws of Uniform[-1, 1] come to the target z * sqrt(k), each exactly.

    Raises UsageError for k outside 1..n, z outside -1..1, fewer than one draw or too many, or too many subsets.
    """
    _halves(n, k)
    if not (-1 <= z <= 1 and 1 <= draws <= MAX_DRAWS):
        raise UsageError(f"target {z} sqrt(k), {draws} draws: the target is -1 to 1, draws are 1 to {MAX_DRAWS:,}")
    step, target, found = min(LIMIT, 1 << (_CHUNK // n).bit_length() - 1), round(z * sqrt(k) * ONE), []
    for start in range(0, draws, step):  # a block never crosses a layer of the generator, which has LIMIT rows
        layer, first = divmod(start, LIMIT)
        rows = np.arange(first, first + min(step, draws - start))[:, None]
        values = uniform(seed, layer, _EDGE, rows, np.arange(n))
        found += [error for error, _, _ in _nearest(values, k, np.full(len(values), target))]
    return np.array(found) / ONE


@dataclass(frozen=True)
class Measured:
    """`hits` of `draws` came nearer than `eps`; `low` to `high`: the two-sided 95 % Clopper-Pearson interval."""

    n: int
    k: int
    eps: float
    z: float
    draws: int
    seed: int
    hits: int
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(n: int, k: int, eps: float, z: float = 0.0, draws: int = 2000, seed: int = 0) -> Measured:
    """How often the target z * sqrt(k) is hit within `eps` (strictly). Raises UsageError as `errors` does, or for eps below FINEST."""
    if not eps >= FINEST:
        raise UsageError(f"eps {eps}: {FINEST:g} is the smallest that is measured")
    hits = int((errors(n, k, z, draws, seed) < eps).sum())
    return Measured(n, k, eps, z, draws, seed, hits, *interval(hits, draws))


def kept(density: float, n: int) -> int:
    """The k of n at a density: rounded, at least 1 and at most n / 2, as the theorem wants it."""
    return max(1, min(n // 2, int(density * n + 0.5)))


def within_reach(n: int, k: int, eps: float, draws: int) -> bool:
    """Whether it can be measured, in seconds."""
    subsets = _subsets(n - n // 2, k)
    return eps >= FINEST and n <= LIMIT and subsets <= MAX_SUBSETS and subsets * draws <= REACH


def smallest(
    density: float,
    eps: float,
    level: float = 0.95,
    *,
    z: float = 0.0,
    draws: int = 2000,
    seed: int = 0,
    most: int = 200,
) -> Measured | None:
    """The first n whose interval lies above `level`; None: not among `most`, or out of reach.

    It begins at 1 / density and leaves out what the union bound excludes: k numbers of Uniform[-1, 1] have a sum of density
    1/2 at most, so C(n, k) subsets hit with probability C(n, k) * eps at most. Raises UsageError as `errors` does, and for
    draws that could not show `level` if all of them hit.
    """
    if interval(draws, draws)[0] < level:
        raise UsageError(f"{draws} draws cannot show {level:g}: take {trials_needed(level, 0.975)} or more")
    least = ceil(1 / density)
    for n in range(least, least + most):
        k = kept(density, n)
        if comb(n, k) * eps < level:
            continue
        if not within_reach(n, k, eps, draws):
            break
        found = measure(n, k, eps, z, draws, seed)
        if found.low >= level:
            return found
    return None
