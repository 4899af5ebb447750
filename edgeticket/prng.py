"""The one definition of the random network: a sign for every (seed, layer, edge, filter, position).

A word is a keyed 32-bit permutation of the counter `filter << 16 | position // 32`; its bit `position % 32` is the sign
(1 = minus). `position` runs through a filter's fan-in of the WIDE network (input channel, then tap), so a compacted layer
needs nothing but its kept rows and columns to meet the same signs again.

One round is RC6's quadratic and a swap of halves, `x -> swap16(x * (2x + 1)) + key` modulo 2^32 (Rivest et al., "The RC6
block cipher", 1998): a bijection of four instructions on a Cortex-M4, without XOR, so an ONNX graph of int32 Mul, Add, Div
and Mod computes the same bits with every intermediate below 2^31. Three rounds pass the statistics in tests/test_prng.py,
two do not; four are used. It is not a cipher.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from edgeticket.errors import UnsupportedError

GENERATOR = "quad32-4"
ROUNDS = 4
LIMIT = 1 << 16  # filters in a layer, and words in a filter
_STEP = 0x9E3779B9  # golden ratio: fills the key slots while keys are made
_START = 0x243F6A88  # fraction of pi


def permute(words: np.ndarray, keys: Sequence[int]) -> np.ndarray:
    """One round per key over uint32 `words`."""
    for key in keys:
        words = words * (words + words + np.uint32(1))
        words = ((words >> np.uint32(16)) | (words << np.uint32(16))) + np.uint32(key)
    return words


@lru_cache(maxsize=1024)
def layer_keys(seed: int, layer: int, edge: int) -> tuple[int, ...]:
    """The 1 + ROUNDS keys of one edge of one layer: what is added to the counter, then one key a round.

    Raises UnsupportedError for a seed beyond 64 bits.
    """
    if not 0 <= seed < 1 << 64:
        raise UnsupportedError(f"seed {seed}: choose one from 0 to 2^64 - 1")
    state, keys = np.array([_START], np.uint32), []
    words = (seed & 0xFFFFFFFF, seed >> 32, layer, edge, *range(1, ROUNDS + 2))
    for word in words:
        state = permute(state + np.uint32(word), [_STEP] * 2 * ROUNDS)
        keys.append(int(state[0]))
    return tuple(keys[-1 - ROUNDS :])


def sign_words(seed: int, layer: int, edge: int, rows: np.ndarray, words: np.ndarray) -> np.ndarray:
    """uint32 [len(rows), len(words)]: word `words[j]` of filter `rows[i]`. Raises UnsupportedError beyond LIMIT."""
    for what, ids in (("filters", rows), ("sign words in a filter", words)):
        if len(ids) and int(np.max(ids)) >= LIMIT:
            raise UnsupportedError(f"layer {layer}: more than {LIMIT} {what}: use a narrower layer")
    keys = layer_keys(seed, layer, edge)
    counter = np.asarray(rows, np.uint32)[:, None] << np.uint32(16) | np.asarray(words, np.uint32)[None]
    return permute(counter + np.uint32(keys[0]), keys[1:])


def signs(seed: int, layer: int, edge: int, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """int8 [len(rows), len(positions)] of -1 and +1; `seed` in [0, 2^64)."""
    positions = np.asarray(positions, np.int64)
    needed, where = np.unique(positions // 32, return_inverse=True)
    words = sign_words(seed, layer, edge, rows, needed)
    bits = words[:, where] >> (positions % 32).astype(np.uint32) & np.uint32(1)
    return (1 - 2 * bits.astype(np.int8)).astype(np.int8)
