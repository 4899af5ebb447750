"""The text of a network's C file and header."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from edgeticket.integer_layer import IntegerLayer, keeps_codes
from edgeticket.model import Model
from edgeticket.ops import leak
from edgeticket.wire import Wire, residual
from edgeticket.wire_plan import HEADER, INT8, SEED, edges
from exporters import c_load
from exporters.c_header import header
from exporters.c_steps import MOST, steps
from exporters.c_text import ELEMENTS, array

FRAGMENTS = Path(__file__).with_name("c")


_ARENA = """#ifdef NAME_EXTERNAL_ARENA
static uint32_t *et_arena;
void NAME_arena(uint32_t memory[NAME_ARENA / 4]) { et_arena = memory; }
#else
static uint32_t et_arena[NAME_ARENA / 4];
typedef char et_arena_as_declared[sizeof et_arena == NAME_ARENA ? 1 : -1];
#endif
"""


class Network:
    def __init__(self, model: Model, wire: Wire, name: str, boot: bool = False, bands: int = 2) -> None:
        self.model, self.wire, self.name, self.steps = model, wire, name, steps(model, wire, boot, bands)

    def header(self) -> str:
        more = c_load.declaration(self.name, self.wire.firmware) if self.updatable else ""
        return header(self.model, self.wire, self.steps, self.name, more)

    @property
    def updatable(self) -> bool:
        """Whether the model may be replaced: not where its lists are part of the code."""
        return not self.steps.stores_lists

    def source(self) -> str:
        steps, load = self.steps, c_load.Load(self.name, self.wire) if self.updatable else None
        lines = [f'#include "{self.name}.h"', "#include <string.h>", "", *self.settings(), ""]
        lines += load.model() if load else c_load.fixed(self.name, self.wire.packet)
        lines += [_ARENA.replace("NAME", self.name)]
        lines += [self._fragment(fragment) for fragment in ["core.h", *steps.fragments, *steps.kernels]]
        lines += [f"static const int16_t {name}[] = {values};" for values, name in self._curves.items()]
        lines += [*self._activations(), *map(steps.text, steps.tables), ""]
        lines += (
            load.definition([*steps.fragments, *steps.kernels], self._fragment("load.h") + self._fragment("patch.h"))
            if load
            else []
        )
        lines += [f"{steps.signature(self.name)} {{", f"  const uint8_t *model = et_model_used, *k = model + {HEADER};"]
        lines += ["  uint8_t *arena = (uint8_t *)et_arena;", *(c_load.GUARD if load else [])]
        lines += [f"#ifdef {self.name}_EXTERNAL_ARENA", "  if (!arena) return 2;", "#endif"]
        if steps.booted:
            lines += ["  static uint8_t booted;", "  if (!booted) {"]
            lines += [*(f"    {steps.text(call)}" for call in steps.booted), "    booted = 1;", "  }"]
        lines += [f"  {steps.text(call.text)} /* {call.remark} */" for call in steps.calls]
        return "\n".join([*lines, "  (void)k;", "  return 0;", "}", ""])

    def settings(self) -> Iterator[str]:
        codings = self.wire.codings
        masked = [name for name, coding in codings.items() if coding != INT8]
        kinds = [_kind(record) for record in self.wire.integer.layers]
        yield f"typedef uint{8 * self.steps.offset_bytes}_t et_offset;"
        yield f"typedef uint{16 if self.steps.arena <= MOST else 32}_t et_address;"
        yield "enum { ET_INT8, ET_SEED, ET_SIGNS, ET_STORED };"
        yield f"#define ET_LIST {self.steps.list_entries}u"
        yield f"#define ET_EDGES {max((edges(self.model, name) for name in masked), default=1)}"
        needs = {"SEED": SEED in codings.values(), "LEAKY": any(leak(kind) is not None for kind in kinds)}
        needs["CURVE"] = any(record.table is not None for record in self.wire.integer.layers)
        needs |= {"LISTS": self.steps.stores_lists, "BOOT": self.steps.boot}
        needs["HALF"] = self.steps.half_tiles
        needs |= dict.fromkeys(self.wire.features, True)
        yield from (f"#define ET_NEEDS_{word}" for word, needed in needs.items() if needed)
        yield from (f"#define {name}" for name in sorted({*self.steps.defines, "ET_PLAIN_i16"}))

    # activations

    @cached_property
    def _curves(self) -> dict[str, str]:
        """C text of each table -> its name."""
        tables = [array(record.table) for record in self.wire.integer.layers if record.table is not None]
        return {text: f"et_curve_{i}" for i, text in enumerate(dict.fromkeys(tables))}

    def _activations(self) -> Iterator[str]:
        """Each once; layers share them."""
        made: dict[str, str] = {}
        used = " ".join([*self.steps.tables, *(call.text for call in self.steps.calls)])
        for index, record in enumerate(self.wire.integer.layers):
            name, text = f"ET_ACT_l{index}", self._activation(record)
            if keeps_codes(record.layer.op) or f"&{name}" not in used:
                continue
            yield f"#define {name} {made[text]}" if text in made else f"static const et_activation {name} = {{{text}}};"
            made.setdefault(text, name)

    def _activation(self, record: IntegerLayer) -> str:
        if record.table is None:
            return f"{'ET_CLAMP' if leak(_kind(record)) is None else 'ET_LEAKY'}, 0, 0"
        bits = (len(record.table) - 1).bit_length() - 1
        return f"{'ET_RESIDUAL' if residual(record) else 'ET_CURVE'}, {bits}, {self._curves[array(record.table)]}"

    def _fragment(self, fragment: str) -> str:
        file, *tokens = fragment.split(":")
        text = (FRAGMENTS / file).read_text()
        if tokens:
            text = text.replace("ELEMENT", ELEMENTS[tokens[0]]).replace("SUFFIX", tokens[0])
        if len(tokens) > 1:
            text = text.replace("SOURCE", tokens[1]).replace("RAW", f"{tokens[1]}_t")
        return text


def _kind(record: IntegerLayer) -> str:
    return getattr(record.layer.op, "activation", "none")
