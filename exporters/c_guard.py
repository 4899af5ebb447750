"""A guard as C: the same status as edgeticket/guard.py for every frame, in integers alone."""

import subprocess
import tempfile
from math import prod
from pathlib import Path

import numpy as np

from edgeticket.errors import EquivalenceError, UnsupportedError, UsageError
from edgeticket.guard import LIMITS, Guard, Rules, Status
from edgeticket.model import Model
from exporters.c_run import FLAGS, compiler
from exporters.c_text import array

STATUSES = (Status.OK, Status.RANGE, Status.CONSTANT, Status.STUCK, Status.DRIFT, Status.UNFAMILIAR)  # 0, 1, ...
TEMPLATE = Path(__file__).with_name("c") / "guard.h"
_TIMEOUT_S = 60
_HEADER = """/* The guard of {name}, written by edgeticket: a frame with a fault gets no label; docs/guard.md. */
#ifndef {name}_GUARD_H
#define {name}_GUARD_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

enum {{
{codes}
}}; /* up to {name}_GUARD_STUCK a fault: do not use what {name}_predict says; then alarms */

/* All 0 at the start, and again once the sensor was looked after: a drift is told until then. */
typedef struct {{
    int64_t up[{size}], down[{size}], last[{size}];
    uint32_t times;
    uint32_t drifted;
}} {name}_guard_state;

int {name}_guard({name}_guard_state *state, const {value} frame[{values}]);

#ifdef __cplusplus
}}
#endif
#endif
"""
_RUNNER = """#include <stdio.h>
#include "NAME_guard.h"
int main(void) {
  static NAME_guard_state state;
  static VALUE frame[VALUES];
  while (fread(frame, sizeof frame, 1, stdin) == 1)
    putchar(NAME_guard(&state, frame));
  return 0;
}
"""


def require(guard: Guard, model: Model) -> None:
    """Raise UnsupportedError for a float sensor, UsageError for a guard of another."""
    rules, shapes = guard.rules, list(model.plan.inputs.items())
    if rules.dtype == "float32":
        raise UnsupportedError("a guard in C is for integer sensors: check a float sensor where it is converted")
    if len(shapes) != 1 or (shapes[0][1], model.inputs[shapes[0][0]].dtype) != (rules.shape, rules.dtype):
        raise UsageError(
            f"the guard is for {rules.dtype} {rules.shape}, which the network does not read: give its data"
        )


def files(guard: Guard, name: str) -> dict[str, str]:
    """File name -> C of NAME_guard and its header."""
    rules = guard.rules
    size, values = len(rules.limits.limit), prod(rules.shape[1:])
    codes = "\n".join(f"    {name}_GUARD_{status.name}," for status in STATUSES)
    header = _HEADER.format(
        name=name, codes=codes, size=size, value=_type(rules), values=f"{prod(rules.shape)} /* {_x(rules.shape)} */"
    )
    facts = {
        "ET_VALUE": _type(rules),
        "ET_CHANNELS": str(rules.shape[0]),
        "ET_VALUES": f"{values}u",
        "ET_STATISTICS": str(size),
        "ET_STUCK": f"{rules.stuck}u" if rules.stuck else "UINT32_MAX",
        **_sums(rules, values),
    }
    lines = [f'#include "{name}_guard.h"', "#include <string.h>", ""]
    lines += [f"#define {word} {text}" for word, text in facts.items()]
    limits = {word: getattr(rules.limits, word) for word in LIMITS}
    for word, numbers in {**limits, "least": rules.least, "most": rules.most, "flat": rules.flat}.items():
        lines.append(f"static const int64_t et_{word}[] = {array(numbers.astype(np.int64))};")
    source = "\n".join([*lines, "", TEMPLATE.read_text().replace("NAME", name)])
    return {f"{name}_guard.h": header, f"{name}_guard.c": source}


def prove(guard: Guard, folder: Path, name: str, frames: np.ndarray) -> None:
    """Build the C here and run it over `frames`, [n, *shape]. Raises EquivalenceError where a status is not the guard's."""
    fresh = Guard(guard.rules)
    right = [STATUSES.index(fresh.check(frame)) for frame in frames]
    made = list(run(guard.rules, folder, name, frames))
    if made != right:
        first = next((i for i, pair in enumerate(zip(made, right, strict=False)) if pair[0] != pair[1]), len(made))
        raise EquivalenceError(f"{folder.name}: the guard in C says another status of frame {first} than the guard")


def run(rules: Rules, folder: Path, name: str, frames: np.ndarray) -> bytes:
    """A status byte for each frame."""
    text = _RUNNER.replace("NAME", name).replace("VALUES", str(prod(rules.shape))).replace("VALUE", _type(rules))
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as place:
        runner, program = Path(place) / "runner.c", Path(place) / "runner"
        runner.write_text(text)
        sources = [str(folder / f"{name}_guard.c"), str(runner)]
        try:
            subprocess.run(
                [compiler(), *FLAGS, "-iquote", str(folder), *sources, "-o", str(program)],
                check=True,
                capture_output=True,
                timeout=_TIMEOUT_S,
            )
            done = subprocess.run(
                [str(program)], input=frames.tobytes(), check=True, capture_output=True, timeout=_TIMEOUT_S
            )
        except subprocess.CalledProcessError as error:
            raise EquivalenceError(
                f"{folder.name}: the guard in C does not build or run: {error.stderr.decode()}"
            ) from error
    return done.stdout


def _sums(rules: Rules, values: int) -> dict[str, str]:
    """The narrowest types that hold the sums of a channel."""
    ends = np.iinfo(rules.dtype)
    most, span = max(-int(ends.min), int(ends.max)), int(ends.max) - int(ends.min)

    def narrow(largest: int, bits: int, type: str) -> str:
        return type if largest * values < 1 << bits else "int64_t"

    return {
        "ET_SUM": narrow(most, 31, "int32_t"),
        "ET_SQUARES": narrow(most * most, 32, "uint32_t"),
        "ET_STEPS": narrow(span, 32, "uint32_t"),
    }


def _type(rules: Rules) -> str:
    return f"{rules.dtype}_t"


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
