"""Every family of networks: read from PyTorch, halved, compacted, exported, and the same function at every step."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cases import Case

from edgeticket.compact import masked, prove, restrict
from edgeticket.export import export
from edgeticket.model import Model, Raw
from edgeticket.reference import require_equal, run_outputs
from edgeticket.ticket import Ticket
from exporters import to_onnx

torch = pytest.importorskip("torch")
from families import FAMILIES, build, data  # noqa: E402

from edgeticket.frontends.pytorch import import_module  # noqa: E402
from edgeticket.masked import of_ticket, outputs  # noqa: E402

pytestmark = pytest.mark.usefixtures("cia_listed_once")
SECONDS, BYTES = 10, 2 << 30  # of one import, issue 4
FAST = ("resnet", "mobilenet-v3", "shufflenet-v2", "u-net", "two inputs, two outputs")  # in `make test`
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@cache
def imported(name: str) -> Model:
    return import_module(build(name), FAMILIES[name].inputs)


@cache
def halved(name: str) -> tuple[Ticket, Raw]:
    """A random ticket of exactly half the channels of every group, and raw values for it."""
    case = Case(imported(name).plan, dtype="float32", keep=1.0, density=0.5)
    rng, wide = np.random.default_rng(5), case.ticket()
    kept = {group: rng.permutation(len(mask)) < len(mask) // 2 for group, mask in wide.kept.items()}
    return restrict(wide, case.plan.fill(kept)), case.raw(3)


def equal(what: str, made: list[np.ndarray], wanted: list[np.ndarray], tolerance: float = 1e-5) -> None:
    for a, b in zip(made, wanted, strict=True):
        assert a.shape == b.shape
        require_equal(what, a, b, tolerance)


@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_depend_on_the_input(name: str) -> None:
    """Else the equalities below would say little."""
    with torch.no_grad():
        made = build(name)(*data(name, 4))
    for output in made if isinstance(made, tuple) else (made,):
        assert output.std(0).max() > 0.01 * output.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_the_module(name: str) -> None:
    model, given = imported(name), data(name)
    with torch.no_grad():
        made = build(name)(*given)
    wanted = [output.numpy() for output in (made if isinstance(made, tuple) else (made,))]
    raw = dict(zip(model.plan.inputs, (values.numpy() for values in given), strict=True))
    equal(name, run_outputs(model, raw), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_half_the_channels_gone(name: str, tmp_path: Path) -> None:
    """Masked wide = compacted = torch = ONNX Runtime."""
    ticket, raw = halved(name)
    prove(ticket, raw)
    wanted = run_outputs(masked(ticket), raw, gates=ticket.plan.alive(ticket.kept))
    equal("torch", outputs(of_ticket(ticket), raw, ticket.inputs), wanted)
    export(ticket, "onnx", tmp_path / "net.onnx")
    equal("ONNX Runtime", to_onnx.run_outputs(tmp_path / "net.onnx", raw), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_exports_as_it_is(name: str, tmp_path: Path) -> None:
    """With its own weights, to be compared with."""
    model, raw = imported(name), imported(name).random_inputs(2)
    export(model, "onnx", tmp_path / "net.onnx")
    equal("ONNX Runtime", to_onnx.run_outputs(tmp_path / "net.onnx", raw), run_outputs(model, raw))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_behind(name: str) -> None:
    """Of what is not an input or output every group shrinks, every layer is smaller, and 60 % of the work is gone."""
    ticket, _ = halved(name)
    wide, narrow = ticket.plan, ticket.narrow
    assert {group.fixed for group in wide.groups.values()} <= {"", "input of the network", "output of the network"}
    assert all(not mask.all() for mask in ticket.kept.values())
    for layer in wide.weighted():
        before, after = wide.weight_shape(layer), narrow.weight_shape(narrow[layer.name])
        assert after[0] < before[0] or after[1] < before[1], f"{layer.name} is {after}"
    if name != "fully connected":  # three quarters of its work are the first layer's, whose inputs stay
        assert sum(narrow.macs().values()) <= 0.4 * sum(wide.macs().values())


@pytest.mark.slow
def test_import_is_quick_and_small() -> None:
    """Each import in 10 s of CPU, whatever else runs; one process that does all of them one after the other has 2 GB."""
    code = (
        "import resource, time; from families import FAMILIES, build\n"
        "from edgeticket.frontends.pytorch import import_module\n"
        "for name, family in FAMILIES.items():\n"
        "    module, start = build(name), time.process_time(); import_module(module, family.inputs)\n"
        "    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert {name: float(seconds) for seconds, _, name in rows if float(seconds) > SECONDS} == {}
    assert int(rows[-1][1]) * 1024 < BYTES
    assert len(rows) == len(FAMILIES)
