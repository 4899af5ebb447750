"""Measure artifacts on a target, side by side, and say what each costs against the first."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeticket import plugins
from edgeticket.budget import Artifact, Report
from edgeticket.errors import UsageError
from edgeticket.targets._confined import LEAST_MEMORY_MB, MEMORY_MB
from edgeticket.text import columns
from edgeticket.theory import binomial_tail

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
NOISE = 0.03  # a latency ratio this close to 1 is called no difference


def bench(
    paths: Sequence[str | Path],
    *,
    on: str = "cpu",
    threads: int = 1,
    runs: int = 500,
    warmup: int = 20,
    period_ms: float | None = None,
    paced_runs: int = 100,
    seed: int = 0,
    timeout_s: float = 600,
    memory_mb: int = MEMORY_MB,
) -> list[Report]:
    """One report for each path, in order; ratios are to the first.

    `on`: the name of a target, the path of its .py, or either with an address behind it: ssh://user@host, serial:/dev/ttyACM0.
    A model that does not finish in `timeout_s`, or takes more memory than `memory_mb` on this CPU, is ended.
    With `period_ms`, also one inference every so many ms (`paced_runs` of them), and how many missed the end of their period.
    Raises UsageError when a request makes no sense, PluginError for the target, and what the target raises.
    """
    _check(runs, warmup, threads, period_ms, paced_runs, timeout_s)
    if memory_mb < LEAST_MEMORY_MB:
        raise UsageError(f"bench: {memory_mb} MB of memory: ONNX Runtime needs {LEAST_MEMORY_MB} to start")
    artifacts = [artifact(path) for path in paths]
    if not artifacts:
        raise UsageError("bench: name at least one file")
    name, address = target_and_address(on)
    target = plugins.load("targets", name)
    _check_address(target, name, address)
    for one in artifacts:
        if one.format not in target.FORMATS:
            raise UsageError(f"{one.path}: target {name} measures {', '.join(target.FORMATS)}, not {one.format!r}")
    if need := target.missing():
        raise UsageError(f"target {name} cannot run here: {need}")
    asked: dict[str, Any] = {"threads": threads, "runs": runs, "warmup": warmup, "period_ms": period_ms}
    asked |= {"paced_runs": paced_runs, "seed": seed, "timeout_s": timeout_s, "memory_mb": memory_mb}
    asked |= {"address": address} if address else {}
    reports = target.measure(artifacts, **asked)
    return [_complete(report, one, reports[0]) for report, one in zip(reports, artifacts, strict=True)]


def artifact(path: str | Path) -> Artifact:
    """The file or folder with its format: a folder is C. Raises UsageError when there is none."""
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    return Artifact(path, "c" if path.is_dir() else path.suffix.removeprefix("."))


def target_and_address(on: str) -> tuple[str, str]:
    """Of "ssh://user@host:22": ("ssh", "user@host:22"); of a target without an address: (target, "")."""
    match = re.fullmatch(r"([A-Za-z][\w-]*|.+\.py):(?://)?(.*)", on)
    return (match[1], match[2]) if match else (on, "")


def _check_address(target: ModuleType, name: str, address: str) -> None:
    """A target that wants an address says so by ADDRESS: what one looks like."""
    form = getattr(target, "ADDRESS", None)
    if form and not address:
        raise UsageError(f"target {name} needs an address: --on {form}")
    if address and not form:
        raise UsageError(f"target {name} takes no address: --on {name}")


def _check(runs: int, warmup: int, threads: int, period_ms: float | None, paced_runs: int, timeout_s: float) -> None:
    if runs < 1 or paced_runs < 1 or warmup < 0:
        raise UsageError("bench: runs and paced runs are at least 1, warm-up runs at least 0")
    if not 1 <= threads <= 1024:
        raise UsageError(f"bench: {threads} threads: at least 1, at most 1024")
    if not 0 < timeout_s < 1e9 or (period_ms is not None and not 0.01 <= period_ms <= 1e6):
        raise UsageError("bench: the timeout is above 0 s, the period from 0.01 ms to 1,000,000 ms")


def _complete(report: Report, one: Artifact, first: Report) -> Report:
    """The report with the file's size, percentiles of every series, and the ratios to the first report."""
    series = {name: percentiles(values) for name, values in report.samples.items()}
    burst = int(report.details.get("burst", 1))
    ratios = {
        name: ratio(report.samples[name], first.samples[name], burst)
        for name in ("wall_ms", "cpu_ms")
        if report.samples.get(name) and first.samples.get(name)
    }
    details = {**report.details, "gzip_bytes": one.gzip_bytes, "percentiles": series, "ratio_to_first": ratios}
    return replace(report, cost=replace(report.cost, file_bytes=one.file_bytes), details=details)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and max, each a value that was measured (nearest rank)."""
    rows = {name: float(np.percentile(values, q, method="inverted_cdf")) for name, q in PERCENTILES.items()}
    return rows | {"n": len(values)}


def ratio(values: Sequence[float], first: Sequence[float], burst: int) -> dict[str, float]:
    """Median over turns of (median of a turn / median of the first model's turn beside it).

    `low` and `high`: its 95 % interval by `median_interval`, as if turns were independent; left out with too few turns.
    """
    if len(values) != len(first) or len(values) % burst:
        burst = 1
    if len(values) != len(first):
        return {"median": float(np.median(values) / np.median(first))}
    turns = [np.median(np.reshape(series, (-1, burst)), axis=1) for series in (values, first)]
    ratios = turns[0] / turns[1]
    interval = median_interval(ratios)
    return {"median": float(np.median(ratios))} | (
        dict(zip(("low", "high"), interval, strict=True)) if interval else {}
    )


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The r-th smallest and r-th largest value, which hold the median between them in 95 % of samples; None for under 6.

    They fail to where fewer than r values fall on one side of it, so r comes from the binomial distribution (n, 1/2):
    W. R. Thompson, Annals of Mathematical Statistics 7, 1936.
    """
    n, ordered = len(values), sorted(map(float, values))
    r = bisect_right(range(n // 2 + 1), 0.025, key=lambda r: binomial_tail(n - r + 1, n, 0.5)) - 1
    return (ordered[r - 1], ordered[n - r]) if r else None


def no_difference(ratio: Mapping[str, float]) -> bool:
    """True when the ratio is 1 within NOISE: masks alone, or another way to store the same weights."""
    return abs(ratio["median"] - 1) <= NOISE


# text

# Columns of cores: the head, and what it shows of a report; the first ones with their ratio to the first row.
CORE_RATIOS: dict[str, Callable[[Report], int | None]] = {
    "instructions": lambda report: report.cost.instructions,
    "flash": lambda report: report.cost.flash_bytes,
    "RAM": lambda report: report.cost.ram_bytes,
}
CORE_DETAILS = {"code": "code_bytes", "constants": "constant_bytes", "stack": "stack_bytes", "self-test": "selftest"}
FOOTER = ("cpu", "onnxruntime", "compiler", "emulator", "threads", "load_average_before")
HEADER = (
    "file",
    "bytes",
    "x",
    "gzip",
    "x",
    "init ms",
    "first",
    "p50",
    "p90",
    "p99",
    "max",
    "cpu p50",
    "RSS MB",
    "latency x",
)


def table(reports: Sequence[Report]) -> str:
    """The reports as text, a row each; x: the ratio to the first row. Latency where it was measured, else what a core spends."""
    if reports[0].cost.instructions is not None:
        return _core_table(reports)
    rows = [HEADER, *(_row(report, reports[0]) for report in reports)]
    return "\n".join(
        [*columns(rows, "<"), *(line for report in reports for line in _paced(report)), _footer(reports[0])]
    )


def _row(report: Report, first: Report) -> tuple[str, ...]:
    details, series = report.details, report.details["percentiles"]
    wall, cpu = series.get("wall_ms", {}), series.get("cpu_ms", {})
    times = (details.get("init_ms"), details.get("first_ms"), *(wall.get(name) for name in PERCENTILES), cpu.get("p50"))
    ram, ratio = report.cost.ram_bytes, details["ratio_to_first"].get("wall_ms")
    same = report is not first and ratio is not None and no_difference(ratio)
    return (
        Path(report.artifact).name,
        _number(report.cost.file_bytes),
        _times(report.cost.file_bytes, first.cost.file_bytes),
        _number(details["gzip_bytes"]),
        _times(details["gzip_bytes"], first.details["gzip_bytes"]),
        *("-" if value is None else f"{value:.3f}" for value in times),
        "-" if ram is None else f"{ram / 1e6:.1f}",
        _spread(ratio) + (" no difference" if same else ""),
    )


def _core_table(reports: Sequence[Report]) -> str:
    heads = [cell for head in CORE_RATIOS for cell in (head, "x")]
    rows = [["file", *heads, *CORE_DETAILS], *(_core_row(report, reports[0]) for report in reports)]
    machines = ", ".join(sorted({str(report.environment.get("machine", "-")) for report in reports}))
    return "\n".join([*columns(rows, "<"), f"{_footer(reports[0])}; machine {machines}; bytes of the network alone"])


def _core_row(report: Report, first: Report) -> list[str]:
    values = [(value(report), value(first)) for value in CORE_RATIOS.values()]
    ratios = [cell for value, base in values for cell in (_number(value), _times(value, base))]
    details = [report.details.get(name, "-") for name in CORE_DETAILS.values()]
    return [Path(report.artifact).name, *ratios, *(f"{cell:,}" if isinstance(cell, int) else cell for cell in details)]


def _paced(report: Report) -> list[str]:
    series, details = report.details["percentiles"], report.details
    if "paced_ms" not in series:
        return []
    paced, late = series["paced_ms"], series["late_ms"]
    return [
        f"{report.artifact} every {details['period_ms']:g} ms: p50 {paced['p50']:.3f}, p99 {paced['p99']:.3f}, "
        f"max {paced['max']:.3f} ms; began at most {late['max']:.3f} ms late; "
        f"{details['missed_deadlines']} of {paced['n']} deadlines missed"
    ]


def _footer(report: Report) -> str:
    facts = report.environment
    if report.cost.how == "none":
        return f"target {report.target}: nothing was measured"
    known = [f"{key} {facts[key]}" for key in FOOTER if key in facts]
    return f"target {report.target}, {report.cost.how}; {', '.join(known)}"


def _times(value: float | None, first: float | None) -> str:
    return "-" if value is None or not first else f"{value / first:.2f}x"


def _spread(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f}x" + (f" ({ratio['low']:.2f}-{ratio['high']:.2f})" if "low" in ratio else "")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
