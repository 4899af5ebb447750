"""A bundle is read exactly as it was written or refused with a word for why; it is shipped only when all of it is proven."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    CASE,
    CLASS,
    EXPIRES,
    FILES,
    KEY,
    LABEL,
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
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from edgeticket import bundle as bundle_module
from edgeticket import bundle_c, bundle_check, bundle_file, bundle_packet, envelope, signing
from edgeticket.bundle_file import read
from edgeticket.cli import main
from edgeticket.data import load
from edgeticket.errors import BundleError, EdgeTicketError, EquivalenceError, UsageError
from edgeticket.export import export
from edgeticket.guard import Guard
from edgeticket.manifest import FORMAT, MAX_FILES, Label, entries
from edgeticket.runtime import Predictor
from edgeticket.wire import sealed
from exporters import to_onnx

ROOT = Path(__file__).parent.parent
CONTENT = small()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def shipped(place: Place) -> bytes:
    return place.ship(against=place.folder / "old.packet").content


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(BundleError) as caught:
        act()
    assert caught.value.code in BundleError.CODES
    assert str(caught.value).endswith(f"(refused: {caught.value.code})")
    return caught.value.code


def checked(content: bytes, *keys: bytes, **asked: Any) -> str:
    """Why a bundle is refused; empty where it is accepted."""
    try:
        bundle_check.check(content, keys, **asked)
    except BundleError as error:
        return error.code
    return ""


# the container


def test_what_was_written_is_read_again() -> None:
    found = read(CONTENT, [PUB])
    assert found.manifest == manifest()
    assert found.files == {path: content for path, (_, content) in FILES.items()}
    assert found.signed_by == found.signer == signing.fingerprint(signing.public_key(PUB))
    assert found.paths("ticket", "golden") == ["a.ticket", "golden"]
    assert (found.one("ticket"), found.one("golden"), found.one("guard")) == (b"no ticket", b"", None)


def test_safetensors_reads_it_and_writes_the_same_bytes(shipped: bytes) -> None:
    for content in (CONTENT, shipped, small(None)):
        tensors = load_tensors(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        assert {name: bytes(tensor) for name, tensor in tensors.items()} == read(content).files
        assert save_tensors(tensors, metadata=metadata) == content


def test_the_same_input_gives_the_same_bytes_and_another_key_only_another_signature() -> None:
    assert small() == CONTENT
    one, other = read(CONTENT), read(small(OTHER))
    assert (one.manifest, one.files) == (other.manifest, other.files)
    assert one.signer != other.signer


def test_signatures_are_those_of_rfc_8032() -> None:
    """Section 7.1, test 1: an empty message."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    whole = Ed25519PrivateKey.from_private_bytes(seed)
    private = whole.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    signature = signing.sign(private, b"", b"")
    assert signature.hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb88215")
    assert signing.public_of(private) == public
    assert signing.require_signed([public], signature, b"", b"") == signing.fingerprint(public)


@given(
    st.dictionaries(st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), st.binary(max_size=40), max_size=6), st.booleans()
)
@settings(max_examples=30, deadline=None)
def test_any_files_come_back(more: dict[str, bytes], signed: bool) -> None:
    files = FILES | {f"c/{name}": ("c", content) for name, content in more.items()}
    found = read(small(KEY if signed else None, files))
    assert found.files == {path: content for path, (_, content) in files.items()}


def test_who_signed_is_told_only_where_it_was_checked() -> None:
    assert [read(CONTENT).signed_by, read(CONTENT, [OTHER_PUB, PUB]).signed_by] == ["", read(CONTENT).signer]
    assert read(small(None)).signer == read(small(None)).signed_by == ""
    assert read(CONTENT, [signing.public_key(PUB)]).signed_by == read(CONTENT).signer  # 32 bytes, or PEM
    assert code(CONTENT, OTHER_PUB) == "key"
    assert code(small(None), PUB) == "unsigned"


def test_a_signature_covers_the_whole_manifest() -> None:
    other = read(small(sequence=SEQUENCE + 1))
    signature = json.loads(
        json.loads(CONTENT[8 : 8 + int.from_bytes(CONTENT[:8], "little")])["__metadata__"][bundle_file.KEY]
    )
    contents = b"".join(other.files.values())
    stolen = {"signature": signature["signature"], "signer": signature["signer"]}
    assert code(unchecked(other.manifest, contents, **stolen)) == ""  # the seal alone does not tell
    assert code(unchecked(other.manifest, contents, **stolen), PUB) == "signature"
    first = signature["signature"][0]
    altered = f"{int(first, 16) ^ 1:x}{signature['signature'][1:]}"
    for wrong, why in (("00" * 64, "unsigned"), (altered, "signature")):
        forged = unchecked(read(CONTENT).manifest, contents, **stolen | {"signature": wrong})
        assert code(forged, PUB) == why


@pytest.mark.parametrize(
    "header",
    [
        {"signature": "zz" * 64},
        {"signature": "0" * 126},
        {"signature": "0" * 128 + "\n"},
        {"signature": ""},
        {"signer": ""},
        {"signer": "A" * 16},
        {"signer": "\x1b[31mtrust me"},
    ],
)
def test_signatures_have_one_form(header: dict[str, str]) -> None:
    """Nothing that a stranger puts there is shown."""
    whole = {"signature": "0" * 128, "signer": "0" * 16}
    assert code(unchecked(manifest(), b"no networkno ticket", **whole)) == ""
    assert code(unchecked(manifest(), b"no networkno ticket", **{**whole, **header})) == "damaged"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\0" * 8, b"\xff" * 64, CONTENT[:-1], CONTENT + b"\0", b"{}" * 50]
)
def test_what_is_cut_or_no_bundle_is_refused(content: bytes) -> None:
    assert code(content) in ("cut", "damaged")


def with_header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def wrapped(inner: bytes | str) -> bytes:
    """A head whose metadata is any text."""
    told = inner.decode("latin-1") if isinstance(inner, bytes) else inner
    return with_header(json.dumps({"__metadata__": {bundle_file.KEY: told}}).encode())


HEADERS = {
    "deep": with_header(b"[" * 200_000),
    "deep inside": wrapped("[" * 100_000),
    "a list": with_header(b"[]"),
    "no metadata": with_header(b"{}"),
    "another key": with_header(b'{"__metadata__":{"edgeticket":"{}"}}'),
    "not text": with_header(b'{"__metadata__":{"edgeticket-bundle":7}}'),
    "not UTF-8": with_header(b'{"\xff":1}'),
    "a huge number": wrapped("9" * 5000),
    "no object": wrapped("7"),
    "empty": wrapped("{}"),
    "numbers": wrapped('{"manifest":{},"seal":1,"signature":2,"signer":3}'),
    "one more": wrapped('{"manifest":{},"seal":"","signature":"","signer":"","time":""}'),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_another_kind_is_refused(name: str) -> None:
    assert code(HEADERS[name]) == "damaged"


def test_only_the_one_form_is_read() -> None:
    """The same values, written otherwise: no two files mean the same."""
    length = int.from_bytes(CONTENT[:8], "little")
    head, files = CONTENT[8 : 8 + length].rstrip(b" "), CONTENT[8 + length :]
    for other in (head + b" " * 16, head.replace(b'"dtype"', b' "dtype"', 1), head.replace(b"U8", b"I8", 1)):
        padded = other + b" " * (-len(other) % 8)
        assert code(with_header(padded) + files) == "damaged"
    assert code(with_header(head + b" " * (-len(head) % 8)) + files) == ""


def test_nothing_large_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(with_header(b" " * (bundle_file.MAX_HEADER + 8))) == "cut"
    many = {f"c/{i}": ("c", b"") for i in range(MAX_FILES)}
    assert refusal(lambda: small(files=FILES | many)) == "manifest"
    monkeypatch.setattr(bundle_file, "MAX_FILE", len(CONTENT) - 1)
    assert refusal(lambda: read(CONTENT)) == "size"
    monkeypatch.setattr(bundle_file, "MAX_HEADER", 400)
    assert refusal(small) == "size"


BAD_PATHS = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../a",
    "a/../b",
    "a//b",
    "a/",
    "a\\b",
    "C:a",
    ".ssh",
    "a/.x",
    "a\n",
    "ä",
    "a" * 65,
    "x.",
]
WRONG: dict[str, list[Any]] = {
    "class": [None, "", "a b", "../x", "a" * 65, 7, "-x", "caf\u00e9"],
    "sequence": [None, 0, -1, 1 << 32, 1.0, "7", True],
    "expires": ["2027-13-01", "20271231", "", 7, "2027-12-31T00:00", "tomorrow"],
    "task": ["", "forecast", None, ["classification"]],
    "labels": [None, "good", [1], ["a\nb"], ["\ud800"], ["a" * 257]],
    "input": [
        None,
        {},
        {"shape": [], "dtype": "uint8"},
        {"shape": [0], "dtype": "uint8"},
        {"shape": [True], "dtype": "uint8"},
        {"shape": [8], "dtype": "float64"},
        {"shape": 8, "dtype": "uint8"},
        {"shape": [1] * 5, "dtype": "uint8"},
    ],
    "ticket": ["", "0" * 63, "A" * 64, "g" * 64, None],
    "purity": [None, "\x1b[31m", 7],
    "precursor": ["0" * 64, "", 7],  # there is no difference in these bundles
    "model": ["b.onnx", "a.ticket", None, *BAD_PATHS],
    "files": [
        None,
        [],
        {},
        ["a"],
        [{}],
        entries(FILES)[::-1],
        entries(FILES) * 2,
        entries(FILES)[1:],
        entries(FILES)[:1],
    ],
}


@pytest.mark.parametrize("field", WRONG)
def test_a_manifest_is_checked_field_by_field(field: str) -> None:
    for value in WRONG[field]:
        assert code(unchecked(manifest(**{field: value}), b"no networkno ticket")) == "manifest", value
    left_out = {key: value for key, value in manifest().items() if key != field}
    assert code(unchecked(left_out)) == "manifest"


def test_versions_and_fields_that_are_not_known_are_refused() -> None:
    for format in ("edgeticket-bundle 2", "", None, 1, [FORMAT]):
        assert code(unchecked(manifest(format=format))) == "version"
    assert code(unchecked(manifest(note="x"))) == "manifest"
    assert code(unchecked([])) == "version"


@pytest.mark.parametrize("path", BAD_PATHS)
def test_no_path_leads_out_of_a_folder(path: str) -> None:
    def named(name: str) -> bytes:
        files = [{**entries(FILES)[0], "path": name}, *entries(FILES)[1:]]
        return unchecked(
            manifest(files=sorted(files, key=lambda entry: entry["path"]), model=name), b"no networkno ticket"
        )

    assert code(named("Z.onnx")) == ""
    assert code(named(path)) == "manifest"


@pytest.mark.parametrize(
    "more",
    [
        {"A.onnx": ("onnx", b"")},
        {"a.onnx/b": ("c", b"")},
        {"b.ticket": ("ticket", b"")},
        {"c/x": ("c", b""), "C": ("c", b"")},
        {"b": ("guard", b""), "d": ("guard", b"")},
        {"b": ("program", b"")},
        {"b": ("delta", b"")},
    ],
)
def test_files_are_not_in_each_others_way(more: dict[str, tuple[str, bytes]]) -> None:
    assert refusal(lambda: small(files=FILES | more)) == "manifest"


@pytest.mark.parametrize(
    "bad", [{"bytes": -1}, {"bytes": True}, {"bytes": 1 << 60}, {"sha256": "x"}, {"mode": 1}, {"role": ["c"]}]
)
def test_an_entry_is_checked_field_by_field(bad: dict[str, Any]) -> None:
    told = [{**entries(FILES)[0], **bad}, *entries(FILES)[1:]]
    assert code(unchecked(manifest(files=told), b"no networkno ticket")) == "manifest"


def test_a_file_that_was_exchanged_is_named() -> None:
    forged = CONTENT.replace(b"no ticket", b"my ticket")
    assert code(forged) == "digest"
    with pytest.raises(BundleError, match=r"a\.ticket is not the file"):
        read(forged, [PUB])


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.bundle")
    (tmp_path / "bad.bundle").write_bytes(b"x" * 100)
    for name in ("none.bundle", ".", "pipe.bundle", "bad.bundle"):
        with pytest.raises(BundleError, match=str(tmp_path / name)):
            read(tmp_path / name)
    (tmp_path / "good.bundle").write_bytes(CONTENT)
    assert read(tmp_path / "good.bundle", [PUB]) == read(CONTENT, [PUB])


def test_golden_vectors_are_read_again_or_refused() -> None:
    inputs, outputs = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4), np.ones((2, 5))
    again = bundle_file.read_golden(bundle_file.golden(inputs, outputs))
    assert np.array_equal(again[0], inputs)
    assert again[1].dtype == np.float32
    bad = [
        b"",
        save_tensors({"inputs": inputs}),
        save_tensors({"inputs": inputs, "outputs": outputs}),
        save_tensors({"inputs": inputs, "outputs": outputs.astype(np.float32), "more": inputs}),
        save_tensors({"inputs": inputs, "outputs": outputs.astype(np.float32)}, {"a": "b"}),
        save_tensors({"inputs": inputs[:1], "outputs": outputs.astype(np.float32)}),
        save_tensors({"inputs": inputs[:0], "outputs": outputs[:0].astype(np.float32)}),
        save_tensors({"inputs": inputs.astype(np.int64), "outputs": outputs.astype(np.float32)}),
        bundle_file.golden(inputs, np.full((2, 5), np.nan)),
        bundle_file.golden(inputs, outputs) + b"\0",
    ]
    assert {refusal(lambda content=content: bundle_file.read_golden(content)) for content in bad} == {"golden"}


# ship


def test_a_bundle_holds_what_was_given_and_what_follows_from_it(place: Place, shipped: bytes) -> None:
    found = read(shipped, [PUB])
    for name in ("a.ticket", "a.onnx", "a-int8.onnx"):
        assert found.files[name] == (place.folder / name).read_bytes()
    assert {path: found.files[path] for path in found.paths("c")} == {
        f"a-c/{file.name}": file.read_bytes() for file in (place.folder / "a-c").iterdir()
    }
    told = found.manifest
    assert (told["class"], told["sequence"], told["model"]) == (CLASS, SEQUENCE, "a.onnx")
    assert told["ticket"] == source(place.data).digest
    assert [found.paths(role) for role in ("onnx-int8", "packet", "delta")] == [
        ["a-int8.onnx"],
        ["a.update"],
        ["a.delta"],
    ]
    claims = json.loads(found.one("claims") or b"")
    assert claims["data"]["digest"] == place.data.digest
    assert claims["data"]["certify"] == 40
    assert claims["chain"]["accuracy"][0]["figures"]["of"] == 40
    assert claims["poc"] is None


def test_the_same_inputs_and_key_give_the_same_bytes_elsewhere(place: Place, shipped: bytes, tmp_path: Path) -> None:
    again = Place(Path(shutil.copytree(place.folder, tmp_path / "copy")), place.data)
    assert again.ship(against=again.folder / "old.packet").content == shipped


def test_the_first_onnx_file_is_the_one_that_gateways_run(place: Place) -> None:
    done = place.ship("b.bundle", "a-int8.onnx", "a.onnx")
    assert done.checked.bundle.manifest["model"] == "a-int8.onnx"
    assert done.checked.bundle.paths("packet", "c") == []
    assert "no packet" in done.text()


def test_without_a_key_it_is_not_signed_and_says_so(place: Place) -> None:
    done = place.ship("unsigned.bundle", private=None)
    assert "NOT SIGNED" in done.text()
    assert done.checked.bundle.paths("packet") == ["a.packet"]
    assert done.to_json()["signed_by"] == ""
    assert checked(done.content) == ""
    assert checked(done.content, PUB) == "unsigned"


@pytest.mark.parametrize("what", ["a.onnx", "a-int8.onnx", "a-c"])
def test_a_broken_chain_ships_nothing(what: str, place: Place, tmp_path: Path) -> None:
    ticket = older(source(place.data))
    how: dict[str, Any] = {"precision": "int8"} if "int8" in what else {}
    export(ticket, "c" if what == "a-c" else "onnx", tmp_path / what, **how)
    good = ["a.onnx"] if what == "a-c" else []
    with pytest.raises(EquivalenceError):
        place.ship("broken.bundle", *good, str(tmp_path / what))
    assert not (place.folder / "broken.bundle").exists()


def test_what_was_verified_is_what_is_shipped(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input changes on disk once it was read."""
    made, verify = Place(Path(shutil.copytree(place.folder, tmp_path / "copy")), place.data), bundle_module.verify
    wanted = made.ship("b.bundle", "a.onnx").content

    def altered(*arguments: Any) -> Any:
        for name in ("a.ticket", "a.onnx"):
            (made.folder / name).write_bytes(b"something else")
        return verify(*arguments)

    monkeypatch.setattr(bundle_module, "verify", altered)
    assert made.ship("b.bundle", "a.onnx").content == wanted


def test_only_what_an_export_writes_is_shipped(place: Place, tmp_path: Path) -> None:
    """A private key that lies beside the C stays where it is; what `make host` built is not taken."""
    folder = Path(shutil.copytree(place.folder / "a-c", tmp_path / "a-c"))
    wanted = place.ship("b.bundle", "a.onnx", "a-c").content
    subprocess.run(["make", "-s", "host"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "build").is_dir()
    assert place.ship("b.bundle", "a.onnx", str(folder)).content == wanted
    for name in ("mine.key", ".git", "notes.txt", "b_guard.c"):
        (folder / name).write_bytes(KEY)
        with pytest.raises(UsageError, match=f"{folder / name}: no export writes that"):
            place.ship("leak.bundle", "a.onnx", str(folder))
        (folder / name).unlink()
    for name in ("a-c/Makefile", "key.onnx"):
        (tmp_path / name).write_bytes(b"# " + KEY)
        with pytest.raises(UsageError, match=f"{tmp_path / name}: there is a private key in it"):
            place.ship("leak.bundle", "a.onnx", str(folder), str(tmp_path / "key.onnx"))
        shutil.copy(place.folder / "a-c" / "Makefile", folder)
    assert not (place.folder / "leak.bundle").exists()


ALTERED_C = {
    "slots.c": ("ET_SLOTS_SIGNATURE : ET_SLOTS_OK", "ET_SLOTS_OK : ET_SLOTS_OK"),
    "a-c.c": ("  if (!wrong) et_model_used = packet;", "  et_model_used = packet;"),
    "a-c_selftest.c": ("return wrong != 0;", "return 0;"),
    "Makefile": ("-Wall", "-w"),
}


@pytest.mark.parametrize("name", ALTERED_C)
def test_c_is_shipped_as_it_was_exported_or_not_at_all(name: str, place: Place, tmp_path: Path) -> None:
    """What `verify` cannot see, as it runs NAME_predict alone."""
    folder = Path(shutil.copytree(place.folder / "a-c", tmp_path / "a-c"))
    file = folder / name.replace("a-c", "a_c")
    text = file.read_text()
    altered = text.replace(*ALTERED_C[name])
    assert altered != text
    file.write_text(altered)
    with pytest.raises(EquivalenceError, match=f"a-c/{file.name} is not what this version exports"):
        place.ship("altered.bundle", "a.onnx", str(folder))
    assert not (place.folder / "altered.bundle").exists()


def test_altered_c_is_told_to_whoever_gets_it(shipped: bytes) -> None:
    """It is never built by `verify`, whoever signed it."""
    told = bundle_check.check(shipped, [PUB])
    assert len(read(shipped).paths("c")) == 10
    assert "10 files of C: what this version exports of the ticket, text for text" in told.checks
    forged = bundle_check.check(forge(shipped, changed={"a-c/slots.c": b"int x;", "a-c/more.c": b"int y;"}), [PUB])
    assert [line.partition(":")[0] for line in forged.open if "not built here" in line] == ["a-c/more.c", "a-c/slots.c"]
    nonsense = read(shipped).files["a-c/a_c.h"].replace(b"--form seed", b"--form lists")
    forged = bundle_check.check(forge(shipped, changed={"a-c/a_c.h": nonsense}), [PUB])
    assert any(line.startswith("a-c/a_c.c: ") for line in forged.open)


def test_c_is_judged_with_a_guard_only_where_it_has_one(place: Place, tmp_path: Path) -> None:
    """A float sensor's guard has no C, and nor has one of another sensor, whatever a header says."""
    files = {f"a-c/{file.name}": file.read_bytes() for file in (place.folder / "a-c").iterdir()}
    models = bundle_packet.aligned(source(place.data))
    raw = CASE.raw(1600).astype(np.float32)
    np.savez(tmp_path / "f.npz", x_train=raw, y_train=np.arange(1600) % 4, x_test=raw[:40], y_test=np.arange(40) % 4)
    other = Guard.fit(load(tmp_path / "f.npz"))
    assert bundle_c.strange(files, models, other) == bundle_c.strange(files, models, None) == []
    more = {**files, "a-c/a_c_guard.c": b""}
    assert bundle_c.strange(more, models, None) == ["a-c/a_c_guard.c"]
    assert bundle_c.strange(more, models, other) == list(more)
    assert bundle_c.strange({"a-c/slots.c": files["a-c/slots.c"]}, models, None) == ["a-c/slots.c"]


@pytest.mark.parametrize("expires", ["2001-01-01", "2026-11-01"])
def test_a_day_that_is_over_is_not_shipped(expires: str, place: Place) -> None:
    with pytest.raises(UsageError, match=f"expires {expires}, and today is"):
        place.ship("late.bundle", "a.onnx", label=Label(CLASS, SEQUENCE, expires))
    assert not (place.folder / "late.bundle").exists()


def test_a_bundle_is_named_as_what_verify_takes_for_one(place: Place) -> None:
    with pytest.raises(UsageError, match=r"name it a\.zip\.bundle"):
        place.ship("a.zip", "a.onnx")


def test_a_report_must_be_about_this_ticket(place: Place) -> None:
    about = {"seal": "0" * 64, "protocol": 1, "bar": {}, "indicators": {"success": 1}, "verdict": {"word": "go"}}
    record = {**about, "chosen": {"digest": source(place.data).digest}, "rows": []}
    done = place.ship("r.bundle", "a.onnx", record=record)
    assert json.loads(done.checked.bundle.one("claims") or b"")["poc"] == about
    with pytest.raises(UsageError, match="not"):
        place.ship("s.bundle", "a.onnx", record={**record, "chosen": {"digest": "1" * 64}})
    assert not (place.folder / "s.bundle").exists()


def test_a_firmware_that_takes_no_updates_gets_no_packet(place: Place, tmp_path: Path) -> None:
    export(source(place.data), "c", tmp_path / "lists", form="lists")
    done = place.ship("lists.bundle", "a.onnx", str(tmp_path / "lists"))
    assert done.checked.bundle.paths("packet") == []
    with pytest.raises(UsageError, match="takes updates"):
        place.ship("lists.bundle", "a.onnx", str(tmp_path / "lists"), against=place.folder / "old.packet")


@pytest.mark.slow
@pytest.mark.parametrize(("align", "form"), [(4, "signs"), (1, "dense")])
def test_the_packet_is_for_the_firmware_of_the_c(align: int, form: str, place: Place, tmp_path: Path) -> None:
    export(source(place.data), "c", tmp_path / "net", form=form, align=align)
    done = place.ship("form.bundle", "a.onnx", str(tmp_path / "net"))
    update = done.checked.bundle.one("packet") or b""
    header = (tmp_path / "net" / "net.h").read_text()
    digest = ", ".join(f"0x{byte:02X}" for byte in update[28:36])
    assert f"net_PLAN_DIGEST {{{digest}}}" in header


def test_an_old_packet_must_be_of_the_same_firmware(place: Place, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(bytes(500))
    with pytest.raises(UsageError, match="none for this firmware"):
        place.ship("b.bundle", against=tmp_path / "old")


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ((), "ONNX file or more"),
        (("a-c",), "ONNX file or more"),
        (("a.onnx", "a-c", "a-c"), "one folder of C"),
        (("a.onnx", "a.onnx"), "a name twice"),
        (("a.onnx", "none.onnx"), "not a file"),
        (("a.onnx", "own.npz"), "not an ONNX file"),
        (("a.onnx", "with space.onnx"), "rename it"),
    ],
)
def test_artifacts_that_make_no_bundle(names: tuple[str, ...], word: str, place: Place) -> None:
    (place.folder / "with space.onnx").write_bytes((place.folder / "a.onnx").read_bytes())
    with pytest.raises(UsageError, match=word):
        bundle_module.ship(
            place.folder / "a.ticket",
            [place.folder / name for name in names],
            place.data,
            place.folder / "x.bundle",
            LABEL,
        )


@pytest.mark.parametrize(
    "wrong",
    [("a b", 1, None), ("", 1, None), ("x", 0, None), ("x", 1 << 32, None), ("x", 1, "2027"), ("x", 1, "20271231")],
)
def test_labels_that_say_nothing(wrong: tuple[str, int, str | None]) -> None:
    with pytest.raises(UsageError):
        Label(*wrong)


def test_a_guard_goes_along_where_the_data_are_enough(place: Place, tmp_path: Path) -> None:
    assert "no guard: " in place.ship("b.bundle", "a.onnx").text()
    raw = CASE.raw(1600)
    np.savez(tmp_path / "more.npz", x_train=raw, y_train=np.arange(1600) % 4, x_test=raw[:40], y_test=np.arange(40) % 4)
    done = Place(place.folder, load(tmp_path / "more.npz")).ship("b.bundle", "a.onnx")
    assert "no guard: " not in done.text()
    assert Guard.from_json(json.loads(done.checked.bundle.one("guard") or b"")).rules.shape == (1, 8, 8)
    told = json.loads(done.checked.bundle.one("guard") or b"")
    other = bundle_file.canonical({**told, "shape": [1, 4, 16]})
    rows = {key: told[key][: -len(told["lower"])] for key in ("low", "high")}
    fewer = bundle_file.canonical({**told, **rows, "means": told["means"] - 1})
    assert Guard.from_json(json.loads(other))
    assert Guard.from_json(json.loads(fewer))
    for bad in (b"{}", b"{} ", b'{"format":1}', other, fewer):
        assert checked(forge(done.content, changed={"guard.json": bad}), PUB) == "guard"


def test_a_guard_in_c_is_the_bundles(place: Place, tmp_path: Path) -> None:
    raw, more = CASE.raw(1700), tmp_path / "more.npz"
    rows = {"x_train": raw[:1600], "x_test": raw[1600:], "y_train": np.arange(1600) % 4, "y_test": np.arange(100) % 4}
    np.savez(more, **rows)
    own = Place(tmp_path, load(more))
    source(own.data).write(tmp_path / "a.ticket")
    export(source(own.data), "onnx", tmp_path / "a.onnx")

    def exported(guard: Path) -> None:
        done = run(
            "export", tmp_path / "a.ticket", "--to", "c", "--guard", guard, "-o", tmp_path / "a-c", "--overwrite"
        )
        assert done.exit_code == 0, done.output

    exported(more)
    done = own.ship("b.bundle", "a.onnx", "a-c")
    assert "12 files of C: what this version exports of the ticket, text for text" in done.checked.checks
    assert not done.checked.open
    (tmp_path / "guard.json").write_bytes(done.checked.bundle.files["guard.json"])
    text = (tmp_path / "a-c" / "a_c_guard.c").read_text()
    (tmp_path / "a-c" / "a_c_guard.c").write_text(text.replace("state->times >= ET_STUCK", "0"))
    with pytest.raises(EquivalenceError, match=r"a-c/a_c_guard\.c is not the guard of this bundle.*guard\.json"):
        own.ship("c.bundle", "a.onnx", "a-c")
    np.savez(tmp_path / "other.npz", **{**rows, "x_train": raw[100:]})
    exported(tmp_path / "other.npz")
    with pytest.raises(EquivalenceError, match="is not the guard of this bundle"):
        own.ship("c.bundle", "a.onnx", "a-c")
    exported(tmp_path / "guard.json")
    assert (tmp_path / "a-c" / "a_c_guard.c").read_text() == text
    assert own.ship("b.bundle", "a.onnx", "a-c").content == done.content
    (tmp_path / "guard.json").write_text("[]")
    wrong = run("export", tmp_path / "a.ticket", "--to", "c", "--guard", tmp_path / "no.json", "-o", tmp_path / "d")
    assert (wrong.exit_code, "no.json: no guard" in wrong.stderr) == (2, True)


# check


def test_an_accepted_bundle(shipped: bytes, place: Place) -> None:
    old = (place.folder / "old.packet").read_bytes()
    assert checked(shipped, PUB, target_class=CLASS, after=SEQUENCE - 1, against=old) == ""
    told = bundle_check.check(shipped, [PUB])
    assert any("--against" in line for line in told.open)
    assert not any("who made it" in line for line in told.open)
    assert any("who made it" in line for line in bundle_check.check(shipped).open)


def changed(shipped: bytes, place: Place, what: str) -> dict[str, bytes]:
    """A file of the bundle as a forger would put it there."""
    found, other = read(shipped), older(source(place.data))
    if what == "a.ticket":
        return {what: other.to_bytes()}
    if what == "a.onnx":
        return {what: found.files[what].replace(b"edgeticket.precision", b"edgeticket.accuracy_", 1)}
    if what == "golden.safetensors":
        inputs, outputs = bundle_file.read_golden(found.files[what])
        return {what: bundle_file.golden(inputs, outputs[::-1])}
    if what == "a.update":
        return {what: (place.folder / "old.packet").read_bytes()}
    if what == "a.delta":
        return {what: found.files[what][:-1]}
    return {what: b'{"ticket":"1"}'}


ALTERED = {"a.ticket": "ticket", "golden.safetensors": "golden", "a.update": "packet", "claims.json": "claims"}


@pytest.mark.parametrize("what", ALTERED)
def test_a_file_must_follow_from_the_ticket_whoever_signs(what: str, shipped: bytes, place: Place) -> None:
    forged = forge(shipped, changed=changed(shipped, place, what))
    assert checked(forged, PUB) == checked(forged) == ALTERED[what]


def test_onnx_of_strangers_is_not_run(shipped: bytes, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed it is believed; unsigned it never gets to ONNX Runtime."""
    foreign, ran = changed(shipped, place, "a.onnx"), list[bytes]()
    run_bytes = to_onnx.run_bytes
    monkeypatch.setattr(to_onnx, "run_bytes", lambda content, raw: ran.append(content) or run_bytes(content, raw))
    assert checked(forge(shipped, None, foreign)) == "model"
    assert checked(forge(shipped, KEY, foreign)) == "model"
    assert ran == []
    assert "believed for its signature" in bundle_check.check(forge(shipped, KEY, foreign), [PUB]).text()
    assert ran == [foreign["a.onnx"]]


def test_golden_vectors_are_the_tickets_too(shipped: bytes, place: Place, tmp_path: Path) -> None:
    """A network of another ticket with right answers of its own, signed by whoever has the key."""
    export(older(source(place.data)), "onnx", tmp_path / "b.onnx")
    content, inputs = (tmp_path / "b.onnx").read_bytes(), bundle_file.read_golden(read(shipped).one("golden") or b"")[0]
    answers = bundle_file.golden(inputs, to_onnx.run_bytes(content, inputs))
    forged = forge(shipped, changed={"a.onnx": content, "golden.safetensors": answers})
    with pytest.raises(BundleError, match="its ticket does not answer its golden vectors"):
        bundle_check.check(forged, [PUB])


def test_a_packet_that_only_says_it_is_the_tickets(shipped: bytes) -> None:
    packet = bytearray(envelope.parse(read(shipped).files["a.update"]).packet)
    packet[8] ^= 1  # of the seed
    altered = sealed(bytes(packet[:-4]))
    for private, what in ((KEY, "not what the ticket gives"), (OTHER, "none of the given keys")):
        forged = forge(shipped, changed={"a.update": envelope.pack(altered, CLASS, SEQUENCE, private)})
        with pytest.raises(BundleError, match=what):
            bundle_check.check(forged, [PUB])
    unsigned = forge(shipped, changed={"a.update": envelope.pack(bytes(packet), CLASS, SEQUENCE)})
    assert [checked(unsigned), checked(unsigned, PUB)] == ["packet", "unsigned"]


def test_a_difference_gives_the_packet(shipped: bytes, place: Place) -> None:
    old = (place.folder / "old.packet").read_bytes()
    short = forge(shipped, changed=changed(shipped, place, "a.delta"))
    assert checked(short, PUB) == ""  # its head is right: only the packet in use tells
    with pytest.raises(EdgeTicketError):
        bundle_check.check(short, [PUB], against=old)
    assert checked(forge(shipped, changed={"a.delta": b"ETD1" + bytes(20)}), PUB) == "packet"
    assert checked(shipped, PUB, against=read(shipped).files["a.update"]) == "precursor"
    assert checked(place.ship("n.bundle", "a.onnx").content, PUB, against=old) == "precursor"


@pytest.mark.parametrize("field", ["task", "purity", "input", "ticket"])
def test_fields_must_be_the_tickets(field: str, shipped: bytes) -> None:
    other = {"task": "anomaly", "purity": "P3", "input": {"shape": [1, 8, 8], "dtype": "int16"}, "ticket": "1" * 64}
    assert checked(forge(shipped, **{field: other[field]}), PUB) == "ticket"


def test_documents_are_canonical(shipped: bytes) -> None:
    claims = read(shipped).one("claims") or b""
    for text in (claims + b" ", b"[]", b"{", b"\xff", b"[" * 100_000, claims.replace(b'"n":', b'"n": ', 1) + b"\n"):
        assert checked(forge(shipped, changed={"claims.json": text}), PUB) == "claims"


def test_extracting_writes_the_files_and_nothing_over_others(shipped: bytes, tmp_path: Path) -> None:
    bundle = read(shipped, [PUB])
    bundle_check.extract(bundle, tmp_path / "out")
    found = {
        str(file.relative_to(tmp_path / "out")): file.read_bytes()
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert found == bundle.files
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UsageError):
        bundle_check.extract(bundle, tmp_path / "out")


def test_what_a_killed_extraction_left_is_removed_by_the_next(shipped: bytes, tmp_path: Path) -> None:
    bundle, child = read(shipped), os.fork()
    if not child:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        bundle_check.extract(bundle, tmp_path / "out")
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert not (tmp_path / "out").exists()
    assert any(path.is_dir() for path in tmp_path.iterdir())
    bundle_check.extract(bundle, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# commands


def test_from_keys_to_a_verified_folder(place: Place, tmp_path: Path) -> None:
    made = run("key", "new", "-o", tmp_path / "line", "--format", "json")
    told = json.loads(made.stdout)
    assert stat.S_IMODE((tmp_path / "line.key").stat().st_mode) == 0o600
    assert signing.public_of((tmp_path / "line.key").read_bytes()).hex() == told["bytes"]
    files = [place.folder / name for name in ("a.ticket", "a.onnx", "a-c")]
    bundle, data = tmp_path / "a.bundle", ["-d", place.folder / "own.npz"]
    named = ["--class", CLASS, "--sequence", 3, "--key", tmp_path / "line.key", "-o", bundle]
    done = run("ship", *files, *data, *named)
    assert done.exit_code == 0, done.output
    assert f"signed by {told['fingerprint']}" in done.stdout
    assert run("ship", *files, *data, *named).exit_code == 2
    right = ["--key", tmp_path / "line.pub", "--class", CLASS, "--after", 2]
    done = run("verify", bundle, *right, "--extract", tmp_path / "out", "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["signed_by"] == told["fingerprint"]
    assert (tmp_path / "out" / "a.update").read_bytes()[:4] == b"ETU1"
    for wrong, word in (
        (["--class", "x"], "class"),
        (["--after", 3], "sequence"),
        (["--against", files[0]], "precursor"),
    ):
        done = run("verify", bundle, *right, *wrong, "--extract", tmp_path / "other")
        assert (done.exit_code, done.stdout) == (4, "")
        assert done.stderr.endswith(f"(refused: {word})\n")
        assert not (tmp_path / "other").exists()


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    assert run("key", "new", "-o", tmp_path / "k").exit_code == 0
    before = (tmp_path / "k.key").read_bytes()
    (tmp_path / "k.pub").unlink()
    assert run("key", "new", "-o", tmp_path / "k").exit_code == 2
    assert (tmp_path / "k.key").read_bytes() == before
    assert not (tmp_path / "k.pub").exists()
    assert run("key", "new", "-o", tmp_path / "none" / "k").exit_code == 1


@pytest.mark.parametrize("full", [1, 2])
def test_a_full_disk_leaves_no_half_of_a_pair(full: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, calls = os.fsync, list[int]()

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        done = run("key", "new", "-o", tmp_path / "k")
    assert (done.exit_code, "No space left on device" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
    assert run("key", "new", "-o", tmp_path / "k").exit_code == 0


def test_a_public_key_that_was_lost_is_made_again(tmp_path: Path) -> None:
    made = json.loads(run("key", "new", "-o", tmp_path / "k", "--format", "json").stdout)
    public = (tmp_path / "k.pub").read_text()
    assert run("key", "public", tmp_path / "k.key").stdout == public
    told = json.loads(run("key", "public", tmp_path / "k.key", "--format", "json").stdout)
    assert told == {"public": public, "fingerprint": made["fingerprint"], "bytes": made["bytes"]}
    done = run("key", "public", tmp_path / "k.key", "-o", tmp_path / "again.pub")
    assert (done.exit_code, made["fingerprint"] in done.stdout) == (0, True)
    assert (tmp_path / "again.pub").read_text() == public
    assert run("key", "public", tmp_path / "k.key", "-o", tmp_path / "again.pub").exit_code == 2
    for wrong in ("k.pub", "none.key"):
        done = run("key", "public", tmp_path / wrong)
        assert (done.exit_code, str(tmp_path / wrong) in done.stderr) == (2, True)


def test_expiry_is_asked_of_the_clock_or_of_now(shipped: bytes, place: Place) -> None:
    path = place.folder / "a.bundle"
    path.write_bytes(shipped)
    assert run("verify", path, "--now", EXPIRES).exit_code == 0
    done = run("verify", path, "--now", "3000-01-01")
    assert (done.exit_code, "(refused: expired)" in done.stderr) == (4, True)
    path.write_bytes(forge(shipped, expires="2001-01-01"))
    assert run("verify", path).exit_code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.bundle", "a.onnx"],
        ["x.bundle", "-d", "digits"],
        ["x.bundle", "--claims", "poc.json"],
        ["x.bundle", "--now", "tomorrow"],
        ["x.ticket", "-d", "digits", "--key", "k.pub"],
        ["x.ticket", "-d", "digits", "--class", "a"],
        ["--claims", "poc.json", "--after", "3"],
        ["x.bundle", "--key", "none.pub"],
    ],
)
def test_options_that_would_be_ignored_are_refused(arguments: list[str]) -> None:
    assert run("verify", *arguments).exit_code == 2


@pytest.mark.parametrize(
    "wrong", [b"", b"\0" * 31, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KEY]
)
def test_what_is_no_key_is_said(wrong: bytes, place: Place, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(wrong)
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    done = run("verify", tmp_path / "x.bundle", "--key", tmp_path / "bad")
    assert (done.exit_code, f"{tmp_path / 'bad'}: not a public key" in done.stderr) == (2, True)
    with pytest.raises(UsageError, match="not a private key"):
        signing.sign(PUB, b"", b"")


def test_the_wrong_file_for_a_key_is_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_bytes(PUB)
    (tmp_path / "x.bundle").write_bytes(small(None))
    ticket = place.folder / "a.ticket"
    done = run("verify", tmp_path / "x.bundle", "--key", tmp_path / "k.pub", "--key", ticket)
    assert (done.exit_code, f"{ticket}: not a public key" in done.stderr) == (2, True)
    named = ["--class", CLASS, "--sequence", 3, "--key", tmp_path / "k.pub", "-o", tmp_path / "y.bundle"]
    done = run("ship", ticket, place.folder / "a.onnx", "-d", place.folder / "own.npz", *named)
    assert (done.exit_code, f"{tmp_path / 'k.pub'}: not a private key" in done.stderr) == (2, True)


@pytest.mark.parametrize("keys", [PUB, ["mine.pub"], [Path("mine.pub")], [PUB, None]])
def test_keys_are_a_list_of_bytes(keys: Any, tmp_path: Path) -> None:
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    for act in (lambda: read(CONTENT, keys), lambda: Predictor(tmp_path / "x.bundle", keys)):
        with pytest.raises(UsageError, match="keys are a list of bytes"):
            act()


def test_signing_needs_an_extra_and_says_which(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['cryptography'] = None; from edgeticket.cli import main; main()"
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    (tmp_path / "k.pub").write_bytes(PUB)
    for arguments in (["key", "new", "-o", "new"], ["verify", "x.bundle", "--key", "k.pub"]):
        done = subprocess.run(
            [sys.executable, "-c", hide, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert (done.returncode, "pip install 'edgeticket[sign]'" in done.stderr) == (1, True), done.stderr


def test_a_bundle_is_read_without_onnx_torch_or_cryptography(tmp_path: Path) -> None:
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    script = (
        "import sys; from pathlib import Path; from edgeticket.bundle_file import read; read(Path('x.bundle'));"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'cryptography', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
