"""Golden vectors for main.c: `python reference.py TICKET DATA reference.h`.

Frames of the certify part that the model answers right, and clearest: what every model for this device must answer alike.
"""

import sys
from pathlib import Path

import numpy as np

from edgeticket.compact import compact
from edgeticket.data import load
from edgeticket.errors import EdgeTicketError
from edgeticket.integer import integerise
from edgeticket.ticket import read_ticket
from exporters.c_run import expected, given
from exporters.c_text import array, number_type

COUNT, LOOKED_AT = 8, 200


def header(ticket: str, data: str) -> str:
    raw, labels = (part[:LOOKED_AT] for part in load(data).certify)
    integer = integerise(compact(read_ticket(ticket)))
    (frames,), (codes,) = given(integer, raw), expected(integer, raw)
    ranked = np.sort(codes.astype(int), axis=1)
    margin = np.where(codes.argmax(1) == labels, ranked[:, -1] - ranked[:, -2], -1)
    best = np.argsort(-margin, kind="stable")[:COUNT]
    if margin[best].min() < 1:
        sys.exit(f"fewer than {COUNT} of {LOOKED_AT} frames are answered right and clearly")
    rows, kind = frames[best].reshape(COUNT, -1), number_type(frames.dtype)
    return (
        f"#define REFERENCES {COUNT}u\ntypedef {kind} reference_raw;\n"
        f"static const reference_raw reference[REFERENCES][{rows.shape[1]}] = {array(rows)};\n"
        f"static const uint8_t reference_label[REFERENCES] = {array(labels[best])};\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        Path(sys.argv[3]).write_text(header(*sys.argv[1:3]))
    except EdgeTicketError as error:
        sys.exit(str(error))
