"""Exported C on this machine, compiled by its cc with -O2: latency, in turns."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from edgeticket.budget import Artifact, Cost, Report
from edgeticket.targets import _build
from edgeticket.targets._machine import describe_machine

FORMATS = ("c",)
BURST = 25
PROGRAM = "build/host/selftest"


def missing() -> str | None:
    """What has to be installed before `measure` works, or None."""
    return _build.missing("make", "cc")


def measure(
    artifacts: Sequence[Artifact],
    *,
    threads: int,
    runs: int,
    warmup: int,
    period_ms: float | None,
    timeout_s: float,
    **_: Any,
) -> list[Report]:
    """Each folder's self-test, then all of them in turns of BURST inferences, a process a turn; `runs` rounded up to whole turns.

    Raises UnsupportedError for a folder that is not an export, EquivalenceError when its self-test fails, EdgeTicketError when
    it does not build or a command takes longer than `timeout_s`.
    """
    _build.check_plain("host-c", threads, period_ms)
    environment = {**describe_machine(), "compiler": _build.version("cc"), "flags": "-std=c99 -O2", "threads": 1}
    with ExitStack() as stack:
        places = [stack.enter_context(_build.workplace(artifact)) for artifact in artifacts]
        for place in places:
            place.make(PROGRAM, timeout_s=timeout_s)
            _build.check_passed(_selftest(place, timeout_s), f"{place.what} on host-c")
        firsts = [_times(place, 0, 1, timeout_s)[0] for place in places]
        samples: list[list[float]] = [[] for _ in places]
        for turn in range(-(-runs // BURST)):
            for place, into in zip(places, samples, strict=True):
                into += _times(place, warmup if turn == 0 else 1, BURST, timeout_s)
    details = {"burst": BURST, "warmup": warmup, "selftest": "passed"}
    return [
        _report(artifact, wall, environment, details | {"first_ms": first})
        for artifact, wall, first in zip(artifacts, samples, firsts, strict=True)
    ]


def _selftest(place: _build.Workplace, timeout_s: float) -> str:
    try:
        return _build.run([str(place.folder / PROGRAM)], place.what, timeout_s)
    except _build.ToolError as error:
        if "self-test:" in error.output:
            return error.output
        raise


def _times(place: _build.Workplace, warmup: int, runs: int, timeout_s: float) -> list[float]:
    """Wall time in ms of each inference but the first `warmup`, in a process of its own."""
    command = [str(place.folder / PROGRAM), str(warmup), str(runs)]
    return [int(line) / 1e6 for line in _build.run(command, place.what, timeout_s).split()]


def _report(artifact: Artifact, wall: list[float], environment: dict[str, Any], details: dict[str, Any]) -> Report:
    cost = Cost("host-c", "measured", latency_ms=float(np.median(wall)))
    return Report(str(artifact.path), artifact.sha256, "host-c", cost, {"wall_ms": wall}, environment, details)
