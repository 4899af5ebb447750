"""An adaptive binary range coder: integers of 32 bits alone, so that a microcontroller can decode.

Range coding: G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979; with a
probability per context, adapted bit by bit, as in the LZMA specification (I. Pavlov, 2015). Differs from LZMA: 22-bit
probabilities (16 of them multiply) that start as the estimator of Krichevsky and Trofimov (IEEE Trans. Inf. Theory 27, 1981) and follow the data ever
slower, no leading zero byte, and no more final bytes than the decoder needs, which reads zeros behind the end.
"""

from collections.abc import Sequence

ONE = 1 << 22  # the probability 1
HALF = -1  # the context of bits that are as likely 0 as 1, whatever came before
SLOWEST = 1 << 10  # a probability moves by at least one part in so many
_EDGE = 1 << 11  # no probability is nearer to 0 or 1 than this
_TOP, _FULL = 1 << 24, (1 << 32) - 1


class Adaptive:
    """The probabilities of a 0, one per context."""

    def __init__(self, contexts: int) -> None:
        self.zero, self.seen = [ONE // 2] * (contexts + 1), [0] * contexts  # the last one is HALF's

    def update(self, context: int, bit: int) -> None:
        if context == HALF:
            return
        zero, seen = self.zero[context], self.seen[context]
        zero = zero - zero // (seen + 2) if bit else zero + (ONE - zero) // (seen + 2)
        self.zero[context] = min(max(zero, _EDGE), ONE - _EDGE)
        self.seen[context] = min(seen + 1, SLOWEST)


def encode(bits: Sequence[int], contexts: Sequence[int], count: int) -> bytes:
    """`bits`, each under its context from 0 to `count` - 1, or HALF."""
    model, out = Adaptive(count), bytearray()
    low, size = 0, _FULL
    for bit, context in zip(bits, contexts, strict=True):
        bound = (size >> 16) * (model.zero[context] >> 6)
        if bit:
            low, size = low + bound, size - bound
        else:
            size = bound
        model.update(context, bit)
        while size < _TOP:
            low, size = _shift(low, out), size << 8
    for kept in (0, 8, 16, 24, 32):
        low_end = -(-low >> (32 - kept)) << (32 - kept)  # the next number with no bits behind those
        if low_end < low + size:
            low = low_end
            break
    for _ in range(4):
        low = _shift(low, out)
    return bytes(out).rstrip(b"\0")


def _shift(low: int, out: bytearray) -> int:
    """Move the highest byte out, with its carry."""
    if low > _FULL:
        i = len(out) - 1
        while out[i] == 255:
            out[i] = 0
            i -= 1
        out[i] += 1
        low &= _FULL
    out.append(low >> 24)
    return (low & 0xFFFFFF) << 8


class Decoder:
    """Reads bits in the order in which they were encoded. Whatever it is given, it gives some bits."""

    def __init__(self, code: bytes, count: int) -> None:
        self.model, self.code, self.at = Adaptive(count), code, 4
        self.size, self.value = _FULL, int.from_bytes(code[:4].ljust(4, b"\0"), "big")

    def bit(self, context: int) -> int:
        bound = (self.size >> 16) * (self.model.zero[context] >> 6)
        bit = int(self.value >= bound)
        if bit:
            self.value, self.size = self.value - bound, self.size - bound
        else:
            self.size = bound
        self.model.update(context, bit)
        while self.size < _TOP:
            following = self.code[self.at] if self.at < len(self.code) else 0
            self.value, self.size, self.at = (self.value << 8 | following) & _FULL, self.size << 8, self.at + 1
        return bit
