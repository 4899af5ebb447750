"""Subset sums by halves against all subsets listed one by one, and the shares that are measured with them."""

from itertools import combinations
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeticket import rfss
from edgeticket.errors import UnsupportedError, UsageError
from edgeticket.rfss import ONE, errors, kept, measure, smallest, subsets, uniform
from edgeticket.theory import binomial_tail, fisher_p_value


def listed(values: np.ndarray, k: int, target: int) -> int:
    """The smallest error of all subsets of k, each summed on its own."""
    return min(abs(sum(each) - target) for each in combinations(values.tolist(), k))


def drawn(n: int, draws: int, seed: int = 0) -> np.ndarray:
    """What `errors` draws."""
    return uniform(seed, 0, 1, np.arange(draws)[:, None], np.arange(n))


# (n, k, z, draws): odd and even halves, one, all, more than half of the numbers
CASES = [(1, 1, 0.0, 20), (2, 1, 0.5, 20), (2, 2, 0.0, 20), (7, 3, 0.0, 50), (9, 8, -0.3, 50), (12, 6, 0.0, 20)]
CASES += [(13, 1, 0.0, 20), (15, 4, 0.9, 10), (16, 8, -1.0, 5), (18, 3, 0.2, 5)]


@pytest.mark.parametrize(("n", "k", "z", "draws"), CASES)
def test_every_draw_is_judged_as_by_listing_all_subsets(n: int, k: int, z: float, draws: int) -> None:
    target = round(z * sqrt(k) * ONE)
    expected = [listed(values, k, target) / ONE for values in drawn(n, draws)]
    assert errors(n, k, z, draws).tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "z"), [(20, 10, 0.0), (20, 10, 0.9), (20, 5, 0.0), (19, 9, 0.3)])
def test_the_share_is_that_of_exhaustive_enumeration(n: int, k: int, z: float) -> None:
    """Per draw the same decision; and draws of another generator hit as often, as far as can be told."""
    eps, draws = 1e-4, 100
    found = measure(n, k, eps, z, draws=draws)
    target, subset = round(z * sqrt(k) * ONE), np.array([*combinations(range(n), k)])
    same = sum(np.abs(values[subset].sum(1) - target).min() < eps * ONE for values in drawn(n, draws))
    assert found.hits == same
    others = np.random.default_rng(3).uniform(-1, 1, (draws, n))
    hits = sum(np.abs(values[subset].sum(1) - z * sqrt(k)).min() < eps for values in others)
    assert fisher_p_value(found.hits, draws, int(hits), draws) > 0.001


@settings(deadline=None)
@given(st.data())
def test_subsets_are_exact_and_nearest(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, n))
    numbers = st.integers(-(1 << 48), 1 << 48) | st.integers(-3, 3)
    values = np.array([data.draw(st.lists(numbers, min_size=n, max_size=n)) for _ in range(3)], np.int64)
    targets = np.array(data.draw(st.lists(numbers, min_size=3, max_size=3)), np.int64)
    members, errors = subsets(values, k, targets)
    for row, target, chosen, error in zip(values, targets.tolist(), members, errors, strict=True):
        assert len({*chosen.tolist()}) == k
        assert abs(int(row[chosen].sum()) - target) == error == listed(row, k, target)


def test_numbers_are_odd_uniform_and_alike_everywhere() -> None:
    values = uniform(0, 0, 1, np.arange(256)[:, None], np.arange(256))
    assert values[:2, :3].tolist() == [[12073811, -16115045, -11457623], [14989843, 15427383, 9776863]]
    assert (values % 2 == 1).all()
    assert np.abs(values).max() < ONE
    ranks = np.sort(values.ravel() / ONE)
    distance = np.abs(ranks - np.linspace(-1, 1, ranks.size)).max() / 2
    assert distance < 1.63 / sqrt(ranks.size)  # Kolmogorov-Smirnov at 1 %
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 4 / sqrt(ranks.size)


def test_draws_go_on_beyond_one_layer_of_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = errors(5, 2, draws=200)
    monkeypatch.setattr(rfss, "LIMIT", 64)  # rows of a layer
    layers = errors(5, 2, draws=200)
    assert (layers[:64] == whole[:64]).all()
    assert len({*layers.tolist()}) == 200
    monkeypatch.setattr(rfss, "_CHUNK", 100)  # sums at once
    assert (errors(5, 2, draws=200) == layers).all()


def test_a_hit_is_strictly_nearer_than_eps() -> None:
    found = errors(6, 3, draws=50)
    nearest = float(found.min())
    assert measure(6, 3, nearest, draws=50).hits == 0
    assert measure(6, 3, float(np.nextafter(nearest, 1)), draws=50).hits == (found == nearest).sum()


def test_measured_has_its_interval() -> None:
    found = measure(10, 5, 0.01, draws=400)
    assert (found.n, found.k, found.eps, found.draws) == (10, 5, 0.01, 400)
    assert binomial_tail(found.hits, 400, found.low) == pytest.approx(0.025)
    assert 1 - binomial_tail(found.hits + 1, 400, found.high) == pytest.approx(0.025)
    assert found.low < found.hits / 400 < found.high


def test_more_numbers_or_a_smaller_target_hit_more_often() -> None:
    few, more, far = (measure(n, n // 2, 0.01, z, draws=400) for n, z in ((8, 0.0), (12, 0.0), (12, 0.9)))
    assert few.high < more.low
    assert far.high < more.low


def test_kept_is_the_rounded_share_within_what_the_theorem_wants() -> None:
    assert [kept(0.5, n) for n in (2, 3, 9, 24)] == [1, 1, 4, 12]
    assert [kept(0.02, n) for n in (10, 50, 74, 75)] == [1, 1, 1, 2]


def test_smallest_is_the_first_above_the_level() -> None:
    first = smallest(0.3, 0.01, 0.9, draws=500)
    assert first is not None
    assert first.low >= 0.9
    for n in range(4, first.n):
        before = measure(n, kept(0.3, n), 0.01, draws=500)
        assert before.low < 0.9
        assert before.low <= comb(n, before.k) * 0.01  # what is left out is left out rightly
    assert smallest(0.3, 0.01, 0.9, most=2, draws=500) is None
    assert smallest(0.5, 1e-5, 0.9, draws=50) is None  # finer than what is measured
    assert smallest(0.5, 1e-4, 0.9, draws=1 << 20) is None  # would take too long


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((5, 0), "at least 1"),
        ((5, 6), "at most all"),
        ((0, 0), "at least 1"),
        ((90, 40), "more than 2,097,152 subsets"),
        ((70_000, 1), "at most 65,536"),
        ((5, 2, 1.5), "-1 to 1"),
        ((5, 2, float("nan")), "-1 to 1"),
        ((5, 2, 0.0, 0), "draws are 1 to"),
        ((5, 2, 0.0, 1 << 25), "draws are 1 to"),
    ],
)
def test_what_cannot_be_measured(words: tuple, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        errors(*words)


def test_a_seed_has_64_bits() -> None:
    with pytest.raises(UnsupportedError, match="seed -1"):
        errors(5, 2, seed=-1)


def test_sums_beyond_64_bits_are_refused() -> None:
    with pytest.raises(UsageError, match="64 bits"):
        subsets(np.full((1, 40), 1 << 55), 2, np.zeros(1, np.int64))
