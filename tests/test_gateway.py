"""examples/gateway.py as its users run it: alone, and against a server that misbehaves."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fleet_bundles
import numpy as np
import pytest
from fleet_bundles import Made
from gateways import ENVIRONMENT, PROGRAM, ROOT, bundles, gateway, module
from servers import free_port, wait_until

import edgeticket.order
from edgeticket.errors import EdgeTicketError
from edgeticket.order import Order
from edgeticket.rollout.reports import parse
from edgeticket.runtime import Predictor
from edgeticket.signing import new_key
from edgeticket.tls import Tls


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return bundles(tmp_path_factory.mktemp("bundles"))


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


def test_what_a_gateway_refuses(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, frames = ["--bundles", str(made.folder), "--state", str(tmp_path)], f"a={made.folder / 'frames.npz'}"
    for said, words in {
        "write http://HOST:PORT": ["ftp://x", frames],
        "are for https://": ["http://x", frames, "--ca", "ca.pem"],
        "64 digits": ["http://x", frames, "--run", "../x"],
        "--ca: name": ["https://x", frames, "--ca", ""],
        "number above 0": ["http://x", frames, "--report-frames", "0"],
        "above 0": ["http://x", frames, "--report-s", "-5"],
        "each device once": ["http://x", frames, frames],
        "DEVICE=FRAMES, each": ["http://x", "frames.npz"],
    }.items():
        with pytest.raises(SystemExit, match="2"):
            module().parse([*words, *folders])
        assert said in capsys.readouterr().err
    for url in ("https://x/y", "http://h:abc", "http://h:0", "http://h:65536", "http://u:p@h", "http://u@h", "http://[::1", "http://a b", "http://h?x", "http://h#x", "http://"):  # fmt: skip
        with pytest.raises(SystemExit, match="2"):
            module().parse([url, frames, *folders])
        assert f"{url}: write http://HOST:PORT" in capsys.readouterr().err
    for url in ("https://h", "http://h:8570/", "http://[::1]:8570"):
        assert module().parse([url, frames, *folders]).server == url
    (tmp_path / "a.reports").write_bytes(b"{}")
    (tmp_path / "mine.key").write_bytes(new_key()[0])
    for said, words, code in (
        ("damaged: remove it", [], 1),
        ("absent.pub", ["--key", "absent.pub"], 2),
        ("mine.key: not a public key", ["--key", str(tmp_path / "mine.key")], 2),
        ("--period-ms: invalid number", ["--period-ms", "nan"], 2),
        ("absent.pem: no certificate of a CA", ["--ca", "absent.pem"], 2),
    ):
        command = [sys.executable, str(PROGRAM), "https://x", frames, *folders, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        assert said in done.stderr
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_frames_of_which_there_are_none_do_not_begin_again(made: Made, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    words = ["http://x", f"a={tmp_path / 'frames'}", "--bundles", made.folder, "--state", tmp_path, "--loop"]
    done = subprocess.run(
        [sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )
    assert f"{tmp_path / 'frames'}: no frames in it" in done.stderr
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


SIGNALLED = """import itertools, signal, types, gateway
sensor = types.SimpleNamespace(name="a", frames=itertools.repeat(("0", None)), judge=lambda _: {})
def run(server, sensors, options, signals):
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    gateway.judge([sensor], 0, signals)
gateway.run, gateway.signal.SIGTERM = run, signal.SIGALRM
for _ in range(100):
    assert gateway.main(["http://x", "a=frames", "--bundles", ".", "--state", "."]) == 0
"""


def test_a_signal_ends_it_at_whatever_moment_it_comes(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{PROGRAM.parent}:{ROOT}"}
    command, quiet = [sys.executable, "-c", SIGNALLED], subprocess.DEVNULL
    subprocess.run(command, cwd=tmp_path, stdout=quiet, timeout=60, check=True, env=environment)


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
    assert (given["bundles"].models.keys(), given["bundles"].refused.keys()) == ({old}, {broken})  # no other is kept
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


class Later(date):
    @classmethod
    def today(cls) -> "Later":
        return cls(3000, 1, 1)


def test_an_expired_bundle_in_use_goes_on_by_the_order_kept_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, state, frames = fleet_bundles.make(tmp_path, "2999-12-31"), tmp_path / "state", tmp_path / "frames.npz"
    state.mkdir()
    np.savez(frames, x=made.frames[:1])
    old, new = made.digests["old"], made.digests["equal"]
    words = ["http://x", f"line-7={frames}", "--bundles", str(tmp_path), "--state", str(state)]
    options = module().parse(words)
    module().Sensor("line-7", frames, options).obey(Order(old, None, old))
    (state / f"{old}.accepted").unlink()
    monkeypatch.setattr(edgeticket.order, "date", Later)
    for told in (Order(old, new, new), Order(new, old, new), Order(old, None, old)):
        own = module().Sensor("line-7", frames, options)  # a restart
        own.resume()
        own.obey(told)
        assert own.choice.answers == old
        assert own.bundles.refused.keys() == told.digests - {old}
        (state / f"{old}.accepted").unlink()
    earlier = {"run": new, "aside": None, "model": new}  # of a version that noted nothing and asked for no day
    (state / "line-7.order").write_text(json.dumps(earlier))
    own = module().Sensor("line-7", frames, options)
    own.resume()
    assert own.choice.answers == new


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
        own = module().Server(server.url, Tls())
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
