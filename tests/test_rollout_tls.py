"""Who may report, by certificate: HTTPS and MQTT over TLS as devices meet them, with the server in a process of its own."""

import http.client
import ipaddress
import json
import os
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

pytest.importorskip("sqlalchemy")
x509 = pytest.importorskip("cryptography.x509")

from certificates import SERVER, Authority, private  # noqa: E402
from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: E402
from fleets import DEVICES, digest, line, started  # noqa: E402
from gateways import ENVIRONMENT, ROOT, Gateway, bundles, gateway, module  # noqa: E402
from servers import free_port, wait_until  # noqa: E402
from test_rollout_servers import ENDLESS, answers, running, tool, units  # noqa: E402

from edgeticket.cli import main  # noqa: E402
from edgeticket.errors import EdgeTicketError, UsageError  # noqa: E402
from edgeticket.rollout import controller, service, status  # noqa: E402
from edgeticket.rollout import http as web  # noqa: E402
from edgeticket.rollout.mqtt import Listener, broker  # noqa: E402
from edgeticket.rollout.plan import Gate, Plan, stages  # noqa: E402
from edgeticket.rollout.store import Store  # noqa: E402
from edgeticket.tls import Tls  # noqa: E402

Own = tuple[str, str]  # files of a certificate and its key
DEVICE, OTHER = DEVICES[:2]
PAGE = (ROOT / "docs" / "rollout.md").read_text()


@dataclass(frozen=True)
class Plant:
    """`company`: a CA; `devices`: one below it. `server`: a certificate for 127.0.0.1 by the first, `own` of DEVICE by the second."""

    company: Authority
    devices: Authority
    server: Own
    own: Own


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    folder = tmp_path_factory.mktemp("plant")
    company = Authority(folder, "company")
    devices = Authority(folder, "devices", company)
    return Plant(company, devices, for_loopback(company), devices.issue(DEVICE))


def for_loopback(authority: Authority) -> Own:
    return authority.issue(purpose=SERVER, more=(x509.IPAddress(ipaddress.ip_address("127.0.0.1")),))


@dataclass
class Asked:
    """A server, and what a device knows of it."""

    port: int
    ca: str
    own: Own | None = None
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED

    def get(self, device: str) -> tuple[int, dict[str, Any]]:
        return self._ask("GET", f"/devices/{quote(device, safe='')}")

    def post(self, *reports: bytes) -> tuple[int, dict[str, Any]]:
        return self._ask("POST", "/reports", b"\n".join(reports))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cafile=self.ca)
        context.set_ciphers("ALL:@SECLEVEL=0")  # so that TLS 1.1 can be spoken at all
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, self.newest
        if self.own:
            context.load_cert_chain(*self.own)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.load(answer)
        finally:
            connection.close()


@dataclass
class Process(Asked):
    """`log`: what it says on standard error."""

    log: Path = Path()
    store: Any = None


@pytest.fixture(scope="module")
def served(plant: Plant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("served")
    store = started(str(folder / "fleet.db"), ENDLESS)
    words = ["--http-cert", *plant.server, "--http-ca", plant.devices.path]
    with serving(folder, words) as found:
        yield replace(found, ca=plant.company.path, own=plant.own, store=store)


@contextmanager
def serving(folder: Path, words: list[str]) -> Iterator[Process]:
    """Of FOLDER/fleet.db, at an address of its own. It must end well, and without a traceback."""
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "edgeticket", "rollout", "serve", str(folder / "fleet.db"), *words]
    with (
        log.open("wb") as file,
        running([*command, "--http", f"127.0.0.1:{port}"], stderr=file, env=ENVIRONMENT) as process,
    ):
        wait_until(lambda: f"listening at https://127.0.0.1:{port}/" in log.read_text(), 60)
        yield Process(port, "", log=log)
        process.terminate()
        assert process.wait(30) == 0
    assert "Traceback" not in log.read_text()


@contextmanager
def in_process(store: Store, tls: Tls) -> Iterator[Asked]:
    stopped, server = threading.Event(), web.Server(store, ("127.0.0.1", 0), tls)
    thread = threading.Thread(target=service.serve, args=(store, server, None, None, stopped))
    thread.start()
    try:
        yield Asked(server.server_address[1], str(tls.ca))
    finally:
        stopped.set()
        thread.join()


# who speaks


def test_a_device_speaks_for_itself_alone(served: Process) -> None:
    before = units(served.store)
    assert served.get(DEVICE)[1]["device"] == DEVICE
    assert served.get(OTHER) == (403, {"error": f"the certificate names {DEVICE}"})
    sent = [line(DEVICE), line(OTHER), b"nonsense", line("stranger")]
    expected = {"counted": 1, "other": 0, "replayed": 0, "refused": {"not-its-own": 2, "not-json": 1}}
    assert served.post(*sent) == (200, expected)
    assert units(served.store) == before + 1
    assert status.status(served.store)["refused"]["not-its-own"] == 2


@pytest.mark.parametrize(
    ("names", "common", "allowed"),
    [
        (DEVICES[:2], (), DEVICES[:2]),
        (DEVICES[:2], DEVICES[2:3], DEVICES[:2]),
        ((), DEVICES[2:3], DEVICES[2:3]),
        ((), DEVICES[:3], DEVICES[2:3]),
        (["*", "press/*", DEVICE.upper(), f"{DEVICE}.plant"], (), []),
        ((), ("*",), []),
    ],
    ids=["several names", "a name and a common name", "a common name", "the last common name", "others", "other"],
)
def test_what_a_certificate_names(served: Process, plant: Plant, names: Any, common: Any, allowed: list[str]) -> None:
    own = replace(served, own=plant.devices.issue(*names, common=tuple(common)))
    assert [device for device in DEVICES[:4] if own.get(device)[0] == 200] == allowed


def test_an_address_is_no_name(served: Process, plant: Plant) -> None:
    address = (x509.IPAddress(ipaddress.ip_address("10.0.0.7")),)
    assert replace(served, own=plant.devices.issue(common=(DEVICE,), more=address)).get(DEVICE)[0] == 200
    assert replace(served, own=plant.devices.issue(more=address)).get(DEVICE) == (
        403,
        {"error": "the certificate names nobody"},
    )


def refused(who: Asked, device: str = DEVICE) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        who.get(device)


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("none", "peer did not return a certificate"),
        ("expired", "certificate has expired"),
        ("not yet", "certificate is not yet valid"),
        ("of the company, not of its CA for devices", "self-signed certificate in certificate chain"),
        ("of another CA", "unable to get"),
        ("for a server", "unsuitable certificate purpose"),
        ("old TLS", "unsupported protocol"),
    ],
)
def test_whom_nobody_listens_to(served: Process, plant: Plant, tmp_path: Path, which: str, why: str) -> None:
    said, before = len(served.log.read_text()), units(served.store)
    own = {
        "none": lambda: None,
        "expired": lambda: plant.devices.issue(DEVICE, starts=-3),
        "not yet": lambda: plant.devices.issue(DEVICE, starts=1),
        "of the company, not of its CA for devices": lambda: plant.company.issue(DEVICE),
        "of another CA": lambda: Authority(tmp_path, "devices").issue(DEVICE),
        "for a server": lambda: plant.devices.issue(DEVICE, purpose=SERVER),
        "old TLS": lambda: plant.own,
    }[which]()
    newest = ssl.TLSVersion.TLSv1_1 if which == "old TLS" else ssl.TLSVersion.MAXIMUM_SUPPORTED
    refused(replace(served, own=own, newest=newest))
    wait_until(lambda: why in served.log.read_text()[said:])
    assert served.get(DEVICE)[0] == 200
    assert units(served.store) == before


def test_tls_1_2_will_do(served: Process) -> None:
    assert replace(served, newest=ssl.TLSVersion.TLSv1_2).get(DEVICE)[0] == 200


def test_plain_http_is_not_answered(served: Process) -> None:
    said = len(served.log.read_text())
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", f"/devices/{quote(DEVICE, safe='')}")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()
    wait_until(lambda: "http request" in served.log.read_text()[said:])


def test_who_connects_and_says_nothing_holds_up_nobody(served: Process) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(5)]
    silent[0].sendall(b"\x16\x03\x01\x02")  # a quarter of a greeting
    begin = time.monotonic()
    assert served.get(DEVICE)[0] == 200
    assert time.monotonic() - begin < web.PATIENCE_S / 3
    for each in silent:
        each.close()


def test_who_says_nothing_is_let_go(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HANDSHAKE_S", 0.2)
    with in_process(started(str(tmp_path / "fleet.db")), Tls(plant.server, plant.devices.path)) as asked:
        silent = socket.create_connection(("127.0.0.1", asked.port), timeout=10)
        assert silent.recv(1) == b""
        silent.close()


def test_without_a_ca_of_the_devices_anyone_is_believed(plant: Plant, tmp_path: Path) -> None:
    store = started(str(tmp_path / "fleet.db"), ENDLESS)
    with in_process(store, Tls(plant.server)) as asked:
        known = replace(asked, ca=plant.company.path)
        assert [known.get(OTHER)[0], replace(known, own=plant.own).get(OTHER)[0]] == [200, 200]
        assert known.post(line(), line(OTHER))[1]["counted"] == 2


def test_what_is_renewed_counts_from_the_next_connection_on(plant: Plant, tmp_path: Path) -> None:
    names = "cert.pem", "key.pem", "ca.pem"
    cert, key, ca = (str(tmp_path / name) for name in names)

    def put(own: Own, authority: Authority) -> None:
        for source, target in zip((*own, authority.path), (cert, key, ca), strict=True):
            shutil.copy(source, target)

    put(plant.server, plant.devices)
    with in_process(started(str(tmp_path / "fleet.db")), Tls((cert, key), ca)) as asked:
        old = replace(asked, ca=plant.company.path, own=plant.own)
        assert old.get(DEVICE)[0] == 200
        (tmp_path / "new").mkdir()
        later = Authority(tmp_path / "new", "later")
        shutil.copy(for_loopback(later)[0], cert)  # half of it: the key is still the old one
        refused(old)
        put(for_loopback(later), later)
        refused(old)
        assert replace(asked, ca=later.path, own=later.issue(DEVICE)).get(DEVICE)[0] == 200


# files


def test_files_that_are_none(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(where := str(tmp_path / "fleet.db")).close()
    cert, key = plant.server
    damaged, locked = tmp_path / "damaged.pem", tmp_path / "locked.pem"
    damaged.write_bytes(Path(cert).read_bytes()[:200] + Path(cert).read_bytes()[210:])
    locked.write_bytes(private(load_pem_private_key(Path(key).read_bytes(), None), b"secret"))
    monkeypatch.setattr(service, "serve", lambda *_: pytest.fail("it serves"))
    http_, mqtt = ["--http", "127.0.0.1:0"], ["--mqtt", f"mqtts://127.0.0.1:{free_port()}/x"]
    for words, said in [
        ([*http_, "--http-cert", str(damaged), key], "damaged.pem"),
        ([*http_, "--http-cert", cert, plant.own[1]], plant.own[1]),
        (
            [*http_, "--http-cert", cert, str(locked)],
            "locked.pem: not a certificate and its key, in PEM form and without a password",
        ),
        ([*http_, "--http-cert", cert, key, "--http-ca", str(damaged)], "damaged.pem: no certificate of a CA"),
        ([*http_, "--http-cert", cert, key, "--http-ca", key], "no certificate of a CA"),
        ([*http_, "--http-cert", cert, str(tmp_path / "absent")], "does not exist"),
        ([*http_, "--http-ca", cert], "--http-ca needs --http-cert"),
        ([*mqtt, "--http-cert", cert, key], "that --http HOST:PORT"),
        ([*mqtt, "--mqtt-ca", str(damaged)], "damaged.pem: no certificate of a CA"),
        ([*mqtt, "--mqtt-cert", cert, str(damaged)], "damaged.pem: not a certificate and its key"),
        (["--mqtt", "mqtt://127.0.0.1/x", "--mqtt-ca", cert], "need --mqtt mqtts://"),
    ]:
        done = CliRunner().invoke(main, ["rollout", "serve", where, *words])
        assert (done.exit_code, "listening" in done.output) == (2, False), done.output
        assert said in done.output


def test_no_file_left_is_no_bad_certificate(plant: Plant) -> None:
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    for tls in (Tls(ca=plant.company.path), Tls(plant.own)):
        os.close(free := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
        try:
            with pytest.raises(EdgeTicketError, match="Too many open files") as error:
                tls.server()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        assert error.type is EdgeTicketError  # no fault of the user's


def test_the_certificates_of_the_page(tmp_path: Path) -> None:
    script = "".join(re.findall(r"^    (new=.*\n|\$new .*\n)", PAGE, re.MULTILINE)).replace("10.0.0.5", "127.0.0.1")
    assert script.count("-keyout") == 3
    tool("openssl")
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    cert, key, ca, own_cert, own_key = (
        str(tmp_path / name) for name in ("server.pem", "server.key", "ca.pem", "line-7.pem", "line-7.key")
    )
    controller.register(
        store := Store(str(tmp_path / "fleet.db"), create=True), names := ["line-7", "line-8", "line-9"]
    )
    controller.start(store, "spring", ENDLESS, digest(1), digest(0))
    with in_process(store, Tls((cert, key), ca)) as asked:
        known = replace(asked, own=(own_cert, own_key))
        assert [known.get(name)[0] for name in names] == [200, 200, 403]


# a gateway


def test_a_gateway_trusts_its_ca_and_the_name_in_the_certificate(plant: Plant, tmp_path: Path) -> None:
    store = started(str(tmp_path / "fleet.db"))
    elsewhere = plant.company.issue("elsewhere.plant", purpose=SERVER)
    for server, ca, why in [
        (plant.server, plant.company.path, None),
        (plant.server, None, "unable to get local issuer certificate"),
        (plant.server, plant.devices.path, "unable to get local issuer certificate"),
        (elsewhere, plant.company.path, "not valid for '127.0.0.1'"),
        (plant.company.issue(common=("127.0.0.1",), purpose=SERVER), plant.company.path, "not valid for '127.0.0.1'"),
    ]:
        with in_process(store, Tls(server)) as asked:
            own = module().Server(f"https://127.0.0.1:{asked.port}", Tls(None, ca))
            if why:
                with pytest.raises(ssl.SSLCertVerificationError, match=why):
                    own.order(DEVICE)
            else:
                assert own.order(DEVICE).run


@pytest.mark.slow
def test_gateways_report_by_https_for_the_sensors_in_their_certificates(plant: Plant, tmp_path: Path) -> None:
    made, where = bundles(tmp_path), str(tmp_path / "fleet.db")
    controller.register(store := Store(where, create=True), names := ["line-7", "line-8", "line-9"])
    plan = Plan(stages("100"), {"self_test": Gate(0.05, 0.6)}, quorum=1.0)
    controller.start(store, "spring", plan, made.digests["equal"], made.digests["old"])
    quick = ["--report-s", "0.2", "--period-ms", "5", "--loop", "--ca", plant.company.path]
    with ExitStack() as stack:
        words = ["--http-cert", *plant.server, "--http-ca", plant.devices.path]
        url = f"https://127.0.0.1:{stack.enter_context(serving(tmp_path, words)).port}"

        def one(folder: str, *sensors: str, own: Own) -> Gateway:
            return stack.enter_context(gateway(made, url, tmp_path / folder, *sensors, more=[*quick, "--cert", *own]))

        several = one("a", *names[:2], own=plant.devices.issue(*names[:2]))
        forger = one("b", *names[2:], own=plant.devices.issue("line-8"))
        wait_until(lambda: status.status(store)["refused"].get("not-its-own", 0) > 3 and units(store, "self_test") > 3)
        assert status.silent(store) == ["line-9"]
        assert status.status(store)["state"] == "running"
        assert "the certificate names line-8" in forger.err.read_text()
        assert {row["model"] for row in forger.rows()} == {made.digests["old"]}
        assert forger.ended() == 0
        one("b", *names[2:], own=plant.devices.issue("line-9"))
        wait_until(lambda: status.status(store)["state"] == "done", 60)
        assert several.ended() == 0
    assert {row["model"] for row in several.rows(4096)} == {made.digests["equal"]}


# MQTT


@contextmanager
def mosquitto(plant: Plant, folder: Path) -> Iterator[int]:
    """With the settings of the page."""
    pytest.importorskip("paho")
    (settings,) = re.findall(r"^    listener 8883\n(?:    .+\n)+", PAGE, re.MULTILINE)
    (access,) = re.findall(r"^    user controller\n(?:    .+\n)+", PAGE, re.MULTILINE)
    settings = dedent(settings).replace("8883", f"{(port := free_port())} 127.0.0.1")
    (folder / "mosquitto.conf").write_text(f"{settings}user root\n")
    (folder / "access").write_text(dedent(access))
    (folder / "ca.pem").write_bytes(Path(plant.company.path).read_bytes() + Path(plant.devices.path).read_bytes())
    for source, target in zip(plant.server, ("server.pem", "server.key"), strict=True):
        shutil.copy(source, folder / target)
    with running([tool("mosquitto"), "-c", "mosquitto.conf"], cwd=folder):
        wait_until(lambda: answers(port))
        yield port


def publish(port: int, ca: str, own: Own, topic: str, payload: bytes) -> None:
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.tls_set(ca, *own)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


@pytest.mark.slow
def test_by_mqtt_the_broker_says_who_and_the_topic_for_whom(plant: Plant, tmp_path: Path) -> None:
    names = ["line-7", "press/8"]
    controller.register(store := Store(str(tmp_path / "fleet.db"), create=True), names)
    controller.start(store, "spring", ENDLESS, digest(1), digest(0))
    controller_, device = (plant.devices.issue(common=(name,)) for name in ("controller", "press/8"))
    with mosquitto(plant, tmp_path) as port:
        url, stopped = f"mqtts://127.0.0.1:{port}/fleet/{{device}}", threading.Event()
        with pytest.raises(EdgeTicketError, match="CERTIFICATE_VERIFY_FAILED"):
            Listener(store, broker(url), None)
        for wrong, tls in ((url, Tls(None, plant.company.path)), (f"mqtt{url[5:]}", None)):
            threading.Timer(20, (late := threading.Event()).set).start()
            with pytest.raises(EdgeTicketError, match="ends the connection: check the port"):
                Listener(store, broker(wrong), None, tls).run(late)
        listener = Listener(store, broker(url), None, Tls(controller_, plant.company.path))
        thread = threading.Thread(target=listener.run, args=(stopped,))
        thread.start()
        try:
            assert listener.ready.wait(30)
            for topic, about, sequence in [
                ("fleet/line-7", "line-7", 1),  # the broker lets nobody but line-7 do that
                ("fleet/press/8", "line-7", 1),
                ("fleet/press/8", "press/8", 1),
            ]:
                publish(port, plant.company.path, device, topic, line(about, sequence))
            wait_until(lambda: units(store) == 1)
            assert status.status(store)["refused"] == {"not-its-own": 1}
        finally:
            stopped.set()
            thread.join()
    assert status.silent(store) == ["line-7"]


def test_a_topic_with_the_device_in_it() -> None:
    found = broker("mqtt://a/fleet/{device}")
    assert (found.topic, found.own("fleet/press/8"), found.own("fleet")) == ("fleet/#", ("press/8",), ())
    assert (broker("mqtt://a/{device}").topic, broker("mqtt://a/{device}").own("x")) == ("#", ("x",))
    assert broker("mqtt://a/fleet/+").own("fleet/x") is None
    for wrong in ("{device}/x", "fleet-{device}", "+/{device}", "x/#/{device}", "{device}{device}"):
        with pytest.raises(UsageError, match="last level"):
            broker(f"mqtts://a/{wrong}".replace("#", "%23"))
