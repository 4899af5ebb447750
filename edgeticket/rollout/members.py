"""Which devices are in a stage: those whose hash lies lowest. Nobody leaves when a stage grows or the fleet does."""

import hashlib
import math
from collections.abc import Iterable

EVERYWHERE = 2**63 - 1


def position(rollout: str, device: str) -> int:
    """Where a device stands in a roll-out, 0 to 2^63 - 1: another roll-out starts with other devices."""
    return int.from_bytes(hashlib.sha256(f"{rollout}\n{device}".encode()).digest()[:8]) >> 1


def bound(rollout: str, devices: Iterable[str], percent: float) -> int:
    """The highest position inside a stage of `percent` of `devices`: at least one device, rounded up. -1 where there are none."""
    if percent == 100:
        return EVERYWHERE
    places = sorted(position(rollout, device) for device in devices)
    return places[math.ceil(len(places) * percent / 100 - 1e-9) - 1] if places else -1
