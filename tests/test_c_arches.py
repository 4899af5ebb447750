"""Random networks as C on other machines: sanitizers, 32 and 64 bits, both byte orders, strict alignment, small stacks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import random_networks
from cases import CASES

from edgeticket import plugins
from edgeticket.bench import bench
from edgeticket.compact import compact
from exporters import c_run, to_c

FORMS = ("seed", "signs", "lists", "boot", "dense")
SANITIZED = ["cc", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
MACHINES = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64"),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm"),
    "big-endian": ("powerpc64-linux-gnu-gcc", "qemu-ppc64"),
}


def write(seed: int, folder: Path) -> Path:
    path = folder / f"net{seed}"
    to_c.export(compact(random_networks.case(seed).ticket()), path, form=FORMS[seed % len(FORMS)])
    return path


def selftest(path: Path, compile: list[str], run: list[str], folder: Path) -> str:
    name, program = c_run.network_name(path), folder / "program"
    files = [str(path / f"{name}.c"), str(path / f"{name}_selftest.c"), str(path / "port.c")]
    flags = [flag for flag in c_run.FLAGS if flag not in ("-O2", "-Wconversion")] + ["-D_DEFAULT_SOURCE"]
    subprocess.run([*compile, *flags, *files, "-o", str(program)], check=True, capture_output=True, timeout=300)
    done = subprocess.run([*run, str(program)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def need(*programs: str) -> None:
    absent = [program for program in programs if not shutil.which(program)]
    if absent and os.environ.get("CI") != "true":
        pytest.skip(f"not here: {', '.join(absent)}")
    assert not absent, f"not here: {', '.join(absent)}"


def check_everywhere(seed: int, folder: Path) -> None:
    path = write(seed, folder)
    assert "0 codes wrong" in selftest(path, SANITIZED, [], folder)
    for compiler, emulator in MACHINES.values():
        need(compiler, emulator)
        assert "0 codes wrong" in selftest(path, [compiler, "-O2", "-static"], [emulator], folder)
    for core in ("cortex-m3", "cortex-m0"):
        need(*(["arm-none-eabi-gcc", "qemu-system-arm"] if plugins.load("targets", core).missing() else []))
        (report,) = bench([path], on=core)  # raises where a code differs
        assert report.cost.instructions


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_networks_everywhere(seed, tmp_path):
    check_everywhere(seed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20, 200))
def test_more_random_networks_everywhere(seed, tmp_path):
    check_everywhere(seed, tmp_path)


def deepest(graph: str) -> int:
    """Bytes of the deepest chain of calls in what -fcallgraph-info=su wrote; library calls, memcpy and the like, count 0."""
    sizes = {}
    for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]*)"', graph):
        found = re.search(r"(\d+) bytes \((static|dynamic)", label)
        assert not found or found[2] == "static", label
        sizes[title] = int(found[1]) if found else 0
    calls: dict[str, set[str]] = {}
    for caller, called in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', graph):
        calls.setdefault(caller, set()).add(called)

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"{name} calls itself"
        return sizes.get(name, 0) + max((depth(own, (*above, name)) for own in calls.get(name, ())), default=0)

    return max(map(depth, sizes))


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_the_stack_is_at_most_what_is_declared(core, tmp_path):
    need("arm-none-eabi-gcc")
    cases = [random_networks.case(seed) for seed in range(0, 30, 3)] + [CASES["residual, 3 edges"], CASES["u-net"]]
    for i, case in enumerate(cases):
        path = tmp_path / f"net{i}"
        to_c.export(compact(case.ticket()), path, form=("seed", "boot")[i % 2])
        flags = [f"-mcpu={core}", "-mthumb", "-O2", "-std=c99", "-fcallgraph-info=su", f"-Dnet{i}_UPDATABLE"]
        flags = flags[: 5 if i % 2 else 6]
        subprocess.run(["arm-none-eabi-gcc", *flags, "-c", f"net{i}.c"], cwd=path, check=True)
        declared = int(re.search(r"_STACK (\d+)", (path / f"net{i}.h").read_text())[1])
        assert deepest((path / f"net{i}.ci").read_text()) <= declared
