"""The int8 ONNX file: at most one code per layer beside the specification, and fused by ONNX Runtime."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import random_networks
from cases import CASES, Case, chain

from edgeticket import integer, reference
from edgeticket.calibration import calibrate
from edgeticket.compact import compact
from edgeticket.errors import UnsupportedError
from edgeticket.integer import integerise
from edgeticket.model import Float, Int8, Model, Raw
from edgeticket.ops import (
    RESIZE_MODES,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Linear,
    Norm,
    Op,
    Pad,
    Reshape,
    Resize,
    SpaceToDepth,
    conv,
)
from edgeticket.ticket import Input, Quant
from exporters import fold, qdq, to_onnx
from exporters.graph import IR_VERSION, OPSET, to_bytes
from exporters.to_onnx import check

PLAIN = Case(
    chain((1, 28, 28), conv(16), conv(32, stride=2), conv(32, stride=2), GlobalAveragePool(), Linear(10)), keep=1.0
)
PAIRS = {"Transpose", "DequantizeLinear", "Flatten"}  # what is left around fused operations


def model_of(name: str) -> Model:
    return compact(CASES[name].ticket())


def operations(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in fold.optimised(to_bytes(qdq.build(model))).graph.node)


def run(model: Model, raw: np.ndarray) -> np.ndarray:
    session = fold.session(to_bytes(qdq.build(model)))
    return np.asarray(session.run(None, {session.get_inputs()[0].name: raw})[0])


def equal_answers(model: Model, raw: Raw) -> float:
    """How often the largest value of the first output is the specification's."""
    made = to_onnx.run_outputs(to_bytes(qdq.build(model)), raw)[0]
    return float((made.argmax(1) == integer.run(integer.integerise(model), raw).argmax(1)).mean())


@pytest.mark.parametrize("name", CASES)
def test_at_most_one_code_a_layer(name: str) -> None:
    model, raw = model_of(name), CASES[name].raw(100)
    assert max(qdq.compare(model, raw).values()) <= 1
    assert equal_answers(model, raw) >= 0.97


@pytest.mark.parametrize("name", CASES)
def test_the_file_passes_every_check(name: str) -> None:
    proto = qdq.build(model_of(name))
    check(to_bytes(proto))
    assert (proto.ir_version, [(o.domain, o.version) for o in proto.opset_import]) == (IR_VERSION, [("", OPSET)])
    assert to_bytes(proto) == to_bytes(qdq.build(model_of(name)))


def test_argmax_agrees_on_many_images() -> None:
    model, raw = compact(PLAIN.ticket()), PLAIN.raw(1000)
    assert max(qdq.compare(model, raw).values()) == 1  # float rounding does differ: if never, nothing was compared
    assert equal_answers(model, raw) >= 0.995


def test_a_difference_in_any_batch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One example at a time: the code that is off is in few of them."""
    model, raw = model_of("plain"), CASES["plain"].raw(40)
    whole = qdq.compare(model, raw)
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 1)
    assert qdq.compare(model, raw) == whole
    alone = [max(qdq.compare(model, raw[i : i + 1]).values()) for i in range(40)]
    assert min(alone) == 0 < max(alone) == max(whole.values())


def test_a_wrong_constant_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = qdq._signed
    monkeypatch.setattr(qdq, "_signed", lambda *given: (right(*given)[0], right(*given)[1], right(*given)[2] * 1.05))
    assert max(qdq.compare(model_of("plain"), CASES["plain"].raw(100)).values()) > 1


def test_a_plain_network_is_fused_whole() -> None:
    found = operations(compact(PLAIN.ticket()))
    assert found["QLinearConv"] == 3
    assert found["QGemm"] == found["QLinearGlobalAveragePool"] == found["DequantizeLinear"] == 1
    assert set(found) <= PAIRS | {"QLinearConv", "QGemm", "QLinearGlobalAveragePool"}


def test_a_residual_network_is_fused() -> None:
    found = operations(model_of("residual"))
    assert found["QLinearConv"] == 6
    assert found["QLinearAdd"] == 1
    assert found["Conv"] + found["FusedConv"] == 0
    assert found["Add"] == 2  # three operands: there is no integer kernel


def test_weights_are_the_small_integers_unless_they_could_saturate() -> None:
    model = compact(PLAIN.ticket())
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in qdq.build(model).graph.initializer}
    assert stored["l0_weight_codes"].dtype == np.uint8  # learned, up to +-127
    assert stored["l1_weight_codes"].dtype == np.int8
    assert set(np.unique(stored["l1_weight_codes"])) == {-1, 0, 1}
    scale = np.abs(model.scale["l1"])
    assert np.allclose(stored["l1_weight_scale"], scale, rtol=1e-6)


def test_a_common_offset_is_the_zero_point() -> None:
    assert integerise(model_of("plain")) is not None
    assert "Cast" not in operations(model_of("plain"))
    assert operations(model_of("residual"))["Cast"] == 1  # three channels, three offsets
    assert not qdq.prepare(model_of("residual")).exact


LAYOUTS: dict[Op, set[str]] = {
    Gather((1, 2, 3)): {"Slice"},
    Gather((2, 0, 2)): {"Gather"},
    Flatten(): {"Flatten", "Reshape"},
    Reshape((24,)): {"Reshape"},
    DepthToSpace(2): {"DepthToSpace"},
    SpaceToDepth(2): {"Reshape", "Transpose"},
    Resize((8, 12), "nearest"): {"Resize"},
    Pad((1, 0, -1, 2)): {"Pad"},
}


@pytest.mark.parametrize("op", LAYOUTS)
def test_layouts_move_codes(op: Op) -> None:
    """The same codes and quantisation before and after; but around a Pad, no value is dequantised."""
    case = Case(chain((8, 4, 6), op), zero_offset=True)
    model = compact(case.ticket())
    spec = qdq.prepare(model)
    assert spec.tensors["l0"] == spec.tensors["x"]
    assert qdq.compare(model, case.raw(20)) == {"x": 0, "l0": 0}
    found = operations(model)
    assert found.pop("DequantizeLinear") == (1 if not isinstance(op, Pad) else 2)  # the output's
    assert set(found) <= LAYOUTS[op] | ({"QuantizeLinear"} if isinstance(op, Pad) else set())


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("size", [(4, 6), (10, 9), (16, 18), (2, 3), (1, 1)])
def test_resize_to_any_size(mode: str, size: tuple[int, ...]) -> None:
    case = Case(chain((2, 8, 9), conv(6), Resize(size, mode)))
    assert max(qdq.compare(compact(case.ticket()), case.raw(50)).values()) <= 1


def test_a_norm_is_one_node_with_the_bias_of_the_specification() -> None:
    """5 - 4.9983 is 170 codes, and 0 where a bias has steps of 1 / 256."""
    scale, bias = ({"l0": np.full(2, value, np.float32)} for value in (1, -4.9983))
    quant = {"x": Quant(1.0, 0), "l0": Quant(1e-5, 0)}
    sensor = Input("float32", (0.0, 0.0), (1.0, 1.0))
    model = Model(chain((2, 3), Norm()), {}, scale, bias, {"x": sensor}, quant)
    assert operations(model)["BatchNormalization"] == 1
    assert qdq.compare(model, np.full((1, 2, 3), 5, np.float32)) == {"x": 0, "l0": 0}


def test_the_filters_of_a_transposed_convolution_are_its_second_axis() -> None:
    model = compact(Case(chain((3, 5, 5), ConvTranspose(7, (2, 3), (1, 1), (0,) * 4, (0, 0))), learned=False).ticket())
    proto = qdq.build(model)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert stored["l0_weight_codes"].shape == (3, 7, 2, 3)
    axes = {n.name: n.attribute[0].i for n in proto.graph.node if n.name in ("l0_weight", "l0_bias")}
    assert axes == {"l0_weight": 1, "l0_bias": 0}


def test_each_input_is_exact_or_quantised_by_its_own_sensor() -> None:
    case = CASES["two inputs and two outputs"]
    model = model_of("two inputs and two outputs")
    assert not qdq.prepare(model).exact  # two channels and three, of different offsets
    sensor = replace(model.inputs["current"], offset=(9.0,) * 3)
    model = replace(model, inputs={**model.inputs, "current": sensor})
    spec = qdq.prepare(model)
    assert spec.exact == {"current"}
    assert set(qdq.compare(model, case.raw(50))) == set(model.plan.shapes)
    assert max(qdq.compare(model, case.raw(50)).values()) <= 1
    graph = qdq.build(model).graph
    assert [entry.name for entry in graph.input] == ["picture", "current"]
    assert [entry.name for entry in graph.output] == ["class", "value"]
    assert Counter(node.op_type for node in graph.node)["Cast"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(45))
def test_random_networks(seed: int) -> None:
    case = random_networks.case(seed)
    model = compact(case.ticket())
    model = replace(model, quant=calibrate(model, case.raw(32)))
    tables = {r.layer.name for r in integerise(model).layers if r.table is not None}
    coarse = {name for name in tables if model.quant[name].scale < 2.0**-14}
    assert {name for name, off in qdq.compare(model, case.raw(20)).items() if off > 1} <= coarse


def test_a_difference_in_a_second_output_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, case = model_of("two inputs and two outputs"), CASES["two inputs and two outputs"]
    right = qdq._signed

    def wrong(record, source):
        values, bias, scale = right(record, source)
        return values, bias + 1000 * (record.layer.name == "value"), scale

    monkeypatch.setattr(qdq, "_signed", wrong)
    off = qdq.compare(model, case.raw(50))
    assert [name for name, most in off.items() if most > 1] == ["value"]


@pytest.mark.parametrize("scale", [0.0, 1e-30, -1e-12])
def test_a_layer_of_no_scale_gives_its_bias(scale: float) -> None:
    case = replace(CASES["plain"], scale={"l1": scale})
    model = compact(case.ticket())
    found = qdq.compare(model, case.raw(20))
    assert max(found.values()) <= 1
    assert np.isfinite(run(model, case.raw(20))).all()


def test_no_scale_in_the_file_is_zero() -> None:
    model = compact(replace(CASES["plain"], scale={"l1": 1e-44}).ticket())
    proto = qdq.build(replace(model, bias={**model.bias, "l1": np.zeros_like(model.bias["l1"])}))
    scales = [onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name.endswith("_scale")]
    assert min(array.min() for array in scales) > 0


@pytest.mark.parametrize(("kind", "node"), [("relu", "Relu"), ("relu6", "Clip")])
@pytest.mark.parametrize("quant", [Quant(0.05, 0), Quant(0.05, 9), Quant(0.02, 0)])
def test_a_clamp_stays_where_the_codes_do_not_make_it(kind: str, node: str, quant: Quant) -> None:
    model = compact(Case(chain((2, 5, 5), conv(8), conv(8, activation=kind)), zero_offset=True, keep=1).ticket())
    model = replace(
        model, quant={**model.quant, "l1": quant}, bias={**model.bias, "l1": np.linspace(-3, 9, 8).astype(np.float32)}
    )
    found = qdq.compare(model, CASES["fused relu"].raw(30))
    assert max(found.values()) <= 1
    needed = quant.zero_point > 0 or (kind == "relu6" and quant.scale == 0.05)
    assert (node in {n.op_type for n in qdq.build(model).graph.node}) == needed


def test_the_exposed_graph_is_the_deployed_one() -> None:
    model, raw = model_of("residual"), CASES["residual"].raw(30)
    emitter = qdq._emit(model, qdq.prepare(model))
    session = fold.session(to_bytes(emitter.proto([emitter.codes["a"], emitter.codes["sum"]])))
    assert (session.run(None, {"x": raw})[0] == run(model, raw)).all()


def test_any_batch() -> None:
    model, raw = model_of("plain"), CASES["plain"].raw(9)
    assert (np.concatenate([run(model, raw[:1]), run(model, raw[1:])]) == run(model, raw)).all()


def test_float_controls_are_served() -> None:
    model, rng = model_of("plain"), np.random.default_rng(5)
    weights = {n: Float(rng.normal(size=w.values.shape).astype(np.float32) * 0.3) for n, w in model.weights.items()}
    unit = {n: np.full_like(s, 0.3) for n, s in model.scale.items()}
    found = qdq.compare(replace(model, weights=weights, scale=unit), CASES["plain"].raw(50))
    assert max(found.values()) <= 1


def test_a_weight_without_its_negative_is_refused() -> None:
    model = model_of("plain")
    values = np.full_like(model.weights["l0"].values, -128)
    with pytest.raises(UnsupportedError, match="l0"):
        qdq.build(
            replace(
                model,
                weights={**model.weights, "l0": Int8(values)},
                scale={**model.scale, "l0": -np.abs(model.scale["l0"])},
            )
        )
