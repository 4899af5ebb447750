"""examples/gateway.py as its users run it: alone, against a server that misbehaves, and a fleet of it under the real roll-out."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fleet_bundles
import numpy as np
import pytest
from fleet_bundles import Made
from servers import free_port, wait_until

from edgeticket.errors import EdgeTicketError
from edgeticket.order import Order
from edgeticket.rollout.reports import parse
from edgeticket.runtime import Predictor

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "examples" / "gateway.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
QUICK = ["--report-s", "0.2", "--period-ms", "5", "--loop"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    found = fleet_bundles.make(tmp_path_factory.mktemp("bundles"))
    (found.folder / "key.pub").write_bytes(found.key)
    np.savez(found.folder / "frames.npz", x=found.frames)
    return found


class Gateway:
    """A process of it, with `devices`, that begins with the bundle `old`."""

    def __init__(self, made: Made, url: str, folder: Path, *devices: str, more: list[str] = QUICK) -> None:
        folder.mkdir(exist_ok=True)
        self.out, self.err, self.state = folder / "out", folder / "err", folder / "state"
        frames = [f"{device}={made.folder / 'frames.npz'}" for device in devices]
        places = ["--bundles", made.folder, "--state", self.state, "--key", made.folder / "key.pub"]
        words = [sys.executable, PROGRAM, url, *frames, *places, "--run", made.digests["old"], *more]
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=err, env=ENVIRONMENT)

    def rows(self, last: int = 1 << 40) -> list[dict[str, Any]]:
        """Of its output, or of the whole lines in so many of its last bytes."""
        with self.out.open("rb") as file:
            begin = max(0, file.seek(0, os.SEEK_END) - last)
            file.seek(begin)
            first, *lines = file.read().split(b"\n")
        return [json.loads(line) for line in ([] if begin else [first]) + lines[:-1]] if lines else []

    def made(self) -> list[bytes]:
        """The lines of all reports, by the log."""
        return [line.partition(b" report ")[2] for line in self.err.read_bytes().splitlines() if b" report {" in line]

    def ended(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def gateway(*arguments: Any, **options: Any) -> Iterator[Gateway]:
    own = Gateway(*arguments, **options)
    try:
        yield own
    finally:
        own.process.kill()
        own.process.wait()
        sys.stdout.write(own.err.read_text()[-3000:])


class Fake(ThreadingHTTPServer):
    """A server that answers as it is told to: `order` and `receipt` are what a gateway gets, or a function of the handler."""

    daemon_threads = True
    order: Any = None
    elsewhere, drained = 0, False
    receipt: Any = {"counted": 0, "other": 0, "replayed": 0, "refused": {}}  # noqa: RUF012

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), FakeHandler)
        self.posts: list[bytes] = []
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class FakeHandler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.answer(self.server.order)

    def do_POST(self) -> None:
        self.server.posts.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(self.server.receipt)

    def answer(self, found: Any) -> None:
        if callable(found):
            return found(self)
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def fake(port: int = 0) -> Iterator[Fake]:
    served = Fake(port)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def told(run: str, aside: str | None = None, model: str | None = None) -> dict[str, str | None]:
    return {"device": "line-7", "run": run, "aside": aside, "model": model or run}


# alone


def test_without_a_server_frames_are_judged_and_reports_kept(made: Made, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for _ in range(2):
        with gateway(made, nowhere, tmp_path, "line-7", "press/8", more=["--deadline-ms", "1e9"]) as own:
            assert own.process.wait(30) == 0
    predictor, count = Predictor(made.path("old")), len(made.frames)
    right = [predictor.predict(frame).label for frame in made.frames]
    for device, name in (("line-7", "line-7"), ("press/8", "press%2F8")):
        found = [row for row in own.rows() if row["device"] == device]
        assert [row["label"] for row in found] == right * 2
        assert [row["frame"] for row in found[:count]] == [str(i) for i in range(count)]
        assert {row["model"] for row in found} == {made.digests["old"]}
        lines = json.loads((own.state / f"{name}.reports").read_bytes())["waiting"]
        reports = [parse(line.encode()) for line in lines]
        assert [(each.device, each.sequence) for each in reports] == [(device, 0), (device, 1)]
        assert {(each.inferences, each.guard_alarms, each.misses, each.self_test) for each in reports} == {
            (count, 0, 0, "ok")
        }
        assert {(each.model, each.disagreements) for each in reports} == {(made.digests["old"], None)}
    assert "Connection refused" in own.err.read_text()


def module() -> Any:
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        spec = importlib.util.spec_from_file_location("gateway", PROGRAM)
        assert spec
        assert spec.loader
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found
    finally:
        sys.path.remove(str(PROGRAM.parent))


def test_what_a_gateway_refuses(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, frames = ["--bundles", str(made.folder), "--state", str(tmp_path)], f"a={made.folder / 'frames.npz'}"
    for said, words in {
        "write http://HOST:PORT": ["https://x", frames],
        "write http://HOST:PORT or": ["http://x/y", frames],
        "64 digits": ["http://x", frames, "--run", "../x"],
        "each device once": ["http://x", frames, frames],
        "DEVICE=FRAMES, each": ["http://x", "frames.npz"],
    }.items():
        with pytest.raises(SystemExit, match="2"):
            module().parse([*words, *folders])
        assert said.removesuffix(" or") in capsys.readouterr().err
    (tmp_path / "a.reports").write_bytes(b"{}")
    for said, words in {"damaged: remove it": [], "absent.pub": ["--key", "absent.pub"]}.items():
        command = [sys.executable, str(PROGRAM), "http://x", frames, *folders, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        assert said in done.stderr
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_sigterm_saves_the_last_report_and_a_second_one_on_the_same_state_is_refused(
    made: Made, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with gateway(
        made, nowhere, tmp_path, "line-7", more=["--loop", "--report-s", "1e9", "--report-frames", "1000000"]
    ) as own:
        wait_until(lambda: len(own.rows()) > 20)
        assert [path.name for path in tmp_path.glob("**/.*")] == [".gateway.lock"]
        assert (own.state / ".gateway.lock").exists()
        with gateway(made, nowhere, tmp_path, "line-7") as second:
            assert second.process.wait(30) == 2
        assert "another run is at work" in own.err.read_text()
        assert own.ended() == 0
        (line,) = json.loads((own.state / "line-7.reports").read_bytes())["waiting"]
        assert parse(line.encode()).inferences == len(own.rows())


def test_pauses_grow_to_a_limit_and_differ() -> None:
    pause = module().pause
    assert pause(0) == 0
    for failures, most in ((1, 2), (2, 4), (5, 32), (20, 300), (5000, 300)):
        found = [pause(failures) for _ in range(200)]
        assert most / 2 <= min(found) < 0.6 * most < 0.9 * most < max(found) <= most


# a server


@pytest.mark.slow
def test_orders_are_obeyed_between_frames_and_reports_are_of_what_they_name(made: Made, tmp_path: Path) -> None:
    digests = made.digests
    old, new = digests["old"], digests["swapped"]
    with fake() as server:
        server.order = told(old)
        with gateway(made, server.url, tmp_path, "line-7") as own:
            for order, answers in (
                (told(old, new, new), old),
                (told(new, old, new), new),
                (told(old), old),
                (told(digests["broken"], old, digests["broken"]), old),
                (told("f" * 64, old, "f" * 64), old),
            ):
                server.order, known = order, len(own.made())
                wait_until(lambda: len(own.made()) > known + 2)  # noqa: B023
                assert own.rows()[-1]["model"] == answers
            assert own.ended() == 0
        assert set(server.asked) == {"/devices/line-7"}
    sent = [parse(line) for post in server.posts for line in post.splitlines()]
    assert [each.sequence for each in sent] == list(range(len(sent)))
    assert [each.sequence for each in map(parse, own.made())] == list(range(len(sent)))
    assert sum(each.inferences for each in sent if each.model != digests["broken"]) <= len(own.rows())
    assert all(each.disagreements in (None, each.inferences) for each in sent)
    compared = [each for each in sent if each.model == new]
    assert all(each.disagreements for each in compared)
    assert {each.self_test for each in sent if each.model == digests["broken"]} == {"failed"}
    assert {each.model for each in sent} == {old, new, digests["broken"]}
    assert {row["status"] for row in own.rows()} <= {"ok", "drift", "unfamiliar"}
    assert json.loads((own.state / "line-7.order").read_bytes())["run"] == "f" * 64


@pytest.mark.slow
def test_while_the_server_is_away_reports_are_kept_and_then_sent_as_they_were(made: Made, tmp_path: Path) -> None:
    port = free_port()
    with gateway(made, f"http://127.0.0.1:{port}", tmp_path, "line-7") as own:
        wait_until(lambda: len(own.made()) >= 5)
        with fake(port) as server:
            server.order = told(made.digests["old"])
            server.receipt = busy
            wait_until(lambda: server.posts)
            server.receipt = Fake.receipt
            wait_until(lambda: len(server.posts) >= 3)
            assert own.ended() == 0
    first, *rest = server.posts
    assert rest[0].startswith(first)
    assert b"\n".join(rest).splitlines() == own.made()
    assert json.loads((own.state / "line-7.reports").read_bytes())["waiting"] == []


def test_the_lines_of_the_page_run(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(from pathlib.*?)```", (ROOT / "docs" / "rollout.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 20
    (tmp_path / "bundles").symlink_to(made.folder)
    (tmp_path / "maker.pub").write_bytes(made.key)
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    old, new, broken = (made.digests[name] for name in ("old", "swapped", "broken"))
    orders = iter([told(old), told(old, new, new), told(new, old, new), told(broken, old, broken)])
    answers, sent = [], []
    given = {
        "get": lambda path: next(orders),
        "post": lambda path, body: sent.append(body),
        "camera": lambda frames: made.frames[:10],
        "use": answers.append,
    }
    with pytest.raises(StopIteration):
        exec(code, given)  # noqa: S102
    right = [Predictor(made.path(name)).predict(made.frames[9]).label for name in ("old", "old", "swapped", "old")]
    assert [found.label for found in answers[9::10]] == right
    reports = [parse(body) for body in sent]
    assert [each.model for each in reports] == [old, new, new, broken]
    found = [(each.sequence, each.inferences, each.disagreements, each.self_test) for each in reports]
    assert found == [(0, 10, None, "ok"), (1, 10, 10, "ok"), (2, 10, 10, "ok"), (3, 0, None, "failed")]


def test_a_new_order_ends_a_report_and_a_restart_remembers_it(made: Made, tmp_path: Path) -> None:
    words = [
        "http://x",
        f"line-7={made.folder / 'frames.npz'}",
        "--bundles",
        str(made.folder),
        "--state",
        str(tmp_path),
    ]
    options = module().parse([*words, "--run", made.digests["old"]])
    old, new = made.digests["old"], made.digests["swapped"]
    own, label = module().Sensor("line-7", made.folder / "frames.npz", options), {}
    for order in (None, Order(old, new, new), Order(new, old, new), Order(old, None, old)):
        own.obey(order) if order else own.resume()
        label[order] = [own.judge(frame)["label"] for frame in made.frames[:5]][-1]
    again = module().Sensor("line-7", made.folder / "frames.npz", module().parse(words))
    assert again.judge(made.frames[0]) == {"label": None, "score": None, "status": "no model", "model": None}
    again.resume()
    assert again.judge(None) == {"label": None, "score": None, "status": "unreadable", "model": old}
    assert again.judge(made.frames[0])["model"] == old
    own.end()
    reports = [parse(line) for line in own.outbox.waiting()]
    assert [(each.model, each.inferences, each.disagreements) for each in reports] == [
        (old, 5, None), (new, 5, 5), (new, 5, 5), (old, 5, None)
    ]  # fmt: skip
    right, swapped = (Predictor(made.path(name)).predict(made.frames[4]).label for name in ("old", "swapped"))
    assert list(label.values()) == [right, right, swapped, right]


def redirect(handler: FakeHandler) -> None:
    """With a body that would do."""
    handler.send_response(307)
    handler.send_header("Location", f"http://127.0.0.1:{handler.server.elsewhere}{handler.path}")
    handler.end_headers()
    handler.wfile.write(json.dumps(told("a" * 64) | Fake.receipt).encode())


def endless(handler: FakeHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        handler.wfile.write(b"[" * (1 << 24))
        handler.server.drained = True


def cut(handler: FakeHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()


def nonsense(handler: FakeHandler) -> None:
    handler.wfile.write(b"\xff\r\n\r\n")


def busy(handler: FakeHandler) -> None:
    handler.send_error(503)


def test_nothing_but_a_receipt_is_one_and_nothing_but_an_order(made: Made) -> None:
    with fake() as elsewhere, fake() as server:
        server.elsewhere = elsewhere.server_address[1]
        own = module().Server(server.url.removeprefix("http://"))
        server.order = told(made.digests["old"])
        own.send([b"a", b"b"])
        assert own.order("press/8").run == made.digests["old"]
        assert (server.posts, server.asked) == ([b"a\nb"], ["/devices/press%2F8"])
        for wrong in (redirect, endless, cut, nonsense, busy, [1], {}, None, told("../" + "a" * 61), {"counted": 1}):
            server.order = server.receipt = wrong
            for call in (lambda: own.send([b"a"]), lambda: own.order("line-7")):
                before = len(server.posts) + len(server.asked)
                assert not module().attempt(call)
                assert len(server.posts) + len(server.asked) == before + 1
        assert elsewhere.asked == elsewhere.posts == []
        with pytest.raises(EdgeTicketError, match="no receipt of"):
            own.send([b"a"])
    assert not server.drained


@pytest.mark.slow
def test_with_a_server_that_talks_nonsense_the_line_goes_on(made: Made, tmp_path: Path) -> None:
    with fake() as server:
        server.order = server.receipt = endless
        with gateway(made, server.url, tmp_path, "line-7") as own:
            wait_until(lambda: len(server.posts) > 1 and len(own.made()) > 2)
            assert own.ended() == 0
    assert {row["model"] for row in own.rows()} == {made.digests["old"]}
    assert "the line goes on" in own.err.read_text()
    kept = json.loads((own.state / "line-7.reports").read_bytes())["waiting"]
    assert [line.encode() for line in kept] == own.made()


# a fleet


STAGED = [
    "--gate",
    "disagreement=5%:60%",
    "--gate",
    "self_test=5%:60%",
    "--gate",
    "guard=10%:60%",
    "--gate",
    "latency=20%:70%",
]
DEVICES = [f"line-{i}" for i in range(20)]


class Fleet:
    """A roll-out server of its own process, and four gateways with five devices each."""

    def __init__(self, made: Made, folder: Path) -> None:
        self.made, self.folder, self.port = made, folder, free_port()
        self.database, self.stack = str(folder / "fleet.db"), ExitStack()
        self.edgeticket("devices", "--add", "-", feed="\n".join(DEVICES))
        self.server: subprocess.Popen[bytes] | None = None
        self.gateways: dict[int, Gateway] = {}
        self.left: list[bytes] = []

    def edgeticket(self, *words: str, feed: str = "") -> list[Any]:
        name, *rest = words
        command = [sys.executable, "-m", "edgeticket", "rollout", name, self.database, *rest, "--format", "json"]
        done = subprocess.run(command, input=feed, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def serve(self) -> None:
        command = [
            sys.executable,
            "-m",
            "edgeticket",
            "rollout",
            "serve",
            self.database,
            "--http",
            f"127.0.0.1:{self.port}",
        ]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
        assert self.server.stderr
        assert b"listening at" in self.server.stderr.readline()

    def kill(self) -> None:
        if self.server and self.server.stderr:
            self.server.kill()
            self.server.wait()
            self.server.stderr.close()

    def kill_gateway(self, i: int) -> None:
        """And start it again. What it had not sent may be missing from its log."""
        own = self.gateways[i]
        assert own.ended(signal.SIGKILL) == -signal.SIGKILL
        for path in own.state.glob("*.reports"):
            self.left += [line.encode() for line in json.loads(path.read_bytes())["waiting"]]
        size = own.out.stat().st_size
        self.start(i)
        wait_until(lambda: own.out.stat().st_size > size)

    def start(self, *numbers: int) -> None:
        more = ["--report-s", "0.3", "--period-ms", "50", "--deadline-ms", "1000", "--loop"]
        for i in numbers:
            own = gateway(
                self.made, f"http://127.0.0.1:{self.port}", self.folder / f"{i}", *DEVICES[5 * i : 5 * i + 5], more=more
            )
            self.gateways[i] = self.stack.enter_context(own)

    def new(self, name: str, *plan: str) -> None:
        old = ["--previous", str(self.made.path("old"))] if name == "equal" else []
        self.edgeticket("new", name, "--model", str(self.made.path(name)), *old, *STAGED, *plan)

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=30) as answer:
            return dict(json.load(answer))

    def ends(self, state: str) -> dict[str, Any]:
        """The decision that the roll-out ends with."""
        wait_until(lambda: time.sleep(0.1) or self.status()["state"] == state, 60)
        return dict(self.edgeticket("log")[-1])

    def answer_by(self, name: str) -> None:
        """Until every device does."""
        wait_until(lambda: time.sleep(0.1) or self.latest() == dict.fromkeys(DEVICES, self.made.digests[name]))

    def latest(self) -> dict[str, str]:
        """By device, the digest of the model that answered last."""
        return {row["device"]: row["model"] for own in self.gateways.values() for row in own.rows(4096)}

    def got(self, name: str) -> set[str]:
        """Devices where a model ever answered."""
        rows = [row for own in self.gateways.values() for row in own.rows()]
        return {row["device"] for row in rows if row["model"] == self.made.digests[name]}

    def reports(self, name: str) -> list[Any]:
        made = {*self.left, *(line for own in self.gateways.values() for line in own.made())}
        found = [parse(line) for line in made]
        assert len({(each.device, each.sequence) for each in found}) == len(found)
        return [each for each in found if each.model == self.made.digests[name]]


@pytest.fixture
def fleet(made: Made, tmp_path: Path) -> Iterator[Fleet]:
    pytest.importorskip("sqlalchemy")
    own = Fleet(made, tmp_path)
    with own.stack:
        try:
            yield own
        finally:
            own.kill()


@pytest.mark.slow
def test_a_fleet_takes_an_equal_model_refuses_others_and_loses_no_report(fleet: Fleet) -> None:
    fleet.serve()
    fleet.new("equal", "--stages", "shadow:20,20,100", "--quorum", "1")
    fleet.start(0, 1, 2, 3)
    an_equal_model_gets_through_all_stages(fleet)
    one_that_disagrees_is_taken_back(fleet)
    one_that_fails_its_golden_vectors_never_answers(fleet)
    no_report_is_lost_or_counted_twice_whoever_is_killed(fleet)


def an_equal_model_gets_through_all_stages(fleet: Fleet) -> None:
    assert fleet.ends("done")["why"] == "every gate of the last stage passed"
    assert [each["action"] for each in fleet.edgeticket("log")] == ["start", "advance", "advance", "finish"]
    fleet.answer_by("equal")
    found = fleet.reports("equal")
    assert {each.device for each in found} == set(DEVICES)
    assert sum(each.disagreements or 0 for each in found) == 0 < sum(each.inferences for each in found)
    assert {each.self_test for each in found} == {"ok"}


def one_that_disagrees_is_taken_back(fleet: Fleet) -> None:
    fleet.new("swapped", "--stages", "20,100")
    found = fleet.ends("reverted")
    gate = found["numbers"]["gates"]["disagreement"]
    assert found["why"] == "stopped by disagreement"
    assert gate["stopped"]
    assert gate["failures"] == gate["units"] > 0
    fleet.answer_by("equal")
    got = fleet.got("swapped")
    assert 0 < len(got) <= found["numbers"]["members"] == 4
    assert {each.device for each in fleet.reports("swapped")} <= got
    assert all(each.disagreements == each.inferences for each in fleet.reports("swapped"))


def one_that_fails_its_golden_vectors_never_answers(fleet: Fleet) -> None:
    fleet.new("broken", "--stages", "shadow:20,100")
    found = fleet.ends("reverted")
    assert found["why"] == "stopped by self_test"
    assert found["numbers"]["gates"]["self_test"]["failures"] == found["numbers"]["gates"]["self_test"]["units"]
    fleet.answer_by("equal")
    assert fleet.got("broken") == set()
    assert {(each.self_test, each.inferences) for each in fleet.reports("broken")} == {("failed", 0)}


def no_report_is_lost_or_counted_twice_whoever_is_killed(fleet: Fleet) -> None:
    """One device is silent, so that the stage does not end; one gate counts inferences and the others reports."""
    fleet.edgeticket("devices", "--add", "-", feed="silent")
    fleet.new("again", "--stages", "100", "--quorum", "1", "--gate", "guard=10%:60%,unit=inference")
    for pause in (1.0, 0.4):
        time.sleep(pause)
        fleet.kill()
        fleet.kill_gateway(0)
        fleet.serve()
        time.sleep(pause)
        fleet.kill_gateway(0)
    fleet.answer_by("again")
    assert [own.ended() for own in fleet.gateways.values()] == [0] * 4
    found, made = fleet.status(), fleet.reports("again")
    assert found["state"] == "running"
    assert found["silent"] == 1
    assert found["gates"]["self_test"]["units"] == len(made)
    assert found["gates"]["guard"]["units"] == sum(each.inferences for each in made)
    assert found["refused"] == {}
    for own in fleet.gateways.values():
        assert all(json.loads(path.read_bytes())["waiting"] == [] for path in own.state.glob("*.reports"))
