"""Tickets, packets, updates and bundles that were mutated, under seals and checksums that were made right again: no crash, no hang.

A reader of such bytes raises an EdgeTicketError or returns, within a second and 16 MiB plus twice the file.
"""

import hashlib
import json
import random
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bundles import CASE, CLASS, KEY, PUB, SEQUENCE, forge, place, small, unchecked
from cases import CASES
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from edgeticket import bundle_check, bundle_file, envelope, ticket_file
from edgeticket.compact import compact
from edgeticket.errors import EdgeTicketError
from edgeticket.ticket import parse_ticket
from edgeticket.wire import pack
from edgeticket.wire_delta import delta, patch
from edgeticket.wire_reader import read as read_packet

CHECK = 20_000
SHARD, SHARDS = 200_000, 100  # of 20 million: one that was stopped is run again alone
SECONDS, MEMORY = 1.0, 16 << 20
MEASURED = 20  # of as many mutants one is measured for its memory, which makes it slow
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"0",
    b"-1",
    b"1e9",
    b"null",
    b"true",
    b"\\u0000",
    b"\xff" * 4,
    b"\0" * 4,
]


@dataclass(frozen=True)
class Kind:
    """`sound`: makes what is read first right again; `accept`: the reader."""

    sources: list[bytes]
    sound: Callable[[bytes], bytes]
    accept: Callable[[bytes], object]
    share: float = 0.199  # of all mutants


def resealed_ticket(content: bytes) -> bytes:
    """Its tensors, and the JSON if it is still one, under a seal that fits."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][ticket_file.KEY])
        return ticket_file.encode(header, load_tensors(content))
    except (ValueError, KeyError, TypeError, SafetensorError, EdgeTicketError, RecursionError):
        return content


def with_checksum(packet: bytes) -> bytes:
    whole = packet[:4] + len(packet).to_bytes(4, "little") + packet[8:-4]
    return whole + zlib.crc32(whole).to_bytes(4, "little")


def resealed_bundle(content: bytes) -> bytes:
    """Its manifest if it is still JSON, with the digests of its files and a seal that fits."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][bundle_file.KEY])
        at = 8 + length
        for entry in header["manifest"]["files"]:
            entry["sha256"] = hashlib.sha256(content[at : at + entry["bytes"]]).hexdigest()
            at += entry["bytes"]
        return unchecked(header["manifest"], content[8 + length :])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return content


def resealed_update(content: bytes) -> bytes:
    packet = content[envelope.HEADER :]
    lengths = {
        4: len(content).to_bytes(4, "little"),
        36: len(packet).to_bytes(4, "little"),
        40: hashlib.sha256(packet).digest(),
    }
    whole = bytearray(content)
    for at, value in lengths.items():
        whole[at : at + len(value)] = value
    return bytes(whole)


def kinds(folder: Path) -> dict[str, Kind]:
    tickets = [CASES[name].ticket() for name in ("plain", "residual", "1-D")]
    wires = [pack(compact(ticket)) for ticket in tickets]
    firmwares = {wire.firmware.digest: wire.firmware for wire in wires}
    packets = [wire.packet for wire in wires]
    device = {"target_class": CLASS, "firmware": wires[0].firmware.digest, "after": SEQUENCE - 1}
    made = place(folder)
    whole = made.ship("x.bundle", "a.onnx").content

    def read_any(packet: bytes) -> object:
        return read_packet(packet, firmwares.get(packet[16:24], wires[0].firmware))

    def deep(content: bytes) -> object:
        """A stranger's file in the place of a right one, in a bundle that is right all the same."""
        name = random.Random(len(content)).choice(["a.ticket", "a.onnx", "golden.safetensors", "claims.json"])
        named = {"ticket": hashlib.sha256(content).hexdigest()} if name == "a.ticket" else {}
        return bundle_check.check(forge(whole, None, {name: content}, **named))

    inner = list(bundle_file.read(whole).files.values())
    return {
        "ticket": Kind([ticket.to_bytes() for ticket in tickets], resealed_ticket, parse_ticket),
        "packet": Kind(packets, with_checksum, read_any),
        "difference": Kind([delta(packets[0], packets[1])], bytes, lambda content: patch(packets[0], content)),
        "update": Kind(
            [envelope.pack(packets[0], CLASS, SEQUENCE, KEY)],
            resealed_update,
            lambda content: (envelope.parse(content), envelope.check(content, [PUB], **device)),
        ),
        "bundle": Kind([small(), small(None), whole], resealed_bundle, bundle_file.read),
        "files of a bundle": Kind(inner, resealed_ticket, deep, share=0.005),
    }


def mutants(kind: Kind, count: int, seed: int) -> Iterator[bytes]:
    """Every other one made sound again, so that it is looked into."""
    chance = random.Random(seed)
    for i in range(count):
        content = bytearray(chance.choice(kind.sources))
        for _ in range(chance.choice((1, 1, 2, 4))):
            mutate(content, chance)
        yield kind.sound(bytes(content)) if i % 2 else bytes(content)


def mutate(content: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(content) + 1), chance.choice((1, 1, 2, 4, 8, 64))
    what = chance.randrange(6)
    if what == 0 and content:
        content[at % len(content)] ^= 1 << chance.randrange(8)
    elif what == 1:
        content[at : at + size] = chance.randbytes(size)
    elif what == 2:
        content[at:at] = chance.choice(TOKENS)
    elif what == 3:
        del content[at : at + size]
    elif what == 4:
        content[at : at + 1] = chance.choice(TOKENS)
    else:
        other = chance.randrange(len(content) + 1)
        content[at : at + size] = content[other : other + size]


def outcome(accept: Callable[[bytes], object], mutant: bytes, measured: bool) -> str:
    """How a reader ends; AssertionError for a hang or for too much memory, and any error that is not ours is let through."""
    if measured:
        tracemalloc.start()
    begin = time.thread_time()
    try:
        accept(mutant)
        return "accepted"
    except EdgeTicketError as error:
        return str(getattr(error, "code", type(error).__name__))
    finally:
        seconds = time.thread_time() - begin
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
        tracemalloc.stop()
        assert measured or seconds < SECONDS, f"{seconds:.1f} s"
        assert peak <= MEMORY + 2 * len(mutant), f"{peak:,} bytes for {len(mutant):,}"


def campaign(folder: Path, total: int, seed: int) -> dict[str, Counter[str]]:
    every = kinds(folder)
    found = {}
    for name, kind in every.items():
        found[name] = Counter[str]()
        for i, mutant in enumerate(mutants(kind, round(kind.share * total), seed)):
            try:
                end = outcome(kind.accept, mutant, i % MEASURED == 0)
                assert name != "update" or end != "accepted" or mutant in kind.sources  # it is signed
                found[name][end] += 1
            except Exception as error:
                (folder / "mutant").write_bytes(mutant)
                raise AssertionError(f"{name}, mutant {i} of seed {seed}, kept as {folder / 'mutant'}") from error
    return found


def require_depth(found: dict[str, Counter[str]]) -> None:
    """Mutants got as far as they should: past seals and checksums, to many different ends."""
    assert found["bundle"].keys() >= {"cut", "damaged", "manifest", "version", "digest"}
    assert found["files of a bundle"].keys() >= {"ticket", "model", "golden", "claims"}
    assert found["packet"].keys() >= {1, 2, 4} or found["packet"].keys() >= {"1", "2", "4"}
    assert found["update"].keys() >= {"cut", "digest", "signature"}
    assert found["ticket"].keys() <= {"TicketError", "accepted"}


def test_the_unmutated_are_accepted(tmp_path: Path) -> None:
    for name, kind in kinds(tmp_path).items():
        for content in kind.sources:
            if name != "files of a bundle":
                kind.accept(content)
                assert kind.sound(content) in (content, resealed_bundle(content)), name
    assert CASE.ticket()


def test_a_few_mutants(tmp_path: Path) -> None:
    campaign(tmp_path, 600, 0)


@pytest.mark.slow
def test_mutants(tmp_path: Path) -> None:
    require_depth(campaign(tmp_path, CHECK, 1))


@pytest.mark.soak
@pytest.mark.parametrize("shard", range(SHARDS))
def test_twenty_million_mutants(tmp_path: Path, shard: int) -> None:
    require_depth(campaign(tmp_path, SHARD, 2 + shard))
