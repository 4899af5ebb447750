import json
import logging

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cases import CASES, chain, graph

from edgeticket import latency
from edgeticket.budget import Cost, Report
from edgeticket.errors import EdgeTicketError
from edgeticket.latency import Table, held_out, random_plan
from edgeticket.ops import Add, Flatten, GlobalAveragePool, Linear, conv
from edgeticket.targets import on_cpu, ort_worker
from exporters.parts import parts, repeated

CALL, INPUT, NODE, AMONG = 0.003, 0.0005, 0.001, 0.0002
PLAIN = chain((2, 8, 8), conv(16), conv(24, stride=2), GlobalAveragePool(), Linear(4))
RESIDUAL = graph(
    (2, 8, 8),
    ("stem", conv(16), "x"),
    ("a", conv(16), "stem"),
    ("b", conv(16, activation="none"), "a"),
    ("sum", Add("relu"), "b stem"),
    ("pool", GlobalAveragePool(), "sum"),
    ("fc", Linear(4), "pool"),
)


class Machine:
    """A machine on which time is known: of a call, of each input and node, and what a node that reads another's result takes more."""

    def __init__(self):
        self.calls, self.slowness = [], 1.0

    def turns(self, paths, **_):
        self.calls.append(len(paths))
        return [[self.ms(path)] * 3 for path in paths]

    def ms(self, path):
        made = onnx.load(path).graph
        results = {name for node in made.node for name in node.output}
        among = sum(not results.isdisjoint(node.input) for node in made.node)
        return self.slowness * (CALL + INPUT * len(made.input) + NODE * len(made.node) + AMONG * among)


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    monkeypatch.setattr(on_cpu, "turns", made.turns)
    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "latency.json"


def nodes(plan):
    return len(parts(latency._exported(plan, {})))


def known(plan):
    """Of a network whose nodes all read another's result but the first."""
    return CALL + INPUT - AMONG + (NODE + AMONG) * nodes(plan)


@pytest.mark.parametrize("plan", [PLAIN, RESIDUAL])
def test_a_network_is_the_sum_of_what_runs(machine, plan):
    table = Table(None)
    assert table.predict(plan) == pytest.approx(known(plan))
    layers = sum(table.layer_ms(plan, name) for name in plan.shapes)
    assert layers == pytest.approx((NODE + AMONG) * nodes(plan))  # every operation belongs to one layer


def test_a_sum_that_goes_into_a_convolution_costs_nothing(machine):
    table = Table(None)
    assert table.layer_ms(RESIDUAL, "b") > 0
    assert table.layer_ms(RESIDUAL, "sum") == 0


def test_layers_whose_names_begin_alike(machine):
    rows = ("a", conv(16), "x"), ("a_1", conv(16), "a"), ("pool", GlobalAveragePool(), "a_1"), ("fc", Linear(4), "pool")
    table, plan = Table(None), graph((2, 8, 8), *rows)
    assert table.layer_ms(plan, "a") == table.layer_ms(plan, "a_1") == pytest.approx(NODE + AMONG)


def test_what_moves_nothing_is_one_entry():
    plans = [chain((2, side, side), conv(16), Flatten(), Linear(4)) for side in (4, 6)]
    views = [part for plan in plans for part in parts(latency._exported(plan, {})) if "Flatten" in part.signature]
    assert len(views) == 2
    assert views[0].signature == views[1].signature


def test_copies_have_weights_of_their_own():
    part = next(part for part in parts(latency._exported(PLAIN, {})) if "Conv" in part.signature)
    made = onnx.load_from_string(repeated(part)).graph
    nodes = [node for node in made.node if node.op_type == "Conv"]
    assert len(nodes) == part.copies > 1
    assert len({node.input[1] for node in nodes}) == part.copies
    assert {node.input[1] for node in nodes} <= {tensor.name for tensor in made.initializer}


def test_a_part_is_not_optimised_again(monkeypatch):
    levels = []
    monkeypatch.setattr(
        ort, "InferenceSession", lambda _, options, **__: levels.append(options.graph_optimization_level)
    )
    ort_worker.open_session("a", 1)
    ort_worker.open_session("a", 1, as_written=True)
    assert levels == [ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL]


def test_entries_are_shared_between_layers_networks_and_widths_up_to_8(machine):
    table = Table(None)
    assert table.fill([PLAIN]) > 0
    assert table.fill([PLAIN, chain((2, 8, 8), conv(16), conv(20, stride=2), GlobalAveragePool(), Linear(4))]) == 0
    assert table.fill([chain((2, 8, 8), conv(16), conv(32, stride=2), GlobalAveragePool(), Linear(4))]) > 0


def test_many_plans_are_measured_at_once(machine):
    table = Table(None)
    table.fill([PLAIN])
    del machine.calls[:]
    table.fill([random_plan(seed) for seed in range(4)])
    assert len(machine.calls) == 1
    [table.predict(random_plan(seed)) for seed in range(4)]
    assert len(machine.calls) == 1


def test_a_slower_moment_is_not_mixed_with_a_faster_one(machine):
    table = Table(None)
    table.fill([PLAIN])
    machine.slowness = 2.0
    assert table.predict(RESIDUAL) == pytest.approx(known(RESIDUAL))


def test_the_table_is_kept(machine, path):
    expected = Table(path).predict(PLAIN)
    del machine.calls[:]
    table = Table(path)
    assert table.fill([PLAIN]) == 0
    assert table.predict(PLAIN) == expected
    assert machine.calls == []


def test_machines_are_kept_apart(machine, path, monkeypatch):
    Table(path).fill([PLAIN])
    assert Table(path, threads=2).entries == {}
    monkeypatch.setattr(on_cpu, "describe_machine", lambda: {"cpu": "another", "features": []})
    assert Table(path).fill([PLAIN]) > 0
    sections = json.loads(path.read_text())["ms"]
    assert len(sections) == 2
    assert any(name.startswith("another") for name in sections)


def test_two_that_fill_at_once_keep_both(machine, path):
    first, second = Table(path), Table(path)
    first.fill([PLAIN])
    machine.slowness = 2.0
    second.fill([RESIDUAL])
    table = Table(path)
    assert table.fill([PLAIN, RESIDUAL]) == 0
    assert table.predict(PLAIN) == pytest.approx(2 * known(PLAIN))
    assert table.predict(RESIDUAL) == pytest.approx(2 * known(RESIDUAL))


def test_a_measurement_that_fails_can_be_repeated(machine, monkeypatch):
    table = Table(None)
    table.fill([PLAIN])
    monkeypatch.setattr(machine, "ms", lambda path: int("crashed"))
    with pytest.raises(ValueError, match="crashed"):
        table.predict(RESIDUAL)
    monkeypatch.undo()
    monkeypatch.setattr(on_cpu, "turns", Machine().turns)
    assert table.predict(RESIDUAL) == pytest.approx(known(RESIDUAL))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        '{"format": 2, "ms": {}}',
        '{"format": 1, "ms": {"SECTION": {"call": 1.0, "node": 1.0, "pace": 1.0, "Relu": NaN}}}',
        '{"format": 1, "ms": {"SECTION": {"call": 1.0, "node": 1.0, "pace": 1.0, "Relu": -1.0}}}',
        '{"format": 1, "ms": {"SECTION": {"call": 1.0, "node": 1.0}}}',
        '{"format": 1, "ms": {"SECTION": {"call": 1.0, "node": 1.0, "pace": 0.0}}}',
        '{"format": 1, "ms": {"SECTION": {"call": 1.0, "node": 1.0, "pace": 1}}}',
        '{"format": 1, "ms": 3}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_measured_anew_with_a_warning(machine, path, caplog, content):
    path.parent.mkdir()
    path.write_text(content.replace("SECTION", Table(None).section))
    with caplog.at_level(logging.WARNING):
        table = Table(path)
    assert "measured anew" in caplog.text
    assert table.fill([PLAIN]) > 0
    assert Table(path).fill([PLAIN]) == 0


def test_a_folder_that_cannot_be_made(machine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeTicketError, match="folder"):
        Table(tmp_path / "file" / "latency.json").fill([PLAIN])


def test_held_out_networks_are_predicted_before_they_are_measured(machine, monkeypatch):
    table, seen = Table(None), []

    def measure(artifacts, **_):
        seen.append(dict(table.entries))
        costs = [Cost("cpu", "measured", latency_ms=2 * table.entries["pace"]) for _ in artifacts]
        return [Report("", "", "cpu", cost) for cost in costs]

    monkeypatch.setattr(on_cpu, "measure", measure)
    rows = held_out(table, range(4))
    assert seen == [table.entries]  # nothing is learned from them
    for row in rows:
        assert row.predicted_ms == pytest.approx(known(row.plan))
        assert row.speed == pytest.approx(0.5)
        assert row.error == pytest.approx(row.predicted_ms / row.measured_ms - 1)
        assert row.error_at_speed == pytest.approx(2 * row.predicted_ms / row.measured_ms - 1)


def test_random_networks_are_of_all_kinds_and_the_same_every_time():
    plans = [random_plan(seed) for seed in range(8)]
    assert plans == [random_plan(seed) for seed in range(8)]
    assert any(isinstance(layer.op, Add) for layer in plans[1].layers)
    assert any(plans[2].depthwise(layer) for layer in plans[2].layers)
    assert {len(shape) for plan in plans for shape in plan.inputs.values()} == {2, 3}


def test_turns_go_on_while_they_differ(monkeypatch):
    order, times = [], iter(range(1, 1000))

    class Session:
        def __init__(self, name):
            self.name = name

        def run(self, *_):
            pass

    def back_to_back(session, feeds, count, into):
        order.append(session.name)
        into["wall_ms"] += [1.0 if session.name == "steady" else float(next(times))] * count

    monkeypatch.setattr(ort_worker, "open_session", lambda path, threads, as_written: Session(path))
    monkeypatch.setattr(ort_worker, "random_feeds", lambda session, seed: {})
    monkeypatch.setattr(ort_worker, "back_to_back", back_to_back)
    found = ort_worker.turns(["steady", "noisy"], 1, 0, rounds=3, most_rounds=7, turn_ms=1, spread=0.03)
    assert [len(medians) for medians in found["medians"]] == [3, 7]
    assert order[2:8] == ["steady", "noisy"] * 3  # in turns, after one look at each


def test_inputs_lie_as_the_runtime_s_own_tensors_do():
    feeds = {f"x{size}": np.arange(size, dtype=np.float32).reshape(1, -1) for size in range(1, 40)}
    moved = ort_worker.aligned(feeds)
    for name, values in feeds.items():
        assert moved[name].ctypes.data % 64 == 0
        np.testing.assert_array_equal(moved[name], values)
        assert moved[name].dtype == values.dtype


@pytest.mark.slow
def test_operations_of_every_case_run_alone(tmp_path):
    seen = set()
    for case in CASES.values():
        for part in parts(latency._exported(case.plan, {})):
            if part.signature not in seen:
                seen.add(part.signature)
                (tmp_path / "part.onnx").write_bytes(repeated(part))
                session = ort_worker.open_session(str(tmp_path / "part.onnx"), 1, as_written=True)
                session.run(None, ort_worker.random_feeds(session, 0))
    assert len(seen) > 200


@pytest.mark.slow
@pytest.mark.alone
def test_this_machine_s_networks_are_near_their_predictions(path):
    rows = held_out(Table(path), range(4), runs=100)
    assert np.median([abs(row.error_at_speed) for row in rows]) < 0.3  # 0.01 on a quiet machine: docs/latency.md
