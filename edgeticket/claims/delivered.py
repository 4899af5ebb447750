"""The files of the ticket that was delivered, the chain of proof run again on them, and what its samples of latency give."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeticket.bench import percentiles
from edgeticket.budget import Artifact
from edgeticket.claims.leaves import Near
from edgeticket.claims.reached import FLOAT32
from edgeticket.errors import EquivalenceError, UnsupportedError
from edgeticket.export import export
from edgeticket.poc.chosen import SAMPLES, UNREMOVED
from edgeticket.ticket import Ticket
from edgeticket.verify import AGREEMENT, EQUAL_ANSWERS, Verification

Row = Mapping[str, Any]
FORMS = {"{}.onnx": ("onnx", "float"), "{}-int8.onnx": ("onnx", "int8"), "{}-c": ("c", "C99")}


def files(folder: Path, name: str, ticket: Ticket, told: Sequence[Row]) -> list[dict[str, Any]]:
    """Raises EquivalenceError for a file that is not there, and for a form that the ticket has and the record leaves out."""
    forms = {form.format(name): about for form, about in FORMS.items()}
    paths = [one["path"] for one in told]
    wanted = [path for path, (format, what) in forms.items() if path in paths or _possible(ticket, format, what)]
    if paths != wanted or not all((folder / path).exists() for path in paths):
        raise EquivalenceError(f"chosen.files: {', '.join(wanted)} belong there, and in the folder {folder}")
    made = []
    for path in paths:
        own = Artifact(folder / path, forms[path][0])
        about = {"format": own.format, "what": forms[path][1]}
        made.append({"path": path, **about, "bytes": own.file_bytes, "sha256": own.sha256})
    return made


def _possible(ticket: Ticket, format: str, what: str) -> bool:
    options: dict[str, Any] = {"precision": "int8"} if what == "int8" else {}
    with TemporaryDirectory(prefix="edgeticket-") as place:
        try:
            export(ticket, format, Path(place) / "ticket", **options)
        except UnsupportedError:
            return False
    return True


def bench(
    told: Sequence[Row], onnx: Sequence[str], rivals: Sequence[Row], period_ms: float | None
) -> list[dict[str, Any]]:
    """Which files were measured, and percentiles where every sample is in the record."""
    first: dict[str, str] = {}
    for rival in rivals:
        if "failed" not in rival and rival["name"] != "control":
            first.setdefault(rival["name"], rival["onnx"])
    names = [UNREMOVED, *onnx, *first.values()]
    if [row["name"] for row in told] != names:
        raise EquivalenceError(f"chosen.bench: not of {', '.join(names)}")
    return [_samples(row) | {"name": row["name"], "period_ms": period_ms} for row in told]


def _samples(told: Row) -> dict[str, Any]:
    samples = told["samples_ms"]
    whole = told["period_ms"] is None and len(samples) == told["percentiles"]["n"] <= SAMPLES
    return {"percentiles": percentiles(samples)} if whole else {}


def chain(told: Row, made: Verification, elsewhere: bool) -> dict[str, Any]:
    """`told` as it was run again; of a link that could not be run, here or there, its names.

    Raises EquivalenceError where a link or a network is left out, or another stands in its place.
    """
    again, word = made.to_json(), made.task.word.lower()
    pairs = list(zip(told["links"], again["links"], strict=False))
    named = [[(link["what"], link["against"]) for link in links] for links in (told["links"], again["links"])]
    unrun = {link["what"] for link in again["links"] if link["outcome"] == "not run"}
    rows = {row["what"]: row for row in again[word]}
    names = [row["what"] for row in told[word]]
    if named[0] != named[1] or [name for name in names if name not in unrun] != list(rows):
        raise EquivalenceError("chosen.chain: its links or networks are not those of the delivered files")
    slack = 1 - EQUAL_ANSWERS if elsewhere else FLOAT32
    return {
        **{key: again[key] for key in ("ticket", "digest", "purity", "data", "same_data")},
        "links": [_link(own, link, slack) for own, link in pairs],
        word: [{"what": name} | _near(rows.get(name, {}), slack) for name in names],
        "passed": {link["outcome"] for link in told["links"]} - {"not run"} == {"passed"},
    }


def _link(told: Row, again: Row, slack: float) -> dict[str, Any]:
    """What a link measures may be off by a tenth of what is allowed; a share of answers by `slack`."""
    left = told["outcome"] == "not run" and told["measured"] is None
    if left or again["outcome"] == "not run":
        return {key: again[key] for key in ("what", "against")}
    share, measured = again["unit"] == AGREEMENT, again["measured"]
    made = dict(again)
    if measured is not None:
        made["measured"] = Near(measured, slack if share else again["allowed"] / 10)
    if share and slack > FLOAT32:
        del made["note"]  # a bound of what was measured
    return made


def _near(value: Any, slack: float) -> Any:
    """Figures of files that were run: numbers that may be off by a share of themselves."""
    if isinstance(value, Mapping):
        return {key: _near(inner, slack) for key, inner in value.items()}
    if isinstance(value, list):
        return [_near(inner, slack) for inner in value]
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    return Near(value, slack * abs(value)) if numbers else value
