"""This machine's CPU through ONNX Runtime, in child processes: a runtime that crashes or hangs becomes an error."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.budget import Artifact, Cost, Report
from edgeticket.targets._confined import WORKER, Limits, ask, check

FORMATS = ("onnx",)
BURST = 25
PACED_BURST = 10
FEATURES = [
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
]


def missing() -> str | None:
    """What has to be installed before `measure` works, or None."""
    absent = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    return f"pip install {' '.join(absent)}" if absent else None


def measure(
    artifacts: Sequence[Artifact],
    *,
    threads: int,
    runs: int,
    warmup: int,
    period_ms: float | None,
    paced_runs: int,
    seed: int,
    timeout_s: float,
    memory_mb: int,
) -> list[Report]:
    """Each model alone for memory, load and first run, then all of them in turns in one process for latency.

    `runs` and `paced_runs` are rounded up to whole turns; `memory_mb` is what each model may take. Raises UnsupportedError for a
    file that is not one self-contained ONNX graph of known operations with known input sizes, EdgeTicketError when the runtime
    refuses a model, crashes, or exceeds a limit.
    """
    alone, together = Limits(memory_mb, timeout_s), Limits(memory_mb * len(artifacts), timeout_s)
    check([artifact.path for artifact in artifacts], alone, sized=True)
    load_before = _load_average()
    common = {"threads": threads, "seed": seed}
    paths = [str(artifact.path.resolve()) for artifact in artifacts]
    names = [artifact.path.name for artifact in artifacts]
    starts = [
        ask(WORKER, {"do": "start", "path": path, **common}, name, alone)
        for path, name in zip(paths, names, strict=True)
    ]
    turns = {"rounds": -(-runs // BURST), "burst": BURST, "warmup": warmup}
    paced = {"period_ms": period_ms, "paced_rounds": -(-paced_runs // PACED_BURST), "paced_burst": PACED_BURST}
    steady = ask(WORKER, {"do": "steady", "paths": paths, **common, **turns, **paced}, ", ".join(names), together)
    environment = {**describe_machine(), **steady["facts"], **common, "load_average_before": load_before}
    shared = {**turns, "period_ms": period_ms}
    return [
        _report(artifact, start, samples, missed, environment, shared)
        for artifact, start, samples, missed in zip(artifacts, starts, steady["samples"], steady["missed"], strict=True)
    ]


def turns(
    paths: Sequence[Path],
    *,
    threads: int,
    rounds: int,
    most_rounds: int,
    turn_ms: float,
    spread: float,
    timeout_s: float,
) -> list[list[float]]:
    """Medians in ms of the turns of each file, in one process; the files are trusted, and run as they are written.

    Raises EdgeTicketError as `measure` does, but for memory, of which they may take any.
    """
    names = [str(path.resolve()) for path in paths]
    asked: dict[str, Any] = {"threads": threads, "seed": 0, "rounds": rounds, "most_rounds": most_rounds}
    asked |= {"turn_ms": turn_ms, "spread": spread}
    what, limits = f"{len(names)} operations of a latency table", Limits(None, timeout_s)
    medians: list[list[float]] = ask(WORKER, {"do": "turns", "paths": names, **asked}, what, limits)["medians"]
    return medians


def _report(
    artifact: Artifact,
    start: Mapping[str, Any],
    samples: Mapping[str, list[float]],
    missed: int,
    environment: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> Report:
    if environment["threads"] > 1:  # the calling thread's share of the work says nothing then
        samples = {name: values for name, values in samples.items() if name != "cpu_ms"}
    details = {**{key: value for key, value in start.items() if key != "facts"}, **shared}
    if "paced_ms" in samples:
        details["missed_deadlines"] = missed
    latency = float(np.median(samples["wall_ms"]))
    cost = Cost("cpu", "measured", latency_ms=latency, ram_bytes=start["peak_rss_bytes"])
    return Report(str(artifact.path), artifact.sha256, "cpu", cost, samples, environment, details)


def describe_machine() -> dict[str, Any]:
    """What a reader needs to judge the figures; None where the system does not say."""
    rows = _cpu_rows()
    flags = set((rows.get("flags") or rows.get("Features") or "").split())
    return {
        "cpu": rows.get("model name") or platform.processor() or platform.machine(),
        "features": [feature for feature in FEATURES if feature in flags],
        "cores": os.cpu_count(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "os": platform.platform(),
        "python": platform.python_version(),
        "load_average": _load_average(),
    }


def _cpu_rows() -> dict[str, str]:
    pairs = (line.split(":", 1) for line in (_text("/proc/cpuinfo") or "").splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _load_average() -> list[float] | None:
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
