"""Tables of networks: spread over searches, before and after, figures, layers, and every search and rival."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeticket.report._records import Row, benched, found, middle, rivals, shipped, verified
from edgeticket.report._words import Words, three_digits

SEARCHES = 300  # rows of the appendix: the page stays small enough to send
QUANTILES = ("min", "p10", "median", "p90", "max")


@dataclass(frozen=True)
class Table:
    """`texts`: columns that are text; the first cell of a row is its head. `marks`: classes of rows. `look`: class of the table."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[int] = (0,)
    marks: Mapping[int, str] = field(default_factory=dict)
    look: str = ""
    shades: Sequence[Sequence[int]] = ()  # 0 to 4 for each number, where a table is a picture too


def spread(record: Row, words: Words) -> Table:
    """The indicators with their quantiles; what was not measured is left out."""
    told = record["indicators"]
    formats: dict[str, Callable[[float], str]] = {
        "density": words.percent,
        "kept_of_wide": words.percent,
        "certify": words.quality,
        "latency_ms": words.figure,
        "cpu_seconds": words.figure,
        "wall_seconds": words.figure,
    }
    sparsity = {key: told["sparsity"][key] for key in ("density", "kept_of_wide", "bytes", "macs", "kept_macs")}
    costs = {key: told["cost"][key] for key in ("cpu_seconds", "wall_seconds", "flops")}
    quantiles = sparsity | told["quality"] | costs
    rows = [
        [
            words(f"indicators.{name}", headline=words.headline_word),
            *(formats.get(name, words.count)(values[q]) for q in QUANTILES),
            words.count(values["n"]),
        ]
        for name, values in quantiles.items()
        if values
    ]
    head = [words(f"indicators.{key}") for key in ("figure", "least", "p10", "median", "p90", "most", "searches")]
    return Table(words("indicators.table"), head, rows)


def ladder(record: Row, words: Words) -> Table | None:
    """Successes at the density that was asked for and at lower ones, each with its bounds; None without lower ones."""
    steps = record["indicators"]["sparsity"]["ladder"]
    rows = [
        [
            words.percent(step["density"]),
            words("indicators.of", successes=step["successes"], trials=step["trials"]),
            words.at_least(step["lower"]),
            words.at_most(step["upper"]),
            words.quality(step["certify"]),
            words.count(step["bytes"]),
        ]
        for step in steps
    ]
    keys = ("density", "succeeded", "lower", "upper")
    head = [*(words(f"indicators.{key}") for key in keys), words("indicators.certify", headline=words.headline_word)]
    caption = words("indicators.ladder", confidence=words.level(steps[0]["confidence"])) if steps else ""
    return Table(caption, [*head, words("indicators.bytes")], rows) if len(rows) > 1 else None


def comparison(record: Row, words: Words) -> Table:
    """The chosen ticket in its forms, and the middle seed of each network for comparison."""
    own = list(_own_rows(record, words)) if record["chosen"] else []
    others = [_rival_row(name, rows, words) for name, rows in rivals(record).items()]
    keys = ("network", "", "range", "bytes", "macs", "p50", "p99")
    head = [words(f"compare.{key}") if key else words.headline_word for key in keys]
    caption = words("compare.table", certify=words.count(record["data"]["sizes"]["certify"]))
    return Table(caption, head, own + others, marks=dict.fromkeys(range(1, len(own)), "own"), look="wide")


def against_the_median(record: Row, words: Words) -> Iterator[str]:
    """A line for each network for comparison: its middle seed beside the median ticket, as the table cannot say it."""
    told = record["indicators"]
    certify, size, macs = told["quality"]["certify"], told["sparsity"]["bytes"], told["sparsity"]["macs"]
    for name, rows in rivals(record).items():
        one = middle(rows)
        yield words(
            "compare.against",
            name=words.either(f"rival.{name}", name),
            headline=words.headline_word,
            difference=words.difference(one["certify"] - certify["median"], sign="+"),
            bytes=words("format.times", number=f"{one['bytes'] / size['median']:.2f}"),
            macs=words("format.times", number=f"{one['macs'] / macs['median']:.2f}"),
        )


def _own_rows(record: Row, words: Words) -> Iterator[list[str]]:
    chosen = record["chosen"]
    macs, packed = chosen["total"]["macs"], words.count(chosen["bytes"]["packed"])
    same, unknown = words("compare.as_ticket"), words("format.unmeasured")
    bench = benched(record, "unremoved.onnx")
    yield [words("compare.wide"), same, "", unknown, words.count(macs["before"]), *_latency(bench, words)]
    reached = _range([row["certify"] for row in found(record)], words)
    for kind, label in (("float", "ticket"), ("int8", "ticket_int8")):
        file = shipped(record, kind)
        if file is None:
            continue
        figures = chosen["figures"] if kind == "float" else verified(record, file["path"])
        quality = _quality(figures, chosen["certify"] if kind == "float" else None, words)
        cost = _latency(benched(record, file["path"]), words)
        many = reached if kind == "float" else ""
        yield [words(f"compare.{label}"), quality, many, packed, words.count(macs["after"]), *cost]


def _rival_row(name: str, rows: Sequence[Row], words: Words) -> list[str]:
    one = middle(rows)
    return [
        words.either(f"rival.{name}", name),
        _quality(one["figures"], one["certify"], words),
        _range([row["certify"] for row in rows], words),
        words.count(one["bytes"]),
        words.count(one["macs"]),
        *_latency({"percentiles": one["latency_ms"]} if one.get("latency_ms") else None, words),
    ]


def _quality(figures: Row | None, headline: float | None, words: Words) -> str:
    """With its interval where the task has one for its headline."""
    if figures is None:
        return words("format.unmeasured")
    if "rmse" in figures:
        return _errors(figures, words) if headline is None else words.quality(headline)
    return words.interval(figures[words.headline.lower()], figures["low"], figures["high"])


def _errors(figures: Row, words: Words) -> str:
    pairs = zip(figures["targets"], figures["rmse"], strict=True)
    return "RMSE " + words.list([words("format.pair", name=name, value=words.figure(rmse)) for name, rmse in pairs])


def _range(values: Sequence[float], words: Words) -> str:
    if len(values) < 2:
        return ""
    return words("format.range", low=words.plain(min(values)), high=words.plain(max(values)))


def _latency(bench: Row | None, words: Words) -> list[str]:
    return [words.milliseconds(bench["percentiles"][p] if bench else None) for p in ("p50", "p99")]


def figures(record: Row, words: Words) -> Table | None:
    """What the headline does not say: the error of each target, or the two rates of an alarm. None for classification."""
    told: Row = record["chosen"]["figures"]
    caption = words("compare.figures", network=words("compare.ticket"))
    if "rmse" in told:
        columns = (told[key] for key in ("targets", "rmse", "low", "high", "r2"))
        rows = [
            [
                name,
                words("format.interval", value=words.figure(rmse), low=words.figure(low), high=words.figure(high)),
                f"{r2:.4f}",
            ]
            for name, rmse, low, high, r2 in zip(*columns, strict=True)
        ]
        return Table(caption, [words(f"compare.{key}") for key in ("target", "rmse", "r2")], rows)
    if "auc" in told:
        head = [words(f"compare.{key}") for key in ("quantity", "value", "count")]
        area = [words("compare.AUC"), words.interval(told["auc"], told["low"], told["high"]), ""]
        return Table(caption, head, [area, *(_rate(name, told[name], words) for name in ("detected", "false_alarms"))])
    return None


def _rate(name: str, rate: Row, words: Words) -> list[str]:
    ends = {key: f"{100 * rate[key]:.2f}" for key in ("low", "high")}
    of = words("latency.missed_of", missed=words.count(rate["count"]), of=words.count(rate["of"]))
    return [words(f"compare.{name}"), words("format.interval", value=words.percent(rate["rate"], 2), **ends), of]


def layers(chosen: Row, words: Words) -> Table:
    rows = [
        [
            layer["name"],
            _kind(layer, words),
            *_counts(layer, words),
            words.count(layer["bytes"]),
        ]
        for layer in chosen["layers"]
    ]
    total = [words("widths.total"), "", *_counts(chosen["total"], words), words.count(chosen["bytes"]["packed"])]
    keys = ("layer", "kind", "channels", "weights", "kept", "density", "macs", "bytes")
    head = [words(f"widths.{key}") for key in keys]
    return Table(words("widths.table"), head, [*rows, total], texts=(0, 1), marks={len(rows): "own"}, look="wide")


def _kind(layer: Row, words: Words) -> str:
    kind = words.either(f"widths.{layer['kind']}", layer["kind"])
    return words("widths.edges", kind=kind, edges=layer["edges"]) if layer["edges"] > 1 else kind


def _counts(layer: Row, words: Words) -> list[str]:
    channels, weights, macs = (change(layer[key], words) for key in ("channels", "weights", "macs"))
    return [channels, weights, words.count(layer["kept"]), words.percent(layer["density"]), macs]


def change(pair: Mapping[str, int], words: Words) -> str:
    before, after = words.count(pair["before"]), words.count(pair["after"])
    return before if before == after else words("format.arrow", before=before, after=after)


def searches(record: Row, words: Words) -> Table:
    keys = ("seed", "select", "certify", "bytes", "kept", "macs", "p50", "cpu", "result")
    own = record["chosen"]["seed"] if record["chosen"] else None
    rows = [_search(row, words) for row in record["rows"][:SEARCHES]]
    marks = {i: "own" for i, row in enumerate(record["rows"]) if row["seed"] == own}
    head = [words(f"appendix.{key}") for key in keys]
    key = "searches" if len(rows) == len(record["rows"]) else "searches_cut"
    caption = words(f"appendix.{key}", shown=words.count(len(rows)), all=words.count(len(record["rows"])))
    return Table(caption, head, rows, texts=(0, len(keys) - 1), marks=marks, look="searches")


def _search(row: Row, words: Words) -> list[str]:
    result = words("appendix.succeeded")
    if not row["success"]:
        result = words("format.pair", name=words("appendix.not_succeeded"), value=words.list(row["why"]))
    cells = [""] * 6 if "failed" in row else _measured(row, words)
    return [str(row["seed"]), *cells, words.figure(row["cpu_seconds"]), result]


def _measured(row: Row, words: Words) -> list[str]:
    latency: Any = row.get("latency_ms")
    return [
        words.quality(row["select"]),
        words.quality(row["certify"]),
        words.count(row["bytes"]),
        words.percent(row["kept_of_wide"]) if "kept_of_wide" in row else "",
        words.count(row["macs"]),
        three_digits(latency["p50"]) if latency else words("format.unmeasured"),
    ]


def all_rivals(record: Row, words: Words) -> Table:
    keys = ("seed", "select", "certify", "bytes", "macs", "p50", "cpu")
    rows = []
    for name, own in rivals(record).items():
        for row in own:
            cells = _measured(row, words)
            del cells[3]  # a share of a random network
            rows.append(
                [words.either(f"rival.{name}", name), str(row["seed"]), *cells, words.figure(row["cpu_seconds"])]
            )
    head = [words("compare.network"), *(words(f"appendix.{key}") for key in keys)]
    return Table(words("appendix.rivals"), head, rows)
