"""Per-channel parameters on a grid, so that a device keeps one byte of each (edgeticket/codes.py).

A unit has so few bits that code * unit is exact in float32: the values themselves show what grid they are on.
"""

from math import frexp, ldexp

import numpy as np

from edgeticket.errors import EdgeTicketError

TOP = 127  # the largest code; the largest value has it
MOST_OFF = 0.02  # the median scale may move by this share of itself
_UNIT_BITS = 17  # 7 bits of a code and these are float32's 24


def round_parameters(values: np.ndarray, *, nonzero: bool = False) -> np.ndarray:
    """float32 [n], each the nearest of code * unit, with one unit for all. What is on such a grid stays as it is.

    `nonzero`: a value other than 0 does not become 0, as a scale of 0 would cut its channel off; and values that lie too far
    apart for one grid stay as they are (a filter whose sums hardly vary has a huge scale). Raises EdgeTicketError for values
    that are not finite.
    """
    if not np.isfinite(values).all():
        raise EdgeTicketError("a scale or bias is not finite: search again with smaller step sizes")
    largest = float(np.abs(values).max(initial=0))
    if not largest > np.finfo(np.float32).tiny * TOP:
        return np.zeros(len(values), np.float32)
    if grid_unit(values) is not None:
        return values
    unit = stored_unit(largest / TOP)
    codes = np.round(values / unit)
    if nonzero:
        codes = np.where(codes == 0, np.sign(values), codes)
        if np.median(np.abs(codes * unit / np.where(values == 0, unit, values) - 1)) > MOST_OFF:
            return values
    return (codes * unit).astype(np.float32)


def stored_unit(least: float) -> float:
    """The smallest unit that is at least `least` > 0 and has few enough bits."""
    mantissa, exponent = frexp(least)
    return ldexp(np.ceil(ldexp(mantissa, _UNIT_BITS)), exponent - _UNIT_BITS)


def grid_unit(values: np.ndarray) -> float | None:
    """A unit of which all values are multiples, 0 where all are 0, None where there is none.

    The largest value may have left with its channel, so that the largest code is any up to 127.
    """
    largest = float(np.abs(values).max(initial=0))
    if largest == 0:
        return 0.0
    for code in range(TOP, 0, -1):
        unit = largest / code
        if ldexp(frexp(unit)[0], _UNIT_BITS).is_integer() and (np.round(values / unit) * unit == values).all():
            return unit
    return None
