"""A vibration or current monitor: a stream of samples in, windows to the network, an alarm with hysteresis out, by MQTT if asked.

    some-sensor | python examples/vibration_monitor.py motor.bundle - --normal ok --mqtt broker:1883 --topic plant/motor7

The stream is raw samples of the bundle's type (int16: two bytes, little-endian), channels interleaved. A machine is in one of three
states: `normal`; `alarm`, after --raise windows in a row whose label is not normal, until --clear in a row are; `sensor`, while the guard
finds faults. Every change of state is a line of JSON on standard output and a retained MQTT message on TOPIC/state; TOPIC/online is
1, and 0 when the monitor is gone (last will). Needs `pip install edgeticket[mqtt]` for MQTT. With --mqtt-ca it is MQTT over TLS.
"""

import argparse
import contextlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgeticket.errors import EdgeTicketError
from edgeticket.runtime import Prediction, Predictor
from edgeticket.signing import key_file, public_key
from edgeticket.tls import Tls

KEEP_ALIVE_S, TIMEOUT_S = 30, 10.0
Publish = Callable[[str, str], Any]


class Hysteresis:
    """The state of a machine, from one prediction after the other."""

    def __init__(self, normal: set[str], raise_after: int, clear_after: int) -> None:
        self.normal, self.raise_after, self.clear_after = normal, raise_after, clear_after
        self.state, self._alarm, self._against = "normal", False, 0

    def update(self, found: Prediction) -> bool:
        """Whether the state has changed. Windows with a fault say nothing of the machine: an alarm stays behind them."""
        before = self.state
        if found.label is None:
            self.state = "sensor"
            return self.state != before
        self._against = self._against + 1 if (found.label in self.normal) == self._alarm else 0
        if self._against >= (self.clear_after if self._alarm else self.raise_after):
            self._alarm, self._against = not self._alarm, 0
        self.state = "alarm" if self._alarm else "normal"
        return self.state != before


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        predictor = Predictor(
            options.bundle, [key_file(key, public_key) for key in options.key], target_class=options.target_class
        )
        unknown = set(options.normal) - set(predictor.manifest["labels"])
        if unknown:
            raise EdgeTicketError(f"--normal {unknown.pop()}: the labels are {', '.join(predictor.manifest['labels'])}")
        with opened(options.stream) as stream, publisher(options) as publish:
            watched = watch(predictor, windows(stream, predictor.manifest["input"], options.step), options, publish)
    except (EdgeTicketError, OSError) as error:
        print(f"vibration_monitor: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(f"{watched} windows", file=sys.stderr)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("stream", help="file of samples, or - for standard input")
    parser.add_argument(
        "--normal", action="append", required=True, help="a label that is no alarm; may be given several times"
    )
    parser.add_argument("--raise", dest="raise_after", type=int, default=3, help="windows in a row that raise an alarm")
    parser.add_argument("--clear", dest="clear_after", type=int, default=10, help="windows in a row that end it")
    parser.add_argument("--step", type=int, help="samples from one window to the next (default: a whole window)")
    parser.add_argument("--mqtt", metavar="HOST:PORT")
    parser.add_argument("--mqtt-ca", help="PEM file of the CA of the broker")
    parser.add_argument("--mqtt-cert", nargs=2, metavar=("CERT", "KEY"), help="PEM files to show it")
    parser.add_argument("--topic", default="edgeticket")
    parser.add_argument(
        "--key", type=Path, action="append", default=[], help="public key that must have signed the bundle"
    )
    parser.add_argument("--class", dest="target_class", help="class of devices that the bundle must be for")
    options = parser.parse_args(arguments)
    if min(options.raise_after, options.clear_after, 1 if options.step is None else options.step) < 1:
        parser.error("--raise, --clear and --step: give 1 or more")
    host, _, port = (options.mqtt or "").rpartition(":")
    if options.mqtt is not None and not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 1 << 16):
        parser.error("--mqtt: give HOST:PORT, for example 127.0.0.1:1883")
    if options.mqtt_ca == "":
        parser.error("--mqtt-ca: name a PEM file")
    if (options.mqtt_ca and not options.mqtt) or (options.mqtt_cert and not options.mqtt_ca):
        parser.error("--mqtt-cert needs --mqtt-ca, and that --mqtt HOST:PORT")
    return options


def opened(stream: str) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdin.buffer) if stream == "-" else open(stream, "rb")


def windows(stream: BinaryIO, expected: dict[str, Any], step: int | None) -> Iterator[np.ndarray]:
    """Arrays [channels, length], each `step` samples after the one before; what is left at the end is dropped."""
    channels, length = expected["shape"][0], prod(expected["shape"][1:])
    kind = np.dtype(expected["dtype"]).newbyteorder("<")
    step = length if step is None else step
    held = b""
    size, ahead = channels * kind.itemsize * length, channels * kind.itemsize * step
    while True:
        while len(held) < max(size, ahead):
            more = stream.read(max(size, ahead) - len(held))
            if not more:
                break
            held += more
        if len(held) < size:
            return
        samples = np.frombuffer(held[:size], kind).reshape(length, channels)
        yield np.ascontiguousarray(samples.T).astype(expected["dtype"]).reshape(expected["shape"])
        held = held[ahead:]


def watch(predictor: Predictor, stream: Iterator[np.ndarray], options: argparse.Namespace, publish: Publish) -> int:
    """How many windows there were. The first one's state is told too."""
    machine, count = Hysteresis(set(options.normal), options.raise_after, options.clear_after), 0
    for window in stream:
        found = predictor.predict(window)
        if machine.update(found) or not count:
            told = {
                "window": count,
                "state": machine.state,
                "label": found.label,
                "score": found.score,
                "status": found.status,
            }
            line = json.dumps(told)
            print(line, flush=True)
            publish("state", line)
        count += 1
    return count


@contextlib.contextmanager
def publisher(options: argparse.Namespace) -> Iterator[Publish]:
    """Publishes under the topic, retained. What is said while the broker is away arrives when it is back.

    Raises OSError or EdgeTicketError where there is no broker at the start, EdgeTicketError where there is none at the end.
    """
    address, topic = options.mqtt, options.topic
    if address is None:
        yield lambda name, text: None
        return
    try:
        import paho.mqtt.client as mqtt
    except ImportError as error:
        raise EdgeTicketError(f"--mqtt needs paho-mqtt ({error}): pip install edgeticket[mqtt]") from error

    host, _, port = address.rpartition(":")
    client, ready = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2), threading.Event()

    def publish(name: str, text: str) -> mqtt.MQTTMessageInfo:
        return client.publish(f"{topic}/{name}", text, qos=1, retain=True)

    def connected(*_: Any) -> None:
        publish("online", "1")  # again after each interruption: the broker has told the last will meanwhile
        ready.set()

    if options.mqtt_ca is not None:
        client.tls_set_context(Tls(options.mqtt_cert, options.mqtt_ca).client())
    client.on_connect = connected
    client.will_set(f"{topic}/online", "0", qos=1, retain=True)
    client.reconnect_delay_set(1, 30)
    client.connect(host, int(port), KEEP_ALIVE_S)
    client.loop_start()
    try:
        if not ready.wait(TIMEOUT_S):
            raise EdgeTicketError(
                f"{address} does not answer as an MQTT broker: check the address and the certificates"
            )
        yield publish
        last = publish("online", "0")
        with contextlib.suppress(RuntimeError):  # not connected
            last.wait_for_publish(TIMEOUT_S)
        if not last.is_published():
            raise EdgeTicketError(f"{address} did not take the last messages in {TIMEOUT_S:g} s: check the broker")
    finally:
        client.disconnect()
        client.loop_stop()


if __name__ == "__main__":
    sys.exit(main())
