"""A gateway in a staged roll-out: it runs what the server says, reports how that does, and never keeps the line waiting for either.

    python examples/gateway.py http://127.0.0.1:8570 line-7=frames/ line-8=camera8.npz --bundles bundles/ --state state/ --key maker.pub

Each DEVICE=FRAMES is a sensor, named as in `edgeticket rollout devices`; FRAMES as in inspection_line.py. Your updater puts bundles into
BUNDLES as DIGEST.bundle, DIGEST being the SHA-256 of the file, each whole by a rename. Nothing is asked of any other address than the
server's; by https:// it proves itself by --ca, and this program itself by --cert. One JSON object a frame goes to standard output,
everything else to the log on standard error.

Without the server it goes on as it was told last, keeps its reports in STATE and sends them later. It ends by SIGTERM, or when all frames
are judged, with its last reports on disk.
"""

import argparse
import http.client
import itertools
import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from inspection_line import Frame, frames, number

from edgeticket.errors import EdgeTicketError
from edgeticket.files import write_atomic
from edgeticket.lock import alone
from edgeticket.order import DIGEST, Bundles, Choice, Order, choose
from edgeticket.outbox import Outbox
from edgeticket.signing import key_file, public_key
from edgeticket.tls import Tls
from edgeticket.trial import Trial

TICK_S, TIMEOUT_S, LONGEST_PAUSE_S = 0.05, 10.0, 300.0
LARGEST = 1 << 16  # bytes of an answer
AT_ONCE = 1000  # reports of a request
Signals = SimpleQueue[int]  # of an Event, this thread may hold the lock that a handler then waits for
log = logging.getLogger("gateway")


def main(arguments: list[str] | None = None) -> int:
    options, signals = parse(arguments), Signals()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: signals.put(number))
    try:
        options.key = [key_file(key, public_key) for key in options.key]
        options.state.mkdir(parents=True, exist_ok=True)
        with alone(options.state / "gateway"):  # its lock in there too: nothing else need be writable
            server = Server(options.server, Tls(options.cert, options.ca))
            run(server, [Sensor(name, source, options) for name, source in options.sensors], options, signals)
    except (EdgeTicketError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="http[s]://HOST:PORT of `edgeticket rollout serve`")
    parser.add_argument("sensors", nargs="+", metavar="DEVICE=FRAMES")
    parser.add_argument("--bundles", type=Path, required=True, help="folder of DIGEST.bundle")
    parser.add_argument("--state", type=Path, required=True, help="folder of this program alone, kept over restarts")
    parser.add_argument("--cert", nargs=2, metavar=("CERT", "KEY"), help="PEM files, with every DEVICE in it; its key")
    parser.add_argument("--ca", help="PEM file of the CA of the server [the system's]")
    parser.add_argument("--run", help="digest of the bundle to run until the server says otherwise")
    parser.add_argument("--key", type=Path, action="append", default=[], help="public key that signed the bundles")
    parser.add_argument("--class", dest="target_class", help="class of devices that bundles must be for")
    parser.add_argument("--report-s", type=number, default=60.0, help="a report at least every so many seconds [60]")
    parser.add_argument("--report-frames", type=int, default=1000, help="and at least every so many frames [1000]")
    parser.add_argument("--deadline-ms", type=number, help="an inference that takes longer is a miss")
    parser.add_argument("--tolerance", type=number, help="by which outputs of two regressions may differ")
    parser.add_argument("--period-ms", type=number, default=0.0, help="a frame of each sensor every so many ms")
    parser.add_argument("--loop", action="store_true", help="begin again after the last frame")
    options = parser.parse_args(arguments)
    try:
        address = urlsplit(options.server)
        http.client.HTTPConnection(address.netloc)
        extra = address.path.strip("/") or address.query or address.fragment or "@" in address.netloc
        fits = address.scheme in ("http", "https") and address.hostname and address.port != 0 and not extra
    except (ValueError, http.client.InvalidURL):
        fits = False
    if not fits:
        parser.error(f"{options.server}: write http://HOST:PORT or https://HOST:PORT")
    if options.ca == "":
        parser.error("--ca: name a PEM file")
    if address.scheme == "http" and (options.cert or options.ca):
        parser.error("--cert and --ca are for https://")
    if options.report_frames < 1 or options.report_s <= 0:
        parser.error("--report-s and --report-frames: give a number above 0")
    if options.run and not DIGEST.fullmatch(options.run):
        parser.error("--run: a digest is 64 digits 0-9a-f")
    split = [word.partition("=") for word in options.sensors]
    if not all(name and source for name, _, source in split) or len({name for name, _, _ in split}) < len(split):
        parser.error("sensors: write DEVICE=FRAMES, each device once")
    options.sensors = [(name, Path(source)) for name, _, source in split]
    return options


def run(server: "Server", sensors: list["Sensor"], options: argparse.Namespace, signals: Signals) -> None:
    for sensor in sensors:
        attempt(sensor.resume)
    if not all(sensor.trial for sensor in sensors):
        attempt(exchange, server, sensors)
    stopped = threading.Event()
    link = threading.Thread(target=talk, args=(server, sensors, stopped))
    link.start()
    try:
        judge(sensors, options.period_ms / 1000, signals)
    finally:
        stopped.set()
        link.join()
        for sensor in sensors:
            attempt(sensor.end)
        attempt(send, server, sensors)


# the line


def judge(sensors: list["Sensor"], period_s: float, signals: Signals) -> None:
    """Until there is a signal, or all frames are judged."""
    start = time.monotonic()
    for i, row in enumerate(itertools.zip_longest(*(sensor.frames for sensor in sensors))):
        with suppress(Empty):
            signals.get(timeout=max(0.0, start + i * period_s - time.monotonic()))
            return
        for sensor, frame in zip(sensors, row, strict=True):
            if frame is not None:
                print(json.dumps({"device": sensor.name, "frame": frame[0], **sensor.judge(frame[1])}), flush=True)


def endless(source: Path) -> Iterator[Frame]:
    while first := next(rest := frames(source), None):
        yield first
        yield from rest
    raise EdgeTicketError(f"{source}: no frames in it, so --loop has nothing to go on with")


# the roll-out


class Sensor:
    """A device of the fleet: its frames, its models, its reports. The line calls `judge`, one other thread everything else."""

    def __init__(self, name: str, source: Path, options: argparse.Namespace) -> None:
        self.name, self.frames, self.options = name, endless(source) if options.loop else frames(source), options
        self.bundles = Bundles(options.bundles, options.state, options.key, options.target_class)
        self.outbox = Outbox(options.state / f"{quote(name, safe='')}.reports", name)
        self.kept = options.state / f"{quote(name, safe='')}.order"
        self.saved = b""
        self.choice: Choice | None = None
        self.trial: Trial | None = None
        self.lock, self.judged, self.reported = threading.Lock(), 0, time.monotonic()

    def judge(self, values: np.ndarray | None) -> dict[str, Any]:
        """By the model that answers at this moment; `values` None for a frame that cannot be read."""
        with self.lock:  # others hold it for two assignments
            found = self.trial.predict(values) if self.trial and values is not None else None
            model = self.choice.answers if self.choice else None
        self.judged += 1
        if found is None:
            return {"label": None, "score": None, "status": "unreadable" if model else "no model", "model": model}
        return {"label": found.label, "score": found.score, "status": found.status, "model": model}

    def resume(self) -> None:
        """As it was told last."""
        if self.kept.exists():
            order = Order.of(found := json.loads(self.kept.read_bytes()))
            self.bundles.accepted.update(
                found.get("accepted", order.digests)
            )  # without it: as versions that took any day
            self.obey(order)
        elif self.options.run:
            self.obey(Order(self.options.run, None, self.options.run))

    def obey(self, order: Order) -> None:
        """Between two frames. Raises EdgeTicketError where there is nothing to run."""
        self.bundles.load(order.digests)
        answers = self.choice.answers if self.choice else None
        choice = choose(order, self.bundles.models, self.bundles.refused, answers)
        if choice != self.choice:
            self._turn_to(choice)
            log.info("%s: model %.8s, beside %.8s, shadow %s", self.name, choice.model, choice.beside, choice.shadow)
        used = {*order.digests, choice.answers}
        self.bundles.keep(used)
        content = json.dumps(asdict(order) | {"accepted": sorted(self.bundles.accepted & used)}).encode()
        if content != self.saved:
            write_atomic(self.kept, content)
            self.saved = content

    def _turn_to(self, choice: Choice) -> None:
        limits = {"deadline_ms": self.options.deadline_ms, "tolerance": self.options.tolerance}
        trial, before, old = self.bundles.trial(choice, **limits), self.choice, self.trial
        with self.lock:
            self.trial, self.choice = trial, choice
        if before and old:
            old.close()
            self._report(before, old)

    def due(self) -> bool:
        late = time.monotonic() - self.reported >= self.options.report_s
        return late or self.judged >= self.options.report_frames

    def report(self) -> None:
        """What was counted since the last one, if anything was: on disk once this returns."""
        self.judged, self.reported = 0, time.monotonic()
        if self.choice and self.trial:
            self._report(self.choice, self.trial)

    def end(self) -> None:
        if self.trial:
            self.trial.close()
        self.report()

    def _report(self, choice: Choice, trial: Trial) -> None:
        counts = trial.take()
        if trial.skipped:
            log.info("%s: %d frames of this trial came too fast to be compared", self.name, trial.skipped)
        if counts.inferences or counts.self_test == "failed":
            log.info("report %s", self.outbox.add(choice.reports, counts.to_json()).decode())


class Server:
    """Of `edgeticket rollout serve`, asked at `url` and nowhere else: no proxy, no redirection."""

    def __init__(self, url: str, tls: Tls) -> None:
        self._url, self._tls = urlsplit(url), tls
        self._connection()  # what is wrong with the certificates is said at once

    def _connection(self) -> http.client.HTTPConnection:
        if self._url.scheme == "http":
            return http.client.HTTPConnection(self._url.netloc, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(self._url.netloc, timeout=TIMEOUT_S, context=self._tls.client())

    def order(self, device: str) -> Order:
        return Order.of(self._ask("GET", f"/devices/{quote(device, safe='')}"))

    def send(self, lines: list[bytes]) -> None:
        """Once this returns, the server has taken all of them, or refused them for good."""
        receipt = self._ask("POST", "/reports", b"\n".join(lines))
        if not {"counted", "refused"} <= receipt.keys():
            raise EdgeTicketError(f"no receipt of `edgeticket rollout serve`: {receipt!r:.200}: check the address")
        if receipt["refused"]:
            log.warning("the server refused reports: %s", receipt["refused"])

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        connection = self._connection()
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read(LARGEST)
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise EdgeTicketError(f"{method} {path}: {answer.status} {content[:300].decode(errors='replace').strip()}")
        found = json.loads(content)
        return found if isinstance(found, dict) else {}


def talk(server: Server, sensors: list[Sensor], stopped: threading.Event) -> None:
    """Reports as they are due, and after each an exchange with the server; less often while there is none."""
    failures, again, news = 0, 0.0, True
    while not stopped.wait(TICK_S):
        for sensor in sensors:
            if sensor.due():
                news = attempt(sensor.report) or news
        if news and time.monotonic() >= again:
            news = not attempt(exchange, server, sensors)
            failures = failures + 1 if news else 0
            again = time.monotonic() + pause(failures)


def pause(failures: int) -> float:
    """Seconds, at random, so that gateways do not come back all at once."""
    return min(LONGEST_PAUSE_S, 2.0 ** min(failures, 10)) * random.uniform(0.5, 1) if failures else 0.0


def exchange(server: Server, sensors: list[Sensor]) -> None:
    send(server, sensors)
    for sensor in sensors:
        try:
            sensor.obey(server.order(sensor.name))
        except EdgeTicketError as error:  # of this one; a server that is away ends them all
            log.warning("%s: %s", sensor.name, error)


def send(server: Server, sensors: list[Sensor]) -> None:
    most = max(1, AT_ONCE // len(sensors))
    while any(chunks := [sensor.outbox.waiting()[:most] for sensor in sensors]):
        server.send([line for chunk in chunks for line in chunk])
        for sensor, chunk in zip(sensors, chunks, strict=True):
            if chunk:
                sensor.outbox.acknowledge(chunk)


def attempt(function: Callable[..., None], *arguments: Any) -> bool:
    try:
        function(*arguments)
    except Exception as error:  # whatever else is wrong, the line goes on, and this is tried again
        log.warning("%s (%s): the line goes on as it is", error, type(error).__name__)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
