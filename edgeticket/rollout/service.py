"""All that waits for something, HTTP, MQTT and the hook, each in a thread of its own until it is told to end."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.rollout import status
from edgeticket.rollout.hooks import HookRun, run_hook
from edgeticket.rollout.http import Server
from edgeticket.rollout.mqtt import Listener
from edgeticket.rollout.store import Store

LOOK_S = 1.0  # between two looks for a decision that is new, or whose hook is due
RETRY_S = 30.0  # after a hook or a store that failed
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hook:
    """command: split into words as a shell does, and run without one."""

    command: str
    timeout_s: float = 60.0


def address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises UsageError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"{text!r}: write HOST:PORT, for example 127.0.0.1:8570")
    return host, int(port)


def serve(
    where: Store,
    server: Server | None,
    listener: Listener | None,
    hook: Hook | None,
    stopped: threading.Event,
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Until `stopped` is set. `tell` gets each decision that is made meanwhile, as of status.log. Raises what ended one of them before."""
    failures: list[BaseException] = []
    jobs: list[Callable[[], None]] = []
    if tell:
        last = max((found["decision"] for found in status.log(where)), default=0)
        jobs.append(lambda: _decisions(where, tell, last, stopped))
    if listener:
        jobs.append(lambda: listener.run(stopped))
    if hook:
        jobs.append(lambda: _hooks(where, hook, stopped))
    with _threads([_guarded(job, failures, stopped) for job in jobs], stopped), _serving(server):
        stopped.wait()
    if failures:
        raise failures[0]


def _decisions(where: Store, tell: Callable[[dict[str, Any]], None], last: int, stopped: threading.Event) -> None:
    pause, done = LOOK_S, False
    while not done:
        done = stopped.wait(pause)
        try:
            made, pause = status.log(where, last), LOOK_S
        except EdgeTicketError as error:
            log.warning("%s", error)
            made, pause = [], RETRY_S
        for found in made:
            tell(found)
            last = found["decision"]


def _hooks(where: Store, hook: Hook, stopped: threading.Event) -> None:
    pause = LOOK_S
    while not stopped.wait(pause):
        try:
            failed = _failed(run_hook(where, hook.command, hook.timeout_s))
        except UsageError:
            raise
        except EdgeTicketError as error:
            log.warning("%s", error)
            failed = True
        pause = RETRY_S if failed else LOOK_S


def _failed(found: HookRun | None) -> bool:
    if found is None or found.code == 0:
        return False
    log.warning("the hook of decision %d failed with %d: %s", found.decision, found.code, found.output.strip())
    return True


def _guarded(job: Callable[[], None], failures: list[BaseException], stopped: threading.Event) -> Callable[[], None]:
    def run() -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)
            stopped.set()

    return run


@contextmanager
def _threads(jobs: list[Callable[[], None]], stopped: threading.Event) -> Iterator[None]:
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@contextmanager
def _serving(server: Server | None) -> Iterator[None]:
    if server is None:
        yield
        return
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
