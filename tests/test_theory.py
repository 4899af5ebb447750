"""Exact statistics against published and hand-computed values."""

from math import comb

import numpy as np
import pytest

from edgeticket.errors import UsageError
from edgeticket.theory import (
    binomial_tail,
    fisher_p_value,
    interval,
    lower_bound,
    paired_p_value,
    trials_needed,
    upper_bound,
)

SIZES = (1, 2, 5, 20, 59, 100)
RATES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


def chance(n: int, p: float) -> np.ndarray:
    """P(X = k) for k in 0..n, summed without logarithms."""
    return np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


def test_binomial_tail() -> None:
    assert binomial_tail(3, 5, 0.3) == pytest.approx(sum(comb(5, i) * 0.3**i * 0.7 ** (5 - i) for i in (3, 4, 5)))
    assert (binomial_tail(0, 5, 0.3), binomial_tail(2, 5, 0.0), binomial_tail(5, 5, 1.0)) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(("n", "rate", "confidence"), [(299, 0.01, 0.95), (459, 0.01, 0.99), (2995, 0.001, 0.95)])
def test_clean_trials_that_certify_a_failure_rate(n: int, rate: float, confidence: float) -> None:
    """The well-known smallest n without a failure: 299 for 1 % at 95 %."""
    assert lower_bound(n, n, confidence) >= 1 - rate > lower_bound(n - 1, n - 1, confidence)


def test_clopper_pearson() -> None:
    assert interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert interval(0, 10) == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)))
    assert lower_bound(9000, 10_000) == pytest.approx(0.8949, abs=1e-4)


def test_mcnemar() -> None:
    assert paired_p_value(10, 2) == paired_p_value(2, 10) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert paired_p_value(5, 5) == paired_p_value(0, 0) == 1.0


def test_upper_bound_mirrors_the_lower() -> None:
    assert upper_bound(0, 10) == pytest.approx(1 - 0.05 ** (1 / 10))
    assert upper_bound(10, 10) == 1.0
    assert upper_bound(2, 10) == pytest.approx(0.5069, abs=1e-4)  # root of P(X <= 2) = 0.05
    assert sum(comb(10, i) * upper_bound(2, 10) ** i * (1 - upper_bound(2, 10)) ** (10 - i) for i in range(3)) == (
        pytest.approx(0.05)
    )


@pytest.mark.parametrize("n", SIZES)
def test_one_sided_coverage_is_at_least_what_it_claims(n: int) -> None:
    bounds = np.array([lower_bound(k, n) for k in range(n + 1)])
    for p in RATES:
        assert chance(n, p)[bounds <= p].sum() >= 0.95 - 1e-12


@pytest.mark.parametrize("n", SIZES)
def test_one_sided_coverage_is_reached_at_every_attainable_bound(n: int) -> None:
    """Below the bound of k, whatever is k or more misses p: just below, with probability 0.05."""
    bounds = np.array([lower_bound(k, n) for k in range(n + 1)])
    for p in bounds[1:] - 1e-10:
        assert chance(n, p)[bounds <= p].sum() == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_two_sided_coverage(n: int) -> None:
    low, high = np.array([interval(k, n) for k in range(n + 1)]).T
    for p in [*RATES, *(low[1:] - 1e-10), *(high[:-1] + 1e-10)]:
        assert chance(n, p)[(low <= p) & (p <= high)].sum() >= 0.95 - 1e-12


@pytest.mark.parametrize(
    ("probability", "confidence", "failures", "n"),
    [(0.95, 0.95, 0, 59), (0.95, 0.95, 1, 93), (0.99, 0.95, 0, 299), (0.99, 0.95, 3, 773), (0.99, 0.99, 0, 459)],
)
def test_trials_needed(probability: float, confidence: float, failures: int, n: int) -> None:
    assert trials_needed(probability, confidence, failures) == n
    assert lower_bound(n - failures, n, confidence) >= probability > lower_bound(n - 1 - failures, n - 1, confidence)


@pytest.mark.parametrize(("probability", "confidence", "failures"), [(1.0, 0.95, 0), (0.95, 1.0, 0), (0.5, 0.5, -1)])
def test_what_no_trials_show(probability: float, confidence: float, failures: int) -> None:
    with pytest.raises(UsageError, match="no number of trials"):
        trials_needed(probability, confidence, failures)


@pytest.mark.parametrize(
    ("k1", "n1", "k2", "n2", "p"),
    [
        (3, 4, 1, 4, 34 / 70),  # Fisher's lady tasting tea
        (4, 4, 0, 4, 2 / 70),
        (2, 12, 15, 18, 0.0005367),  # Fisher's criminal twins
        (5, 5, 5, 5, 1.0),
        (1, 10, 1, 10, 1.0),
    ],
)
def test_fisher(k1: int, n1: int, k2: int, n2: int, p: float) -> None:
    assert fisher_p_value(k1, n1, k2, n2) == pytest.approx(p, rel=1e-4)
    assert fisher_p_value(k2, n2, k1, n1) == fisher_p_value(k1, n1, k2, n2)


def test_fisher_rejects_no_more_often_than_it_says() -> None:
    """Two samples of one proportion: exactly how often p <= 0.05, over all pairs of counts."""
    one, two = chance(9, 0.3), chance(14, 0.3)
    rejected = sum(one[a] * two[b] for a in range(10) for b in range(15) if fisher_p_value(a, 9, b, 14) <= 0.05)
    assert 0.01 < rejected <= 0.05
