"""Which devices are in a stage: those whose hash lies lowest. Nobody leaves when a stage grows or the fleet does."""

import hashlib
import math
from collections.abc import Collection
from fractions import Fraction

EVERYWHERE = 2**63 - 1


def position(rollout: str, device: str) -> int:
    """Where a device stands in a roll-out, 0 to 2^63 - 1: another roll-out starts with other devices."""
    return int.from_bytes(hashlib.sha256(f"{rollout}\n{device}".encode()).digest()[:8]) >> 1


def size(devices: int, percent: float) -> int:
    """How many of so many devices are in a stage, rounded up: `percent` as it was written, 8.3 % of 3,000 is 249."""
    return math.ceil(devices * Fraction(str(percent)) / 100)


def bound(rollout: str, devices: Collection[str], percent: float) -> int:
    """The highest position inside a stage of `percent` of `devices`, -1 where there are none."""
    if percent == 100:
        return EVERYWHERE
    inside = size(len(devices), percent)
    return sorted(position(rollout, device) for device in devices)[inside - 1] if inside else -1
