"""The generator: frozen words, no dependence on order, and statistics that weaker versions of it fail."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from edgeticket import prng
from edgeticket.errors import UnsupportedError

ROWS, COLUMNS = 512, 4608  # the largest layer of a wide small network: 512 filters over 512 channels and 9 taps

GOLDEN = [  # seed, layer, edge, filter, word of the filter, the 32 signs
    (0, 0, 0, 0, 0, 0xADE35603),
    (0, 0, 0, 0, 1, 0xEE9A70E8),
    (0, 0, 0, 1, 0, 0xCD24666A),
    (0, 0, 1, 0, 0, 0xDC1DA933),
    (0, 1, 0, 0, 0, 0x2C0F2E24),
    (1, 0, 0, 0, 0, 0x5D4DE48D),
    (0x100000000, 0, 0, 0, 0, 0xC70ADF3A),
    (7, 3, 0, 5, 11, 0xBD81974B),
    (7, 3, 2, 511, 143, 0x1D4D41E2),
    (0x123456789ABCDEF, 9, 15, 65535, 65535, 0x216F58F2),
    (0xFFFFFFFFFFFFFFFF, 20, 1, 1000, 2047, 0xE8612F20),
]

KEYS = (0x53040BD8, 0xB46A96AE, 0xE5EA1102, 0xC348C0C3, 0xF371B5B4)  # of seed 7, layer 3, edge 0


@pytest.mark.parametrize(("seed", "layer", "edge", "row", "word", "expected"), GOLDEN)
def test_words_never_change(seed: int, layer: int, edge: int, row: int, word: int, expected: int) -> None:
    assert int(prng.sign_words(seed, layer, edge, np.array([row]), np.array([word]))[0, 0]) == expected


def test_keys_and_name_never_change() -> None:
    assert prng.layer_keys(7, 3, 0) == KEYS
    assert (prng.GENERATOR, prng.ROUNDS, prng.LIMIT) == ("quad32-4", 4, 65536)


def test_words_by_arithmetic_of_python_integers() -> None:
    """The text of the module's docstring, word for word, without numpy."""
    x, mask = (5 << 16 | 11) + KEYS[0] & 0xFFFFFFFF, 0xFFFFFFFF
    for key in KEYS[1:]:
        x = x * (2 * x + 1) & mask
        x = (x >> 16 | x << 16) + key & mask
    assert int(prng.sign_words(7, 3, 0, np.array([5]), np.array([11]))[0, 0]) == x


def test_bit_of_a_word_is_the_sign_of_its_position() -> None:
    word = int(prng.sign_words(7, 3, 0, np.array([5]), np.array([11]))[0, 0])
    signs = prng.signs(7, 3, 0, np.array([5]), np.arange(11 * 32, 12 * 32))
    assert signs.dtype == np.int8
    assert signs[0].tolist() == [-1 if word >> bit & 1 else 1 for bit in range(32)]


def test_order_and_chunks_do_not_matter() -> None:
    whole = prng.signs(9, 1, 2, np.arange(40), np.arange(300))
    random = np.random.default_rng(0)
    for _ in range(20):
        rows, positions = random.integers(0, 40, 7), random.integers(0, 300, 33)
        assert (prng.signs(9, 1, 2, rows, positions) == whole[np.ix_(rows, positions)]).all()


def test_nothing_asked_for_gives_nothing() -> None:
    assert prng.signs(1, 0, 0, np.arange(0), np.arange(5)).shape == (0, 5)
    assert prng.signs(1, 0, 0, np.arange(5), np.arange(0)).shape == (5, 0)


def test_permutation_is_one() -> None:
    """No two of 2^20 counters give the same word: the round is a bijection."""
    words = prng.sign_words(3, 0, 0, np.arange(1 << 8), np.arange(1 << 12))
    assert len(np.unique(words)) == 1 << 20


@pytest.mark.parametrize(("rows", "words"), [([prng.LIMIT], [0]), ([0], [prng.LIMIT])])
def test_limits(rows: list[int], words: list[int]) -> None:
    with pytest.raises(UnsupportedError, match=f"layer 4: more than {prng.LIMIT}"):
        prng.sign_words(0, 4, 0, np.array(rows), np.array(words))
    last = prng.LIMIT - 1
    assert prng.sign_words(0, 4, 0, np.array([last]), np.array([last])).shape == (1, 1)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_seed_beyond_64_bits(seed: int) -> None:
    with pytest.raises(UnsupportedError, match="seed"):
        prng.layer_keys(seed, 0, 0)
    prng.layer_keys((1 << 64) - 1, 0, 0)


# Statistics, each in standard deviations of a fair coin (the spectral edge as a multiple of its limit).


def matrix(seed: int, layer: int = 3, edge: int = 0) -> np.ndarray:
    return prng.signs(seed, layer, edge, np.arange(ROWS), np.arange(COLUMNS)).astype(np.float32)


def largest_product(vectors: np.ndarray) -> float:
    products = np.abs(vectors @ vectors.T) / vectors.shape[1] ** 0.5
    np.fill_diagonal(products, 0)
    return float(products.max())


def monobit(seed: int) -> float:
    return float(abs(matrix(seed).sum()) / (ROWS * COLUMNS) ** 0.5)


def every_lag(seed: int) -> float:
    """Largest circular autocorrelation of the layer's signs in a row, over all 1.2 million lags."""
    flat = matrix(seed).reshape(-1)
    power = np.abs(np.fft.rfft(flat)) ** 2
    return float(np.abs(np.fft.irfft(power, flat.size)[1 : flat.size // 2]).max() / flat.size**0.5)


def per_bit(seed: int) -> float:
    return float(np.abs(matrix(seed).reshape(-1, 32).sum(0)).max() / (ROWS * COLUMNS / 32) ** 0.5)


def per_filter(seed: int) -> float:
    return float(np.abs(matrix(seed).sum(1)).max() / COLUMNS**0.5)


def per_position(seed: int) -> float:
    return float(np.abs(matrix(seed).sum(0)).max() / ROWS**0.5)


def filter_pairs(seed: int) -> float:
    return largest_product(matrix(seed))


def position_pairs(seed: int) -> float:
    return largest_product(np.ascontiguousarray(matrix(seed)[:, :1024].T))


def against(other: Callable[[int], np.ndarray], seed: int) -> float:
    """Agreement with another seed's, layer's or edge's matrix, in the whole."""
    return float(abs((matrix(seed) * other(seed)).sum()) / (ROWS * COLUMNS) ** 0.5)


def against_by_filter(other: Callable[[int], np.ndarray], seed: int) -> float:
    return float(np.abs((matrix(seed) * other(seed)).sum(1)).max() / COLUMNS**0.5)


def spectral_edge(seed: int) -> float:
    """Largest singular value over its limit for independent entries, sqrt(columns) + sqrt(rows); to 1 % from below."""
    signs = matrix(seed)
    gram = signs @ signs.T / COLUMNS
    vector = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    for _ in range(300):  # power iteration: a full eigenvalue solver takes seconds on a busy machine
        vector = gram @ (vector / np.linalg.norm(vector))
    return float(np.linalg.norm(vector) ** 0.5 / (1 + (ROWS / COLUMNS) ** 0.5))


OTHERS: dict[str, Callable[[int], np.ndarray]] = {
    "seed": lambda seed: matrix(seed + 1),
    "high seed word": lambda seed: matrix(seed ^ 1 << 32),
    "layer": lambda seed: matrix(seed, 4),
    "edge": lambda seed: matrix(seed, 3, 1),
}
STATISTICS: dict[str, tuple[Callable[[int], float], float]] = {  # what, and the most that is allowed
    "monobit": (monobit, 4.0),
    "every lag": (every_lag, 6.5),
    "per bit": (per_bit, 5.0),
    "per filter": (per_filter, 5.5),
    "per position": (per_position, 5.5),
    "filter pairs": (filter_pairs, 6.0),
    "position pairs": (position_pairs, 6.5),
    "spectral edge": (spectral_edge, 1.02),
    **{f"next {name}": (partial(against, other), 4.5) for name, other in OTHERS.items()},
    **{f"next {name} by filter": (partial(against_by_filter, OTHERS[name]), 5.5) for name in ("seed", "layer", "edge")},
}
SEEDS = (7, 8, 1 << 40)
NEEDS_MORE_THAN_TWO = ("every lag", "per position", "filter pairs", "position pairs", "spectral edge")


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name: str) -> None:
    measure, most = STATISTICS[name]
    values = [measure(seed) for seed in SEEDS]
    assert max(values) <= most, f"{name}: {values}"


def use_rounds(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prng, "ROUNDS", rounds)
    monkeypatch.setattr(prng, "layer_keys", prng.layer_keys.__wrapped__)  # not the keys that are remembered


@pytest.mark.parametrize("name", NEEDS_MORE_THAN_TWO)
def test_two_rounds_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes the test above worth something: it refuses half the rounds."""
    use_rounds(2, monkeypatch)
    measure, most = STATISTICS[name]
    assert min(measure(seed) for seed in SEEDS) > most


@pytest.mark.parametrize("name", sorted(set(STATISTICS) - set(NEEDS_MORE_THAN_TWO)))
def test_one_round_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_rounds(1, monkeypatch)
    measure, most = STATISTICS[name]
    assert max(measure(seed) for seed in SEEDS) > most
