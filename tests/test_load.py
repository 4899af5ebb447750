"""The C reader of a packet: one verdict with the Python reader, and nothing that it accepts does harm, whoever made it."""

import subprocess
from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from tiny_c import need

from edgeticket.compact import compact
from edgeticket.wire import Wire, pack, sealed
from edgeticket.wire_plan import HEADER, held
from edgeticket.wire_reader import CHECKSUM, PacketError, read
from exporters.c_network import Network
from exporters.c_text import array, number_type

BUILD = ["cc", "-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
BUILD += ["-fno-sanitize-recover=all", "-Dnet_UPDATABLE"]
PLANS = {
    "conv with 3 edges": ("plain, 3 edges", "seed"),
    "signs alone": ("plain, signs alone", "seed"),
    "3 edges, learned signs": ("plain, 3 edges and flips", "seed"),
    "stored signs": ("residual, 3 edges", "signs"),
    "Add": ("residual, 3 edges", "seed"),
    "few channels": ("slices, shuffle and grouped, few left", "seed"),
    "Rice": ("plain, one weight a filter", "seed"),
    "Linear": ("linear wider than a sign word", "seed"),
    "flat ids": ("flatten then two linear", "seed"),
    "ConvTranspose": ("transposed, 1-D", "seed"),
    "U-net": ("u-net", "seed"),
    "int16": ("plain, int16 sensor", "seed"),
    "curves": ("fused silu", "seed"),
    "leak": ("own leaky_relu:0.2", "seed"),
    "norms": ("norm alone", "signs"),
    "PRelu": ("prelu", "seed"),
    "products": ("attention by broadcast", "seed"),
    "average pool": ("average pool", "seed"),
    "int8": ("u-net", "dense"),
}

# Mutants are where the allocator ends: a byte too far is seen. Inputs are at their ends in turn, for the largest sums.
PROGRAM = """#include "net.c"
#include <stdio.h>
#include <stdlib.h>
static const uint8_t packet[] = PACKET;
BUFFERS
static uint64_t state;
static uint32_t below(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return n ? (uint32_t)((state >> 33) % n) : 0;
}
static void put(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}
static void fill(void *to, uint32_t size, unsigned how) {
  uint8_t *p = to;
  for (uint32_t i = 0; i < size; i++) p[i] = how == 0 ? 0 : how == 1 ? 255 : how == 2 ? (i & 1 ? 128 : 0) : how == 3 ? (i & 1 ? 127 : 255) : (uint8_t)below(256);
}
static int infer(unsigned how) {
  FILL
  return net_predict(PASSED);
}
/* One to three changes behind the header, or of the seed; a few bytes more or less; then the frame is made good again. */
static uint8_t *mutant(uint32_t *size) {
  static uint8_t own[sizeof packet + 16];
  uint32_t n = sizeof packet - 4, end;
  memcpy(own, packet, n);
  for (uint32_t changes = 1 + below(3); changes; changes--) {
    uint32_t at = below(8) ? 32 + below(n - 32) : 8 + below(8), count = 1 + below(4);
    switch (below(8)) {
      case 0: case 1: own[at] ^= (uint8_t)(1u << below(8)); break;
      case 2: own[at] = 0; break;
      case 3: own[at] = 255; break;
      case 4: own[at] = (uint8_t)below(256); break;
      case 5: own[at] = (uint8_t)(own[at] + (below(2) ? 1 : 255)); break;
      case 6:
        if (at < 32 || n + count > sizeof own - 4) break;
        memmove(own + at + count, own + at, n - at), fill(own + at, count, below(5)), n += count;
        break;
      default:
        if (at < 32 || n < at + count) break;
        memmove(own + at, own + at + count, n - at - count), n -= count;
        if (!below(4)) n = at;
    }
  }
  end = n + 4;
  put(own + 4, end), put(own + n, et_crc(own, n));
  uint8_t *made = malloc(end);
  if (!made) exit(9);
  memcpy(made, own, end);
  *size = end;
  return made;
}
static int fuzz(uint32_t count) {
  uint32_t verdicts[5] = {0}, size;
  for (; count; count--) {
    uint8_t *made = mutant(&size);
    int verdict = net_load(made, size);
    verdicts[verdict]++;
    if (!verdict && infer(count % 5)) exit(8);
    if (net_load(packet, sizeof packet)) exit(7);
    free(made);
  }
  printf("%u %u %u %u %u\\n", verdicts[0], verdicts[1], verdicts[2], verdicts[3], verdicts[4]);
  return 0;
}
/* Every flip of a bit and every cut of the packet: how many are accepted. */
static int damage(void) {
  unsigned accepted = 0;
  for (uint32_t size = 0; size <= sizeof packet; size++) {
    uint8_t *cut = malloc(size + !size);
    if (!cut) exit(9);
    memcpy(cut, packet, size);
    for (uint32_t bit = 0; size == sizeof packet && bit < 8 * size; bit++) {
      cut[bit / 8] ^= (uint8_t)(1u << bit % 8);
      accepted += !net_load(cut, size);
      cut[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    accepted += size < sizeof packet && !net_load(cut, size);
    free(cut);
  }
  printf("%u\\n", accepted);
  return 0;
}
/* Packets on stdin, each after its size: their verdicts. */
static int verdicts(void) {
  uint8_t size[4];
  while (fread(size, 4, 1, stdin) == 1) {
    uint32_t n = (uint32_t)et_i32(size);
    uint8_t *given = malloc(n + !n);
    if (!given || fread(given, 1, n, stdin) != n) exit(9);
    printf("%d\\n", net_load(given, n));
    if (net_load(packet, sizeof packet)) exit(7);
    free(given);
  }
  return 0;
}
int main(int count, char **words) {
  if (count == 3) return state = strtoull(words[1], 0, 10), fuzz((uint32_t)strtoul(words[2], 0, 10));
  return count == 2 ? damage() : verdicts();
}
"""


@cache
def packed(case: str, form: str) -> tuple[Wire, Network]:
    model = compact(CASES[case].ticket())
    wire = pack(model, form)
    return wire, Network(model, wire, "net")


def build(folder: Path, wire: Wire, network: Network) -> Path:
    """A program that holds the network, its packet and what treats it badly."""
    need("cc")
    integer, steps = wire.integer, network.steps
    inputs = [(steps.raw_type(name), prod(shape)) for name, shape in integer.plan.inputs.items()]
    outputs = [
        (number_type(held(integer, name).dtype), prod(integer.plan.shapes[name])) for name in integer.plan.outputs
    ]
    names = [f"in{i}" for i in range(len(inputs))] + [f"out{i}" for i in range(len(outputs))]
    buffers = (f"static {kind} {n}[{size}];" for n, (kind, size) in zip(names, inputs + outputs, strict=True))
    parts = {
        "PACKET": array(list(wire.packet)),
        "BUFFERS": "\n".join(buffers),
        "FILL": " ".join(f"fill({name}, sizeof {name}, how);" for name in names[: len(inputs)]),
        "PASSED": ", ".join(names),
    }
    text = PROGRAM
    for word, part in parts.items():
        text = text.replace(word, part)
    folder.mkdir(exist_ok=True)
    for file, content in {"net.h": network.header(), "net.c": network.source(), "bad.c": text}.items():
        (folder / file).write_text(content)
    built = subprocess.run(
        [*BUILD, str(folder / "bad.c"), "-o", str(folder / "bad")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-2000:]
    return folder / "bad"


def run(program: Path, *words: str, given: bytes = b"") -> list[int]:
    done = subprocess.run([str(program), *words], input=given, capture_output=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr.decode()[-2000:])
    return [int(word) for word in done.stdout.split()]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("load"), *packed(*PLANS["conv with 3 edges"]))


def test_no_flip_of_a_bit_and_no_cut_is_accepted(program):
    assert run(program, "damage") == [0]


def mutants(packet: bytes, count: int, seed: int = 3) -> Iterator[bytes]:
    """Changed in one to three places, most with the frame made good again."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        made = bytearray(packet[:-CHECKSUM])
        for _ in range(rng.integers(1, 4)):
            at, width = int(rng.integers(HEADER, len(made))), int(rng.integers(1, 4))
            how = rng.integers(6)
            if how < 3:
                made[at] = (made[at] ^ 1 << int(rng.integers(8)), int(rng.integers(256)), int(rng.choice([0, 255])))[
                    how
                ]
            elif how == 3:
                made[at] = made[at] + int(rng.choice([1, 255])) & 255
            elif how == 4:
                made[at:at] = rng.integers(0, 256, width, np.uint8).tobytes()
            elif len(made) - width > HEADER:
                del made[at : at + width]
        made[4:8] = (len(made) + CHECKSUM).to_bytes(4, "little")
        yield sealed(bytes(made)) if rng.integers(20) else bytes(made) + bytes(CHECKSUM)


def verdict(packet: bytes, wire: Wire) -> int:
    try:
        read(packet, wire.firmware)
    except PacketError as error:
        return error.code
    return 0


def disagreements(program: Path, wire: Wire, count: int) -> tuple[list[tuple[int, int, int]], set[int]]:
    given = [wire.packet, *mutants(wire.packet, count)]
    theirs = run(program, given=b"".join(len(p).to_bytes(4, "little") + p for p in given))
    ours = [verdict(p, wire) for p in given]
    assert ours[0] == 0
    return [(i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b], set(ours)


def test_both_readers_give_one_verdict(program):
    different, seen = disagreements(program, packed(*PLANS["conv with 3 edges"])[0], 400)
    assert different == []
    assert seen == {0, 2, 4}


def test_mutants_do_no_harm(program):
    accepted, *refused = run(program, "7", "500")
    assert accepted > 50
    assert refused[-1] > 50


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_mutants_of_every_plan_do_no_harm(plan, tmp_path):
    wire, network = packed(*PLANS[plan])
    program = build(tmp_path, wire, network)
    accepted, *refused = run(program, "7", str(-(-5_000 // len(PLANS))))
    assert accepted > 0
    assert refused[-1] > 0
    assert disagreements(program, wire, 100)[0] == []


@pytest.mark.soak
@pytest.mark.parametrize("plan", PLANS)
def test_many_mutants_do_no_harm(plan, tmp_path):
    wire, network = packed(*PLANS[plan])
    program = build(tmp_path, wire, network)
    accepted, *refused = run(program, "11", str(-(-200_000 // len(PLANS))))
    assert accepted > 0
    assert refused[-1] > 0
    assert disagreements(program, wire, 2_000)[0] == []
