"""Workers that are processes of this machine: pool.py hands tasks to them.

Each is a `ProcessPoolExecutor` of one process, as the death of one of its processes breaks the whole of an executor.
"""

import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from typing import Any

from edgeticket.errors import EdgeTicketError


class Lanes:
    """The `Workers` of a pool (edgeticket/pool.py), one a lane."""

    def __init__(self, count: int) -> None:
        self._lanes = [Lane() for _ in range(count)]
        self._shared = b""

    def hold(self, shared: Any) -> None:
        self._shared = pickle.dumps(shared)
        for lane in self._lanes:
            lane.holds = False

    def room(self, running: int) -> bool:
        return running < len(self._lanes)

    def submit(self, function: Callable[[Any, Any], Any], item: Any) -> Future[Any]:
        lane = next(lane for lane in self._lanes if not lane.busy)
        return lane.submit(self._shared, function, item)

    def wait(self, running: Iterable[Future[Any]]) -> set[Future[Any]]:
        return wait(running, return_when=FIRST_COMPLETED).done

    def result(self, future: Future[Any], item: Any) -> Any:
        return future.result()

    def stop(self) -> None:
        end([lane for lane in self._lanes if lane.busy])

    def close(self) -> None:
        end(self._lanes)


class Lane:
    """One process at a time, started with its first task and again when it died."""

    def __init__(self) -> None:
        self.executor: ProcessPoolExecutor | None = None
        self.context = _Context()
        self.future: Future[Any] | None = None
        self.holds = False

    @property
    def busy(self) -> bool:
        return self.future is not None and not self.future.done()

    def submit(self, shared: bytes, function: Callable[[Any, Any], Any], item: Any) -> Future[Any]:
        if self.executor is None:
            level = logging.getLogger("edgeticket").getEffectiveLevel()
            self.executor = ProcessPoolExecutor(1, self.context, _begin, (level,))
        call = pickle.dumps((function, item))  # here, where its failure has a caller
        try:
            self.future = self.executor.submit(_call, None if self.holds else shared, call)
        except BrokenExecutor:  # its process died, with the task before or since
            end([self])
            return self.submit(shared, function, item)
        self.holds = True
        return self.future


def end(lanes: Iterable[Lane]) -> None:
    """Kill their processes with all that these started, then wait until they are gone."""
    lanes = list(lanes)
    for lane in lanes:
        for process in lane.context.started:
            kill(process)
    for lane in lanes:
        if lane.executor:
            lane.executor.shutdown(cancel_futures=True)
        lane.executor, lane.future, lane.holds = None, None, False
        lane.context.started.clear()


def kill(process: SpawnProcess) -> None:
    if process.pid is None:  # not started
        return
    with suppress(ProcessLookupError):  # no group yet (`_begin`), or none any more
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


class _Process(SpawnProcess):
    def start(self) -> None:
        """With SIGINT blocked until `_begin`: Ctrl-C on a terminal reaches a process that is still starting."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(SpawnContext):
    """Of an executor, to know its processes."""

    def __init__(self) -> None:
        self.started: list[_Process] = []

    def Process(self, *args: Any, **kwargs: Any) -> _Process:  # type: ignore[override]
        self.started.append(_Process(*args, **kwargs))
        return self.started[-1]


_shared: Any = None  # in a worker: what its tasks share


def _begin(level: int) -> None:
    """In a worker: a process group of its own, which ends with the parent; its warnings go to stderr."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("edgeticket").setLevel(level)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _call(shared: bytes | None, call: bytes) -> Any:
    global _shared
    if shared is not None:
        _shared = pickle.loads(shared)
    function, item = pickle.loads(call)
    try:
        return function(_shared, item)
    except Exception as error:
        _require_portable(error)
        raise


def _require_portable(error: Exception) -> None:
    """Raise EdgeTicketError with the words of an error that another process could not read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        raise EdgeTicketError(f"unexpected {type(error).__name__}: {error}") from error
