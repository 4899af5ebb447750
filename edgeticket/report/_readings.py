"""Sections that are mostly text: the protocol, and how to read the page, with theory apart from what was found."""

from edgeticket.report._records import PARTS, Row, Section
from edgeticket.report._words import Words


def protocol(record: Row, words: Words) -> Section:
    told, sizes, rows = record["bar"], record["data"]["sizes"], record["rows"]
    parts = {part: words.count(sizes[part]) for part in PARTS}
    bar = {"success": record["request"]["success"], "float": words.quality(told["float"])}
    relative = "float" in record["request"]["success"]
    first = (
        words("protocol.bar", value=words.quality(told["value"]), **bar) if relative else words("protocol.fixed", **bar)
    )
    margins = {"smallest": words.difference(told["smallest_margin"]), "margin": words.difference(told["margin"])}
    budget = record["request"]["budget"]
    seeds = {"first": min(row["seed"] for row in rows), "last": max(row["seed"] for row in rows)} if rows else {}
    return {
        "purity": _purity(record, words),
        "lines": [
            first,
            *([words("protocol.budget", budget=budget)] if budget else []),
            words("protocol.margin", select=parts["select"], certify=parts["certify"], **margins),
            words("protocol.parts", **parts),
            *([words("protocol.seeds", **seeds)] if seeds else []),
            words("protocol.interval"),
            words("protocol.shared"),
        ],
    }


def _purity(record: Row, words: Words) -> str:
    """What was learned in the chosen ticket."""
    chosen = record["chosen"]
    if not chosen:
        return ""
    told, total = chosen["purity"], chosen["total"]
    texts = [words("protocol.purity", purity=told), words.either(f"protocol.{told}", words("protocol.P3"))]
    if total["learned_share_of_weights"]:
        shares = {key: words.percent(total[f"learned_share_of_{key}"]) for key in ("weights", "bytes")}
        texts.append(words("protocol.learned", **shares))
    return words("format.sentences").join(texts)


def reading(record: Row, words: Words) -> Section:
    told, chosen = record["indicators"]["success"], record["chosen"]
    shown = {
        "successes": words.count(told["successes"]),
        "trials": words.count(told["trials"]),
        "certify": words.count(record["data"]["sizes"]["certify"]),
        "cpu": record["environment"]["cpu"],
    }
    theory = words.lines("reading.theory_lines")
    if chosen and chosen["purity"] not in ("P0", "P1", "P2"):
        theory.append(words("reading.theory_learned", purity=chosen["purity"]))
    if chosen and chosen["total"]["channels"]["before"] > chosen["total"]["channels"]["after"]:
        theory.append(words("reading.theory_channels"))
    today = words.lines("reading.short_lines", **shown)
    today.append(words("reading.short_chain" if chosen else "reading.short_none"))
    return {"short": today, "long": words.lines("reading.long_lines"), "theory": [*theory, words("reading.theory_end")]}
