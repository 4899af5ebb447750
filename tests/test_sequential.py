"""The sequential test: both errors hold, exactly, however often it is looked at."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeticket.errors import UsageError
from edgeticket.sequential import COUNTED, Evidence, RateTest

TEST = RateTest(0.05, 0.15, alpha=0.02, beta=0.1)
RATES = st.floats(0.001, 0.4).flatmap(lambda good: st.tuples(st.just(good), st.floats(good + 0.01, 0.95)))
WEIGHTS = st.lists(st.integers(1, 100), min_size=4, max_size=4)


def observed(test: RateTest, failures: np.ndarray, trials: np.ndarray, single: bool = False) -> Evidence:
    return Evidence().after(test, failures, trials, single)


def simulated(rate: float, runs: int = 2000, length: int = 600, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).random((runs, length)) < rate


@settings(deadline=None)
@given(RATES)
def test_single_trials_are_walds_likelihood_ratio(rates: tuple[float, float]) -> None:
    good, bad = rates
    test = RateTest(good, bad, 0.1, 0.1)
    of_good, of_bad = test.of_shares(np.array([0.0, 1.0]))
    assert of_good == pytest.approx([math.log((1 - bad) / (1 - good)), math.log(bad / good)])
    assert of_bad == pytest.approx(-of_good)
    assert of_good == pytest.approx(test.of_trials(np.array([0, 1]), np.array([1, 1]))[0])


@settings(deadline=None)
@given(RATES, st.floats(0, 1), WEIGHTS)
def test_the_bets_are_fair_whatever_the_distribution(
    rates: tuple[float, float], scale: float, weights: list[int]
) -> None:
    """Four values between 0 and 1 whose mean is the good rate or less, then the bad one or more: no bet gains on average."""
    good, bad = rates
    test, chance = RateTest(good, bad, 0.1, 0.1), np.array(weights) / sum(weights)
    values = np.array([0.0, 0.1, 0.5, 1.0])
    low = values * min(1, good * (0.5 + scale / 2) / float(chance @ values))
    high = 1 - values * min(1, (1 - bad) * (0.5 + scale / 2) / float(chance @ values))
    assert float(chance @ low) <= good + 1e-12
    assert float(chance @ high) >= bad - 1e-12
    assert float(chance @ np.exp(test.of_shares(low)[0])) <= 1 + 1e-9
    assert float(chance @ np.exp(test.of_shares(high)[1])) <= 1 + 1e-9


def exact_errors(test: RateTest, rate: float, length: int) -> tuple[float, float]:
    """Probability to pass and to be stopped within `length` single trials, by walking over all counts of failures."""
    held, failed = (float(test.of_trials(np.array(k), np.array(1))[0]) for k in (0, 1))
    alive, passed, stopped = np.zeros(length + 2), 0.0, 0.0
    alive[0] = 1
    failures = np.arange(length + 2)
    for trials in range(1, length + 1):
        alive = alive * (1 - rate) + np.concatenate([[0], alive[:-1] * rate])
        ratio = failures * failed + (trials - failures) * held
        passed += float(alive[-ratio >= test.pass_at].sum())
        stopped += float(alive[ratio >= test.stop_at].sum())
        alive[(-ratio >= test.pass_at) | (ratio >= test.stop_at)] = 0
    return passed, stopped


def test_errors_by_exact_calculation() -> None:
    passed, _ = exact_errors(TEST, TEST.bad, 2000)
    _, stopped = exact_errors(TEST, TEST.good, 2000)
    assert TEST.alpha / 2 < passed <= TEST.alpha
    assert TEST.beta / 2 < stopped <= TEST.beta


@pytest.mark.parametrize("every", [1, 50])
def test_2000_simulations_with_and_without_peeking_keep_the_errors(every: int) -> None:
    """In 600 trials nearly every run is decided; three standard deviations of a binomial are allowed."""

    def share(rate: float, field: str) -> float:
        runs = simulated(rate).reshape(2000, -1, every).sum(2)
        ends = [observed(TEST, run, np.full(len(run), every), single=True) for run in runs]
        return float(np.mean([getattr(end, field) for end in ends]))

    assert share(TEST.bad, "passed") <= TEST.alpha + 3 * math.sqrt(TEST.alpha * (1 - TEST.alpha) / 2000)
    assert share(TEST.good, "stopped") <= TEST.beta + 3 * math.sqrt(TEST.beta * (1 - TEST.beta) / 2000)
    assert share(TEST.bad, "stopped") > 0.95
    assert share(TEST.good, "passed") > 0.85


def test_bursts_break_single_trials_and_not_clusters() -> None:
    """A report of 20 inferences that fail all or none: as one observation the error holds, as 20 it is far off."""
    failures, trials = simulated(TEST.bad, length=200) * 20, np.full(200, 20)

    def passes(single: bool) -> float:
        return float(np.mean([observed(TEST, run, trials, single).passed for run in failures]))

    assert passes(single=False) <= TEST.alpha + 3 * math.sqrt(TEST.alpha / 2000)
    assert passes(single=True) > 10 * TEST.alpha


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(9, 12)), max_size=40), st.booleans(), st.integers(1, 39))
def test_batches_do_not_matter(pairs: list[tuple[int, int]], single: bool, cut: int) -> None:
    failures, trials = np.array(pairs, dtype=float).reshape(-1, 2).T
    whole = observed(TEST, failures, trials, single)
    parts = observed(TEST, failures[:cut], trials[:cut], single).after(TEST, failures[cut:], trials[cut:], single)
    assert (whole.units, whole.passed, whole.stopped) == (parts.units, parts.passed, parts.stopped)
    assert whole.against_good == pytest.approx(parts.against_good)
    assert whole.against_bad == pytest.approx(parts.against_bad)


def test_a_threshold_that_was_reached_stays_reached() -> None:
    clean, broken = np.zeros(60), np.ones(60)
    end = observed(TEST, np.concatenate([clean, broken]), np.ones(120))
    assert end.passed
    assert end.stopped
    assert end.against_bad < 0
    back = observed(TEST, np.concatenate([broken, np.zeros(2000)]), np.ones(2060))
    assert back.passed
    assert back.stopped
    assert back.against_good < 0
    assert (end.units, end.failures) == (120, 60)


@settings(deadline=None)
@given(RATES, st.floats(0.001, 0.3))
def test_least_is_the_first_number_of_clean_observations_that_passes(rates: tuple[float, float], alpha: float) -> None:
    test = RateTest(*rates, alpha, 0.1)
    least = test.least()
    below = observed(test, np.zeros(least - 1), np.ones(least - 1))
    assert not below.passed
    assert observed(test, np.zeros(least + 1), np.ones(least + 1)).passed


def test_usual_at_the_good_rate() -> None:
    even, whole = TEST.usual()
    ends = [observed(TEST, np.full(n, TEST.good), np.ones(n)).passed for n in (even - 1, even)]
    assert ends == [False, True]
    steps = TEST.of_trials(simulated(TEST.good, length=1000), np.array(1))[1]
    passed = np.cumsum(steps, axis=1) >= TEST.pass_at
    took = passed.argmax(axis=1) + 1
    assert passed.any(axis=1).all()
    assert whole <= took.mean() + 3 * took.std() / len(took) ** 0.5 <= 1.1 * whole  # and a step that goes too far
    assert TEST.least() < even < whole


def test_counting_ends_where_a_database_does() -> None:
    end = Evidence(units=COUNTED - 1).after(TEST, np.array([1.0]), np.array([2.0**31]), single=True)
    assert end.units == COUNTED
    assert math.isfinite(end.against_bad)


def test_more_certainty_takes_longer() -> None:
    tests = [RateTest(0.05, 0.15, alpha, 0.1) for alpha in (0.1, 0.01, 0.001)]
    assert all(a.least() < b.least() for a, b in pairwise(tests))


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 0.1, 0.1, 0.1),
        (0.2, 0.1, 0.1, 0.1),
        (0.1, 0.1, 0.1, 0.1),
        (0.1, 1, 0.1, 0.1),
        (0.1, 0.2, 0, 0.1),
        (0.1, 0.2, 0.1, 1),
        (math.nan, 0.2, 0.1, 0.1),
        (0.1, 0.2, math.nan, 0.1),
    ],
)
def test_what_is_no_test_is_refused(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(UsageError):
        RateTest(*numbers)


def test_nothing_observed_changes_nothing() -> None:
    assert observed(TEST, np.array([]), np.array([])) == Evidence()
