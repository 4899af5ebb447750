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
}}; /* up to {name}_GUARD_STUCK a fault: there is no answer */

/* All 0 at the start, and again once the sensor was looked after: a drift is told until then. */
typedef struct {{
    int64_t up[{size}], down[{size}], last[{size}];
    uint32_t times, fresh, drifted;
}} {name}_guard_state;

/* Before {name}_predict: a fault, {name}_GUARD_UNFAMILIAR or {name}_GUARD_OK. */
int {name}_guard({name}_guard_state *state, const {value} frame[{values}]);

/* After it, {answer}: {name}_GUARD_DRIFT where frames have drifted, the last one among them, else
 * {name}_GUARD_OK. A frame counts once, and not if it had a fault. */
int {name}_guard_drift({name}_guard_state *state, int answer);

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
  int16_t answer;
  while (fread(frame, sizeof frame, 1, stdin) == 1 && fread(&answer, sizeof answer, 1, stdin) == 1) {
    const int status = NAME_guard(&state, frame), drift = NAME_guard_drift(&state, answer);
    putchar(status && status <= NAME_GUARD_STUCK ? status : drift ? drift : status);
  }
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
    size, values, means = len(rules.limits.limit), prod(rules.shape[1:]), len(rules.limits.low)
    codes = "\n".join(f"    {name}_GUARD_{status.name}," for status in STATUSES)
    header = _HEADER.format(
        name=name,
        codes=codes,
        size=size,
        value=_type(rules),
        values=f"{prod(rules.shape)} /* {_x(rules.shape)} */",
        answer=f"with the class that it gave, 0 to {means - 2}" if means > 1 else "with any answer",
    )
    facts = {
        "ET_VALUE": _type(rules),
        "ET_CHANNELS": str(rules.shape[0]),
        "ET_VALUES": f"{values}u",
        "ET_STATISTICS": str(size),
        "ET_MEANS": str(means),
        "ET_STUCK": f"{rules.stuck}u" if rules.stuck else "UINT32_MAX",
        **_sums(rules, values),
    }
    lines = [f'#include "{name}_guard.h"', "#include <string.h>", ""]
    lines += [f"#define {word} {text}" for word, text in facts.items()]
    limits = {word: getattr(rules.limits, word) for word in LIMITS}
    for word, numbers in {**limits, "least": rules.least, "most": rules.most, "flat": rules.flat}.items():
        whole = numbers.astype(np.int64).reshape(-1)
        type = "int32_t" if abs(whole).max() < 1 << 31 else "int64_t"
        lines.append(f"static const {type} et_{word}[] = {array(whole)};")
    source = "\n".join([*lines, "", TEMPLATE.read_text().replace("NAME", name)])
    return {f"{name}_guard.h": header, f"{name}_guard.c": source}


def prove(guard: Guard, folder: Path, name: str, frames: np.ndarray) -> None:
    """Build the C here and run it over `frames`, [n, *shape], with each answer in turn. Raises EquivalenceError where a status is not the guard's."""
    fresh, answers = Guard(guard.rules), np.arange(len(frames)) % len(guard.rules.limits.low)
    right = [STATUSES.index(fresh.judge(frame, int(answer))) for frame, answer in zip(frames, answers, strict=True)]
    made = list(run(guard.rules, folder, name, frames, answers))
    if made != right:
        first = next((i for i, pair in enumerate(zip(made, right, strict=False)) if pair[0] != pair[1]), len(made))
        raise EquivalenceError(f"{folder.name}: the guard in C says another status of frame {first} than the guard")


def run(rules: Rules, folder: Path, name: str, frames: np.ndarray, answers: np.ndarray) -> bytes:
    """A status byte for each frame."""
    pairs = zip(frames, answers.astype(np.int16), strict=True)
    stream = b"".join(frame.tobytes() + answer.tobytes() for frame, answer in pairs)
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
            done = subprocess.run([str(program)], input=stream, check=True, capture_output=True, timeout=_TIMEOUT_S)
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
