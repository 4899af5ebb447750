"""Reports by MQTT: a message is one report or several lines. The broker keeps a message until it is stored (QoS 1).

Who may publish where is the broker's to say. With a topic that ends in {device}, a message is believed of the device in its place alone.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.rollout.intake import ingest_sent
from edgeticket.rollout.reports import lines
from edgeticket.rollout.store import Store
from edgeticket.tls import Tls

CLIENT = "edgeticket-rollout"  # the broker keeps its messages while it is away
DEVICE = "{device}"
BATCH = 1000  # messages of a transaction
WAIT_S = 0.2
RETRY_S = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Broker:
    """mqtt://[USER@]HOST[:PORT]/TOPIC, or mqtts://. `topic`: as subscribed to; `above`: what it has before {device}, if that is there."""

    host: str
    port: int
    topic: str
    user: str | None
    tls: bool
    above: str | None = None

    def own(self, topic: str) -> tuple[str, ...] | None:
        """The device that a message speaks for, none for `above` without its slash, which # takes in; None for any."""
        if self.above is None:
            return None
        return (topic.removeprefix(self.above),) if topic.startswith(self.above) else ()


def broker(url: str) -> Broker:
    """Raises UsageError for another URL."""
    if set(url) & set("#?"):
        raise UsageError(
            f"{url}: a URL ends at # and ?: write %23 and %3F in the topic, or {DEVICE} for its last level"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from None
    topic = unquote(parts.path.lstrip("/"))
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic or parts.password:
        raise UsageError(
            "the broker is mqtt://[USER@]HOST[:PORT]/TOPIC, or mqtts://; a password comes from a file, by --mqtt-password"
        )
    above, named, after = topic.partition(DEVICE)
    if named and (after or not f"/{above}".endswith("/") or set(above) & set("+#")):
        raise UsageError(f"topic {topic}: {DEVICE} is for its last level, and then there is no other wildcard")
    tls = parts.scheme == "mqtts"
    where = parts.hostname, port or (8883 if tls else 1883)
    user = parts.username and unquote(parts.username)
    return Broker(*where, f"{above}#" if named else topic, user, tls, above if named else None)


class Listener:
    """Takes reports until `stopped`. Raises EdgeTicketError where the broker cannot be reached at first, or refuses."""

    def __init__(self, where: Store, source: Broker, password: str | None, tls: Tls | None = None) -> None:
        import paho.mqtt.client as paho

        self._where, self._source = where, source
        self._waiting: list[Any] = []
        self._refused: str | None = None
        self._accepted = False  # ever
        self.ready = threading.Event()  # subscribed
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, CLIENT, clean_session=False, manual_ack=True, protocol=paho.MQTTv311
        )
        if source.user:
            self._client.username_pw_set(source.user, password)
        if source.tls:
            self._client.tls_set_context((tls or Tls()).client())
        self._client.on_connect, self._client.on_subscribe = self._connected, self._subscribed
        self._client.on_message = lambda client, data, message: self._waiting.append(message)
        self._client.max_queued_messages_set(0)
        try:
            self._client.connect(source.host, source.port)
        except OSError as error:
            raise EdgeTicketError(
                f"no MQTT broker answers at {source.host}:{source.port} ({error}): is it running?"
            ) from error

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
        else:
            self._accepted = True
            client.subscribe(self._source.topic, qos=1)

    def _subscribed(self, client: Any, data: Any, number: Any, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = f"topic {self._source.topic}: {reasons[0]}"
        self.ready.set()

    def run(self, stopped: threading.Event) -> None:
        """Messages are acknowledged once they are stored: what is cut off comes again, and counts once."""
        while not stopped.is_set():
            lost = self._receive() != 0
            if self._refused:
                raise EdgeTicketError(f"the MQTT broker refuses: {self._refused}")
            while self._waiting and not stopped.is_set():
                self._take()
            if lost and not self._accepted:  # a broker that refuses a certificate says no more than this
                raise EdgeTicketError(
                    f"the MQTT broker at {self._source.host}:{self._source.port} ends the connection: check the port, mqtt:// or "
                    "mqtts://, and the certificate; its log says why"
                )
            if lost:
                log.warning("the MQTT broker ended the connection")
                self._reconnect(stopped)
        self._client.disconnect()

    def _receive(self) -> int:
        """Until no more is there at once; a message a call is what the library reads. Returns its error code, 0 for none."""
        code = int(self._client.loop(WAIT_S))
        before = 0
        while code == 0 and before < len(self._waiting) < BATCH:
            before = len(self._waiting)
            code = int(self._client.loop(0.0))
        return code

    def _take(self) -> None:
        batch = self._waiting[:BATCH]
        try:
            self._store(batch)
        except EdgeTicketError as error:
            log.warning("%s", error)
            self._waiting.clear()  # unacknowledged: the broker sends them again after
            self._client.disconnect()
            return
        del self._waiting[:BATCH]
        for message in batch:
            self._client.ack(message.mid, message.qos)

    def _store(self, batch: list[Any]) -> None:
        """One that this program cannot take is dropped: the broker would send it for ever, and keep back those behind it."""
        own = self._source.own
        try:
            receipt = ingest_sent(
                self._where, ((line, own(each.topic)) for each in batch for line in lines(each.payload))
            )
        except EdgeTicketError:
            raise
        except Exception:
            if len(batch) == 1:
                log.exception("topic %s: a message is dropped; please report it", batch[0].topic)
            else:
                for each in batch:
                    self._store([each])
        else:
            log.info("%d messages: %s", len(batch), receipt.to_json())

    def _reconnect(self, stopped: threading.Event) -> None:
        self._waiting.clear()
        while not stopped.wait(RETRY_S):
            try:
                self._client.reconnect()
                return
            except OSError as error:
                log.warning("no MQTT broker answers at %s:%d (%s)", self._source.host, self._source.port, error)
