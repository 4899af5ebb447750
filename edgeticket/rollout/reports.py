"""What a device reports, one JSON object a line, read with suspicion."""

import json
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

from edgeticket.rollout.plan import DIGEST, NAME

LONGEST = 4096  # bytes of a line
LARGEST = 2**31  # of a count
LAST = 2**53  # of a sequence: what JSON numbers carry exactly everywhere


@dataclass(frozen=True)
class Report:
    """Since the report before: `sequence` counts a device's reports up, `model` is the digest of the model that is on trial there.

    disagreements: with the other model run aside, None where there was none; misses: of the deadline; latency_ms: 99th percentile.
    """

    device: str
    model: str
    sequence: int
    inferences: int
    disagreements: int | None = None
    self_test: str | None = None
    guard_alarms: int | None = None
    misses: int | None = None
    latency_ms: float | None = None


# By gate: failures and trials of a report; no trial where the device did not say.
MEASURES: dict[str, Callable[[Report], tuple[int, int]]] = {
    "disagreement": lambda report: _of(report.disagreements, report),
    "self_test": lambda report: (int(report.self_test == "failed"), int(report.self_test is not None)),
    "guard": lambda report: _of(report.guard_alarms, report),
    "latency": lambda report: _of(report.misses, report),
}
KEYS = {field.name for field in fields(Report)}


def _of(count: int | None, report: Report) -> tuple[int, int]:
    return (0, 0) if count is None else (count, report.inferences)


class Refused(Exception):
    """Not a report; the text is a stable word that refusals are counted by."""


def lines(content: bytes | Iterable[bytes]) -> Iterable[bytes]:
    """Those that are not blank."""
    split = content.split(b"\n") if isinstance(content, bytes) else content
    return (line for line in map(bytes.strip, split) if line)


def parse(line: bytes, own: Collection[str] | None = None) -> Report:
    """One line -> Report. Raises Refused: too-long, not-json, wrong-keys, wrong-value, inconsistent, not-its-own (a device not of `own`)."""
    if len(line) > LONGEST:
        raise Refused("too-long")
    try:
        raw = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refused("not-json") from None
    if not isinstance(raw, dict) or not {"device", "model", "sequence", "inferences"} <= raw.keys() <= KEYS:
        raise Refused("wrong-keys")
    report = _checked(raw)
    if own is not None and report.device not in own:
        raise Refused("not-its-own")
    return report


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(word: str) -> float:
    raise ValueError(word)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _checked(raw: dict[str, Any]) -> Report:
    counts = [raw.get(name) for name in ("disagreements", "guard_alarms", "misses")]
    fit = (
        _matches(NAME, raw["device"])
        and _matches(DIGEST, raw["model"])
        and _count(raw["sequence"], LAST)
        and _count(raw["inferences"])
        and all(count is None or _count(count) for count in counts)
        and raw.get("self_test") in (None, "ok", "failed")
        and _latency(raw.get("latency_ms"))
    )
    if not fit:
        raise Refused("wrong-value")
    if any(count is not None and count > raw["inferences"] for count in counts):
        raise Refused("inconsistent")
    return Report(**raw)


def _matches(pattern: Any, value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _count(value: object, most: int = LARGEST) -> bool:
    return type(value) is int and 0 <= value <= most


def _latency(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= LARGEST and math.isfinite(value))  # type: ignore[operator,arg-type]
