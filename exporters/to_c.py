"""C99 for microcontrollers: one file that needs no library, its header, a self-test with golden vectors, and how to build it.

The result computes the integer network of edgeticket/integer.py bit for bit. Layers run one after the other over one arena;
each reads its part of the model, a byte string in the wire form of edgeticket/wire.py, which an update replaces.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edgeticket.errors import EquivalenceError, UnsupportedError, UsageError
from edgeticket.integer import input_codes, run_outputs
from edgeticket.model import Model, Raw
from edgeticket.reference import feed
from edgeticket.wire import Wire, pack
from edgeticket.wire_plan import held
from exporters.c_network import Network
from exporters.c_text import array, number_type

SUFFIX = ""
FORMS = ("auto", "seed", "signs", "lists", "boot", "dense")
VECTORS = 4
PORT = Path(__file__).with_name("c") / "port"
HOST_FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion")


def export(model: Model, path: Path, *, form: str = "auto") -> None:
    """Write the folder `path`. Raises UsageError for another form, UnsupportedError, naming the layer, for what has no C form."""
    if form not in FORMS:
        raise UsageError(f"form {form!r}: take one of {', '.join(FORMS)}")
    name = identifier(path.name)
    wire = pack(model, "seed" if form in ("auto", "boot") else form)
    network = Network(model, wire, name, boot=form == "boot")
    texts = {
        f"{name}.h": network.header(),
        f"{name}.c": network.source(),
        f"{name}_selftest.c": vectors(model, wire, name, model.random_inputs(VECTORS)) + _port("selftest.c", name),
    }
    texts |= {file.name: _port(file.name, name) for file in sorted(PORT.iterdir()) if file.name != "selftest.c"}
    path.mkdir()
    for file, text in texts.items():
        (path / file).write_text(text)


def prove(model: Model, path: Path, raw: Raw, **_: str) -> None:
    """Build the folder here and run it on raw sensor values. Raises EquivalenceError where it differs from the specification,
    UnsupportedError where there is no compiler."""
    compiler = shutil.which("cc")
    if not compiler:
        raise UnsupportedError("no C compiler here to prove the export with: install gcc (Debian: apt install gcc libc6-dev)")
    (source,) = path.glob("*_selftest.c")
    name = source.name.removesuffix("_selftest.c")
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        test, program = Path(folder) / source.name, Path(folder) / "selftest"
        test.write_text(vectors(model, pack(model), name, raw) + _port("selftest.c", name))
        build = [compiler, *HOST_FLAGS, f"-I{path}", str(path / f"{name}.c"), str(test), str(path / "port.c"), "-o", str(program)]
        for command in (build, [str(program)]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise EquivalenceError(f"{path.name}: {command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")


def identifier(name: str) -> str:
    """A C identifier of a file's name."""
    cleaned = re.sub(r"\W", "_", name.partition(".")[0], flags=re.ASCII)
    return cleaned if cleaned and not cleaned[0].isdigit() else f"net_{cleaned}"


def _port(file: str, name: str) -> str:
    return re.sub(r"NAME(?=[_.\W])", name, (PORT / file).read_text())


def vectors(model: Model, wire: Wire, name: str, raw: Raw) -> str:
    """Inputs and the codes that the specification makes of them, as C; `et_infer(i)` and `et_wrong(i)`."""
    integer, given = wire.integer, feed(model.plan, raw)
    inputs = [values if n in integer.exact else input_codes(integer, n, values) for n, values in given.items()]
    outputs = []
    for output, codes in zip(model.plan.outputs, run_outputs(integer, raw), strict=True):
        own = held(integer, output)
        shifted = codes.astype(np.int64) + own.zero_point - integer.tensors[output].zero_point
        outputs.append(shifted.astype(own.dtype))
    count = len(inputs[0])
    lines = [f'#include "{name}.h"', "#ifndef NAME_SIZE_ONLY".replace("NAME", name), f"#define ET_VECTORS {count}"]
    for what, arrays in (("in", inputs), ("expected", outputs)):
        for i, values in enumerate(arrays):
            flat = values.reshape(count, -1)
            lines.append(f"static const {number_type(flat.dtype)} et_{what}{i}[{count}][{flat.shape[1]}] = {array(flat)};")
    lines += ["#else", "#define ET_VECTORS 0"]
    lines += [f"static {number_type(v.dtype)} et_in{i}[1][{v[0].size}];" for i, v in enumerate(inputs)]
    lines += ["#endif"]
    lines += [f"static {number_type(v.dtype)} et_out{i}[{v[0].size}];" for i, v in enumerate(outputs)]
    passed = ", ".join([*(f"et_in{i}[i]" for i in range(len(inputs))), *(f"et_out{i}" for i in range(len(outputs)))])
    wrong = "".join(
        f"  for (unsigned j = 0; j < {v[0].size}; j++) wrong += et_out{i}[j] != et_expected{i}[i][j];\n"
        for i, v in enumerate(outputs)
    )
    lines += [f"static int et_infer(unsigned i) {{ return {name}_predict({passed}); }}"]
    lines += [f"#if ET_VECTORS\nstatic unsigned et_wrong(unsigned i) {{\n  unsigned wrong = 0;\n{wrong}  return wrong;\n}}\n#endif\n"]
    return "\n".join(lines)
