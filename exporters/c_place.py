"""Tensors brought into the arena: what a caller gives, and a dense tensor as a convolution wants to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporters.c_layout import Layout

if TYPE_CHECKING:
    from exporters.c_steps import Steps


def take(steps: Steps, index: int, name: str) -> None:
    """The caller's values of input `name`."""
    source, layout, place = steps.port("in", name), steps.layouts[name], steps.tensor(name)
    if steps.suffix(name) == "u8":
        raw = (
            f"memcpy(arena + {place}, {source}, {layout.size});"
            if layout.dense
            else placed(steps, f"in{index}", layout, (source, "uint8"), place, "u8")
        )
        steps.call(f"{raw}\n  k += 1;", f"input {name}")
        return
    given = (source, steps.raw_type(name).removesuffix("_t"))
    text = placed(steps, f"in{index}", layout, given, place, "i16", offsets="k")
    steps.call(f"{text}\n  k += {2 * layout.shape[0]};", f"input {name}")


def placed(
    steps: Steps, label: str, layout: Layout, source: tuple[str, str], place: str, suffix: str, offsets: str = "0"
) -> str:
    """Clear and fill a packed tensor from a dense one, `source`: its pointer and type; codes are cleared to their zero point."""
    pointer, raw = source
    steps.need("clear.h", "place.h", f"place_run.h:{suffix}:{raw}")
    sy, sx = layout.stride
    phases = [layout.at.get((a, b)) for a in range(sy) for b in range(sx)]
    at = ", ".join("ET_NONE" if place is None else str(place) for place in phases)
    fields = (*layout.shape, *layout.before, sy, sx, layout.pitch, layout.plane)
    at = steps.table(f"static const et_offset et_at_{label}[] = {{{at}}};")
    own = steps.table(f"static const et_place et_place_{label} = {{{', '.join(map(str, fields))}, {at}}};")
    fill, size = ("k[0]", layout.size) if suffix == "u8" else ("0", 2 * layout.size)
    target = f"({'uint8_t' if suffix == 'u8' else 'int16_t'} *)(void *)(arena + {place})"
    return (
        f"et_clear(arena + {place}, {fill}, {size});\n  "
        f"et_place_{raw}_{suffix}(&{own}, {pointer}, {target}, {offsets});"
    )
