"""The integer network: by hand, at its extremes, and against exact arithmetic and the float oracle."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import floor, prod

import numpy as np
import pytest
from cases import CASES, chain

from edgeticket import reference
from edgeticket.compact import compact
from edgeticket.errors import DataError, UnsupportedError
from edgeticket.integer import (
    IntegerModel,
    _finish,
    dequantise,
    integerise,
    run,
    run_all,
    run_layer,
    run_outputs,
)
from edgeticket.integer_layer import RESIDUALS, Codes, IntegerLayer, fixed_point, keeps_codes
from edgeticket.model import Float, Int8, Model
from edgeticket.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Reshape,
    Resize,
    SpaceToDepth,
    leak,
)
from edgeticket.plan import Plan
from edgeticket.ticket import Input, Quant

MODELS = {name: compact(case.ticket()) for name, case in CASES.items()}


def linear(
    values: list[list[int]], scale: list[float], bias: list[float], out: Quant, dtype: str = "uint8", **kind: str
) -> Model:
    """One Linear over a sensor of offset 100 and step 0.5."""
    op = Linear(len(values), **kind)  # type: ignore[arg-type]
    offset = (100.0,) * len(values[0])
    weights = {"l0": Int8(np.array(values, np.int8))}
    floats = [{"l0": np.array(x, np.float32)} for x in (scale, bias)]
    return Model(
        chain((len(values[0]),), op),
        weights,
        *floats,
        {"x": Input(dtype, offset, (0.5,) * len(offset))},
        {"l0": out, "x": Quant(0.5, 100)},
    )


def codes_of(model: Model, *rows: list[int]) -> list[list[int]]:
    return run(integerise(model), np.array(rows, np.dtype(model.inputs["x"].dtype))).tolist()


def test_linear_by_hand() -> None:
    # unit = 0.5 * 0.25 = 0.125 = one code, bias = 1 / 0.125 = 8: code = 10 + (a - b) + 8, clamped
    model = linear([[1, -1]], [0.25], [1.0], Quant(0.125, 10))
    assert codes_of(model, [130, 100], [100, 110], [255, 0], [0, 255]) == [[48], [8], [255], [0]]


def test_halves_are_rounded_up() -> None:
    model = linear([[1, -1]], [0.25], [0.0], Quant(0.25, 10))  # half a code for each step of a - b
    assert codes_of(model, [101, 100], [100, 101], [103, 100], [100, 103]) == [[11], [10], [12], [9]]


def test_negative_scale() -> None:
    # bias = round(1 / -0.125) = -8, acc = (a - b) - 8, p = -acc
    model = linear([[1, -1]], [-0.25], [1.0], Quant(0.125, 10))
    assert codes_of(model, [130, 100], [100, 110]) == [[0], [28]]
    assert integerise(model).layers[0].multiplier.tolist() == [-(2**14)]  # type: ignore[union-attr]


@pytest.mark.parametrize("scale", [0.0, 1e-12, -1e-12])
def test_a_filter_of_no_scale_gives_its_bias(scale: float) -> None:
    model = linear([[1, -1], [1, 1]], [scale, 0.25], [-0.5, 0.0], Quant(0.125, 10))
    assert codes_of(model, [255, 0], [0, 255]) == [[6, 65], [6, 65]]
    assert not integerise(model).layers[0].values[0].any()  # type: ignore[index]


def test_relu_and_relu6_clamp() -> None:
    for kind, want in (("relu", [10, 10, 90, 255]), ("relu6", [10, 10, 58, 58])):
        model = linear([[1, -1]], [0.25], [0.0], Quant(0.125, 10), activation=kind)
        assert [row[0] for row in codes_of(model, [0, 255], [100, 100], [180, 100], [255, 0])] == want


def test_leaky_relu_by_hand() -> None:
    model = linear([[1, -1]], [0.25], [0.0], Quant(0.125, 10), activation="leaky_relu")
    # p = -255 -> -2.55 -> -3; p = -149 -> -1.49 -> -1; p = -151 -> -2
    rows = [0, 255], [0, 149], [0, 151], [120, 100]
    assert [row[0] for row in codes_of(model, *rows)] == [7, 9, 8, 30]


Shapes = tuple[int, ...] | list[tuple[int, ...]]


def spec(
    *sources: Codes, out: Quant, op: Op, shape: Shapes = (2,), **own: list[float]
) -> tuple[IntegerModel, IntegerLayer]:
    """One layer without weights on tensors a, b, ... of these codes and shapes; `own`: its scale, bias or slope."""
    names = [chr(97 + i) for i in range(len(sources))]
    shapes = dict(zip(names, shape if isinstance(shape, list) else [shape] * len(names), strict=True))
    quant = {name: Quant(own.scale, own.zero_point) for name, own in zip(names, sources, strict=True)}
    inputs = {name: Input("float32", (0.0,) * one[0], (1.0,) * one[0]) for name, one in shapes.items()}
    scale, bias, slope = ({"y": np.array(own[k], np.float32)} if k in own else {} for k in ("scale", "bias", "slope"))
    plan = Plan(shapes, (Layer("y", op, tuple(names)),), ("y",))
    model = integerise(Model(plan, {}, scale, bias, inputs, {**quant, "y": out}, slope=slope))
    return model, model.layers[0]


def apply(model: IntegerModel, record: IntegerLayer, *codes: object) -> list[object]:
    return run_layer(model, record, [np.array([own], np.uint8) for own in codes])[0].tolist()


def test_operations_without_weights_by_hand() -> None:
    a, b = Codes(0.5, 10), Codes(1.0, 20)
    # values (2, -3) * 0.5 and (5, 235) * 1.0
    pair = [12, 7], [25, 255]
    assert apply(*spec(a, b, out=Quant(0.5, 30), op=Add()), *pair) == [42, 255]
    assert apply(*spec(a, b, out=Quant(0.5, 30), op=Add("relu")), [0, 7], [20, 21]) == [30, 30]
    assert apply(*spec(a, b, out=Quant(2.0, 200), op=Mul()), *pair) == [203, 24]  # 2.5 -> 3, -176.25 -> -176
    assert apply(*spec(a, b, out=Quant(0.5, 30), op=Concat()), *pair) == [32, 27, 40, 255]
    assert apply(*spec(a, out=Quant(0.25, 128), op=Activation("relu")), [12, 7]) == [132, 128]
    square = [[[12, 7], [10, 13]]]  # values 2 -3 0 3
    mean = spec(a, out=Quant(0.125, 100), op=GlobalAveragePool(), shape=(1, 2, 2))
    assert apply(*mean, square) == [102]  # 0.5 * 0.5 / 0.125
    pool = spec(a, out=Quant(0.125, 100), op=AveragePool((2, 2), (2, 2), (1, 1, 1, 1)), shape=(1, 2, 2))
    assert apply(*pool, square) == [[[108, 88], [100, 112]]]  # each window holds one element
    row = spec(a, out=Quant(0.125, 100), op=AveragePool((1, 2), (1, 2), (0, 1, 0, 1)), shape=(1, 1, 4))
    assert apply(*row, [[[12, 7, 10, 13]]]) == [[[108, 94, 112]]]


def test_leaky_relu_of_other_slopes_by_hand() -> None:
    rows = [0, 255], [0, 149], [0, 147], [120, 100]  # p = -255, -149, -147, 20

    def codes(kind: str) -> list[int]:
        model = linear([[1, -1]], [0.25], [0.0], Quant(0.125, 10), activation=kind)
        return [row[0] for row in codes_of(replace(model, quant={**model.quant, "l0": Quant(0.125, 200)}), *rows)]

    assert codes("leaky_relu:0.2") == [149, 170, 171, 220]  # -51, -29.8, -29.4
    assert codes("leaky_relu:0.5") == [73, 126, 127, 220]  # -127.5 -> -127, -74.5 -> -74, -73.5 -> -73
    assert codes("leaky_relu:1.0") == [0, 51, 53, 220]
    assert codes("leaky_relu:1e-06") == codes("relu") == [200, 200, 200, 220]
    for slope, want in (("0.01", (20972, 21)), ("3e-05", (32212, 30)), ("1.5e-05", (0, 1)), ("0.0", (0, 1))):
        model = linear([[1, -1]], [0.25], [0.0], Quant(0.125, 10), activation=f"leaky_relu:{slope}")
        below = integerise(model).layers[0].below
        assert tuple(int(x[0]) for x in below) == want  # type: ignore[union-attr]


def test_norm_by_hand() -> None:
    # unit = 0.5 * scale / 256; channel 0: code = 30 + (v + 3) (its bias 1.5 is 3 codes), 1: 30 - v / 2, 2: 30 + 8
    scale, bias = [1.0, -0.5, 0.0], [1.5, 0.0, 4.0]
    model, record = spec(Codes(0.5, 10), out=Quant(0.5, 30), op=Norm(), shape=(3, 2), scale=scale, bias=bias)
    assert record.values is not None
    assert record.values.tolist() == [256, 256, 0]
    assert record.bias.tolist()[:2] == [768, 0]  # type: ignore[union-attr]
    assert apply(model, record, [[10, 13], [13, 10], [0, 255]]) == [[33, 36], [29, 30], [38, 38]]  # 28.5 -> 29
    flat = spec(Codes(0.5, 10), out=Quant(0.5, 30), op=Norm("relu"), shape=(2,), scale=[1.0, -2.0], bias=[0.0, 0.0])
    assert apply(*flat, [13, 13]) == [33, 30]


def test_prelu_by_hand() -> None:
    # values -5 and 4 of 0.5, steps of 0.25: 8 codes above, and below 10 * slope, rounded once
    slopes = [0.25, 3.0, -1.0, 0.0]
    model, record = spec(Codes(0.5, 10), out=Quant(0.25, 100), op=PRelu(), shape=(4, 2), slope=slopes)
    assert apply(model, record, [[5, 14]] * 4) == [[98, 108], [70, 108], [110, 108], [100, 108]]  # -2.5 -> -2


def test_operands_are_broadcast_by_hand() -> None:
    a, b = Codes(0.5, 10), Codes(1.0, 20)
    image = [[[12, 7]], [[10, 13]]]  # values 2 -3, 0 3
    shape = (2, 1, 2)
    add = spec(a, b, out=Quant(0.5, 30), op=Add(), shape=[shape, (2, 1, 1)])
    assert apply(*add, image, [[[21]], [[15]]]) == [[[34, 29]], [[20, 23]]]
    add = spec(a, b, out=Quant(0.5, 30), op=Add("relu"), shape=[shape, (1, 1, 2)])
    assert apply(*add, image, [[[21, 19]]]) == [[[34, 30]], [[32, 31]]]
    mul = spec(b, a, out=Quant(0.5, 30), op=Mul(), shape=[(1, 1, 1), shape])
    assert apply(*mul, [[[22]]], image) == [[[34, 24]], [[30, 36]]]


def test_layouts_keep_the_codes() -> None:
    a, other = Codes(0.5, 10), Quant(7.0, 3)
    rows: list[tuple[Op, tuple[int, ...], object, object]] = [
        (Gather((2, 0, 2)), (3, 2), [[1, 2], [3, 4], [5, 6]], [[5, 6], [1, 2], [5, 6]]),
        (Reshape((2, 1)), (1, 1, 2), [[[1, 2]]], [[[1], [2]]]),
        (Reshape((2,)), (4,), [1, 2, 3, 4], [[1, 2], [3, 4]]),
        (Pad((1, 0)), (1, 2), [[1, 2]], [[10, 1, 2]]),
        (Pad((-1, 0, 0, 1)), (1, 2, 1), [[[1], [2]]], [[[2, 10]]]),
        (DepthToSpace(2), (8, 1, 1), [[[i]] for i in range(8)], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
        (SpaceToDepth(2), (2, 2, 2), [[[0, 1], [2, 3]], [[4, 5], [6, 7]]], [[[i]] for i in range(8)]),
        (Resize((5,), "nearest"), (1, 3), [[1, 2, 3]], [[1, 1, 2, 2, 3]]),
        (Resize((1, 2), "nearest"), (1, 2, 3), [[[1, 2, 3], [4, 5, 6]]], [[[1, 2]]]),
    ]
    for op, shape, given, wanted in rows:
        model, record = spec(a, out=other, op=op, shape=shape)
        assert model.tensors["y"] == a
        assert apply(model, record, given) == wanted, op


def test_padding_of_a_sensor_is_its_offset() -> None:
    model = integerise(Model(chain((1, 2), Pad((1, 1))), {}, {}, {}, {"x": Input("uint8", (100.0,), (0.5,))}, {}))
    assert run(model, np.array([[[40, 190]]], np.uint8)).tolist() == [[[0, -60, 90, 0]]]


def test_resize_by_hand() -> None:
    a = Codes(0.5, 10)

    def made(size: tuple[int, ...], mode: str, codes: object, out: Quant = Quant(0.25, 100)) -> object:  # noqa: B008
        shape = np.array(codes).shape
        return apply(*spec(a, out=out, op=Resize(size, mode), shape=shape), codes)

    # values 0 8 24 of 0.5 -> steps of 0.25
    assert made((6,), "linear", [[10, 18, 34]]) == [[100, 104, 112, 124, 140, 148]]
    assert made((5,), "align_corners", [[10, 18, 34]]) == [[100, 108, 116, 132, 148]]
    assert made((2,), "area", [[10, 18, 34]]) == [[108, 132]]
    # means of 2 and of 4 of the values 1 2 3 4 5 6: each has its own number
    assert made((1, 2), "area", [[[11, 12, 13], [14, 15, 16]]]) == [[[106, 108]]]
    assert made((4, 4), "linear", [[[10, 18], [18, 26]]])[0][1] == [104, 108, 116, 120]  # type: ignore[index]


def test_shares_of_a_resize_sum_to_one() -> None:
    for mode, size, out in product(("linear", "align_corners"), (3, 7, 11), (2, 5, 13, 2048)):  # 2048: of halves
        (matrix,) = spec(Codes(0.5, 10), out=Quant(0.5, 0), op=Resize((out,), mode), shape=(1, size))[1].matrices
        assert (matrix.sum(1) == 1 << 11).all()
        assert ((matrix > 0).sum(1) <= 2).all()
        assert np.abs(matrix / 2**11 - reference.resize_matrix(size, out, mode)).max() <= 2.0**-12


@pytest.mark.parametrize(("shape", "bits"), [((1, 4), 11), ((1, 4, 4), 7)])
def test_shares_over_an_int16_sensor_leave_room(shape: tuple[int, ...], bits: int) -> None:
    plan = chain(shape, Resize((8,) * (len(shape) - 1), "linear"))
    model = integerise(Model(plan, {}, {}, {}, {"x": Input("int16", (0.0,), (0.5,))}, {"l0": Quant(0.5 * 256, 128)}))
    (record,) = model.layers
    assert record.matrices[0].sum(1).tolist() == [1 << bits] * 8
    assert record.sums < 1 << 31
    assert run(model, np.full((1, *shape), -32768, np.int16)).tolist() == np.full((1, *plan.shapes["l0"]), 0).tolist()


@pytest.mark.parametrize("values", [np.zeros((1, 2), np.int8), np.zeros((1, 2), np.float32)])
def test_a_filter_of_no_weights_gives_its_bias(values: np.ndarray) -> None:
    """However coarse one step of its input would be."""
    model = linear([[0, 0]], [9e5], [0.3], Quant(0.001, 10))
    weights = {"l0": Int8(values) if values.dtype == np.int8 else Float(values)}
    model = replace(model, weights=weights, quant={**model.quant, "l0": Quant(0.01, 10)})
    assert codes_of(model, [255, 0], [0, 255]) == [[40], [40]]


def test_an_output_that_calibration_saw_constant_still_has_multipliers() -> None:
    """Its scale is raised until they fit: any sum but 0 is beyond the codes before and after."""
    dead = Quant(4e-9, 0)
    model = linear([[1, -1]], [0.25], [0.0], dead, activation="relu")
    assert codes_of(model, [0, 255], [101, 100], [100, 100]) == [[0], [255], [0]]
    made = integerise(model).tensors["l0"].scale
    assert 0.125 / 2**14 < made < 0.125 / 2**14 * 1.01
    assert made == float(np.float32(made))
    a, b = Codes(0.5, 10), Codes(1.0, 20)
    for op in (Add(), Mul(), Concat()):
        assert apply(*spec(a, b, out=dead, op=op), [10, 11], [20, 20])[:2] == ([0, 0] if op == Mul() else [0, 255])
    assert apply(*spec(a, out=dead, op=Resize((2,), "area"), shape=(1, 1)), [[11]]) == [[255, 255]]
    assert apply(*spec(a, out=Quant(4e-9, 255), op=PRelu(), shape=(1, 2), slope=[9.0]), [[9, 10]]) == [[0, 255]]


def two_sensors() -> tuple[Model, dict[str, np.ndarray]]:
    """a: exact, values raw - 100 of 0.5. b: a float sensor, steps of 0.25 around 0. Outputs a + b in 0.5, and b."""
    layers = (Layer("sum", Add(), ("a", "b")), Layer("own", Flatten(), ("b",)))
    plan = Plan({"a": (2,), "b": (2,)}, layers, ("sum", "own"))
    inputs = {"a": Input("uint8", (100.0, 100.0), (0.5, 0.5)), "b": Input("float32", (0.0, 0.0), (1.0, 1.0))}
    quant = {"a": Quant(2.0, 50), "b": Quant(0.25, 128), "sum": Quant(0.5, 30), "own": Quant(9.0, 9)}
    raw = {"b": np.array([[1.0, -2.0]], np.float32), "a": np.array([[110, 90]], np.uint8)}
    return Model(plan, {}, {}, {}, inputs, quant), raw


def test_each_input_has_its_own_sensor() -> None:
    model, raw = two_sensors()
    spec = integerise(model)
    assert spec.exact == {"a"}
    assert run_all(spec, raw)["a"].tolist() == [[10, -10]]
    assert [codes.tolist() for codes in run_outputs(spec, raw)] == [[[42, 16]], [[132, 120]]]
    assert run(spec, raw).tolist() == [[42, 16]]
    other = integerise(model, quantise=["a"])
    assert not other.exact
    assert run_all(other, raw)["a"].tolist() == [[53, 48]]  # 2.5 -> 3, -2.5 -> -2
    with pytest.raises(DataError, match="input a: float64"):
        run(spec, {**raw, "a": np.zeros((1, 2))})
    with pytest.raises(DataError, match="reads a, b"):
        run(spec, raw["a"])


def test_max_pool_of_a_sensor_ignores_its_padding() -> None:
    plan = chain((1, 1, 2), MaxPool((1, 2), (1, 2), (0, 1, 0, 1)))
    model = integerise(Model(plan, {}, {}, {}, {"x": Input("uint8", (100.0,), (0.5,))}, {}))
    assert run(model, np.array([[[[40, 90]]]], np.uint8)).tolist() == [[[[-60, -10]]]]


def test_max_pool_and_flatten_keep_the_codes() -> None:
    a, other = Codes(0.5, 10), Quant(7.0, 3)
    model, record = spec(a, out=other, op=MaxPool((2, 2), (1, 1), (1, 0, 0, 1)), shape=(1, 2, 2))
    assert model.tensors["y"] == a
    assert apply(model, record, [[[1, 2], [4, 3]]]) == [[[2, 2], [4, 3]]]
    assert apply(*spec(a, out=other, op=Flatten(), shape=(1, 2, 2)), [[[1, 2], [4, 3]]]) == [1, 2, 4, 3]


def test_multiplier_and_shift_are_normal_and_near() -> None:
    rng = np.random.default_rng(0)
    ratio = rng.choice([-1, 1], 4000) * 2.0 ** rng.uniform(-32, 13.99, 4000)
    m, e = (x.astype(np.int64) for x in fixed_point(ratio, "here"))
    assert ((abs(m) >= 2**14) & (abs(m) < 2**15) & (e >= 1) & (e <= 46)).all()
    assert (abs(m * 2.0**-e - ratio) <= abs(ratio) * 2.0**-15).all()


def test_ratios_at_the_ends_of_the_range() -> None:
    assert [int(x[0]) for x in fixed_point(np.array([2.0**-33]), "here")] == [0, 1]
    assert [int(x[0]) for x in fixed_point(np.array([2.0**-32]), "here")] == [2**14, 46]
    assert [int(x[0]) for x in fixed_point(np.array([0.0]), "here")] == [0, 1]
    assert [int(x[0]) for x in fixed_point(np.array([1 - 2.0**-30]), "here")] == [2**14, 14]
    with pytest.raises(UnsupportedError, match="layer here"):
        fixed_point(np.array([2.0**14]), "here")


def test_requantisation_is_the_integer_formula_and_the_nearest_code() -> None:
    rng = np.random.default_rng(1)
    acc = np.concatenate([[2**31 - 1, 1 - 2**31, 0, 1, -1], rng.integers(-(2**31) + 1, 2**31, 200)]).astype(np.int64)
    zero = 100
    for e in range(1, 47):
        for m in (2**14, 2**15 - 1, -(2**14), 1 - 2**15, int(rng.integers(2**14, 2**15))):
            own = acc >> int(rng.integers(0, 31))
            record = IntegerLayer(
                Layer("l", Activation("none"), ("x",)), 0, 255, np.array([m], np.int16), np.array([e], np.uint8)
            )
            got = _finish(record, own.astype(np.float64)[None], zero)[0]
            formula = [(int(a) * m + (1 << (e - 1))) >> e for a in own]
            exact = [floor(Fraction(int(a) * m, 1 << e) + Fraction(1, 2)) for a in own]
            assert formula == exact
            assert got.tolist() == [min(max(zero + p, 0), 255) for p in formula]


def test_sums_beyond_float32_are_exact() -> None:
    # Two halves that cancel, except for the last few inputs: float32 would lose these on the way.
    rng = np.random.default_rng(2)
    half, last = rng.integers(100, 128, 150), [1, 1, -1]
    raw = rng.integers(20000, 30000, (50, 150))
    few = rng.integers(90, 140, (50, 3))
    model = integerise(linear([[*half, *-half, *last]], [0.25], [0.0], Quant(0.125, 100), "int16"))
    assert model.layers[0].sums > 1 << 24
    got = run(model, np.concatenate([raw, raw, few], 1).astype(np.int16))
    assert (got[:, 0] == 100 + (few - 100) @ last).all()


def test_an_int16_sensor_saturates_and_a_float_sensor_is_quantised() -> None:
    model = linear([[1]], [0.25], [0.0], Quant(50.0, 128), "int16")
    assert integerise(model).tensors["x"] == Codes(0.5, 0, -32768, 32667)
    assert run_all(integerise(model), np.array([[-32768], [32767]], np.int16))["x"].tolist() == [[-32768], [32667]]
    model = replace(model, inputs={"x": Input("float32", (1.0,), (2.0,))})
    # x = (raw - 1) * 2, code = floor(x / 0.5 + 0.5) + 100
    raw = np.array([[1.125], [0.875], [1e9], [-1e9]], np.float32)
    assert run_all(integerise(model), raw)["x"].tolist() == [[101], [100], [255], [0]]


# of each table: its second derivative beside 0, and how far the function is from its value at +-8 beyond them
CURVES = {
    "sigmoid": (0.0963, 3.4e-4),
    "tanh": (0.77, 3e-7),
    "hard_sigmoid": (0, 0),
    "silu": (0.5, 2.7e-3),
    "gelu": (0.8, 1e-14),
    "hard_swish": (1 / 3, 0),
}


def bound(model: IntegerModel, record: IntegerLayer) -> np.ndarray:
    """Largest distance in codes between a layer and exact arithmetic on the same codes, both clamped to 0..255."""
    op, own, kind = record.layer.op, model.tensors[record.layer.name], getattr(record.layer.op, "activation", "none")
    assert record.unit is not None
    before = 0.5 * np.abs(record.unit) if record.bias is not None else np.zeros(1)
    multiplier = 256 * 2.0**-15
    if isinstance(op, Add):
        multiplier = 0.0
        before = 0.5 * sum(model.tensors[name].reach for name in record.layer.inputs) * record.unit
    if isinstance(op, Resize) and op.mode != "area":  # a share is off by half a step, its neighbour by as much
        source = model.tensors[record.layer.inputs[0]]
        before = len(op.size) * 0.5 / record.matrices[0].sum(1).max() * 2 * source.reach * np.full(1, source.scale)
    if record.table is None:
        # a negative p of leaky_relu is rounded twice, its slope is off by 2^-15
        return 0.5 + multiplier + before / own.scale + (0.5 * leak(kind) + 256 * 2.0**-15 if leak(kind) else 0)
    finer, (curve, beyond) = (len(record.table) - 1) / 256, CURVES[kind]
    step = 2.0**-14 / (finer if kind in RESIDUALS else 1)
    before = before + 0.5 * 2.0**-12 / finer + 8 * 2.0**-15
    return 0.5 + 256 * 2.0**-15 + (1.13 * before + curve / (16 * finer) ** 2 / 8 + beyond + step) / own.scale


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_near_the_float_oracle(name: str) -> None:
    model = MODELS[name]
    spec = integerise(model)
    tensors = run_all(spec, CASES[name].raw(40))
    moved = 0
    for record in spec.layers:
        layer, own = record.layer, spec.tensors[record.layer.name]
        y = reference._step(model, layer, [dequantise(spec, n, tensors[n]) for n in layer.inputs])
        if keeps_codes(layer.op):
            assert (dequantise(spec, layer.name, tensors[layer.name]) == y).all()
            continue
        want = np.clip(y / own.scale + own.zero_point, own.low, own.high)
        assert (np.abs(tensors[layer.name] - want) <= bound(spec, record) + 1e-9).all(), layer.name
        moved += len(np.unique(tensors[layer.name]))
    assert moved > len(spec.layers)


def int32(x: np.ndarray) -> np.ndarray:
    assert x.dtype == np.int64
    assert np.abs(x).max(initial=0) < 1 << 31
    return x


def in_integers(record: IntegerLayer, v: list[np.ndarray], zero: int) -> np.ndarray:
    """The text of edgeticket/integer.py in int64, every intermediate in the bits that it says."""
    op, kind = record.layer.op, getattr(record.layer.op, "activation", "none")
    column = (-1, *[1] * (v[0].ndim - 2))
    wide = [x.astype(np.int64) for x in (record.multiplier, record.shift, record.values, record.bias) if x is not None]
    m, e = wide[:2]
    if isinstance(op, Norm):
        acc = wide[3].reshape(column) + v[0] * wide[2].reshape(column)
    elif record.values is not None:
        made = int32(reference.multiply(op, wide[2], v[0]))
        acc = made + wide[3].reshape(-1, *[1] * (made.ndim - 2))
    elif isinstance(op, Add):
        acc = sum(int32(f * x) for f, x in zip(record.factors, v, strict=True))
    elif isinstance(op, Mul):
        acc = prod(v[1:], start=v[0])
    elif isinstance(op, Concat):
        acc = np.concatenate(v, 1)
    elif isinstance(op, Resize):
        acc = reference.along([matrix.astype(np.int64) for matrix in record.matrices], v[0])
    elif isinstance(op, AveragePool):
        acc = reference.pool(op, v[0], np.sum)
    else:
        acc = v[0].reshape(*v[0].shape[:2], -1).sum(2) if isinstance(op, GlobalAveragePool) else v[0]
    if isinstance(op, PRelu):
        m, e = (np.where(int32(acc) < 0, low, high) for low, high in zip(record.below, (m, e), strict=True))
    p = int32(acc) * m + (1 << (e.astype(np.int64) - 1))
    assert np.abs(p).max() < 1 << 47
    p >>= e
    if record.table is not None:
        table, (m2, e2), half = record.table.astype(np.int64), record.after, 128 * (len(record.table) - 1)
        t = np.clip(p, -half, half - 1) + half
        i, f = t >> 8, t & 255
        q = int32(table[i] * (256 - f) + table[i + 1] * f + 128) >> 8
        q = int32(4 * np.maximum(np.minimum(p, (1 << 29) - 1), 0) + q) if kind in RESIDUALS else q
        p = (q * m2 + (1 << (e2 - 1))) >> e2
    elif leak(kind) is not None:
        ((m3,), (e3,)), p = (x.astype(np.int64) for x in record.below), np.clip(p, -32768, 32767)
        p = np.where(p < 0, int32(p * m3 + (1 << (e3 - 1))) >> e3, p)
    return np.clip(p + zero, record.low, record.high)


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_the_text_in_integers(name: str) -> None:
    model = integerise(MODELS[name])
    tensors = run_all(model, CASES[name].raw(20))
    for record in model.layers:
        if record.multiplier is None:
            continue
        sources = [(tensors[name].astype(np.int64), model.tensors[name].zero_point) for name in record.layer.inputs]
        made = in_integers(
            record, [codes - zero for codes, zero in sources], model.tensors[record.layer.name].zero_point
        )
        assert (made == tensors[record.layer.name]).all(), record.layer.name


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("scale", [1 / 255, 1 / 900, 1 / 1100, 1 / 2100, 1 / 100, 1 / 4])
def test_tables_over_every_input(kind: str, scale: float) -> None:
    model = linear([[1]], [0.002], [0.0], Quant(scale, 128), "int16", activation=kind)
    raw = np.arange(-32768, 32768, 7, dtype=np.int16)[:, None]
    spec = integerise(model)
    exact = np.clip(reference.run(model, raw) / scale + 128, 0, 255)
    off = np.abs(run(spec, raw) - exact)
    assert off.max() <= bound(spec, spec.layers[0]).max()
    assert off[np.abs(raw - 100) < 7900].max() < 0.85  # one step of the sensor is 0.001


@pytest.mark.parametrize(("scale", "knots"), [(2.0**-10, 257), (2.0**-10.1, 513), (2.0**-11, 513), (2.0**-11.1, 1025)])
def test_small_steps_have_finer_tables(scale: float, knots: int) -> None:
    (record,) = integerise(linear([[1]], [0.002], [0.0], Quant(scale, 128), activation="gelu")).layers
    assert record.table is not None
    assert len(record.table) == knots


def test_a_residual_is_read_as_the_text_says() -> None:
    """Also far beyond the table, where silu(x) is x."""
    scale, bits = 0.25, 14
    model = linear([[1]], [0.007], [0.0], Quant(scale, 20), "int16", activation="silu")
    raw = np.arange(-3000, 17000, 11, dtype=np.int16)[:, None]
    (record,) = integerise(model).layers
    (m,), (e,), (m2, e2) = record.multiplier.tolist(), record.shift.tolist(), record.after  # type: ignore[union-attr]
    knots = [i / 16 - 8 for i in range(257)]
    table = [floor((x / (1 + np.exp(-x)) - max(x, 0)) * 2**bits + 0.5) if abs(x) < 8 else 0 for x in knots]
    want = []
    for d in (int(x) - 100 for x in raw[:, 0]):
        p = (d * m + 2 ** (e - 1)) >> e
        t = min(max(p, -32768), 32767) + 32768
        i, f = t >> 8, t & 255
        q = 4 * max(p, 0) + ((table[i] * (256 - f) + table[i + 1] * f + 128) >> 8)
        want.append(min(max(20 + ((q * m2 + 2 ** (e2 - 1)) >> e2), 0), 255))
    assert max(want) == 255
    assert len(set(want)) > 230
    assert run(integerise(model), raw)[:, 0].tolist() == want


def test_a_residual_is_clamped_before_it_leaves_31_bits() -> None:
    """2^29 - 1 steps of 2^-12 are 131072: no more, and no overflow."""
    model = linear([[1]], [7.0], [0.0], Quant(1024.0, 0), "int16", activation="silu")  # 3.5 a step of the sensor
    raw = np.array([[32767], [100 + 29257], [30000], [-32768]], np.int16)
    model = replace(model, bias={"l0": np.array([100000.0], np.float32)})
    assert run(integerise(model), raw)[:, 0].tolist() == [128, 128, 128, 0]


def test_a_table_is_read_as_the_text_says() -> None:
    scale = 1 / 3000
    model = linear([[1]], [0.0005], [0.0], Quant(scale, 7), "int16", activation="tanh")
    raw = np.arange(60, 1500, 3, dtype=np.int16)[:, None]
    (record,) = integerise(model).layers
    (m,), (e,), (m2, e2) = record.multiplier.tolist(), record.shift.tolist(), record.after  # type: ignore[union-attr]
    table = [floor(np.tanh(i / 64 - 8) * 2**14 + 0.5) for i in range(1025)]
    want = []
    for d in (int(x) - 100 for x in raw[:, 0]):
        t = min(max((d * m + 2 ** (e - 1)) >> e, -131072), 131071) + 131072
        i, f = t >> 8, t & 255
        h = (table[i] * (256 - f) + table[i + 1] * f + 128) >> 8
        want.append(min(max(7 + ((h * m2 + 2 ** (e2 - 1)) >> e2), 0), 255))
    assert len(set(want)) > 90
    assert run(integerise(model), raw)[:, 0].tolist() == want


@pytest.mark.parametrize("name", ["plain", "residual", "1-D"])
def test_the_batch_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, spec = CASES[name].raw(7), integerise(MODELS[name])
    whole = run_all(spec, raw)[spec.plan.outputs[0]]
    assert whole.dtype == np.uint8
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 1)
    assert (run(spec, raw) == whole).all()


def test_float_weights_are_rounded_per_filter() -> None:
    model, rng = MODELS["plain"], np.random.default_rng(3)
    weights = {name: Float(rng.normal(size=w.values.shape).astype(np.float32)) for name, w in model.weights.items()}
    weights["l0"].values[1] = 0
    control = replace(model, weights=weights)
    for record in integerise(control).layers:
        if record.values is None:
            continue
        name = record.layer.name
        assert (np.abs(record.values).reshape(len(record.values), -1).max(1) == np.where(name == "l0", 0, 127))[1]
        step = np.abs(weights[name].values[0]).max() / 127
        assert np.abs(record.values[0] * step - weights[name].values[0]).max() <= step / 2 + 1e-6


def test_what_does_not_fit_is_named() -> None:
    model = linear([[1, -1]], [0.25], [1.0], Quant(0.125, 10))
    with pytest.raises(UnsupportedError, match="tensor l0"):
        integerise(replace(model, quant={}))
    with pytest.raises(UnsupportedError, match="input x: an offset"):
        integerise(replace(model, inputs={"x": Input("uint8", (100.0, 0.5), (0.5, 0.5))}))
    with pytest.raises(UnsupportedError, match=r"input x: .*different steps"):
        integerise(replace(model, inputs={"x": Input("uint8", (100.0, 100.0), (0.5, 0.25))}))
    with pytest.raises(UnsupportedError, match=r"layer l0.*bias"):
        integerise(replace(model, bias={"l0": np.array([3e9], np.float32)}))
    with pytest.raises(UnsupportedError, match=r"layer l0.*2\^14"):
        integerise(linear([[1, -1]], [8.0], [0.0], Quant(1.0, 10), activation="sigmoid"))
    with pytest.raises(UnsupportedError, match=r"layer y.*2\^31"):
        spec(*[Codes(1.0, 0)] * 4, out=Quant(1.0, 0), op=Mul())
    wide = linear([[127] * 600], [0.25], [0.0], Quant(50.0, 10), "int16")
    with pytest.raises(UnsupportedError, match=r"layer l0.*2\^31"):
        integerise(wide)


def test_values_that_the_sensor_cannot_give_are_refused() -> None:
    spec = integerise(linear([[1, -1]], [0.25], [1.0], Quant(0.125, 10)))
    for raw in (np.array([[0.5, 1.0]]), np.array([[256, 0]]), np.array([[-1, 0]]), np.zeros((1, 3), np.uint8)):
        with pytest.raises(DataError):
            run(spec, raw)
    with pytest.raises(DataError, match=r"input x: .*finite"):
        run(integerise(MODELS["plain, float sensor"]), np.full((1, 1, 8, 8), np.nan, np.float32))


def test_convolution_against_loops() -> None:
    """Stride, dilation, groups and one-sided padding, in Python's integers."""
    rng, op = np.random.default_rng(4), Conv(4, (2, 3), (2, 1), (1, 0, 0, 2), (1, 2), 2)
    values = rng.integers(-3, 4, (4, 2, 2, 3)).astype(np.int8)
    raw = rng.integers(0, 256, (1, 4, 5, 6)).astype(np.uint8)
    ones = {"l0": np.full(4, 0.5, np.float32)}
    sensor = Input("uint8", (3.0, 90.0, 120.0, 255.0), (1.0,) * 4)
    model = Model(chain((4, 5, 6), op), {"l0": Int8(values)}, ones, ones, {"x": sensor}, {"l0": Quant(20.0, 128)})
    got = run(integerise(model), raw)[0]
    assert got.shape == model.plan.shapes["l0"]
    for o, i, j in np.ndindex(*got.shape):
        acc = 1  # bias 0.5 in units of 0.5
        for c, a, b in np.ndindex(2, 2, 3):
            row, column, channel = 2 * i + a - 1, j + 2 * b, c + 2 * (o // 2)
            if 0 <= row < 5 and 0 <= column < 6:
                acc += int(values[o, c, a, b]) * (int(raw[0, channel, row, column]) - int(sensor.offset[channel]))
        exact = Fraction(acc, 40)
        near = {floor(exact + Fraction(1, 2) + d) for d in (Fraction(-1, 100), Fraction(1, 100))}
        assert int(got[o, i, j]) in {min(max(128 + p, 0), 255) for p in near}
    assert prod(got.shape) > 20


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 6)])
def test_transposed_convolution_against_loops(shape: tuple[int, ...]) -> None:
    """Every input adds its kernel where stride and padding put it, in Python's integers."""
    rng, n = np.random.default_rng(6), len(shape) - 1
    op = ConvTranspose(4, (2, 3)[-n:], (3, 2)[-n:], (1, 0, 0, 1)[:: 3 - n], (1, 1)[-n:])
    values = rng.integers(-3, 4, (4, 3, *op.kernel)).astype(np.int8)
    raw = rng.integers(0, 256, (1, *shape)).astype(np.uint8)
    ones = {"l0": np.full(4, 0.5, np.float32)}
    sensor = Input("uint8", (3.0, 90.0, 255.0), (1.0,) * 3)
    model = Model(chain(shape, op), {"l0": Int8(values)}, ones, ones, {"x": sensor}, {"l0": Quant(10.0, 128)})
    got = run(integerise(model), raw)[0]
    acc = np.ones(model.plan.shapes["l0"], int)  # bias 0.5 in units of 0.5
    for c, *at in np.ndindex(*shape):
        for o, *tap in np.ndindex(4, *op.kernel):
            to = tuple(at[d] * op.stride[d] + tap[d] - op.pad[d] for d in range(n))
            if all(0 <= to[d] < got.shape[1 + d] for d in range(n)):
                acc[(o, *to)] += int(values[(o, c, *tap)]) * (int(raw[(0, c, *at)]) - int(sensor.offset[c]))
    exact = np.clip(128 + acc / 20, 0, 255)
    assert np.abs(got - exact).max() <= 0.51
    assert len(np.unique(got)) > 30
