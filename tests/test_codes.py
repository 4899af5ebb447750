"""Range coder and encoders: everything decodes again, nothing else is accepted, and codes are as short as they claim."""

from contextlib import suppress
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeticket.codes import (
    edges_of,
    pack_int8,
    pack_parameters,
    pack_sums,
    room,
    sums_of,
    unpack_int8,
    unpack_parameters,
    unpack_sums,
)
from edgeticket.errors import EdgeTicketError, TicketError
from edgeticket.range_coder import HALF, Decoder, encode
from edgeticket.rounding import TOP, grid_unit, round_parameters


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(HALF, 3)), max_size=400))
def test_bits_come_back(pairs: list[tuple[int, int]]) -> None:
    bits, contexts = [bit for bit, _ in pairs], [context for _, context in pairs]
    decoder = Decoder(encode(bits, contexts, 4), 4)
    assert [decoder.bit(context) for context in contexts] == bits


def test_carries_run_through_full_bytes() -> None:
    """Codes of the likeliest carries: long runs of the unlikely side of a skewed context."""
    rng = np.random.default_rng(0)
    for skew in (0.5, 0.01, 0.001):
        bits = (rng.random(20_000) < skew).astype(int).tolist()
        bits += [1] * 40 + [0] * 400 + [1] * 40
        decoder = Decoder(encode(bits, [0] * len(bits), 1), 1)
        assert [decoder.bit(0) for _ in bits] == bits


@pytest.mark.parametrize("p", [0.5, 0.2, 0.05, 0.01])
def test_codes_are_within_two_percent_of_the_entropy(p: float) -> None:
    bits = np.random.default_rng(1).random(40_000) < p
    share = bits.mean()
    entropy = -(share * log2(share) + (1 - share) * log2(1 - share)) * len(bits) / 8
    assert entropy - 1 < len(encode(bits.astype(int).tolist(), [0] * len(bits), 1)) < 1.02 * entropy + 2


def random_masks(edges: int, signed: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], (8, edges, 6, 3, 3)).astype(np.int8)
    wanted = np.round(rng.normal(0, 0.8, (8, 6, 3, 3))).astype(np.int8)
    mask, flips = edges_of(wanted, signs, signed)
    return mask, flips if signed else None, signs


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("edges", [1, 2, 3, 8, 16])
def test_sums_give_the_mask_back(edges: int, signed: bool) -> None:
    mask, flips, signs = random_masks(edges, signed)
    values = sums_of(mask, flips, signs)
    assert values is not None
    code = pack_sums(values.reshape(-1), *room(signs, signed))
    back = unpack_sums(code, *room(signs, signed)).reshape(values.shape)
    again = edges_of(back, signs, signed)
    assert (again[0] == mask).all()
    assert flips is None or (again[1] == flips).all()
    assert not again[1].any() or signed


def test_masks_that_sums_do_not_tell_are_known() -> None:
    mask, _, signs = random_masks(3, False)
    assert sums_of(mask, None, signs) is not None
    second = mask.copy()  # the second of two equal edges, not the first
    filters, inputs = np.nonzero(
        (signs[:, 0, :, 0, 0] == signs[:, 1, :, 0, 0]) & mask[:, 0, :, 0, 0] & ~mask[:, 1, :, 0, 0]
    )
    second[filters[0], [0, 1], inputs[0], 0, 0] = [False, True]
    both = mask.copy()  # of opposite signs, which cancel
    filters, inputs = np.nonzero((signs[:, 0, :, 0, 0] != signs[:, 1, :, 0, 0]) & ~mask[:, :, :, 0, 0].any(1))
    both[filters[0], :2, inputs[0], 0, 0] = True
    for other in (second, both):
        assert sums_of(other, None, signs) is None


def test_parallel_edges_cost_less_than_their_mask() -> None:
    """With three edges per connection: the side that a connection cannot take, and equal edges, are no information."""
    mask, _, signs = random_masks(3, False)
    values = sums_of(mask, None, signs)
    share = mask.mean()
    bits = -(share * log2(share) + (1 - share) * log2(1 - share)) * mask.size
    assert 8 * len(pack_sums(values.reshape(-1), *room(signs, False))) < 0.9 * bits


@pytest.mark.parametrize("scale", [0.3, 3, 20, 60])
def test_int8_comes_back_and_small_values_are_short(scale: float) -> None:
    values = np.random.default_rng(2).normal(0, scale, 3000).round().clip(-128, 127).astype(np.int8)
    code = pack_int8(values)
    assert (unpack_int8(code, 3000) == values).all()
    p = np.unique(values, return_counts=True)[1] / 3000
    assert len(code) < min(3002, 1.06 * -(p * np.log2(p)).sum() * 3000 / 8 + 40)


@given(st.lists(st.integers(-128, 127), max_size=60))
def test_any_int8_comes_back(values: list[int]) -> None:
    array = np.array(values, np.int8)
    assert (unpack_int8(pack_int8(array), len(values)) == array).all()


@given(st.binary(max_size=30), st.integers(0, 40))
def test_any_code_is_decoded_or_refused(code: bytes, size: int) -> None:
    both = np.full(size, 2)
    for decode in (unpack_int8, unpack_parameters, lambda code, size: unpack_sums(code, both, both)):
        with suppress(TicketError):
            assert len(decode(code, size)) == size


def test_longer_and_unmarked_codes_are_refused() -> None:
    """A code that was cut may be another's: the ticket's seal is there for that."""
    mask, _, signs = random_masks(3, False)
    sides = room(signs, False)
    code = pack_sums(sums_of(mask, None, signs).reshape(-1), *sides)
    for bad in (code + b"\1", b"\0" + code[1:]):
        with pytest.raises(TicketError, match="sums"):
            unpack_sums(bad, *sides)
    code = pack_int8(np.arange(-20, 20, dtype=np.int8).repeat(20))
    for bad in (code + b"\1", b"\0" + code[1:]):
        with pytest.raises(TicketError, match="int8"):
            unpack_int8(bad, 800)


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=40))
def test_rounded_values_are_multiples_of_one_unit_for_good(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    rounded = round_parameters(values)
    assert (round_parameters(rounded) == rounded).all()
    unit = grid_unit(rounded)
    assert unit is not None
    assert (np.abs(rounded - values) <= 0.501 * np.abs(values).max() / TOP + TOP * 2.0**-125).all()
    if unit:
        assert np.abs(rounded).max() == pytest.approx(np.abs(values).max(), rel=1e-4)
    code = pack_parameters(rounded)
    assert len(code) == 5 + len(values)
    assert (unpack_parameters(code, len(values)) == rounded).all()


def test_scales_do_not_vanish_and_those_too_far_apart_stay() -> None:
    values = np.array([1, -0.5, 0.001, 0.3, 0.7], np.float32)
    assert round_parameters(values)[2] == 0
    scales = round_parameters(values, nonzero=True)
    assert (np.sign(scales) == np.sign(values)).all()
    assert grid_unit(scales) is not None
    outlier = np.array([105, 0.7, 0.8, 0.9, 0.6], np.float32)
    assert (round_parameters(outlier, nonzero=True) == outlier).all()
    kept = scales[1:]  # the largest has left
    assert (round_parameters(kept) == kept).all()
    for bad in (np.nan, np.inf):
        with pytest.raises(EdgeTicketError, match="not finite"):
            round_parameters(np.array([1, bad], np.float32))


def test_values_on_no_grid_stay_as_they_are() -> None:
    values = np.random.default_rng(3).normal(size=9).astype(np.float32)
    code = pack_parameters(values)
    assert len(code) == 1 + 4 * 9
    assert (unpack_parameters(code, 9) == values).all()
