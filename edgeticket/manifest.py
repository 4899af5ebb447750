"""What a bundle says of itself: for which class of devices, in which order, until when, and what each file in it is."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from edgeticket.envelope import LAST_SEQUENCE
from edgeticket.errors import BundleError, UsageError

FORMAT, SUFFIX = "edgeticket-bundle 1", ".bundle"
MAX_FILE, MAX_FILES = 1 << 26, 256
ROLES = ("ticket", "onnx", "onnx-int8", "c", "packet", "delta", "golden", "guard", "claims")
MANY = ("onnx", "onnx-int8", "c")  # roles that several files may have; of any other there is one at most
NEEDED = ("ticket", "golden")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)  # a class, and each part of a path
_HEX = re.compile(r"[0-9a-f]{64}")

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Label:
    """For whom a bundle is. Raises UsageError for a class that is no word, a sequence out of range, or a day that is none."""

    target_class: str
    sequence: int
    expires: str | None = None

    def __post_init__(self) -> None:
        if not WORD.fullmatch(self.target_class):
            raise UsageError(
                f"class {self.target_class!r}: up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
            )
        if not 0 < self.sequence <= LAST_SEQUENCE:
            raise UsageError(f"sequence {self.sequence}: take 1 to {LAST_SEQUENCE}, each time a higher one")
        if self.expires is not None and not _is_day(self.expires):
            raise UsageError(f"expires {self.expires!r}: give a day as 2027-12-31")


def entries(files: Mapping[str, tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Of path -> (role, content): what the manifest says of its files."""
    return [
        {"path": path, "role": role, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, (role, content) in sorted(files.items())
    ]


def check(manifest: Any) -> None:
    """Raise BundleError, code `version` or `manifest`, unless it is one, field by field."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        told = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(
            "version", f"format {told if isinstance(told, str) else None!r:.40}, this version reads {FORMAT!r}"
        )
    if set(manifest) != {"format", *_FIELDS, "files"}:
        raise BundleError("manifest", "other fields than a manifest has")
    for name, fits in _FIELDS.items():
        if not fits(manifest[name]):
            raise BundleError("manifest", f"its field {name} is malformed")
    files = manifest["files"]
    if not isinstance(files, list) or not 0 < len(files) <= MAX_FILES or not all(map(_is_entry, files)):
        raise BundleError("manifest", "its list of files is malformed")
    paths = [entry["path"] for entry in files]
    if not _apart(paths):
        raise BundleError("manifest", "its files are not in order, or in each other's way")
    roles = [entry["role"] for entry in files]
    if any(roles.count(role) > 1 for role in ROLES if role not in MANY) or not all(role in roles for role in NEEDED):
        raise BundleError("manifest", "a file of one kind is missing, or there are several")
    if ("delta" in roles) != (manifest["precursor"] is not None):
        raise BundleError("manifest", "a difference and what it is against belong together")
    if not any(entry["path"] == manifest["model"] and entry["role"].startswith("onnx") for entry in files):
        raise BundleError("manifest", "its model is none of its ONNX files")


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"path", "role", "bytes", "sha256"}
        and is_path(entry["path"])
        and entry["role"] in ROLES
        and type(entry["bytes"]) is int
        and 0 <= entry["bytes"] <= MAX_FILE
        and _is_digest(entry["sha256"])
    )


def is_path(value: Any) -> bool:
    """Relative, below where it is written, plain on every system."""
    parts = value.split("/") if isinstance(value, str) else []
    return 0 < len(parts) <= 4 and all(WORD.fullmatch(part) and not part.endswith(".") for part in parts)


def _apart(paths: list[str]) -> bool:
    """In order, and no file is another's folder, nor the same where capitals do not count."""
    plain = {path.lower() for path in paths}
    folders = {path[: match.start()] for path in plain for match in re.finditer("/", path)}
    return paths == sorted(paths) and len(plain) == len(paths) and not plain & folders


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 256 and value.isprintable()


def _is_day(value: Any) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except (ValueError, TypeError):
        return False


def _is_input(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"shape", "dtype"} or not isinstance(value["shape"], list):
        return False
    sizes = all(type(size) is int and 0 < size <= 1 << 24 for size in value["shape"])
    return sizes and 0 < len(value["shape"]) <= 4 and value["dtype"] in ("uint8", "int16", "float32")


_FIELDS = {
    "class": lambda value: isinstance(value, str) and WORD.fullmatch(value) is not None,
    "sequence": lambda value: type(value) is int and 0 < value <= LAST_SEQUENCE,
    "expires": lambda value: value is None or _is_day(value),
    "task": lambda value: value in ("classification", "regression", "anomaly"),
    "labels": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "input": _is_input,
    "ticket": _is_digest,
    "purity": _is_text,
    "precursor": lambda value: value is None or _is_digest(value),
    "model": is_path,
}
