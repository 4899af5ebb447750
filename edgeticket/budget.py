"""What a network may cost, what it does cost on a device, and the record of how that was found out."""

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal

from edgeticket.errors import EdgeTicketError, UsageError

How = Literal["estimated", "simulated", "measured", "none"]


@dataclass(frozen=True)
class Cost:
    """None where a figure does not apply or was not found out; `how` = none: nothing was run.

    `target` is empty for what a network costs anywhere. `flash_bytes`: the linker's text + data. `latency_ms`: the median of
    one inference. `packet_bytes`: as counted by packet.py.
    """

    target: str
    how: How
    latency_ms: float | None = None
    instructions: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    file_bytes: int | None = None
    packet_bytes: int | None = None
    macs: int | None = None
    kept_macs: int | None = None


# budgets

CORES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
_BYTES = {"": 1.0, "K": 1024.0, "M": 1024.0**2}
_COUNT = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # in ms
# word -> field of Cost, units, targets
_RESOURCES: dict[str, tuple[str, dict[str, float], tuple[str, ...]]] = {
    "latency": ("latency_ms", _TIME, ("cpu",)),
    "instructions": ("instructions", _COUNT, CORES),
    "flash": ("flash_bytes", _BYTES, CORES),
    "ram": ("ram_bytes", _BYTES, ("", *CORES)),
    "packet": ("packet_bytes", _BYTES, ("",)),
    "file": ("file_bytes", _BYTES, ("",)),
    "macs": ("macs", _COUNT, ("",)),
    "kept_macs": ("kept_macs", _COUNT, ("",)),
}
_FOUND_OUT = ("simulated", "measured")


@dataclass(frozen=True)
class Term:
    """At most `limit` of `resource`, a field of Cost, on `target` (empty: anywhere)."""

    resource: str
    limit: float
    target: str = ""

    def words(self) -> str:
        """What `Budget.parse` makes this term of."""
        word = next(word for word, (name, *_) in _RESOURCES.items() if name == self.resource)
        at = f"@{self.target}" if self.target else ""
        return f"{word}={amount(self.resource, self.limit)}{at}"


@dataclass(frozen=True)
class Verdict:
    """A term beside what was found out. `ratio` = value / limit; both None where nothing was."""

    term: Term
    value: float | None
    ratio: float | None
    how: How

    @property
    def over(self) -> bool:
        return self.ratio is not None and self.ratio > 1

    @property
    def met(self) -> bool:
        """Shown to be met: an estimate shows nothing."""
        return self.ratio is not None and self.ratio <= 1 and self.how in _FOUND_OUT

    def to_json(self) -> dict[str, Any]:
        """With the term in words, and what follows from the numbers."""
        figures = {"value": self.value, "ratio": self.ratio, "how": self.how, "met": self.met}
        return {"term": self.term.words(), **figures, "text": self.text()}

    def text(self) -> str:
        if self.value is None:
            return f"{self.term.words()}: not found out"
        told = f"{self.term.words()}: {amount(self.term.resource, self.value, 4)}, {self.how}, {self.ratio:.3g} of it"
        return told if self.over or self.met else f"{told}: not shown to be met"


@dataclass(frozen=True)
class Budget:
    terms: tuple[Term, ...]

    @staticmethod
    def parse(text: str) -> "Budget":
        """Of "latency=2ms@cpu,packet=6K". K is 1024 of bytes and 1000 of counts. Raises UsageError."""
        terms = [_term(part.strip()) for part in text.split(",")]
        seen = set()
        for term in terms:
            if (term.resource, term.target) in seen:
                raise UsageError(f"--budget {text}: {term.words().partition('=')[0]} is given twice: leave one out")
            seen.add((term.resource, term.target))
        return Budget(tuple(terms))

    def words(self) -> str:
        """What `parse` makes this budget of."""
        return ",".join(term.words() for term in self.terms)

    @property
    def targets(self) -> tuple[str, ...]:
        """What costs are needed of."""
        return tuple(dict.fromkeys(term.target for term in self.terms))

    def has(self, resource: str) -> bool:
        return any(term.resource == resource for term in self.terms)

    def judge(self, costs: Sequence[Cost]) -> tuple[Verdict, ...]:
        """Every term beside its cost; of several costs, the last that was simulated or measured, else the last estimate."""
        verdicts = []
        for term in self.terms:
            own = [cost for cost in costs if cost.target == term.target and cost.how != "none"]
            found = [cost for cost in own if getattr(cost, term.resource) is not None]
            found.sort(key=lambda cost: cost.how in _FOUND_OUT)
            if found:
                value = float(getattr(found[-1], term.resource))
                verdicts.append(Verdict(term, value, value / term.limit, found[-1].how))
            else:
                verdicts.append(Verdict(term, None, None, "none"))
        return tuple(verdicts)

    def exceeded(self, costs: Sequence[Cost]) -> tuple[Verdict, ...]:
        """The terms that are exceeded, or not shown to be met: of no known cost, or of an estimated one."""
        return tuple(verdict for verdict in self.judge(costs) if not verdict.met)


def amount(resource: str, value: float, digits: int | None = None) -> str:
    """`value` in the largest unit that takes it whole, or in the largest below it, to so many `digits`."""
    units = next(units for name, units, _ in _RESOURCES.values() if name == resource)
    if units is _TIME:
        return f"{value:.{digits}g}ms" if digits else f"{value!r}ms".replace(".0ms", "ms")
    fits = [(size, unit) for unit, size in units.items() if (value >= size if digits else value % size == 0)]
    size, unit = max(fits, default=(1.0, ""))
    return f"{value / size:.{digits}g}{unit}" if digits else f"{value / size:.0f}{unit}"


def _term(part: str) -> Term:
    word, _, rest = part.partition("=")
    value, at, target = rest.partition("@")
    if word not in _RESOURCES:
        raise UsageError(f"--budget: {word!r} is no resource: take {', '.join(_RESOURCES)}")
    name, units, targets = _RESOURCES[word]
    limit = _limit(part, value, units)
    if target not in targets or (at and not target):
        possible = ", ".join(f"{word}={value}" + (f"@{one}" if one else "") for one in targets)
        wrong = f"{target!r} has no {word} that is known" if target else f"a target is missing behind {part!r}"
        raise UsageError(f"--budget: {wrong}: write {possible}")
    return Term(name, limit, target)


def _limit(part: str, text: str, units: Mapping[str, float]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?(?:e-?\d+)?)([A-Za-z]*)", text)
    unit = match[2] if match and units is _TIME else match[2].upper() if match else ""
    limit = float(match[1]) * units.get(unit, inf) if match else inf
    limit = limit if units is _TIME or not isfinite(limit) else float(int(limit))
    if not isfinite(limit) or limit <= 0:
        written = ", ".join(f"N{unit}" for unit in units)
        raise UsageError(f"--budget: {part!r} needs an amount above 0, written as {written}")
    return limit


# artifacts and reports


@dataclass(frozen=True)
class Artifact:
    """Something that can be put on a device: a file, or a folder of files in the order of their names."""

    path: Path
    format: str  # "onnx", "c": the suffix, or "c" for a folder

    @cached_property
    def contents(self) -> tuple[tuple[str, bytes], ...]:
        """(name, bytes) of every file, but of what was built in `build`. Raises EdgeTicketError when one cannot be read."""
        try:
            if not self.path.is_dir():
                return ((self.path.name, self.path.read_bytes()),)
            found = (path for path in self.path.rglob("*") if path.is_file())
            files = sorted(path for path in found if path.relative_to(self.path).parts[0] != "build")
            return tuple((path.relative_to(self.path).as_posix(), path.read_bytes()) for path in files)
        except OSError as error:
            raise EdgeTicketError(f"cannot read {self.path}: {error.strerror or error}") from error

    @property
    def sha256(self) -> str:
        """Of one file: what `sha256sum` prints. Of a folder: over the lines that `sha256sum` prints for its files."""
        digests = [(name, hashlib.sha256(content).hexdigest()) for name, content in self.contents]
        if not self.path.is_dir():
            return digests[0][1]
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests).encode()).hexdigest()

    @property
    def file_bytes(self) -> int:
        return sum(len(content) for _, content in self.contents)

    @property
    def gzip_bytes(self) -> int:
        """Each file compressed by itself at level 9, without a name or a time in the header."""
        return sum(_gzip_size(content) for _, content in self.contents)


@dataclass(frozen=True)
class Report:
    """One artifact on one target. `samples`: every raw value, in the order of measuring; `details`: what was made of them."""

    artifact: str
    sha256: str
    target: str
    cost: Cost
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _gzip_size(content: bytes) -> int:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return len(packer.compress(content)) + len(packer.flush())
