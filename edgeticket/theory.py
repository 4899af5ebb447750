"""Exact statistics of counts: nothing here assumes that samples are many."""

from math import comb

import numpy as np

from edgeticket.errors import UsageError


def _log_factorials(n: int) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p)."""
    if k <= 0 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    i, log = np.arange(k, n + 1), _log_factorials(n)
    terms = log[n] - log[i] - log[n - i] + i * np.log(p) + (n - i) * np.log1p(-p)
    return float(min(1.0, np.exp(terms).sum()))


def lower_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson lower bound on a probability after `k` successes in `n` trials (Biometrika 26, 1934)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(k, n, middle) < 1 - confidence else (low, middle)
    return low if k else 0.0


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound on a probability after `k` successes in `n` trials."""
    return 1 - lower_bound(n - k, n, confidence)


def interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval."""
    each = (1 + confidence) / 2
    return lower_bound(k, n, each), upper_bound(k, n, each)


def trials_needed(probability: float, confidence: float = 0.95, failures: int = 0) -> int:
    """Smallest n whose `lower_bound(n - failures, n, confidence)` is at least `probability`: 59 for 0.95, none failed.

    Raises UsageError for a probability or confidence outside (0, 1), or fewer than 0 failures.
    """
    if not (0 < probability < 1 and 0 < confidence < 1 and failures >= 0):
        raise UsageError(
            f"no number of trials shows {probability} with confidence {confidence} and {failures} failures: "
            "both lie above 0 and below 1"
        )
    few, enough = failures, failures + 1
    while binomial_tail(enough - failures, enough, probability) > 1 - confidence:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        shown = binomial_tail(middle - failures, middle, probability) <= 1 - confidence
        few, enough = (few, middle) if shown else (middle, enough)
    return enough


def paired_p_value(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test (Psychometrika 12, 1947): items that only A, or only B, got right."""
    n = only_a + only_b
    return min(1.0, 2 * binomial_tail(max(only_a, only_b), n, 0.5)) if n else 1.0


def fisher_p_value(k1: int, n1: int, k2: int, n2: int) -> float:
    """Two-sided exact test that k1 of n1 and k2 of n2 are of one proportion (Fisher, 1935), given k1 + k2.

    The sum over all tables of these margins that are no likelier than the one seen, in integers: ties are exact.
    """
    k = k1 + k2
    first, last = max(0, k - n2), min(n1, k)
    ways = [comb(n1, first) * comb(n2, k - first)]
    for i in range(first, last):
        ways.append(ways[-1] * (n1 - i) * (k - i) // ((i + 1) * (n2 - k + i + 1)))
    seen = ways[k1 - first]
    return sum(each for each in ways if each <= seen) / sum(ways)
