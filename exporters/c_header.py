"""The header of a network's C: sizes, what codes are worth, bytes of everything, and the calls."""

from collections.abc import Iterator
from math import prod

from edgeticket.model import Model
from edgeticket.wire import Wire
from edgeticket.wire_plan import INT8, edges, held
from exporters.c_steps import Steps

STACK, STACK_EDGE = 928, 24  # bytes; tests/test_c_arches.py holds every core's call graph against them


def stack(model: Model, wire: Wire) -> int:
    """Bytes that `predict` takes of the stack on a Cortex-M at -O2, at most."""
    masked = [edges(model, name) for name, coding in wire.codings.items() if coding != INT8]
    return STACK + STACK_EDGE * max(masked, default=1)


def header(model: Model, wire: Wire, steps: Steps, name: str, more: str) -> str:
    facts = "\n".join([*_inputs(model, wire, name), *_outputs(model, wire, name)])
    return f"""/* {name}, written by edgeticket. real = (code - ZERO) * SCALE. */
#ifndef {name}_H
#define {name}_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

{facts}
#define {name}_DIGEST "{model.digest}"
#define {name}_ARENA {steps.arena} /* bytes of RAM that predict works in */
#define {name}_STACK {stack(model, wire)} /* bytes of stack on a Cortex-M at -O2, at most */
#define {name}_MODEL_BYTES {len(wire.packet)} /* masks, int8 weights, constants */

/* 0: done. */
{steps.signature(name)};

/* Compiled with -D{name}_EXTERNAL_ARENA, predict works in memory of yours, and returns 2 until it has it. Between two inferences
   nothing in it is needed. */
#ifdef {name}_EXTERNAL_ARENA
void {name}_arena(uint32_t memory[{name}_ARENA / 4]);
#endif
{more}
#ifdef __cplusplus
}}
#endif
#endif
"""


def _inputs(model: Model, wire: Wire, name: str) -> Iterator[str]:
    for i, (tensor, shape) in enumerate(model.plan.inputs.items()):
        word = f"{name}_IN{i if len(model.plan.inputs) > 1 else ''}"
        sensor, codes = model.inputs[tensor], held(wire.integer, tensor)
        yield f"#define {word} {prod(shape)} /* {_x(shape)} */"
        if tensor in wire.integer.exact:
            yield f"/* {word}: what the sensor gives, {sensor.dtype} */"
            continue
        yield f"/* {word}: codes of x = (raw - OFFSET[channel]) * STEP[channel]: x / SCALE rounded, plus ZERO, within 0..255 */"
        yield f"#define {word}_OFFSET {{{', '.join(f'{float(v)!r}f' for v in sensor.offset)}}}"
        yield f"#define {word}_STEP {{{', '.join(f'{float(v)!r}f' for v in sensor.step)}}}"
        yield f"#define {word}_SCALE {codes.scale!r}f"
        yield f"#define {word}_ZERO {codes.zero_point}"


def _outputs(model: Model, wire: Wire, name: str) -> Iterator[str]:
    for i, tensor in enumerate(model.plan.outputs):
        word, codes = f"{name}_OUT{i if len(model.plan.outputs) > 1 else ''}", held(wire.integer, tensor)
        shape = model.plan.shapes[tensor]
        yield f"#define {word} {prod(shape)} /* {_x(shape)} */"
        yield f"#define {word}_SCALE {codes.scale!r}f"
        yield f"#define {word}_ZERO {codes.zero_point}"


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
