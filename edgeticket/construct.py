"""The existence proof, carried out: a trained ReLU network as a subnetwork of a random one, found without a gradient.

Theorem 3 of Natale et al. (arXiv 2410.14754), by the construction that it takes from Pensia et al. (arXiv 2006.07990). Two random
layers stand for one layer A of the target: 2 n hidden neurons for each input j. Of a hidden neuron's own inputs only j stays,
so those with a positive weight there see relu(x_j), those with a negative one relu(-x_j). For each weight A[o, j] that is not 0, and
each of the two signs, exactly k of the first n neurons of that sign stay connected to output o: those whose products of
both random weights add up to A[o, j] as nearly as k of them can.

It teaches and validates; it is no way to a small network. The result is no ticket: a ticket's weights are signs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeticket.bounds import check_error
from edgeticket.errors import UnsupportedError, UsageError
from edgeticket.prng import LIMIT
from edgeticket.relu_network import ReluNetwork
from edgeticket.rfss import ONE, subsets, uniform

PRODUCT = ONE * ONE  # 1 in units of a product of two random weights
MAX_WEIGHTS = 1 << 24  # of a random layer
_EDGE = 0  # of the generator
_BLOCK = 1 << 22  # activations that are held at once


@dataclass(frozen=True)
class Settings:
    """`n` random neurons for each input and sign, `k` of them for each weight, which may be off by less than `eps`."""

    eps: float
    n: int
    k: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise UsageError(f"k = {self.k} of n = {self.n}: take at least 1 and at most all of them")
        check_error(self.eps)


@dataclass(frozen=True)
class Pair:
    """Two random layers in units of 2^-24, as far as they matter: `first` [2 n d], the weight of each hidden neuron of its
    own input; `second` [d', 2 n d]. Hidden neuron h belongs to input h // 2 n."""

    first: np.ndarray
    second: np.ndarray
    n: int

    @property
    def inputs(self) -> int:
        return len(self.first) // (2 * self.n)

    def pools(self) -> Iterator[tuple[int, np.ndarray]]:
        """(input, hidden neurons that may stand for its weights), for both signs of each input."""
        for j in range(self.inputs):
            block = np.arange(2 * self.n * j, 2 * self.n * (j + 1))
            for positive in (True, False):
                yield j, block[(self.first[block] > 0) == positive][: self.n]

    def products(self) -> np.ndarray:
        """int64 [d', 2 n d] in units of 2^-48: what a kept neuron adds to a weight."""
        return self.first * self.second


def random_pair(settings: Settings, layer: int, inputs: int, outputs: int) -> Pair:
    """Layers 2 * `layer` and 2 * `layer` + 1 of the random network. Raises UnsupportedError where they are too wide."""
    hidden = 2 * settings.n * inputs
    if hidden > LIMIT or hidden * outputs > MAX_WEIGHTS:
        raise UnsupportedError(
            f"layer {layer + 1}: {hidden:,} hidden neurons, {hidden * outputs:,} random weights; at most {LIMIT:,} and "
            f"{MAX_WEIGHTS:,} are taken: use a narrower target or a smaller n"
        )
    rows = np.arange(hidden)
    return Pair(
        first=uniform(settings.seed, 2 * layer, _EDGE, rows, rows // (2 * settings.n)),
        second=uniform(settings.seed, 2 * layer + 1, _EDGE, np.arange(outputs)[:, None], rows),
        n=settings.n,
    )


@dataclass(frozen=True)
class Construction:
    """`masks`: for each layer of the target, bool [d', 2 n d]: which weights of the second random layer stay."""

    target: ReluNetwork
    settings: Settings
    masks: tuple[np.ndarray, ...]

    @cached_property
    def pairs(self) -> list[tuple[np.ndarray, Pair]]:
        """Each layer of the target as a matrix of norm 1, and the two random layers that stand for it."""
        return random_pairs(self.target, self.settings)

    def outputs(self, x: np.ndarray) -> list[np.ndarray]:
        """What every second random layer gives under its mask, after its ReLU but for the last; x [n, inputs + 1]."""
        pairs = zip(self.pairs, self.masks, strict=True)
        layers = [(pair.first / ONE, pair.second / ONE * mask) for (_, pair), mask in pairs]
        step = max(1, _BLOCK // max(len(first) for first, _ in layers))
        blocks = [self._outputs(layers, x[start : start + step]) for start in range(0, len(x), step)]
        return [np.concatenate(each) for each in zip(*blocks, strict=True)]

    def _outputs(self, layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for first, second in layers:
            hidden = np.maximum(np.repeat(x, 2 * self.settings.n, axis=1) * first, 0)
            x = hidden @ second.T
            if len(found) < len(layers) - 1:
                x = np.maximum(x, 0)
            found.append(x)
        return found


def random_pairs(target: ReluNetwork, settings: Settings) -> list[tuple[np.ndarray, Pair]]:
    matrices, _ = target.homogeneous()
    return [(each, random_pair(settings, i, each.shape[1], each.shape[0])) for i, each in enumerate(matrices)]


def construct(
    target: ReluNetwork, settings: Settings, report: Callable[[int, int], None] = lambda done, of: None
) -> Construction:
    """Find the subsets. `report`: called with (pools done, pools in all).

    Raises UsageError for settings that fit nothing or are beyond an exact search, UnsupportedError for a target that is too wide.
    """
    pairs, masks, done = random_pairs(target, settings), [], 0
    of = sum(2 * pair.inputs for _, pair in pairs)
    for matrix, pair in pairs:
        mask, products = np.zeros(pair.second.shape, bool), pair.products()
        for j, pool in pair.pools():
            wanted = np.flatnonzero(matrix[:, j])
            if len(pool) >= settings.k:
                targets = np.rint(matrix[wanted, j] * PRODUCT).astype(np.int64)
                members, _ = subsets(products[np.ix_(wanted, pool)], settings.k, targets)
                mask[wanted[:, None], pool[members]] = True
            done += 1
            report(done, of)
        masks.append(mask)
    return Construction(target, settings, tuple(masks))
