import hashlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeticket import bench as bench_module
from edgeticket.bench import bench, median_interval, no_difference, percentiles, ratio, table
from edgeticket.cli import main
from edgeticket.errors import EdgeTicketError, PluginError, UnsupportedError, UsageError
from edgeticket.targets import _confined, on_cpu, ort_worker


def model(width=4, *, kind=TensorProto.UINT8, shape=("N", 1, 6, 6), size=1):
    """Cast, a convolution with `width` filters, global pool."""
    weight = np.ones((width, 1, size, size), np.float32)
    nodes = [
        helper.make_node("Cast", ["raw"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("raw", kind, list(shape))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width, 1, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def save(path, made):
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def pair(tmp_path):
    return [save(tmp_path / f"{width}.onnx", model(width)) for width in (4, 64)]


def test_reports_of_two_models(pair):
    reports = bench(pair, runs=30, warmup=2, period_ms=2, paced_runs=5)
    assert [report.artifact for report in reports] == [str(path) for path in pair]
    for report, path in zip(reports, pair, strict=True):
        details, cost = report.details, report.cost
        assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (cost.how, cost.target, cost.file_bytes) == ("measured", "cpu", path.stat().st_size)
        assert 0 < details["gzip_bytes"] < path.stat().st_size
        assert details["init_ms"] > 0
        assert details["first_ms"] > 0
        assert len(report.samples["wall_ms"]) == len(report.samples["cpu_ms"]) == 50  # whole turns of 25
        assert len(report.samples["paced_ms"]) == len(report.samples["late_ms"]) == 10
        assert 0 <= details["missed_deadlines"] <= 10
        found = details["percentiles"]["wall_ms"]
        assert found["p50"] <= found["p90"] <= found["p99"] <= found["max"] == max(report.samples["wall_ms"])
        assert cost.latency_ms == pytest.approx(np.median(report.samples["wall_ms"]))
        assert report.environment["threads"] == 1
        assert {"cpu", "features", "cores", "governor", "os", "python", "onnxruntime", "affinity"} <= set(
            report.environment
        )
        assert json.loads(json.dumps(report.to_json()))["samples"]["wall_ms"] == report.samples["wall_ms"]
    assert reports[0].details["ratio_to_first"]["wall_ms"]["median"] == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_is_of_a_process_with_this_model_alone(tmp_path):
    paths = [
        save(tmp_path / "small.onnx", model(1)),
        save(tmp_path / "large.onnx", model(20_000, shape=(1, 1, 20, 20), size=20)),
    ]
    ballast = np.ones(200 << 20, np.uint8)  # must not show: the child has its own memory
    small, large = bench(paths, runs=1, warmup=0)
    extra = 20_000 * 400 * 4
    assert large.details["loaded_rss_bytes"] - small.details["loaded_rss_bytes"] > extra / 2
    for report in (small, large):
        details = report.details
        assert details["runtime_rss_bytes"] <= details["loaded_rss_bytes"] <= details["peak_rss_bytes"]
        assert report.cost.ram_bytes == details["peak_rss_bytes"]
    assert small.details["peak_rss_bytes"] < ballast.nbytes


def test_cpu_time_is_left_out_with_more_threads(pair):
    (report,) = bench(pair[:1], runs=25, warmup=0, threads=2)
    assert "cpu_ms" not in report.samples
    assert len(report.samples["wall_ms"]) == 25
    assert "-" in table([report])


def test_models_take_turns(monkeypatch):
    order = []

    class Session:
        def __init__(self, name):
            self.name = name

        def run(self, _, feeds):
            order.append(self.name)

    monkeypatch.setattr(ort_worker, "open_session", lambda path, threads: Session(path))
    monkeypatch.setattr(ort_worker, "random_feeds", lambda session, seed: {})
    answer = ort_worker.steady(["A", "B"], 1, 0, warmup=0, rounds=2, burst=2, period_ms=None)
    assert "".join(order) == "AAABBBAAABBB"  # one unrecorded and two recorded each turn
    assert [len(samples["wall_ms"]) for samples in answer["samples"]] == [4, 4]


class Clock:
    """Time that passes only where it is spent: in sleep, and in an inference."""

    def __init__(self):
        self.now = 0

    def perf_counter_ns(self):
        return self.now

    def sleep(self, seconds):
        self.now += round(seconds * 1e9)


def paced(monkeypatch, durations_ms, period_ms):
    into: dict[str, list[float]] = {"paced_ms": [], "late_ms": []}
    clock, left = Clock(), list(durations_ms)
    monkeypatch.setattr(ort_worker, "time", clock)
    session = SimpleNamespace(run=lambda _, feeds: clock.sleep(left.pop(0) / 1e3))
    return ort_worker.at_period(session, {}, len(left), period_ms, into), into, clock.now / 1e6


def test_an_inference_that_runs_over_delays_the_next(monkeypatch):
    missed, into, end = paced(monkeypatch, [60, 60, 1, 1, 1, 1, 1, 1], 20)
    assert into["paced_ms"] == [60, 60, 1, 1, 1, 1, 1, 1]
    assert into["late_ms"] == [0, 40, 80, 61, 42, 23, 4, 0]
    assert missed == 6  # the two, and four that began too late to end in time
    assert end == 20 * 8 + 1


def test_inferences_within_the_period_miss_nothing(monkeypatch):
    missed, into, end = paced(monkeypatch, [20, 5, 0], 20)
    assert (missed, into["late_ms"], end) == (0, [0, 0, 0], 60)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT, TensorProto.INT32])
def test_random_input_is_seeded_and_of_the_input_s_type(tmp_path, kind):
    session = ort_worker.open_session(str(save(tmp_path / "m.onnx", model(kind=kind))), 1)
    feeds = ort_worker.random_feeds(session, 3)
    assert feeds["raw"].shape == (1, 1, 6, 6)
    assert feeds["raw"].dtype == helper.tensor_dtype_to_np_dtype(kind)
    assert feeds["raw"].max() > 50
    np.testing.assert_array_equal(feeds["raw"], ort_worker.random_feeds(session, 3)["raw"])
    assert (feeds["raw"] != ort_worker.random_feeds(session, 4)["raw"]).any()


def with_function(made):
    node = helper.make_node("Relu", ["a"], ["b"])
    made.functions.append(helper.make_function("local", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 13)]))


def with_external_data(made):
    tensor = made.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def with_hidden_external_data(made):
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(2, np.float32)))
    constant.attribute[0].t.external_data.add(key="location", value="other.bin")
    inner = helper.make_graph([constant], "inner", [], [helper.make_tensor_value_info("k", TensorProto.FLOAT, [2])])
    condition = numpy_helper.from_array(np.array(True), "yes")
    made.graph.initializer.append(condition)
    made.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner))


def with_open_size(made):
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def with_no_input(made):
    del made.graph.input[:]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (with_function, "inline"),
        (with_external_data, "another file"),
        (with_hidden_external_data, "another file"),
        (with_open_size, "batch size"),
        (with_no_input, "no input"),
    ],
)
def test_foreign_files_that_are_refused(tmp_path, spoil, says):
    made = model()
    _confined.check([save(tmp_path / "good.onnx", made)], _confined.Limits(), sized=True)
    spoil(made)
    with pytest.raises(UnsupportedError, match=says):
        bench([save(tmp_path / "m.onnx", made)])


def test_too_large_files_and_inputs(pair, monkeypatch):
    monkeypatch.setattr(_confined, "MAX_INPUT_ELEMENTS", 35)
    with pytest.raises(UnsupportedError, match="elements"):
        bench(pair[:1])
    monkeypatch.setattr(_confined, "MAX_FILE_BYTES", 10)
    with pytest.raises(UnsupportedError, match="bytes"):
        bench(pair[:1])


def test_damaged_files_and_models_that_do_not_run(tmp_path):
    whole = model().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(whole[:-7])
    with pytest.raises(UnsupportedError, match=r"m\.onnx"):
        bench([path])
    path.write_bytes(b"")
    with pytest.raises(UnsupportedError, match=r"m\.onnx"):
        bench([path])
    made = model()
    made.graph.node[1].op_type = "NoSuchOperation"
    with pytest.raises(UnsupportedError, match=r"bad\.onnx.*NoSuchOperation"):
        bench([save(tmp_path / "bad.onnx", made)])
    made = model(size=7)  # larger than the image
    with pytest.raises(EdgeTicketError, match=r"bad\.onnx: ONNX Runtime cannot run it"):
        bench([save(tmp_path / "bad.onnx", made)])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"4\.onnx: ONNX Runtime crashed \(signal 11\)"),
        ("import time; time.sleep(60)", r"not finished after 5 s, and ended"),
    ],
)
def test_a_crash_or_a_hang_is_an_error(pair, tmp_path, monkeypatch, body, says):
    (tmp_path / "worker.py").write_text(body)
    monkeypatch.setattr(on_cpu, "WORKER", tmp_path / "worker.py")
    with pytest.raises(EdgeTicketError, match=says):
        bench(pair[:1], timeout_s=5 if "sleep" in body else 60)


@pytest.mark.parametrize(
    "wrong",
    [
        {"runs": 0},
        {"warmup": -1},
        {"threads": 0},
        {"period_ms": 0},
        {"period_ms": float("nan")},
        {"timeout_s": 0},
        {"memory_mb": 299},
    ],
)
def test_requests_that_make_no_sense(pair, wrong):
    with pytest.raises(UsageError):
        bench(pair, **wrong)


def test_wrong_names(pair, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        bench([tmp_path / "none.onnx"])
    with pytest.raises(UsageError, match="measures onnx"):
        bench([tmp_path])
    with pytest.raises(UsageError, match="at least one"):
        bench([])
    with pytest.raises(PluginError, match="unknown"):
        bench(pair, on="moon")


def test_a_target_that_is_missing_something(pair, tmp_path):
    (tmp_path / "on_x.py").write_text(
        "FORMATS = ('onnx',)\ndef missing(): return 'plug the board in'\ndef measure(artifacts, **options): raise SystemError\n"
    )
    with pytest.raises(UsageError, match="plug the board in"):
        bench(pair, on=str(tmp_path / "on_x.py"))


def test_the_null_target_says_that_nothing_was_measured(pair, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "net.c").write_text("int x;\n")
    reports = bench([*pair, tmp_path / "c"], on="null")
    assert {report.cost.how for report in reports} == {"none"}
    assert [(report.cost.latency_ms, report.cost.ram_bytes) for report in reports] == [(None, None)] * 3
    assert reports[2].cost.file_bytes == 7
    assert "nothing was measured" in table(reports)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40))
def test_percentiles_are_measured_values_in_order(values):
    found = percentiles(values)
    rows = [found[name] for name in ("p50", "p90", "p99", "max")]
    assert rows == sorted(rows)
    assert set(rows) <= set(values)
    assert rows[-1] == max(values)


def test_percentiles_by_hand():
    found = percentiles(range(1, 101))
    assert found == {"p50": 50, "p90": 90, "p99": 99, "max": 100, "n": 100}


def test_the_ratio_cancels_noise_that_meets_both():
    noise = np.repeat([1.0, 3.0, 1.5, 10.0, 2.0, 5.0], 5)
    assert ratio((noise * 0.5).tolist(), noise.tolist(), 5) == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert ratio((noise[:25] * 0.5).tolist(), noise[:25].tolist(), 5) == {"median": 0.5}  # 5 turns are too few
    assert ratio([1.0, 1.0], [2.0, 2.0, 2.0], 5) == {"median": 0.5}


@pytest.mark.parametrize(
    ("n", "ranks"), [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15)), (100, (40, 61))]
)
def test_ranks_of_the_median_s_interval(n, ranks):
    """As in printed tables."""
    assert median_interval(list(range(n, 0, -1))) == ranks


def test_the_interval_holds_the_median_in_95_percent_of_samples():
    samples = np.random.default_rng(0).exponential(size=(2000, 20))
    held = [low <= np.log(2) <= high for low, high in map(median_interval, samples)]
    assert 0.94 < np.mean(held) < 0.975  # 0.9586 for 20 values


def test_no_difference_is_said_only_within_noise():
    assert no_difference({"median": 1.02, "low": 1.01, "high": 1.03})
    assert no_difference({"median": 0.98})
    assert not no_difference({"median": 0.9, "low": 0.8, "high": 1.1})  # too few turns to tell is no evidence of none
    assert not no_difference({"median": 1.5})


def test_the_table_says_that_masks_alone_change_nothing(pair, monkeypatch):
    def fixed(artifacts, **_):
        shared = ({"threads": 1}, {"burst": 1})
        start = {"init_ms": 1, "first_ms": 1, "peak_rss_bytes": 1}
        waves = ([1.0] * 6, [1.01] * 6, [0.5] * 6)
        return [
            on_cpu._report(one, start, {"wall_ms": wave, "cpu_ms": wave}, 0, *shared)
            for one, wave in zip(artifacts, waves, strict=True)
        ]

    monkeypatch.setattr(on_cpu, "measure", fixed)
    text = table(bench([pair[0], pair[0], pair[1]])).splitlines()
    assert text[2].endswith("1.01x (1.01-1.01) no difference")
    assert text[3].endswith("0.50x (0.50-0.50)")


def test_the_command(pair):
    arguments = ["bench", *map(str, pair), "--runs", "1", "--warmup", "0"]
    done = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["artifact"] for line in lines] == [str(path) for path in pair]
    done = CliRunner().invoke(main, [*arguments, "--on", "null"])
    assert done.stdout.splitlines()[0].split() == " ".join(bench_module.HEADER).split()
    done = CliRunner().invoke(main, ["bench", "nothing.onnx"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: nothing.onnx")


def test_opset_of_these_tests_is_the_exporter_s():
    onnx.checker.check_model(model(), full_check=True)
