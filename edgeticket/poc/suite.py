"""The standard benchmark (docs/protocol.md): the same proofs everywhere, in one sealed record, so that results can be compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgeticket import __version__
from edgeticket.bench import median_interval
from edgeticket.data import Data, load
from edgeticket.errors import EquivalenceError, UsageError
from edgeticket.lock import alone
from edgeticket.poc import Request, Stage, poc
from edgeticket.poc.record import PROTOCOL, read, seal, write
from edgeticket.poc.success import default_criterion
from edgeticket.pool import Pool
from edgeticket.settings import Settings
from edgeticket.text import columns
from edgeticket.theory import fisher_p_value

FORMAT = "edgeticket-benchmark 1"
ASKED = ("model", "success", "budget", "settings", "seeds", "probability", "confidence")  # what results depend on
OWN = "own"  # the name of the user's own data in the suite
ORIGIN = {"command": "edgeticket benchmark", "layout": "auto", "task": "auto", "images": None}


@dataclass(frozen=True)
class Task:
    """One proof of the suite. All of it is part of the protocol: another value is another version."""

    data: str
    model: str
    success: str
    epochs: int
    batch: int

    def request(self) -> Request:
        settings = Settings(epochs=self.epochs, batch=self.batch)
        return Request(self.model, self.success, settings, seeds=SEEDS, probability=PROBABILITY)


SEEDS, PROBABILITY = 20, 0.86  # which 20 clean ones show
SUITE = {
    "digits": Task("digits", "conv:16,32,32", "accuracy >= float - 0.03", 20, 32),
    "synthetic-bearing": Task("synthetic-bearing", "wave", "accuracy >= float - 0.05", 30, 64),
}


def benchmark(
    folder: Path,
    output: Path,
    pool: Pool,
    *,
    own: tuple[Data, Task, Mapping[str, Any]] | None = None,
    workers: int = 1,
    remote: bool = False,
    report: Callable[[str, Stage], None] = lambda name, stage: None,
) -> dict[str, Any]:
    """Every proof of the suite in a folder of its own, those that are finished not again; the sealed record, written to `output`.

    `own`: data of the user, what is asked of them, and where they came from. Raises what `poc` raises, and UsageError where
    another run is at work on `folder` or `output`.
    """
    proofs: dict[str, tuple[Data, Task, Mapping[str, Any]]] = {
        name: (load(task.data), task, {"data": task.data}) for name, task in SUITE.items()
    }
    proofs |= {OWN: own} if own else {}
    for name, (data, task, _) in proofs.items():  # before the first of them is paid for
        target = folder / name
        if not target.exists():
            task.request().check(data, target, workers=workers, remote=remote)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder), alone(output):
        records = {}
        for name, (data, task, origin) in proofs.items():
            if not (folder / name).exists():
                poc(
                    task.request(),
                    data,
                    folder / name,
                    pool,
                    origin=ORIGIN | {"name": name} | dict(origin),
                    workers=workers,
                    remote=remote,
                    report=lambda stage, name=name: report(name, stage),  # type: ignore[misc]
                )
            records[name] = _checked(read(folder / name), task, data)
        return write({"format": FORMAT, "protocol": PROTOCOL, "results": records}, output)


def _checked(record: dict[str, Any], task: Task, data: Data) -> dict[str, Any]:
    """Raises UsageError where a finished folder is of another suite, protocol or version."""
    told = {**record["request"], "protocol": record["protocol"], "version": record["environment"]["edgeticket"]}
    wanted = {**task.request().words(), "protocol": PROTOCOL, "version": __version__}
    if any(told[key] != value for key, value in wanted.items()) or record["data"]["digest"] != data.digest:
        raise UsageError(
            f"{told['name']}: a finished proof of something else lies in the benchmark's folder: remove it or name another"
        )
    return record


def own_task(data: Data, model: str, success: str | None, epochs: int, batch: int, source: str) -> Task:
    return Task(source, model, success or default_criterion(data.task), epochs, batch)


def read_benchmark(path: Path) -> dict[str, Any]:
    """Raises what `record.read` raises, and EquivalenceError where a proof inside was altered."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such record: `edgeticket benchmark -o {path.name}` writes one")
    found = read(path, FORMAT)
    for name, record in found.get("results", {}).items():
        if seal(record) != record.get("seal"):
            raise EquivalenceError(f"{path}: the proof {name} in it does not fit its own seal")
    return {"results": {}, **found}


@dataclass(frozen=True)
class Difference:
    """One figure of one proof in two benchmarks. `told`: whether they differ, and by what that is judged."""

    proof: str
    figure: str
    one: str
    other: str
    told: str


def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Proof by proof. Raises UsageError where protocols or data differ: such figures say nothing about each other."""
    if one["protocol"] != other["protocol"]:
        raise UsageError(
            f"protocol {one['protocol']} and {other['protocol']}: results of two versions are not comparable"
        )
    common = [name for name in one["results"] if name in other["results"]]
    found: list[Difference] = []
    for name in common:
        a, b = one["results"][name], other["results"][name]
        if a["data"]["digest"] != b["data"]["digest"]:
            if name == OWN:
                continue
            raise UsageError(f"{name}: the data differ ({a['data']['digest'][:16]}, {b['data']['digest'][:16]})")
        if other_request := [key for key in ASKED if a["request"][key] != b["request"][key]]:
            raise UsageError(f"{name}: not the same was asked: {', '.join(other_request)} differ")
        found += _differences(name, a, b)
    if not found:
        raise UsageError("the two benchmarks have no data in common")
    return found


def _differences(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    k1, n1, k2, n2 = (record["indicators"]["success"][key] for record in (a, b) for key in ("successes", "trials"))
    p = fisher_p_value(k1, n1, k2, n2)
    told = f"{'differ' if p <= 0.05 else 'not distinguishable'} (Fisher's exact test, p = {p:.2g})"
    yield Difference(name, "searches that succeed", f"{k1} of {n1}", f"{k2} of {n2}", told)
    for figure, key in (("certify", a["bar"]["headline"]), ("bytes", "bytes"), ("cpu_seconds", "CPU seconds a search")):
        yield _medians(name, key, *([row[figure] for row in record["rows"] if figure in row] for record in (a, b)))
    latencies = ([row["latency_ms"]["p50"] for row in record["rows"] if "failed" not in row] for record in (a, b))
    yield _medians(name, "latency ms, p50", *latencies)


def _medians(name: str, figure: str, a: Sequence[float], b: Sequence[float]) -> Difference:
    """Their 95 % intervals (bench.median_interval) either overlap or do not."""
    both = [median_interval(values) for values in (a, b)]
    if not all(both):
        told = "too few seeds for an interval"
    else:
        (low1, high1), (low2, high2) = both  # type: ignore[misc]
        apart = high1 < low2 or high2 < low1
        told = "differ: the 95 % intervals of the medians are apart" if apart else "not distinguishable"
    first, second = (
        f"{median(values):,.5g} [{own[0]:,.5g}, {own[1]:,.5g}]" if own else "-"
        for values, own in zip((a, b), both, strict=True)
    )
    return Difference(name, figure, first, second, told)


def table(differences: Sequence[Difference]) -> str:
    rows = [["", "", "first", "second", ""]]
    rows += [[one.proof, one.figure, one.one, one.other, one.told] for one in differences]
    return "\n".join(columns(rows, "<<<<<"))
