"""The bytes of a bundle: one file with all that a device or a gateway needs of a ticket, sealed, and signed where a key is given.

It is a safetensors file of uint8 tensors, one a file, in the order of their paths. Its only metadata key holds one canonical
JSON object (sorted keys, no spaces, ASCII):

    manifest    what is in it, for whom, and the SHA-256 of every file (docs/shipping.md)
    signature   Ed25519 over CONTEXT and the canonical bytes of the manifest, in hex; empty where nobody signed
    signer      fingerprint of the key
    seal        SHA-256 of this object with an empty seal

A file is read only if these very bytes would be written for it again. What is in a bundle is data: nothing is executed, unpacked
or looked up elsewhere, and no file is touched before the signature and its digest are right.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeticket.envelope import JUMP, require_newer
from edgeticket.errors import BundleError
from edgeticket.manifest import FORMAT, MAX_FILE, Manifest
from edgeticket.manifest import check as check_manifest
from edgeticket.signing import NO_SIGNATURE, fingerprint, public_key, public_of, require_signed, sign

KEY, CONTEXT = "edgeticket-bundle", FORMAT.encode() + b"\n"
MAX_HEADER = 1 << 18
_HEX = {
    key: re.compile(form)
    for key, form in (("seal", r"[0-9a-f]{64}"), ("signature", r"([0-9a-f]{128})?"), ("signer", r"([0-9a-f]{16})?"))
}


@dataclass(frozen=True)
class Bundle:
    """`signed_by`: fingerprint of the given key whose signature is right; empty where none was given, or nobody signed.

    `signer`: who the bundle says has signed it; empty where nobody did.
    """

    manifest: Manifest
    files: dict[str, bytes]
    signed_by: str
    signer: str = ""

    def paths(self, *roles: str) -> list[str]:
        return [entry["path"] for entry in self.manifest["files"] if entry["role"] in roles]

    def one(self, role: str) -> bytes | None:
        """The content of the only file of a role, or None."""
        return next((self.files[path] for path in self.paths(role)), None)


def canonical(value: Any) -> bytes:
    """The same value gives the same bytes. Raises ValueError for what is no JSON, NaN too."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def encode(manifest: Manifest, files: Mapping[str, bytes], private: bytes | None = None) -> bytes:
    """The bundle; `private`, a key in PEM, signs it. The same input gives the same bytes. Raises BundleError for what `read` would not take."""
    check_manifest(manifest)
    signature = sign(private, CONTEXT, canonical(manifest)) if private else NO_SIGNATURE
    signer = fingerprint(public_of(private)) if private else ""
    header = {"manifest": manifest, "signature": signature.hex() if private else "", "signer": signer}
    content = _head({**header, "seal": _seal(header)}) + b"".join(files[path] for path in sorted(files))
    read(content)
    return content


def read(content: bytes | Path, keys: Sequence[bytes] = ()) -> Bundle:
    """A bundle, from its bytes or its file, which is read once. `keys`: public keys, 32 bytes or PEM; one of them must have signed it.

    Without `keys` only the seal and the digests are checked: they tell what was damaged, not who made it. Raises BundleError.
    """
    if isinstance(content, bytes):
        return _parse(content, keys)
    with named(content):
        return _parse(whole(content), keys)


def whole(path: Path) -> bytes:
    """What is in a file, up to a byte more than a bundle may have. Raises BundleError, code `unreadable`."""
    if not path.is_file():
        raise BundleError("unreadable", "there is no such file")
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise BundleError("unreadable", error.strerror or str(error)) from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What refuses a bundle in the block names its file."""
    try:
        yield
    except BundleError as error:
        raise BundleError(error.code, f"{path}: {error.what}") from error


def require(
    bundle: Bundle,
    *,
    target_class: str | None = None,
    after: int | None = None,
    jump: int = JUMP,
    today: date | None = None,
) -> None:
    """Raise BundleError, code `class`, `sequence`, `jump` or `expired`, unless the bundle is meant for here and now.

    `after`: the sequence of what is in use; `today`: a bundle may be used on the day that it expires, and not later.
    """
    told = bundle.manifest
    if target_class is not None and told["class"] != target_class:
        raise BundleError("class", f"the bundle is for {told['class']}, not {target_class}")
    if after is not None:
        require_newer(told["sequence"], after, jump)
    if today is not None and told["expires"] is not None and today > date.fromisoformat(told["expires"]):
        raise BundleError("expired", f"the bundle expired on {told['expires']}, and today is {today}")


# golden vectors


def golden(inputs: np.ndarray, outputs: np.ndarray) -> bytes:
    """A file of `inputs`, raw sensor values [n, *shape], and the float32 `outputs` [n, ...] of the bundle's model for them."""
    return save({"inputs": inputs, "outputs": outputs.astype(np.float32)})


def read_golden(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and outputs. Raises BundleError, code `golden`."""
    try:
        tensors = load(content)
        inputs, outputs = tensors["inputs"], tensors["outputs"]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BundleError("golden", "the golden vectors are not to be read") from error
    kinds = inputs.dtype.name in ("uint8", "int16", "float32") and outputs.dtype == np.float32
    sizes = inputs.ndim > 1 and outputs.ndim > 1 and len(inputs) == len(outputs) > 0
    if len(tensors) != 2 or not kinds or not sizes or save(tensors) != content or not np.isfinite(outputs).all():
        raise BundleError("golden", "the golden vectors are not inputs and outputs of a network")
    return inputs, outputs


# container


def _parse(content: bytes, keys: Sequence[bytes]) -> Bundle:
    header, start = _header(content)
    manifest = header["manifest"]
    check_manifest(manifest)
    total = start + sum(entry["bytes"] for entry in manifest["files"])
    if len(content) != total:
        raise BundleError("cut", f"{len(content)} bytes, and its manifest tells of {total}")
    if content[:start] != _head(header):
        raise BundleError("damaged", "not in the one form that a bundle has")
    if header["seal"] != _seal(header):
        raise BundleError("damaged", "its seal does not fit")
    signed_by = _signed_by(header, keys)
    files, at = {}, start
    for entry in manifest["files"]:
        files[entry["path"]] = content[at : at + entry["bytes"]]
        at += entry["bytes"]
        if hashlib.sha256(files[entry["path"]]).hexdigest() != entry["sha256"]:
            raise BundleError("digest", f"{entry['path']} is not the file that the manifest names")
    return Bundle(manifest, files, signed_by, header["signer"])


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """The JSON object, and where the files begin."""
    if len(content) > MAX_FILE:
        raise BundleError("size", f"more than {MAX_FILE} bytes")
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER, len(content) - 8):
        raise BundleError("cut", "cut short, or not a bundle")
    try:
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY])
        whole = set(header) == {"manifest", *_HEX} and all(_HEX[key].fullmatch(header[key]) for key in _HEX)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError("damaged", "damaged, or not a bundle") from error
    if not whole or (not header["signature"]) != (not header["signer"]):
        raise BundleError("damaged", "damaged, or not a bundle")
    return header, 8 + length


def _head(header: Mapping[str, Any]) -> bytes:
    """Length and JSON of a safetensors file of these files, as `safetensors` writes it."""
    try:
        outer: dict[str, Any] = {"__metadata__": {KEY: canonical(header).decode()}}
    except (ValueError, RecursionError) as error:
        raise BundleError("damaged", "damaged, or not a bundle") from error
    at = 0
    for entry in header["manifest"]["files"]:
        outer[entry["path"]] = {
            "dtype": "U8",
            "shape": [entry["bytes"]],
            "data_offsets": [at, at + entry["bytes"]],
        }
        at += entry["bytes"]
    text = json.dumps(outer, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise BundleError("size", f"a header of {len(text)} bytes, {MAX_HEADER} are allowed")
    return len(text).to_bytes(8, "little") + text


def _seal(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({**header, "seal": ""})).hexdigest()


def _signed_by(header: Mapping[str, Any], keys: Sequence[bytes]) -> str:
    publics = [public_key(key) for key in keys]
    if not keys:
        return ""
    if not header["signature"]:
        raise BundleError("unsigned", "nobody signed the bundle")
    known = [key for key in publics if fingerprint(key) == header["signer"]]
    if not known:
        raise BundleError("key", f"the bundle says that {header['signer']} signed it, which is none of the given keys")
    signature = bytes.fromhex(header["signature"])
    return require_signed(known, signature, CONTEXT, canonical(header["manifest"]))
