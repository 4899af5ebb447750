"""The C of a bundle: whether it is what this version exports of the ticket, text for text."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from edgeticket.errors import EdgeTicketError
from edgeticket.guard import Guard
from edgeticket.model import Model

MADE = re.compile(
    rb"/\* edgeticket export --to c --form (seed|signs|lists|boot|dense) --bands ([0-9]{1,9}) \*/\n"
)  # as exporters/to_c.py begins a header
DIGEST = re.compile(rb'_DIGEST "([0-9a-f]{64})"')


def guards(files: Mapping[str, bytes]) -> list[str]:
    """Paths of the guard in C."""
    return [path for path in files if path.endswith(("_guard.c", "_guard.h"))]


def strange(files: Mapping[str, bytes], models: Sequence[Model], guard: Guard | None) -> list[str]:
    """Of the files of a folder of C, by their paths, those that are no export of any of `models`, with `guard` if there is one in C."""
    from exporters import to_c

    own = guard if guards(files) else None
    for path, content in files.items():
        made, digest = MADE.match(content), DIGEST.search(content)
        model = next((each for each in models if digest and each.digest.encode() == digest[1]), None)
        if made and model:
            try:
                texts = to_c.texts(model, PurePosixPath(path).stem, made[1].decode(), int(made[2]), own)
            except EdgeTicketError:  # a form that this network does not have
                break
            right = {name: text.encode() for name, text in texts.items()}
            return [each for each, found in files.items() if right.get(PurePosixPath(each).name) != found]
    return list(files)
