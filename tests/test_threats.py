"""One test for each threat of RFC 9124, section 4.2, and each attack of the TUF specification, section 1.5.2, that applies.

docs/shipping.md lists those that are not covered, and why. `bundle` is what a gateway or a person gets, `update` the envelope that a
device gets; what the device itself refuses is tested by tests/test_slots.py on its C.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    CLASS,
    EXPIRES,
    KEY,
    OTHER,
    OTHER_PUB,
    PUB,
    SEQUENCE,
    Place,
    code,
    forge,
    manifest,
    older,
    small,
    source,
    unchecked,
)
from bundles import place as make_place
from click.testing import CliRunner

from edgeticket import bundle_check, bundle_file, bundle_packet, envelope, signing
from edgeticket.bundle_file import read, require
from edgeticket.cli import main
from edgeticket.errors import BundleError, EdgeTicketError, EquivalenceError
from edgeticket.export import export
from edgeticket.manifest import MAX_FILE, Label
from edgeticket.wire_bytes import PacketError

CONTENT = small()
PACKET = b"ETP1" + (60).to_bytes(4, "little") + bytes(8) + b"firmware" + b"of model" + bytes(28)
UPDATE = envelope.pack(PACKET, CLASS, SEQUENCE, KEY)
DEVICE: dict[str, Any] = {"target_class": CLASS, "firmware": b"firmware", "after": SEQUENCE - 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("threats"))


@pytest.fixture(scope="module")
def shipped(place: Place) -> bytes:
    return place.ship(against=place.folder / "old.packet").content


def refused(act: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """The code; fails where nothing is refused."""
    with pytest.raises(BundleError) as caught:
        act(*arguments, **named)
    return caught.value.code


def update(content: bytes = UPDATE, keys: tuple[bytes, ...] = (PUB,), **device: Any) -> str:
    """Why a device that checks as `envelope.check` does refuses an update; empty where it takes it."""
    try:
        return "" if envelope.check(content, keys, **{**DEVICE, **device}) == PACKET else "another packet"
    except BundleError as error:
        return error.code


def test_nothing_is_refused_that_is_right(shipped: bytes) -> None:
    assert update() == code(CONTENT, PUB) == ""
    require(read(CONTENT, [PUB]), target_class=CLASS, after=SEQUENCE - 1, today=date.fromisoformat(EXPIRES))
    assert bundle_check.check(shipped, [PUB], target_class=CLASS, after=SEQUENCE - 1).bundle.signed_by


# RFC 9124, 4.2


def test_threat_img_expired() -> None:
    """An old model with a known fault is offered again, rightly signed."""
    for after in (SEQUENCE, SEQUENCE + 1, envelope.LAST_SEQUENCE):
        assert refused(require, read(CONTENT), after=after) == "sequence"
        assert update(after=after) == "sequence"


def test_threat_img_expired_offline() -> None:
    """A device that was offline does not know the newest sequence: the day tells, where there is a clock."""
    assert refused(require, read(CONTENT), after=0, jump=0, today=date(3000, 1, 1)) == "expired"


def test_threat_img_incompatible(shipped: bytes) -> None:
    assert refused(bundle_check.check, shipped, [PUB], target_class="other-camera") == "class"
    assert update(target_class="other-camera") == "class"
    assert update(firmware=b"FIRMWARE") == "firmware"


def test_threat_img_format(place: Place, shipped: bytes) -> None:
    """A payload of one kind in the place of another: roles are signed, contents looked at, contexts part of the signature."""
    found = read(shipped)
    for path, other in (("a.onnx", "a.ticket"), ("golden.safetensors", "a.ticket"), ("a.update", "a.onnx")):
        forged = forge(shipped, changed={path: found.files[other]})
        with pytest.raises(EdgeTicketError):
            bundle_check.check(forged)
    assert refused(read, unchecked(manifest(format="edgeticket-bundle 2"))) == "version"
    assert update(b"ETU2" + UPDATE[4:]) == "cut"
    told = bundle_file.canonical(manifest())
    assert (
        refused(signing.require_signed, [PUB], signing.sign(KEY, envelope.CONTEXT, told), bundle_file.CONTEXT, told)
        == "signature"
    )


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "..\\x", ".profile", "C:x"])
def test_threat_img_location(path: str, tmp_path: Path) -> None:
    """No path leads out of the folder that is asked for, whoever signed it."""
    files = [{**entry, "path": path} if entry["path"] == "golden" else entry for entry in manifest()["files"]]
    told = manifest(files=sorted(files, key=lambda entry: entry["path"]))
    signature = signing.sign(KEY, bundle_file.CONTEXT, bundle_file.canonical(told))
    forged = unchecked(told, b"no networkno ticket", signature=signature.hex(), signer=read(CONTENT).signer)
    (tmp_path / "x.bundle").write_bytes(forged)
    done = CliRunner().invoke(main, ["verify", str(tmp_path / "x.bundle"), "--extract", str(tmp_path / "out")])
    assert (done.exit_code, "(refused: manifest)" in done.stderr) == (4, True)
    assert [found.name for found in tmp_path.iterdir()] == ["x.bundle"]


def test_threat_net_redirect() -> None:
    """Another server, with bundles of its own: where a bundle comes from counts for nothing, the key does."""
    assert code(small(OTHER), PUB) == "key"
    assert update(envelope.pack(PACKET, CLASS, SEQUENCE, OTHER)) == "signature"


def flips(content: bytes, bits: Iterator[int]) -> Iterator[bytes]:
    for bit in bits:
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


def some(content: bytes, count: int) -> Iterator[int]:
    return iter(np.random.default_rng(count).choice(8 * len(content), count, replace=False).tolist())


def test_threat_net_onpath() -> None:
    """Bits altered, bytes lost or added on the way; with and without a key at hand, as a seal and digests find that too."""
    for altered in flips(CONTENT, some(CONTENT, 500)):
        assert code(altered)
        assert code(altered, PUB)
    assert all(map(update, flips(UPDATE, some(UPDATE, 300))))
    for cut in range(len(UPDATE)):
        assert update(UPDATE[:cut]) in ("cut", "digest")
    for cut in range(len(CONTENT)):
        assert code(CONTENT[:cut])


@pytest.mark.slow
def test_threat_net_onpath_at_every_bit() -> None:
    assert all(map(code, flips(CONTENT, iter(range(8 * len(CONTENT))))))
    assert all(map(update, flips(UPDATE, iter(range(8 * len(UPDATE))))))


@pytest.mark.slow
def test_threat_net_onpath_in_a_whole_bundle(shipped: bytes) -> None:
    assert all(map(code, flips(shipped, some(shipped, 2000))))
    assert all(code(shipped[:cut]) for cut in range(0, len(shipped), 97))


def test_threat_img_replace(shipped: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is exchanged after it was checked: what is written is what was checked. (Read once: extraneous dependencies, below.)"""
    path = tmp_path / "x.bundle"
    path.write_bytes(shipped)
    check = bundle_check.check

    def exchanged(*arguments: Any, **asked: Any) -> bundle_check.Checked:
        checked = check(*arguments, **asked)
        path.write_bytes(small(OTHER))
        return checked

    monkeypatch.setattr(bundle_check, "check", exchanged)
    (tmp_path / "k.pub").write_bytes(PUB)
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["verify", str(path), "--key", str(tmp_path / "k.pub"), "--extract", str(out)])
    assert done.exit_code == 0, done.output
    assert {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()} == read(
        shipped
    ).files


def test_threat_img_non_auth() -> None:
    assert code(small(None), PUB) == "unsigned"
    assert update(envelope.pack(PACKET, CLASS, SEQUENCE)) == "unsigned"
    assert update(keys=()) == "signature"


def test_threat_upd_wrong_precursor(shipped: bytes, place: Place) -> None:
    """A difference meets another packet than it was made against."""
    assert refused(bundle_check.check, shipped, [PUB], against=read(shipped).files["a.update"]) == "precursor"
    from edgeticket.wire_delta import patch

    with pytest.raises(PacketError, match="another base"):
        patch(envelope.parse(read(shipped).files["a.update"]).packet, read(shipped).files["a.delta"])
    assert bundle_check.check(shipped, [PUB], against=(place.folder / "old.packet").read_bytes())


def test_threat_upd_unapproved() -> None:
    """Whoever may make bundles may not make them for these devices: his key is none of theirs."""
    assert code(CONTENT, OTHER_PUB) == "key"
    assert update(keys=(OTHER_PUB,)) == "signature"


def test_threat_mfst_override() -> None:
    """Any field changed by somebody without the key, under a new seal."""
    found = read(CONTENT)
    signature = signing.sign(KEY, bundle_file.CONTEXT, bundle_file.canonical(found.manifest)).hex()
    other = {
        "class": "x",
        "sequence": 9,
        "expires": None,
        "task": "anomaly",
        "labels": [],
        "ticket": "1" * 64,
        "purity": "P0",
    }
    other |= {"input": {"shape": [3], "dtype": "int16"}}
    assert {*other, "format", "precursor", "model", "files"} == set(found.manifest)
    contents = b"".join(found.files.values())
    for field, value in other.items():
        forged = unchecked({**found.manifest, field: value}, contents, signature=signature, signer=found.signer)
        assert (code(forged), code(forged, PUB)) == ("", "signature"), field
    altered = b"my ticket"
    files = [dict(entry) for entry in found.manifest["files"]]
    files[1] |= {"sha256": hashlib.sha256(altered).hexdigest()}
    forged = unchecked(
        {**found.manifest, "files": files}, b"no network" + altered, signature=signature, signer=found.signer
    )
    assert (code(forged), code(forged, PUB)) == ("", "signature")


def test_threat_img_extra() -> None:
    """Bytes behind the image, or between its files."""
    for more in (b"\0", b"\xff", b"\n", CONTENT):
        assert code(CONTENT + more, PUB) == "cut"
        assert update(UPDATE + more) == "cut"
    longer = UPDATE[:4] + (len(UPDATE) + 1).to_bytes(4, "little") + UPDATE[8:] + b"\0"
    assert update(longer) == "cut"


def test_threat_key_exposure(tmp_path: Path) -> None:
    """A lost key is taken off the list; a new one works beside the old one until then. Private keys are for their owner alone."""
    assert code(small(OTHER), PUB, OTHER_PUB) == code(CONTENT, PUB, OTHER_PUB) == ""
    assert code(CONTENT, OTHER_PUB) == "key"
    before = os.umask(0)
    try:
        assert CliRunner().invoke(main, ["key", "new", "-o", str(tmp_path / "k")]).exit_code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k.key").stat().st_mode) == 0o600
    assert b"PRIVATE" not in CONTENT + UPDATE


def test_threat_mfst_modification(place: Place, tmp_path: Path) -> None:
    """What is altered before it is signed breaks the chain of proof, and is not signed."""
    export(older(source(place.data)), "onnx", tmp_path / "a.onnx")
    with pytest.raises(EquivalenceError):
        place.ship("m.bundle", str(tmp_path / "a.onnx"))
    assert not (place.folder / "m.bundle").exists()


def test_threat_mfst_toctou() -> None:
    """Nobody's later change of bytes that were checked is seen: a bundle keeps its own."""
    own = bytearray(CONTENT)
    found = read(bytes(own), [PUB])
    own[:] = bytes(len(own))
    assert found == read(CONTENT, [PUB])
    packet = envelope.check(UPDATE, [PUB], **DEVICE)
    assert packet == PACKET


# TUF, 1.5.2


def test_attack_arbitrary_software_installation(shipped: bytes, place: Place) -> None:
    """Without a key nobody's network is run, with a key none of anybody else."""
    other = older(source(place.data)).to_bytes()
    forged = forge(shipped, OTHER, {"a.ticket": other})
    assert refused(bundle_check.check, forged, [PUB]) == "key"
    assert refused(bundle_check.check, forge(shipped, None, {"a.ticket": other})) == "ticket"


def test_attack_endless_data(tmp_path: Path) -> None:
    """Reading ends at the largest bundle there may be, whatever comes."""
    with (tmp_path / "x.bundle").open("wb") as file:
        file.truncate(4 * MAX_FILE)
    tracemalloc.start()
    assert refused(read, tmp_path / "x.bundle") == "size"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * MAX_FILE
    assert refused(read, Path("/dev/zero")) == "unreadable"


def test_attack_extraneous_dependencies(tmp_path: Path) -> None:
    """Reading a bundle opens nothing but the bundle, runs nothing and asks nobody."""
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    (tmp_path / "k.pub").write_bytes(PUB)
    script = """
import json, sys
from pathlib import Path
from edgeticket.bundle_file import read
key = Path("k.pub").read_bytes()
read(Path("x.bundle"), [key])  # what it imports is there now
events = []
sys.addaudithook(lambda event, found: events.append((event, *found)) if event.split(".")[0] in WATCHED else None)
read(Path("x.bundle"), [key])
print(json.dumps([[event[0], str(event[1])] for event in events]))
""".replace("WATCHED", repr(("open", "socket", "subprocess", "os", "import", "exec", "compile", "shutil", "ctypes")))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["open", "x.bundle"]]


def test_attack_fast_forward() -> None:
    """A sequence so high that no later one would be taken."""
    assert refused(require, read(small(sequence=envelope.LAST_SEQUENCE)), after=SEQUENCE) == "jump"
    last = envelope.pack(PACKET, CLASS, envelope.LAST_SEQUENCE, KEY)
    assert update(last) == "jump"
    assert update(last, jump=0) == ""
    assert update(after=SEQUENCE - envelope.JUMP) == ""
    assert update(envelope.pack(PACKET, CLASS, SEQUENCE + envelope.JUMP, KEY)) == "jump"


def test_attack_indefinite_freeze() -> None:
    """The same old bundle is offered for ever: it expires, and it is no newer than itself."""
    require(read(CONTENT), today=date.fromisoformat(EXPIRES))
    assert refused(require, read(CONTENT), today=date(3000, 1, 1)) == "expired"
    assert refused(require, read(CONTENT), after=SEQUENCE) == "sequence"


def test_attack_mix_and_match(shipped: bytes, place: Place) -> None:
    """Files of two rightly signed releases in one bundle: by a stranger, and by whoever has the key."""
    later = place.ship("later.bundle", "a.onnx", "a-c", label=Label(CLASS, SEQUENCE + 1)).content
    mixed = {"a.update": read(later).files["a.update"]}
    assert refused(bundle_check.check, forge(shipped, OTHER, mixed), [PUB]) == "key"
    assert refused(bundle_check.check, forge(shipped, KEY, mixed), [PUB]) == "packet"
    contents = b"".join(({**read(shipped).files, **mixed}).values())
    told = json.loads(json.dumps(read(shipped).manifest))
    assert code(unchecked(told, contents)) == "digest"


def test_attack_rollback() -> None:
    """As THREAT.IMG.EXPIRED; equal is not newer."""
    assert refused(require, read(CONTENT), after=SEQUENCE) == update(after=SEQUENCE) == "sequence"


def test_attack_wrong_software_installation(shipped: bytes) -> None:
    """A right bundle for other devices; a class is the whole word."""
    for other in (CLASS[:-1], CLASS + "2", CLASS.upper(), ""):
        assert refused(bundle_check.check, shipped, [PUB], target_class=other) == "class"
        assert update(target_class=other) == "class"


# the envelope


def test_an_envelope_has_the_bytes_that_devices_expect() -> None:
    head = b"ETU1" + len(UPDATE).to_bytes(4, "little") + hashlib.sha256(CLASS.encode()).digest()[:16]
    head += (
        SEQUENCE.to_bytes(4, "little")
        + b"firmware"
        + len(PACKET).to_bytes(4, "little")
        + hashlib.sha256(PACKET).digest()
    )
    assert head + signing.sign(KEY, b"edgeticket-update 1\n", head) + PACKET == UPDATE
    assert (len(head), len(UPDATE) - len(PACKET)) == (envelope.SIGNED, envelope.HEADER) == (72, 136)
    found = envelope.parse(UPDATE)
    assert (found.packet, found.sequence, found.firmware) == (PACKET, SEQUENCE, b"firmware")
    assert bundle_packet.bare(UPDATE) == bundle_packet.bare(PACKET) == PACKET


def test_an_envelope_agrees_with_its_packet() -> None:
    """Every length and digest in it was made right again by the forger."""
    other = bytearray(UPDATE)
    other[28:36] = b"Firmware"
    assert refused(envelope.parse, bytes(other)) == "manifest"
    for length in (4, 36):  # of the whole, and of the packet
        other = bytearray(UPDATE)
        other[length] ^= 1
        assert refused(envelope.parse, bytes(other)) == "cut"
    for wrong in (b"", b"x" * 23):
        assert refused(envelope.pack, wrong, CLASS, 1) == "size"
    for sequence in (0, -1, 1 << 32):
        assert refused(envelope.pack, PACKET, CLASS, sequence) == "sequence"
