"""From facts to what a decision needs: which seeds succeeded, three indicators, and a verdict. Pure, so that anyone can redo it."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

from edgeticket.poc.indicators import quantiles
from edgeticket.poc.success import Criterion
from edgeticket.theory import lower_bound, trials_needed

Row = Mapping[str, Any]
FLOATS = 3  # runs of everything that tickets are compared with
SMALL = ("int8-narrow", "pruned")  # rivals at the ticket's own bytes
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


def chosen_seed(rows: Sequence[Row], lower_is_better: bool) -> int | None:
    """The success that is best on the select part, which no success was judged on; the first of equals."""
    good = [row for row in rows if row["success"]]
    sign = 1 if lower_is_better else -1
    return min(good, key=lambda row: (sign * row["select"], row["seed"]))["seed"] if good else None


def verdict(record: Row) -> dict[str, Any]:
    """`word`: go, measure more or stop; `reasons` and `change` as codes with their numbers: a report finds the words."""
    asked, told = record["request"], record["indicators"]["success"]
    shown = {**{key: told[key] for key in ("successes", "trials", "confidence")}, "probability": asked["probability"]}
    reasons = [*_chain(record), *_comparison(record)]
    if not told["successes"]:
        reasons.insert(0, {"code": "none", **shown, "upper": told["upper"]})
    if told["lower"] >= asked["probability"]:
        reasons.append({"code": "success", **shown, "lower": told["lower"]})
    elif told["upper"] < asked["probability"]:
        reasons.append({"code": "unlikely", **shown, "upper": told["upper"], "lower": told["lower"]})
    else:
        reasons.append({"code": "undecided", **shown, "lower": told["lower"], "upper": told["upper"]})
    done, wanted = len(record["rows"]), asked["seeds"]
    if done < wanted:
        reasons.append({"code": "early", "done": done, "asked": wanted, "max_cost_s": asked["max_cost_s"]})
    word = _word({reason["code"] for reason in reasons})
    return {"word": word, "reasons": reasons, "change": list(_changes(record, word, reasons))}


def _word(codes: set[str]) -> str:
    if codes & {"chain", "rival", "unlikely"}:
        return "stop"
    return "measure more" if codes & {"unproven", "no rivals"} or "success" not in codes else "go"


def _chain(record: Row) -> Iterator[dict[str, Any]]:
    """Where a link of the delivered ticket's chain failed, or none was run."""
    chain = record["chosen"] and record["chosen"]["chain"]
    if chain and not chain["passed"]:
        failed = [link for link in chain["links"] if link["outcome"] == "failed"]
        yield (
            {"code": "chain", "link": f"{failed[0]['what']} = {failed[0]['against']}"}
            if failed
            else {"code": "unproven"}
        )


def _comparison(record: Row) -> Iterator[dict[str, Any]]:
    """A rival that is better: one of no more bytes than the median ticket, each of whose runs beats it. Or that there is none.

    A rival with fewer than FLOATS runs cannot be better; without a whole one of the ticket's bytes there is no comparison.
    """
    quality, runs = record["indicators"]["quality"]["certify"], _runs(record)
    if not quality:
        return
    size, reached, sign = record["indicators"]["sparsity"]["bytes"]["median"], quality["median"], _sign(record)
    for name, own in runs.items():
        worst, largest = min(sign * row["certify"] for row in own), max(row["bytes"] for row in own)
        if worst > sign * reached and largest <= size:
            told = {"rival_certify": sign * worst, "rival_bytes": largest, "certify": reached, "bytes": size}
            yield {"code": "rival", "name": name, "runs": len(own), **told}
            return
    if not set(SMALL) & set(runs):
        yield {"code": "no rivals", "runs": FLOATS}


def _runs(record: Row) -> dict[str, list[Row]]:
    """Rivals that were made as often as they should be; a control is none."""
    found: dict[str, list[Row]] = {}
    for row in record["rivals"]:
        if "failed" not in row and row["name"] != "control":
            found.setdefault(row["name"], []).append(row)
    return {name: own for name, own in found.items() if len(own) == FLOATS}


def _sign(record: Row) -> int:
    return -1 if record["bar"]["lower_is_better"] else 1


def _changes(record: Row, word: str, reasons: Sequence[Row]) -> Iterator[dict[str, Any]]:
    told, asked = record["indicators"]["success"], record["request"]
    probability, confidence, failures = asked["probability"], asked["confidence"], told["trials"] - told["successes"]
    codes = {reason["code"]: reason for reason in reasons}
    if codes.keys() & {"chain", "unproven", "no rivals"}:
        yield {"code": "proof"}
    if "rival" in codes:
        yield {"code": "rival", "name": codes["rival"]["name"]}
    if word == "go":
        yield {"code": "failures", "failures": allowed(told["trials"], probability, confidence) + 1 - failures}
    if "undecided" in codes:
        yield from _second_look(record, failures)
    if "success" not in codes:
        if told["lower"]:
            yield {"code": "accept", "probability": told["lower"]}
        margin = sufficient_margin(record)
        if margin is not None:
            yield {"code": "margin", "margin": margin, "asked": record["bar"]["margin"]}
        yield from _budgets(record["rows"])


def _second_look(record: Row, failures: int) -> Iterator[dict[str, Any]]:
    """A proof of its own on fresh seeds. As it is a second chance to say go, half of the doubt that was allowed (Bonferroni)."""
    asked, cost = record["request"], record["indicators"]["cost"]["search_cpu_seconds"]
    confidence = (1 + asked["confidence"]) / 2
    seeds = trials_needed(asked["probability"], confidence, failures)
    if seeds <= MAX_SEEDS:
        each = cost / record["indicators"]["success"]["trials"]
        first = asked["first_seed"] + asked["seeds"]
        told = {"first_seed": first, "failures": failures, "confidence": confidence, "cpu_seconds": seeds * each}
        yield {"code": "new proof", "seeds": seeds, **told}


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
