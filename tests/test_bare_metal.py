"""The example firmware on an emulated Cortex-M4: updates over its serial line, trials, and a watchdog that bites."""

import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from slots_sim import CODES, update
from tiny_c import need

from edgeticket.compact import compact
from edgeticket.ticket import read_ticket
from edgeticket.wire import Wire, pack, sealed
from edgeticket.wire_bytes import CHECKSUM, PacketError
from edgeticket.wire_plan import HEADER
from edgeticket.wire_reader import read
from exporters import to_c

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "bare_metal"
PATIENCE_S = 60
# Ed25519 is the user's and tests/test_slots.py has it; here a signature is the message, changed a little.
VERIFY = """#include "board.h"
int verify(const uint8_t signature[64], const uint8_t *message, size_t size) {
  int wrong = size != 92;
  for (unsigned i = 0; i < 64; i++) wrong |= signature[i] != (uint8_t)(message[28 + i] ^ 0x5A);
  return wrong;
}
"""
HANGS = """#include "board.h"
#include "slots.h"
extern et_slots_model running;
int __real_model_predict(const uint8_t *in, uint8_t *out);
int __wrap_model_predict(const uint8_t *in, uint8_t *out) {
  if (running.slot >= 0 && running.sequence == 7) {
    board_write("hangs\\n");
    for (;;) {}
  }
  return __real_model_predict(in, out);
}
"""


class Key:
    def sign(self, message: bytes) -> bytes:
        return bytes(byte ^ 0x5A for byte in message[28:92])


KEY = Key()


class Board:
    def __init__(self, image: Path) -> None:
        command = ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "stdio"]
        command += ["-icount", "shift=3", "-kernel", str(image)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.said = b""

    def send(self, data: bytes) -> None:
        self.process.stdin.write(data)

    def line(self) -> str:
        end = time.monotonic() + PATIENCE_S
        while b"\n" not in self.said:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            assert ready, f"nothing more after {self.said!r}"
            self.said += self.process.stdout.read(4096)
        line, _, self.said = self.said.partition(b"\n")
        return line.decode()

    def update(self, content: bytes) -> str:
        self.send(b"U" + len(content).to_bytes(4, "little") + content)
        word, code = self.line().split()
        assert word == "update"
        return CODES[int(code)]

    def reset(self, lines: int = 1) -> list[str]:
        self.send(b"R")
        return [self.line() for _ in range(lines)]


@pytest.fixture(scope="module")
def wire() -> Wire:
    return pack(compact(read_ticket(ROOT / "sample_models" / "digits.ticket")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as its README says, but for the two files that the tests bring."""
    need("make", "arm-none-eabi-gcc", "qemu-system-arm")
    made = tmp_path_factory.mktemp("bare") / "metal"
    made.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (made / file.name).write_bytes(file.read_bytes())
    ticket = ROOT / "sample_models" / "digits.ticket"
    to_c.export(compact(read_ticket(ticket)), made / "model")
    words = [sys.executable, "reference.py", str(ticket), "digits", "reference.h"]
    subprocess.run(words, cwd=made, check=True, env={"PYTHONPATH": str(ROOT)})
    (made / "stub.c").write_text(VERIFY)
    (made / "hangs.c").write_text(HANGS)
    words = ["MODEL=model", "VERIFY=stub.c", "MORE=hangs.c", "LDFLAGS=-Wl,--wrap=model_predict"]
    done = subprocess.run(["make", "-s", *words], cwd=made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def board(folder: Path) -> Iterator[Board]:
    made = Board(folder / "build" / "firmware.elf")
    assert made.line() == "boot 0 sequence 1 built-in refused 0 wrong 0"
    yield made
    made.process.kill()
    made.process.communicate()


def signed(sequence: int, wire: Wire, packet: bytes) -> bytes:
    return update(
        sequence, packet, key=KEY, firmware=wire.firmware.digest
    )  # tests/test_slots.py holds it against edgeticket.envelope


def renamed(packet: bytes, name: bytes) -> bytes:
    """The same model under another digest."""
    return sealed(packet[:24] + name.ljust(8)[:8] + packet[HEADER:-CHECKSUM])


def scrambled(wire: Wire) -> bytes:
    """A packet that NAME_load takes, of a model that is no good: bits that may be anything are."""
    rng, packet, changes = np.random.default_rng(0), wire.packet, 0
    while changes < 60:
        body = bytearray(packet[:-CHECKSUM])
        body[int(rng.integers(HEADER, len(body)))] ^= 1 << int(rng.integers(8))
        try:
            read(sealed(bytes(body)), wire.firmware)
        except PacketError:
            continue
        packet, changes = sealed(bytes(body)), changes + 1
    return packet


def kept(board: Board, wire: Wire, sequence: int) -> None:
    """The built-in model's own packet, by way of a trial."""
    assert board.update(signed(sequence, wire, renamed(wire.packet, b"good"))) == "OK"
    assert board.reset(2) == [f"boot 0 sequence {sequence} trial refused 0 wrong 0", "confirm 0"]
    assert board.reset() == [f"boot 0 sequence {sequence} kept refused 0 wrong 0"]


def test_an_update_is_tried_and_kept(board: Board, wire: Wire, folder: Path) -> None:
    kept(board, wire, 2)
    text = (folder / "reference.h").read_text()
    labels = [int(word) for word in re.search(r"_label\[REFERENCES\] = {(.*?)}", text)[1].split(",")]
    frames = re.search(r"reference\[REFERENCES\]\[(\d+)\] = {\n(.*?)}}", text, re.DOTALL)
    rows = np.array(re.findall(r"\d+", frames[2]), np.uint8).reshape(-1, int(frames[1]))
    assert len(set(labels)) > 2
    for row, label in zip(rows, labels, strict=True):
        board.send(b"P" + row.tobytes())
        assert board.line() == f"label {label}"


@pytest.mark.slow
def test_models_that_are_no_good_are_rejected_by_the_board_itself(board: Board, wire: Wire) -> None:
    kept(board, wire, 2)
    for sequence, packet, refused in ((3, scrambled(wire), 0), (4, wire.packet[:-1] + b"\0", 2)):
        assert board.update(signed(sequence, wire, packet)) == "OK"
        first, second, third = board.reset(3)
        wrong = re.fullmatch(rf"boot 0 sequence {sequence} trial refused {refused} wrong (\d+)", first)[1]
        assert refused or int(wrong) > 0
        assert (second, third) == ("reject 0", "boot 0 sequence 2 kept refused 0 wrong 0")


@pytest.mark.slow
def test_a_model_that_hangs_is_ended_by_the_watchdog_and_given_up(board: Board, wire: Wire) -> None:
    kept(board, wire, 2)
    assert board.update(signed(7, wire, renamed(wire.packet, b"hangs"))) == "OK"
    assert board.reset(4) == ["hangs"] * 3 + ["boot 0 sequence 2 kept refused 0 wrong 0"]
    kept(board, wire, 8)


def test_what_must_not_be_used_is_not_even_tried(board: Board, wire: Wire) -> None:
    kept(board, wire, 2)
    good = partial(signed, wire=wire, packet=wire.packet)
    assert board.update(good(3)[:-1] + b"\0") == "DIGEST"
    assert board.update(good(2)) == "OLD"
    assert board.update(update(3, wire.packet, key=None, firmware=wire.firmware.digest)) == "UNSIGNED"
    assert board.update(good(3)[:60] + b"\0" + good(3)[61:]) == "SIGNATURE"
    assert board.update(bytes(9000)) == "TOO_LARGE"
    assert board.reset() == ["boot 0 sequence 2 kept refused 0 wrong 0"]


@pytest.mark.slow
def test_a_transfer_that_is_cut_off_ends_and_the_board_goes_on(board: Board, wire: Wire) -> None:
    kept(board, wire, 2)
    content = signed(3, wire, wire.packet)
    begun = b"U" + len(content).to_bytes(4, "little")
    for sent, said in {
        b"U\xff\xff\xff\xff": "update 3",  # more than a slot takes
        begun[:3]: "update 5",
        begun + content[:-1]: "update 5",
        b"P\0": "frame cut off",
    }.items():
        board.send(sent)
        assert board.line() == said
    assert board.reset() == ["boot 0 sequence 2 kept refused 0 wrong 0"]
    assert board.update(content) == "OK"
