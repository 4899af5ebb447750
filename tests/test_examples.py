"""The example applications, run as their users run them; MQTT against a real broker."""

import argparse
import ast
import csv
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_bundle
import tiny_c
from onnx import TensorProto, helper, numpy_helper
from servers import free_port, wait_until

from edgeticket import bundle_file
from edgeticket.compact import compact
from edgeticket.data import Data, load
from edgeticket.guard import Guard
from edgeticket.runtime import Prediction, Predictor, Status
from edgeticket.signing import new_key
from edgeticket.ticket import Input, parse_ticket
from exporters.to_onnx import build, run_bytes

ROOT = Path(__file__).parent.parent
TICKET = (ROOT / "sample_models" / "digits.ticket").read_bytes()
LENGTH = 32


def example(name: str, *arguments: object, feed: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(words, input=feed, capture_output=True, timeout=60, env=environment())
    assert done.returncode == code, done.stderr.decode()
    return done


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_needs_nothing_of_edgeticket_but_what_runs_in_a_gateway(path: Path) -> None:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    own = {name for name in names if name and name.startswith(("edgeticket", "exporters"))}
    more = {
        "gateway": {"files", "lock", "order", "outbox", "signing", "tls", "trial"},
        "inspection_line": {"runtime", "signing"},
        "vibration_monitor": {"runtime", "signing", "tls"},
    }[path.stem]
    assert own == {f"edgeticket.{name}" for name in more | {"errors"}}


# inspection line


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def keys() -> tuple[bytes, bytes]:
    return new_key()


@pytest.fixture(scope="module")
def line(digits: Data, keys: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = build(compact(parse_ticket(TICKET))).SerializeToString()
    raw = digits.certify[0][:8]
    files = {
        "digits.onnx": ("onnx", model),
        "digits.ticket": ("ticket", TICKET),
        "golden": ("golden", bundle_file.golden(raw, run_bytes(model, raw))),
        "guard.json": ("guard", bundle_file.canonical(Guard.fit(digits).to_json())),
    }
    return small_bundle.write(tmp_path_factory.mktemp("line") / "line.bundle", files, keys[0])


def rows(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(row) for row in done.stdout.splitlines()]


def test_verdicts_are_the_predictors(line: Path, digits: Data, tmp_path: Path) -> None:
    x = digits.certify[0][:40]
    x = np.concatenate([x, np.zeros_like(x[:1])])
    np.savez(tmp_path / "frames.npz", x=x)
    found = rows(example("inspection_line", line, tmp_path / "frames.npz", "--good", "3", "--good", "7"))
    predictor = Predictor(line)
    right = [predictor.predict(frame) for frame in x]
    assert [row["label"] for row in found] == [one.label for one in right]
    assert [row["status"] for row in found] == [str(one.status) for one in right]
    for row in found:
        good = row["label"] in ("3", "7")
        assert row["verdict"] == ("check" if row["status"] != "ok" else "pass" if good else "reject")
    assert found[-1]["verdict"] == "check"
    assert {row["verdict"] for row in found} == {"pass", "reject", "check"}


def test_a_folder_of_images(line: Path, digits: Data, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(digits.certify[0][:3]):
        image.fromarray(frame[0]).save(folder / f"{i}.png")
    image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "3.png")
    (folder / "4.png").write_bytes(b"no image")
    png = (folder / "0.png").read_bytes()
    (folder / "5.png").write_bytes(png[:37] + bytes(4) + png[41:])  # the name of a chunk: SyntaxError
    (folder / "6.ppm").write_bytes(b"P5 8 8 70000\n" + bytes(128))  # ValueError
    done = example("inspection_line", line, folder, "--good", "1", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [row["frame"] for row in found] == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.ppm"]
    predictor = Predictor(line)
    assert [row["label"] for row in found[:3]] == [predictor.predict(x).label for x in digits.certify[0][:3]]
    assert [(row["verdict"], row["status"]) for row in found[3:]] == [("check", "shape")] + 3 * [
        ("check", "unreadable")
    ]
    assert b"7 frames" in done.stderr
    assert b"4 check" in done.stderr


def test_a_palette_is_judged_by_its_colours(line: Path, digits: Data, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    folder, x = tmp_path / "frames", digits.certify[0][:4]
    folder.mkdir()
    for i, frame in enumerate(x):
        values, indices = np.unique(frame[0], return_inverse=True)
        paletted = image.fromarray(indices.reshape(8, 8).astype(np.uint8), "P")
        colours = np.repeat(values.astype(np.uint8)[:, None], 3, 1)
        if i == 2:
            colours[0, 0] += 1
        paletted.putpalette(colours.tobytes())
        paletted.save(folder / f"{i}.png", **({"transparency": 0} if i == 3 else {}))
    found = rows(example("inspection_line", line, folder, "--good", "1"))
    predictor = Predictor(line)
    right = [predictor.predict(frame) for frame in x[:2]]
    assert [(row["label"], row["score"]) for row in found[:2]] == [(one.label, one.score) for one in right]
    assert [row["status"] for row in found[2:]] == ["shape", "unreadable"]


@pytest.mark.parametrize("name", ["PIL", "paho"])
def test_what_is_not_installed_is_said_at_the_start(line: Path, motor: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").write_bytes(b"")
    code = f"import sys, runpy; sys.modules[{name!r}] = None; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    program, said, words = {
        "PIL": ("inspection_line", b"images need Pillow", [line, tmp_path / "frames", "--good", "1"]),
        "paho": ("vibration_monitor", b"--mqtt needs paho-mqtt", [motor, "-", "--normal", "ok", "--mqtt", "h:1"]),
    }[name]
    command = [sys.executable, "-c", code, str(ROOT / "examples" / f"{program}.py"), *map(str, words)]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, env=environment())
    assert said in done.stderr
    assert (done.returncode, done.stdout, b"Traceback" in done.stderr) == (1, b"", False)


def test_a_missed_deadline_is_counted(line: Path, digits: Data, tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", x=digits.certify[0][:20])
    done = example("inspection_line", line, tmp_path / "frames.npz", "--good", "1", "--period-ms", "0.000001")
    assert all(row["late"] for row in rows(done))
    assert b"20 late of a period of 1e-06 ms" in done.stderr
    start = time.monotonic()
    done = example("inspection_line", line, tmp_path / "frames.npz", "--good", "1", "--period-ms", "50")
    assert time.monotonic() - start > 19 * 0.05
    assert sum(row["late"] for row in rows(done)) < 20
    assert b" of a period of 50 ms" in done.stderr


class Clock:
    """Time that passes only while something sleeps or predicts: frame i takes i times 20 ms."""

    def __init__(self) -> None:
        self.now, self.frames, self.slept = 100.0, 0, []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds

    def predict(self, _: np.ndarray) -> Prediction:
        self.now += 0.02 * self.frames
        self.frames += 1
        return Prediction("ok", 1.0, Status.OK)


def test_a_frame_is_late_when_the_next_one_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("inspection_line", ROOT / "examples" / "inspection_line.py")
    assert spec
    assert spec.loader
    module, clock = importlib.util.module_from_spec(spec), Clock()
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "time", clock)
    options = argparse.Namespace(period_ms=50, good=["ok"], least_score=0)
    found = list(module.inspected(clock, ((str(i), np.zeros(1)) for i in range(5)), options))
    assert [row["ms"] for row in found] == pytest.approx([0, 20, 40, 60, 80])
    assert [row["late"] for row in found] == [False, False, False, True, True]
    assert clock.slept == pytest.approx([0, 0.05, 0.03, 0.01, 0])


def test_a_low_score_is_for_a_human(line: Path, digits: Data, tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", x=digits.certify[0][:30])
    found = rows(example("inspection_line", line, tmp_path / "frames.npz", "--good", "1", "--least-score", "0.9"))
    assert [row["verdict"] == "check" for row in found] == [
        row["score"] < 0.9 or row["status"] != "ok" for row in found
    ]
    assert any(row["score"] < 0.9 for row in found)


def test_what_an_inspection_line_refuses(line: Path, keys: tuple[bytes, bytes], digits: Data, tmp_path: Path) -> None:
    frames, public, other = tmp_path / "frames.npz", tmp_path / "a.pub", tmp_path / "b.pub"
    np.savez(frames, x=digits.certify[0][:2])
    np.savez(tmp_path / "y.npz", y=digits.certify[0][:2])
    public.write_bytes(keys[1])
    other.write_bytes(new_key()[1])
    out = tmp_path / "verdicts.jsonl"
    example("inspection_line", line, frames, "--good", "1", "--key", public, "-o", out)
    before = out.read_bytes()
    assert before.count(b"\n") == 2
    for code, arguments in {
        4: [line, frames, "--good", "1", "--key", other],
        1: [line, frames, "--good", "1", "-o", out],
        2: [line, frames],
    }.items():
        assert b"Traceback" not in example("inspection_line", *arguments, code=code).stderr
    for words in (["--period-ms", "inf"], ["--period-ms", "1e300"], ["--period-ms", "0"], ["--least-score", "nan"]):
        assert words[0].encode() in example("inspection_line", line, frames, "--good", "1", *words, code=2).stderr
    private = tmp_path / "a.key"
    private.write_bytes(keys[0])
    done = example("inspection_line", line, frames, "--good", "1", "--key", private, code=2)
    assert b"a.key: not a public key" in done.stderr
    for arguments in (
        [line, frames, "--good", "ten"],
        [line, tmp_path / "y.npz", "--good", "1"],
        [line, tmp_path / "absent", "--good", "1"],
        [line, out, "--good", "1"],
    ):
        assert b"Traceback" not in example("inspection_line", *arguments, code=1).stderr
    assert out.read_bytes() == before


def test_frames_that_cannot_be_read_leave_no_output(line: Path, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("x")
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}], object))
    np.savez(tmp_path / "one.npz", x=np.float32(1))
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "array.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:-9])
    out = tmp_path / "verdicts.jsonl"
    for name in ("absent", "absent.npz", "text.npz", "objects.npz", "one.npz", "array.npz", "cut.npz"):
        done = example("inspection_line", line, tmp_path / name, "--good", "1", "-o", out, code=1)
        assert done.stderr.startswith(b"inspection_line: ")
        assert name.encode() in done.stderr
        assert not out.exists()


# vibration monitor


def loudness() -> bytes:
    """Of int16 [N, 2, LENGTH]: ok where the mean of |x| is below 100, else knock."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Abs", ["f"], ["a"]),
        helper.make_node("Flatten", ["a"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["mean", "limit"], ["over"]),
        helper.make_node("Mul", ["over", "signs"], ["out"]),
    ]
    numbers = [
        numpy_helper.from_array(np.array(values, np.float32), name)
        for name, values in (("limit", [100]), ("signs", [-0.1, 0.1]))
    ]
    ends = helper.make_tensor_value_info("x", TensorProto.INT16, ["N", 2, LENGTH])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "loudness", [ends], [out], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def recorded(level: float, windows: int, seed: int = 0) -> np.ndarray:
    """int16 [windows, 2, LENGTH] whose mean of |x| is near `level`."""
    x = np.random.default_rng(seed).normal(size=(windows, 2, LENGTH)) * level * 1.2533
    return x.round().clip(-(1 << 15), (1 << 15) - 1).astype(np.int16)


def stream(*parts: np.ndarray) -> bytes:
    """As a converter sends it: channels interleaved, little-endian."""
    return np.concatenate(parts).transpose(0, 2, 1).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def motor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, train = loudness(), np.concatenate([recorded(50, 500), recorded(200, 500)])
    raw = train[::125].copy()
    y = np.repeat([0, 1], 500)
    one = Input("int16", (0.0, 0.0), (1.0, 1.0))
    data = Data("motor", (train, y), (train, y), (train, y), one, "classification", ("ok", "knock"), "", "")
    files = {
        "digits.onnx": ("onnx", model),
        "digits.ticket": ("ticket", TICKET),
        "golden": ("golden", bundle_file.golden(raw, run_bytes(model, raw))),
        "guard.json": ("guard", bundle_file.canonical(Guard.fit(data).to_json())),
    }
    fields = {"labels": ["ok", "knock"], "input": {"shape": [2, LENGTH], "dtype": "int16"}}
    return small_bundle.write(tmp_path_factory.mktemp("motor") / "motor.bundle", files, **fields)


STATES = [("normal", 0), ("alarm", 6 + 2), ("normal", 6 + 5 + 3), ("sensor", 6 + 5 + 6 + 2), ("normal", 6 + 5 + 6 + 6)]


def course() -> bytes:
    """Six quiet windows, five loud, six quiet, six the same, quiet again, and half a window."""
    quiet, loud = recorded(50, 18), recorded(200, 5)
    stuck = np.repeat(quiet[12:13], 6, 0)
    return stream(quiet[:6], loud, quiet[6:12], stuck, quiet[13:16]) + b"\1" * LENGTH


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_an_alarm_has_hysteresis_and_a_stuck_sensor_is_said(motor: Path, tmp_path: Path, source: str) -> None:
    words = ["--normal", "ok", "--raise", "3", "--clear", "4"]
    (tmp_path / "samples").write_bytes(course())
    done = (
        example("vibration_monitor", motor, "-", *words, feed=course())
        if source == "stdin"
        else example("vibration_monitor", motor, tmp_path / "samples", *words)
    )
    assert [(row["state"], row["window"]) for row in rows(done)] == STATES
    assert done.stderr == b"26 windows\n"


def test_one_loud_window_is_no_alarm_and_windows_may_overlap(motor: Path) -> None:
    quiet, loud = recorded(50, 9), recorded(200, 1)
    samples = stream(quiet[:4], loud, quiet[4:])
    assert [row["state"] for row in rows(example("vibration_monitor", motor, "-", "--normal", "ok", feed=samples))] == [
        "normal"
    ]
    done = example(
        "vibration_monitor", motor, "-", "--normal", "ok", "--raise", "1", "--step", LENGTH // 2, feed=samples
    )
    assert [row["state"] for row in rows(done)][:2] == ["normal", "alarm"]
    assert done.stderr == b"19 windows\n"
    skipped = example("vibration_monitor", motor, "-", "--normal", "ok", "--step", 3 * LENGTH, feed=samples)
    assert skipped.stderr == b"4 windows\n"


def test_what_a_monitor_refuses(motor: Path, tmp_path: Path) -> None:
    for code, words in {
        1: [motor, tmp_path / "absent", "--normal", "ok"],
        2: [motor, "-", "--normal", "ok", "--raise", "0"],
        4: [tmp_path / "absent.bundle", "-", "--normal", "ok"],
    }.items():
        assert b"Traceback" not in example("vibration_monitor", *words, code=code).stderr
    assert b"--step" in example("vibration_monitor", motor, "-", "--normal", "ok", "--step", "0", code=2).stderr
    assert b"--normal fine" in example("vibration_monitor", motor, "-", "--normal", "fine", code=1).stderr
    for address in (":1883", "h:0", "h:65536", "h:", "h", ""):
        done = example("vibration_monitor", motor, "-", "--normal", "ok", "--mqtt", address, code=2)
        assert b"--mqtt: give HOST:PORT" in done.stderr
    done = example("vibration_monitor", motor, "-", "--normal", "ok", "--mqtt", "h:1", "--mqtt-ca", "", code=2)
    assert b"--mqtt-ca: name a PEM file" in done.stderr
    closed = example("vibration_monitor", motor, "-", "--normal", "ok", "--mqtt", f"127.0.0.1:{free_port()}", code=1)
    assert b"Traceback" not in closed.stderr


# MQTT


@contextmanager
def broker(folder: Path, port: int, more: str = "allow_anonymous true") -> Iterator[subprocess.Popen[bytes]]:
    """A mosquitto of our own on the loopback address, with more settings."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        tiny_c.need("mosquitto")
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\n{more}\nuser root\n")
    process = subprocess.Popen([str(program), "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    try:
        with socket.socket() as client:
            wait_until(lambda: process.poll() is None and client.connect_ex(("127.0.0.1", port)) == 0)
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def listener(port: int) -> Iterator[list[tuple[str, str]]]:
    """What arrives under motor/, in order."""
    mqtt = pytest.importorskip("paho.mqtt.client")
    heard: list[tuple[str, str]] = []
    ready = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe("motor/#", qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, _data, message: heard.append((message.topic, message.payload.decode()))
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert ready.wait(30)
    yield heard
    client.disconnect()
    client.loop_stop()


def states(heard: list[tuple[str, str]]) -> list[str]:
    return [json.loads(text)["state"] for topic, text in heard if topic == "motor/state"]


def test_states_are_published_and_the_last_one_is_kept(motor: Path, tmp_path: Path) -> None:
    port = free_port()
    words = ["--normal", "ok", "--clear", "4", "--mqtt", f"127.0.0.1:{port}", "--topic", "motor"]
    with broker(tmp_path, port):
        with listener(port) as heard:
            done = example("vibration_monitor", motor, "-", *words, feed=course())
            wait_until(lambda: ("motor/online", "0") in heard)
        assert states(heard) == [state for state, _ in STATES] == [row["state"] for row in rows(done)]
        assert heard[0] == ("motor/online", "1")
        with listener(port) as kept:
            wait_until(lambda: len(kept) == 2)
        assert states(kept) == ["normal"]


def monitor(motor: Path, port: int) -> subprocess.Popen[bytes]:
    words = [motor, "-", "--normal", "ok", "--mqtt", f"127.0.0.1:{port}", "--topic", "motor"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "vibration_monitor.py"), *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment(),
    )


def test_a_monitor_that_is_killed_leaves_its_last_will(motor: Path, tmp_path: Path) -> None:
    port = free_port()
    with broker(tmp_path, port), listener(port) as heard:
        process = monitor(motor, port)
        wait_until(lambda: ("motor/online", "1") in heard)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: heard[-1] == ("motor/online", "0"))


@pytest.mark.slow
def test_states_are_published_over_tls(motor: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from certificates import SERVER, Authority

    plant = Authority(tmp_path, "plant")
    (cert, key), own = plant.issue("localhost", purpose=SERVER), plant.issue(common=("motor",))
    plain, port = free_port(), free_port()
    more = f"allow_anonymous true\nlistener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\ncafile {plant.path}\nrequire_certificate true"
    words = [motor, "-", "--normal", "ok", "--clear", "4", "--topic", "motor", "--mqtt", f"localhost:{port}"]
    with broker(tmp_path, plain, more), listener(plain) as heard:
        for wrong, code, said in ((key, 2, b"no certificate of a CA"), (own[0], 1, b"CERTIFICATE_VERIFY_FAILED")):
            assert said in example("vibration_monitor", *words, "--mqtt-ca", wrong, code=code).stderr
        tls = ["--mqtt-ca", plant.path, "--mqtt-cert", *own]
        example("vibration_monitor", *words, *tls, feed=course())
        wait_until(lambda: ("motor/online", "0") in heard)
    assert states(heard) == [state for state, _ in STATES]


@pytest.mark.slow
def test_an_alarm_while_the_broker_is_away_arrives_when_it_is_back(motor: Path, tmp_path: Path) -> None:
    port = free_port()
    with broker(tmp_path, port), listener(port) as heard:
        process = monitor(motor, port)
        assert process.stdin is not None
        process.stdin.write(stream(recorded(50, 3)))
        process.stdin.flush()
        wait_until(lambda: states(heard) == ["normal"])
    process.stdin.write(stream(recorded(200, 5)))
    process.stdin.flush()
    time.sleep(1)
    with broker(tmp_path, port), listener(port) as heard:
        wait_until(lambda: "alarm" in states(heard))
        process.stdin.close()
        assert process.wait(30) == 0
        wait_until(lambda: heard[-1] == ("motor/online", "0"))
