"""Single layers as C: their kernels in one program, that sanitizers watch, on the codes that the specification read."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from tiny_c import need

from edgeticket.integer import IntegerModel, run_layer
from edgeticket.integer_layer import RESIDUALS, Codes, IntegerLayer
from edgeticket.model import Model
from edgeticket.ops import Conv, ConvTranspose, Flatten, Linear, Reshape, Shape, leak
from edgeticket.wire import numbers
from edgeticket.wire_plan import held
from exporters.c_kernel import Kernel
from exporters.c_operations import operation

FRAGMENTS = Path(__file__).parent.parent / "exporters" / "c"
ELSEWHERE = (Conv, Linear, Flatten, Reshape)
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-pedantic"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ELEMENTS = {"u8": "uint8_t", "i16": "int16_t"}
TYPES = {np.dtype(np.uint8): "uint8_t", np.dtype(np.int16): "int16_t"}

# Calls of kernels are most of the text, and no part of the test: without this they take most of its time.
GLUE = """
#if defined(__GNUC__) && !defined(__clang__)
#define GLUE __attribute__((no_sanitize("address", "undefined"), optimize("O0")))
#else
#define GLUE
#endif
"""
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
typedef struct {
  void (*run)(const uint8_t *k, uint8_t *scratch, const int8_t *weights, void *const *in, void *out);
  size_t examples, constants, weights, scratch, inputs, in[8], out;
} job;
static const job jobs[] = {
%s
};
/* Exactly as large as it is, so that a byte too far is seen; constants at odd addresses. */
static uint8_t *block(size_t size, size_t skip, int read) {
  uint8_t *p = malloc(size + skip);
  if (!p) exit(2);
  memset(p, 0xA5, size + skip);
  if (read && fread(p + skip, 1, size, stdin) != size) exit(3);
  return p;
}
int main(void) {
  for (const job *j = jobs; j < jobs + sizeof jobs / sizeof *jobs; j++) {
    uint8_t *k = block(j->constants, 1, 1), *weights = block(j->weights, 0, 1);
    for (size_t n = 0; n < j->examples; n++) {
      uint8_t *scratch = block(j->scratch, 0, 0), *out = block(j->out, 0, 0);
      void *in[8] = {0};
      for (size_t i = 0; i < j->inputs; i++) in[i] = block(j->in[i], 0, 1);
      j->run(k + 1, scratch, (const int8_t *)weights, in, out);
      if (fwrite(out, 1, j->out, stdout) != j->out) exit(4);
      for (size_t i = 0; i < j->inputs; i++) free(in[i]);
      free(scratch);
      free(out);
    }
    free(k);
    free(weights);
  }
  return 0;
}
"""


@dataclass(frozen=True)
class Job:
    """A layer, the codes [examples, ...] that a device holds of what it reads, and of what it makes."""

    name: str
    origin: Model
    model: IntegerModel
    record: IntegerLayer
    inputs: list[np.ndarray]
    wanted: np.ndarray

    @cached_property
    def kernel(self) -> Kernel:
        names = self.record.layer.inputs
        tensors = {
            name: f"(const {TYPES[x.dtype]} *)in[{i}]"
            for i, (name, x) in enumerate(zip(names, self.inputs, strict=True))
        }
        return operation(
            self.model, self.record, tensors | {self.record.layer.name: f"({TYPES[self.wanted.dtype]} *)out"}
        )

    def body(self, curves: dict[str, str]) -> str:
        """Of the C function that runs it; `curves`: tables of activations by their text, which it adds to."""
        kernel, own = self.kernel, self.record
        tag = next((text[1:] for text in re.findall(r"&ET_ACT_l\d+", kernel.call)), None)
        lines = list(kernel.tables)
        if tag:
            lines.insert(0, f"static const et_activation {tag} = {activation(own, curves)};")
        call = kernel.call
        if kernel.row is not None:
            assert own.values is not None
            size = own.values[0].size
            fill = f"memcpy(scratch + {kernel.row}, weights + filter * {size}, {size});"
            call = f"for (int32_t filter = 0; filter < {len(own.values)}; filter++) {{\n{fill}\n{call}\n}}"
        unused = "".join(f"(void){name};" for name in ("k", "scratch", "weights"))
        return "\n".join([*lines, call, unused])

    @property
    def sizes(self) -> str:
        kernel, ins = self.kernel, [x[0].nbytes for x in self.inputs]
        assert len(ins) <= 8
        row = [len(self.wanted), len(self.constants), len(self.weights), kernel.scratch, len(ins)]
        each = ", ".join(map(str, [*ins, *[0] * 8][:8]))
        return f"{', '.join(map(str, row))}, {{{each}}}, {self.wanted[0].nbytes}"

    @property
    def constants(self) -> bytes:
        return numbers(self.origin, self.model, self.record)

    @property
    def weights(self) -> bytes:
        values = self.record.values
        return (
            values.astype(np.int8).tobytes()
            if isinstance(self.record.layer.op, ConvTranspose) and values is not None
            else b""
        )

    @property
    def content(self) -> bytes:
        examples = (b"".join(x[i].tobytes() for x in self.inputs) for i in range(len(self.wanted)))
        return b"".join([self.constants, self.weights, *examples])


def jobs(name: str, origin: Model, model: IntegerModel) -> list[Job]:
    """Every layer that has a kernel here, on codes of all its inputs' range."""
    rng, work = np.random.default_rng(5), []
    for record in model.layers:
        names, own = record.layer.inputs, record.layer.name
        if not isinstance(record.layer.op, ELSEWHERE):
            codes = {n: examples(rng, model.tensors[n], model.plan.shapes[n]) for n in names}
            wanted = as_held(model, own, run_layer(model, record, [codes[n] for n in names]))
            work.append(
                Job(f"{name}: {own}", origin, model, record, [as_held(model, n, codes[n]) for n in names], wanted)
            )
    return work


def examples(rng: np.random.Generator, own: Codes, shape: Shape) -> np.ndarray:
    """Two of any codes, one of the lowest and highest, one of channels full of either: the largest sums that there are."""
    shapes = [(2, *shape), (1, *shape), (1, shape[0], *[1] * (len(shape) - 1))]
    free = rng.integers(own.low, own.high, shapes[0], endpoint=True)
    ends = (np.broadcast_to(rng.choice([own.low, own.high], size), shapes[1]) for size in shapes[1:])
    return np.concatenate([free, *ends]).astype(own.dtype)


def as_held(model: IntegerModel, name: str, codes: np.ndarray) -> np.ndarray:
    """The specification's codes of a tensor as a device holds them."""
    own = held(model, name)
    return np.ascontiguousarray(codes.astype(np.int64) - model.tensors[name].zero_point + own.zero_point).astype(
        own.dtype
    )


def activation(record: IntegerLayer, curves: dict[str, str]) -> str:
    kind = getattr(record.layer.op, "activation", "none")
    if record.table is None:
        return f"{{{'ET_CLAMP' if leak(kind) is None else 'ET_LEAKY'}, 0, 0}}"
    values = ", ".join(map(str, record.table.tolist()))
    table = curves.setdefault(values, f"curve{len(curves)}")
    return f"{{{'ET_RESIDUAL' if kind in RESIDUALS else 'ET_CURVE'}, {len(record.table).bit_length() - 1}, {table}}}"


def source(work: Sequence[Job], changed: Mapping[str, str] | None = None) -> str:
    """The program; `changed`: other texts of fragments."""
    curves: dict[str, str] = {}
    functions: dict[str, int] = {}  # of one text: one function
    rows = [f"  {{run{functions.setdefault(job.body(curves), len(functions))}, {job.sizes}}}," for job in work]
    needed = dict.fromkeys(fragment for job in work for fragment in job.kernel.fragments)
    texts = ["#include <stdint.h>\n#include <string.h>\n#define ET_NEEDS_LEAKY\n#define ET_NEEDS_CURVE", GLUE]
    texts += [fragment(name, changed or {}) for name in ["core.h", *needed]]
    texts += [f"static const int16_t {name}[] = {{{values}}};" for values, name in curves.items()]
    arguments = "const uint8_t *k, uint8_t *scratch, const int8_t *weights, void *const *in, void *out"
    texts += [f"GLUE static void run{i}({arguments}) {{\n{body}\n}}" for body, i in functions.items()]
    return "\n".join([*texts, PROGRAM % "\n".join(rows)])


def fragment(name: str, changed: Mapping[str, str] = MappingProxyType({})) -> str:
    file, _, kind = name.partition(":")
    text = changed.get(file) or (FRAGMENTS / file).read_text()
    return text.replace("ELEMENT", ELEMENTS[kind]).replace("SUFFIX", kind) if kind else text


def run(folder: Path, work: Sequence[Job], *flags: str, **changed: str) -> list[str]:
    """What differs from the specification, or what a sanitizer saw."""
    path, program = folder / "layers.c", folder / "layers"
    path.write_text(source(work, {f"{name}.h": text for name, text in changed.items()}))
    need("cc")
    built = subprocess.run(
        ["cc", *STRICT, *SANITIZED, *flags, str(path), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], input=b"".join(job.content for job in work), capture_output=True, check=False)
    if done.returncode:
        return [done.stderr.decode()]
    return list(differences(work, done.stdout))


def differences(work: Sequence[Job], made: bytes) -> Iterable[str]:
    at = 0
    for job in work:
        own = np.frombuffer(made[at : at + job.wanted.nbytes], job.wanted.dtype).reshape(job.wanted.shape)
        at += job.wanted.nbytes
        if (own != job.wanted).any():
            where = np.argwhere(own != job.wanted)
            first = tuple(where[0])
            yield f"{job.name} ({job.record.layer.op}): {len(where)} of {own.size}, {first}: {own[first]}, not {job.wanted[first]}"
    assert at == len(made)
