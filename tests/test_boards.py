"""Exported C on emulated cores and on this machine. The network is a hand-made one: the exporter's own is tested elsewhere."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_c
from click.testing import CliRunner

from edgeticket import plugins
from edgeticket.bench import bench, table, target_and_address
from edgeticket.budget import CORES, Artifact
from edgeticket.cli import main
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.targets import _build

# 2 n + 3 instructions, by hand: a load, n times subtract and branch, a move, a return.
SPIN = """#include "NAME.h"
__attribute__((naked)) int NAME_predict(const int8_t *in, int8_t *out) {{
    (void)in, (void)out;
    __asm__ volatile(".syntax unified\\n ldr r0, 2f\\n 1: subs r0, r0, #1\\n bne 1b\\n movs r0, #0\\n bx lr\\n"
                     ".balign 4\\n 2: .word {n}\\n");
}}
"""
UNALIGNED = (
    "{ volatile uintptr_t odd = (uintptr_t)in | 1; (void)*(const volatile int32_t *)odd; }"  # hidden from the compiler
)
TOOLS = ("make", "arm-none-eabi-gcc", "qemu-system-arm")


@pytest.fixture
def cross():
    tiny_c.need(*TOOLS)


def board(core):
    return plugins.load("targets", core).BOARD


# what needs no tools


def test_every_core_of_a_budget_is_a_target():
    assert [core for core in plugins.names("targets") if core.startswith("cortex_")] == sorted(
        core.replace("-", "_") for core in CORES
    )
    assert [board(core).name for core in CORES] == list(CORES)


@pytest.mark.parametrize("core", CORES)
def test_the_makefile_and_the_target_mean_the_same_machine(core):
    text = (tiny_c.PORT / "Makefile").read_text()
    rows = dict(re.findall(r"^(\w+_\w+) = (.*)$", text, re.MULTILINE))
    names = {"microbit": "microbit"}
    for machine in board(core).machines:
        name = names.get(machine.name, core.removeprefix("cortex-"))
        assert rows[f"CPU_{name}"] == board(core).flags
        assert rows[f"MACHINE_{name}"] == machine.name
        assert rows[f"MEMORY_{name}"] == machine.words()


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("cpu", ("cpu", "")),
        ("cortex-m4", ("cortex-m4", "")),
        ("./on_mine.py", ("./on_mine.py", "")),
        ("ssh://me@board:2222", ("ssh", "me@board:2222")),
        ("ssh://", ("ssh", "")),
        ("serial:/dev/ttyACM0@9600", ("serial", "/dev/ttyACM0@9600")),
        ("my/on_x.py:somewhere", ("my/on_x.py", "somewhere")),
    ],
)
def test_target_and_address(on, expected):
    assert target_and_address(on) == expected


def test_addresses_are_for_targets_that_want_one(tmp_path):
    folder = tiny_c.write(tmp_path / "d")
    with pytest.raises(UsageError, match="takes no address"):
        bench([folder], on="null:there")
    with pytest.raises(UsageError, match=r"ssh needs an address: --on ssh://"):
        bench([folder], on="ssh")
    (tmp_path / "on_x.py").write_text(
        "from edgeticket.budget import Cost, Report\n"
        "FORMATS, ADDRESS = ('c',), 'x:PLACE'\n"
        "def missing(): return None\n"
        "def measure(artifacts, *, address, **_):\n"
        "    return [Report(str(one.path), one.sha256, address, Cost('x', 'none')) for one in artifacts]\n"
    )
    (report,) = bench([folder], on=f"{tmp_path}/on_x.py:over/there")
    assert report.target == "over/there"


def test_a_folder_that_is_no_export(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(UnsupportedError, match=r"no NAME_selftest\.c: export it again"):
        _build.network_name(Artifact(tmp_path / "d", "c"))
    folder = tiny_c.write(tmp_path / "e")
    (folder / "tiny.h").unlink()
    with pytest.raises(UnsupportedError, match=r"no tiny\.h"):
        _build.network_name(Artifact(folder, "c"))


@pytest.mark.parametrize("name", ["a b", "a;touch x", "$(touch x)", "-o", "1a", "é"])
def test_a_name_that_is_no_identifier_reaches_no_command_line(name, tmp_path):
    folder = tiny_c.write(tmp_path / "d", name=name)
    with pytest.raises(UnsupportedError, match="no NAME_selftest"):
        _build.network_name(Artifact(folder, "c"))


def test_what_an_earlier_make_left_is_not_copied(tmp_path):
    folder = tiny_c.write(tmp_path / "d")
    (folder / "build" / "m4").mkdir(parents=True)
    (folder / "build" / "m4" / "selftest.elf").write_text("old")
    with _build.workplace(Artifact(folder, "c")) as place:
        assert place.model_bytes == 64
        assert sorted(path.name for path in place.folder.iterdir()) == sorted(
            path.name for path in folder.iterdir() if path.name != "build"
        )
    assert not place.folder.exists()


def test_missing_tools_are_named_with_their_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(_build.shutil, "which", lambda tool: None if tool == "qemu-system-arm" else "/usr/bin/x")
    with pytest.raises(UsageError, match=r"no qemu-system-arm: apt-get install qemu-system-arm"):
        bench([tiny_c.write(tmp_path / "d")], on="cortex-m4")


def test_a_command_that_hangs_ends_with_its_children(tmp_path):
    with pytest.raises(EdgeTicketError, match=r"thing: sh not finished after 0\.2 s"):
        _build.run(["sh", "-c", f"(sleep 0.6; touch {tmp_path}/late) & echo started; wait"], "thing", 0.2)
    with pytest.raises(EdgeTicketError, match=r"(?s)thing: sh failed \(status 3\):\n  why"):
        _build.run(["sh", "-c", "echo why; exit 3"], "thing", 10)
    subprocess.run(["sleep", "0.6"], check=True)
    assert not (tmp_path / "late").exists()


def test_a_verdict_is_read_and_never_assumed():
    _build.check_passed("noise\nself-test: 4 vectors, 0 codes wrong: passed\n", "d")
    for said in ("", "self-test: 4 vectors, 3 codes wrong: FAILED\n", "0 codes wrong: passed"):
        with pytest.raises(EquivalenceError, match=r"^d: "):
            _build.check_passed(said, "d")


# cores


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_instructions_are_exact(core, cross, tmp_path):
    """To one instruction: between two counts of loops only the loops differ, and the call takes 4 to 8."""
    counts = {}
    for n in (100, 123_457):
        folder = tiny_c.write(tmp_path / str(n), source=SPIN.format(n=n))
        text = (folder / "tiny_selftest.c").read_text()
        (folder / "tiny_selftest.c").write_text(text.replace("return wrong;", "return 0;"))
        (report,) = bench([folder], on=core)
        assert len(set(report.samples["instructions"])) == 1
        counts[n] = report.cost.instructions
    assert counts[123_457] - counts[100] == 2 * (123_457 - 100)
    assert 4 <= counts[100] - 203 <= 8


@pytest.mark.soak
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])  # SysTick at 16 MHz, and at 25 MHz
def test_instructions_are_exact_after_the_counter_has_wrapped(core, cross, tmp_path):
    n = 600_000_000  # 1.2 G instructions; 2^24 ticks are 1.05 G at 16 MHz, 0.67 G at 25 MHz
    folder = tiny_c.write(tmp_path / "d", source=SPIN.format(n=n))
    text = (folder / "tiny_selftest.c").read_text()
    text = text.replace("return wrong;", "return 0;").replace("ET_VECTORS 4", "ET_VECTORS 1")
    (folder / "tiny_selftest.c").write_text(text)
    (report,) = bench([folder], on=core)
    assert 4 <= report.cost.instructions - 2 * n - 3 <= 8


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_bytes_are_of_the_network_alone(core, cross, tmp_path):
    small, large = bench([tiny_c.write(tmp_path / "a"), tiny_c.write(tmp_path / "b", size=1600, arena=1256)], on=core)
    for report in (small, large):
        cost, details = report.cost, report.details
        assert (cost.how, cost.target, cost.latency_ms) == ("simulated", core, None)
        assert cost.flash_bytes == details["code_bytes"] + details["constant_bytes"] + details["data_bytes"]
        assert cost.ram_bytes == details["data_bytes"] + details["bss_bytes"] + details["stack_bytes"]
        assert 0 <= details["constant_bytes"] - details["model_bytes"] < 8  # alignment
        assert details["data_bytes"] == 0
        assert 0 < details["stack_bytes"] < 100
        assert (details["selftest"], details["vectors"]) == ("passed", 4)
        assert report.environment["core"] == core
        assert "arm-none-eabi-gcc" in report.environment["compiler"]
        assert "QEMU" in report.environment["emulator"]
    assert (small.details["bss_bytes"], large.details["bss_bytes"]) == (256, 1256)
    assert (small.details["model_bytes"], large.details["model_bytes"]) == (64, 6400)
    assert large.details["code_bytes"] < 600  # memset and one function: no start-up, no printing
    assert large.cost.instructions > 10 * small.cost.instructions
    lines = table([small, large]).splitlines()
    assert lines[0].split() == [
        "file",
        "instructions",
        "x",
        "flash",
        "x",
        "RAM",
        "x",
        "code",
        "constants",
        "stack",
        "self-test",
    ]
    assert f"{large.cost.flash_bytes / small.cost.flash_bytes:.2f}x" in lines[2]
    assert f"target {core}, simulated" in lines[3]
    assert "ms" not in lines[0]


@pytest.mark.slow
def test_code_that_the_compiler_s_library_brings_is_counted(cross, tmp_path):
    plain = tiny_c.write(tmp_path / "a")
    divides = tiny_c.write(tmp_path / "b", body="*(volatile int8_t *)out = (int8_t)(in[0] / (in[1] ? in[1] : 1));")
    first, second = bench([plain, divides], on="cortex-m0")  # which has no instruction that divides
    assert second.details["code_bytes"] - first.details["code_bytes"] > 150


@pytest.mark.slow
def test_stack_is_what_an_inference_writes(cross, tmp_path):
    body = "{ volatile char bytes[1000]; for (int i = 0; i < 1000; i++) bytes[i] = in[0]; }"
    small, large = bench([tiny_c.write(tmp_path / "a"), tiny_c.write(tmp_path / "b", body=body)], on="cortex-m4")
    assert 1000 <= large.details["stack_bytes"] - small.details["stack_bytes"] <= 1016


@pytest.mark.slow
def test_a_cortex_m0_is_a_microbit_where_the_network_fits(cross, tmp_path):
    deep = "{ volatile char bytes[8000]; for (int i = 0; i < 8000; i++) bytes[i] = in[0]; }"
    folders = [
        tiny_c.write(tmp_path / "fits", arena=10_000),
        tiny_c.write(tmp_path / "data", arena=20_000),
        tiny_c.write(tmp_path / "stack", arena=10_000, body=deep),
    ]
    machines = [report.environment["machine"] for report in bench(folders, on="cortex-m0")]
    assert machines == ["microbit", "mps2-an385", "mps2-an385"]


@pytest.mark.slow
def test_unaligned_access_is_found_on_a_cortex_m0_and_works_on_an_m4(cross, tmp_path):
    folder = tiny_c.write(tmp_path / "d", body=UNALIGNED)
    assert bench([folder], on="cortex-m4")[0].details["selftest"] == "passed"
    with pytest.raises(EquivalenceError, match=r"d on cortex-m0 \(microbit\): self-test: processor fault"):
        bench([folder], on="cortex-m0")


@pytest.mark.slow
@pytest.mark.parametrize("on", ["cortex-m4", "host-c"])
def test_a_failed_self_test_is_no_equivalence(on, cross, tmp_path):
    folder = tiny_c.write(tmp_path / "d", flaw=1)
    done = CliRunner().invoke(main, ["bench", str(folder), "--on", on])
    assert (done.exit_code, done.stdout) == (4, "")
    assert "self-test: 4 vectors, 1 codes wrong: FAILED" in done.stderr
    with pytest.raises(EquivalenceError, match="tiny_predict refused vector 0"):
        bench([tiny_c.write(tmp_path / "e", status=-1)], on=on)


@pytest.mark.slow
def test_what_does_not_build_does_not_fit_or_hangs(cross, tmp_path):
    with pytest.raises(EdgeTicketError, match=r"(?s)a: make failed.*error: .*undeclared"):
        bench([tiny_c.write(tmp_path / "a", body="no_such_thing++;")], on="cortex-m4")
    with pytest.raises(
        EdgeTicketError,
        match=r"(?s)b on cortex-m4 \(mps2-an386\): no room in 4096 KB of flash and 4096 KB of RAM.*overflowed by \d+ bytes",
    ):
        bench([tiny_c.write(tmp_path / "b", arena=5 << 20)], on="cortex-m4")
    endless = "volatile char bytes[5 << 20]; for (int i = sizeof bytes; i-- > 0;) bytes[i] = 0;"
    with pytest.raises(EdgeTicketError, match=r"(?s)e on cortex-m4.*no room.*stack overflow"):
        bench([tiny_c.write(tmp_path / "e", body=endless)], on="cortex-m4")
    with pytest.raises(EdgeTicketError, match=r"c: make not finished after 4 s"):
        bench([tiny_c.write(tmp_path / "c", body="for (;;) arena[0]++;")], on="cortex-m4", timeout_s=4)
    for wrong in ({"threads": 2}, {"period_ms": 5}):
        with pytest.raises(UsageError, match="leave out"):
            bench([tmp_path / "a"], on="cortex-m4", **wrong)


@pytest.mark.slow
def test_the_exported_makefile_gives_the_same_figures_without_this_program(cross, tmp_path):
    folder = tiny_c.write(tmp_path / "d")
    for core in ("cortex-m0", "cortex-m33"):
        (report,) = bench([folder], on=core)
        name = core.removeprefix("cortex-")
        said = "".join(
            subprocess.run(["make", "-s", "-C", folder, *words], capture_output=True, text=True, check=True).stdout
            for words in (["size", f"BOARD={name}"], [f"run-{name}"], ["cost", f"BOARD={name}"])
        )
        numbers = _build.numbers(said)
        assert numbers["instructions"] == report.samples["instructions"]
        for key in ("code_bytes", "constant_bytes", "flash_bytes", "static_ram_bytes", "stack_bytes"):
            assert numbers[key] == [report.details[key]], key
        assert said.count("codes wrong: passed") == 2
    subprocess.run(
        ["make", "-s", "-C", folder, "host", "CFLAGS=-std=c99 -pedantic -Wall -Wextra -Werror -O2"], check=True
    )
    assert (folder / "build").is_dir()
    subprocess.run(["make", "-s", "-C", folder, "clean"], check=True)
    assert not (folder / "build").exists()


@pytest.mark.slow
def test_the_makefile_too_goes_on_where_a_microbit_has_too_little_stack(cross, tmp_path):
    deep = "{ volatile char bytes[8000]; for (int i = 0; i < 8000; i++) bytes[i] = in[0]; }"
    folder = tiny_c.write(tmp_path / "d", arena=10_000, body=deep)
    done = subprocess.run(["make", "-C", folder, "run-m0"], capture_output=True, text=True, check=True)
    assert "-M mps2-an385" in done.stdout
    assert "codes wrong: passed" in done.stdout


@pytest.mark.slow
def test_a_board_of_one_s_own_as_documented(cross, tmp_path):
    text = (tiny_c.PORT.parents[2] / "docs" / "boards.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "on_netduino.py").write_text(example)
    folder = tiny_c.write(tmp_path / "d")
    (own,) = bench([folder], on=str(tmp_path / "on_netduino.py"))
    (ours,) = bench([folder], on="cortex-m4")
    assert (own.environment["machine"], own.target) == ("netduinoplus2", "netduino-plus-2")
    assert own.samples == ours.samples
    assert own.cost.flash_bytes == ours.cost.flash_bytes


# this machine


def test_c_on_this_machine(tmp_path):
    tiny_c.need("make", "cc")
    paths = [tiny_c.write(tmp_path / "a", size=160), tiny_c.write(tmp_path / "b", size=16000)]
    reports = bench(paths, on="host-c", runs=200, warmup=3)
    assert [len(report.samples["wall_ms"]) for report in reports] == [200, 200]
    for report in reports:
        assert (report.cost.how, report.cost.target) == ("measured", "host-c")
        assert report.cost.latency_ms == np.median(report.samples["wall_ms"])
        assert report.details["selftest"] == "passed"
        assert report.details["first_ms"] > 0
        assert {"cpu", "os", "compiler", "flags"} <= set(report.environment)
    assert reports[1].details["ratio_to_first"]["wall_ms"]["low"] > 1  # a hundred times the work
    assert "target host-c, measured" in table(reports)
    assert json.loads(json.dumps(reports[0].to_json()))["target"] == "host-c"


def test_folders_take_turns(tmp_path, monkeypatch):
    tiny_c.need("make", "cc")
    order, times = [], plugins.load("targets", "host-c")._times

    def noted(place, warmup, runs, timeout_s):
        order.append((place.what, warmup, runs))
        return times(place, warmup, runs, timeout_s)

    monkeypatch.setattr(plugins.load("targets", "host-c"), "_times", noted)
    bench([tiny_c.write(tmp_path / "a"), tiny_c.write(tmp_path / "b")], on="host-c", runs=50, warmup=7)
    assert order == [(name, warmup, runs) for warmup, runs in ((0, 1), (7, 25), (1, 25)) for name in "ab"]


def test_the_help_lists_the_targets():
    said = CliRunner().invoke(main, ["bench", "--help"]).stdout
    for name in plugins.names("targets"):
        assert name.replace("_", "-") in " ".join(said.split()).replace("- ", "-")


def test_a_name_in_a_template_is_one_that_is_replaced():
    for path in Path(tiny_c.PORT).iterdir():
        for word in re.findall(r"\w*NAME\w*", path.read_text()):
            assert re.fullmatch(r"(D|_D)?NAME(_\w*)?", word), f"{path.name}: {word!r}"
