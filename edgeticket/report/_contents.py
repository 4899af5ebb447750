"""What the page holds, section by section, as plain values for the template."""

from collections.abc import Callable
from typing import Any

from edgeticket.report import _costs, _evidence, _pictures, _tables
from edgeticket.report._readings import protocol, reading
from edgeticket.report._records import PARTS, Row, Section, benched, found, rivals, shipped, sparser
from edgeticket.report._verdict import sentences
from edgeticket.report._words import Words


def contents(record: Row, words: Words) -> dict[str, Any]:
    """`sections`: those that this record has, by name and in order; the template has a block for each."""
    builders: dict[str, Callable[[Row, Words], Section | None]] = {
        "indicators": indicators,
        "compare": compare,
        "pareto": pareto,
        "widths": widths,
        "curve": curve,
        "confusion": confusion,
        "latency": latency,
        "chain": chain,
        "protocol": protocol,
        "time": time,
        "money": money,
        "reading": reading,
        "appendix": appendix,
    }
    made = {name: build(record, words) for name, build in builders.items()}
    return {
        "verdict": sentences(record, words),
        "subject": subject(record, words),
        "sections": {name: section for name, section in made.items() if section},
    }


def subject(record: Row, words: Words) -> str:
    data = record["data"]
    counts = {part: words.count(data["sizes"][part]) for part in PARTS}
    task = words(f"task.{data['task']}")
    return words("page.subject", model=record["request"]["model"], data=data["name"], task=task, **counts)


def indicators(record: Row, words: Words) -> Section:
    told = record["indicators"]
    success, cost, sparsity = told["success"], told["cost"], told["sparsity"]
    bounds = {"lower": words.at_least(success["lower"]), "upper": words.at_most(success["upper"])}
    shown = {"confidence": words.level(success["confidence"]), "rate": words.percent(success["rate"])}
    big = [_sparsity(sparsity, words), _success(success, words), _cost(cost, words)]
    wall = cost["run_wall_seconds"]
    total = words(
        "indicators.total" if wall is not None else "indicators.total_resumed",
        search=words.duration(cost["search_cpu_seconds"]),
        total=words.duration(cost["total_cpu_seconds"]),
        **({"workers": cost["workers"], "wall": words.duration(wall)} if wall is not None else {}),
    )
    notes = [words("indicators.probability", **bounds, **shown), total, _energy(record, words)]
    tables = [_tables.spread(record, words), _tables.ladder(record, words)]
    return {"big": big, "tables": [table for table in tables if table], "notes": notes}


def _sparsity(sparsity: Row, words: Words) -> tuple[str, str, str]:
    kept, size = sparsity["kept_of_wide"], sparsity["bytes"]
    name = words("indicators.sparsity")
    if not kept:
        return name, words("indicators.not_known"), words("indicators.no_ticket")
    shown = {key: words.percent(kept[key]) for key in ("p10", "p90")}
    text = words("indicators.sparsity_text", bytes=words.size(size["median"]), **shown)
    return name, words("indicators.sparsity_big", kept=words.percent(kept["median"])), text


def _success(success: Row, words: Words) -> tuple[str, str, str]:
    shown = {key: words.count(success[key]) for key in ("successes", "trials")}
    none = "" if success["successes"] else "_none"
    text = words(f"indicators.success_text{none}", confidence=words.level(success["confidence"]), **shown)
    bounds = {"lower": words.at_least(success["lower"]), "upper": words.at_most(success["upper"])}
    big = words(f"indicators.success_big{none}", **bounds)
    return words("indicators.success"), big, text


def _cost(cost: Row, words: Words) -> tuple[str, str, str]:
    seconds, each = cost["cpu_seconds"], cost["per_success"]
    if each["expected"] is None or each["at_most"] is None:
        text = words("indicators.cost_text_none", p90=words.duration(seconds["p90"]))
    else:
        shown = {key: words.duration(each[key]) for key in ("expected", "at_most")}
        text = words("indicators.cost_text", p90=words.duration(seconds["p90"]), **shown)
    return words("indicators.cost"), words.duration(seconds["median"]), text


def _energy(record: Row, words: Words) -> str:
    joules = _costs.measured_joules(record)
    if joules is None:
        return words("indicators.no_energy")
    source, total = (
        record["indicators"]["cost"]["joules"]["source"],
        words("format.joules", number=words.figure(joules)),
    )
    return words("indicators.energy", source=source, total=total)


def compare(record: Row, words: Words) -> Section | None:
    notes = [words("compare.note", **_machine(record)), *_evidence.not_made(record, words)]
    against = list(_tables.against_the_median(record, words)) if found(record) else []
    figures = _tables.figures(record, words) if record["chosen"] else None
    told = record["chosen"]["figures"] if record["chosen"] else {}
    alarm = words("compare.alarm", threshold=words.figure(told["threshold"])) if "threshold" in told else ""
    table = _tables.comparison(record, words)
    if not table.rows:
        return None
    return {"table": table, "figures": figures, "alarm": alarm, "against": against, "notes": notes}


def _machine(record: Row) -> dict[str, Any]:
    return {"cpu": record["environment"]["cpu"], "threads": record["request"]["settings"]["threads"]}


def pareto(record: Row, words: Words) -> Section | None:
    drawn = {cost: _pictures.pareto(record, words, cost) for cost in ("bytes", "latency")}
    pictures = [picture for picture in drawn.values() if picture]
    sense = words("headline.lower" if record["bar"]["lower_is_better"] else "headline.higher")
    notes = [words("pareto.text", sense=sense), words("pareto.lines")]
    if not drawn["latency"]:
        notes.append(words("pareto.no_latency"))
    return {"pictures": pictures, "legend": _legend(record, words), "notes": notes} if pictures else None


def _legend(record: Row, words: Words) -> list[tuple[str, str]]:
    """Mark and meaning, for the marks that are there."""
    rows = found(record)
    shown = [
        name for name, there in (("success", True), ("failure", False)) if any(r["success"] == there for r in rows)
    ]
    shown += ["chosen"] if record["chosen"] else []
    shown += ["sparser"] if sparser(record) else []
    own = [(name, words(f"pareto.{name}")) for name in shown]
    return own + [(name, words.either(f"rival.{name}", name)) for name in rivals(record)]


def widths(record: Row, words: Words) -> Section | None:
    chosen = record["chosen"]
    if not chosen:
        return None
    channels, peak = chosen["total"]["channels"], chosen["peak_activations"]
    same = [words("widths.same")] if channels["before"] == channels["after"] else []
    ends = {when: words.size(peak[when]) for when in ("before", "after")}
    notes = [*same, words("widths.peak", **ends)]
    return {"table": _tables.layers(chosen, words), "picture": _pictures.widths(chosen, words), "notes": notes}


def curve(record: Row, words: Words) -> Section | None:
    picture = _pictures.curve(record, words) if record["chosen"] else None
    if not picture:
        return None
    table = _evidence.curve(record["chosen"], words)
    return {"picture": picture, "table": table, "text": _pictures.curve_text(record, words)}


def confusion(record: Row, words: Words) -> Section | None:
    if not record["chosen"] or not record["chosen"]["confusion"]:
        return None
    return {"table": _evidence.confusion(record, words), "text": _evidence.mistakes(record, words)}


def latency(record: Row, words: Words) -> Section | None:
    chosen = record["chosen"]
    if not chosen or not chosen["bench"]:
        return None
    file = shipped(record, "float") or shipped(record, "int8")
    row = benched(record, file["path"]) if file else None
    deadline = words("latency.no_deadline")
    if row and row["period_ms"] is not None:
        most = words.milliseconds(max(row["samples_ms"]) if row["samples_ms"] else None)
        deadline = words("latency.deadline", period=words.milliseconds(row["period_ms"]), max=most)
    return {
        "table": _evidence.latencies(record, words),
        "picture": _pictures.latency(row, row["name"], words) if row else None,
        "notes": [deadline, words("latency.where", **_machine(record))],
        "cores": _evidence.cores(chosen, words),
    }


def chain(record: Row, words: Words) -> Section | None:
    if not record["chosen"]:
        return None
    counts = _evidence.outcomes(record["chosen"])
    text = words("chain.summary", passed=counts["passed"], failed=counts["failed"], skipped=counts["not run"])
    return {"table": _evidence.chain(record["chosen"], words), "text": text}


def time(record: Row, words: Words) -> Section:
    if not record["chosen"]:
        text = words("time.unknown")
    elif record["chosen"]["device_seconds"] is None:
        text = words("time.stopped")
    else:
        text = words("time.text", device=words.duration(record["chosen"]["device_seconds"]))
    return {"table": _evidence.times(record, words), "text": text}


def money(record: Row, words: Words) -> Section:
    tables = [_costs.of_bytes(record, words)] if _costs.sizes(record) else []
    costs = _costs.of_money(record, words)
    return {"tables": [*tables, *([costs] if costs else [])], "notes": _costs.notes(record, words)}


def appendix(record: Row, words: Words) -> Section:
    request, chosen = record["request"], record["chosen"]
    return {
        "command": request["command"],
        "check": f"edgeticket verify --claims runs/{request['name']}/poc.json",
        "facts": _evidence.facts(record, words),
        "tables": [
            *([_evidence.files(chosen, words)] if chosen and chosen["files"] else []),
            _tables.searches(record, words),
            *([_tables.all_rivals(record, words)] if rivals(record) else []),
        ],
        "notes": [words("appendix.same"), words("appendix.measured_once")],
    }
