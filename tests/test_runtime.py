"""The runtime: what it refuses, what it answers, and what it does not import."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_bundle
from onnx import TensorProto, helper
from small_bundle import Files

from edgeticket import bundle_file, watch
from edgeticket.data import Data, load
from edgeticket.errors import BundleError
from edgeticket.export import export
from edgeticket.guard import Guard, Status
from edgeticket.runtime import Prediction, Predictor
from edgeticket.signing import new_key, public_of
from edgeticket.ticket import parse_ticket
from exporters.to_onnx import answers, run_bytes

ROOT = Path(__file__).parent.parent
TICKET = ROOT / "sample_models" / "digits.ticket"
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("models")
    ticket = parse_ticket(TICKET.read_bytes())
    paths = {kind: export(ticket, "onnx", folder / f"{kind}.onnx", precision=kind).path for kind in ("float", "int8")}
    return {kind: path.read_bytes() for kind, path in paths.items()}


@pytest.fixture(scope="module")
def files(digits: Data, models: dict[str, bytes]) -> Files:
    raw = digits.certify[0][:8]
    return {
        "digits.onnx": ("onnx", models["float"]),
        "digits.ticket": ("ticket", TICKET.read_bytes()),
        "golden": ("golden", bundle_file.golden(raw, run_bytes(models["float"], raw))),
        "guard.json": ("guard", bundle_file.canonical(Guard.fit(digits, answers(models["float"])).to_json())),
    }


@pytest.fixture
def write(files: Files, digits: Data, tmp_path: Path) -> Write:
    """Writes a bundle of `files`, some of them others."""

    def written(
        *, private: bytes | None = None, without: str = "", changed: Files | None = None, **fields: Any
    ) -> Path:
        own = {path: file for path, file in {**files, **(changed or {})}.items() if path != without}
        return small_bundle.write(tmp_path / "x.bundle", own, private, **{"labels": list(digits.classes), **fields})

    return written


@pytest.fixture
def path(write: Write) -> Path:
    return write()


# answers


def test_every_label_is_the_one_of_the_exported_file(path: Path, digits: Data, models: dict[str, bytes]) -> None:
    predictor, x = Predictor(path), digits.certify[0]
    assert predictor.guard
    assert predictor.guard.compiled == (watch.Compiled is not None)
    right = run_bytes(models["float"], x)
    for frame, logits in zip(x, right, strict=True):
        found = predictor.predict(frame)
        shares = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
        assert found.label == digits.classes[logits.argmax()]
        assert found.score == pytest.approx(shares.max(), rel=1e-4)
        assert found.outputs == pytest.approx(logits, abs=1e-4)
        assert not found.status.fault


def test_a_fault_has_no_label(path: Path, digits: Data) -> None:
    predictor, frame = Predictor(path), digits.certify[0][0]
    wrong = {
        Status.DTYPE: frame.astype(float),
        Status.SHAPE: frame[None],
        Status.RANGE: frame * 15,
        Status.CONSTANT: frame * 0,
    }
    for status, value in wrong.items():
        assert predictor.predict(value) == Prediction(None, None, status)
    assert [predictor.predict(frame).label is None for _ in range(4)] == [False, False, True, True]


def test_an_alarm_goes_with_a_label_until_it_is_reset(path: Path, digits: Data) -> None:
    predictor = Predictor(path)
    for frame in digits.certify[0][:150]:
        found = predictor.predict(np.minimum(frame * 2, 16).astype(np.uint8))
    assert found.status == Status.DRIFT
    assert found.label in digits.classes
    predictor.reset()
    assert predictor.predict(digits.certify[0][0]).status == Status.OK


def test_a_run_of_one_class_is_no_drift(path: Path, digits: Data) -> None:
    predictor, (x, y) = Predictor(path), digits.certify
    order = np.random.default_rng(1).integers(0, np.sum(y == 0), 300)
    zeros = x[y == 0][order]
    assert Status.DRIFT not in {predictor.predict(frame).status for frame in zeros}
    predictor.guard = Guard.fit(digits)
    assert Status.DRIFT in {predictor.predict(frame).status for frame in zeros}


def test_a_guard_is_fitted_to_what_a_line_gave(path: Path, digits: Data) -> None:
    predictor = Predictor(path)
    assert np.array_equal(
        predictor.answers(digits.certify[0]), [int(predictor.predict(frame).label or 99) for frame in digits.certify[0]]
    )
    parts = {part: (getattr(digits, part)[0] // 2, getattr(digits, part)[1]) for part in ("train", "select", "certify")}
    dim = replace(digits, **parts)
    frames = dim.certify[0][np.random.default_rng(1).permutation(300)]
    assert Status.DRIFT in {predictor.predict(frame).status for frame in frames}
    predictor.guard = Guard.fit(dim, predictor.answers)
    assert Status.DRIFT not in {predictor.predict(frame).status for frame in frames}


def test_without_a_guard_shape_and_type_are_checked_all_the_same(write: Write, digits: Data) -> None:
    predictor, frame = Predictor(write(without="guard.json")), digits.certify[0][0]
    assert predictor.guard is None
    assert predictor.predict(frame.astype(np.int16)).status == Status.DTYPE
    assert predictor.predict(frame[0]).status == Status.SHAPE
    assert {predictor.predict(frame).status for _ in range(5)} == {Status.OK}
    predictor.reset()


def test_an_int8_network(write: Write, models: dict[str, bytes], digits: Data) -> None:
    raw = digits.certify[0][:8]
    golden = bundle_file.golden(raw, run_bytes(models["int8"], raw))
    changed = {"digits.onnx": ("onnx-int8", models["int8"]), "golden": ("golden", golden)}
    predictor, x = Predictor(write(changed=changed)), digits.certify[0]
    labels = [predictor.predict(frame).label for frame in x]
    assert labels == [digits.classes[best] for best in run_bytes(models["int8"], x).argmax(1)]


def test_threads_get_the_answers_that_one_gets(write: Write, digits: Data) -> None:
    predictor, x = Predictor(write(without="guard.json")), digits.certify[0][:100]
    right, found = [predictor.predict(frame).label for frame in x], {}

    def work(number: int) -> None:
        found[number] = [predictor.predict(frame).label for frame in x]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [right] * 4


def identity(features: int) -> bytes:
    """x -> 2 x + 1, float32 [N, features]."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"]), helper.make_node("Add", ["y", "one"], ["out"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", features]) for name in ("x", "out")]
    numbers = [
        helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in (("two", 2.0), ("one", 1.0))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def test_a_regression_answers_in_its_targets_units(write: Write) -> None:
    raw = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
    changed = {"digits.onnx": ("onnx", identity(2)), "golden": ("golden", bundle_file.golden(raw, 2 * raw + 1))}
    fields = {"task": "regression", "labels": ["length", "width"], "input": {"shape": [2], "dtype": "float32"}}
    predictor = Predictor(write(changed=changed, without="guard.json", **fields))
    found = predictor.predict(np.array([3, 4], np.float32))
    assert (found.label, found.score, found.outputs.tolist()) == ("length", 7.0, [7.0, 9.0])  # type: ignore[union-attr]
    assert predictor.predict(np.array([3, np.inf], np.float32)) == Prediction(None, None, Status.NOT_FINITE)


def test_an_anomaly_is_what_is_above_the_tickets_threshold(write: Write) -> None:
    ticket = parse_ticket(TICKET.read_bytes())
    (name,) = ticket.inputs
    sensor = ticket.inputs[name]
    x = np.zeros((8, 1, 8, 8), np.uint8)
    x += np.arange(8, dtype=np.uint8)[:, None, None, None]
    read = sensor.apply(x)
    alarm = float(np.mean(read[3].reshape(-1).astype(float) ** 2))  # the network below gives 0 everywhere
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "zero"], ["out"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    own = replace(ticket, task="anomaly", provenance={**ticket.provenance, "alarm_above": alarm}).to_bytes()
    changed = {
        "digits.onnx": ("onnx", model),
        "digits.ticket": ("ticket", own),
        "golden": ("golden", bundle_file.golden(x, np.zeros(x.shape))),
    }
    predictor = Predictor(write(changed=changed, without="guard.json", task="anomaly", labels=["normal", "anomalous"]))
    found = [predictor.predict(frame) for frame in x]
    errors = [float(np.mean(row.astype(float) ** 2)) for row in read]
    assert [f.score for f in found] == pytest.approx(errors, rel=1e-5)
    assert found[3].score == alarm
    assert [f.label for f in found] == ["anomalous" if error > alarm else "normal" for error in errors]
    assert {f.label for f in found} == {"normal", "anomalous"}
    changed["digits.ticket"] = ("ticket", TICKET.read_bytes())
    with pytest.raises(BundleError, match="threshold"):
        Predictor(write(changed=changed, without="guard.json", task="anomaly", labels=["normal", "anomalous"]))


# refusals


def refused(path: Path, code: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(BundleError) as caught:
        Predictor(path, *arguments, **options)
    assert caught.value.code == code


def test_a_bundle_is_used_only_if_a_given_key_signed_it(write: Write) -> None:
    private, public = new_key()
    path = write(private=private)
    assert Predictor(path, [public]).signed_by
    assert not Predictor(path).signed_by
    refused(path, "key", [new_key()[1]])
    refused(write(), "unsigned", [public_of(private)])


def test_every_altered_byte_of_a_file_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 997):
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(BundleError):
            Predictor(path)
        content[at] ^= 1


def test_a_bundle_for_other_devices_is_refused(path: Path) -> None:
    Predictor(path, target_class="line-camera")
    refused(path, "class", target_class="press-7")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent.bundle", "unreadable")


@pytest.mark.parametrize("off", [1e-3, -1e-3])
def test_a_machine_that_computes_otherwise_is_refused(
    write: Write, digits: Data, models: dict[str, bytes], off: float
) -> None:
    raw = digits.certify[0][:8]
    outputs = run_bytes(models["float"], raw)
    outputs[5, 3] += off * np.abs(outputs).max()
    refused(write(changed={"golden": ("golden", bundle_file.golden(raw, outputs))}), "golden")


def test_an_int8_network_that_gives_another_label_is_refused(
    write: Write, digits: Data, models: dict[str, bytes]
) -> None:
    raw = digits.certify[0][:8]
    outputs = run_bytes(models["int8"], raw)
    outputs[7, int(outputs[7].argmin())] = outputs.max() + 1
    changed = {"digits.onnx": ("onnx-int8", models["int8"]), "golden": ("golden", bundle_file.golden(raw, outputs))}
    refused(write(changed=changed), "golden")


def test_golden_vectors_of_another_shape_are_refused(write: Write, digits: Data, models: dict[str, bytes]) -> None:
    raw = digits.certify[0][:8]
    outputs = run_bytes(models["float"], raw)
    for inputs, expected in ((raw.astype(np.int16), outputs), (raw[:, :, :7], outputs), (raw, outputs[:, :9])):
        refused(write(changed={"golden": ("golden", bundle_file.golden(inputs, expected))}), "golden")


def test_a_network_that_is_none_or_of_another_input_is_refused(write: Write) -> None:
    refused(write(changed={"digits.onnx": ("onnx", b"nonsense")}), "model")
    refused(write(changed={"digits.onnx": ("onnx", identity(64))}), "model")
    refused(write(labels=["a", "b"]), "model")


def test_a_guard_that_is_damaged_or_of_another_sensor_is_refused(write: Write, files: Files) -> None:
    other = Guard.from_json(bundle_file.json.loads(files["guard.json"][1])).to_json()
    for content in (b"", b"{", b"[" * 9000, b"\xff", bundle_file.canonical({**other, "shape": [1, 4, 16]})):
        refused(write(changed={"guard.json": ("guard", content)}), "guard")


# what it costs


def fresh(code: str, *arguments: str) -> str:
    """Standard output of a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_neither_torch_nor_onnx_is_imported(path: Path) -> None:
    code = """
import sys
import numpy as np
from edgeticket.runtime import Predictor
found = Predictor(sys.argv[1]).predict(np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 17)
print(found.status, sorted({"torch", "onnx", "exporters", "click", "cryptography"} & set(sys.modules)))
"""
    assert fresh(code, str(path)).split(maxsplit=1)[1] == "[]\n"


GROWTH = """
import resource, sys
import numpy as np
from edgeticket.runtime import Predictor
predictor, random, count = Predictor(sys.argv[1]), np.random.default_rng(0), int(sys.argv[2])
frames = random.integers(0, 17, (64, 1, 8, 8)).astype(np.uint8)
first = [predictor.predict(frame).label for frame in frames]
for _ in range(30):
    for frame in frames:
        predictor.predict(frame)
page = resource.getpagesize()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * page
before = resident()
for i in range(count):
    found = predictor.predict(frames[i % 64])
    assert found.label == first[i % 64]
print(resident() - before)
"""


@pytest.mark.parametrize(
    "count", [pytest.param(20_000, marks=pytest.mark.slow), pytest.param(1_000_000, marks=pytest.mark.soak)]
)
def test_memory_stays_flat_and_answers_the_same(path: Path, count: int) -> None:
    assert int(fresh(GROWTH, str(path), str(count))) < 1 << 20
