"""What a network costs on a device, and the record of how that was found out."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from edgeticket.errors import EdgeTicketError

How = Literal["estimated", "simulated", "measured", "none"]


@dataclass(frozen=True)
class Cost:
    """None where a figure does not apply or was not found out; `how` = none: nothing was run.

    `flash_bytes`: the linker's text + data. `latency_ms`: the median of one inference.
    """

    target: str
    how: How
    latency_ms: float | None = None
    instructions: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    file_bytes: int | None = None


@dataclass(frozen=True)
class Artifact:
    """Something that can be put on a device: a file, or a folder of files in the order of their names."""

    path: Path
    format: str  # "onnx", "c": the suffix, or "c" for a folder

    @cached_property
    def contents(self) -> tuple[tuple[str, bytes], ...]:
        """(name, bytes) of every file. Raises EdgeTicketError when one cannot be read."""
        try:
            if not self.path.is_dir():
                return ((self.path.name, self.path.read_bytes()),)
            files = sorted(path for path in self.path.rglob("*") if path.is_file())
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
