"""From facts to what a decision needs: which seeds succeeded, three indicators, and a verdict. Pure, so that anyone can redo it."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import mean
from typing import Any

import numpy as np

from edgeticket.budget import How, Term, Verdict
from edgeticket.poc.success import Criterion
from edgeticket.theory import lower_bound, trials_needed, upper_bound

Row = Mapping[str, Any]
QUANTILES = {"min": 0, "p10": 10, "median": 50, "p90": 90, "max": 100}
MAX_SEEDS = 10_000  # that "measure more" will ask for


def why_not(row: Row, criterion: Criterion, bar: Row) -> list[str]:
    """What a seed failed at; empty for a success."""
    if "failed" in row:
        return [row["failed"]]
    found = [term["text"] for term in row["terms"] if not term["met"]]
    if not criterion.met(row["certify"], bar["value"]):
        sign = ">=" if criterion.at_least else "<="
        found.insert(0, f"{bar['headline']} {row['certify']:.4f} is not {sign} {bar['value']:.4f}")
    return found


def term(own: Term, value: float, how: How) -> dict[str, Any]:
    """One term of a budget as rows keep it."""
    return told(Verdict(own, value, value / own.limit, how))


def told(verdict: Verdict) -> dict[str, Any]:
    return {
        "term": verdict.term.words(),
        "value": verdict.value,
        "ratio": verdict.ratio,
        "how": verdict.how,
        "met": verdict.met,
        "text": verdict.text(),
    }


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


def indicators(
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
            "wall_seconds": quantiles([row["wall_seconds"] for row in rows]),
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


def chosen_seed(rows: Sequence[Row], lower_is_better: bool) -> int | None:
    """The success that is best on the select part, which no success was judged on; the first of equals."""
    good = [row for row in rows if row["success"]]
    sign = 1 if lower_is_better else -1
    return min(good, key=lambda row: (sign * row["select"], row["seed"]))["seed"] if good else None


def verdict(record: Row) -> dict[str, Any]:
    """`word`: go, measure more or stop; `reasons` and `change` as codes with their numbers: a report finds the words."""
    rows, asked, told = record["rows"], record["request"], record["indicators"]["success"]
    shown = {**{key: told[key] for key in ("successes", "trials", "confidence")}, "probability": asked["probability"]}
    reasons: list[dict[str, Any]] = []
    better = better_rival(record)
    if record["chosen"] and not record["chosen"]["chain"]["passed"]:
        reasons.append({"code": "chain", "link": _broken(record["chosen"]["chain"])})
    if not told["successes"]:
        reasons.append({"code": "none", **shown, "upper": told["upper"]})
    if better:
        reasons.append(better)
    if told["lower"] >= asked["probability"]:
        reasons.append({"code": "success", **shown, "lower": told["lower"]})
    elif told["upper"] < asked["probability"]:
        reasons.append({"code": "unlikely", **shown, "upper": told["upper"], "lower": told["lower"]})
    else:
        reasons.append({"code": "undecided", **shown, "lower": told["lower"], "upper": told["upper"]})
    if len(rows) < asked["seeds"]:
        reasons.append({"code": "early", "done": len(rows), "asked": asked["seeds"], "max_cost_s": asked["max_cost_s"]})
    codes = {reason["code"] for reason in reasons}
    stop = bool(codes & {"chain", "rival", "unlikely"})
    word = "stop" if stop else "go" if "success" in codes else "measure more"
    return {"word": word, "reasons": reasons, "change": list(_changes(record, codes))}


def _broken(chain: Row) -> str:
    failed = [link for link in chain["links"] if link["outcome"] == "failed"]
    return f"{failed[0]['what']} = {failed[0]['against']}" if failed else "no link of the chain was run"


def better_rival(record: Row) -> dict[str, Any] | None:
    """One that needs no more bytes than the median ticket, and each of whose runs beats the median ticket."""
    sparsity, quality = record["indicators"]["sparsity"], record["indicators"]["quality"]
    if not quality["certify"]:
        return None
    size, reached, sign = sparsity["bytes"]["median"], quality["certify"]["median"], _sign(record)
    names: dict[str, list[Row]] = {}
    for row in record["rivals"]:
        if "failed" not in row and row["name"] != "control":
            names.setdefault(row["name"], []).append(row)
    for name, own in names.items():
        worst = min(own, key=lambda row: sign * row["certify"])
        if sign * (worst["certify"] - reached) > 0 and max(row["bytes"] for row in own) <= size:
            return {
                "code": "rival",
                "name": name,
                "runs": len(own),
                "rival_certify": worst["certify"],
                "rival_bytes": max(row["bytes"] for row in own),
                "certify": reached,
                "bytes": size,
            }
    return None


def _sign(record: Row) -> int:
    return -1 if record["bar"]["lower_is_better"] else 1


def _changes(record: Row, codes: set[str]) -> Iterator[dict[str, Any]]:
    told, asked = record["indicators"]["success"], record["request"]
    probability, confidence = asked["probability"], asked["confidence"]
    failures = told["trials"] - told["successes"]
    if "rival" in codes:
        yield {"code": "rival", "name": next(iter(_named(record)))}
    if "success" in codes:
        yield {"code": "failures", "failures": allowed(told["trials"], probability, confidence) + 1 - failures}
        return
    if "undecided" in codes:
        more = trials_needed(probability, confidence, failures) - told["trials"]
        if more <= MAX_SEEDS:
            each = record["indicators"]["cost"]["search_cpu_seconds"] / told["trials"]
            yield {"code": "more seeds", "seeds": more, "cpu_seconds": more * each}
    if told["lower"]:
        yield {"code": "accept", "probability": told["lower"]}
    margin = sufficient_margin(record)
    if margin is not None:
        yield {"code": "margin", "margin": margin, "asked": record["bar"]["margin"]}
    yield from _budgets(record["rows"])


def _named(record: Row) -> Iterator[str]:
    better = better_rival(record)
    if better:
        yield better["name"]


def allowed(trials: int, probability: float, confidence: float) -> int:
    """Most failures among so many trials that still show the probability; -1 where none would be too many."""
    failures = -1
    while failures + 1 < trials and lower_bound(trials - failures - 1, trials, confidence) >= probability:
        failures += 1
    return failures


def sufficient_margin(record: Row) -> float | None:
    """The margin below (above) the float networks at which these very seeds would have shown the probability.

    Found after the fact, so it counts for nothing until fresh seeds show it. None where they fail for other reasons, or there are too few.
    """
    rows, asked, bar, sign = record["rows"], record["request"], record["bar"], _sign(record)
    failures = allowed(len(rows), asked["probability"], asked["confidence"])
    if failures < 0:
        return None
    reached = sorted(
        sign * row["certify"] if "failed" not in row and all(term["met"] for term in row["terms"]) else -inf
        for row in rows
    )[failures]
    margin = sign * bar["float"] - reached
    return margin if reached > -inf and margin > bar["margin"] else None


def _budgets(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Each term that seeds missed, and how far over the median of those was."""
    over: dict[str, list[float]] = {}
    for row in rows:
        for term in row.get("terms", ()):
            if not term["met"] and term["ratio"] is not None:
                over.setdefault(term["term"], []).append(term["ratio"])
    for term, ratios in over.items():
        yield {"code": "budget", "term": term, "factor": quantiles(ratios)["median"], "seeds": len(ratios)}  # type: ignore[index]
