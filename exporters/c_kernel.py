"""What the C file of a network needs for one layer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """`call` may use the C names `k` (constants of the layer, const uint8_t *) and `scratch` (uint8_t *, 4-aligned).

    With `row` the call makes one filter, the int32_t `filter`, and wants its int8 weights at that offset of `scratch`.
    """

    fragments: tuple[str, ...]  # files of exporters/c in order of need; NAME:u8 or NAME:i16 where a file is a template
    tables: tuple[str, ...]  # definitions `static const ...`
    call: str  # C statements
    scratch: int = 0  # bytes, the row included
    row: int | None = None
