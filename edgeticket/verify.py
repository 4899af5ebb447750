"""The chain of proof: every step computes what the step before it computes, on data that chose nothing.

    masked wide network = compacted (float64) = ONNX float (1e-5) · integer network (numpy) = ONNX int8 (a code per layer)

A link that cannot be run here is reported as "not run", never as passed. The examples are the certify part of the data, and
its accuracy comes with a one-sided 95 % Clopper-Pearson bound, which assumes that they are independent.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.compact import compact, prove
from edgeticket.data import Data
from edgeticket.errors import EdgeTicketError, EquivalenceError, UsageError
from edgeticket.integer import dequantise, integerise
from edgeticket.integer import run as run_integer
from edgeticket.model import Model
from edgeticket.reference import TOLERANCE, check_raw, difference, run
from edgeticket.theory import lower_bound
from edgeticket.ticket import Ticket, read_ticket

WIDE_EXAMPLES, LAYER_EXAMPLES = 64, 256
AGREEMENT = 0.995


@dataclass(frozen=True)
class Link:
    """One comparison. `measured` is to be at most (agreement: at least) `allowed`; outcome passed, failed or not run."""

    what: str
    against: str
    outcome: str
    measured: float | None = None
    allowed: float | None = None
    examples: int = 0
    note: str = ""


@dataclass(frozen=True)
class Accuracy:
    """On the certify part. `lower` is the one-sided 95 % bound; `agreement` the share of answers that are the ticket's."""

    what: str
    correct: int
    of: int
    lower: float
    agreement: float


@dataclass(frozen=True)
class Verification:
    ticket: str
    digest: str
    purity: str
    data: str
    same_data: bool  # as the search had, by its digest
    links: tuple[Link, ...]
    accuracy: tuple[Accuracy, ...]

    @property
    def passed(self) -> bool:
        return all(link.outcome != "failed" for link in self.links)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    def text(self) -> str:
        """A line a link, then a line a network."""
        data = "the data of the search" if self.same_data else "NOT the data of the search"
        lines = [f"{self.ticket} {self.digest[:16]} {self.purity}, certify part of {self.data} ({data})"]
        for link in self.links:
            figure = (
                ""
                if link.measured is None
                else f" {link.measured:.3g} (allowed {link.allowed:.3g}, n = {link.examples})"
            )
            note = f" ({link.note})" if link.note else ""
            lines.append(f"  {link.outcome:8} {link.what} = {link.against}{figure}{note}")
        for row in self.accuracy:
            percent = f"{100 * row.correct / row.of:6.2f} %, at least {100 * row.lower:.2f} % (95 %)"
            lines.append(
                f"  {row.what:28} {percent}  {row.correct:,} of {row.of:,}  {100 * row.agreement:.2f} % as the ticket"
            )
        return "\n".join(lines)

    def require(self) -> None:
        """Raise EquivalenceError, naming the first broken link."""
        for link in self.links:
            if link.outcome == "failed":
                raise EquivalenceError(f"{link.what} is not {link.against}: {link.note or link.measured}")


def verify(ticket: Path, artifacts: Sequence[Path], data: Data) -> Verification:
    """Run every link that the artifacts allow. Raises TicketError, DataError or UsageError for what cannot be read."""
    source = read_ticket(ticket)
    raw, labels = data.certify
    model = compact(source)
    check_raw(model.plan, raw)
    outputs = run(model, raw)
    links = [_wide_link(source, raw)]
    accuracy = [_accuracy(str(ticket.name), outputs, outputs, labels)]
    for path in artifacts:
        own, made = _onnx_links(path, model, raw, outputs)
        links += own
        if made is not None:
            accuracy.append(_accuracy(path.name, made, outputs, labels))
    integer = integerise(model)
    codes = run_integer(integer, raw)
    accuracy.append(_accuracy("integer network", dequantise(integer, model.plan.outputs[0], codes), outputs, labels))
    links += _absent(artifacts)
    return Verification(
        ticket.name,
        source.digest,
        source.purity,
        data.name,
        source.provenance.get("data_digest") == data.digest,
        tuple(links),
        tuple(accuracy),
    )


def _wide_link(ticket: Ticket, raw: np.ndarray) -> Link:
    what, against, raw = "compacted network", "the masked wide network", raw[:WIDE_EXAMPLES]
    try:
        return Link(what, against, "passed", prove(ticket, raw), 1e-9, len(raw))
    except EquivalenceError as error:
        return Link(what, against, "failed", None, 1e-9, len(raw), str(error))


def _onnx_links(path: Path, model: Model, raw: np.ndarray, outputs: np.ndarray) -> tuple[list[Link], np.ndarray | None]:
    """Links of one ONNX file, and its outputs for all of `raw` (None where it does not run)."""
    if path.suffix != ".onnx" or not path.is_file():
        raise UsageError(f"{path}: not an ONNX file: give the files that `edgeticket export --to onnx` wrote")
    from exporters import qdq, to_onnx
    from exporters.graph import to_bytes

    try:
        content = path.read_bytes()
        made = to_onnx.run_bytes(content, raw)
    except EdgeTicketError as error:
        return [Link(path.name, "the compacted network", "failed", note=str(error))], None
    if made.shape != outputs.shape:
        note = f"outputs of shape {made.shape[1:]}, the ticket has {outputs.shape[1:]}"
        return [Link(path.name, "the compacted network", "failed", note=note)], None
    if not to_onnx.is_int8(content):
        off = difference(made, outputs)
        outcome = "passed" if off <= TOLERANCE else "failed"
        return [Link(path.name, "the compacted network", outcome, off, TOLERANCE, len(raw))], made
    few = raw[:LAYER_EXAMPLES]
    found = qdq.compare(model, few)
    worst = max(found["codes"].values())
    again = to_onnx.run_bytes(to_bytes(qdq.build(model)), raw)
    off = difference(made, again)
    spec = integerise(model)
    agreement = float((made.argmax(1) == run_integer(spec, raw).argmax(1)).mean())
    return [
        Link(path.name, "the ticket's int8 graph, bit for bit", "passed" if off == 0 else "failed", off, 0, len(raw)),
        Link(
            f"{path.name}: largest code difference of a layer",
            "the integer network",
            _outcome(worst <= 1),
            worst,
            1,
            len(few),
        ),
        Link(
            f"{path.name}: equal answers",
            "the integer network",
            _outcome(agreement >= AGREEMENT),
            agreement,
            AGREEMENT,
            len(raw),
        ),
    ], made


def _outcome(good: bool) -> str:
    return "passed" if good else "failed"


def _absent(artifacts: Sequence[Path]) -> list[Link]:
    links = [
        Link(
            "masked torch network",
            "the compacted network",
            "not run",
            note="`find` compared them; a ticket holds no scores",
        )
    ]
    if not artifacts:
        links.append(Link("ONNX", "the compacted network", "not run", note="no ONNX file was given"))
    return links


def _accuracy(what: str, outputs: np.ndarray, of_ticket: np.ndarray, labels: np.ndarray) -> Accuracy:
    answers = outputs.argmax(1)
    correct = int((answers == labels).sum())
    agreement = float((answers == of_ticket.argmax(1)).mean())
    return Accuracy(what, correct, len(labels), lower_bound(correct, len(labels)), agreement)
