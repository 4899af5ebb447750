"""Workers of a Dask cluster that is there already: pool.py hands tasks to them."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any

from edgeticket import __version__
from edgeticket.errors import EdgeTicketError, UsageError

ROOT = Path(__file__).parent.parent
CONNECT = 10.0  # seconds until a scheduler counts as out of reach
ALONE = 60.0  # seconds without any worker until work is given up
LOOK_EVERY = 2.0  # seconds
TRIES = 3  # to send what tasks share
LONGEST_NAME = 200  # characters of a task in an error
_ADDRESS = re.compile(r"(tcp|tls)://\S+:\d{1,5}")


@cache
def program() -> str:
    """What decides results, in words: equal words, equal results on equal processors."""
    found = hashlib.sha256()
    files = (path for folder in ("edgeticket", "exporters") for path in sorted((ROOT / folder).rglob("*")))
    for path in (path for path in files if path.suffix in (".py", ".c", ".h")):
        found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    packages = ", ".join(f"{name} {_version(name)}" for name in ("torch", "numpy"))
    return f"edgeticket {__version__} (files {found.hexdigest()[:12]}), {packages}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def require_fit(wanted: str, dask_worker: Any = None) -> None:
    """On a worker: raises EdgeTicketError unless it has the client's `program` and one thread.

    `dask_worker`: given by Dask itself where this is run outside of a task.
    """
    from distributed import get_worker

    worker = dask_worker or get_worker()
    if worker.state.nthreads != 1:
        raise EdgeTicketError(
            f"worker {worker.address} has {worker.state.nthreads} threads, and a search needs a process of its own: "
            "start it with --nthreads 1, and several with --nworkers N"
        )
    if program() != wanted:
        raise EdgeTicketError(
            f"worker {worker.address} has {program()}, and this machine has {wanted}: results would differ: "
            "install the same there and start the worker again"
        )


def _call(wanted: str, function: Callable[[Any, Any], Any], shared: Any, item: Any) -> Any:
    require_fit(wanted)  # it may have joined since
    return function(shared, item)


def connect(address: str) -> "Cluster":
    """`address`: tcp://HOST:PORT, or tls:// with Dask configured for it.

    Raises UsageError for another one, EdgeTicketError where the scheduler or its workers are missing, or a worker is not fit.
    """
    _check(address)
    import distributed

    try:
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except OSError as error:
        raise EdgeTicketError(
            f"--cluster {address}: no Dask scheduler answers ({error}): take the address that `dask scheduler` prints, and look "
            "whether it runs and can be reached from here"
        ) from error
    cluster = Cluster(client, address)
    try:
        cluster.require_fit()
    except BaseException:
        cluster.close()
        raise
    return cluster


def _check(address: str) -> None:
    """What Dask would find out late."""
    if not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"--cluster {address}: write it as `dask scheduler` prints it, for example tcp://10.0.0.5:8786"
        )
    from distributed import Security

    if address.startswith("tls:") and not Security().get_connection_args("client")["ssl_context"]:
        raise EdgeTicketError(
            f"--cluster {address}: Dask's configuration here names no certificates: see TLS in Dask's documentation"
        )


class Cluster:
    """The `Workers` of a pool (edgeticket/pool.py)."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._executor = client.get_executor(pure=False)
        self._shared, self._held = None, None  # what tasks share, and where it lies on the cluster
        self._running: dict[Future[Any], str] = {}  # and the worker that it was given to
        client.forward_logging("edgeticket", level=logging.WARNING)

    def require_fit(self) -> None:
        """Raises EdgeTicketError where there is no worker, or one that is not fit."""
        self._require_worker(CONNECT)
        with self._explained():
            try:
                self._client.run(require_fit, program())
            except (EdgeTicketError, OSError):
                raise
            except Exception as error:  # Dask sends an ImportError as one, or in words
                raise EdgeTicketError(
                    f"{self._address}: a worker cannot import this edgeticket ({error}): install the same version there"
                ) from error

    def _require_worker(self, seconds: float) -> None:
        """Wait for one. Raises EdgeTicketError where none comes in time."""
        end = time.monotonic() + seconds
        while not self._threads():
            if time.monotonic() > end:
                raise EdgeTicketError(
                    f"{self._address}: the scheduler has no worker, after {seconds:.0f} s: start some, each with "
                    f"`dask worker {self._address} --nthreads 1`, then start again what you ran"
                )
            time.sleep(0.1)

    def _threads(self) -> dict[str, int]:
        """Of every worker."""
        with self._explained():
            found: dict[str, int] = self._client.nthreads()
        return found

    def hold(self, shared: Any) -> None:
        self._shared = shared
        for _ in range(TRIES):
            self._require_worker(ALONE)
            with suppress(OSError, KeyError):  # what Dask raises where a worker dies just then
                (self._held,) = self._client.scatter([shared], broadcast=True, hash=False)
                return
        raise self._lost()

    def room(self, running: int) -> bool:
        return running < max(1, len(self._threads()))

    def submit(self, function: Callable[[Any, Any], Any], item: Any) -> Future[Any]:
        """To a worker that has none: what waits on a worker, or was not fetched from it, would die with it."""
        free = [address for address in self._threads() if address not in self._running.values()]
        place = {"workers": free[:1], "allow_other_workers": True} if free else {}
        with self._explained():
            future: Future[Any] = self._executor.submit(_call, program(), function, self._held, item, **place)
        self._running[future] = free[0] if free else ""
        return future

    def wait(self, running: Iterable[Future[Any]]) -> set[Future[Any]]:
        while not (done := wait(running, LOOK_EVERY, FIRST_COMPLETED).done):
            self._require_worker(ALONE)
        return done

    def result(self, future: Future[Any], item: Any) -> Any:
        from distributed import KilledWorker

        self._running.pop(future, None)
        try:
            return future.result()
        except KilledWorker as error:
            raise EdgeTicketError(
                f"{shorten(str(item), LONGEST_NAME)}: the cluster's workers died on it, one after the other: {error}"
            ) from error
        except CancelledError as error:
            if self._client.status != "running":
                raise self._lost() from error
            self.hold(self._shared)  # it lay on workers that died, all of them
            raise BrokenExecutor("its workers died with the data") from error

    def stop(self) -> None:
        for future in self._running:
            future.cancel()
        self._running.clear()

    def close(self) -> None:
        with suppress(OSError):  # the scheduler is gone
            self._client.unforward_logging("edgeticket")
        self._client.close()

    def _lost(self) -> EdgeTicketError:
        return EdgeTicketError(
            f"{self._address}: the connection to the scheduler was lost: look whether it runs, then start again what you ran"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._lost() from error
