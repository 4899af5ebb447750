"""The three indicators of a proof of concept: sparsity, probability of success, cost. Pure, so that anyone can redo it."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from edgeticket.theory import lower_bound, upper_bound

Row = Mapping[str, Any]
QUANTILES = {"min": 0, "p10": 10, "median": 50, "p90": 90, "max": 100}


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Each a value that was measured (nearest rank); None of no values."""
    if not values:
        return None
    rows = {name: float(np.percentile(values, q, method="inverted_cdf")) for name, q in QUANTILES.items()}
    return rows | {"n": len(values)}


def success(rows: Sequence[Row], confidence: float) -> dict[str, Any]:
    k, n = sum(row["success"] for row in rows), len(rows)
    return {
        "successes": k,
        "trials": n,
        "rate": k / n,
        "lower": lower_bound(k, n, confidence),
        "upper": upper_bound(k, n, confidence),
        "confidence": confidence,
    }


def summarise(
    rows: Sequence[Row], sparser: Sequence[Row], rivals: Sequence[Row], confidence: float, costs: Row
) -> dict[str, Any]:
    """Of all seeds that gave a ticket, not only of those that succeeded. `costs`: what only the run itself knows.

    `ladder`: how many seeds succeed at the density that was asked for, then at ever lower ones.
    """
    found = [row for row in rows if "failed" not in row]
    told = success(rows, confidence)

    def of(key: str) -> dict[str, float] | None:
        return quantiles([row[key] for row in found])

    seconds = [row["cpu_seconds"] for row in rows]
    each = mean(seconds)
    return {
        "sparsity": {
            **{key: of(key) for key in ("density", "kept_of_wide", "bytes", "macs", "kept_macs")},
            "ladder": list(_ladder(rows, sparser, confidence)),
        },
        "quality": {
            "certify": of("certify"),
            "latency_ms": quantiles([row["latency_ms"]["p50"] for row in found if row["latency_ms"]]),
        },
        "success": told,
        "cost": {
            "cpu_seconds": quantiles(seconds),
            "wall_seconds": quantiles([row["wall_seconds"] for row in rows if row["wall_seconds"] is not None]),
            "flops": of("flops"),
            "search_cpu_seconds": sum(seconds),
            "total_cpu_seconds": sum(seconds)
            + sum(row["cpu_seconds"] for row in sparser)
            + sum(_by_job(rivals).values()),
            "per_success": {
                "expected": each / told["rate"] if told["rate"] else None,
                "at_most": each / told["lower"] if told["lower"] else None,
            },
            **costs,
        },
    }


def _ladder(rows: Sequence[Row], sparser: Sequence[Row], confidence: float) -> Iterator[dict[str, Any]]:
    steps: dict[str, list[Row]] = {}
    for row in sparser:
        steps.setdefault(row["asked"], []).append(row)
    for own in [rows, *steps.values()]:
        made = [row for row in own if "failed" not in row]
        if made:
            middle = {key: quantiles([row[key] for row in made]) for key in ("density", "bytes", "certify")}
            yield {key: value["median"] for key, value in middle.items() if value} | success(own, confidence)


def _by_job(rivals: Sequence[Row]) -> dict[tuple[str, int], float]:
    """CPU seconds of each job: a network and its rounded form share one training."""
    found: dict[tuple[str, int], float] = {}
    for row in rivals:
        job = row["kind"], row["seed"]
        found[job] = max(found.get(job, 0.0), row["cpu_seconds"])
    return found
