"""This machine's CPU through ONNX Runtime, in child processes: a runtime that crashes or hangs becomes an error."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.budget import Artifact, Cost, Report
from edgeticket.errors import EdgeTicketError, UnsupportedError

FORMATS = ("onnx",)
MAX_FILE_BYTES = 512 << 20
MAX_INPUT_ELEMENTS = 1 << 27
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
) -> list[Report]:
    """Each model alone for memory, load and first run, then all of them in turns in one process for latency.

    `runs` and `paced_runs` are rounded up to whole turns. Raises UnsupportedError for a file that is not one self-contained
    ONNX graph with known input sizes, EdgeTicketError when the runtime refuses a model, crashes, or exceeds `timeout_s`.
    """
    for artifact in artifacts:
        check_onnx(artifact)
    load_before = _load_average()
    common = {"threads": threads, "seed": seed}
    paths = [str(artifact.path.resolve()) for artifact in artifacts]
    starts = [_child({"do": "start", "path": path, **common}, timeout_s, [path]) for path in paths]
    turns = {"rounds": -(-runs // BURST), "burst": BURST, "warmup": warmup}
    paced = {"period_ms": period_ms, "paced_rounds": -(-paced_runs // PACED_BURST), "paced_burst": PACED_BURST}
    steady = _child({"do": "steady", "paths": paths, **common, **turns, **paced}, timeout_s, paths)
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

    Raises EdgeTicketError as `measure` does.
    """
    names = [str(path.resolve()) for path in paths]
    asked: dict[str, Any] = {"threads": threads, "seed": 0, "rounds": rounds, "most_rounds": most_rounds}
    asked |= {"turn_ms": turn_ms, "spread": spread}
    medians: list[list[float]] = _child({"do": "turns", "paths": names, **asked}, timeout_s, names)["medians"]
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


def _child(request: Mapping[str, Any], timeout_s: float, paths: Sequence[str]) -> dict[str, Any]:
    """Ask the worker. A negative exit status is the number of the signal that ended it."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("ort_worker.py"))]
    what = ", ".join(Path(path).name for path in paths)
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        hint = "ask for fewer runs, a shorter period, or a longer timeout"
        raise EdgeTicketError(f"bench of {what}: not finished after {timeout_s:g} s: {hint}") from error
    if done.returncode < 0:
        raise EdgeTicketError(
            f"bench of {what}: ONNX Runtime crashed (signal {-done.returncode}): {_last_line(done.stderr)}"
        )
    if done.returncode:
        raise EdgeTicketError(f"bench of {what}: ONNX Runtime cannot run it: {_last_line(done.stderr)}")
    answer: dict[str, Any] = json.loads(_last_line(done.stdout))
    return answer


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "(no message)")


def check_onnx(artifact: Artifact) -> None:
    """Raise UnsupportedError unless the file is one graph, complete in itself, of a size that is reasonable here."""
    import onnx
    from google.protobuf.message import DecodeError

    name = artifact.path.name
    if (size := artifact.path.stat().st_size) > MAX_FILE_BYTES:
        raise UnsupportedError(f"{name}: {size} bytes, more than the {MAX_FILE_BYTES} that are measured here")
    try:
        model = onnx.load_from_string(artifact.contents[0][1])
    except DecodeError as error:
        raise UnsupportedError(f"{name}: not an ONNX file, or cut short") from error
    if model.functions:
        raise UnsupportedError(
            f"{name}: holds local functions: inline them first (onnx.inliner.inline_local_functions)"
        )
    if any(tensor.external_data or tensor.data_location == tensor.EXTERNAL for tensor in _tensors(model.graph)):
        raise UnsupportedError(f"{name}: its weights are in another file: save it as one file")
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor for tensor in model.graph.input if tensor.name not in stored]
    if not inputs or not model.graph.node:
        raise UnsupportedError(f"{name}: the graph has no input or no operation")
    for tensor in inputs:
        _check_input(name, tensor)


def _check_input(name: str, tensor: Any) -> None:
    dims = tensor.type.tensor_type.shape.dim
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
    if any(size < 1 for size in sizes[1:]):
        raise UnsupportedError(f"{name}: input {tensor.name}: only the batch size may be open, the shape is {sizes}")
    if prod(sizes[1:]) * max(1, *sizes[:1], 1) > MAX_INPUT_ELEMENTS:
        raise UnsupportedError(f"{name}: input {tensor.name}: {sizes} has more than {MAX_INPUT_ELEMENTS} elements")


def _tensors(graph: Any) -> Iterator[Any]:
    """Every stored tensor of an ONNX graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


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
