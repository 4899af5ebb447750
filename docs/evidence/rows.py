"""Which searches docs/evidence.md shows: every row is a command that anyone can type.

A section's rows share the data; `seeds` of a row that decides are 0 to 4, of others fewer. Sizes of rivals were searched on seeds
3 and 4, on the select part (docs/notes.md).
"""

from dataclasses import dataclass

FIVE, THREE, ONE = (0, 1, 2, 3, 4), (0, 1, 2), (0,)
INT8 = "--learn conv1,conv2,conv3,head"  # every layer learned under int8 rounding: the usual network, quantisation-aware


@dataclass(frozen=True)
class Section:
    title: str
    common: str
    seeds: tuple[int, ...]
    rows: dict[str, str]  # name -> arguments of `edgeticket find`


SECTIONS = {
    "masks": Section(
        "Masks against a float network of the same shape",
        "-d fashion-mnist --images 30000 --epochs 10",
        FIVE,
        {
            "default": "-m conv:16,32,32 --float-control",
            "pure": "-m conv:16,32,32 --pure",
            "quarter": "-m conv:16,32,32 --density 0.083333",
            "rich": "-m conv:16,32,32 --pure --edges 8 --density 0.25",
            "signs": "-m conv:16,32,32 --signs learned",
            "signs-quarter": "-m conv:16,32,32 --signs learned --density 0.25",
        },
    ),
}
