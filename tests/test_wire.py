"""The packet holds the integer network, in the bytes that docs/packet.md says, and its reader refuses everything else."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import random_networks
from cases import CASES, Case, chain, graph
from click.testing import CliRunner

from edgeticket.architectures.conv import plan as conv_plan
from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.errors import EquivalenceError, UnsupportedError, UsageError
from edgeticket.ops import Flatten, Linear, Mul, conv
from edgeticket.packing import FORMS, pack_ticket, proven
from edgeticket.wire import pack, sealed
from edgeticket.wire_bytes import CUT, DAMAGED, FOREIGN, MALFORMED, PacketError
from edgeticket.wire_delta import delta, patch
from edgeticket.wire_reader import read

DOCS = Path(__file__).parent.parent / "docs" / "packet.md"
EXAMPLE = Case(chain((1, 4), conv(4, dims=1), Flatten(), Linear(2)), edges=2, keep=0.7, learned=False, seed=3)


def wired(case: Case, form: str = "seed"):
    return pack(compact(case.ticket()), form)


def code_of(packet: bytes, wire) -> int:
    with pytest.raises(PacketError) as caught:
        read(packet, wire.firmware)
    return caught.value.code


def check_round_trip(case: Case, form: str) -> None:
    wire = wired(case, form)
    contents = proven(wire)
    assert sum(contents.parts.values()) == len(wire.packet)
    assert set(contents.numbers) >= set(wire.codings)


@pytest.mark.parametrize(("name", "form"), list(zip(CASES, cycle(FORMS))))
def test_the_packet_holds_the_integer_network(name, form):
    check_round_trip(CASES[name], form)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_packet_holds_every_integer_network(form):
    for case in (*CASES.values(), *(random_networks.case(seed) for seed in range(100))):
        with suppress(UnsupportedError):  # of the integer network
            check_round_trip(case, form)


def test_another_network_is_no_proof():
    wire = wired(EXAMPLE)
    layers = [
        replace(record, high=record.high - 1) if record.bias is not None else record for record in wire.integer.layers
    ]
    with pytest.raises(EquivalenceError, match="layer l0"):
        proven(replace(wire, integer=replace(wire.integer, layers=tuple(layers))))
    values = [
        record.values * (1 if i else -1) if record.values is not None else None
        for i, record in enumerate(wire.integer.layers)
    ]
    layers = [replace(record, values=v) for record, v in zip(wire.integer.layers, values, strict=True)]
    with pytest.raises(EquivalenceError, match="layer l0"):
        proven(replace(wire, integer=replace(wire.integer, layers=tuple(layers))))


def test_the_example_of_the_documents():
    rows = re.findall(r"^ {4}((?:[0-9a-f]{2} )+) ", DOCS.read_text(), re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == wired(EXAMPLE).packet
    numbers = read(wired(EXAMPLE).packet, wired(EXAMPLE).firmware).numbers
    assert numbers["l0"].bias.tolist() == [44, 23, -122]
    assert numbers["l2"].multiplier.tolist() == [-21871, -20729]


def test_no_flip_of_a_bit_and_no_cut_is_accepted():
    wire = wired(EXAMPLE)
    for bit in range(8 * len(wire.packet)):
        wrong = bytearray(wire.packet)
        wrong[bit // 8] ^= 1 << bit % 8
        assert code_of(bytes(wrong), wire) in (CUT, DAMAGED)
    for size in range(len(wire.packet)):
        assert code_of(wire.packet[:size], wire) == CUT
    assert code_of(wire.packet + b"\0", wire) == CUT


def changed(packet: bytes, at: int, new: bytes) -> bytes:
    return sealed(packet[:at] + new + packet[at + len(new) : -4])


@pytest.mark.parametrize(
    ("at", "new", "what"),
    [
        (35, "05 04", "lowest code 5 above highest 4"),
        (37, "02", "flags 2"),
        (38, "02", "constants of filters of kind 2"),
        (42, "40", "a shift beyond 1 to 46"),
        (46, "00", "exponent 0 of its biases"),
        (46, "20", "exponent 32 of its biases"),
        (48, "00", "a scale of 0"),
        (53, "02", "weights of kind 2, not 1"),
        (54, "03", "3 edges, not 2"),
        (56, "02", "each id stands for 2 of 3"),
        (56, "00", "each id stands for 0 of 3"),
        (57, "0f", "4 ids, not 3"),
        (57, "00", "0 ids, not 3"),
        (59, "02", "mask: not 9 bits"),
        (60, "18", "mask: no Rice parameter"),
        (62, "02", "mask: not 9 bits"),
        (63, "02", "its values have bytes left over"),
        (64, "a0", "its values have bytes left over"),
    ],
)
def test_what_is_refused(at, new, what):
    wire = wired(EXAMPLE)
    with pytest.raises(PacketError, match=f"l0: {what}") as caught:
        read(changed(wire.packet, at, bytes.fromhex(new)), wire.firmware)
    assert caught.value.code == MALFORMED


def test_another_firmware():
    wire, other = wired(EXAMPLE), wired(replace(EXAMPLE, edges=3))
    assert code_of(other.packet, wire) == FOREIGN
    assert wire.firmware.digest.hex() in str(_error(other.packet, wire))
    longer = sealed(wire.packet[:4] + (len(wire.packet) + 1).to_bytes(4, "little") + wire.packet[8:-4] + b"\0")
    assert "left over" in str(_error(longer, wire))


def _error(packet: bytes, wire) -> PacketError:
    with pytest.raises(PacketError) as caught:
        read(packet, wire.firmware)
    return caught.value


def test_what_a_firmware_is_made_for():
    same = wired(CASES["plain, signs alone"]).firmware
    again = compact(replace(CASES["plain, signs alone"], seed=7, density=0.3).ticket())
    assert pack(again).firmware.digest == same.digest  # another ticket of the same plan and kept channels
    others = [
        wired(CASES["plain, signs alone"], "signs"),
        wired(CASES["plain, signs alone"], "dense"),
        wired(CASES["plain, zero offset"]),
        wired(replace(CASES["plain, signs alone"], edges=2)),
        wired(replace(CASES["plain, signs alone"], dtype="int16")),
        wired(replace(CASES["plain, signs alone"], dtype="float32")),
    ]
    digests = {wire.firmware.digest for wire in others}
    assert len(digests) == len(others)
    assert same.digest not in digests


def test_offsets_decide_how_a_sensor_is_held():
    plan = chain((2, 5, 5), conv(4), Flatten(), Linear(2))
    one, two = wired(Case(plan, zero_offset=True, keep=1)), wired(Case(plan, keep=1))
    assert one.firmware.digest != two.firmware.digest


def test_a_model_whose_sums_pass_a_device_s_is_refused():
    plan = graph((2, 3, 3), ("a", conv(2), "x"), ("b", conv(2), "a"), ("m", Mul(), "x a b"), ("n", Mul(), "m a b m"))
    with pytest.raises(UnsupportedError, match=r"n: its sums may reach 2147483648"):
        proven(wired(Case(plan, dtype="uint8", keep=1)))


# differences


def test_a_difference_makes_the_packet_again():
    rng, base = np.random.default_rng(5), wired(CASES["plain"]).packet
    for _ in range(200):
        new = bytearray(base)
        for _ in range(rng.integers(4)):
            at, width = int(rng.integers(len(new))), int(rng.integers(1, 9))
            new[at : at + int(rng.integers(9))] = rng.integers(0, 256, width, np.uint8).tobytes()
        assert patch(base, delta(base, sealed(bytes(new)))) == sealed(bytes(new))
    assert len(delta(base, base)) < 24
    assert patch(base, delta(base, sealed(b""))) == sealed(b"")


def test_a_damaged_difference_is_refused():
    base, new = wired(EXAMPLE).packet, wired(replace(EXAMPLE, seed=4, keep=1)).packet
    whole = delta(base, new)
    for size in range(len(whole)):
        with pytest.raises(PacketError):
            patch(base, whole[:size])
    for bit in range(8 * len(whole)):
        wrong = bytearray(whole)
        wrong[bit // 8] ^= 1 << bit % 8
        with suppress(PacketError):  # or it does no harm, as in what is skipped behind the last copy
            assert patch(base, bytes(wrong)) == new
    for wrong_base, code in ((new, FOREIGN), (b"", FOREIGN)):
        with pytest.raises(PacketError) as caught:
            patch(wrong_base, whole)
        assert caught.value.code == code


# the command


@pytest.fixture
def ticket(tmp_path) -> Path:
    path = tmp_path / "x.ticket"
    CASES["plain, 3 edges"].ticket().write(path)
    return path


def invoke(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_writes_what_the_firmware_reads(ticket, tmp_path):
    out = tmp_path / "x.packet"
    told = json.loads(invoke("pack", ticket, "-o", out, "--format", "json"))
    wire = wired(CASES["plain, 3 edges"])
    assert out.read_bytes() == wire.packet
    assert told["bytes"] == sum(told["parts"].values()) == len(wire.packet)
    assert told["firmware"] == wire.firmware.digest.hex()
    assert wire.firmware.digest.hex() in invoke("pack", ticket, "-o", out, "--overwrite")
    assert CliRunner().invoke(main, ["pack", str(ticket), "-o", str(out)]).exit_code == 2


def test_the_command_writes_a_difference(ticket, tmp_path):
    old, new = tmp_path / "old.packet", tmp_path / "x.delta"
    invoke("pack", ticket, "-o", old)
    invoke("pack", ticket, "--against", old, "-o", new)
    assert patch(old.read_bytes(), new.read_bytes()) == old.read_bytes()
    foreign = CliRunner().invoke(
        main, ["pack", str(ticket), "--form", "signs", "--against", str(old), "-o", str(tmp_path / "y")]
    )
    assert foreign.exit_code == 1
    assert "made for firmware" in foreign.output
    assert not (tmp_path / "y").exists()


def test_another_form_is_refused(ticket, tmp_path):
    with pytest.raises(UsageError, match="take one of seed, signs, dense"):
        pack_ticket(CASES["plain"].ticket(), tmp_path / "x", form="lists")


@pytest.mark.parametrize(
    "choice", [{"density": 0.5}, {"density": 0.25}, {"density": 0.1}, {"edges": 3, "density": 1 / 6}, {"flips": True}]
)
def test_a_packet_is_near_the_entropy_of_what_it_holds(choice, tmp_path):
    case = Case(conv_plan(16, 32, 32, input=(1, 28, 28), classes=10), learned=False, keep=1, zero_offset=True, **choice)
    done = pack_ticket(case.ticket(), tmp_path / "x.packet")
    assert sum(done.entropy.values()) * 0.999 < done.written <= 1.05 * sum(done.entropy.values()) + 64
