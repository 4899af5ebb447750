"""Numbers as C source."""

from collections.abc import Sequence

import numpy as np

TYPES = {
    "uint8": "uint8_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "int32": "int32_t",
}


ELEMENTS = {"u8": "uint8_t", "i16": "int16_t"}  # of tensors, as templates name them


def number_type(dtype: np.dtype | type) -> str:
    return TYPES[np.dtype(dtype).name]


def array(values: np.ndarray | Sequence[int]) -> str:
    """A braced initialiser, nested for two dimensions, in lines of at most 120 characters."""
    values = np.asarray(values)
    if values.ndim == 2:
        return "{\n" + ",\n".join(array(row) for row in values) + "}"
    lines, line = [], ""
    for text in map(str, values.tolist()):
        if len(line) + len(text) > 118:
            lines.append(line)
            line = ""
        line += text + ","
    return "{" + "\n".join([*lines, line.rstrip(",")]) + "}"
