"""The record of a proof of concept: canonical JSON under a seal. What a report is made of, and what `verify --claims` checks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeticket.errors import EdgeTicketError, EquivalenceError, UsageError
from edgeticket.files import write_atomic

FORMAT, NAME, PROTOCOL = "edgeticket-poc 1", "poc.json", 1
MAX_BYTES = 64 << 20


def canonical(record: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces, no NaN: the same record gives the same bytes."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def seal(record: Mapping[str, Any]) -> str:
    """SHA-256 over everything but the seal."""
    return hashlib.sha256(canonical({key: value for key, value in record.items() if key != "seal"})).hexdigest()


def write(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Seal and write; the sealed record."""
    sealed = {**record, "seal": seal(record)}
    write_atomic(path, canonical(sealed) + b"\n")
    return sealed


def read(path: str | Path, format: str = FORMAT) -> dict[str, Any]:
    """Of a file, or of the folder of a run. Raises UsageError for what is none, EquivalenceError for a broken seal."""
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    if not path.is_file():
        raise UsageError(f"{path}: there is no such record: `edgeticket poc` writes {NAME} into its run's folder")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than any record ({MAX_BYTES >> 20} MiB)")
        found = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_once)
    except OSError as error:
        raise EdgeTicketError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise EdgeTicketError(f"{path}: damaged, not JSON: {error}: make it again with `edgeticket poc`") from error
    if not isinstance(found, dict) or found.get("format") != format:
        told = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise UsageError(f"{path}: not a record of the format {format!r} but {told!r}")
    if seal(found) != found.get("seal"):
        raise EquivalenceError(
            f"{path}: the seal does not fit: something in the record was altered after it was made: "
            "make it again with the command that it names"
        )
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not a number here")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
