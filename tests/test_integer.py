"""The integer network: by hand, at its extremes, and against exact arithmetic and the float oracle."""

from dataclasses import replace
from fractions import Fraction
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
)
from edgeticket.integer_layer import COPIES, Codes, IntegerLayer, fixed_point
from edgeticket.model import Float, Int8, Model
from edgeticket.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Op,
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
        Input(dtype, offset, (0.5,) * len(offset)),
        {"l0": out, "x": Quant(0.5, 100)},
    )


def codes_of(model: Model, *rows: list[int]) -> list[list[int]]:
    return run(integerise(model), np.array(rows, np.dtype(model.input.dtype))).tolist()


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


def spec(*sources: Codes, out: Quant, op: Op, shape: tuple[int, ...] = (2,)) -> tuple[IntegerModel, IntegerLayer]:
    """One layer without weights on tensors a, b, ... of these codes."""
    names = [chr(97 + i) for i in range(len(sources))]
    plan = Plan(dict.fromkeys(names, shape), (Layer("y", op, tuple(names)),), ("y",))
    quant = {name: Quant(own.scale, own.zero_point) for name, own in zip(names, sources, strict=True)}
    empty: dict[str, np.ndarray] = {}
    model = integerise(Model(plan, {}, empty, empty, Input("float32", (0.0,), (1.0,)), {**quant, "y": out}))
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


def test_max_pool_of_a_sensor_ignores_its_padding() -> None:
    plan = chain((1, 1, 2), MaxPool((1, 2), (1, 2), (0, 1, 0, 1)))
    model = integerise(Model(plan, {}, {}, {}, Input("uint8", (100.0,), (0.5,)), {}))
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
    model = replace(
        model, input=Input("float32", (1.0,), (2.0,))
    )  # x = (raw - 1) * 2, code = floor(x / 0.5 + 0.5) + 100
    raw = np.array([[1.125], [0.875], [1e9], [-1e9]], np.float32)
    assert run_all(integerise(model), raw)["x"].tolist() == [[101], [100], [255], [0]]


def bound(model: IntegerModel, record: IntegerLayer) -> np.ndarray:
    """Largest distance in codes between a layer and exact arithmetic on the same codes, both clamped to 0..255."""
    own, kind = model.tensors[record.layer.name], getattr(record.layer.op, "activation", "none")
    unit = np.abs(record.unit) if record.bias is not None else np.zeros(1)  # type: ignore[arg-type]
    multiplier = 2.0**-15 * 256
    factors = 0.0
    if isinstance(record.layer.op, Add):
        multiplier = 0.0
        reach = sum(model.tensors[name].reach for name in record.layer.inputs)
        factors = 0.5 * reach * float(record.unit[0])  # type: ignore[index]
    if record.table is None:  # a negative p of leaky_relu is rounded twice; its slope is off by 2.4e-5
        return (
            0.5
            + multiplier
            + (0.5 * unit + factors) / own.scale
            + (0.005 + 256 * 2.4e-5 if kind == "leaky_relu" else 0)
        )
    before = 0.5 * 2.0**-12 + 8 * 2.0**-15 + 0.5 * unit + factors
    curve = {"sigmoid": 0.0963, "tanh": 0.77}[kind] / 16**2 / 8
    beyond = {"sigmoid": 3.4e-4, "tanh": 3e-7}[kind]
    return 0.5 + 256 * 2.0**-15 + (before + curve + beyond + 2 * 2.0**-15) / own.scale


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_near_the_float_oracle(name: str) -> None:
    model = MODELS[name]
    spec = integerise(model)
    tensors = run_all(spec, CASES[name].raw(40))
    moved = 0
    for record in spec.layers:
        layer, own = record.layer, spec.tensors[record.layer.name]
        y = reference._step(model, layer, [dequantise(spec, n, tensors[n]) for n in layer.inputs])
        if isinstance(layer.op, COPIES):
            assert (dequantise(spec, layer.name, tensors[layer.name]) == y).all()
            continue
        want = np.clip(y / own.scale + own.zero_point, own.low, own.high)
        assert (np.abs(tensors[layer.name] - want) <= bound(spec, record) + 1e-9).all(), layer.name
        moved += len(np.unique(tensors[layer.name]))
    assert moved > len(spec.layers)


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
@pytest.mark.parametrize("scale", [1 / 255, 1 / 2000, 1 / 100])
def test_tables_over_every_input(kind: str, scale: float) -> None:
    model = linear([[1]], [0.002], [0.0], Quant(scale, 128), "int16", activation=kind)
    raw = np.arange(-32768, 32768, 7, dtype=np.int16)[:, None]
    spec = integerise(model)
    exact = np.clip(reference.run(model, raw) / scale + 128, 0, 255)
    off = np.abs(run(spec, raw) - exact).max()
    assert off <= bound(spec, spec.layers[0]).max()
    assert off < (0.75 if scale >= 1 / 255 else 1.5)


def test_a_table_is_read_as_the_text_says() -> None:
    scale = 1 / 3000
    model = linear([[1]], [0.0005], [0.0], Quant(scale, 7), "int16", activation="tanh")
    raw = np.arange(60, 1500, 3, dtype=np.int16)[:, None]
    (record,) = integerise(model).layers
    (m,), (e,), (m2, e2) = record.multiplier.tolist(), record.shift.tolist(), record.after  # type: ignore[union-attr]
    table = [floor(np.tanh(i / 16 - 8) * 2**14 + 0.5) for i in range(257)]
    want = []
    for d in (int(x) - 100 for x in raw[:, 0]):
        t = min(max((d * m + 2 ** (e - 1)) >> e, -32768), 32767) + 32768
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
    with pytest.raises(UnsupportedError, match="layer l0"):
        integerise(replace(model, quant={"l0": Quant(1e-6, 10)}))
    with pytest.raises(UnsupportedError, match="offset"):
        integerise(replace(model, input=Input("uint8", (100.0, 0.5), (0.5, 0.5))))
    with pytest.raises(UnsupportedError, match="different steps"):
        integerise(replace(model, input=Input("uint8", (100.0, 100.0), (0.5, 0.25))))
    with pytest.raises(UnsupportedError, match=r"layer l0.*bias"):
        integerise(replace(model, bias={"l0": np.array([3e9], np.float32)}))
    wide = linear([[127] * 600], [0.25], [0.0], Quant(50.0, 10), "int16")
    with pytest.raises(UnsupportedError, match=r"layer l0.*2\^31"):
        integerise(wide)


def test_values_that_the_sensor_cannot_give_are_refused() -> None:
    spec = integerise(linear([[1, -1]], [0.25], [1.0], Quant(0.125, 10)))
    for raw in (np.array([[0.5, 1.0]]), np.array([[256, 0]]), np.array([[-1, 0]]), np.zeros((1, 3), np.uint8)):
        with pytest.raises(DataError):
            run(spec, raw)
    with pytest.raises(DataError, match="finite"):
        run(integerise(MODELS["plain, float sensor"]), np.full((1, 1, 8, 8), np.nan, np.float32))


def test_convolution_against_loops() -> None:
    """Stride, dilation, groups and one-sided padding, in Python's integers."""
    rng, op = np.random.default_rng(4), Conv(4, (2, 3), (2, 1), (1, 0, 0, 2), (1, 2), 2)
    values = rng.integers(-3, 4, (4, 2, 2, 3)).astype(np.int8)
    raw = rng.integers(0, 256, (1, 4, 5, 6)).astype(np.uint8)
    ones = {"l0": np.full(4, 0.5, np.float32)}
    sensor = Input("uint8", (3.0, 90.0, 120.0, 255.0), (1.0,) * 4)
    model = Model(chain((4, 5, 6), op), {"l0": Int8(values)}, ones, ones, sensor, {"l0": Quant(20.0, 128)})
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
