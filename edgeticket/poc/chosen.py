"""The one ticket that is taken to the device: exported, proven step by step, and measured beside what it is compared with."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import plugins
from edgeticket.bench import bench
from edgeticket.budget import CORES, Budget, Report
from edgeticket.compact import compact, zeroed
from edgeticket.data import Data
from edgeticket.describe import describe
from edgeticket.errors import EdgeTicketError, UnsupportedError
from edgeticket.export import export
from edgeticket.reference import run
from edgeticket.ticket import Ticket, read_ticket
from edgeticket.verify import verify

LOG = logging.getLogger("edgeticket.poc")
RUNS, SAMPLES = 500, 500
CORE = "cortex-m4"  # where the budget names none
UNREMOVED = "unremoved.onnx"
Row = Mapping[str, Any]


def latencies(folder: Path, rows: Sequence[Row], rivals: Sequence[Row], threads: int) -> list[dict[str, float]]:
    """Percentiles in ms of the float ONNX file of every ticket of `rows`, then of every rival's own file, all in turns."""
    made = []
    for row in rows:
        path = folder / Path(row["ticket"]).with_suffix(".onnx")
        export(read_ticket(folder / row["ticket"]), "onnx", path, overwrite=True)
        made.append(path)
    try:
        reports = bench([*made, *(folder / row["onnx"] for row in rivals)], threads=threads, runs=100)
    finally:
        for path in made:
            path.unlink(missing_ok=True)
    return [_percentiles(report) for report in reports]


def deliver(
    folder: Path,
    name: str,
    row: Row,
    data: Data,
    *,
    budget: str,
    rivals: Sequence[Row],
    threads: int,
    period_ms: float | None,
) -> dict[str, Any]:
    """Everything of the record's `chosen`. What a format or a core cannot take is left out, and the log says why."""
    ticket = read_ticket(folder / row["ticket"])
    ticket.write(folder / f"{name}.ticket")
    told, files = describe(ticket), _export(ticket, folder, name)
    checked = verify(folder / f"{name}.ticket", [folder / one["path"] for one in files], data)
    first: dict[str, Row] = {}
    for rival in rivals:
        first.setdefault(rival["name"], rival)
    export(zeroed(ticket), "onnx", folder / UNREMOVED, overwrite=True)
    onnx = [one["path"] for one in files if one["format"] == "onnx"]
    paths = [UNREMOVED, *onnx, *(rival["onnx"] for rival in first.values())]
    reports = bench([folder / path for path in paths], threads=threads, runs=RUNS, period_ms=period_ms)
    return {
        "seed": row["seed"],
        "by": "select",
        "ticket": f"{name}.ticket",
        **{key: row[key] for key in ("digest", "certify", "select", "figures", "purity", "curve")},
        **{key: told[key] for key in ("layers", "total", "bytes", "peak_activations")},
        "labels": list(data.classes),
        "confusion": confusion(ticket, data),
        "files": files,
        "bench": [_bench_row(path, report, period_ms) for path, report in zip(paths, reports, strict=True)],
        "cores": _cores(folder, files, budget),
        "chain": checked.to_json(),
    }


def _export(ticket: Ticket, folder: Path, name: str) -> list[dict[str, Any]]:
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        (f"{name}.onnx", "onnx", "float", {}),
        (f"{name}-int8.onnx", "onnx", "int8", {"precision": "int8"}),
        (f"{name}-c", "c", "C99", {}),
    ]
    made = []
    for path, format, what, options in asked:
        try:
            artifact = export(ticket, format, folder / path, overwrite=True, **options)
        except UnsupportedError as error:
            LOG.warning("%s: not exported: %s", path, error)
            continue
        made.append(
            {"path": path, "format": format, "what": what, "bytes": artifact.file_bytes, "sha256": artifact.sha256}
        )
    return made


def confusion(ticket: Ticket, data: Data) -> list[list[int]] | None:
    """Counts on the certify part, a row for each true class and a column for each answer; None for other tasks."""
    if data.task != "classification":
        return None
    raw, y = data.certify
    n = len(data.classes)
    return np.bincount(y * n + run(compact(ticket), raw).argmax(1), minlength=n * n).reshape(n, n).tolist()


def _cores(folder: Path, files: Sequence[Row], budget: str) -> list[dict[str, Any]]:
    source = next((one["path"] for one in files if one["format"] == "c"), None)
    if source is None:
        return []
    asked = [target for target in (Budget.parse(budget).targets if budget else ()) if target in CORES]
    found = []
    for core in asked or [CORE]:
        if need := plugins.load("targets", core).missing():
            LOG.warning("%s: not measured: %s", core, need)
            continue
        try:
            (report,) = bench([folder / source], on=core)
        except EdgeTicketError as error:
            LOG.warning("%s: not measured: %s", core, error)
            continue
        cost = report.cost
        found.append(
            {"target": core, "how": cost.how}
            | {key: getattr(cost, key) for key in ("instructions", "flash_bytes", "ram_bytes")}
        )
    return found


def _percentiles(report: Report) -> dict[str, float]:
    return dict(report.details["percentiles"]["wall_ms"])


def _bench_row(path: str, report: Report, period_ms: float | None) -> dict[str, Any]:
    paced = period_ms is not None
    return {
        "name": path,
        "percentiles": _percentiles(report),
        "first_ms": report.details["first_ms"],
        "init_ms": report.details["init_ms"],
        "peak_rss_bytes": report.cost.ram_bytes,
        "samples_ms": list(report.samples["paced_ms" if paced else "wall_ms"])[:SAMPLES],
        "period_ms": period_ms,
        "missed": {"missed": report.details["missed_deadlines"], "of": len(report.samples["paced_ms"])}
        if paced
        else None,
    }
