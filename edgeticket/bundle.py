"""Ship: one bundle of a ticket and all that was made of it, proven first, and accepted as whoever gets it will accept it.

Every input is read once. What is verified, packed and signed are these bytes, whatever becomes of the files meanwhile; and the same
inputs and key give the same bundle on one machine, bit for bit: there is no time and no path in it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from edgeticket import __version__, bundle_c, bundle_file, bundle_packet
from edgeticket.bundle_check import Checked, check
from edgeticket.bundle_packet import Files
from edgeticket.data import Data
from edgeticket.errors import (
    BundleError,
    EdgeTicketError,
    EquivalenceError,
    InsufficientDataError,
    TicketError,
    UnsupportedError,
    UsageError,
)
from edgeticket.files import check_free, write_atomic
from edgeticket.guard import Guard
from edgeticket.manifest import FORMAT, MAX_FILE, SUFFIX, Label, entries, is_path
from edgeticket.signing import public_of
from edgeticket.ticket import Ticket, parse_ticket
from edgeticket.verify import Verification, verify

GOLDEN = 8  # examples


@dataclass(frozen=True)
class Shipped:
    path: Path
    content: bytes
    checked: Checked
    verification: Verification
    notes: tuple[str, ...]  # what is not in it, and why

    def to_json(self) -> dict[str, Any]:
        told = {"bytes": len(self.content), "sha256": hashlib.sha256(self.content).hexdigest()}
        return {**self.checked.to_json(), "path": str(self.path), "notes": self.notes, **told}

    def text(self) -> str:
        """What was proven, what is in it, and whether it is signed."""
        bundle = self.checked.bundle
        by = (
            f"signed by {bundle.signed_by}"
            if bundle.signed_by
            else "NOT SIGNED: no device takes its update, and anybody could make it"
        )
        files = [f"  {entry['role']:9} {entry['bytes']:>9,}  {entry['path']}" for entry in bundle.manifest["files"]]
        last = f"{self.path}: {len(self.content):,} bytes, {by}"
        return "\n".join([self.verification.text(), *files, *self.notes, last])


def ship(
    ticket: str | Path,
    artifacts: Sequence[str | Path],
    data: Data,
    path: str | Path,
    label: Label,
    *,
    private: bytes | None = None,
    record: Mapping[str, Any] | None = None,
    against: str | Path | None = None,
    overwrite: bool = False,
) -> Shipped:
    """Verify `artifacts`, ONNX files and at most one folder of C, against the ticket on `data`, and write the bundle to `path`.

    The first ONNX file is the one that gateways run. `private`: a key in PEM; `record`: of a proof of concept that delivered this
    ticket; `against`: a packet that devices have, for a difference. Raises EquivalenceError for a broken chain, UsageError
    for what contradicts itself, BundleError where the bundle would not be accepted again; then nothing is written.
    """
    path = Path(path)
    check_free(path, overwrite)
    if label.expires and date.fromisoformat(label.expires) < (today := date.today()):
        raise UsageError(f"expires {label.expires}, and today is {today}: nothing would take it: give a later day")
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: what is checked as a bundle is named so: name it {path.name}{SUFFIX}")
    keys = [public_of(private)] if private else []
    given = _snapshot(Path(ticket), artifacts)
    source = _ticket(given, Path(ticket))
    claimed = None if record is None else _of_record(record, source)
    old = None if against is None else bundle_packet.bare(_read(Path(against)))
    verification = _verified(given, data)
    files, notes = _made(source, _with_roles(given), data, label, private, old)
    _require_own_c(source, files)
    files["claims.json"] = ("claims", _claims(verification, data, claimed))
    manifest = _manifest(source, data, label, files, old)
    content = bundle_file.encode(manifest, {name: file for name, (_, file) in files.items()}, private)
    checked = check(content, keys, target_class=label.target_class, against=old)
    write_atomic(path, content)
    return Shipped(path, content, checked, verification, notes)


# what goes in


def _snapshot(ticket: Path, artifacts: Sequence[str | Path]) -> Files:
    """Of every file its role and bytes, read once, by its path in the bundle: the ticket, then the artifacts in their order."""
    files: Files = {ticket.name: ("ticket", _read(ticket))}
    paths = [Path(os.path.abspath(artifact)) for artifact in artifacts]
    folders = [path for path in paths if path.is_dir()]
    if len(folders) > 1 or len(folders) == len(paths):
        raise UsageError("a bundle holds an ONNX file or more, and one folder of C at most: give these")
    for path in paths:
        if path in folders:
            new: Files = {f"{path.name}/{file.name}": ("c", _read(file)) for file in _of_export(path)}
        elif path.suffix == ".onnx" or not path.exists():
            new = {path.name: ("onnx", _read(path))}
        else:
            raise UsageError(f"{path}: not an ONNX file: give files or folders that `edgeticket export` wrote")
        if new.keys() & files.keys() or not all(map(is_path, new)):
            raise UsageError(f"{path}: a name twice, or not of plain letters, digits, '.', '_' and '-': rename it")
        files |= new
    return files


def _of_export(folder: Path) -> list[Path]:
    """The files of a folder of C, without what its Makefile built. Raises UsageError for a file that no export writes."""
    from exporters import c_run, to_c

    files = [file for file in sorted(folder.iterdir()) if file.name != c_run.BUILT]
    known = to_c.names(c_run.network_name(folder))
    if other := [file for file in files if file.name not in known]:
        raise UsageError(f"{other[0]}: no export writes that, and all in here would be shipped: move it away")
    return files


def _read(path: Path) -> bytes:
    """Raises UsageError for what is no plain file or a private key, EdgeTicketError for one that cannot be read."""
    if not path.is_file():
        raise UsageError(f"{path}: not a file: give what `edgeticket find` and `export` wrote")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise EdgeTicketError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error
    if len(content) > MAX_FILE:
        raise BundleError("size", f"{path}: more than {MAX_FILE} bytes")
    if b"PRIVATE KEY-----" in content:
        raise UsageError(f"{path}: there is a private key in it, and a bundle is for others: leave it out")
    return content


def _ticket(given: Files, path: Path) -> Ticket:
    try:
        return parse_ticket(given[path.name][1])
    except TicketError as error:
        raise TicketError(f"{path}: {error}: fetch or make the ticket again") from error


def _verified(given: Files, data: Data) -> Verification:
    """The chain of proof over the very bytes that are shipped. Raises EquivalenceError where it is broken."""
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as place:
        for name, (_, content) in given.items():
            target = Path(place) / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
        ticket, *artifacts = dict.fromkeys(name.partition("/")[0] for name in given)
        verification = verify(Path(place) / ticket, [Path(place) / artifact for artifact in artifacts], data)
    verification.require()
    return verification


def _with_roles(given: Files) -> Files:
    """ONNX files that compute in int8 are known by their operations."""
    from exporters.to_onnx import is_int8

    return {
        path: ("onnx-int8" if role == "onnx" and is_int8(content) else role, content)
        for path, (role, content) in given.items()
    }


def _made(
    ticket: Ticket, given: Files, data: Data, label: Label, private: bytes | None, old: bytes | None
) -> tuple[Files, tuple[str, ...]]:
    """`given`, and what follows from it: packet, difference, golden vectors, guard; and what does not, with the reason."""
    packets = bundle_packet.make(ticket, given, label.target_class, label.sequence, private, old)
    notes = () if packets else ("no packet: there is no C, or its form takes no updates",)
    guard, more = _guard(given[_model(given)][1], data)
    golden: Files = {"golden.safetensors": ("golden", _golden(given[_model(given)][1], data))}
    return {**given, **packets, **golden, **guard}, (*notes, *more)


def _require_own_c(ticket: Ticket, files: Files) -> None:
    """Raise EquivalenceError for C that is not, text for text, what this version exports of the ticket and of the guard."""
    own = {path: content for path, (role, content) in files.items() if role == "c"}
    guard = Guard.from_json(json.loads(files["guard.json"][1])) if "guard.json" in files else None
    wrong = bundle_c.strange(own, bundle_packet.aligned(ticket), guard) if own else []
    if wrong and set(wrong) <= {*bundle_c.guards(own)}:
        raise EquivalenceError(
            f"{wrong[0]} is not the guard of this bundle: export the C with --guard and the data of ship, or with the guard.json that "
            "`edgeticket verify --extract` writes of a bundle without the C"
        )
    if wrong:
        raise EquivalenceError(f"{wrong[0]} is not what this version exports of the ticket: export the C again")


def _model(files: Files) -> str:
    """The file that gateways run: the first ONNX file that was given."""
    return next(path for path, (role, _) in files.items() if role.startswith("onnx"))


def _golden(content: bytes, data: Data) -> bytes:
    from exporters import to_onnx

    raw = data.certify[0][:GOLDEN]
    return bundle_file.golden(raw, to_onnx.run_bytes(content, raw))


def _guard(content: bytes, data: Data) -> tuple[Files, tuple[str, ...]]:
    """The file of a guard that goes by the answers of this ONNX file, or why there is none."""
    from exporters import to_onnx

    answers = to_onnx.answers(content) if data.task == "classification" else None
    try:
        return {"guard.json": ("guard", bundle_file.canonical(Guard.fit(data, answers).to_json()))}, ()
    except (InsufficientDataError, UnsupportedError) as error:
        return {}, (f"no guard: {error}",)


def _claims(verification: Verification, data: Data, record: Mapping[str, Any] | None) -> bytes:
    """What was measured on what: the certify part by size and digest, the chain of proof, and what the record says."""
    about = {"name": data.name, "digest": data.digest, "certify": len(data.certify[1]), "note": data.note}
    return bundle_file.canonical(
        {
            "edgeticket": __version__,
            "ticket": verification.digest,
            "data": about,
            "chain": verification.to_json(),
            "poc": record,
        }
    )


def _of_record(record: Mapping[str, Any], ticket: Ticket) -> dict[str, Any]:
    if record["chosen"]["digest"] != ticket.digest:
        raise UsageError(
            f"the report is about ticket {record['chosen']['digest'][:16]}, not {ticket.digest[:16]}: give the one that it delivered"
        )
    return {key: record[key] for key in ("seal", "protocol", "bar", "indicators", "verdict")}


def _manifest(ticket: Ticket, data: Data, label: Label, files: Files, old: bytes | None) -> bundle_file.Manifest:
    ((name, sensor),) = ticket.inputs.items()
    return {
        "format": FORMAT,
        "class": label.target_class,
        "sequence": label.sequence,
        "expires": label.expires,
        "task": ticket.task,
        "labels": list(data.classes),
        "input": {"shape": list(ticket.plan.inputs[name]), "dtype": sensor.dtype},
        "ticket": ticket.digest,
        "purity": ticket.purity,
        "precursor": None if old is None else hashlib.sha256(old).hexdigest(),
        "model": _model(files),
        "files": entries(files),
    }
