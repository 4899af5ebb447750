"""The C export: every network and form is the integer network bit for bit, in C that strict compilers take."""

import errno
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import random_networks
from cases import CASES, TAIL, Case, chain

from edgeticket import plugins
from edgeticket.compact import compact
from edgeticket.data import load
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.export import export
from edgeticket.guard import Guard
from edgeticket.integer import integerise
from edgeticket.ops import Conv, Flatten, Linear, conv
from edgeticket.wire import pack
from exporters import c_conv, c_network, c_run, to_c
from exporters.c_network import Network
from exporters.c_steps import Steps

FORMS = ("seed", "signs", "lists", "boot", "dense")
SAMPLE = ("residual, 3 edges", "depthwise", "slices, shuffle and grouped, few left", "squeeze and excite", "u-net")
IMAGE = plugins.load("architectures", "conv").plan(16, 32, 32, input=(1, 28, 28), classes=10)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_specification(form, tmp_path):
    """`export` builds it here, runs it, and refuses it where a code differs."""
    made = export(CASES[SAMPLE[FORMS.index(form)]].ticket(), "c", tmp_path / "net", form=form)
    assert made.format == "c"


def test_several_inputs_and_outputs(tmp_path):
    seed = next(
        s for s in range(50) if min(len(random_networks.network(s).inputs), len(random_networks.network(s).outputs)) > 1
    )
    export(random_networks.case(seed).ticket(), "c", tmp_path / "net")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)))
def test_every_case_is_the_specification(number, tmp_path):
    export(list(CASES.values())[number].ticket(), "c", tmp_path / "net", form=FORMS[number % len(FORMS)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "Inspection 2.0"
    ticket = Case(IMAGE, edges=3, density=1 / 6, zero_offset=True).ticket()
    export(ticket, "c", path)
    return path, compact(ticket)


def text(path: Path, ending: str) -> str:
    return (path / f"{c_run.network_name(path)}{ending}").read_text()


def number(path: Path, word: str) -> int:
    return int(re.search(rf"_{word} (\d+)", text(path, ".h"))[1])


def test_the_proof_can_fail(folder, tmp_path):
    path, model = folder
    name = c_run.network_name(path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in path.iterdir():
        (broken / file.name).write_text(file.read_text())
    source = (broken / f"{name}.c").read_text()
    assert "+ offset, b" in source or "+ offset, low" in source
    (broken / f"{name}.c").write_text(
        source.replace("et_rescale(s[0], ratio) + offset", "et_rescale(s[0], ratio) + offset + 1")
    )
    with pytest.raises(EquivalenceError, match="codes of output head are not the integer network's"):
        to_c.prove(model, broken, model.random_inputs(3))


def test_the_folder_is_named_as_c_allows(folder):
    path, _ = folder
    files = {file.name for file in path.iterdir()}
    assert {"Inspection_2.c", "Inspection_2.h", "Inspection_2_selftest.c", "Makefile", "README.txt"} <= files
    assert to_c.identifier("9-lives.x") == "net_9_lives"
    assert to_c.identifier("ticket") == "ticket"


def test_a_folder_is_replaced_whole(tmp_path):
    """A guard of an older export does not stay to be built, nor what was built."""
    case, place = CASES["depthwise"], tmp_path / "net"
    raw = case.raw(1600)
    np.savez(tmp_path / "own.npz", x_train=raw, y_train=np.arange(1600) % 2, x_test=raw[:40], y_test=np.arange(40) % 2)
    export(case.ticket(), "c", place, guard=Guard.fit(load(tmp_path / "own.npz")))
    assert (place / "net_guard.c").exists()
    (place / "build").mkdir()
    (place / "build" / "old.o").touch()
    export(case.ticket(), "c", place, overwrite=True)
    assert {file.name for file in place.iterdir()} == to_c.names("net") - {"net_guard.c", "net_guard.h"}
    place.rename(tmp_path / "renamed")
    export(case.ticket(), "c", tmp_path / "renamed", overwrite=True)
    assert not (tmp_path / "renamed" / "net.c").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.npz", "renamed"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    place = tmp_path / "net"
    export(CASES["one pixel"].ticket(), "c", place)
    (place / "main.c").write_text("mine")
    before = {file.name: file.read_text() for file in place.iterdir()}
    with pytest.raises(UsageError, match=r"net holds main\.c, which no export wrote"):
        export(CASES["depthwise"].ticket(), "c", place, overwrite=True)
    assert {file.name: file.read_text() for file in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("header", [None, "#define MINE\n"])
def test_a_folder_of_ones_own_c_is_not_replaced(header, tmp_path, monkeypatch):
    """By their names they could be an export's; that is refused before the work."""
    place = tmp_path / "pump"
    (place / "build").mkdir(parents=True)
    mine = dict.fromkeys(("pump.c", "pump_selftest.c", "Makefile", "build/main.o"), "mine") | (
        {"pump.h": header} if header else {}
    )
    for name, content in mine.items():
        (place / name).write_text(content)
    monkeypatch.setattr(to_c, "export", lambda *_, **__: pytest.fail("worked before it asked"))
    with pytest.raises(UsageError, match=r"pump holds Makefile, which no export wrote"):
        export(CASES["one pixel"].ticket(), "c", place, overwrite=True)
    assert {str(file.relative_to(place)): file.read_text() for file in place.rglob("*") if file.is_file()} == mine


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_of_any_form_is_replaced(form, tmp_path):
    place = tmp_path / "net"
    export(CASES["one pixel"].ticket(), "c", place, form=form, bands=3)
    export(CASES["depthwise"].ticket(), "c", place, overwrite=True)
    assert to_c.left(place) == to_c.names("net") | {"build"}


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_no_part_of_a_folder(existing, tmp_path, monkeypatch):
    place, sync, calls = tmp_path / "net", os.fsync, []
    if existing:
        export(CASES["one pixel"].ticket(), "c", place)
    before = sorted(str(path) for path in tmp_path.rglob("*"))

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EdgeTicketError, match=f"cannot write {place}: No space left on device; nothing was changed"):
        export(CASES["depthwise"].ticket(), "c", place, overwrite=True)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_the_header_says_what_it_costs(folder):
    path, model = folder
    network = Network(model, pack(model), "x")
    assert number(path, "MODEL_BYTES") == len(pack(model).packet)
    assert number(path, "ARENA") == network.steps.arena
    assert f'_DIGEST "{model.digest}"' in text(path, ".h")
    out = integerise(model).tensors["head"]
    assert f"_OUT_SCALE {out.scale!r}f" in text(path, ".h")
    assert number(path, "OUT_ZERO") == out.zero_point


def test_convolutions_run_in_bands_where_that_spares_memory(folder):
    path, _ = folder
    assert "2 bands of rows" in text(path, ".c")
    whole = (16 + 8) * 28 * 28  # bytes of the two largest neighbouring tensors, without any padding
    assert number(path, "ARENA") < 0.9 * whole


WINDOWS = {
    "dilated, uneven padding": (
        Conv(8, (3, 3), (2, 1), (5, 0, 1, 5), (3, 3)),
        Conv(6, (3, 3), (2, 1), (2, 0, 0, 4), (1, 2)),
    ),
    "strided, large kernel": (conv(8, stride=2), Conv(6, (5, 5), (1, 1), (4,) * 4, (1, 1))),
    "depthwise": (conv(8), conv(8, groups=8, stride=2)),
}


@pytest.mark.parametrize("bands", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WINDOWS)
def test_any_number_of_bands_gives_the_same(name, bands, tmp_path, monkeypatch):
    ticket = Case(chain((2, 20, 20), *WINDOWS[name], *TAIL), keep=1.0, learned=False).ticket()

    def banded(model, wire, boot, most):
        assert c_conv.may_band(Steps(model, wire), model.plan["l1"])
        rows = model.plan.shapes["l1"][1]
        return Steps(model, wire, {"l1": min(bands, rows)})

    monkeypatch.setattr(c_network, "steps", banded)
    export(ticket, "c", tmp_path / "net")
    assert "bands of rows" in (tmp_path / "net" / "net.c").read_text()


def test_no_band_reaches_over_another_layer():
    model = compact(CASES["two branches, interleaved"].ticket())
    assert not c_conv.may_band(Steps(model, pack(model)), model.plan["c"])


def proven(case: Case, raw: np.ndarray, tmp_path: Path, form: str = "seed") -> None:
    model = compact(case.ticket())
    to_c.export(model, tmp_path / "net", form=form)
    to_c.prove(model, tmp_path / "net", raw)


def test_more_entries_of_a_sign_than_a_pass_takes(tmp_path):
    """288 weights of one sign over codes of 255: 16-bit lanes hold 128 of them."""
    case = Case(chain((32, 6, 6), conv(4, 3), *TAIL), keep=1.0, density=1.0, learned=False, zero_offset=True)
    ticket = case.ticket()
    signs = compact(ticket).weights["l0"].values
    ticket = replace(ticket, flips={"l0": (signs < 0)[:, None]})
    model = compact(ticket)
    assert (model.weights["l0"].values == 1).all()
    to_c.export(model, tmp_path / "net")
    to_c.prove(model, tmp_path / "net", np.full((2, 32, 6, 6), 255, np.uint8))


def test_a_sensor_at_its_ends(tmp_path):
    case = CASES["plain, int16 sensor"]
    ends = np.array([-32768, 32767], np.int16)
    raw = np.random.default_rng(0).choice(ends, (4, *next(iter(case.plan.inputs.values()))))
    assert any(next(iter(case.ticket().inputs.values())).offset)
    proven(case, raw, tmp_path)


@pytest.mark.slow
def test_distances_beyond_16_bits(tmp_path):
    op = Conv(4, (36, 36), (1, 1), (0,) * 4, (1, 1))
    case = Case(chain((64, 36, 36), op, Flatten(), Linear(3)), keep=1.0, density=0.02, learned=False)
    proven(case, case.raw(2), tmp_path)
    assert "typedef uint32_t et_offset" in (tmp_path / "net" / "net.c").read_text()


def test_names_of_other_files_are_left_to_them(tmp_path):
    assert to_c.identifier("port") == "net_port"
    assert to_c.identifier("serial") == "net_serial"
    proven(CASES["one pixel"], CASES["one pixel"].raw(2), tmp_path)
    model = compact(CASES["one pixel"].ticket())
    to_c.export(model, tmp_path / "string")
    to_c.prove(model, tmp_path / "string", CASES["one pixel"].raw(2))


def test_a_core_that_there_is_not(tmp_path):
    with pytest.raises(UsageError, match="core 'cortex-m9': take one of cortex-m0, "):
        export(CASES["depthwise"].ticket(), "c", tmp_path / "net", core="cortex-m9")


def test_the_source_needs_nothing(folder):
    path, _ = folder
    source = text(path, ".c")
    assert set(re.findall(r"#include\s+(\S+)", source)) == {'"Inspection_2.h"', "<string.h>", "<arm_mve.h>"}
    for word in ("malloc", "float", "double", "printf"):
        assert not re.search(rf"\b{word}\b", re.sub(r"/\*.*?\*/", "", source, flags=re.S))


@pytest.mark.parametrize("flag", ["EXTERNAL_ARENA", "UPDATABLE", "NO_MODEL"])
def test_every_way_to_build_it_is_clean(flag, folder):
    path, _ = folder
    name = c_run.network_name(path)
    flags = [*c_run.FLAGS, "-pedantic", f"-D{name}_{flag}", "-fsyntax-only"]
    subprocess.run([c_run.compiler(), *flags, str(path / f"{name}.c")], check=True)


def test_a_form_that_there_is_not(tmp_path):
    with pytest.raises(UsageError, match="form 'fast': take one of auto, seed, signs, lists, boot, dense"):
        export(CASES["depthwise"].ticket(), "c", tmp_path / "net", form="fast")
    assert not (tmp_path / "net").exists()


def test_auto_is_for_a_core(tmp_path):
    """With vectors, decoding is the largest share: lists are made once."""
    model = compact(CASES["depthwise"].ticket())
    to_c.export(model, tmp_path / "a", core="cortex-m55")
    to_c.export(model, tmp_path / "b", core="cortex-m0")
    assert "define ET_NEEDS_BOOT" in (tmp_path / "a" / "a.c").read_text()
    assert "define ET_NEEDS_BOOT" not in (tmp_path / "b" / "b.c").read_text()


def test_without_a_compiler_it_says_what_to_install(folder, monkeypatch):
    path, model = folder
    monkeypatch.setattr(c_run.shutil, "which", lambda _: None)
    with pytest.raises(UnsupportedError, match="apt install gcc"):
        to_c.prove(model, path, model.random_inputs(1))


def test_what_is_not_such_a_folder(tmp_path):
    with pytest.raises(Exception, match="not a folder that `edgeticket export --to c` wrote"):
        c_run.network_name(tmp_path)


def test_lists_of_a_density_fit_any_ticket_of_it():
    """A firmware's scratch depends on the plan and the density, not on which weights a search kept."""
    case = Case(chain((2, 9, 9), conv(8), conv(12), *TAIL), edges=3, density=0.3, keep=1.0)
    made = [compact(replace(case, seed=seed).ticket()) for seed in range(4)]
    longest = {int(np.abs(model.weights["l1"].values).sum((1, 2, 3)).max()) for model in made}
    assert len(longest) > 1
    assert len({Network(model, pack(model), "x").steps.arena for model in made}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_network_of_trained_floats(seed, tmp_path):
    """Float weights become int8 for each filter; nothing is masked."""
    from edgeticket.model import Float

    model = compact(random_networks.case(seed).ticket())
    rng = np.random.default_rng(seed)
    floats = {n: Float(rng.normal(size=w.values.shape).astype(np.float32)) for n, w in model.weights.items()}
    export(replace(model, weights=floats), "c", tmp_path / "net")
