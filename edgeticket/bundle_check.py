"""A bundle as whoever gets it accepts it: offline, from its bytes alone.

The ticket in it is the source of all else, and is checked first: ONNX files must be what this version exports of it byte for byte, and
its packet and golden vectors what follows from it. Only such an ONNX file is run, or one that a given key has signed; C is compared
as text and not built. So an unsigned bundle of a stranger never gets a byte of his to ONNX Runtime.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket import bundle_c, bundle_packet, envelope
from edgeticket.bundle_file import Bundle, canonical, read, read_golden, require
from edgeticket.errors import BundleError, TicketError, UsageError
from edgeticket.files import check_free, write_folder
from edgeticket.guard import Guard
from edgeticket.lock import alone
from edgeticket.model import Model
from edgeticket.reference import TOLERANCE, difference, run
from edgeticket.ticket import Ticket, parse_ticket


@dataclass(frozen=True)
class Checked:
    """`checks`: what was checked, a line each, `open`: what could not be."""

    path: str
    bundle: Bundle
    checks: tuple[str, ...]
    open: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        told = {"path": self.path, "manifest": self.bundle.manifest, "signed_by": self.bundle.signed_by}
        return {**told, "signer": self.bundle.signer, "checks": self.checks, "open": self.open, "passed": True}

    def text(self) -> str:
        told = self.bundle.manifest
        until = f", until {told['expires']}" if told["expires"] else ""
        first = f"{self.path}: {told['class']} {told['sequence']}{until}, ticket {told['ticket'][:16]} {told['purity']}"
        return "\n".join(
            [first, *(f"  right    {line}" for line in self.checks), *(f"  OPEN     {line}" for line in self.open)]
        )


def check(
    source: bytes | Path,
    keys: Sequence[bytes] = (),
    *,
    target_class: str | None = None,
    after: int | None = None,
    jump: int = envelope.JUMP,
    today: date | None = None,
    against: bytes | None = None,
) -> Checked:
    """Raises BundleError, `code` saying which check refused it, or another EdgeTicketError. The rest as `bundle_file.read` and `require`.

    `against`: the packet, or its envelope, that a device has, which the bundle's difference must be of.
    """
    bundle = read(source, keys)
    require(bundle, target_class=target_class, after=after, jump=jump, today=today)
    ticket = _ticket(bundle)
    models = bundle_packet.aligned(ticket)
    checks = ["seal, and the digest of each of the files", "the ticket, by its own seal"]
    open_ = [] if bundle.signed_by else [_not_signed(bundle)]
    checks += [f"{path}: {_onnx(bundle, path, models)}" for path in bundle.paths("onnx", "onnx-int8")]
    checks.append(_golden(bundle, models[0]))
    packet = bundle_packet.check(bundle, keys, models)
    if packet is not None:
        checks.append(f"the packet for firmware {packet[envelope.FIRMWARE].hex()}, as the ticket gives it")
    if against is not None:
        checks.append(bundle_packet.check_difference(bundle, against, packet))
    elif bundle.paths("delta"):
        bundle_packet.check_head(bundle, packet)
        open_.append("whether the difference is of what a device has: give that packet with --against")
    checks += _documents(bundle)
    for told, paths in zip((checks, open_), _c(bundle, models), strict=True):
        told += paths
    checks += [f"signed by {bundle.signed_by}"] if bundle.signed_by else []
    return Checked(str(source) if isinstance(source, Path) else "bundle", bundle, tuple(checks), tuple(open_))


def require_new(folder: Path) -> None:
    """Raise UsageError where a folder cannot be made."""
    if os.path.lexists(folder):
        raise UsageError(f"{folder} exists already: name a new folder")
    check_free(folder, overwrite=False, folder=True)


def extract(bundle: Bundle, folder: Path) -> None:
    """Write the files of a bundle as a new folder, whole or not at all; what a killed run left of it is removed."""
    with alone(folder):
        require_new(folder)
        write_folder(folder, bundle.files)


def _not_signed(bundle: Bundle) -> str:
    if bundle.signer:
        return f"who made it: it says {bundle.signer}, give that public key with --key"
    return "who made it: nobody signed it, so anybody may have"


def _ticket(bundle: Bundle) -> Ticket:
    content, told = bundle.one("ticket"), bundle.manifest
    assert content is not None
    try:
        ticket = parse_ticket(content)
    except TicketError as error:
        raise BundleError("ticket", f"its ticket: {error}") from error
    if len(ticket.inputs) != 1:
        raise BundleError("ticket", f"its ticket reads {len(ticket.inputs)} inputs, one is what bundles are for")
    ((name, sensor),) = ticket.inputs.items()
    own: dict[str, Any] = {"ticket": ticket.digest, "task": ticket.task, "purity": ticket.purity}
    own["input"] = {"shape": list(ticket.plan.inputs[name]), "dtype": sensor.dtype}
    for field, value in own.items():
        if told[field] != value:
            raise BundleError("ticket", f"{field} is not its ticket's")
    return ticket


def _onnx(bundle: Bundle, path: str, models: Sequence[Model]) -> str:
    content = bundle.files[path]
    for model in models:
        if model.digest.encode() in content and any(content == made for made in _exports(bundle, path, model)):
            return "what this version exports of the ticket, byte for byte"
    if not bundle.signed_by:
        raise BundleError("model", f"{path} is not what this version exports of its ticket, and no given key signed it")
    return "not what this version exports of the ticket: believed for its signature"


def _exports(bundle: Bundle, path: str, model: Model) -> Iterator[bytes]:
    from exporters import qdq, to_onnx
    from exporters.graph import to_bytes
    from exporters.weights import STORAGES

    if path in bundle.paths("onnx-int8"):
        yield to_bytes(qdq.build(model))
    else:
        yield from (to_bytes(to_onnx.build(model, stored)) for stored in STORAGES)


def _golden(bundle: Bundle, model: Model) -> str:
    from exporters import qdq, to_onnx
    from exporters.graph import to_bytes

    content, told = bundle.one("golden"), bundle.manifest
    assert content is not None
    inputs, outputs = read_golden(content)
    if [list(inputs.shape[1:]), inputs.dtype.name] != [told["input"]["shape"], told["input"]["dtype"]]:
        raise BundleError("golden", "its golden vectors are of another input than its ticket's")
    made, of_int8 = to_onnx.run_bytes(bundle.files[told["model"]], inputs), told["model"] in bundle.paths("onnx-int8")
    right = to_onnx.run_bytes(to_bytes(qdq.build(model)), inputs) if of_int8 else run(model, inputs)
    allowed = _code(model) if of_int8 else TOLERANCE
    for what, values in ((told["model"], made), ("its ticket", right)):
        if not _close(outputs, values, allowed, absolute=of_int8):
            raise BundleError("golden", f"{what} does not answer its golden vectors as they say")
    return f"{len(inputs)} golden vectors, as {told['model']} and the ticket answer them here"


def _code(model: Model) -> float:
    """What a code of the output is worth, in the units of the task."""
    step = min(model.target.step) if model.target else 1.0
    return model.quant[model.plan.outputs[0]].scale / step


def _close(told: np.ndarray, made: np.ndarray, allowed: float, *, absolute: bool) -> bool:
    """int8 answers may be a code off, of another CPU's rounding; floats as the chain of proof allows."""
    if told.shape != made.shape:
        return False
    if not absolute:
        return bool(difference(told, made) <= allowed)
    return bool(np.abs(told - made).max() <= allowed * (1 + TOLERANCE))


def _documents(bundle: Bundle) -> Iterator[str]:
    if (claims := _json(bundle, "claims")) is not None:
        if claims.get("ticket") != bundle.manifest["ticket"]:
            raise BundleError("claims", "its claims are about another ticket")
        yield "claims, about this ticket; not derived anew: `edgeticket verify --claims` does that from a run's folder"
    if (guard := _json(bundle, "guard")) is not None:
        rules, sensor = Guard.from_json(guard).rules, bundle.manifest["input"]
        fits = len(rules.limits.low) in (1, 1 + len(bundle.manifest["labels"]))
        if (list(rules.shape), rules.dtype) != (sensor["shape"], sensor["dtype"]) or not fits:
            raise BundleError("guard", "its guard is for another sensor")
        yield "the guard"


def _c(bundle: Bundle, models: Sequence[Model]) -> tuple[list[str], list[str]]:
    """What of the C is right, and what is open; it is read as text alone."""
    own, guard = {path: bundle.files[path] for path in bundle.paths("c")}, _json(bundle, "guard")
    wrong = bundle_c.strange(own, models, Guard.from_json(guard) if guard else None)
    right = len(own) - len(wrong)
    return (
        [f"{right} files of C: what this version exports of the ticket, text for text"] * bool(right),
        [f"{path}: not what this version exports of the ticket, and not built here" for path in wrong],
    )


def _json(bundle: Bundle, role: str) -> dict[str, Any] | None:
    """A canonical JSON object, or None where the bundle has none of that role."""
    content = bundle.one(role)
    if content is None:
        return None
    try:
        found = json.loads(content)
        if isinstance(found, dict) and canonical(found) == content:
            return found
    except (ValueError, RecursionError):
        pass
    raise BundleError(role, f"its {role} are not canonical JSON")
