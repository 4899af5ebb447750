"""The chain of proof: every step computes what the step before it computes, on data that chose nothing.

    masked wide network = compacted (float64) = ONNX float (1e-5) · integer network (numpy) = ONNX int8 (a code per layer)
                                                                    integer network = C, built and run here (bit for bit)

A link that cannot be run here is reported as "not run", never as passed. The examples are the certify part of the data, and
the task's figures (edgeticket/tasks.py) come with 95 % intervals, which assume that they are independent.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import tasks
from edgeticket.calibration import check_data
from edgeticket.compact import compact, prove
from edgeticket.data import Data
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.integer import IntegerModel, dequantise, integerise
from edgeticket.integer import run as run_integer
from edgeticket.model import Model
from edgeticket.reference import TOLERANCE, difference, run
from edgeticket.targets import _confined
from edgeticket.tasks import Scored, Task
from edgeticket.theory import interval
from edgeticket.ticket import Ticket, read_ticket

SPECIFICATION = "the integer network"
WIDE_EXAMPLES, LAYER_EXAMPLES = 64, 256
EQUAL_ANSWERS, AGREEMENT = 0.995, "of the answers"


@dataclass(frozen=True)
class Link:
    """One comparison; outcome passed, failed or not run. `measured` is in `unit`, and `allowed` its largest value.

    Of the unit AGREEMENT `allowed` is the smallest value, and the link fails where a one-sided 95 % bound excludes it.
    """

    what: str
    against: str
    outcome: str
    measured: float | None = None
    allowed: float | None = None
    examples: int = 0
    note: str = ""
    unit: str = "of the largest output"

    @property
    def figure(self) -> str:
        if self.measured is None:
            return ""
        sense = "at least" if self.unit == AGREEMENT else "at most"
        return f": {self.measured:.4g} {self.unit}, {sense} {self.allowed:.4g}, n = {self.examples:,}"


@dataclass(frozen=True)
class Row:
    """One network on the certify part. `agreement`: share of answers that are the ticket's; None where there are none."""

    what: str
    figures: dict[str, Any]
    agreement: float | None


@dataclass(frozen=True)
class Verification:
    ticket: str
    digest: str
    purity: str
    data: str
    same_data: bool  # as the search had, by its digest
    links: tuple[Link, ...]
    task: Task
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """No link failed, and one passed: what was not run proves nothing."""
        return {link.outcome for link in self.links} - {"not run"} == {"passed"}

    def to_json(self) -> dict[str, Any]:
        told = {name: value for name, value in vars(self).items() if name not in ("task", "links", "rows")}
        rows = {
            "links": [asdict(link) for link in self.links],
            self.task.word.lower(): [asdict(row) for row in self.rows],
        }
        return {**told, **rows, "passed": self.passed}

    def text(self) -> str:
        """A line a link, then a line a network."""
        data = "the data of the search" if self.same_data else "NOT the data of the search"
        lines = [f"{self.ticket} {self.digest[:16]} {self.purity}, certify part of {self.data} ({data})"]
        for link in self.links:
            note = f" ({link.note})" if link.note else ""
            lines.append(f"  {link.outcome:8} {link.what} = {link.against}{link.figure}{note}")
        for row in self.rows:
            agree = "" if row.agreement is None else f"  {100 * row.agreement:.2f} % as the ticket"
            lines.append(f"  {row.what:28} {self.task.text(row.figures)}{agree}")
        return "\n".join(lines)

    def require(self) -> None:
        """Raise EquivalenceError, naming the first broken link."""
        for link in self.links:
            if link.outcome == "failed":
                raise EquivalenceError(
                    f"{link.what} is not {link.against}{link.figure}{': ' + link.note if link.note else ''}"
                )


def verify(ticket: str | Path, artifacts: Sequence[str | Path], data: Data) -> Verification:
    """Run every link that the artifacts allow. Raises TicketError, DataError or UsageError for what cannot be read."""
    ticket, paths = Path(ticket), [Path(path) for path in artifacts]
    source = read_ticket(ticket)
    model = compact(source)
    check_data(model, data)
    judge = _Judge(model, data)
    raw, outputs = judge.raw, judge.outputs
    links = [_wide_link(source, raw), _torch_link(source, raw, outputs)]
    rows = [judge.row(ticket.name, outputs)]
    for path in paths:
        own, made = _c_links(path, judge) if path.is_dir() else _onnx_links(path, judge)
        links += own
        if made is not None:
            rows.append(judge.row(path.name, made))
    try:
        integer = integerise(model)
    except UnsupportedError as error:
        links.append(Link("integer network", "the specification", "not run", note=str(error)))
    else:
        rows.append(judge.row("integer network", judge.of_codes(integer)))
    if not artifacts:
        links.append(Link("ONNX", "the compacted network", "not run", note="no ONNX file was given"))
    return Verification(
        ticket.name,
        source.digest,
        source.purity,
        data.name,
        source.provenance.get("data_digest") == data.digest,
        tuple(links),
        judge.task,
        tuple(rows),
    )


class _Judge:
    """What the compacted network gives for the certify part, and what any other's outputs for it are worth."""

    def __init__(self, model: Model, data: Data) -> None:
        self.model, self.data, self.task = model, data, tasks.of(data)
        self.raw = data.certify[0]
        self.outputs = run(model, self.raw)
        self.select = self.scored(run(model, data.select[0]), *data.select) if self.task.thresholds else None

    def scored(self, outputs: np.ndarray, *part: np.ndarray) -> Scored:
        raw, y = part or self.data.certify
        (sensor,) = self.model.inputs.values()  # what the network was made for, whatever these data suggest
        return Scored(self.task.score(outputs, sensor.apply(raw), y), y)

    def agreement(self, a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
        """bool per example: equal answers of two networks; None where the task has none."""
        one, other = (self.task.answers(self.scored(outputs), self.select) for outputs in (a, b))
        return None if one is None or other is None else one == other

    def of_codes(self, integer: IntegerModel) -> np.ndarray:
        """The outputs of the integer network, in the units of the task."""
        codes = run_integer(integer, self.raw)
        return self.model.in_units(dequantise(integer, self.model.plan.outputs[0], codes))

    def row(self, what: str, outputs: np.ndarray) -> Row:
        equal = self.agreement(outputs, self.outputs)
        figures = self.task.figures(self.scored(outputs), self.select)
        return Row(what, figures, None if equal is None else float(equal.mean()))


def _wide_link(ticket: Ticket, raw: np.ndarray) -> Link:
    what, against, raw = "compacted network", "the masked wide network", raw[:WIDE_EXAMPLES]
    try:
        return Link(what, against, "passed", prove(ticket, raw), 1e-9, len(raw))
    except EquivalenceError as error:
        return Link(what, against, "failed", None, 1e-9, len(raw), str(error))


def _torch_link(ticket: Ticket, raw: np.ndarray, outputs: np.ndarray) -> Link:
    what, against = "masked torch network", "the compacted network"
    try:
        from edgeticket import masked
    except ModuleNotFoundError:
        return Link(what, against, "not run", note="torch is not installed; `find` compared them")
    return _difference(
        what, against, masked.outputs(masked.of_ticket(ticket), raw, ticket.inputs)[0], outputs, TOLERANCE
    )


def _c_links(folder: Path, judge: _Judge) -> tuple[list[Link], np.ndarray | None]:
    """The link of an exported folder of C, built and run here, and its outputs in the units of the task.

    Raises UsageError for any other folder.
    """
    from exporters import c_run

    c_run.network_name(folder)
    integer = integerise(judge.model)
    try:
        made, right = c_run.run(integer, folder, judge.raw)[0], c_run.expected(integer, judge.raw)[0]
    except UnsupportedError as error:
        return [Link(folder.name, SPECIFICATION, "not run", note=str(error))], None
    except EdgeTicketError as error:
        return [Link(folder.name, SPECIFICATION, "failed", note=" ".join(str(error).split())[:400])], None
    if made.shape != right.shape:
        return [Link(folder.name, SPECIFICATION, "failed", note="outputs of another shape: of another ticket?")], None
    worst = int(np.abs(made.astype(int) - right.astype(int)).max())
    link = Link(folder.name, SPECIFICATION, _outcome(worst == 0), worst, 0, len(made), unit="codes")
    output = judge.model.plan.outputs[0]
    return [link], judge.model.in_units(dequantise(integer, output, made))


def _onnx_links(path: Path, judge: _Judge) -> tuple[list[Link], np.ndarray | None]:
    """Links of one ONNX file, and its outputs for the certify part (None where it does not run). It is foreign until they pass."""
    outputs = judge.outputs
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: not an ONNX file: give files or folders that `edgeticket export` wrote")
    try:
        ((made, operations),) = _confined.outputs([path], judge.raw, outputs[0].size)
        if made.shape != outputs.shape or made.dtype != np.float32:
            told = f"outputs are {made.dtype} {made.shape[1:]}, the ticket's are float32 {outputs.shape[1:]}"
            raise EquivalenceError(told)
        if "QuantizeLinear" in operations:
            return _int8_links(path.name, judge, made), made
    except EdgeTicketError as error:
        told = " ".join(str(error).split())[:400]
        return [Link(path.name, "the compacted network", "failed", note=told)], None
    return [_difference(path.name, "the compacted network", made, outputs, TOLERANCE)], made


def _int8_links(name: str, judge: _Judge, made: np.ndarray) -> list[Link]:
    """The file is the ticket's own int8 graph, and that graph is the integer network."""
    from exporters import qdq, to_onnx
    from exporters.graph import to_bytes

    model, raw = judge.model, judge.raw
    few = raw[:LAYER_EXAMPLES]
    worst = max(qdq.compare(model, few).values())
    again = to_onnx.run_bytes(to_bytes(qdq.build(model)), raw)
    links = [
        _difference(name, "the ticket's int8 graph, bit for bit", made, again, 0),
        Link(f"{name}, layer by layer", SPECIFICATION, _outcome(worst <= 1), worst, 1, len(few), unit="codes"),
    ]
    integer = integerise(model)
    equal = judge.agreement(made, judge.of_codes(integer))
    if equal is not None:
        bound = interval(int(equal.sum()), len(equal), 0.9)[1]
        note, agree = f"up to {bound:.4g} with 95 % confidence", _outcome(bound >= EQUAL_ANSWERS)
        measured = float(equal.mean())
        links.append(Link(f"{name}, answers", SPECIFICATION, agree, measured, EQUAL_ANSWERS, len(raw), note, AGREEMENT))
    return links


def _difference(what: str, against: str, a: np.ndarray, b: np.ndarray, allowed: float) -> Link:
    """Of the largest magnitude of `b`. A difference that is not a number is a failure, and is said in words."""
    off = difference(a, b)
    if not np.isfinite(off):
        return Link(what, against, "failed", None, allowed, len(a), "an output is not a finite number")
    return Link(what, against, _outcome(off <= allowed), off, allowed, len(a))


def _outcome(good: bool) -> str:
    return "passed" if good else "failed"
