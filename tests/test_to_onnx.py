"""The ONNX exporter: its bytes, its four storages of weights, and that nothing wrong is put in place."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import CASES, TAIL, Case, chain
from click.testing import CliRunner
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeticket import prng, reference
from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.errors import EdgeTicketError, EquivalenceError, PluginError, UnsupportedError, UsageError
from edgeticket.export import export, unpack
from edgeticket.model import Float, Model, Signs
from edgeticket.ops import (
    RESIZE_MODES,
    Activation,
    Add,
    ConvTranspose,
    DepthToSpace,
    Gather,
    Layer,
    Linear,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Reshape,
    Resize,
    SpaceToDepth,
    conv,
)
from edgeticket.plan import Plan
from edgeticket.ticket import Input
from exporters import fold, operations, qdq, to_onnx
from exporters.graph import BATCH, Graph, to_bytes
from exporters.sign_bits import layer_signs, permute_halves
from exporters.weights import STORAGES

ROOT = Path(__file__).parent.parent
PLAIN = "plain, 3 edges"
ALL = "plain, 3 edges and flips"
SMALL = Case(
    chain((1, 28, 28), conv(16), conv(32, stride=2), conv(32, stride=2), TAIL[0], replace(TAIL[1], out=10)), keep=1.0
)
RUN_EACH_TIME = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu"}
RUN_EACH_TIME |= {"Clip", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Sum", "Mul", "Concat", "Flatten", "Reshape"}
RUN_EACH_TIME |= {"ReorderInput", "ReorderOutput", "MatMul", "FusedMatMul", "ConvTranspose"}
PORTABLE = {"Add", "Sub", "Mul", "Div", "Mod", "Cast", "Concat", "Slice", "Reshape", "Gather", "Expand", "ReduceSum"}
NEW = ["norm alone", "u-net", "attention by broadcast", "slices, shuffle and grouped", "space to depth", "pad and crop"]
NEW += ["resize area", "prelu", "fused gelu", "own hard_swish", "two inputs and two outputs"]


def stored_weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_weight")}


@pytest.mark.parametrize("storage", STORAGES)
def test_same_ticket_same_bytes(storage, tmp_path):
    """Also in another process, with another order of sets, in another folder."""
    export(CASES[ALL].ticket(), "onnx", tmp_path / "a.onnx", weights=storage)
    code = (
        "import hashlib, sys; from cases import CASES; from pathlib import Path; from edgeticket.export import export;"
        f"export(CASES[{ALL!r}].ticket(), 'onnx', Path('b.onnx'), weights={storage!r});"
        "print(hashlib.sha256(Path('b.onnx').read_bytes()).hexdigest())"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    content = (tmp_path / "a.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == done.stdout.strip()
    for path in (ROOT, tmp_path, Path.home(), Path(tempfile.gettempdir())):
        assert str(path).encode() + b"/" not in content


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["residual, 3 edges", "squeeze and excite", "1-D", *NEW])
def test_form_of_the_file(name, storage):
    model = to_onnx.build(compact(CASES[name].ticket()), storage)
    assert model.ir_version == 7
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input} == {BATCH}
    assert [value.name for value in model.graph.input] == list(CASES[name].plan.inputs)
    assert [value.name for value in model.graph.output] == list(CASES[name].plan.outputs)
    names = {node.name for node in model.graph.node}
    assert {layer.name for layer in CASES[name].plan.layers} <= names
    assert {node.op_type for node in model.graph.node if not node.name} <= PORTABLE
    assert to_bytes(model) == to_bytes(to_onnx.build(compact(CASES[name].ticket()), storage))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", [PLAIN, "residual", "depthwise", "squeeze and excite", "transposed"])
def test_onnx_runtime_computes_no_weight_at_inference(name, storage):
    case = CASES[name]
    graph = fold.optimised(to_bytes(to_onnx.build(compact(case.ticket()), storage))).graph
    ops = [node.op_type for node in graph.node]
    assert set(ops) <= RUN_EACH_TIME | {"Cast", "Sub"}
    assert ops.count("Cast") == ops.count("Sub") == 1
    products = sum(type(layer.op).__name__ == "Mul" for layer in case.plan.layers)
    assert ops.count("Mul") == 1 + products


@pytest.mark.parametrize("build", [to_onnx.build, qdq.build])
def test_the_step_is_one_number_unless_channels_differ(build):
    """(3, 1, 1): of the case with three channels whose steps differ."""
    shapes = {
        name: tuple(next(t for t in build(compact(CASES[name].ticket())).graph.initializer if t.name == "x_step").dims)
        for name in ("plain, float sensor", "float sensor of different steps")
    }
    assert list(shapes.values()) == [(), (3, 1, 1)]


def test_a_weight_that_is_not_folded_is_found(monkeypatch):
    content = to_bytes(to_onnx.build(compact(CASES[PLAIN].ticket()), "cast8"))
    to_onnx.check(content)
    monkeypatch.setattr(fold, "optimised", onnx.load_from_string)
    with pytest.raises(UnsupportedError, match=r"at every inference \(Cast"):
        to_onnx.check(content)


def test_trit5_is_at_most_an_eighth_of_fp32(tmp_path):
    ticket = SMALL.ticket()
    sizes = {s: export(ticket, "onnx", tmp_path / f"{s}.onnx", weights=s).file_bytes for s in STORAGES}
    assert 8 * sizes["trit5"] <= sizes["fp32"]
    assert sizes["trit5"] < sizes["seed"] < sizes["cast8"] < sizes["fp32"]


def test_float_weights_are_fp32_in_every_storage():
    model = compact(CASES[PLAIN].ticket())
    floats = {name: Float(weights.values.astype(np.float32) / 3) for name, weights in model.weights.items()}
    model = replace(model, weights=floats)
    assert len({to_bytes(to_onnx.build(model, storage)) for storage in STORAGES}) == 1


# the generator in halves


class Watched:
    """A number of int64 whose every value must be one of int32, and not negative."""

    def __init__(self, values):
        self.values = np.asarray(values, np.int64)
        assert self.values.min() >= 0
        assert self.values.max() < 1 << 31

    def _do(self, other, operation):
        return Watched(operation(self.values, other.values if isinstance(other, Watched) else other))

    def __add__(self, other):
        return self._do(other, np.add)

    def __mul__(self, other):
        return self._do(other, np.multiply)

    def __floordiv__(self, other):
        return self._do(other, np.floor_divide)

    def __mod__(self, other):
        return self._do(other, np.mod)


def extreme_words() -> np.ndarray:
    edges = [
        0,
        1,
        2,
        127,
        128,
        255,
        256,
        257,
        0x3FFF,
        0x4000,
        0x4001,
        0x7FFF,
        0x8000,
        0xBFFF,
        0xC000,
        0xFF00,
        0xFFFE,
        0xFFFF,
    ]
    pairs = np.array([high << 16 | low for high in edges for low in edges], np.uint32)
    return np.concatenate([pairs, np.random.default_rng(0).integers(0, 1 << 32, 200_000, np.uint32)])


@pytest.mark.parametrize(
    "keys", [[0] * 5, [0xFFFFFFFF] * 5, prng.layer_keys((1 << 64) - 1, 3, 15), prng.layer_keys(7, 0, 0)]
)
def test_halves_compute_the_generator_below_two_to_31(keys):
    words = extreme_words()
    pairs = [divmod(key, 1 << 16) for key in keys]
    high, low = permute_halves(Watched(words >> np.uint32(16)), Watched(words & np.uint32(0xFFFF)), pairs)
    expected = prng.permute(words + np.uint32(keys[0]), keys[1:])
    assert (high.values << 16 | low.values == expected).all()


def test_signs_in_the_graph_at_the_far_ends():
    """Widest filter and word, columns beyond 16 bits, several edges: as prng computes them, by another evaluator."""
    rows, columns = np.array([0, 65535]), np.array([0, 31, 65535, 65537, (1 << 18) - 1])
    wide = Signs((1 << 64) - 5, 9, np.ones((2, 2, 5), bool), rows, columns)
    taps = Signs(3, 1, np.ones((3, 1, 2, 5, 7), bool), np.array([0, 1, 300]), np.array([2, 900]))
    graph = Graph()
    names = layer_signs(graph, {"wide": wide, "taps": taps})
    model = graph.model([], [])
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names.values())
    made = ReferenceEvaluator(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)).run(None, {})
    for values, weights in zip(made, (wide, taps), strict=True):
        assert (values.reshape(weights.mask.shape) == weights.edge_signs()).all()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("case", [ALL, "transposed, 1-D"])
def test_weights_by_the_reference_evaluator(case, storage):
    """Not only ONNX Runtime finds the weights of the model in the file."""
    ticket = CASES[case].ticket()
    proto = to_onnx.build(compact(ticket), storage)
    names = [f"{name}_weight" for name in ticket.scale]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    stored = stored_weights(proto)
    made = [stored[name] for name in names] if storage == "fp32" else ReferenceEvaluator(proto).run(names, _feed(proto))
    for name, values in zip(ticket.scale, made, strict=True):
        weight = compact(ticket).weight(name)
        if isinstance(ticket.plan[name].op, ConvTranspose):
            weight = weight.swapaxes(0, 1)
        assert (values.shape, values.tobytes()) == (weight.shape, weight.tobytes())


def _feed(proto):
    entry = proto.graph.input[0]
    shape = [dim.dim_value or 1 for dim in entry.type.tensor_type.shape.dim]
    return {entry.name: np.zeros(shape, np.uint8)}


# operations


def emitted(op: Op, *shapes: tuple[int, ...]) -> list[str]:
    """The types of the nodes of one layer; each input is made by a convolution or a linear layer."""
    makers = [
        Layer(f"m{i}", Linear(s[0]) if len(s) == 1 else conv(s[0], dims=len(s) - 1), ("x",))
        for i, s in enumerate(shapes)
    ]
    plan = Plan({"x": shapes[0]}, (*makers, Layer("y", op, tuple(layer.name for layer in makers))), ("y",))
    graph = to_onnx.build(compact(Case(plan, keep=1.0).ticket())).graph
    return [node.op_type for node in graph.node if node.name == "y" or node.name.startswith("y_")]


IMAGE = (4, 6, 6)
EMITTED: list[tuple[Op, list[str]]] = [
    (Norm(), ["BatchNormalization"]),
    (Norm("relu"), ["BatchNormalization", "Relu"]),
    (PRelu(), ["PRelu"]),
    (Gather((1, 2, 3)), ["Slice"]),
    (Gather((0, 2)), ["Gather"]),
    (Gather((2, 1)), ["Gather"]),
    (Gather((0, 2, 1, 3)), ["Gather"]),
    (Gather((1, 1)), ["Gather"]),
    (Reshape((4, 9)), ["Reshape"]),
    (Pad((1, 1, -1, 0)), ["Pad"]),
    (DepthToSpace(2), ["DepthToSpace"]),
    (SpaceToDepth(3), ["Reshape", "Transpose", "Reshape"]),
    (Resize((12, 6), "nearest"), ["Resize"]),
    (Resize((3, 6), "nearest"), ["Gather"]),
    (Resize((8, 9), "nearest"), ["Gather", "Gather"]),
    (Resize((12, 3), "linear"), ["Resize"]),
    (Resize((12, 12), "align_corners"), ["Resize"]),
    (Resize((3, 2), "area"), ["AveragePool"]),
    (Resize((4, 6), "area"), ["MatMul"]),
    (Resize((4, 9), "area"), ["MatMul", "MatMul"]),
    (ConvTranspose(5, (2, 2), (2, 2), (0,) * 4, (0, 0), activation="leaky_relu:0.2"), ["ConvTranspose", "LeakyRelu"]),
    (Activation("hard_swish"), ["HardSigmoid", "Mul"]),
    (Activation("hard_sigmoid"), ["HardSigmoid"]),
    (Activation("silu"), ["Sigmoid", "Mul"]),
    (Activation("gelu"), ["Div", "Erf", "Add", "Mul", "Mul"]),
    (Activation("leaky_relu:0.5"), ["LeakyRelu"]),
    (Activation("none"), ["Identity"]),
]


@pytest.mark.parametrize(("op", "types"), EMITTED)
def test_nodes_of_each_operation(op, types):
    assert emitted(op, IMAGE) == types


def test_a_norm_adds_nothing_to_the_variance():
    model, raw = compact(CASES["norm alone"].ticket()), CASES["norm alone"].raw()
    made = to_onnx.run_bytes(to_bytes(to_onnx.build(model)), raw)
    reference.require_equal("norm", made, reference.run(model, raw), 1e-6)


def test_joins_are_chains_of_two():
    assert emitted(Add("relu"), IMAGE, (1, 6, 6), (4, 6, 6)) == ["Add", "Add", "Relu"]
    assert emitted(Mul(), (4, 6, 6), (4, 6, 6)) == ["Mul"]


def test_onnx_runtime_fuses_what_it_can():
    """A norm is a convolution in the layout of its neighbours, or a batch norm; gelu and hard-sigmoid are one node."""
    model = compact(CASES["norm alone"].ticket())
    ops = [node.op_type for node in fold.optimised(to_bytes(to_onnx.build(model))).graph.node]
    assert ops.count("Mul") == 1
    assert "Add" not in ops
    ops = [n.op_type for n in fold.optimised(to_bytes(to_onnx.build(compact(CASES["own gelu"].ticket())))).graph.node]
    assert not {"Erf", "Div", "Tanh"} & set(ops)


def resized(mode: str, size: int, out: int, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """`x` [1, 1, 1, size] resized to `out` by the nodes of the exporter, alone."""
    plan = Plan({"x": (1, 1, size)}, (Layer("y", Resize((1, out), mode), ("x",)),), ("y",))
    model = to_onnx.build(Model(plan, {}, {}, {}, {"x": Input("float32", (0.0,), (1.0,))}, {}))
    return to_onnx.run_bytes(to_bytes(model), x), [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_resize_is_exact_at_any_size(mode):
    """Between the largest value and its negative, where coordinates that are a little off show most."""
    rng, kinds = np.random.default_rng(0), set()
    for size in (1, 2, 3, 10, 64, 97, 224):
        x = rng.choice([-1.0, 1.0], (1, 1, 1, size)).astype(np.float32)
        for out in (1, 2, 3, 6, 10, 28, 64, 2 * size, 3 * size, 149):
            made, nodes = resized(mode, size, out, x)
            kinds.update(nodes)
            wanted = x.astype(np.float64) @ reference.resize_matrix(size, out, mode).T
            assert made.shape == wanted.shape
            assert np.abs(made - wanted).max() <= (0 if mode == "nearest" else reference.TOLERANCE), (size, out)
    other = {"nearest": {"Resize", "Gather"}, "area": {"AveragePool", "MatMul"}}
    assert kinds - {"Mul"} == other.get(mode, {"Resize", "MatMul"})


def test_a_matrix_larger_than_a_network_is_not_written(monkeypatch):
    x = np.zeros((1, 1, 1, 97), np.float32)
    assert "MatMul" in resized("linear", 97, 150, x)[1]
    monkeypatch.setattr(operations, "MAX_MATRIX", 97 * 150 - 1)
    assert "MatMul" not in resized("linear", 97, 150, x)[1]


# several inputs and outputs


TWO = "two inputs and two outputs"


def test_inputs_are_found_by_name_in_any_order():
    model, raw = compact(CASES[TWO].ticket()), CASES[TWO].raw(100)
    content = to_bytes(to_onnx.build(model))
    turned = dict(reversed(raw.items()))
    for given in (raw, turned):
        for made, wanted in zip(to_onnx.run_outputs(content, given), reference.run_outputs(model, raw), strict=True):
            reference.require_equal("by name", made, wanted)
    assert (to_onnx.run_bytes(content, turned) == to_onnx.run_outputs(content, raw)[0]).all()
    for wrong in ({"picture": raw["picture"]}, {**raw, "more": raw["picture"]}, raw["picture"]):
        with pytest.raises(UnsupportedError, match="does not run the file"):
            to_onnx.run_outputs(content, wrong)


@pytest.mark.parametrize("precision", to_onnx.PRECISIONS)
def test_an_input_can_be_an_output(precision, tmp_path):
    plan = replace(chain((2, 4, 4), conv(4)), outputs=("l0", "x"))
    export(Case(plan).ticket(), "onnx", tmp_path / "a.onnx", precision=precision)


def test_odd_names_of_inputs(tmp_path):
    names = {"picture": "a/b", "current": "a b"}
    plan = CASES[TWO].plan
    layers = tuple(replace(layer, inputs=tuple(names.get(n, n) for n in layer.inputs)) for layer in plan.layers)
    case = Case(Plan({names[n]: shape for n, shape in plan.inputs.items()}, layers, plan.outputs))
    for options in ({"weights": "seed"}, {"precision": "int8"}):
        path = export(case.ticket(), "onnx", tmp_path / f"{len(options)}.onnx", overwrite=True, **options).path
        assert [entry.name for entry in onnx.load(path).graph.input] == ["a_b", "a_b_1"]


def test_a_wrong_second_output_is_never_put_in_place(tmp_path, monkeypatch):
    right = to_onnx.store

    def wrong(graph, model, storage):
        return right(graph, replace(model, scale={**model.scale, "value": -model.scale["value"]}), storage)

    monkeypatch.setattr(to_onnx, "store", wrong)
    with pytest.raises(EquivalenceError, match="output value, against the reference"):
        export(CASES[TWO].ticket(), "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [TWO, "transposed", "two inputs and two outputs, float sensors"])
def test_unpack_feeds_every_input(name, tmp_path):
    ticket = CASES[name].ticket()
    packed = export(ticket, "onnx", tmp_path / "packed.onnx", weights="seed", align=1).path
    plain = onnx.load(unpack(packed, tmp_path / "plain.onnx").path)
    fp32 = to_onnx.build(compact(ticket), "fp32")
    assert plain.graph.node == fp32.graph.node
    content = [{t.name: numpy_helper.to_array(t).tobytes() for t in m.graph.initializer} for m in (plain, fp32)]
    assert content[0] == content[1]


# names


def test_both_precisions_say_what_they_are():
    from exporters import qdq

    model = compact(CASES[PLAIN].ticket())
    for proto, precision in ((to_onnx.build(model), "float"), (qdq.build(model), "int8")):
        told = {entry.key: entry.value for entry in proto.metadata_props}
        assert told == {"edgeticket.model": model.digest, "edgeticket.precision": precision}


def test_odd_layer_names(tmp_path):
    rows = {"x": "input/é", "l0": "a/b c", "l1": "a_b_c", "l2": "t", "l3": "out:0"}
    plan = chain((1, 5, 5), conv(4), conv(4), *TAIL)
    layers = tuple(replace(layer, name=rows[layer.name], inputs=(rows[layer.inputs[0]],)) for layer in plan.layers)
    case = Case(Plan({rows["x"]: (1, 5, 5)}, layers, ("out:0",)))
    for storage in STORAGES:
        export(case.ticket(), "onnx", tmp_path / f"{storage}.onnx", weights=storage)
    names = [node.name for node in onnx.load(tmp_path / "fp32.onnx").graph.node]
    assert {"a_b_c", "a_b_c_1", "t", "out_0"} <= set(names)


def test_equal_constants_are_stored_once():
    graph = Graph()
    first = graph.constant(np.zeros(3, np.float32))
    assert graph.constant(np.zeros(3, np.float32), "other") == first
    assert graph.constant(np.zeros((3, 1), np.float32)) != first
    assert graph.constant(np.zeros(3, np.int32)) != first
    assert list(graph.initializers[0].dims) == [3]
    graph.constant(np.float32(1))
    assert list(graph.initializers[-1].dims) == []


# export: proven, then put in place


def test_a_storage_that_is_wrong_is_never_put_in_place(tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    right = to_onnx.store

    def wrong(graph, model, storage):
        name = next(iter(model.scale))
        return right(graph, replace(model, scale={**model.scale, name: -model.scale[name]}), storage)

    monkeypatch.setattr(to_onnx, "store", wrong)
    for storage in STORAGES:
        with pytest.raises(EquivalenceError, match="against the reference"):
            export(CASES[PLAIN].ticket(), "onnx", path, overwrite=True, weights=storage)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_int8_file_that_is_wrong_is_never_put_in_place(tmp_path, monkeypatch):
    from exporters import qdq

    monkeypatch.setattr(qdq, "compare", lambda model, raw: {"l0": 1, "l1": 2})
    with pytest.raises(EquivalenceError, match="layer l1 is 2 codes"):
        export(CASES[PLAIN].ticket(), "onnx", tmp_path / "a.onnx", precision="int8")
    assert not list(tmp_path.iterdir())


def test_an_existing_output_stays_without_overwrite(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="--overwrite"):
        export(CASES[PLAIN].ticket(), "onnx", path)
    assert path.read_bytes() == b"old"
    export(CASES[PLAIN].ticket(), "onnx", path, overwrite=True)
    assert path.read_bytes() != b"old"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"weights": "fp16"}, UsageError, "fp32, cast8, trit5, seed"),
        ({"precision": "int4"}, UsageError, "float, int8"),
        ({"precision": "int8", "weights": "seed"}, UsageError, "int8 already"),
        ({"colour": "red"}, UsageError, "no option --colour"),
        ({"format": "tflite"}, PluginError, "onnx"),
        ({"align": 0}, UsageError, "align"),
    ],
)
def test_wrong_options(options, error, text, tmp_path):
    with pytest.raises(error, match=text):
        export(CASES[PLAIN].ticket(), **{"format": "onnx", "path": tmp_path / "a.onnx", **options})
    assert not list(tmp_path.iterdir())


def test_align_widens_to_a_multiple(tmp_path):
    ticket = CASES[PLAIN].ticket()
    widths = {}
    for align in (1, 8):
        path = export(ticket, "onnx", tmp_path / f"{align}.onnx", align=align).path
        widths[align] = [array.shape[0] for array in stored_weights(onnx.load(path)).values()][:-1]
    assert widths[1] == [len(ticket.scale[f"l{i}"]) for i in range(3)]
    assert widths[8] == [-(-width // 8) * 8 for width in widths[1]] != widths[1]


# run


def test_many_examples_are_run_in_parts():
    model, raw = compact(CASES[PLAIN].ticket()), CASES[PLAIN].raw(150)
    content = to_bytes(to_onnx.build(model))
    made = to_onnx.run_bytes(content, raw)
    assert (made.shape, made.dtype) == ((150, 4), np.float32)
    assert np.abs(made[100] - to_onnx.run_bytes(content, raw[100:101])[0]).max() < 1e-5


@pytest.mark.parametrize("raw", [np.zeros((2, 1, 7, 8), np.uint8), np.zeros((2, 1, 8, 8), np.float32)])
def test_input_that_the_runtime_refuses(raw):
    content = to_bytes(to_onnx.build(compact(CASES[PLAIN].ticket())))
    with pytest.raises(UnsupportedError, match="does not run the file"):
        to_onnx.run_bytes(content, raw)


# unpack


@pytest.mark.parametrize("storage", STORAGES)
def test_unpack_gives_the_plain_file(storage, tmp_path):
    ticket = CASES[ALL].ticket()
    packed = export(ticket, "onnx", tmp_path / "packed.onnx", weights=storage, align=1).path
    plain = onnx.load(unpack(packed, tmp_path / "plain.onnx").path)
    fp32 = to_onnx.build(compact(ticket), "fp32")
    assert [(opset.domain, opset.version) for opset in plain.opset_import] == [("", 13)]
    assert not fold.unfolded(plain)
    assert plain.graph.node == fp32.graph.node
    content = [{t.name: numpy_helper.to_array(t).tobytes() for t in m.graph.initializer} for m in (plain, fp32)]
    assert content[0] == content[1]


def test_unpack_refuses(tmp_path):
    ticket, output = CASES[PLAIN].ticket(), tmp_path / "out.onnx"
    good = export(ticket, "onnx", tmp_path / "good.onnx").path.read_bytes()
    foreign = onnx.load_from_string(good)
    foreign.producer_name = "other"
    bad = {"cut.onnx": good[:-7], "empty.onnx": b"", "text.onnx": b"hello", "foreign.onnx": foreign.SerializeToString()}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EdgeTicketError, match=name):
            unpack(tmp_path / name, output)
    with pytest.raises(EdgeTicketError, match=r"missing\.onnx"):
        unpack(tmp_path / "missing.onnx", output)
    export(ticket, "onnx", tmp_path / "int8.onnx", precision="int8")
    with pytest.raises(UsageError, match="int8"):
        unpack(tmp_path / "int8.onnx", output)
    with pytest.raises(UsageError, match="overwrite"):
        unpack(tmp_path / "good.onnx", tmp_path / "int8.onnx")
    assert not output.exists()


def test_unpack_notices_a_change(tmp_path, monkeypatch):
    path = export(CASES[PLAIN].ticket(), "onnx", tmp_path / "a.onnx", weights="trit5").path
    right = fold.fold

    def wrong(model):
        made = right(model)
        weight = next(t for t in made.graph.initializer if t.name == "l1_weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.0000002), weight.name))
        return made

    monkeypatch.setattr(fold, "fold", wrong)
    with pytest.raises(EquivalenceError):
        unpack(path, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


# command line


def test_commands(tmp_path):
    CASES[PLAIN].ticket().write(tmp_path / "d.ticket")
    out, plain = str(tmp_path / "d.onnx"), str(tmp_path / "plain.onnx")
    arguments = ["export", str(tmp_path / "d.ticket"), "--weights", "seed", "-o", out]
    done = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    content = (tmp_path / "d.onnx").read_bytes()
    assert (row["bytes"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert 0 < row["gzip_bytes"] < row["bytes"]
    assert CliRunner().invoke(main, arguments).exit_code == 2
    assert CliRunner().invoke(main, [*arguments, "--overwrite"]).exit_code == 0
    done = CliRunner().invoke(main, ["unpack", out, "-o", plain])
    assert done.exit_code == 0, done.output
    assert "through gzip" in done.stdout
    assert CliRunner().invoke(main, ["export", str(tmp_path / "no.ticket"), "-o", plain]).exit_code == 1


def test_export_without_torch(tmp_path):
    CASES[PLAIN].ticket().write(tmp_path / "d.ticket")
    code = "import sys; sys.modules['torch'] = None; from edgeticket.cli import main; main()"
    arguments = ["export", "d.ticket", "-o", "d.onnx", "--weights", "seed"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert (tmp_path / "d.onnx").exists()
