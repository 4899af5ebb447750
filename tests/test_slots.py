"""Two slots on a device: whatever happens to an update, a good model runs, and never one that should not."""

import ctypes
import os
import re
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import slots_sim
from cases import CASES
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from slots_sim import CLASS, HEADER, KEY, OTHER_KEY, TRIALS, Device, Flash, any_packet, update
from slots_stories import CHECKED, DEEP, KINDS, PACKETS, STATES, Campaign
from test_c_arches import deepest
from tiny_c import need

from edgeticket import envelope
from edgeticket.compact import compact
from exporters import to_c

GEOMETRY = (2048, 1, 8)
ROOM = 2048 - 16 * 16


def need_sodium() -> None:
    need("cc")
    if not Path("/usr/include/sodium.h").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no libsodium-dev")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_sodium()
    return slots_sim.build(tmp_path_factory.mktemp("slots"))


@pytest.fixture
def device(library: Path) -> Device:
    """Runs model 2; model 1 is in the other slot."""
    made = Device(library, Flash(*GEOMETRY))
    STATES["two"](made)
    made.boot()
    return made


def runs(device: Device) -> tuple[int, bool]:
    """Sequence and whether it is on trial, after a reset; -1: the model that is built in."""
    model, packet = device.boot()
    assert model.slot < 0 or packet == PACKETS[model.sequence]
    return (model.sequence if model.slot >= 0 else -1), bool(model.trial)


# power cuts


def test_a_cut_at_any_operation_leaves_the_old_or_the_new_model(library: Path) -> None:
    tally = Campaign(library, GEOMETRY, 20).run(["two"])
    assert tally.failures == []
    assert tally.cuts > 500


@pytest.mark.slow
@pytest.mark.parametrize("geometry", CHECKED, ids=str)
def test_cuts_on_four_kinds_of_flash(library: Path, geometry: tuple[int, int, int]) -> None:
    states = STATES if geometry[2] > 1 else ["two", "damaged"]  # a byte at a time takes long
    tally = Campaign(library, geometry, 35).run(states)
    assert tally.failures == []
    assert tally.doubles > 200


@pytest.mark.soak
@pytest.mark.parametrize("geometry", [*CHECKED, *DEEP], ids=str)
def test_cuts_on_twelve_kinds_of_flash(library: Path, geometry: tuple[int, int, int]) -> None:
    assert Campaign(library, geometry, 200).run().failures == []


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [(2048, 1, 8), (512, 3, 32)], ids=str)
def test_the_campaign_under_sanitizers(tmp_path: Path, geometry: tuple[int, int, int]) -> None:
    need_sodium()
    library = slots_sim.build(tmp_path, sanitize=True)
    asan = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    program = f"import slots_stories as s; from pathlib import Path; t = s.Campaign(Path({str(library)!r}), {geometry}, 5).run(); print(t)"
    environment = os.environ | {"LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "failures=[]" in done.stdout


# A safety step, and what is there without it.
STEPS = {
    "a model on trial protects the one before it": ("!s->config || s->trial", "!s->config"),
    "nor is there an update after a rejection": ("!wrong && kind == REJECT)", "0)"),
    "the update goes to the slot that is not in use": ("!s->running : history", "s->running : history"),
    "a boot on trial is noted": ("&& !note(c, slot, BOOT, h[slot].ready)", ""),
    "trials end": ("&& h[slot].tries < c->trials", ""),
    "a rejected model stays rejected": ("&& !h[slot].rejected", ""),
    "a note counts with its checksum only": ("get(place + 12) == crc32(place, 12) ? get(place) : 0", "get(place)"),
    "a used place is not written again": ("h.used = i + 1;", "h.used = h.ready ? i + 1 : 0;"),
    "what was not confirmed is not kept": ("if (h[slot].confirmed == h[slot].ready && good", "if (good"),
    "a packet is the signed one when it runs": ("same(update + DIGEST, digest, 32)", "1"),
    "a slot is erased first": ("wrong = clear(s->config, s->target)", "wrong = 0"),
    "all of it": ("i = c->sectors; i--;", "i = c->sectors - 1; i--;"),
    "notes are erased last": ("i = c->sectors; i--;", "i = 0; i < c->sectors; i++"),
    "the highest sequence survives its slot": ("known > history_of(c, !slot).highest ?", "0 ?"),
    "an old sequence is refused": ("if (sequence <= highest)", "if (0)"),
    "an older model is not tried again": ("h[slot].ready > highest_of(c) &&", "h[slot].ready != h[slot].confirmed &&"),
}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_every_safety_step_is_needed(step: str, tmp_path: Path) -> None:
    need_sodium()
    library = slots_sim.build(tmp_path, *STEPS[step])
    tallies = (
        Campaign(library, geometry, 3).run([state], [kind])
        for geometry, state, kind in product([GEOMETRY, (512, 3, 32)], ["factory", "two", "damaged", "unnoted"], KINDS)
    )
    assert any(tally.failures for tally in tallies)


# refusals


def large() -> bytes:
    return update(3, any_packet(ROOM - HEADER + 1, 0))


REFUSED = {
    "unsigned": ("UNSIGNED", lambda: update(3, PACKETS[3], key=None)),
    "wrong key": ("SIGNATURE", lambda: update(3, PACKETS[3], key=OTHER_KEY)),
    "a signature for something else": ("SIGNATURE", lambda: update(3, PACKETS[3], context=b"edgeticket-bundle 1\n")),
    "equal sequence": ("OLD", lambda: update(2, PACKETS[3])),
    "lower sequence": ("OLD", lambda: update(1, PACKETS[3])),
    "sequence far ahead": ("JUMP", lambda: update(2 + 1001, PACKETS[3])),
    "wrong class": ("CLASS", lambda: update(3, PACKETS[3], target=bytes(16))),
    "wrong firmware": ("FIRMWARE", lambda: update(3, PACKETS[3], firmware=b"another!")),
    "a packet for another firmware": ("FIRMWARE", lambda: update(3, bytes(100))),
    "a packet without a header": ("FORMAT", lambda: update(3, PACKETS[3][:23])),
    "too large": ("TOO_LARGE", large),
    "another packet": ("DIGEST", lambda: update(3, PACKETS[3])[:-1] + b"\0"),
    "too large for less than it says": ("TOO_LARGE", lambda: large()[:-1]),
    "another version": ("FORMAT", lambda: b"ETU2" + update(3, PACKETS[3])[4:]),
    "no update": ("FORMAT", lambda: b"ETP1" + bytes(200)),
    "lengths that differ": ("FORMAT", lambda: update(3, PACKETS[3], length=len(PACKETS[3]) + 1)),
    "a header that says less": ("EXTRA", lambda: update(3, PACKETS[3]) + b"\0"),
    "a header that says more": ("SHORT", lambda: update(3, PACKETS[3])[:-1]),
    "half a header": ("SHORT", lambda: update(3, PACKETS[3])[:100]),
    "nothing": ("SHORT", lambda: b""),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_has_a_code_and_changes_nothing(device: Device, what: str) -> None:
    code, content = REFUSED[what]
    before, active = device.flash.contents(), device.boot()[0].slot
    assert device.send(content()) == code
    assert device.finish() == "STATE"
    after = device.flash.contents()
    assert after[active] == before[active]
    assert after == before or what in (
        "another packet",
        "a packet for another firmware",
    )  # nothing is erased for what was not signed
    assert runs(device) == (2, False)
    device.install(4, PACKETS[4])
    assert runs(device) == (4, False)


# Threats of RFC 9124 and attacks that TUF names, each as the refusal that meets it; docs/reliability.md has those that none meets.
THREATS = {
    "THREAT.IMG.EXPIRED": "lower sequence",
    "THREAT.IMG.INCOMPATIBLE": "wrong class",
    "THREAT.IMG.FORMAT": "no update",
    "THREAT.IMG.NON_AUTH": "unsigned",
    "THREAT.IMG.EXTRA": "a header that says less",
    "THREAT.IMG.REPLACE": "another packet",
    "TUF arbitrary software": "wrong key",
    "TUF rollback": "equal sequence",
    "TUF fast-forward": "sequence far ahead",
    "TUF endless data": "too large",
    "TUF mix-and-match": "a packet for another firmware",
    "TUF wrong software": "wrong firmware",
}


@pytest.mark.parametrize("threat", THREATS)
def test_a_named_threat(device: Device, threat: str) -> None:
    test_a_refusal_has_a_code_and_changes_nothing(device, THREATS[threat])


def test_threat_mfst_toctou(device: Device) -> None:
    """What is checked last is what lies in flash, not what came."""
    content, target = update(3, PACKETS[3]), 1 - device.boot()[0].slot
    for at, code in ((30, "SIGNATURE"), (HEADER + 40, "DIGEST")):
        assert device.begin(len(content)) == "OK"
        assert device.write(content) == "OK"
        slots_sim.flip(device.flash.addresses[target] + 16 * device.flash.place + at)
        assert device.finish() == code
        assert runs(device) == (2, False)


def test_bytes_past_the_end_or_too_few_of_them(device: Device) -> None:
    content = update(3, PACKETS[3])
    assert device.send(content + b"\0", total=len(content)) == "EXTRA"
    assert device.send(content[:-1], total=len(content)) == "SHORT"
    assert runs(device) == (2, False)


def test_every_flipped_bit_and_every_cut_is_refused(device: Device) -> None:
    content = update(3, PACKETS[3])
    codes = set()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        codes.add(device.send(bytes(flipped)))
    assert codes == {"FORMAT", "SIGNATURE", "DIGEST"}
    assert {device.send(content[:size]) for size in range(len(content))} == {"SHORT"}
    assert runs(device) == (2, False)
    device.boot()
    assert device.send(content) == "OK"


@pytest.mark.parametrize("portion", [1, 7, 136, 137, 1000])
def test_an_update_comes_in_any_portions(device: Device, portion: int) -> None:
    assert device.send(update(3, PACKETS[3]), portion=portion) == "OK"
    assert runs(device) == (3, True)


def test_digests_of_all_lengths_around_a_block(library: Path) -> None:
    device = Device(library, Flash(*GEOMETRY))
    for sequence, size in enumerate([24, 55, 56, 57, 63, 64, 65, 119, 120, 128, ROOM - HEADER], 1):
        device.install(sequence, any_packet(size, size))
        assert device.boot()[1] == any_packet(size, size)


def test_what_ship_writes_is_what_a_device_takes() -> None:
    encoding = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    made = envelope.pack(PACKETS[3], CLASS.decode(), 3, KEY.private_bytes(*encoding))
    assert made == update(3, PACKETS[3])


def test_the_cap_of_a_jump(device: Device) -> None:
    device.install(2 + 1000, PACKETS[3])
    device.config.jump = 0
    device.install(0xFFFFFFFF, PACKETS[4])


# A check, what is there without it, and the refusals that it is for.
CHECKS = {
    "size": ("if (total > room(s->config))", "if (0)"),
    "size in the header": ("if (total > room(c))", "if (total > 0x7FFFFFFF)"),
    "magic": ("!same(header, magic, 4) ||", ""),
    "lengths": ("|| get(header + PACKET) != total - ET_SLOTS_HEADER", ""),
    "a packet's header": ("total < ET_SLOTS_HEADER + OF_FIRMWARE + 8 ||", ""),
    "any signature": ("filled(header + SIGNED, 64, 0)", "0"),
    "signature": ("c->verify(header + SIGNED, message, sizeof message) ?", "0 ?"),
    "class": ("!same(header + CLASS, digest, 16)", "0"),
    "firmware": ("same(header + FIRMWARE, c->firmware, 8)", "1"),
    "the packet's firmware": ("same(update + ET_SLOTS_HEADER + OF_FIRMWARE, c->firmware, 8)", "1"),
    "sequence": ("if (sequence <= highest)", "if (sequence < highest)"),
    "jump": ("c->jump && sequence - highest > c->jump", "0"),
    "digest": ("if (!same(update + DIGEST, digest, 32))", "if (0)"),
    "more announced": ("? ET_SLOTS_EXTRA : ET_SLOTS_SHORT", "? 0 : ET_SLOTS_SHORT"),
    "fewer announced": ("? ET_SLOTS_EXTRA : ET_SLOTS_SHORT", "? ET_SLOTS_EXTRA : 0"),
    "more bytes": ("if (at >= s->total)", "if (0)"),
    "fewer bytes": ("if (s->received != s->total ||", "if ("),
    "before it is ready": (
        "const int wrong = update_wrong(s->config, slot);\n    return",
        "const int wrong = 0;\n    return",
    ),
    "whether flash took it": ("c->program(at, bytes) || !same(at, bytes, c->unit)", "c->program(at, bytes)"),
    "whether flash was erased": ("c->erase(sector) || !filled(sector, c->sector, 0xFF)", "c->erase(sector)"),
    "room for a note": ("if (used == RECORDS)", "if (used > RECORDS)"),
    "the built-in model is newer": ("return h->ready > c->sequence &&", "return"),
    "the first slot begins a sector": ("a % c->sector ||", ""),
    "the second slot begins a sector": ("|| b % c->sector", ""),
    "slots do not overlap": ("(a < b ? b - a : a - b) < size", "a == b"),
    "room for notes and a header": ("|| size < RECORDS * place_bytes(c) + ET_SLOTS_HEADER", ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_every_check_is_needed(check: str, tmp_path: Path) -> None:
    """Without it a test above fails."""
    need_sodium()
    library = slots_sim.build(tmp_path, *CHECKS[check])
    tests = [partial(test_a_refusal_has_a_code_and_changes_nothing, what=what) for what in REFUSED]
    tests += [partial(test_a_flash_that_takes_nothing, call=call, answer=0) for call in ("erase", "program")]
    tests += [test_bytes_past_the_end_or_too_few_of_them, test_a_trial_that_cannot_be_noted_does_not_take_place]
    tests += [test_calls_at_the_wrong_time, test_a_new_firmware_has_a_newer_model_or_another_network]
    tests += [partial(test_slots_begin_sectors_and_do_not_overlap, first=0, second=n) for n in (1024, 2560)]
    tests += [partial(test_a_configuration_that_makes_no_sense, name="sector", value=256)]
    failed = 0
    for test in tests:
        made = Device(library, Flash(*GEOMETRY))
        STATES["two"](made)
        made.boot()
        try:
            test(made)
        except (AssertionError, KeyError, pytest.fail.Exception):
            failed += 1
    assert failed


# trials


@pytest.mark.parametrize("trials", [1, 2, TRIALS, 8])
def test_a_model_that_hangs_is_used_as_often_as_configured(device: Device, trials: int) -> None:
    device.config.trials = trials
    assert device.send(update(3, PACKETS[3])) == "OK"
    assert [runs(device) for _ in range(trials + 2)] == [(3, True)] * trials + [(2, False)] * 2
    device.install(4, PACKETS[4])


def test_a_model_with_a_wrong_golden_vector_is_used_once(device: Device) -> None:
    assert device.send(update(3, PACKETS[3])) == "OK"
    assert runs(device) == (3, True)
    assert device.reject() == "OK"
    assert device.confirm() == "STATE"
    assert [runs(device) for _ in range(2)] == [(2, False)] * 2


def test_the_first_model_that_fails_gives_way_to_the_one_that_is_built_in(library: Path) -> None:
    device = Device(library, Flash(*GEOMETRY))
    assert runs(device) == (-1, False)
    assert device.send(update(1, PACKETS[1])) == "OK"
    assert [runs(device) for _ in range(TRIALS + 1)] == [(1, True)] * TRIALS + [(-1, False)]


def test_calls_at_the_wrong_time(device: Device) -> None:
    assert device.write(b"x") == "STATE"
    assert device.finish() == "STATE"
    assert device.confirm() == "STATE"
    assert device.reject() == "STATE"
    assert device.begin(ROOM + 1) == "TOO_LARGE"
    assert device.write(b"x") == "STATE"


# what was confirmed


def test_an_old_update_is_refused_after_the_new_one_has_rotted(device: Device) -> None:
    slots_sim.rot(device)
    assert runs(device) == (1, False)
    for _ in range(2):
        assert device.send(update(2, PACKETS[2])) == "OLD"
        assert (
            device.send(update(3, PACKETS[3])) == "OK"
        )  # its slot has gone, and with it what said that 2 was confirmed
        assert device.send(update(2, PACKETS[2])) == "OLD"
        assert [runs(device) for _ in range(TRIALS + 1)] == [(3, True)] * TRIALS + [(1, False)]


def test_no_model_with_a_flipped_bit_is_used(device: Device) -> None:
    model, packet = device.boot()
    for bit in range(0, 8 * (HEADER + len(packet)), 3):
        address = model.packet - HEADER + bit // 8
        slots_sim.flip(address, bit % 8)
        assert runs(device) == (1, False)
        slots_sim.flip(address, bit % 8)
    assert runs(device) == (2, False)


def test_a_new_firmware_has_a_newer_model_or_another_network(device: Device) -> None:
    device.config.sequence = 2
    assert runs(device) == (-1, False)
    assert device.send(update(2, PACKETS[2])) == "OLD"
    device.config.sequence = 1
    assert runs(device) == (2, False)
    device.config.firmware = (ctypes.c_uint8 * 8)(*b"another!")
    assert runs(device) == (-1, False)


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("call", ["erase", "program"])
def test_a_flash_that_takes_nothing(device: Device, call: str, answer: int) -> None:
    """Whether it says so or not."""
    idle = {"erase": slots_sim.ERASE(lambda _: answer), "program": slots_sim.PROGRAM(lambda *_: answer)}[call]
    setattr(device.config, call, idle)
    assert device.send(update(3, PACKETS[3])) == "FLASH"
    assert runs(device) == (2, False)
    device.config.erase, device.config.program = device.calls
    device.install(3, PACKETS[3])


def test_a_trial_that_cannot_be_noted_does_not_take_place(device: Device) -> None:
    other = 1 - device.boot()[0].slot
    assert device.send(update(3, PACKETS[3])) == "OK"
    ctypes.memset(device.flash.addresses[other] + 15 * device.flash.place, 0, 1)
    assert runs(device) == (2, False)
    device.install(4, PACKETS[4])


WRONG = {"unit": (0, 3, 64), "sector": (0, 2044, 256), "sectors": (0, 1 << 21), "trials": (0, 9)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_configuration_that_makes_no_sense(device: Device, name: str, value: int) -> None:
    setattr(device.config, name, value)
    with pytest.raises(slots_sim.Broken, match="GEOMETRY"):
        device.boot()
    assert device.send(update(3, PACKETS[3])) == "STATE"


@pytest.mark.parametrize("first", [0, 1024, 2048])
@pytest.mark.parametrize("second", [3, 1024, 2048, 2560, 3072])
def test_slots_begin_sectors_and_do_not_overlap(device: Device, first: int, second: int) -> None:
    """Slots of two sectors of 1,024 bytes in an area of six."""
    area = slots_sim.Flash(1024, 6, 8)
    device.config.sector, device.config.sectors = 1024, 2
    right = abs(first - second) >= 2048 and second % 1024 == 0
    for places in ((first, second), (second, first)):
        device.config.slot[:] = [area.addresses[0] + place for place in places]
        if right:
            assert runs(device) == (-1, False)
        else:
            with pytest.raises(slots_sim.Broken, match="GEOMETRY"):
                device.boot()
            assert device.send(update(3, PACKETS[3])) == "STATE"


# the code


def test_it_needs_no_library(tmp_path: Path) -> None:
    need("cc", "nm")
    strict = ["cc", "-std=c99", "-pedantic", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    subprocess.run([*strict, "-c", str(slots_sim.PORT / "slots.c"), "-o", str(tmp_path / "slots.o")], check=True)
    listed = subprocess.run(["nm", "-u", str(tmp_path / "slots.o")], capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) - {"U", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"} <= {"memcpy", "memset"}


COSTS = """#include "slots.h"
#include <string.h>
#include "updates.h"
void et_print(const char *text);
uint64_t et_cost(int (*run)(unsigned), unsigned i);
uint32_t et_stack(int (*run)(unsigned), unsigned i);
enum { SECTOR = 4096, SECTORS = 2, UNIT = 8 }; /* as examples/bare_metal */
static uint8_t flash[2][SECTOR * SECTORS] __attribute__((aligned(SECTOR)));
static int erase(const uint8_t *at) { memset((uint8_t *)at, 0xFF, SECTOR); return 0; }
static int program(const uint8_t *at, const uint8_t *bytes) {
  for (int i = 0; i < UNIT; i++) ((uint8_t *)at)[i] &= bytes[i];
  return 0;
}
static int verify(const uint8_t *signature, const uint8_t *message, size_t size) { return !(signature && message && size); }
static const et_slots_config config = {
  {flash[0], flash[1]}, SECTOR, SECTORS, UNIT, erase, program, verify, "line-camera-v2", "firmware", 0, 1000, 3};
static et_slots slots;
static et_slots_model model;
static int receive(unsigned i) {
  const int wrong = et_slots_begin(&slots, sizeof update[i]) || et_slots_write(&slots, update[i], sizeof update[i]);
  return wrong || et_slots_finish(&slots);
}
static int boot(unsigned i) { (void)i; return et_slots_boot(&slots, &config, &model); }
static void say(uint32_t value) {
  char text[12] = "          \\n";
  for (int i = 9; value; value /= 10) text[i--] = (char)('0' + value % 10);
  et_print(text);
}
int main(void) {
  memset(flash, 0xFF, sizeof flash);
  if (boot(0) || receive(0) || boot(0) || et_slots_confirm(&slots)) return 1;
  say((uint32_t)et_cost(boot, 0));
  say((uint32_t)et_cost(receive, 1));
  say(et_stack(boot, 0));
  return boot(0) || model.sequence != 2 || !model.trial;
}
"""


def documented(what: str) -> int:
    page = (Path(__file__).parent.parent / "docs" / "update.md").read_text()
    return int(re.search(rf"{what}[^|]* \| ([\d,]+) ", page)[1].replace(",", ""))


@pytest.mark.parametrize(("core", "what"), [("cortex-m4", "code and constants"), ("cortex-m0", "the same, M0")])
def test_its_size_on_a_core(core: str, what: str, tmp_path: Path) -> None:
    need("arm-none-eabi-gcc", "arm-none-eabi-size")
    flags = ["-std=c99", f"-mcpu={core}", "-mthumb", "-O2", "-Wall", "-Wextra", "-Werror", "-fcallgraph-info=su"]
    subprocess.run(["arm-none-eabi-gcc", *flags, "-c", str(slots_sim.PORT / "slots.c")], cwd=tmp_path, check=True)
    size = ["arm-none-eabi-size", "slots.o"]
    listed = subprocess.run(size, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, listed.splitlines()[1].split()[:3])
    assert text == pytest.approx(documented(what), rel=0.02)  # of another GCC
    assert (data, bss) == (0, 0)
    assert 100 < deepest((tmp_path / "slots.ci").read_text()) < 550


def test_its_instructions_on_a_core(tmp_path: Path) -> None:
    need("arm-none-eabi-gcc", "qemu-system-arm")
    rows = ", ".join(f"{{{', '.join(map(str, update(n, any_packet(3643, n))))}}}" for n in (1, 2))
    (tmp_path / "updates.h").write_text(f"static const uint8_t update[2][{HEADER + 3643}] = {{{rows}}};")
    (tmp_path / "main.c").write_text(COSTS)
    memory = {"FLASH_BASE": 0, "FLASH_SIZE": 1 << 22, "RAM_BASE": 0x20000000, "RAM_SIZE": 1 << 22, "STACK_SIZE": 4096}
    words = ["-std=c99", "-O2", "-mcpu=cortex-m4", "-mthumb", f"-I{slots_sim.PORT}", "main.c"]
    words += [str(slots_sim.PORT / name) for name in ("slots.c", "port.c")]
    words += ["-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs", f"-T{slots_sim.PORT / 'cortex-m.ld'}"]
    words += [f"-Wl,--defsym,{name}={value}" for name, value in memory.items()]
    subprocess.run(["arm-none-eabi-gcc", *words], cwd=tmp_path, check=True)
    words = ["-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    words += ["-semihosting", "-icount", "shift=0", "-kernel", "a.out"]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    done = run(["qemu-system-arm", *words])
    counts = [int(word) for word in (done.stdout + done.stderr).split()]
    right = [documented(what) for what in ("a boot with a confirmed model", "receiving an update", "stack, without")]
    assert counts == pytest.approx(right, rel=0.02)


def test_the_exported_folder_has_it(tmp_path: Path) -> None:
    to_c.export(compact(CASES["plain"].ticket()), tmp_path / "net")
    for name in ("slots.c", "slots.h"):
        text = (tmp_path / "net" / name).read_text()
        assert text == (slots_sim.PORT / name).read_text().replace("NAME", "net")
