"""What the theorems say about width: Natale et al., "On the Sparsity of the Strong Lottery Ticket Hypothesis" (NeurIPS 2024).

arXiv 2410.14754, whose numbers of theorems are used. It does not give the constants of its upper bounds: everything here is at
c = 1, so it shows how widths scale with density and error, not what they are. An equation for n that holds n on both sides is
solved for its largest n, and k = density * n is at least 1.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import log, log2, prod
from typing import Any

from edgeticket.errors import UnsupportedError, UsageError
from edgeticket.ops import Conv
from edgeticket.plan import Plan

SMALLEST = 1e-12  # density or error
LARGEST_ERROR, LARGEST_OF_LOWER = 1 / 2, 1 / 16  # below these: Corollary 1, Theorem 5
_STEPS = 10_000


@dataclass(frozen=True)
class Matrix:
    """A layer of the target: `groups` times `outputs` x `inputs` filters with `taps` weights each."""

    name: str
    inputs: int
    outputs: int
    taps: int = 1
    groups: int = 1

    @property
    def parameters(self) -> int:
        return self.groups * self.outputs * self.inputs * self.taps


def chain(widths: Sequence[int]) -> list[Matrix]:
    """Fully connected layers between `widths`. Raises UsageError for fewer than two, or one below 1."""
    if len(widths) < 2 or min(widths) < 1:
        raise UsageError(
            f"widths {','.join(map(str, widths))}: write two or more, each at least 1, for example 64,32,10"
        )
    return [Matrix(f"layer{i + 1}", a, b) for i, (a, b) in enumerate(pairwise(widths))]


def matrices(plan: Plan) -> list[Matrix]:
    """The weighted layers of a plan. Raises UnsupportedError where there are none."""
    found = []
    for layer in plan.weighted():
        groups = layer.op.groups if isinstance(layer.op, Conv) else 1
        filters, inputs, *kernel = plan.weight_shape(layer)
        found.append(Matrix(layer.name, inputs, filters // groups, prod(kernel), groups))
    if not found:
        raise UnsupportedError("the network has no layer with weights: there is nothing to bound")
    return found


def entropy(p: float) -> float:
    """Binary entropy H2(p) in bits, 0 < p < 1."""
    return -p * log2(p) - (1 - p) * log2(1 - p)


def width(density: float, eps: float, power: int = 1, factor: float = 1.0, scale: float = 1.0) -> float:
    """The largest n with n H2(density) = scale * log2(factor * density * n / eps) ** power, and at least 1 / density.

    Raises UsageError as `check` does.
    """
    check(density, eps)
    n = least = 1 / density

    def bits(n: float) -> float:
        return log2(factor * density * n / eps)

    def beyond(n: float) -> bool:
        """Whether n H2 is larger than the right side, and grows faster from here on."""
        grows = scale * power * bits(n) ** (power - 1) / log(2)
        return max(scale * bits(n) ** power, grows) < n * entropy(density)

    while not beyond(n):
        n *= 2
    for _ in range(_STEPS):
        lower = max(least, scale * bits(n) ** power / entropy(density))
        if lower >= n * (1 - 1e-15):
            break
        n = lower
    return n


def check(density: float, eps: float) -> None:
    """Raise UsageError where the theorems say nothing."""
    if not SMALLEST <= density <= 0.5:
        raise UsageError(
            f"density {density}: the theorems want one above 0 and at most 0.5, and it is {SMALLEST:g} or more here"
        )
    check_error(eps)


def check_error(eps: float) -> None:
    """Raise UsageError unless SMALLEST <= eps < 1/2."""
    if not SMALLEST <= eps < LARGEST_ERROR:
        raise UsageError(
            f"eps {eps}: the theorems want an error above 0 and below 0.5, and it is {SMALLEST:g} or more here"
        )


def one_target(density: float, eps: float) -> float:
    """n of Theorem 2: a given target is hit with constant probability."""
    return width(density, eps)


def all_targets(density: float, eps: float) -> float:
    """n of Corollary 1: all targets up to sqrt(k) in size are hit, with probability 1 - eps."""
    return width(density, eps, power=2)


@dataclass(frozen=True)
class Upper:
    """What Theorem 3 (fully connected) or 4 (convolutional) asks for one layer: n random neurons for each input and sign."""

    layer: str
    theorem: int
    n: float
    k: float
    start: float  # parameters of the two random layers that stand for it
    kept: float  # of these, at most
    lower: float | None  # what Theorem 5 asks of any random network in their place; None: it says nothing

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def upper(layers: Sequence[Matrix], density: float, eps: float) -> list[Upper]:
    """Theorem 3 for fully connected layers, Theorem 4 for convolutions, each with `len(layers)` as its depth.

    `density`: k / n of every sum. `start` is 2 d n (d + d') and `kept` at most 4 d d' k for d inputs and d' outputs; the
    proof of Theorem 4 is omitted in the paper, and its parameters are counted alike, each times the taps. Theorem 4 has layers of
    one width: here the larger of d and d'. Theorem 5 is for linear maps of d x d and eps below 1/16: here the smaller of d and d', a
    part of the layer.
    """
    return [_upper(layer, len(layers), density, eps) for layer in layers]


def _upper(layer: Matrix, depth: int, density: float, eps: float) -> Upper:
    a, b = layer.inputs, layer.outputs
    pairs = a * b if layer.taps == 1 else max(a, b) ** 2 * layer.taps
    n = width(density, eps, power=2, factor=2 * depth * pairs)
    copies, bounded = layer.groups * layer.taps, layer.taps == 1 and eps < LARGEST_OF_LOWER
    return Upper(
        layer=layer.name,
        theorem=3 if layer.taps == 1 else 4,
        n=n,
        k=density * n,
        start=copies * 2 * a * n * (a + b),
        kept=copies * 4 * a * b * density * n,
        lower=layer.groups * width(density, eps, scale=min(a, b) ** 2 / 2) if bounded else None,
    )
