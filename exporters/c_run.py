"""An exported folder on this machine: golden vectors for its self-test, and a run over any number of examples."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.integer import IntegerModel, input_codes, run_outputs
from edgeticket.model import Raw
from edgeticket.reference import feed
from edgeticket.wire_plan import held
from exporters.c_text import array, number_type

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion")
BUILT = "build"  # where the Makefile puts what it makes
_TIMEOUT_S = 600
_RUNNER = """#include <stdio.h>
#include "NAME.h"
int main(void) {
BUFFERS  while (READ) {
    if (NAME_predict(PASSED)) return 1;
    WRITE
  }
  return 0;
}
"""


def network_name(folder: Path) -> str:
    """What the files of an exported folder are named after. Raises UsageError for any other folder."""
    names = [file.name.removesuffix("_selftest.c") for file in folder.glob("*_selftest.c")]
    if len(names) > 1:
        raise UsageError(f"{folder}: holds the C of {' and '.join(sorted(names))}: keep one, or export to a new folder")
    if not names or not (folder / f"{names[0]}.c").is_file() or not (folder / f"{names[0]}.h").is_file():
        raise UsageError(f"{folder}: not a folder that `edgeticket export --to c` wrote: export the ticket again")
    return names[0]


def given(integer: IntegerModel, raw: Raw) -> list[np.ndarray]:
    """What `predict` is given for raw sensor values: themselves where they are read exactly, else codes."""
    feeds = feed(integer.plan, raw)
    return [v if name in integer.exact else input_codes(integer, name, v) for name, v in feeds.items()]


def expected(integer: IntegerModel, raw: Raw) -> list[np.ndarray]:
    """What `predict` gives for them by the specification: codes, as a device holds them."""
    outputs: list[np.ndarray] = []
    for name, codes in zip(integer.plan.outputs, run_outputs(integer, raw), strict=True):
        own = held(integer, name)
        outputs.append((codes.astype(np.int64) + own.zero_point - integer.tensors[name].zero_point).astype(own.dtype))
    return outputs


def vectors(integer: IntegerModel, name: str, raw: Raw) -> str:
    """C of inputs and expected codes, and of `et_infer(i)` and `et_wrong(i)`."""
    sides = {"in": given(integer, raw), "expected": expected(integer, raw)}
    count, made = len(sides["in"][0]), sides["expected"]
    lines = [f'#include "{name}.h"', f"#ifndef {name}_SIZE_ONLY", f"#define ET_VECTORS {count}"]
    for what, arrays in sides.items():
        for i, values in enumerate(arrays):
            rows, kind = values.reshape(count, -1), number_type(values.dtype)
            lines.append(f"static const {kind} et_{what}{i}[{count}][{rows.shape[1]}] = {array(rows)};")
    lines += ["#else", "#define ET_VECTORS 0"]
    lines += [f"static {number_type(v.dtype)} et_in{i}[1][{v[0].size}];" for i, v in enumerate(sides["in"])]
    lines += ["#endif", *(f"static {number_type(v.dtype)} et_out{i}[{v[0].size}];" for i, v in enumerate(made))]
    lines += ["#define ET_INPUTS(X) " + " ".join(f"X(et_in{i}[0])" for i in range(len(sides["in"])))]
    lines += ["#define ET_OUTPUTS(X) " + " ".join(f"X(et_out{i})" for i in range(len(made)))]
    passed = [*(f"et_in{i}[i]" for i in range(len(sides["in"]))), *(f"et_out{i}" for i in range(len(made)))]
    lines += [f"static int et_infer(unsigned i) {{ return {name}_predict({', '.join(passed)}); }}", "#if ET_VECTORS"]
    lines += ["static unsigned et_wrong(unsigned i) {", "  unsigned wrong = 0;"]
    for i, v in enumerate(made):
        lines.append(f"  for (unsigned j = 0; j < {v[0].size}; j++) wrong += et_out{i}[j] != et_expected{i}[i][j];")
    return "\n".join([*lines, "  return wrong;", "}", "#endif", ""])


def run(integer: IntegerModel, folder: Path, raw: Raw) -> list[np.ndarray]:
    """Codes of every output, computed by the folder's C, built here.

    Raises UnsupportedError without a compiler, EdgeTicketError where the C does not build, EquivalenceError where it crashes or
    refuses an input.
    """
    name, inputs = network_name(folder), given(integer, raw)
    shapes = {output: (held(integer, output).dtype, integer.plan.shapes[output]) for output in integer.plan.outputs}
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as place:
        runner, program = Path(place) / "runner.c", Path(place) / "runner"
        runner.write_text(_runner(name, inputs, shapes))
        _checked(
            [compiler(), *FLAGS, "-iquote", str(folder), str(folder / f"{name}.c"), str(runner), "-o", str(program)],
            b"",
        )
        rows = [values.reshape(len(values), -1) for values in inputs]
        stream = b"".join(values[i].tobytes() for i in range(len(rows[0])) for values in rows)
        made = np.frombuffer(_checked([str(program)], stream), np.uint8).reshape(len(rows[0]), -1)
    outputs: list[np.ndarray] = []
    at = 0
    for dtype, shape in shapes.values():
        size = prod(shape) * np.dtype(dtype).itemsize
        outputs.append(np.ascontiguousarray(made[:, at : at + size]).view(dtype).reshape(-1, *shape))
        at += size
    return outputs


def compiler() -> str:
    """Raises UnsupportedError where there is none."""
    found = shutil.which("cc")
    if not found:
        raise UnsupportedError("no C compiler here (cc): install one, in Debian: apt install gcc libc6-dev")
    return found


def _runner(name: str, inputs: list[np.ndarray], shapes: Mapping[str, tuple[type, tuple[int, ...]]]) -> str:
    sizes = {f"in{i}": (number_type(v.dtype), v[0].size) for i, v in enumerate(inputs)}
    made = {f"out{i}": (number_type(dtype), prod(shape)) for i, (dtype, shape) in enumerate(shapes.values())}
    parts = {
        "BUFFERS": "".join(f"  static {kind} {n}[{size}];\n" for n, (kind, size) in (sizes | made).items()),
        "READ": " && ".join(f"fread({n}, sizeof {n}, 1, stdin) == 1" for n in sizes),
        "PASSED": ", ".join([*sizes, *made]),
        "WRITE": "\n    ".join(f"if (fwrite({n}, sizeof {n}, 1, stdout) != 1) return 1;" for n in made),
        "NAME": name,
    }
    return re.sub("BUFFERS|READ|PASSED|WRITE|NAME", lambda match: parts[match[0]], _RUNNER)


def _checked(command: list[str], stream: bytes) -> bytes:
    try:
        return subprocess.run(command, input=stream, capture_output=True, timeout=_TIMEOUT_S, check=True).stdout
    except subprocess.TimeoutExpired as error:
        raise EquivalenceError(f"{command[0]} was not done after {_TIMEOUT_S} s: please report it") from error
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace")[-800:]
        if len(command) > 1:
            raise EdgeTicketError(f"the C does not build here: please report it with the ticket: {told}") from error
        how = f"crashed (signal {-error.returncode})" if error.returncode < 0 else "refused an input"
        raise EquivalenceError(f"the C {how}: please report it with the ticket") from error
