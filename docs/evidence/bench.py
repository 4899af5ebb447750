"""Speed, size and cost figures of docs/bench.md, each as a ratio against a peer in the same run: `make bench`.

Nothing here is asserted: machines are noisy. Needs the Debian package dataset-fashion-mnist.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from edgeticket.bench import bench
from edgeticket.budget import Report
from edgeticket.compact import compact, zeroed
from edgeticket.data import Data, load
from edgeticket.export import export
from edgeticket.find import find, network_plan
from edgeticket.settings import Settings

TABLE = Path(__file__).parent.parent / "bench.md"
ROUNDS, EPOCHS = 5, 10
STORAGES = ("fp32", "cast8", "trit5", "seed")


def main() -> None:
    data = load("fashion-mnist", images=6000)
    with TemporaryDirectory() as folder:
        rows = [*search_cost(data), *removal(data, Path(folder)), *storage(data, Path(folder)), start_up()]
    lines = ["# Speed and size", "", f"Made by `make bench` on {environment()}.", ""]
    lines += ["| what | measured | bar | against |", "|---|---|---|---|", *rows]
    TABLE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def environment() -> str:
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = next((line.split(": ")[1] for line in facts.splitlines() if line.startswith("model name")), "unknown CPU")
    return f"{cpu}, one thread, Python {sys.version.split()[0]}; medians, with the range or the median's 95 % interval"


def search_cost(data: Data) -> list[str]:
    """CPU time against the float network of the final widths: a search from a 2x and a 4x wide network, and one step.

    A step is the difference of a long and a short training, so that what is done once cancels out.
    """
    twice, four, narrow = (network_plan(name, data) for name in ("conv:32,64,64", "conv:64,128,128", "conv:16,32,32"))
    costs: dict[str, list[float]] = {name: [] for name in ("2x", "4x", "mask", "float", "mask step", "float step")}
    outside, data_share, weights = [], [], []  # type: list[float], list[float], list[float]
    for _ in range(ROUNDS):
        long, short = (find(narrow, data, Settings(epochs=n), float_control=True).results for n in (EPOCHS, 2))
        for name, wide, keep in (("2x", twice, 0.5), ("4x", four, 0.25)):
            costs[name].append(find(wide, data, Settings(epochs=EPOCHS, keep=keep), control=False).results[0].seconds)
        for i, name in enumerate(("mask", "float")):
            costs[name].append(long[i].seconds)
            costs[f"{name} step"].append(long[i].seconds - short[i].seconds)
        profile = long[0].profile
        outside.append(100 * (1 - profile["forward"] - profile["backward"]))
        data_share.append(100 * profile["data"])
        weights.append(100 * profile["weights"])
    against = f"float training of 16-32-32, {median(costs['float']):.1f} CPU s, {ROUNDS} rounds in turns"
    shares = "wall time of a step of conv:16,32,32, three edges"
    return [
        row("search of conv:32,64,64 --keep 0.5, calibration included", ratios(costs, "2x"), "<= 1.5x", against),
        row("search of conv:64,128,128 --keep 0.25, calibration included", ratios(costs, "4x"), "<= 2.2x", against),
        row("search of conv:16,32,32, calibration included", ratios(costs, "mask"), "", against),
        row("a step of conv:16,32,32 under a mask", ratios(costs, "mask step", "float step"), "<= 1.1x", against),
        row("outside forward and backward", outside, "<= 10 %", shares, " %"),
        row("of it data", data_share, "<= 2 %", shares, " %"),
        row("of it scores to weights", weights, "<= 6 %", shares, " %"),
    ]


def ratios(costs: dict[str, list[float]], name: str, peer: str = "float") -> list[float]:
    return [a / b for a, b in zip(costs[name], costs[peer], strict=True)]


def row(what: str, values: list[float], bar: str, against: str, unit: str = "x") -> str:
    return f"| {what} | {median(values):.2f}{unit} ({min(values):.2f}-{max(values):.2f}) | {bar} | {against} |"


def removal(data: Data, folder: Path) -> list[str]:
    """Half of the channels gone: removed, and merely zeroed."""
    rows = []
    for widths in ("32,64,64", "64,128,128"):
        plan = network_plan(f"conv:{widths}", data)
        dense = find(plan, data, Settings(epochs=1)).ticket
        ticket = find(plan, data, Settings(epochs=1, keep=0.5), control=False).ticket
        paths = [folder / f"{name}.onnx" for name in ("unremoved", "removed", "zeroed")]
        for path, model in zip(paths, (compact(dense), compact(ticket), zeroed(ticket)), strict=True):
            export(model, "onnx", path, overwrite=True)
        _, removed, masked = bench(paths, runs=1000)
        against = f"conv:{widths} on 28x28, ONNX Runtime"
        rows.append(latency("half of the channels removed", removed, "<= 0.6x", against))
        rows.append(latency("half of the channels zeroed (masks alone)", masked, "no change", against))
    return rows


def latency(what: str, report: Report, bar: str, against: str) -> str:
    found = report.details["ratio_to_first"]["wall_ms"]
    return f"| {what}: latency | {found['median']:.2f}x ({found['low']:.2f}-{found['high']:.2f}) | {bar} | {against} |"


def storage(data: Data, folder: Path) -> list[str]:
    """The four lossless storages of one ticket."""
    ticket = find(network_plan("conv:16,32,32", data), data, Settings(epochs=1, edges=1)).ticket
    paths = [folder / f"{name}.onnx" for name in STORAGES]
    for path, weights in zip(paths, STORAGES, strict=True):
        export(ticket, "onnx", path, weights=weights)
    export(ticket, "onnx", folder / "int8.onnx", precision="int8")
    first, *others = bench([*paths, folder / "int8.onnx"], runs=1000)
    rows = []
    for name, report in zip((*STORAGES[1:], "int8"), others, strict=True):
        against = f"fp32 file of conv:16,32,32 --edges 1, {first.cost.file_bytes:,} bytes"
        share = (report.cost.file_bytes or 0) / (first.cost.file_bytes or 1)
        gzip = report.details["gzip_bytes"] / first.details["gzip_bytes"]
        bars = {"trit5": ("<= 1/8", "0.97-1.03x")}.get(name, ("", ""))
        size = f"{report.cost.file_bytes:,} bytes, 1/{1 / share:.1f} (gzip {gzip:.2f}x)"
        rows.append(f"| {name}: file | {size} | {bars[0]} | {against} |")
        rows.append(latency(name, report, bars[1], "the fp32 file in the same run"))
    return rows


def start_up() -> str:
    commands = {"help": ["-m", "edgeticket", "--help"], "float": ["-c", "import click, numpy"]}
    costs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(2 * ROUNDS):
        for name, command in commands.items():
            costs[name].append(timed(command))
    against = f"python -c 'import click, numpy', {1000 * median(costs['float']):.0f} ms, {2 * ROUNDS} rounds in turns"
    return row("edgeticket --help: wall time", ratios(costs, "help"), "< 1.5x", against)


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
