"""Foreign ONNX files, through the command line: what is hostile is refused in words, soon, and without costing the tool memory."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_pool import runs, wait_until

from edgeticket.bundle import ship
from edgeticket.claims.reached import reached_by_files
from edgeticket.data import load
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError
from edgeticket.export import unpack
from edgeticket.manifest import Label
from edgeticket.targets import _confined, on_ssh, onnx_check
from edgeticket.targets._confined import Limits, ask, check, outputs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")

TOOL_BYTES = 60e6  # of the tool's own process, which takes 35 MB
PEAK = """
import sys
from edgeticket.cli import main
try:
    main(sys.argv[1:])
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).strip(), file=sys.stderr)
"""
Nodes = Sequence[onnx.NodeProto]


def model(nodes: Nodes, *constants: onnx.TensorProto, functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
    """x [N, 4] to y."""
    domains = {node.domain for node in nodes} | {"", *(function.domain for function in functions)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    opsets = [helper.make_opsetid(domain, 1 if domain else 13) for domain in sorted(domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def numbers(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def of_a_constant(elements: int) -> onnx.ModelProto:
    """150 bytes of file, `elements` floats that nothing needs an input for."""
    made = helper.make_node("ConstantOfShape", ["size"], ["large"])
    total = helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0)
    return model([made, total, helper.make_node("Add", ["x", "total"], ["y"])], numbers("size", elements))


def of_an_expansion(elements: int) -> onnx.ModelProto:
    """The same, of an input: not known before it runs."""
    one = helper.make_node("ReduceSum", ["x"], ["one"], keepdims=0)
    large = helper.make_node("Expand", ["one", "size"], ["large"])
    total = helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0)
    return model([one, large, total, helper.make_node("Add", ["x", "total"], ["y"])], numbers("size", elements))


def endless() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("v", "v_out")]
    more = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("c", "c_out")]
    nodes = [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Sin", ["v"], ["v_out"])]
    turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(nodes, "body", [turn, more[0], value[0]], [more[1], value[1]])
    yes = numpy_helper.from_array(np.array(True), "yes")
    turns = numpy_helper.from_array(np.array(1 << 60), "turns")
    return model([helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)], turns, yes)


def nested(depth: int) -> onnx.ModelProto:
    """`depth` graphs, each inside a node of the one before."""

    def graph(node: onnx.NodeProto) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        return helper.make_graph([node], "inner", [], [value])

    node = helper.make_node("Identity", ["x"], ["r"])
    for i in range(depth - 1):
        other = helper.make_node("Identity", ["x"], [f"e{i}"])
        node = helper.make_node("If", ["yes"], [f"r{i}"], then_branch=graph(node), else_branch=graph(other))
    node.output[0] = "y"
    return model([node], numpy_helper.from_array(np.array(True), "yes"))


def chain(count: int) -> onnx.ModelProto:
    names = ["x", *(f"a{i}" for i in range(count - 1)), "y"]
    return model([helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(count)])


def of_functions(count: int) -> onnx.ModelProto:
    """Each calls the next one."""
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    bodies = [helper.make_node(f"F{i + 1}", ["a"], ["b"], domain="own") for i in range(count - 1)]
    bodies.append(helper.make_node("Relu", ["a"], ["b"]))
    functions = [helper.make_function("own", f"F{i}", ["a"], ["b"], [body], opsets) for i, body in enumerate(bodies)]
    return model([helper.make_node("F0", ["x"], ["y"], domain="own")], functions=functions)


def single(kind: str, domain: str = "", name: str = "", inputs: Sequence[str] = "x") -> onnx.ModelProto:
    return model([helper.make_node(kind, list(inputs), ["y"], name, domain=domain)])


def of_text() -> onnx.ModelProto:
    made = single("Identity")
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    return made


def of_a_tensor_elsewhere() -> onnx.ModelProto:
    tensor = numbers("size", 4)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    return model([helper.make_node("Expand", ["x", "size"], ["y"])], tensor)


def of_a_long_name() -> onnx.ModelProto:
    """Fails as it runs, and ONNX Runtime then says its name, with an escape sequence in it."""
    wrong = helper.make_node("Reshape", ["x", "size"], ["y"], "\x1b[31m" + "n" * 30_000_000)
    return model([wrong], numbers("size", 7, 7))


def save(path: Path, made: onnx.ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def tool(*words: object) -> tuple[int, str, int]:
    """Exit code, stderr without its last line, and the most memory that the tool's own process took, in bytes."""
    command = [sys.executable, "-c", PEAK, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    *told, peak = done.stderr.splitlines()
    return done.returncode, "\n".join(told), int(peak.split()[1]) * 1024


HOSTILE = {
    "4 TB of a constant": (
        lambda: of_a_constant(1 << 40),
        1,
        "m.onnx: needs more than 4000 MB of memory: allow more (bench --mem",
    ),
    "16 GB of an input": (lambda: of_an_expansion(1 << 32), 1, "m.onnx: needs more than 4000 MB of memory"),
    "never ends": (endless, 1, "m.onnx: not finished after 6 s, and ended"),
    "17 graphs deep": (lambda: nested(17), 5, "m.onnx: graphs inside graphs, more than 16 deep"),
    "100,001 nodes": (lambda: chain(100_001), 5, "m.onnx: more than 100000 operations or stored tensors"),
    "3,000 functions deep": (lambda: of_functions(3000), 5, "m.onnx: holds local functions: inline them first"),
    "an unknown operation": (
        lambda: single("Nope"),
        5,
        "m.onnx: operation 'Nope' of domain 'ai.onnx' (node '') is not run",
    ),
    "a custom domain": (
        lambda: single("Relu", "my.ops", "n1"),
        5,
        "operation 'Relu' of domain 'my.ops' (node 'n1') is not run",
    ),
    "a contributed one": (lambda: single("Tokenizer", "com.microsoft"), 5, "'Tokenizer' of domain 'com.microsoft'"),
    "a name to mislead": (lambda: single("x\n\x1b[2J" + "y" * 10**6), 5, r"operation 'x\n\x1b[2Jyyyyyyyyyyyyyyyyyyyy"),
    "text": (of_text, 5, "m.onnx: input 'x': no tensor of numbers"),
    "a tensor elsewhere": (of_a_tensor_elsewhere, 5, "m.onnx: its weights are in another file"),
    "an error of 30 MB": (of_a_long_name, 1, "m.onnx: ONNX Runtime cannot run it: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_bench_refuses(what: str, tmp_path: Path) -> None:
    make, code, says = HOSTILE[what]
    begin = time.monotonic()
    found, told, peak = tool("bench", save(tmp_path / "m.onnx", make()), "--runs", 1, "--warmup", 0, "--timeout-s", 6)
    assert time.monotonic() - begin < 60
    assert (found, told.startswith("Error: ")) == (code, True), told
    assert says in told
    assert len(told) < 1000
    assert all(letter.isprintable() for letter in told)
    assert peak < TOOL_BYTES


def of_empty_nodes(path: Path) -> Path:
    """20 MB, of which protobuf makes ten million nodes."""
    nodes = b"\x0a\x00" * 10_000_000
    length = len(nodes).to_bytes(4, "little")
    size = bytes(
        byte
        for byte in (*(0x80 | int.from_bytes(length, "little") >> at & 0x7F for at in (0, 7, 14)), len(nodes) >> 21)
    )
    path.write_bytes(b"\x3a" + size + nodes)
    return path


@pytest.mark.slow
def test_a_file_that_is_large_once_it_is_parsed(tmp_path: Path) -> None:
    path = of_empty_nodes(tmp_path / "m.onnx")
    found, told, peak = tool("bench", path, "--memory-mb", 300)
    assert found == 5
    assert "m.onnx: not an ONNX file, cut short, or larger in memory than it may be" in told
    assert peak < TOOL_BYTES
    assert "more than 100000 operations" in tool("bench", path)[1]  # with the usual memory it is parsed, and counted


@pytest.mark.slow
def test_the_limit_of_memory_is_an_option(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", of_a_constant(10**8))  # 400 MB
    assert "needs more than 350 MB" in tool("bench", path, "--runs", 1, "--memory-mb", 350)[1]
    assert tool("bench", path, "--runs", 1, "--warmup", 0, "--memory-mb", 900)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "made", [nested(16), single("FastGelu", "com.microsoft"), chain(1000)], ids=["deep", "contributed", "long"]
)
def test_bench_takes_what_is_only_unusual(made: onnx.ModelProto, tmp_path: Path) -> None:
    assert tool("bench", save(tmp_path / "m.onnx", made), "--runs", 1)[0] == 0


@pytest.mark.slow
def test_what_onnx_runtime_quantised_is_taken(tmp_path: Path) -> None:
    from onnxruntime import quantization

    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 1, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Add", ["c", "c"], ["a"])]
    nodes += [helper.make_node("LeakyRelu", ["a"], ["l"]), helper.make_node("GlobalAveragePool", ["l"], ["y"])]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("x", (1, 8, 8)), ("y", (8, 1, 1)))
    )
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    plain = save(
        tmp_path / "plain.onnx", helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    )
    given = iter([{"x": np.random.default_rng(1).normal(size=(4, 1, 8, 8)).astype(np.float32)}, None])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict | None:
            return next(given)

    path = tmp_path / "quantised.onnx"
    quantization.quantize_static(plain, path, Reader(), quant_format=quantization.QuantFormat.QOperator)
    (found,) = check([path], Limits(), sized=True)
    assert {name for name in found if name.startswith("com.microsoft.")} >= {"com.microsoft.QLinearAdd"}
    assert tool("bench", path, "--runs", 1)[0] == 0


def test_what_is_taken_is_in_onnx_runtime() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    known = {schema.name for schema in runtime.get_all_operator_schema() if schema.domain == "com.microsoft"}
    assert known >= onnx_check.CONTRIBUTED


SAMPLE = Path(__file__).parent.parent / "sample_models" / "digits.ticket"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "says"),
    [
        (of_a_constant(1 << 40), "needs more than 4000 MB of memory"),
        (single("Relu", "my.ops"), "operation 'Relu' of domain 'my.ops'"),
    ],
    ids=["memory", "operation"],
)
def test_verify_refuses(made: onnx.ModelProto, says: str, tmp_path: Path) -> None:
    shape = load("digits").certify[0].shape[1:]
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("raw", TensorProto.UINT8, ["N", *shape]))
    made.graph.output[0].type.tensor_type.ClearField("shape")
    made.graph.node.insert(0, helper.make_node("Cast", ["raw"], ["x"], to=TensorProto.FLOAT))
    code, told, peak = tool("verify", SAMPLE, save(tmp_path / "m.onnx", made), "-d", "digits")
    assert code == 4
    assert says in told
    assert peak < tool("verify", SAMPLE, "-d", "digits")[2] + 30e6


@pytest.mark.slow
def test_other_limits_of_what_is_run(tmp_path: Path) -> None:
    raw = np.ones((100, 4), np.float32)
    with pytest.raises(EdgeTicketError, match="not finished after 5 s"):
        outputs([save(tmp_path / "m.onnx", endless())], raw, 4, Limits(timeout_s=5))
    both = [save(tmp_path / f"{kind}.onnx", single(kind)) for kind in ("Neg", "Exp")]
    (made, found), (other, also) = outputs(both, raw, 4)
    assert (found, also) == ({"Neg": 1}, {"Exp": 1})
    np.testing.assert_array_equal(made, -raw)
    np.testing.assert_allclose(other, np.exp(raw), rtol=1e-5)
    for wrong in (single("Transpose"), single("Flatten"), single("ReduceSum")):
        path = save(tmp_path / "m.onnx", wrong)
        size = 3 if wrong.graph.node[0].op_type == "Flatten" else 4
        with pytest.raises(
            UnsupportedError, match=rf"m\.onnx: gives \w+ \[.*\] for 64 examples, where {size} numbers each"
        ):
            outputs([path], raw, size)


def test_files_of_a_record_are_foreign(tmp_path: Path) -> None:
    path = save(tmp_path / "float-0.onnx", single("Relu", "my.ops"))
    with pytest.raises(UnsupportedError, match=r"float-0\.onnx: operation 'Relu' of domain 'my\.ops'"):
        reached_by_files([path], load("digits"), False)


@pytest.fixture
def parses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process."""

    def parse(content: bytes) -> onnx.ModelProto:
        raise AssertionError("parsed in the tool's own process")

    monkeypatch.setattr(onnx, "load_from_string", parse)
    monkeypatch.setattr(onnx.checker, "check_model", parse)


@pytest.mark.usefixtures("parses_nothing")
def test_unpack_looks_before_it_parses(tmp_path: Path) -> None:
    made = nested(17)
    made.producer_name = "edgeticket"
    with pytest.raises(UnsupportedError, match="more than 16 deep"):
        unpack(save(tmp_path / "m.onnx", made), tmp_path / "plain.onnx")


@pytest.mark.usefixtures("parses_nothing")
def test_ship_looks_before_it_parses(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", single("Relu", "my.ops"))
    with pytest.raises(EquivalenceError, match=r"operation 'Relu' of domain 'my\.ops'"):
        ship(SAMPLE, [path], load("digits"), tmp_path / "x.bundle", Label("line", 1, None))
    assert not (tmp_path / "x.bundle").exists()


@pytest.mark.slow
def test_neither_parses_what_is_large_once_it_is_parsed(tmp_path: Path) -> None:
    """Which takes 1.6 GB."""
    path, out = of_empty_nodes(tmp_path / "m.onnx"), tmp_path / "x.bundle"
    code, told, peak = tool("unpack", path, "-o", tmp_path / "plain.onnx")
    assert (code, "more than 100000 operations" in told, peak < 200e6) == (5, True, True), (told, peak)
    words = ("-d", "digits", "--class", "line", "--sequence", 1, "-o", out)
    code, told, peak = tool("ship", SAMPLE, path, *words)
    assert (code, "more than 100000 operations" in told, peak < 500e6) == (4, True, True), (told, peak)


def test_nothing_hostile_is_sent_elsewhere(tmp_path: Path) -> None:
    from edgeticket.budget import Artifact

    artifact = Artifact(save(tmp_path / "m.onnx", single("Relu", "my.ops")), "onnx")
    asked = {"threads": 1, "runs": 1, "warmup": 0, "period_ms": None, "paced_runs": 1, "seed": 0}
    with pytest.raises(UnsupportedError, match=r"my\.ops"):
        on_ssh.measure([artifact], address="nobody@192.0.2.1", timeout_s=60, memory_mb=1000, **asked)


LIMITS = """
import json, os, resource
print(json.dumps({"core": resource.getrlimit(resource.RLIMIT_CORE), "data": resource.getrlimit(resource.RLIMIT_DATA),
                  "first": open("/proc/self/oom_score_adj").read().strip()}))
"""


def test_a_child_has_its_limits_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "limits.py").write_text(LIMITS)
    found = ask(tmp_path / "limits.py", {}, "m.onnx", Limits(memory_mb=700))
    assert found == {"core": [0, 0], "data": [700_000_000] * 2, "first": "1000"}
    assert ask(tmp_path / "limits.py", {}, "m.onnx", Limits(memory_mb=None))["data"][0] != 700_000_000


def test_a_child_of_nobody_ends(tmp_path: Path) -> None:
    (tmp_path / "limits.py").write_text(LIMITS)
    command = [sys.executable, "-P", str(_confined.CONFINE), "1", "0", str(tmp_path / "limits.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the process that asked has ended\n")


def test_killed_means_out_of_memory(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(EdgeTicketError, match=r"killed \(signal 9\).*out of memory: allow less"):
        ask(tmp_path / "killed.py", {}, "m.onnx", Limits())


@pytest.mark.slow
def test_a_tool_that_is_killed_leaves_no_child(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", endless())
    running = subprocess.Popen([sys.executable, "-m", "edgeticket", "bench", str(path)], stderr=subprocess.DEVNULL)
    own = Path(f"/proc/{running.pid}/task/{running.pid}/children")

    def worker() -> list[int]:
        commands = {
            int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in own.read_text().split() if runs(int(pid))
        }
        return [pid for pid, command in commands.items() if re.search(rb"ort_worker\.py", command)]

    wait_until(lambda: bool(worker()))
    (pid,) = worker()
    time.sleep(0.5)  # it is in the loop
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    end = time.monotonic() + 2
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not runs(pid)
