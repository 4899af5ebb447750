"""Networks by the words of a command line: which of three kinds they are, at which size, and what is told when they are wrong."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

from edgeticket import plugins
from edgeticket.compact import compact
from edgeticket.data import Data
from edgeticket.errors import EdgeTicketError, PluginError, UnsupportedError, UsageError
from edgeticket.network import architecture, is_module, network_plan, read_module, read_plan
from edgeticket.ticket import Input

ROOT = Path(__file__).parent.parent
PLUGIN = """
from edgeticket.ops import Layer, Linear
from edgeticket.plan import Plan
INPUT, CLASSES = (7,), 3
def plan(*widths, input, classes):
    layers = [Layer("a", Linear(widths[0] if widths else 5), ("input",)), Layer("head", Linear(classes), ("a",))]
    return Plan({"input": input}, tuple(layers), ("head",))
"""
MODULE = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 4, 3))
"""


def data(shape: tuple[int, ...], task: str = "classification", names: tuple[str, ...] = ("a", "b", "c")) -> Data:
    part = (np.zeros((4, *shape), np.float32), np.arange(4) % 2)
    sensor = Input("float32", (0.0,) * shape[0], (1.0,) * shape[0])
    return Data("made", part, part, part, sensor, task, names, "0", "", (0.0,) * len(names), (1.0,) * len(names))


@pytest.mark.parametrize(
    "spec", ["net.py:Net", "a/b c/net.py:_net2", "../x.py:N", "C:/a.py:Net", "a.py:b.py:Net", "net.py:Ñet"]
)
def test_modules(spec: str) -> None:
    assert is_module(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "conv",
        "conv:8,16",
        "resnet8:16",
        "net.py",
        "net.py:8,16",
        "net.py:8",
        "net.py:",
        ".py:Net",
        "net.py:a.b",
        "net.txt:Net",
        "",
    ],
)
def test_other_networks(spec: str) -> None:
    assert not is_module(spec)


def test_a_named_network_at_its_own_size_or_another() -> None:
    own = architecture("ds-cnn")
    assert (own.inputs, own.shapes["head"]) == ({"input": (1, 49, 10)}, (12,))
    assert architecture("ds_cnn") == own
    other = architecture("ds-cnn:32", (1, 20, 10), 4)
    assert (other.inputs, other.shapes["head"], other.widths()["stem"]) == ({"input": (1, 20, 10)}, (4,), 32)
    assert architecture("ds-cnn", outputs=2).inputs == own.inputs
    assert architecture("conv", (1, 9, 9)).shapes["head"] == (10,)  # no number of its own
    assert read_plan("ds-cnn:32", [(1, 20, 10)], 4) == other
    assert read_plan("ds-cnn", []) == own


def test_a_plug_in_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    assert architecture(f"{tmp_path}/mine.py").shapes == {"input": (7,), "a": (5,), "head": (3,)}
    assert architecture(f"{tmp_path}/mine.py:9", (4,), 2).shapes == {"input": (4,), "a": (9,), "head": (2,)}
    (tmp_path / "none.py").write_text(PLUGIN.replace("return Plan", "Plan"))
    with pytest.raises(PluginError, match=r"none\.py: plan\(\.\.\.\) returned NoneType, not an edgeticket Plan"):
        architecture(f"{tmp_path}/none.py")
    (tmp_path / "bad.py").write_text(PLUGIN.replace("layers = ", "layers = 1 / 0; "))
    with pytest.raises(PluginError, match=r"bad\.py, line 6: ZeroDivisionError"):
        architecture(f"{tmp_path}/bad.py")


@pytest.mark.parametrize(
    ("spec", "shape", "outputs", "error", "told"),
    [
        ("conv:8,x", (1, 9, 9), None, UsageError, r"write NAME\[:WIDTH,\.\.\.\], PATH\.py.* for example conv:32,64,64"),
        ("conv:8.5", (1, 9, 9), None, UsageError, "write NAME"),
        ("conv:0", (1, 9, 9), None, UsageError, "at least 1"),
        ("conv:-3", (1, 9, 9), None, UsageError, "at least 1"),
        ("conv:8", (1, 9, 9), 0, UsageError, "the number of outputs, is at least 1"),
        ("conv:" + "9" * 5000, (1, 9, 9), None, UsageError, "write NAME"),
        ("conv:" + "9" * 4000, (1, 9, 9), None, UnsupportedError, "layer conv1"),
        ("conv", None, None, UsageError, "has no input size of its own: say which, for example --input 1x28x28"),
        ("conv", (9,), None, UnsupportedError, r"layer conv1 \(Conv, input 9\)"),
        ("transformer", None, None, PluginError, "'transformer' is unknown: take one of autoencoder, conv, ds_cnn"),
        ("", None, None, PluginError, "is unknown"),
        ("_layers", None, None, PluginError, "is unknown"),
        ("none.py", None, None, PluginError, r"none\.py: there is no such file"),
        ("ds-cnn:8,8", None, None, UsageError, "at most 1 width"),
    ],
)
def test_errors(spec: str, shape: tuple[int, ...] | None, outputs: int | None, error: type, told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        architecture(spec, shape, outputs)
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("name", plugins.names("architectures"))
@pytest.mark.parametrize("shape", [(4,), (3, 9), (1, 5, 5), (2, 1, 40), (1, 1, 1)])
@pytest.mark.parametrize("widths", ["", ":1", ":5,3,2,1,1,1,1"])
def test_any_size_and_widths_give_a_plan_or_a_sentence(name: str, shape: tuple[int, ...], widths: str) -> None:
    with suppress(EdgeTicketError):
        plan = architecture(name + widths, shape, 3)
        assert plan.inputs == {"input": shape}
        assert plan.shapes[plan.outputs[0]] == ((3,) if name != "autoencoder" else (int(np.prod(shape)),))


def test_one_input_for_a_named_network() -> None:
    with pytest.raises(UsageError, match="'conv' has one input: give --input once"):
        read_plan("conv", [(1, 9, 9), (3,)])


def test_a_network_fits_the_datas_shape_and_task() -> None:
    assert network_plan("conv:8", data((2, 6, 6))).shapes["head"] == (3,)
    assert network_plan("wave:8", data((2, 64), "regression", ("wear",))).shapes["head"] == (1,)
    anomaly = network_plan("autoencoder:8,2", data((2, 6, 6), "anomaly", ("normal", "anomaly")))
    assert anomaly.shapes["head"] == (72,)
    assert network_plan("mlp:8", data((2, 6, 6), "anomaly", ("normal", "anomaly"))).shapes["head"] == (72,)


def test_a_module_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from edgeticket.frontends import pytorch

    (tmp_path / "mine.py").write_text(MODULE)
    spec = f"{tmp_path}/mine.py:Net"
    plan = network_plan(spec, data((2, 6, 6)))
    assert plan.weights().keys() == plan.widths().keys()
    assert (plan.weights(), plan.shapes[plan.outputs[0]]) == ({"0": 2 * 5 * 9, "3": 80 * 3}, (3,))
    with pytest.raises(UsageError, match=r"none\.py"):
        read_module(f"{tmp_path}/none.py:Net", [(2, 6, 6)])
    with pytest.raises(EdgeTicketError, match="defines no Other"):
        read_module(f"{tmp_path}/mine.py:Other", [(2, 6, 6)])
    for read in (read_module, read_plan):
        with pytest.raises(UsageError, match="say what it reads, for example --input 3x96x96"):
            read(spec, [])
    model = compact(CASES["two inputs and two outputs"].ticket())
    monkeypatch.setattr(pytorch, "import_module", lambda module, inputs: model if len(inputs) == 2 else None)
    assert read_plan(spec, [(2, 6, 6), (3, 12)]) is model.plan
    with pytest.raises(UsageError, match="says itself what it gives: leave --outputs out"):
        read_plan(spec, [(2, 6, 6), (3, 12)], 7)
    assert read_module(spec, [(2, 6, 6), (3, 12)]) is model


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        ("(self, x, y): return self.a(x) + self.a(y)", r"has 2 inputs \(x, y\)"),
        ("(self, x): y = self.a(x); return y, y.relu()", "has 2 outputs"),
        ("(self, x, scale=None): return self.a(x)", ""),
    ],
)
def test_a_search_takes_one_input_and_one_output(forward: str, told: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    (tmp_path / "mine.py").write_text(f"{source}        self.a = nn.Conv2d(2, 3, 3)\n    def forward{forward}\n")
    spec = f"{tmp_path}/mine.py:Net"
    if not told:
        assert len(network_plan(spec, data((2, 6, 6))).inputs) == 1
        return
    with pytest.raises(UnsupportedError, match=told) as caught:
        network_plan(spec, data((2, 6, 6)))
    assert "a search teaches one with one input and one output; inspect and export take it as it is" in str(
        caught.value
    )
    assert "give a shape" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_traced_module_is_an_error_and_no_crash(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "mine.py").write_text(
        "import torch\nnet = torch.jit.trace(torch.nn.Conv2d(2, 3, 3), torch.zeros(1, 2, 6, 6))"
    )
    with pytest.raises(EdgeTicketError, match="no signature found"):
        network_plan(f"{tmp_path}/mine.py:net", data((2, 6, 6)))


def test_named_networks_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom edgeticket.network import read_plan\nprint(read_plan('resnet8', []).outputs)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "('head',)\n"), done.stderr
