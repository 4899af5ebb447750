"""Bundles for tests: a tiny one of bytes that mean nothing, a real one of a tiny ticket, and what a forger makes of either."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeticket import bundle_file
from edgeticket.bundle import Shipped, ship
from edgeticket.data import Data, load
from edgeticket.errors import BundleError
from edgeticket.export import export
from edgeticket.manifest import FORMAT, Label, entries
from edgeticket.packing import pack_ticket
from edgeticket.ticket import Ticket

CASE = CASES["plain"]
CLASS, SEQUENCE, EXPIRES = "test-camera", 7, "2999-12-31"
LABEL = Label(CLASS, SEQUENCE, EXPIRES)


def private_key(number: int = 0) -> bytes:
    """A TEST KEY in PEM, the same every time: never trust it anywhere."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def public_pem(number: int = 0) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32).public_key()
    return key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


KEY, OTHER = private_key(0), private_key(1)
PUB, OTHER_PUB = public_pem(0), public_pem(1)

# a bundle of bytes that mean nothing: for whatever does not look into files

FILES = {"a.onnx": ("onnx", b"no network"), "a.ticket": ("ticket", b"no ticket"), "golden": ("golden", b"")}


def manifest(given: dict[str, tuple[str, bytes]] | None = None, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "format": FORMAT,
        "class": CLASS,
        "sequence": SEQUENCE,
        "expires": EXPIRES,
        "task": "classification",
        "labels": ["good", "bad"],
        "input": {"shape": [1, 8, 8], "dtype": "uint8"},
        "ticket": "0" * 64,
        "purity": "P2",
        "precursor": None,
        "model": "a.onnx",
        "files": entries(given or FILES),
    }
    return told | changes


def small(private: bytes | None = KEY, files: dict[str, tuple[str, bytes]] | None = None, **changes: Any) -> bytes:
    files = files or FILES
    contents = {path: content for path, (_, content) in files.items()}
    return bundle_file.encode(manifest(files, **changes), contents, private)


def unchecked(told: Any, contents: bytes = b"", **header: str) -> bytes:
    """What a forger writes: any manifest under a seal that fits, in the one form if there is one."""
    whole = {"manifest": told, "signature": "", "signer": "", **header}
    whole["seal"] = bundle_file._seal(whole)
    try:
        return bundle_file._head(whole) + contents
    except (TypeError, KeyError, BundleError):
        text = json.dumps({"__metadata__": {bundle_file.KEY: json.dumps(whole)}}).encode()
        return len(text).to_bytes(8, "little") + text + contents


# a real one


@dataclass(frozen=True)
class Place:
    """A folder with own.npz, a.ticket, a.onnx, a-int8.onnx, a-c and old.packet."""

    folder: Path
    data: Data

    def artifacts(self, *names: str) -> list[Path]:
        return [self.folder / name for name in names or ("a.onnx", "a-int8.onnx", "a-c")]

    def ship(self, name: str = "a.bundle", *artifacts: str, label: Label = LABEL, **options: Any) -> Shipped:
        options = {"private": KEY, "overwrite": True, **options}
        made = self.artifacts(*artifacts)
        return ship(self.folder / "a.ticket", made, self.data, self.folder / name, label, **options)


def source(data: Data, **changes: Any) -> Ticket:
    return replace(CASE.ticket(), provenance={"data_digest": data.digest}, **changes)


def place(folder: Path) -> Place:
    raw = CASE.raw(300)
    labels = np.arange(len(raw)) % 4
    np.savez(folder / "own.npz", x_train=raw, y_train=labels, x_test=raw[:40], y_test=labels[:40])
    data = load(folder / "own.npz")
    ticket = source(data)
    ticket.write(folder / "a.ticket")
    export(ticket, "onnx", folder / "a.onnx")
    export(ticket, "onnx", folder / "a-int8.onnx", precision="int8")
    export(ticket, "c", folder / "a-c")
    pack_ticket(older(ticket), folder / "old.packet")
    return Place(folder, data)


def older(ticket: Ticket) -> Ticket:
    """For the same firmware: other biases."""
    return replace(ticket, bias={name: -values for name, values in ticket.bias.items()})


def forge(
    content: bytes, private: bytes | None = KEY, changed: dict[str, bytes] | None = None, **changes: Any
) -> bytes:
    """The bundle with other files or fields, every digest and the seal made anew, and signed by `private`."""
    found = bundle_file.read(content)
    roles = {entry["path"]: entry["role"] for entry in found.manifest["files"]}
    files = {path: (roles.get(path, "c"), data) for path, data in (found.files | (changed or {})).items()}
    told = {**found.manifest, "files": entries(files), **changes}
    return bundle_file.encode(told, {path: data for path, (_, data) in files.items()}, private)


def code(content: bytes, *keys: bytes) -> str:
    """Why a bundle is refused; empty where it is read."""
    try:
        bundle_file.read(content, keys)
    except BundleError as error:
        return error.code
    return ""
