"""Does a record of a proof of concept say what its evidence says? Its seal, then every leaf that can be derived anew.

A record and the folder that it lies in are whatever somebody sent: the seal only tells that nothing was altered by accident. So
tickets, rivals and delivered files are read again, run again on the data and judged again; the first field that differs is named.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeticket.claims.again import Again
from edgeticket.claims.leaves import agrees, anonymous, leaves, shown, within
from edgeticket.data import Data, load
from edgeticket.errors import DataError, EquivalenceError
from edgeticket.poc import record

# What no file and no data tell, by why. "[]": of every entry of a list; whatever is inside is meant too.
TAKEN: dict[str, tuple[str, ...]] = {
    "measured then, with a clock or a meter": (
        *(f"{rows}[].{key}" for rows in ("rows", "sparser", "rivals") for key in ("cpu_seconds", "wall_seconds")),
        "rows[].latency_ms",
        "rivals[].latency_ms",
        "indicators.cost.run_wall_seconds",
        "indicators.cost.joules",
        "chosen.device_seconds",
        "chosen.bench[]",
    ),
    "measured then, on the budget's machine or a simulated core": (
        "rows[].terms[].value",
        "rows[].terms[].how",
        "sparser[].terms[].value",
        "sparser[].terms[].how",
        "chosen.cores",
    ),
    "of the search itself: search again with the seed": (
        "rows[].curve",
        "sparser[].curve",
        "rows[].failed",
        "sparser[].failed",
        "rivals[].failed",
    ),
    "not told by a rival's file": ("rivals[].bytes", "rivals[].what"),
    "of links of the chain that could not be run here, or there": (
        "chosen.chain.links[]",
        *(f"chosen.chain.{word}[]" for word in ("accuracy", "rmse", "auc")),
    ),
    "as it was asked": (
        *(f"request.{key}" for key in ("command", "name", "data", "layout", "task", "images")),
        *(f"request.{key}" for key in ("max_cost_s", "period_ms", "settings.float_step", "settings")),
        "prices",
    ),
    "where it was run": ("environment", "indicators.cost.workers"),
}


@dataclass(frozen=True)
class Claims:
    """`derived`: leaves that were derived anew, by part of the record; `taken`: names of those that were not, by why."""

    path: str
    seal: str
    derived: dict[str, int]
    taken: dict[str, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "passed": True}

    def text(self) -> str:
        total = sum(self.derived.values())
        parts = ", ".join(f"{part} {count:,}" for part, count in self.derived.items())
        lines = [f"{self.path}: the seal {self.seal[:16]} fits, and {total:,} fields are as derived anew: {parts}"]
        lines += [f"not derived anew, {why}: {', '.join(names)}" for why, names in self.taken.items()]
        return "\n".join(lines)


def check(path: str | Path, data: Data | None = None) -> Claims:
    """Derive a record anew, from the folder that it lies in and `data` (else those that it names).

    Raises EquivalenceError for a broken seal or the first field that differs, DataError for other data than the record's.
    """
    told = record.read(path)
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    try:
        given = data or _data(told)
        _require_data(told, given)
        return _compared(str(path), told, Again(told, folder, given).record())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        told_error = f"{type(error).__name__}: {error}"
        raise EquivalenceError(f"{path}: not a record as a proof of concept leaves it ({told_error})") from error


def _data(told: dict[str, Any]) -> Data:
    asked = told["request"]
    return load(asked["data"], layout=asked["layout"], images=asked["images"], task=asked["task"])


def _require_data(told: dict[str, Any], data: Data) -> None:
    if data.digest != told["data"]["digest"]:
        raise DataError(
            f"data {data.name} have the digest {data.digest[:16]}, the record's {told['data']['digest'][:16]}: give the same with -d"
        )


def _compared(path: str, told: dict[str, Any], made: dict[str, Any]) -> Claims:
    sections = [*made, *(key for key in told if key not in made)]
    known = dict(leaves({key: told[key] for key in sections if key in told}))
    own, taken = dict(leaves(made)), dict[str, list[str]]()
    derived: Counter[str] = Counter()
    for name, value in known.items():
        if name in own:
            if not agrees(value, own[name]):
                raise EquivalenceError(
                    f"{path}: {name} is {value!r} in the record, and {shown(own[name])} derived anew"
                )
            derived[anonymous(name).partition(".")[0].removesuffix("[]")] += 1
            continue
        why, place = _taken(name)
        if not place:
            raise EquivalenceError(f"{path}: {name} is {value!r} in the record, and nothing derives it")
        taken.setdefault(why, []).append(place)
    missing = next((name for name in own if name not in known), None)
    if missing:
        raise EquivalenceError(f"{path}: {missing} is missing in the record, and {shown(own[missing])} derived anew")
    return Claims(path, told["seal"], dict(derived), {why: tuple(dict.fromkeys(names)) for why, names in taken.items()})


def _taken(name: str) -> tuple[str, str]:
    """Why a leaf cannot be derived, and the place of TAKEN that it is in; empty where there is none."""
    for why, places in TAKEN.items():
        for place in places:
            if within(name, place):
                return why, place
    return "", ""
