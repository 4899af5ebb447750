"""The C reader of a packet: one verdict with the Python reader, and nothing that it accepts does harm, whoever made it."""

import subprocess
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, Case, graph
from tiny_c import need

from edgeticket.compact import compact
from edgeticket.ops import Activation, Add, Flatten, Linear, Mul, conv
from edgeticket.wire import Wire, pack, sealed
from edgeticket.wire_bytes import CHECKSUM, PacketError
from edgeticket.wire_delta import delta, patch
from edgeticket.wire_plan import HEADER, held
from edgeticket.wire_reader import read
from exporters import to_c
from exporters.c_network import Network
from exporters.c_text import array, number_type

BUILD = ["cc", "-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
BUILD += ["-fno-sanitize-recover=all", "-Dnet_UPDATABLE"]
LEAKY = conv(4, dims=1, activation="leaky_relu")
SMALL = graph(
    (1, 4),
    ("a", LEAKY, "x"),
    ("b", conv(4, dims=1), "a"),
    ("s", Add(), "a b"),
    ("f", Flatten(), "s"),
    ("l", Linear(2), "f"),
)
PRODUCT = graph((2, 3, 3), ("q", Activation("none"), "x"), ("m", Mul(), "x q x"), ("c", conv(3), "m"))
PLANS = {
    "small": (Case(SMALL, edges=2, keep=0.7), "seed"),
    "product of sensors": (Case(PRODUCT, keep=1, learned=False), "seed"),
    **{
        what: (CASES[case], form)
        for what, case, form in (
            ("conv with 3 edges", "plain, 3 edges", "seed"),
            ("signs alone", "plain, signs alone", "seed"),
            ("3 edges, learned signs", "plain, 3 edges and flips", "seed"),
            ("stored signs", "residual, 3 edges", "signs"),
            ("Add", "residual, 3 edges", "seed"),
            ("few channels", "slices, shuffle and grouped, few left", "seed"),
            ("Rice", "plain, one weight a filter", "seed"),
            ("Linear", "linear wider than a sign word", "seed"),
            ("flat ids", "flatten then two linear", "seed"),
            ("ConvTranspose", "transposed, 1-D", "seed"),
            ("U-net", "u-net", "seed"),
            ("int16", "plain, int16 sensor", "seed"),
            ("curves", "fused silu", "seed"),
            ("leak", "own leaky_relu:0.2", "seed"),
            ("norms", "norm alone", "signs"),
            ("PRelu", "prelu", "seed"),
            ("products", "attention by broadcast", "seed"),
            ("average pool", "average pool", "seed"),
            ("int8", "u-net", "dense"),
        )
    },
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
/* Differences from the packet on stdin, each after its size and the room for the result: verdict, and checksum of the result. */
static int patches(void) {
  uint8_t sizes[8];
  while (fread(sizes, 8, 1, stdin) == 1) {
    uint32_t n = (uint32_t)et_i32(sizes), room = (uint32_t)et_i32(sizes + 4);
    uint8_t *given = malloc(n + !n), *made = malloc(room + !room);
    if (!given || !made || fread(given, 1, n, stdin) != n) exit(9);
    int wrong = net_patch(packet, sizeof packet, given, n, made, room);
    printf("%d %u\\n", wrong, wrong ? 0 : et_crc(made, (uint32_t)et_i32(given + 8)));
    free(given), free(made);
  }
  return 0;
}
int main(int count, char **words) {
  if (count == 4) return patches();
  if (count == 3) return state = strtoull(words[1], 0, 10), fuzz((uint32_t)strtoul(words[2], 0, 10));
  return count == 2 ? damage() : verdicts();
}
"""


@cache
def packed(plan: str) -> tuple[Wire, Network]:
    case, form = PLANS[plan]
    model = compact(case.ticket())
    wire = pack(model, form)
    return wire, Network(model, wire, "net")


def build(folder: Path, plan: str, old: str = "", new: str = "", flags: Sequence[str] = BUILD) -> Path:
    """A program that holds the network, its packet and what treats it badly. `old` text of the network becomes `new`."""
    need("cc")
    wire, network = packed(plan)
    assert old in network.source()
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
    for file, content in {
        "net.h": network.header(),
        "net.c": network.source().replace(old, new),
        "bad.c": text,
    }.items():
        (folder / file).write_text(content)
    built = subprocess.run(
        [*flags, str(folder / "bad.c"), "-o", str(folder / "bad")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-2000:]
    return folder / "bad"


def run(program: Path, *words: str, given: bytes = b"") -> list[int]:
    done = subprocess.run([str(program), *words], input=given, capture_output=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr.decode()[-2000:])
    return [int(word) for word in done.stdout.split()]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("load"), "small", flags=[*BUILD, "-O0"])


def test_no_flip_of_a_bit_and_no_cut_is_accepted(program):
    assert run(program, "damage") == [0]


def whole(content: bytes) -> bytes:
    """With the length and checksum that it should have."""
    return sealed(content[:4] + (len(content) + CHECKSUM).to_bytes(4, "little") + content[8:])


def changes(packet: bytes, values: bytes, pairs: bytes) -> Iterator[bytes]:
    """Every byte behind the header becomes others, and two in a row; sizes with what they count; more or less at the end."""
    content = packet[:-CHECKSUM]
    for at in range(HEADER, len(content)):
        own, before = content[at], content[:at]
        for value in {0, own ^ 1, own + 1 & 255, *values} - {own}:
            yield whole(before + bytes([value]) + content[at + 1 :])
        for pair in product(pairs[::2], pairs[1::2]):
            yield whole(before + bytes(pair) + content[at + 2 :])
        for end in (at + 1 + own, at + 2 + own):  # as if it were the size of what follows, or follows but one
            if pairs and own < 127 and end <= len(content):
                yield whole(before + bytes([own + 1]) + content[at + 1 : end] + b"\0" + content[end:])
    for cut in range(1, min(64, len(content) - HEADER)):
        yield whole(content[:-cut])
        yield whole(content[:-cut] + b"\0")
        yield whole(content[:-cut] + b"\1\xff\0")  # as if it were an empty map, and no values
    yield whole(content + b"\0")


def mutants(packet: bytes, count: int, seed: int = 3) -> Iterator[bytes]:
    """Changed in one to three places."""
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
        yield whole(bytes(made)) if rng.integers(20) else bytes(made) + bytes(CHECKSUM)


@cache
def corpus(
    plan: str, count: int, values: bytes = b"\x01\x20\x7f\x80\xff", pairs: bytes = b""
) -> tuple[list[bytes], list[int]]:
    """Packets good and bad, and what the Python reader says to each."""
    wire, _ = packed(plan)
    given = [wire.packet, *changes(wire.packet, values, pairs), *mutants(wire.packet, count)]
    return given, [verdict(packet, wire) for packet in given]


def verdict(packet: bytes, wire: Wire) -> int:
    try:
        read(packet, wire.firmware)
    except PacketError as error:
        return error.code
    return 0


def disagreements(program: Path, *which) -> list[tuple[int, int, int]]:
    """Number of the packet, verdicts of Python and C."""
    given, ours = corpus(*which)
    theirs = run(program, given=b"".join(len(packet).to_bytes(4, "little") + packet for packet in given))
    assert ours[0] == 0
    assert {0, 4} <= set(ours)
    return [(i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]


def test_both_readers_give_one_verdict(program):
    which = "small", 100, b"\xff"
    assert disagreements(program, *which) == []
    assert set(corpus(*which)[1]) == {0, 1, 2, 4}


def test_mutants_do_no_harm(program):
    accepted, *refused = run(program, "7", "500")
    assert accepted > 50
    assert refused[-1] > 50


def outcome(base: bytes, difference: bytes) -> tuple[int, int]:
    try:
        return 0, zlib.crc32(patch(base, difference))
    except PacketError as error:
        return error.code, 0


def test_differences_on_the_device(program):
    wire, rng = packed("small")[0], np.random.default_rng(2)
    deltas = [delta(wire.packet, packet) for packet in mutants(wire.packet, 60)]
    for good in deltas[:40]:
        bad = bytearray(good)
        bad[int(rng.integers(len(bad)))] ^= 1 << int(rng.integers(8))
        deltas += [bytes(bad), good[: int(rng.integers(len(good)))], good + b"\0"]
    rooms = [int.from_bytes(one[8:12], "little") if len(one) > 12 else 0 for one in deltas]
    rooms = [room if room < 1 << 16 else 0 for room in rooms]
    sizes = (
        len(one).to_bytes(4, "little") + room.to_bytes(4, "little") for one, room in zip(deltas, rooms, strict=True)
    )
    made = run(program, "a", "b", "c", given=b"".join(size + one for size, one in zip(sizes, deltas, strict=True)))
    ours = [outcome(wire.packet, one) for one in deltas]
    theirs = list(zip(made[::2], made[1::2], strict=True))
    assert [b if b[0] == 5 else a for a, b in zip(ours, theirs, strict=True)] == theirs
    assert {0, 1, 2, 3, 4, 5} <= set(made[::2])


# the exported folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    need("cc", "make")
    path = tmp_path_factory.mktemp("exported") / "net"
    to_c.export(compact(CASES["plain, 3 edges"].ticket()), path)
    return path


def make(folder: Path, *words: str) -> str:
    done = subprocess.run(["make", "-s", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("model", "passed"), [("built-in", 1), ("updatable", 3), ("none", 2)])
def test_the_self_test_loads_the_model(exported, model, passed):
    said = make(exported, "host", f"MODEL={model}", "CFLAGS=-std=c99 -O0 -Wall -Wextra -Werror")
    assert said.count("passed") == passed
    assert "FAILED" not in said


@pytest.mark.slow
@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
@pytest.mark.parametrize("model", ["updatable", "none"])
def test_loading_on_a_core(exported, core, model):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    rows = dict(line.split(maxsplit=1) for line in make(exported, f"run-{core}", f"MODEL={model}").splitlines())
    assert int(rows["load_instructions"]) < int(rows["instructions"].split()[0])
    assert int(rows["load_stack_bytes"]) < int(rows["stack_bytes"])


def test_lists_in_the_code_are_no_data(tmp_path):
    need("cc")
    to_c.export(compact(PLANS["small"][0].ticket()), tmp_path / "net", form="lists")
    build = ["cc", "-std=c99", "-Dnet_UPDATABLE", "-fsyntax-only", str(tmp_path / "net" / "net.c")]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "export it with --form seed or signs" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_mutants_of_every_plan_do_no_harm(plan, tmp_path):
    program = build(tmp_path, plan)
    accepted, *refused = run(program, "7", str(-(-5_000 // len(PLANS))))
    assert accepted > 0
    assert refused[-1] > 0
    assert disagreements(program, plan, 100) == []


@pytest.mark.soak
@pytest.mark.parametrize("plan", PLANS)
def test_many_mutants_do_no_harm(plan, tmp_path):
    program = build(tmp_path, plan)
    accepted, *refused = run(program, "11", str(-(-200_000 // len(PLANS))))
    assert accepted > 0
    assert refused[-1] > 0
    assert disagreements(program, plan, 2_000) == []


# A check of load.h, and a plan on which its absence shows: without it there are other verdicts, or harm.
CHECKS = {
    "k > r->end || count > (uint32_t)(r->end - k)": "small",
    "return ratio[2] - 1u < 46;": "small",
    "factor > 32768 || factor * et_reach(r, s, zeros, i) >= ET_SUMS_END - sum": "small",
    "!et_shift_good(factors + 4u * s->rows - 2)": "small",
    "product > (ET_SUMS_END - 1) / reach": "product of sensors",
    "(form & ET_COUNTS && row[counts] > 1)": "norms",
    "form & ET_BELOW && !et_shift_good(row + ratio + 3)": "PRelu",
    "k[0] > 1": "small",
    "grids[7] - 1u > 30": "small",
    "!grids[8 + f]": "small",
    "!et_shift_good(row + 4)": "small",
    "map[0] == 255 ? size - 1 != (places + 7) / 8 : !et_gap_good(w)": "signs alone",
    "stream[at >> 3] >> (at & 7u)": "small",
    "(map[0] >= 24 && map[0] != 255)": "Rice",
    "high > (w->left - 1) >> m->rice || gap >= w->left": "Rice",
    "bits - at < 8": "Rice",
    "each > most": "small",
    "count % each": "flat ids",
    "!ids[size - 1]": "small",
    "found == count / each": "small",
    "weights[0] != s->coding": "stored signs",
    "weights[1] != s->edges": "small",
    "m->value_bit >= w->value_bits": "3 edges, learned signs",
    "*int8++ != ET_INT8": "small",
    "sums > ET_LIST": "signs alone",
    "size_of_bias >= end": "U-net",
    "sums > (end - 1 - size_of_bias) / reach": "U-net",
    "head[1] > head[2]": "small",
    "head[3] > (s->form == ET_FILTERS)": "small",
    "s->head > 4 && !et_shift_good(head + 4)": "small",
    "head[3] ? 1u << 23 : ET_SUMS_END": "U-net",
    "r.k == r.end": "small",
}
NEUTRAL = {"return ratio[2] - 1u < 46;": "return 1;", "head[3] ? 1u << 23 : ET_SUMS_END": "ET_SUMS_END"}
PAIRS = bytes([2, 1, 3, 3, 5, 128])  # the first of two bytes becomes 2, 3 or 5, the second 1, 3 or 128
TRUE = ("bits - at < 8", "found ==", "r.k ==")  # what must hold; all others must not


@pytest.mark.soak
@pytest.mark.parametrize("check", CHECKS)
def test_every_check_is_needed(check, tmp_path):
    without = NEUTRAL.get(check, "1" if check.startswith(TRUE) else "0")
    program = build(
        tmp_path, CHECKS[check], check, without, [*(flag for flag in BUILD if not flag.startswith("-W")), "-O0"]
    )
    try:
        seen = disagreements(program, CHECKS[check], 300, b"\x20\x7f\xff", PAIRS)
    except AssertionError as harm:
        seen = [harm]
    assert seen
