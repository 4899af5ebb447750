"""Exact statistics against published and hand-computed values."""

from math import comb

import pytest

from edgeticket.theory import binomial_tail, interval, lower_bound, paired_p_value


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
