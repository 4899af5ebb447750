"""Per-channel parameters on a grid, so that a device keeps one or two bytes of each (edgeticket/packet.py)."""

import numpy as np

SCALE_BITS, BIAS_BITS = 8, 8


def round_parameters(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 [n], each the nearest of code * unit, |code| < 2^(bits - 1), with one unit for all: the largest has the largest code.

    A value other than 0 does not become 0: a scale of 0 would cut its channel off.
    """
    top = 2 ** (bits - 1) - 1
    unit = np.float32(np.abs(values).max(initial=0) / top)
    if not unit > np.finfo(np.float32).tiny:
        return values.astype(np.float32)
    codes = np.round(values / unit)
    codes = np.where(codes == 0, np.sign(values), codes).astype(np.float32)
    return codes * unit
