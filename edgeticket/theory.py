"""Exact statistics of counts: nothing here assumes that samples are many."""

import numpy as np


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


def interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval."""
    each = (1 + confidence) / 2
    return lower_bound(k, n, each), 1 - lower_bound(n - k, n, each)


def paired_p_value(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test (Psychometrika 12, 1947): items that only A, or only B, got right."""
    n = only_a + only_b
    return min(1.0, 2 * binomial_tail(max(only_a, only_b), n, 0.5)) if n else 1.0
