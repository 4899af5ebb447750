"""What a device is told to run in a staged roll-out, and what it makes of that with the bundles that it has.

bundles = Bundles(Path("bundles"), Path("state"), [key])
order = Order.of(json.load(answer))  # of GET /devices/NAME
bundles.load(order.digests)
choice = choose(order, bundles.models, bundles.refused, answers=old)
trial = bundles.trial(choice, deadline_ms=40)  # edgeticket/trial.py
"""

import hashlib
import logging
import re
from collections.abc import Collection, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from edgeticket.bundle_file import named, whole
from edgeticket.errors import BundleError, EdgeTicketError
from edgeticket.files import write_atomic
from edgeticket.runtime import Predictor
from edgeticket.signing import public_key
from edgeticket.trial import Trial

STARTS = 3  # deaths of the process while it loads a bundle, before that counts as refused
DIGEST = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """SHA-256 of bundles: of the one whose model should answer, the one to run aside, if any, and the one that reports are about."""

    run: str
    aside: str | None
    model: str

    @classmethod
    def of(cls, answer: Any) -> "Order":
        """Raises EdgeTicketError for what is none: digests become names of files."""
        try:
            found = cls(answer["run"], answer["aside"], answer["model"])
            fits = all(
                map(DIGEST.fullmatch, (found.run, found.run if found.aside is None else found.aside, found.model))
            )
        except (KeyError, TypeError):
            fits = False
        if not fits or found.model not in (found.run, found.aside):
            raise EdgeTicketError(
                f"no order of `edgeticket rollout serve`: {answer!r:.200}: check the server's address"
            )
        return found

    @property
    def digests(self) -> set[str]:
        return {digest for digest in (self.run, self.aside) if digest}

    @property
    def other(self) -> str | None:
        """The one that `model` is compared with."""
        return self.aside if self.model == self.run else self.run


@dataclass(frozen=True)
class Choice:
    """`reports`: digest of what reports are about; `model`, `beside`, `shadow`: as Trial's. None: nothing."""

    reports: str
    model: str | None
    beside: str | None
    shadow: bool = False

    @property
    def answers(self) -> str | None:
        return self.beside if self.shadow or self.model is None else self.model


def choose(order: Order, loaded: Container[str], refused: Container[str], answers: str | None) -> Choice:
    """`loaded` and `refused`: digests of bundles; `answers`: of what answers now, which is loaded.

    A bundle that was refused is a self-test that failed, and one that is not there yet is none: what the server hears of it is silence.
    Whatever should answer and cannot, what answered before goes on. Raises EdgeTicketError where nothing did.
    """
    other = order.other if order.other in loaded else None
    if answers != order.model and (order.model not in loaded or order.run != order.model):
        other = other or answers
    if order.model in loaded and (other or order.model in (order.run, answers)):
        return Choice(order.model, order.model, other, shadow=other is not None and order.run != order.model)
    if other is None:
        raise EdgeTicketError(f"no model to run: put the bundle {order.run} where bundles are looked for")
    return Choice(order.model, None, other) if order.model in refused else Choice(other, other, None)


class Bundles:
    """Those of `folder` that one device uses, each DIGEST.bundle by the SHA-256 of the file, and put there whole, by a rename.

    `keys` and `target_class`: as Predictor's. `models`: by digest, what is loaded; `refused`: by digest, why not. Models are not
    shared between devices, as their guards remember a sensor's frames. In the folder `state` a bundle is noted while it is loaded: one
    that ended the process STARTS times, in ONNX Runtime for example, is refused from then on; and noted when it is taken for the first
    time, which is refused once it has expired. Later that is not asked: its day stops no line. `accepted`: digests of those taken, to
    which you may add what you know to be in use, as a full disk takes no note. Raises UsageError for keys that are none.
    """

    def __init__(self, folder: Path, state: Path, keys: Sequence[bytes] = (), target_class: str | None = None) -> None:
        self._folder, self._state, self._target_class = folder, state, target_class
        self._keys = [public_key(key) for key in keys]
        self.models: dict[str, Predictor] = {}
        self.refused: dict[str, str] = {}
        self.accepted: set[str] = set()

    def load(self, digests: Collection[str]) -> None:
        """Try those of them that are not loaded. One that is not there is logged, and neither in `models` nor in `refused`."""
        for digest in set(digests) - self.models.keys():
            try:
                path = self._folder / f"{digest}.bundle"
                with named(path):
                    self.models[digest] = self._read(path, digest)
                self.refused.pop(digest, None)
            except Exception as error:  # ONNX Runtime's own too: whatever is in a bundle, the line goes on
                log.warning("%s", error)
                if not isinstance(error, OSError) and getattr(error, "code", None) != "unreadable":
                    self.refused[digest] = str(error)

    def keep(self, digests: Container[str | None]) -> None:
        """Forget all others."""
        self.models = {digest: model for digest, model in self.models.items() if digest in digests}
        self.refused = {digest: why for digest, why in self.refused.items() if digest in digests}

    def trial(self, choice: Choice, **options: Any) -> Trial:
        """`options`: as Trial's. Raises UsageError as Trial does."""
        model, beside = (self.models[digest] if digest else None for digest in (choice.model, choice.beside))
        return Trial(model, beside, shadow=choice.shadow, **options)

    def _read(self, path: Path, digest: str) -> Predictor:
        content = whole(path)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError("digest", "not the file of this SHA-256")
        note = self._state / f"{digest}.starts"
        starts = note.stat().st_size if note.exists() else 0
        if starts >= STARTS:
            raise BundleError("golden", f"it ended the process {starts} times (remove {note} to try it again)")
        with suppress(EdgeTicketError):  # a full disk is no fault of the bundle
            write_atomic(note, b"." * (starts + 1))
        accepted = self._state / f"{digest}.accepted"
        today = None if digest in self.accepted or accepted.exists() else date.today()
        try:
            model = Predictor(content, self._keys, target_class=self._target_class, today=today)
        finally:
            with suppress(OSError):  # nor is one that can only be read
                note.unlink(missing_ok=True)
        self.accepted.add(digest)
        if not accepted.exists():
            with suppress(EdgeTicketError):
                write_atomic(accepted, b"")
        return model
