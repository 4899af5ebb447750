"""Joules of this machine's processors, where it can tell: Linux' powercap counters (RAPL, Intel SDM volume 3, 16.10)."""

from collections.abc import Mapping
from pathlib import Path

COUNTERS = Path("/sys/class/powercap")
SOURCE = "powercap: whole processor packages, with whatever else ran"


def read(counters: Path = COUNTERS) -> dict[str, tuple[int, int]] | None:
    """Microjoules so far and where the count wraps, of each package; None where there is none or it may not be read."""
    found = {}
    try:
        for zone in sorted(counters.glob("intel-rapl:[0-9]*")):
            if zone.name.count(":") == 1:  # a package: its parts are counted in it
                found[zone.name] = (
                    int((zone / "energy_uj").read_text()),
                    int((zone / "max_energy_range_uj").read_text()),
                )
    except (OSError, ValueError):
        return None
    return found or None


def joules(before: Mapping[str, tuple[int, int]] | None, after: Mapping[str, tuple[int, int]] | None) -> float | None:
    """Between two readings, at most one wrap of a counter apart."""
    if not before or not after or before.keys() != after.keys():
        return None
    spent = sum((after[name][0] - count) % (wrap + 1) for name, (count, wrap) in before.items())
    return spent / 1e6
