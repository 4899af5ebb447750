"""Bundles as a fleet gets them, DIGEST.bundle in a folder: a model, others that answer the same, and some that must not go out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import small_bundle

from edgeticket import bundle_file
from edgeticket.compact import compact
from edgeticket.data import load
from edgeticket.guard import Guard
from edgeticket.signing import new_key
from edgeticket.ticket import parse_ticket
from exporters.to_onnx import build, run_bytes

TICKET = (Path(__file__).parent.parent / "sample_models" / "digits.ticket").read_bytes()


@dataclass(frozen=True)
class Made:
    """`digests`: by name. `key`: the public one of whoever signed. `frames`: uint8 [n, 1, 8, 8], those of the certify part."""

    folder: Path
    digests: dict[str, str]
    key: bytes
    frames: np.ndarray

    def path(self, name: str) -> Path:
        return self.folder / f"{self.digests[name]}.bundle"


def make(folder: Path, expires: str | None = None) -> Made:
    """old, equal, again: the same network, thrice; swapped: its labels permuted; broken: golden vectors that it does not answer."""
    data, model = load("digits"), build(compact(parse_ticket(TICKET))).SerializeToString()
    raw = data.certify[0][:8]
    right, labels, (private, public) = run_bytes(model, raw), list(data.classes), new_key()
    guard = bundle_file.canonical(Guard.fit(data).to_json())
    digests = {}
    for sequence, name in enumerate(("old", "equal", "again", "swapped", "broken")):
        files = {
            "digits.onnx": ("onnx", model),
            "digits.ticket": ("ticket", TICKET),
            "golden": ("golden", bundle_file.golden(raw, right + (name == "broken"))),
            "guard.json": ("guard", guard),
        }
        own = labels[1:] + labels[:1] if name == "swapped" else labels
        made = small_bundle.write(folder / name, files, private, sequence=sequence + 1, labels=own, expires=expires)
        digests[name] = hashlib.sha256(made.read_bytes()).hexdigest()
        made.rename(folder / f"{digests[name]}.bundle")
    return Made(folder, digests, public, data.certify[0])
