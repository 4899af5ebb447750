"""A roll-out against real servers: PostgreSQL, an MQTT broker, and HTTP on the loopback address."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny_c

sqlalchemy = pytest.importorskip("sqlalchemy")

from fleets import DEVICES, SHORT, digest, line, lines, started  # noqa: E402
from servers import free_port, wait_until  # noqa: E402
from test_rollout import finish, history, killed_at_random  # noqa: E402

from edgeticket.errors import EdgeTicketError, UsageError  # noqa: E402
from edgeticket.rollout import controller, hooks, http, intake, service, status  # noqa: E402
from edgeticket.rollout.intake import ingest  # noqa: E402
from edgeticket.rollout.mqtt import Broker, Listener, broker  # noqa: E402
from edgeticket.rollout.plan import Gate, Plan, stages  # noqa: E402
from edgeticket.rollout.store import Store  # noqa: E402

ENDLESS = Plan(stages("100"), {"disagreement": Gate(0.1, 0.5)}, alpha=1e-300)
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:" + ":".join(
    map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))
)


def tool(name: str) -> str:
    found = shutil.which(name, path=PLACES)
    if found is None:
        tiny_c.need(name)
    return str(found)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(words: list[str], end: int = signal.SIGTERM, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, **({"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options))
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait()


# PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a PostgreSQL of our own, without a database name: as root it runs as the user that Debian made for it."""
    initdb, postgres = tool("initdb"), tool("postgres")
    psycopg = pytest.importorskip("psycopg")
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    options: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with tempfile.TemporaryDirectory() as folder:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        quick = ["--no-sync", "--auth=trust", "--username=fleet", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [initdb, "-D", f"{folder}/data", *quick], check=True, stdout=subprocess.DEVNULL, cwd=folder, **options
        )
        port = free_port()
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", folder]
        url = f"postgresql://fleet@127.0.0.1:{port}/"
        command = [postgres, "-D", f"{folder}/data", "-p", str(port), *settings]
        with running(command, signal.SIGINT, cwd=folder, **options) as process:  # at once, whoever is connected

            def ready() -> bool:
                assert process.poll() is None, "PostgreSQL did not start"
                try:
                    psycopg.connect(f"{url}postgres").close()
                except psycopg.OperationalError:
                    return False
                return True

            wait_until(ready)
            yield url


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """URL of a new database."""
    return new_database(server, f"d{abs(hash(request.node.name))}")


def new_database(server: str, name: str) -> str:
    import psycopg

    with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return server + name


def test_postgresql_decides_as_sqlite_does(database: str, tmp_path: Path) -> None:
    for where in (database, str(tmp_path / "fleet.db")):
        finish(started(where))
    assert history(database) == history(str(tmp_path / "fleet.db"))
    assert [action for _, _, action, _ in history(database)] == ["start", "advance", "advance", "advance", "finish"]
    assert status.assignments(Store(database)) == status.assignments(Store(str(tmp_path / "fleet.db")))


def test_postgresql_counts_replays_and_refusals_once(database: str) -> None:
    store = started(database, ENDLESS)
    sent = [line(DEVICES[0], 2), line(DEVICES[0], 1), line(DEVICES[0], 2), b"nonsense", line("stranger")]
    for counted, replayed in [(2, 1), (0, 3)]:
        receipt = ingest(store, sent)
        assert (receipt.counted, receipt.replayed) == (counted, replayed)
    assert status.status(store)["refused"] == {"not-json": 2, "unknown-device": 2}
    assert controller.remove(store, DEVICES[:2]) == 2


def test_postgresql_is_not_asked_for_what_is_no_name(database: str) -> None:
    store = started(database)
    for name in ("a\0b", "a\udcff"):
        with pytest.raises(UsageError, match="no device of this fleet"):
            status.assignment(store, name)


def test_postgresql_loses_nothing_to_many_writers(database: str) -> None:
    started(database, ENDLESS)
    sent = list(lines(20))
    failures: list[BaseException] = []

    def write(part: int) -> None:
        try:
            for _ in range(3):
                ingest(Store(database), sent[part::4] + sent[part::8])
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert status.status(Store(database))["gates"]["disagreement"]["units"] == len(sent)


def test_postgresql_keeps_the_log_as_it_is(database: str) -> None:
    import psycopg

    started(database)
    for table in ("decisions", "hook_runs"):
        for statement in (f"UPDATE {table} SET id = 0", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with (
                psycopg.connect(database) as connection,
                pytest.raises(psycopg.errors.RaiseException, match="append-only"),
            ):
                connection.execute(statement)  # type: ignore[call-overload]
    assert len(status.log(Store(database))) == 1


@pytest.mark.parametrize("table", ["devices (serial text)", "orders (number int)"])
def test_postgresql_of_something_else_is_left_alone(database: str, table: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute(f"CREATE TABLE {table}")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=f"other tables, such as {table.split()[0]}"):
        Store(database, create=True)
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert found == [(1,)]


def test_postgresql_keeps_what_a_hook_says(database: str) -> None:
    store = started(database)
    assert hooks.run_hook(store, r"printf 'a\0b'", 30) == hooks.HookRun(1, 0, "a\0b")
    assert hooks.run_hook(store, "false", 30) is None
    assert status.status(store)["hook"]["output"] == "a?b"


def test_a_postgresql_that_restarts_does_not_end_serve(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections are ended as a restart ends them, for as long as some looks take."""
    import psycopg

    monkeypatch.setattr(service, "LOOK_S", 0.02)
    monkeypatch.setattr(service, "RETRY_S", 0.02)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    store, stopped, told, cut = started(database), threading.Event(), list[dict[str, Any]](), list[Any]()
    served = http.Server(store, ("127.0.0.1", 0))
    hook = service.Hook("true")
    thread = threading.Thread(target=service.serve, args=(store, served, None, hook, stopped, told.append))
    thread.start()
    try:
        wait_until(lambda: status.status(Store(database))["hook"])
        with psycopg.connect(database, autocommit=True) as connection:
            wait_until(lambda: cut.extend(connection.execute(ended)) or len(cut) > 10 or not thread.is_alive())  # type: ignore[func-returns-value]
        wait_until(lambda: call(f"http://127.0.0.1:{served.server_address[1]}/reports", line())[0] == 200)
        controller.revert(Store(database), "fire")
        wait_until(lambda: told or not thread.is_alive())
        assert [each["action"] for each in told] == ["revert"]
    finally:
        stopped.set()
        thread.join()


@pytest.mark.slow
def test_postgresql_when_the_controller_is_killed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CHUNK", 7)
    undisturbed, disturbed = (new_database(server, name) for name in ("undisturbed", "disturbed"))
    for where in (undisturbed, disturbed):
        started(where).close()
    killed_at_random(disturbed, kills=10, rollouts=20)
    killed_at_random(undisturbed, kills=0, rollouts=20)
    assert history(disturbed) == history(undisturbed)


def test_a_database_that_is_not_there(server: str) -> None:
    with pytest.raises(EdgeTicketError, match="does not exist"):
        Store(f"{server}nowhere")
    with pytest.raises(EdgeTicketError) as found:
        Store(f"postgresql://fleet:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(found.value)
    with pytest.raises(UsageError, match="holds no fleet"):
        Store(f"{server}postgres")


# HTTP


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Store, str]]:
    store, stopped = started(str(tmp_path / "fleet.db"), ENDLESS), threading.Event()
    served = http.Server(store, ("127.0.0.1", 0))
    thread = threading.Thread(target=service.serve, args=(store, served, None, None, stopped))
    thread.start()
    yield store, f"http://127.0.0.1:{served.server_address[1]}"
    stopped.set()
    thread.join()


def call(url: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_reports_by_http(web: tuple[Store, str]) -> None:
    _, url = web
    sent = b"\n".join([line(DEVICES[0]), b"nonsense", line(DEVICES[1])])
    expected = {"counted": 2, "other": 0, "replayed": 0, "refused": {"not-json": 1}}
    assert call(f"{url}/reports", sent) == (200, expected)
    assert call(f"{url}/reports", sent) == (200, expected | {"counted": 0, "replayed": 2})
    assert call(f"{url}/reports", b"") == (200, {"counted": 0, "other": 0, "replayed": 0, "refused": {}})
    told = {"device": "press/3", "run": digest(1), "aside": digest(0), "model": digest(1)}
    assert call(f"{url}/devices/press%2F3") == (200, told)
    code, found = call(f"{url}/status")
    assert (code, found["gates"]["disagreement"]["units"]) == (200, 2)


def test_what_http_refuses(web: tuple[Store, str]) -> None:
    store, url = web
    assert call(f"{url}/devices/stranger")[0] == 404
    assert call(f"{url}/elsewhere")[0] == 404
    assert call(f"{url}/elsewhere", b"")[0] == 404
    for head, code in [
        ("POST /reports HTTP/1.1\r\nHost: x\r\n\r\n", b"411"),
        ("POST /reports HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (f"POST /reports HTTP/1.1\r\nContent-Length: {9 << 20}\r\n\r\n", b"413"),
        (f"POST /reports HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n", b"413"),
        ("DELETE /reports HTTP/1.1\r\n\r\n", b"501"),
        ("nonsense\r\n\r\n", b"400"),
    ]:
        assert code in spoken(url, head.encode())
    cut_off = b"POST /reports HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + line()
    assert spoken(url, cut_off) == b""
    assert status.status(store)["gates"]["disagreement"]["units"] == 0


def spoken(url: str, content: bytes) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").read()


def test_many_devices_at_once_by_http(web: tuple[Store, str]) -> None:
    store, url = web
    codes: list[int] = []
    senders = [
        threading.Thread(
            target=lambda device=device: codes.extend(call(f"{url}/reports", line(device, n))[0] for n in range(5))
        )
        for device in DEVICES
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert codes == [200] * 100
    assert status.status(store)["gates"]["disagreement"]["units"] == 100


def test_a_store_that_is_gone_is_said_and_not_lost(web: tuple[Store, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, url = web

    def broken(*_: Any) -> None:
        raise EdgeTicketError("the disk is gone")

    monkeypatch.setattr(http, "ingest", broken)
    code, found = call(f"{url}/reports", line())
    assert (code, found) == (503, {"error": "the store is out of reach: send it again later"})
    monkeypatch.undo()
    assert call(f"{url}/reports", line())[1]["counted"] == 1


def test_who_keeps_quiet_leaves_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http, "CONNECTIONS", 3)
    store, stopped = started(str(tmp_path / "fleet.db"), ENDLESS), threading.Event()
    served = http.Server(store, ("127.0.0.1", 0))
    thread = threading.Thread(target=service.serve, args=(store, served, None, None, stopped))
    thread.start()
    try:
        connected = [socket.create_connection(served.server_address[:2], timeout=10) for _ in range(6)]  # type: ignore[arg-type]
        assert [each.recv(1) for each in connected[3:]] == [b""] * 3
        assert caplog.text.count("3 connections at once") == 1
        for each in connected:
            each.close()
        wait_until(lambda: answered(f"http://127.0.0.1:{served.server_address[1]}/status"))
    finally:
        stopped.set()
        thread.join()


def answered(url: str) -> bool:
    try:
        return call(url)[0] == 200
    except OSError:
        return False


def test_an_address_that_is_taken(web: tuple[Store, str]) -> None:
    store, url = web
    with pytest.raises(EdgeTicketError, match="cannot listen"):
        http.Server(store, service.address(url.removeprefix("http://")))


# MQTT


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    with mosquitto_at(free_port(), tmp_path) as port:
        yield port


@contextmanager
def mosquitto_at(port: int, folder: Path) -> Iterator[int]:
    pytest.importorskip("paho")
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    with running([tool("mosquitto"), "-c", str(folder / "mosquitto.conf")]):
        wait_until(lambda: answers(port))
        yield port


@contextmanager
def listening(store: Store, port: int) -> Iterator[Listener]:
    stopped, failures = threading.Event(), []
    listener = Listener(store, broker(f"mqtt://127.0.0.1:{port}/fleet/reports/+"), None)

    def work() -> None:
        try:
            service.serve(store, None, listener, None, stopped)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert listener.ready.wait(30)
        yield listener
    finally:
        stopped.set()
        thread.join()
    assert failures == []


def publish(port: int, payloads: list[bytes]) -> None:
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for payload in payloads:
        client.publish("fleet/reports/press", payload, qos=1).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def units(store: Store, gate: str = "disagreement") -> int:
    return int(status.status(store)["gates"][gate]["units"])


def test_reports_by_mqtt(mosquitto: int, tmp_path: Path) -> None:
    store = started(str(tmp_path / "fleet.db"), ENDLESS)
    sent = list(lines(3))
    with listening(store, mosquitto):
        publish(mosquitto, [*sent, b"nonsense", b"", b"\n".join(sent), b"\xff" * 9000])
        wait_until(lambda: units(store) == 60 and len(status.status(store)["refused"]) == 2)
    assert status.status(store)["refused"] == {"not-json": 1, "too-long": 1}


def test_the_broker_keeps_what_comes_while_nobody_listens(mosquitto: int, tmp_path: Path) -> None:
    store = started(str(tmp_path / "fleet.db"), ENDLESS)
    with listening(store, mosquitto):
        publish(mosquitto, list(lines(1)))
        wait_until(lambda: units(store) == 20)
    publish(mosquitto, list(lines(1, first=2)))
    assert units(store) == 20
    with listening(store, mosquitto):
        wait_until(lambda: units(store) == 40)


def test_a_store_that_fails_leaves_the_messages_with_the_broker(
    mosquitto: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeticket.rollout import mqtt

    monkeypatch.setattr(mqtt, "RETRY_S", 0.1)
    store, tried = started(str(tmp_path / "fleet.db"), ENDLESS), threading.Event()

    def broken(*_: Any) -> Any:
        tried.set()
        raise EdgeTicketError("the disk is full")

    monkeypatch.setattr(mqtt, "ingest_sent", broken)
    with listening(store, mosquitto):
        publish(mosquitto, list(lines(2)))
        assert tried.wait(30)
        assert units(store) == 0
        monkeypatch.setattr(mqtt, "ingest_sent", intake.ingest_sent)
        wait_until(lambda: units(store) == 40)


def test_a_message_that_cannot_be_taken_ends_nothing(
    mosquitto: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeticket.rollout import mqtt

    store, tried = started(str(tmp_path / "fleet.db"), ENDLESS), list[list[bytes]]()

    def fragile(where: Store, sent: Any) -> Any:
        tried.append([content for content, _ in sent])
        if b"poison" in tried[-1]:
            raise OverflowError
        return intake.ingest(where, tried[-1])

    monkeypatch.setattr(mqtt, "ingest_sent", fragile)
    for _ in range(2):
        with listening(store, mosquitto):
            publish(mosquitto, [*lines(1), b"poison", *lines(1, first=2)])
            wait_until(lambda: units(store) == 40 and sum(map(len, tried)) >= 41)
        assert [b"poison"] in tried
        tried.clear()
    with listening(store, mosquitto):
        publish(mosquitto, [line(DEVICES[0], 3)])
        wait_until(lambda: units(store) == 41)
    assert b"poison" not in b"".join(map(b"".join, tried))


def test_a_broker_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeticket.rollout import mqtt

    monkeypatch.setattr(mqtt, "RETRY_S", 0.1)
    store, port = started(str(tmp_path / "fleet.db"), ENDLESS), free_port()
    with ExitStack() as stack:
        with mosquitto_at(port, tmp_path):
            listener = stack.enter_context(listening(store, port))
            listener.ready.clear()
        with mosquitto_at(port, tmp_path):
            assert listener.ready.wait(30)
            publish(port, list(lines(1)))
            wait_until(lambda: units(store) == 20)
            stack.close()


def test_brokers_that_are_none(tmp_path: Path) -> None:
    for url in ("http://a/b", "mqtt://a", "mqtt:///b", "mqtt://a:x/b", "mqtt://u:p@a/b", "mqtt://a:70000/b"):
        with pytest.raises(UsageError):
            broker(url)
    for url in ("mqtt://a/fleet/#", "mqtt://a/fleet?x", "mqtt://a/fleet/{device}#"):
        with pytest.raises(UsageError, match="%23"):
            broker(url)
    assert broker("mqtts://me@plant.example/a/b%23") == Broker("plant.example", 8883, "a/b#", "me", True)
    assert broker("mqtt://me%40plant@a/b").user == "me@plant"
    with pytest.raises(EdgeTicketError, match="no MQTT broker"):
        Listener(started(str(tmp_path / "fleet.db")), broker(f"mqtt://127.0.0.1:{free_port()}/x"), None)


# The whole program


def test_serve_takes_reports_decides_and_calls_the_hook(tmp_path: Path, mosquitto: int) -> None:
    where, port, out = str(tmp_path / "fleet.db"), free_port(), tmp_path / "orders"
    started(where, SHORT).close()
    words = [
        "serve",
        where,
        "--format",
        "json",
        "--http",
        f"127.0.0.1:{port}",
        "--mqtt",
        f"mqtt://127.0.0.1:{mosquitto}/fleet/reports/+",
    ]
    hook = f"sh -c 'cat >> {out}; echo >> {out}'"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "edgeticket", "rollout", *words, "--hook", hook]
    told = tmp_path / "told"
    with told.open("wb") as stdout, running(command, env=environment, stdout=stdout) as process:
        wait_until(lambda: answers(port), 60)
        wait_until(lambda: out.exists() and out.read_text().count("\n") >= 1)
        for first in range(1, 20):
            body = b"\n".join(lines(1, first=first))
            if first % 2:
                assert call(f"http://127.0.0.1:{port}/reports", body)[0] == 200
            else:
                publish(mosquitto, [body])
        wait_until(lambda: call(f"http://127.0.0.1:{port}/status")[1]["state"] == "done")
        wait_until(lambda: '"finish"' in out.read_text())
        process.terminate()
        assert process.wait(30) == 0
    first, *since = [each | {"hook": []} for each in status.log(Store(where))]
    assert first["action"] == "start"
    assert [json.loads(each) | {"hook": []} for each in told.read_text().splitlines()] == since
    last = json.loads(out.read_text().splitlines()[-1])
    assert last["orders"] == [{"run": digest(1), "aside": None, "devices": sorted(DEVICES)}]


# The hooks of docs/rollout.md


class Recorder(BaseHTTPRequestHandler):
    """Stands for an updater: keeps what it is asked, and answers POST with `server.code`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))  # type: ignore[attr-defined]
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def updater() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.asked, server.code = [], 201
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def documented(name: str, folder: Path) -> Path:
    """A program of docs/rollout.md, written to a file."""
    text = (Path(__file__).parent.parent / "docs" / "rollout.md").read_text()
    (program,) = re.findall(rf"```python\n(# {name}\n.*?)```", text, re.DOTALL)
    (folder / name).write_text(program)
    return folder / name


def shadowed(tmp_path: Path) -> tuple[Store, Path]:
    """A roll-out in shadow, and a table of what the updater calls each state."""
    new, old = digest(1), digest(0)
    table = tmp_path / "table.json"
    table.write_text(json.dumps({old: "16", f"{old}+{new}": "17", f"{new}+{old}": "18", new: "19"}))
    return started(str(tmp_path / "fleet.db")), table


def test_the_hawkbit_hook(tmp_path: Path, updater: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, table = shadowed(tmp_path)
    monkeypatch.setenv("HAWKBIT_URL", updater.url)
    monkeypatch.setenv("HAWKBIT_LOGIN", "me:pass")
    command = f"{sys.executable} {documented('hawkbit.py', tmp_path)} {table}"
    run = hooks.run_hook(store, command, 30)
    assert run is not None
    assert run.code == 0, run.output
    sent = {path: {target["id"] for target in body} for path, _, body in updater.asked}
    aside = {each["device"] for each in status.assignments(store) if each["aside"]}
    place = "/rest/v1/distributionsets/{}/assignedTargets"
    assert sent == {place.format(17): aside, place.format(16): set(DEVICES) - aside}
    assert {login for _, login, _ in updater.asked} == {"Basic bWU6cGFzcw=="}
    finish(store)
    updater.code = 500
    run = hooks.run_hook(store, command, 30)
    assert run is not None
    assert run.code != 0


def test_the_mender_hook(tmp_path: Path, updater: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, table = shadowed(tmp_path)
    monkeypatch.setenv("MENDER_URL", updater.url)
    monkeypatch.setenv("MENDER_TOKEN", "t0ken")
    command = f"{sys.executable} {documented('mender.py', tmp_path)} {table}"
    updater.code = 409
    run = hooks.run_hook(store, command, 30)
    assert run is not None
    assert run.code == 0, run.output
    assert {(path, login) for path, login, _ in updater.asked} == {
        ("/api/management/v1/deployments/deployments", "Bearer t0ken")
    }
    assert {body["artifact_name"]: len(body["devices"]) for _, _, body in updater.asked} == {"16": 10, "17": 10}
    finish(store)
    updater.code = 401
    run = hooks.run_hook(store, command, 30)
    assert run is not None
    assert run.code != 0


def test_the_rauc_program_of_a_device(web: tuple[Store, str], tmp_path: Path) -> None:
    _, url = web
    out, installed = tmp_path / "out", tmp_path / "installed"
    (tmp_path / "rauc").write_text(f'#!/bin/sh\necho "$@" >> {out}\ntest ! -e {tmp_path}/broken\n')
    (tmp_path / "rauc").chmod(0o755)
    own = {"DEVICE": DEVICES[3], "ROLLOUT_URL": url, "FILES_URL": "https://files", "INSTALLED": str(installed)}
    environment = os.environ | own | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [sys.executable, str(documented("rauc_device.py", tmp_path))]
    (tmp_path / "broken").touch()
    assert subprocess.run(words, env=environment, stderr=subprocess.DEVNULL, check=False).returncode != 0
    assert not installed.exists()
    (tmp_path / "broken").unlink()
    for _ in range(2):
        subprocess.run(words, env=environment, check=True)
    assert out.read_text() == f"install https://files/{digest(1)}+{digest(0)}.raucb\n" * 2
