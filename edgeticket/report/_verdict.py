"""The verdict as a manager reads it: what to do, why, and what would change it. Codes come from edgeticket/poc/judge.py."""

from collections.abc import Callable
from typing import Any

from edgeticket.report._records import Row
from edgeticket.report._words import Words


def sentences(record: Row, words: Words) -> dict[str, Any]:
    """`lines`: three; `further`: other reasons and changes, where there are more than one of either."""
    told = record["verdict"]
    codes = {item["code"] for item in told["reasons"]}
    said = {"unlikely", "undecided"} if "none" in codes else set()  # of no success at all, one sentence says enough
    reasons = [_sentence("reason", item, words) for item in told["reasons"] if item["code"] not in said]
    changes = [_sentence("change", item, words) for item in told["change"]]
    changes = changes or [words("change.certify")]
    data = record["data"]["name"]
    return {
        "code": told["word"].replace(" ", "-"),
        "word": words(f"verdict.word.{told['word']}"),
        "meaning": words(f"verdict.meaning.{told['word']}", data=data),
        "reason": reasons[0],
        "change": changes[0],
        "reasons": reasons[1:],
        "changes": changes[1:],
        "bar": bar(record, words),
    }


def bar(record: Row, words: Words) -> list[str]:
    """What a success is, and the budget where there is one."""
    request, told = record["request"], record["bar"]
    sense = words("verdict.at_most" if told["lower_is_better"] else "verdict.at_least")
    value = words.quality(told["value"])
    text = words("verdict.bar", success=request["success"], headline=words.headline_word, sense=sense, value=value)
    budget = [words("verdict.bar_budget", budget=request["budget"])] if request["budget"] else []
    return [text, *budget]


def _sentence(kind: str, item: Row, words: Words) -> str:
    """The text of a code with its numbers; a code that this page does not know is shown as it is."""
    formats = _formats(words) | {"probability": words.level if kind == "reason" else words.at_least}
    numbers = {name: formats.get(name, str)(value) for name, value in item.items() if name != "code"}
    key = f"{kind}.{item['code']}"
    if key in words:
        return words(key, **numbers)
    return words("format.pair", name=item["code"], value=", ".join(f"{name} = {n}" for name, n in numbers.items()))


def _formats(words: Words) -> dict[str, Callable[[Any], str]]:
    count, quality = words.count, words.quality
    return {
        **dict.fromkeys(("successes", "trials", "done", "asked", "seeds", "failures", "runs"), count),
        **dict.fromkeys(("certify", "rival_certify"), quality),
        **dict.fromkeys(("bytes", "rival_bytes"), words.size),
        **dict.fromkeys(("cpu_seconds", "max_cost_s"), words.duration),
        "confidence": words.level,
        "lower": words.at_least,
        "upper": words.at_most,
        "margin": words.difference,
        "factor": lambda value: words("format.times", number=f"{value:.3g}"),
        "name": lambda name: words.either(f"rival.{name}", str(name)),
    }
