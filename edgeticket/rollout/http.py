"""Reports by HTTP: POST /reports, JSON lines. GET /devices/NAME says what a device should run, GET /status how it stands.

It knows no user and no password: keep it on the loopback address, behind a proxy that checks the devices' certificates.
"""

import json
import logging
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.rollout.intake import ingest
from edgeticket.rollout.reports import lines
from edgeticket.rollout.status import assignment, status
from edgeticket.rollout.store import Store

LARGEST = 8 << 20  # bytes of a request
PATIENCE_S = 30.0  # with a client that says nothing
log = logging.getLogger(__name__)


class Server(ThreadingHTTPServer):
    """Serves `where` at `address`, port 0 for any; raises EdgeTicketError where that cannot be had."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, where: Store, address: tuple[str, int]) -> None:
        self.where = where
        try:
            super().__init__(address, _Handler)
        except (OSError, OverflowError) as error:
            raise EdgeTicketError(
                f"cannot listen at {address[0]}:{address[1]} ({error}): choose another address"
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("%s: the connection broke", client_address[0])


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"

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
        return self._answer(lambda: ingest(self.server.where, lines(body)).to_json())

    def do_GET(self) -> None:
        if self.path == "/status":
            return self._answer(lambda: status(self.server.where))
        if self.path.startswith("/devices/"):
            return self._answer(lambda: assignment(self.server.where, unquote(self.path.removeprefix("/devices/"))))
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
