"""The process that runs ONNX Runtime for `on_cpu`: one JSON request on stdin, one JSON answer as the last line of stdout.

Run by its path: it loads numpy and onnxruntime and nothing of this package, so that its memory is the runtime's and the model's,
and a crash of the runtime ends this process only.
"""

import gc
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

RANGES = {"tensor(uint8)": (0, 256, "u1"), "tensor(int8)": (-128, 128, "i1"), "tensor(bool)": (0, 2, "?")}
TYPES = {
    "tensor(float)": "f4",
    "tensor(double)": "f8",
    "tensor(float16)": "f2",
    "tensor(uint16)": "u2",
    "tensor(int16)": "i2",
    "tensor(int32)": "i4",
    "tensor(int64)": "i8",
}
ALIGNMENT = 64  # bytes: a cache line, an AVX-512 register
LONGEST_ERROR = 2000  # characters
Feeds = dict[str, np.ndarray]
Samples = dict[str, list[float]]


def open_session(model: str | bytes, threads: int, *, as_written: bool = False) -> Any:
    """A session on the CPU that runs one node after the other, with `threads` threads inside a node."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_feeds(session: Any, seed: int) -> Feeds:
    """Batch 1 of raw sensor values: whole numbers, 0 to 255 where the type holds them."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for tensor in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in tensor.shape]
        low, high, kind = RANGES.get(tensor.type) or (0, 256, TYPES[tensor.type])
        feeds[tensor.name] = generator.integers(low, high, shape).astype(kind)
    return feeds


def memory() -> dict[str, int | None]:
    """Resident bytes of this process, now and at most. The kernel's own high-water mark: getrusage counts the parent's too."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return {"rss_bytes": int(rows["VmRSS"].split()[0]) * 1024, "peak_bytes": int(rows["VmHWM"].split()[0]) * 1024}
    except (OSError, KeyError):
        return {"rss_bytes": None, "peak_bytes": None}


def start(path: str, threads: int, seed: int) -> dict[str, Any]:
    """Memory of one model alone, and the time to load it and to run it for the first time."""
    import onnxruntime  # noqa: F401  its import is not the model's cost

    before = memory()["rss_bytes"]
    begin = time.perf_counter_ns()
    session = open_session(path, threads)
    init = time.perf_counter_ns() - begin
    loaded = memory()["rss_bytes"]
    feeds = random_feeds(session, seed)
    begin = time.perf_counter_ns()
    session.run(None, feeds)
    first = time.perf_counter_ns() - begin
    return {
        "init_ms": init / 1e6,
        "first_ms": first / 1e6,
        "runtime_rss_bytes": before,
        "loaded_rss_bytes": loaded,
        "peak_rss_bytes": memory()["peak_bytes"],
    }


def steady(
    paths: list[str], threads: int, seed: int, warmup: int, rounds: int, burst: int, **paced: Any
) -> dict[str, Any]:
    """Latency of several models, in turns of `burst` inferences: A B A B, so that noise from outside meets all of them."""
    sessions = [open_session(path, threads) for path in paths]
    runs = [(session, random_feeds(session, seed)) for session in sessions]
    for session, feeds in runs:
        for _ in range(warmup):
            session.run(None, feeds)
    gc.disable()
    samples: list[Samples] = [{"wall_ms": [], "cpu_ms": []} for _ in runs]
    for _ in range(rounds):
        for (session, feeds), into in zip(runs, samples, strict=True):
            session.run(None, feeds)  # not recorded: the caches still hold the model before
            back_to_back(session, feeds, burst, into)
    missed = [0] * len(runs)
    if paced["period_ms"]:
        for into in samples:
            into.update({"paced_ms": [], "late_ms": []})
        for _ in range(paced["paced_rounds"]):
            for i, (session, feeds) in enumerate(runs):
                missed[i] += at_period(session, feeds, paced["paced_burst"], paced["period_ms"], samples[i])
    return {"samples": samples, "missed": missed}


def infer(files: list[tuple[str, str, str]], most: dict[str, int], given: str, size: int, batch: int) -> dict[str, Any]:
    """The first output of each of `files`, path, name and where it goes, for the examples in the file `given`, `batch` at once.

    What ONNX Runtime gets are the bytes that were looked at. A file that does not give `size` numbers an example is refused.
    """
    check = runpy.run_path(os.path.join(os.path.dirname(__file__), "onnx_check.py"))
    raw, operations = np.load(given, mmap_mode="r"), []
    for path, name, made in files:
        with open(path, "rb") as file:
            content = file.read()
        try:
            operations.append(check["look"](content, name, most, False))
        except check["RefusedError"] as error:
            return {"refused": str(error)}
        parts = []
        for out, count in in_batches(content, raw, batch):
            if out.dtype.kind not in "fiub" or out.shape[:1] != (count,) or out.size != size * count:
                told = f"{out.dtype} {list(out.shape)} for {count} examples"
                return {"refused": f"{name}: gives {told}, where {size} numbers each are expected"}
            parts.append(out)
        np.save(made, np.concatenate(parts), allow_pickle=False)
    return {"operations": operations}


def in_batches(content: bytes, raw: np.ndarray, batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """The first output for some examples, and how many these are."""
    session = open_session(content, 1)
    feed, first = session.get_inputs()[0].name, session.get_outputs()[0].name
    for start in range(0, len(raw), batch):
        some = np.array(raw[start : start + batch])
        yield np.asarray(session.run([first], {feed: some})[0]), len(some)


def back_to_back(session: Any, feeds: Feeds, count: int, into: Samples) -> None:
    """Wall time and CPU time of the calling thread, one inference after the other."""
    for _ in range(count):
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        session.run(None, feeds)
        wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
        into["wall_ms"].append(wall / 1e6)
        into["cpu_ms"].append(cpu / 1e6)


def turns(
    paths: list[str], threads: int, seed: int, rounds: int, most_rounds: int, turn_ms: float, spread: float
) -> dict[str, Any]:
    """Median wall time of each turn of about `turn_ms`, of several models that run as they are written, not optimised again.

    After `rounds` turns each, those whose quartiles lie more than `spread` apart go on, up to `most_rounds`.
    """
    sessions = [open_session(path, threads, as_written=True) for path in paths]
    runs = [(session, aligned(random_feeds(session, seed))) for session in sessions]
    bursts = [max(5, min(50, round(turn_ms / quickest(session, feeds)))) for session, feeds in runs]
    gc.disable()
    medians: list[list[float]] = [[] for _ in runs]
    for done in range(most_rounds):
        for i, (session, feeds) in enumerate(runs):
            if done < rounds or unsteady(medians[i], spread):
                into: Samples = {"wall_ms": [], "cpu_ms": []}
                session.run(None, feeds)
                back_to_back(session, feeds, bursts[i], into)
                medians[i].append(float(np.median(into["wall_ms"])))
    return {"medians": medians}


def aligned(feeds: Feeds) -> Feeds:
    """The same values at addresses such as ONNX Runtime gives its own tensors: some kernels are a seventh slower at others."""
    moved = {}
    for name, values in feeds.items():
        room = np.empty(values.nbytes + ALIGNMENT, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        moved[name] = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        moved[name][...] = values
    return moved


def quickest(session: Any, feeds: Feeds) -> float:
    """The shortest of a few inferences, in ms."""
    into: Samples = {"wall_ms": [], "cpu_ms": []}
    back_to_back(session, feeds, 5, into)
    return min(into["wall_ms"])


def unsteady(values: list[float], spread: float) -> bool:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return bool(high - low > spread * middle)


def at_period(session: Any, feeds: Feeds, count: int, period_ms: float, into: Samples) -> int:
    """One inference a period, asleep in between. Returns how many ended after the end of their own period.

    `late_ms`: how long after the start of its period an inference began; `paced_ms`: how long it took. An inference that
    runs over delays the next one, as on a device that drops no input.
    """
    period = round(period_ms * 1e6)
    release, missed = time.perf_counter_ns() + period, 0
    for _ in range(count):
        time.sleep(max(0, release - time.perf_counter_ns()) / 1e9)
        begin = time.perf_counter_ns()
        session.run(None, feeds)
        end = time.perf_counter_ns()
        into["late_ms"].append((begin - release) / 1e6)
        into["paced_ms"].append((end - begin) / 1e6)
        release += period
        missed += end > release
    return missed


def facts() -> dict[str, Any]:
    import onnxruntime as ort

    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {"onnxruntime": ort.__version__, "numpy": np.__version__, "affinity": affinity}


def serve() -> None:
    request = json.load(sys.stdin)
    work = request.pop("do")
    do: dict[str, Callable[..., dict[str, Any]]] = {"start": start, "steady": steady, "turns": turns, "infer": infer}
    try:
        answer = do[work](**request)
    except Exception as error:  # ONNX Runtime's have no common parent; a file decides how long what they say is
        sys.exit(f"{type(error).__name__}: {' '.join(str(error)[:LONGEST_ERROR].split())}")
    sys.stdout.write("\n" + json.dumps({**answer, "facts": facts()}) + "\n")


if __name__ == "__main__":
    serve()
