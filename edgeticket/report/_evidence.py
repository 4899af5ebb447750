"""Tables of the chosen ticket and of the run: curve, confusion, latency, chain of proof, time, files, facts."""

from collections.abc import Iterator, Sequence
from typing import Any

from edgeticket.report._records import PARTS, Row, first_seeds, rivals
from edgeticket.report._tables import Table
from edgeticket.report._words import Words, three_digits

SHADES, EPOCHS, CLASSES, MISTAKES = 4, 10, 24, 3
AGREEMENT = "of the answers"  # the unit of a link that is better when it is larger (edgeticket/verify.py)
PERCENTILES = ("p50", "p90", "p99", "max")


def curve(chosen: Row, words: Words) -> Table:
    """At most EPOCHS of its epochs, the first and the last among them."""
    points = chosen["curve"]
    count = min(EPOCHS, len(points))
    shown = [points[round(i * (len(points) - 1) / max(1, count - 1))] for i in range(count)]
    rows = [
        [words("curve.loss"), *(f"{point['loss']:.3g}" for point in shown)],
        [
            words("curve.select"),
            *(words.quality(p["select"]) if p["select"] is not None else words("format.unmeasured") for p in shown),
        ],
    ]
    head = [words("curve.epoch"), *(str(point["epoch"]) for point in shown)]
    return Table(words("curve.table", seed=chosen["seed"]), head, rows)


def confusion(record: Row, words: Words) -> Table | None:
    """None where there is none, or too many classes for a page: then the most frequent mistakes are all that is shown."""
    names, counts = class_names(record), record["chosen"]["confusion"]
    if not counts or len(counts) > CLASSES:
        return None
    shades = [[_shade(count, sum(row)) for count in row] for row in counts]
    rows = [[name, *map(words.count, row)] for name, row in zip(names, counts, strict=True)]
    return Table(words("confusion.table"), [words("confusion.corner"), *names], rows, look="confusion", shades=shades)


def class_names(record: Row) -> list[str]:
    """In the order of the confusion matrix, which canonical JSON keeps in lists alone; numbers where the record has no list."""
    chosen = record["chosen"]
    return list(chosen["labels"]) if "labels" in chosen else [f"#{i}" for i in range(len(chosen["confusion"] or ()))]


def _shade(count: int, of: int) -> int:
    """0 for none, then by the share of what is truly so."""
    return min(SHADES, 1 + int(SHADES * count / of)) if count else 0


def mistakes(record: Row, words: Words) -> str:
    """The most frequent ones, in words."""
    names, counts = class_names(record), record["chosen"]["confusion"]
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n]
    if not wrong:
        return words("confusion.clean")
    worst = sorted(wrong, key=lambda one: (-one[0], one[1:]))[:MISTAKES]
    told = [words("confusion.mistake", true=names[i], answer=names[j], count=words.count(n)) for n, i, j in worst]
    return words("confusion.worst", mistakes=words.list(told))


def latencies(record: Row, words: Words) -> Table:
    bench = record["chosen"]["bench"]
    paced = any(row["missed"] for row in bench)
    keys = ("first", "load", "runs", *(["missed"] if paced else []))
    head = [words("latency.file"), *PERCENTILES[:-1], words("latency.max"), *(words(f"latency.{key}") for key in keys)]
    return Table(words("latency.table"), head, [_latency(record, row, paced, words) for row in bench])


def _latency(record: Row, row: Row, paced: bool, words: Words) -> list[str]:
    times = [*(row["percentiles"][p] for p in PERCENTILES), row["first_ms"], row["init_ms"]]
    missed = row["missed"]
    late = words("latency.missed_of", **{k: words.count(n) for k, n in missed.items()}) if missed else ""
    runs = words.count(row["percentiles"]["n"])
    return [file_label(record, row["name"], words), *map(three_digits, times), runs, *([late] if paced else [])]


def file_label(record: Row, name: str, words: Words) -> str:
    """A file by what it is, where that says more than its name."""
    if name == "unremoved.onnx":
        return words("latency.unremoved")
    rival = first_seeds(record).get(name)
    return words.either(f"rival.{rival}", rival) if rival else name


def cores(chosen: Row, words: Words) -> Table | None:
    rows = [
        [
            core["target"],
            *(
                words("format.unmeasured") if core[key] is None else words.count(core[key])
                for key in ("instructions", "flash_bytes", "ram_bytes")
            ),
            words.either(f"latency.{core['how']}", core["how"]),
        ]
        for core in chosen["cores"]
    ]
    head = [words(f"latency.{key}") for key in ("core", "instructions", "flash", "ram", "how")]
    return Table(words("latency.cores"), head, rows, texts=(0, len(head) - 1)) if rows else None


def chain(chosen: Row, words: Words) -> Table:
    """An outcome is one of three words; its note says why."""
    rows = [
        [
            _phrase(link["what"], words),
            _phrase(link["against"], words),
            words(f"chain.{link['outcome']}"),
            *_margins(link, words),
            words.count(link["examples"]) if link["examples"] else "",
            link["note"],
        ]
        for link in chosen["chain"]["links"]
    ]
    head = [words(f"chain.{key}") for key in ("what", "against", "outcome", "measured", "allowed", "examples", "note")]
    marks = {i: link["outcome"].replace(" ", "-") for i, link in enumerate(chosen["chain"]["links"])}
    return Table(words("chain.table"), head, rows, texts=(0, 1, 2, len(head) - 1), marks=marks, look="wide chain")


def _phrase(text: str, words: Words) -> str:
    """The chain's own phrases in the language of the page; a file's name stays, also before a comma."""
    name, comma, rest = text.partition(", ")
    if comma and f"link.{rest}" in words:
        return f"{name}{words('format.list')}{words(f'link.{rest}')}"
    return words.either(f"link.{text}", text)


def _margins(link: Row, words: Words) -> tuple[str, str]:
    if link["measured"] is None:
        return "", ""
    if link["unit"] == AGREEMENT:
        value, allowed = (words.percent(link[key], 2) for key in ("measured", "allowed"))
        return words("chain.agreement_measured", value=value), words("chain.agreement_allowed", value=allowed)
    unit = words.either(f"unit.{link['unit']}", link["unit"])
    measured, allowed = (_power(link[key]) for key in ("measured", "allowed"))
    return words("chain.with_unit", number=measured, unit=unit), words("chain.at_most", number=allowed)


def _power(number: float) -> str:
    """Two digits, 2.3e-7: with a minus, at which no line breaks."""
    return f"{number:.2g}".replace("e-0", "e-").replace("-", "−")


def outcomes(chosen: Row) -> dict[str, int]:
    """How many links of each outcome."""
    told = [link["outcome"] for link in chosen["chain"]["links"]]
    return {outcome: told.count(outcome) for outcome in ("passed", "failed", "not run")}


def times(record: Row, words: Words) -> Table:
    cost, chosen = record["indicators"]["cost"], record["chosen"]
    lower = sum(row["cpu_seconds"] for row in record["sparser"])
    rest = cost["total_cpu_seconds"] - cost["search_cpu_seconds"] - lower
    one: Any = {key: cost[key]["median"] if cost[key] else None for key in ("cpu_seconds", "wall_seconds")}
    steps = [
        ("one", one["cpu_seconds"], one["wall_seconds"]),
        ("searches", cost["search_cpu_seconds"], None),
        *([("sparser", lower, None)] if lower else []),
        ("rivals", rest, None),
        ("whole", cost["total_cpu_seconds"], cost["run_wall_seconds"]),
    ]
    if chosen:
        steps.append(("device", None, chosen["device_seconds"]))
    rows = [[words(f"time.{name}"), _time(cpu, words), _time(wall, words)] for name, cpu, wall in steps]
    return Table(words("time.table"), [words(f"time.{key}") for key in ("step", "cpu", "wall")], rows)


def _time(seconds: float | None, words: Words) -> str:
    """Nothing where that time is none of the record's."""
    return "–" if seconds is None else words.duration(seconds)


def files(chosen: Row, words: Words) -> Table:
    rows = [[one["path"], one["what"], one["sha256"], words.count(one["bytes"])] for one in chosen["files"]]
    head = [words(f"appendix.{key}") for key in ("path", "form", "sha", "size")]
    return Table(words("appendix.files"), head, rows, texts=(0, 1, 2), look="facts")


def facts(record: Row, words: Words) -> Table:
    head = [words("appendix.fact"), words("appendix.value")]
    rows = [[words(f"appendix.{name}"), text] for name, text in _facts(record, words) if text]
    return Table(words("appendix.facts"), head, rows, texts=(0, 1), look="facts")


def _facts(record: Row, words: Words) -> Iterator[tuple[str, str]]:
    data, request, chosen = record["data"], record["request"], record["chosen"]
    yield "protocol", str(record["protocol"])
    yield "success", request["success"]
    yield "budget", request["budget"] or words("format.none")
    yield "seeds", _seeds([row["seed"] for row in record["rows"]], words)
    yield "data_digest", data["digest"]
    yield "sizes", words.list([words.count(data["sizes"][part]) for part in PARTS])
    yield "shape", " x ".join(map(str, data["shape"]))
    if chosen:
        yield "chosen", f"{chosen['ticket']} ({words('appendix.seed')} {chosen['seed']})"
        yield "digest", chosen["digest"]
    yield "settings", _pairs(request["settings"])
    yield "environment", _pairs(record["environment"])
    yield "seal", record["seal"]


def _seeds(seeds: Sequence[int], words: Words) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return words("format.range", low=seeds[0], high=seeds[-1])
    return words.list([str(seed) for seed in seeds])


def _pairs(values: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()) if value not in ("", None))


def not_made(record: Row, words: Words) -> Sequence[str]:
    """A line for each network for comparison that could not be made, with the reason as it was given."""
    made = rivals(record)
    told = {row["name"]: row["failed"] for row in record["rivals"] if "failed" in row and row["name"] not in made}
    return [
        words("compare.failed", name=words.either(f"rival.{name}", name), reason=reason)
        for name, reason in told.items()
    ]
