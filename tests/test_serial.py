"""The serial target, against real firmware in an emulator behind a pseudo-terminal."""

import os
import re
import subprocess
import threading
import time

import numpy as np
import pytest
import tiny_c

from edgeticket.bench import bench, table
from edgeticket.errors import EdgeTicketError, EquivalenceError, UsageError
from edgeticket.targets import on_serial

BOARD = "m4"


@pytest.fixture
def boot(tmp_path):
    """Builds a folder's firmware and starts it: the pseudo-terminal."""
    tiny_c.need("make", "arm-none-eabi-gcc", "qemu-system-arm")
    running = []

    def start(folder):
        command = ["make", "-s", "-C", str(folder), "serial", f"BOARD={BOARD}"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        running.append(process)
        for line in process.stdout:
            if match := re.search(r"redirected to (/dev/\S+)", line):
                return match[1]
        raise AssertionError("no pseudo-terminal")

    yield start
    for process in running:
        os.killpg(process.pid, 15)
        process.wait()


class Board:
    """Answers by a table behind a pseudo-terminal; a command that is not in it gets nothing."""

    def __init__(self, answers):
        self.answers = answers
        self.own, other = os.openpty()
        self.device = os.ttyname(other)
        self.other = other
        self.heard = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        unread = b""
        while True:
            try:
                unread += os.read(self.own, 1000)
            except OSError:
                return
            while b"%" in unread:
                command, _, unread = unread.partition(b"%")
                self.heard.append(command.decode())
                answer = self.answers.get(command.split()[0].decode())
                if answer is not None:
                    os.write(self.own, answer.replace("\n", "\r\n").encode())

    def close(self):
        os.close(self.other)
        os.close(self.own)


GOOD = {
    "name": "m-name-dut-[x]\nm-ready\n",
    "profile": "m-profile-[p]\nm-model-[tiny]\nm-digest-[00]\nm-ready\n",
    "db": "m-load-done\nm-ready\n",
    "infer": "m-lap-us-4294967290\nm-lap-us-4\nm-results-[1,-2,3,4]\nm-ready\n",
}


@pytest.fixture
def board(request):
    made = Board({**GOOD, **getattr(request, "param", {})})
    yield made
    made.close()


@pytest.mark.slow
def test_firmware_in_an_emulator(boot, tmp_path):
    folder = tiny_c.write(tmp_path / "d", size=160)
    device = boot(folder)
    (report,) = bench([folder], on=f"serial:{device}", runs=30, warmup=2)
    assert len(report.samples["wall_ms"]) == 30
    assert (report.cost.how, report.target) == ("measured", f"serial:{device}")
    assert (report.details["selftest"], report.details["vectors"]) == ("passed", 4)
    assert report.details["energy"] == "not measured"
    assert report.environment["model"] == "tiny"
    assert f"target serial:{device}, measured" in table([report])
    other = tiny_c.write(tmp_path / "e", size=160, flaw=1)
    with pytest.raises(EquivalenceError, match=r"e on serial:.*: vector 2: 1 of 4 codes wrong"):
        bench([other], on=f"serial:{device}", runs=1)
    (other / "tiny.h").write_text((other / "tiny.h").read_text().replace('"00"', '"ab"'))
    with pytest.raises(EquivalenceError, match=r"another network \(digest 00, not ab\): flash this one"):
        bench([other], on=f"serial:{device}", runs=1)


@pytest.mark.slow
def test_the_firmware_refuses_what_it_does_not_know(boot, tmp_path):
    device = boot(tiny_c.write(tmp_path / "d"))
    with on_serial.opened(device) as line:
        on_serial._introduced(line, tmp_path, "")
        for command in (
            "bogus",
            "db load 15",
            "db load",
            "db zz",
            "db 0",
            "infer 0",
            "infer x",
            "infer 1 -1",
            "x" * 81,
        ):
            with pytest.raises(EdgeTicketError, match="the board says"):
                line.ask(command)
        assert line.ask("db load 16") == ["m-[Expecting 16 bytes]"]
        assert line.ask(f"db {'0A' * 15}") == []
        assert line.ask("db 0b") == ["m-load-done"]
        said = line.ask("infer 2 1")
        assert said[:3] == ["m-warmup-start-1", "m-warmup-done", "m-infer-start-2"]
        assert said[-1] == line.ask("results")[0]


def test_a_board_s_clock_may_wrap(board):
    with on_serial.opened(board.device) as line:
        assert on_serial._infer(line, 3, time.monotonic() + 5) == (0.01, [1, -2, 3, 4])
    assert board.heard == ["infer 1 3"]


def test_input_goes_in_pieces_that_a_board_can_hold(board):
    content = bytes(range(100))
    with on_serial.opened(board.device) as line:
        on_serial._load(line, content)
    assert board.heard[0] == "db load 100"
    assert max(map(len, board.heard)) < 80
    assert bytes.fromhex("".join(command.removeprefix("db ") for command in board.heard[1:])) == content


@pytest.mark.parametrize(
    ("board", "says"),
    [
        ({"infer": "m-ready\n"}, "not the answer of this protocol"),
        ({"infer": "e-[NAME_predict returned 3]\nm-ready\n"}, r"infer: the board says 'NAME_predict returned 3'"),
        ({"db": None}, "no answer to 'db'"),
    ],
    indirect=["board"],
)
def test_answers_that_are_none(board, says, tmp_path, monkeypatch):
    monkeypatch.setattr(on_serial.Line.ask, "__defaults__", (2,))
    with pytest.raises(EdgeTicketError, match=says):
        bench([tiny_c.write(tmp_path / "d")], on=f"serial:{board.device}", timeout_s=5)


def test_vectors_are_read_from_the_self_test(tmp_path):
    text = (tiny_c.write(tmp_path / "d") / "tiny_selftest.c").read_text()
    (inputs,), (outputs,) = on_serial.arrays(text, "in"), on_serial.arrays(text, "expected")
    np.testing.assert_array_equal(inputs, tiny_c.INPUTS)
    assert (inputs.dtype, outputs.shape) == (np.int8, (4, 4))
    (wide,) = on_serial.arrays("static const uint16_t et_in0[1][2] = {{1, 258}};", "in")
    assert wide.tobytes() == bytes([1, 0, 2, 1])


def test_addresses_and_requests_that_make_no_sense(tmp_path):
    folder = tiny_c.write(tmp_path / "d")
    for wrong in ("ttyACM0", "/dev/ttyACM0@12345"):
        with pytest.raises(UsageError, match="write serial:DEVICE"):
            bench([folder], on=f"serial:{wrong}")
    with pytest.raises(EdgeTicketError, match="No such file or directory"):
        bench([folder], on=f"serial:{tmp_path}/none")
    with pytest.raises(EdgeTicketError, match="not a serial line"):
        bench([folder], on=f"serial:{folder / 'tiny.c'}")
    with pytest.raises(UsageError, match="one network"):
        bench([folder, folder], on="serial:/dev/ttyACM0")
