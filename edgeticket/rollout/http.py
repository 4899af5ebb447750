"""Reports by HTTP: POST /reports, JSON lines. GET /devices/NAME says what a device should run, GET /status how it stands.

With a CA of the devices, a client speaks for those that its certificate names (tls.py), and anyone with a certificate may ask for the
status. Without, it knows nobody: keep it on the loopback address.
"""

import json
import logging
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.rollout.intake import ingest
from edgeticket.rollout.reports import lines
from edgeticket.rollout.status import assignment, status
from edgeticket.rollout.store import Store
from edgeticket.tls import Tls, named

LARGEST = 8 << 20  # bytes of a request
PATIENCE_S = 30.0  # with a client that says nothing
HANDSHAKE_S = 5.0
CONNECTIONS = 128  # at once: each is a thread and a file
SAID_S = 60.0  # at least, between two warnings that there are more
log = logging.getLogger(__name__)


class Server(ThreadingHTTPServer):
    """Serves `where` at `address`, port 0 for any, by HTTPS with `tls`. Raises EdgeTicketError where that cannot be had."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, where: Store, address: tuple[str, int], tls: Tls | None = None) -> None:
        self.where, self.tls = where, tls
        self._room, self._said = threading.BoundedSemaphore(CONNECTIONS), -SAID_S
        if tls:
            tls.server()  # what is wrong with its files is said now
        try:
            super().__init__(address, _Handler)
        except (OSError, OverflowError) as error:
            raise EdgeTicketError(
                f"cannot listen at {address[0]}:{address[1]} ({error}): choose another address"
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Closes at once what is one connection too many: who keeps quiet must not take every file of the process."""
        if self._room.acquire(blocking=False):
            try:
                return super().process_request(request, client_address)
            except BaseException:
                self._room.release()
                raise
        self.shutdown_request(request)
        if (now := time.monotonic()) - self._said >= SAID_S:
            self._said = now
            log.warning("%d connections at once: those above are closed, also %s", CONNECTIONS, client_address[0])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: no handshake holds up another."""
        if self.tls is None:
            return super().finish_request(request, client_address)
        request.settimeout(HANDSHAKE_S)
        with self.tls.server().wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("%s: the connection broke (%s)", client_address[0], sys.exception())


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = PATIENCE_S
    disable_nagle_algorithm = True  # an answer is two small packets: the second waited 40 ms
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        tls = self.server.tls
        self.own = named(self.connection.getpeercert()) if tls and tls.ca else None  # devices; None for any

    def do_POST(self) -> None:
        if self.path != "/reports":
            return self._refuse(HTTPStatus.NOT_FOUND, "POST is for /reports")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "say Content-Length")
        if len(length) > 12 or int(length) > LARGEST:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST} bytes a request")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True  # cut off: it will be sent again
            return None
        return self._answer(lambda: ingest(self.server.where, lines(body), self.own).to_json())

    def do_GET(self) -> None:
        if self.path == "/status":
            return self._answer(lambda: status(self.server.where))
        if self.path.startswith("/devices/"):
            device = unquote(self.path.removeprefix("/devices/"))
            if self.own is not None and device not in self.own:
                return self._refuse(
                    HTTPStatus.FORBIDDEN, f"the certificate names {', '.join(sorted(self.own)) or 'nobody'}"
                )
            return self._answer(lambda: assignment(self.server.where, device))
        return self._refuse(HTTPStatus.NOT_FOUND, "there are /status and /devices/NAME")

    def _answer(self, result: Any) -> None:
        try:
            self._send(HTTPStatus.OK, result())
        except UsageError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        except EdgeTicketError as error:
            log.warning("%s", error)
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the store is out of reach: send it again later")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True  # the rest of the request was not read
        self._send(status, {"error": text})

    def _send(self, status: HTTPStatus, content: Any) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.info("%s %s", self.address_string(), format % args)
