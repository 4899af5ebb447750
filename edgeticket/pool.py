"""Independent tasks on several processes: of this machine (lanes.py), or of a Dask cluster (cluster.py).

A worker that dies costs its own task only: the task is handed out again.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from itertools import islice, takewhile
from textwrap import shorten
from typing import Any, Protocol, TypeVar

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.lanes import Lanes

LOG = logging.getLogger("edgeticket.pool")
ATTEMPTS = 4  # of a task: the first, and three after a worker died on it
LONGEST_NAME = 200  # characters of a task in an error

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


class Workers(Protocol):
    """What runs tasks. Futures are those of `concurrent.futures`."""

    def hold(self, shared: Any) -> None:
        """Let `shared` be what following tasks get: it reaches a worker once."""

    def room(self, running: int) -> bool:
        """Whether a worker is free while so many tasks run."""

    def submit(self, function: Callable[[Any, Any], Any], item: Any) -> Future[Any]:
        """Start `function(shared, item)`."""

    def wait(self, running: Iterable[Future[Any]]) -> set[Future[Any]]:
        """Those that are done, one at least."""

    def result(self, future: Future[Any], item: Any) -> Any:
        """Of a future that is done. Raises BrokenExecutor where its worker died, else what the function raised."""

    def stop(self) -> None:
        """End or forget what runs."""

    def close(self) -> None:
        """Leave nothing behind."""


class Pool:
    """Use `open_pool`. One `run` at a time."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def run(
        self,
        function: Callable[[S, T], R],
        shared: S,
        items: Iterable[T],
        go_on: Callable[[], bool] = lambda: True,
    ) -> Iterator[tuple[T, R]]:
        """`(item, function(shared, item))` of every item, in the order in which they are done.

        `function` is one of a module, and is called in another process; `shared` is sent once to each worker. `go_on` is
        asked before an item is taken: once False, no more are, and what runs is waited for. Whatever `function` raises is
        raised here, and the rest is cancelled. Raises EdgeTicketError for an item on which a worker died ATTEMPTS times.
        """
        source = takewhile(lambda item: go_on(), items)
        running: dict[Future[R], tuple[T, int]] = {}  # item and attempt
        self._workers.hold(shared)
        try:
            while self._hand_out(function, source, running):
                done = self._workers.wait(running)
                while done:
                    future = done.pop()
                    item, attempt = running.pop(future)
                    try:
                        result = self._workers.result(future, item)
                    except BrokenExecutor as error:
                        _require_more(item, attempt, error)
                        running[self._workers.submit(function, item)] = item, attempt + 1
                    else:
                        del future  # while it is referred to, Dask works its result out again if the worker dies
                        yield item, result
        finally:
            self._workers.stop()

    def _hand_out(
        self, function: Callable[[S, T], R], source: Iterator[T], running: dict[Future[R], tuple[T, int]]
    ) -> bool:
        """Give every free worker an item; whether any is running then."""
        while self._workers.room(len(running)):
            for item in islice(source, 1):
                running[self._workers.submit(function, item)] = item, 1
                break
            else:
                break
        return bool(running)


def _require_more(item: Any, attempt: int, error: BrokenExecutor) -> None:
    name = shorten(str(item), LONGEST_NAME)
    if attempt == ATTEMPTS:
        raise EdgeTicketError(
            f"{name}: its worker died {ATTEMPTS} times, so it is given up; workers say why on their stderr, and where they "
            "say nothing, the system may have run out of memory: use fewer workers"
        ) from error
    LOG.warning("%s: its worker died; it is handed out again (%d of %d)", name, attempt, ATTEMPTS - 1)


@contextmanager
def open_pool(workers: int = 1, cluster: str = "") -> Iterator[Pool]:
    """So many processes of this machine, or all workers of the Dask scheduler at `cluster`. They are ended at the end.

    Raises UsageError for fewer than one worker or for both, EdgeTicketError for a cluster that is not fit (cluster.connect).
    """
    if workers < 1:
        raise UsageError(f"{workers} workers: take 1 or more")
    if cluster and workers != 1:
        raise UsageError(f"--workers {workers} --cluster {cluster}: a cluster has its own workers: leave --workers out")
    opened: Workers = _connect(cluster) if cluster else Lanes(workers)
    try:
        yield Pool(opened)
    finally:
        opened.close()


def _connect(address: str) -> Workers:
    from edgeticket.cluster import connect

    return connect(address)
