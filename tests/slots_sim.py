"""The real slots.c over simulated flash, whose power is cut at any operation on it."""

import ctypes
import hashlib
import subprocess
import weakref
from functools import cache
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PORT = Path(__file__).parent.parent / "exporters" / "c" / "port"
FLAGS = ["-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
VERIFY = """#include "slots.h"
#include <sodium.h>
const unsigned long bytes_of_slots = sizeof(et_slots);
uint8_t public_key[32];
int verify(const uint8_t signature[64], const uint8_t *message, size_t size) {
  return crypto_sign_ed25519_verify_detached(signature, message, size, public_key);
}
"""
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
CLASS, FIRMWARE = b"line-camera-v2", b"firmware"
CODES = [
    "OK",
    "GEOMETRY",
    "STATE",
    "TOO_LARGE",
    "EXTRA",
    "SHORT",
    "FORMAT",
    "UNSIGNED",
    "SIGNATURE",
    "CLASS",
    "FIRMWARE",
    "OLD",
    "JUMP",
    "DIGEST",
    "FLASH",
    "FULL",
]
TRIALS = 3
RECORDS, RECORD, HEADER = 16, 16, 136
TEARS = ("nothing", "prefix", "suffix", "random", "whole")  # what of the operation was done when the power went


def build(folder: Path, old: str = "", new: str = "", sanitize: bool = False) -> Path:
    """slots.c for this machine with Ed25519 by libsodium; `old` in its text replaced by `new`."""
    source = (PORT / "slots.c").read_text()
    assert source.count(old) >= 1
    (folder / "slots.c").write_text(source.replace(old, new, 1) if old else source)
    (folder / "verify.c").write_text(VERIFY)
    library = folder / "slots.so"
    flags = [flag for flag in FLAGS if not old or flag != "-Werror"] + (SANITIZE if sanitize else [])
    files = [str(folder / name) for name in ("slots.c", "verify.c")]
    subprocess.run(["cc", *flags, f"-I{PORT}", *files, "-o", str(library), "-lsodium"], check=True)
    return library


@cache
def update(sequence: int, packet: bytes, *, key: Ed25519PrivateKey | None = KEY, **other: bytes | int) -> bytes:
    """An ETU1 envelope; `other`: total, target, firmware, length, digest, or context in place of the right ones."""
    fields = {
        "total": HEADER + len(packet),
        "target": hashlib.sha256(CLASS).digest()[:16],
        "firmware": FIRMWARE,
        "length": len(packet),
        "digest": hashlib.sha256(packet).digest(),
        "context": b"edgeticket-update 1\n",
    } | other
    word = lambda value: int(value).to_bytes(4, "little")  # noqa: E731
    head = b"ETU1" + word(fields["total"]) + fields["target"] + word(sequence)
    head += fields["firmware"] + word(fields["length"]) + fields["digest"]
    return head + (key.sign(fields["context"] + head) if key else bytes(64)) + packet


def any_packet(size: int, seed: int) -> bytes:
    """Nothing that NAME_load would take, but for the right firmware."""
    made = Random(seed).randbytes(size)
    return made[:16] + FIRMWARE + made[24:]


LIBC = ctypes.CDLL(None)
LIBC.aligned_alloc.restype, LIBC.aligned_alloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t] * 2
LIBC.free.argtypes = [ctypes.c_void_p]
ERASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
PROGRAM = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Config(ctypes.Structure):
    _fields_ = [
        ("slot", ctypes.c_void_p * 2),
        ("sector", ctypes.c_uint32),
        ("sectors", ctypes.c_uint32),
        ("unit", ctypes.c_uint32),
        ("erase", ERASE),
        ("program", PROGRAM),
        ("verify", ctypes.c_void_p),
        ("target_class", ctypes.c_char_p),
        ("firmware", ctypes.c_uint8 * 8),
        ("sequence", ctypes.c_uint32),
        ("jump", ctypes.c_uint32),
        ("trials", ctypes.c_uint8),
    ]


class Model(ctypes.Structure):
    _fields_ = [
        ("slot", ctypes.c_int),
        ("trial", ctypes.c_int),
        ("packet", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
        ("sequence", ctypes.c_uint32),
    ]


class PowerCut(Exception):
    pass


class Broken(AssertionError):
    """What must never happen."""


class Flash:
    """Two areas of NOR flash: a program clears bits of one erased unit, an erase sets those of a sector."""

    def __init__(self, sector: int, sectors: int, unit: int) -> None:
        self.sector, self.sectors, self.unit, self.size = sector, sectors, unit, sector * sectors
        self.addresses = [LIBC.aligned_alloc(sector, self.size) for _ in range(2)]
        for address in self.addresses:
            weakref.finalize(self, LIBC.free, address)
        self.blank = b"\xff" * unit
        self.place = max(unit, RECORD)
        self.room = self.size - RECORDS * self.place
        self.restore([b"\xff" * self.size] * 2)
        self.arm(None)

    def restore(self, contents: list[bytes]) -> None:
        for address, content in zip(self.addresses, contents, strict=True):
            ctypes.memmove(address, content, self.size)

    def contents(self) -> list[bytes]:
        return [ctypes.string_at(address, self.size) for address in self.addresses]

    def arm(self, cut: int | None, tear: str = "nothing", seed: int = 0) -> None:
        """Cut the power at operation `cut` from now, the first is 1; None: never."""
        self.sizes: list[int] = []  # bytes of each operation
        self.dead, self.cut, self.tear, self.random = False, cut, tear, Random(seed)

    def erase(self, address: int) -> int:
        slot, at = self._place(address)
        if at % self.sector:
            raise Broken(f"erase at {at}, inside a sector")
        return self._change(slot, at, b"\xff" * self.sector)

    def program(self, address: int, data: int) -> int:
        slot, at = self._place(address)
        if not self.dead and (at % self.unit or ctypes.string_at(address, self.unit) != self.blank):
            raise Broken(f"program of slot {slot} at {at}, which is not an erased unit")
        return self._change(slot, at, ctypes.string_at(data, self.unit))

    def _place(self, address: int) -> tuple[int, int]:
        for slot, base in enumerate(self.addresses):
            if base <= address < base + self.size:
                return slot, address - base
        raise Broken("an operation outside of both slots")

    def _change(self, slot: int, at: int, target: bytes) -> int:
        """Without power nothing happens any more: the C goes on, but cannot reach anything that lasts."""
        if self.dead:
            return 1
        self.sizes.append(len(target))
        self.dead = len(self.sizes) == self.cut
        if self.dead:
            target = self._torn(ctypes.string_at(self.addresses[slot] + at, len(target)), target)
        ctypes.memmove(self.addresses[slot] + at, target, len(target))
        return int(self.dead)

    def _torn(self, old: bytes, new: bytes) -> bytes:
        done = self.random.randrange(len(new) + 1)
        if self.tear == "prefix":
            return new[:done] + old[done:]
        if self.tear == "suffix":
            return old[:done] + new[done:]
        if self.tear == "random":
            bits = self.random.randbytes(len(new))
            return bytes(a & b | c & ~b & 0xFF for a, b, c in zip(new, bits, old, strict=True))
        return new if self.tear == "whole" else old


class Device:
    """slots.c over a Flash. Every call raises PowerCut when the power went in it."""

    def __init__(
        self, library: Path, flash: Flash, *, sequence: int = 0, jump: int = 1000, trials: int = TRIALS
    ) -> None:
        self.c, self.flash = ctypes.CDLL(str(library)), flash
        public = KEY.public_key().public_bytes_raw()
        ctypes.memmove(ctypes.addressof(ctypes.c_uint8.in_dll(self.c, "public_key")), public, 32)
        self.state = ctypes.create_string_buffer(ctypes.c_ulong.in_dll(self.c, "bytes_of_slots").value)
        self.broken: list[BaseException] = []
        self.calls = ERASE(self._guarded(flash.erase)), PROGRAM(self._guarded(flash.program))
        self.config = Config(
            (ctypes.c_void_p * 2)(*flash.addresses),
            flash.sector,
            flash.sectors,
            flash.unit,
            *self.calls,
            ctypes.cast(self.c.verify, ctypes.c_void_p),
            CLASS,
            (ctypes.c_uint8 * 8)(*FIRMWARE),
            sequence,
            jump,
            trials,
        )

    def _guarded(self, call):
        def guarded(*arguments: int) -> int:
            try:
                return call(*arguments)
            except Broken as error:
                self.broken.append(error)
                return 1

        return guarded

    def _call(self, name: str, *arguments) -> str:
        code = getattr(self.c, f"et_slots_{name}")(self.state, *arguments)
        if self.broken:
            raise self.broken.pop()
        if self.flash.dead:
            raise PowerCut
        return CODES[code]

    def boot(self) -> tuple[Model, bytes]:
        """What is used, and its packet. The RAM held anything before."""
        ctypes.memset(self.state, 0xA5, len(self.state))
        model = Model()
        code = self._call("boot", ctypes.byref(self.config), ctypes.byref(model))
        if code != "OK":
            raise Broken(f"boot: {code}")
        return model, ctypes.string_at(model.packet, model.size) if model.packet else b""

    def begin(self, total: int) -> str:
        return self._call("begin", ctypes.c_uint32(total))

    def write(self, data: bytes) -> str:
        return self._call("write", ctypes.create_string_buffer(data, len(data) or 1), ctypes.c_uint32(len(data)))

    def finish(self) -> str:
        return self._call("finish")

    def confirm(self) -> str:
        return self._call("confirm")

    def reject(self) -> str:
        return self._call("reject")

    def send(self, content: bytes, total: int | None = None, portion: int = 50) -> str:
        """The first answer that is not OK, or that of the end."""
        code = self.begin(len(content) if total is None else total)
        for at in range(0, len(content), portion):
            code = self.write(content[at : at + portion]) if code == "OK" else code
        return self.finish() if code == "OK" else code

    def install(self, sequence: int, packet: bytes) -> None:
        """An update as it should go."""
        self.boot()
        answers = self.send(update(sequence, packet)), self.boot()[0].trial, self.confirm()
        if answers != ("OK", 1, "OK"):
            raise Broken(f"a good update: {answers}")


def rot(device: Device) -> None:
    """One bit of the packet that runs."""
    model, _ = device.boot()
    flip(model.packet + model.size // 2)


def flip(address: int, bit: int = 4) -> None:
    ctypes.memset(address, ctypes.string_at(address, 1)[0] ^ 1 << bit, 1)
