"""A Dask cluster: a real scheduler and real workers, each a process of its own on loopback."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from test_pool import Odd, attempts, tell, wait_until, warn

from edgeticket import cluster
from edgeticket.cli import main
from edgeticket.data import Data
from edgeticket.errors import EdgeTicketError, UnsupportedError, UsageError
from edgeticket.network import network_plan
from edgeticket.pool import open_pool
from edgeticket.settings import Settings

torch = pytest.importorskip("torch")
if not os.environ.get("CI"):
    pytest.importorskip("distributed")

ROOT = Path(cluster.__file__).parent.parent
SEEDS = range(4)
VICTIM = 2


class Dask:
    """A scheduler, and workers as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workers = folder, []  # type: Path, list[subprocess.Popen[bytes]]
        where = folder / "scheduler.json"
        words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show", "--scheduler-file", str(where)]
        self.scheduler = self._start("scheduler", words)
        wait_until(lambda: where.exists() and where.read_text().rstrip().endswith("}"))
        self.address = json.loads(where.read_text())["address"]

    def add(self, count: int = 1, threads: int = 1, path: str = "") -> None:
        """Workers; `path` comes first where they import from."""
        from distributed import Client

        words = [self.address, "--no-nanny", "--nthreads", str(threads), "--no-dashboard"]
        self.workers += [self._start("worker", words, path) for _ in range(count)]
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(sum(worker.poll() is None for worker in self.workers), timeout=60)

    def _start(self, role: str, words: list[str], path: str = "") -> "subprocess.Popen[bytes]":
        places = [path, str(Path(__file__).parent), *sys.path]
        with open(self.folder / f"{role}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{role}", *words],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    started = Dask(tmp_path_factory.mktemp("dask"))
    yield started
    started.stop()


def search(shared: tuple[Data, Path | None], seed: int) -> str:
    """The ticket's digest. Where a folder is given, each attempt leaves a file there and the VICTIM's first dies in mid-search."""
    from edgeticket.find import find

    data, folder = shared
    tries = 0
    if folder:
        tries = attempts(folder, seed)
        (folder / f"{seed}.{tries}").touch()

    def report(progress: Any) -> None:
        if folder and seed == VICTIM and tries == 0 and progress.step == 10:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings(epochs=1, batch=64, seed=seed)
    return find(network_plan("conv:8,8", data), data, settings, control=False, report=report).ticket.digest


def end_late(folder: Path, item: int) -> int:
    (folder / f"{item}.{attempts(folder, item)}").touch()
    wait_until(lambda: (folder / "go").exists() or item > 0)
    return item


def die_first(shared: tuple[Path, int], item: int) -> int:
    folder, base = shared
    tries = attempts(folder, item)
    (folder / f"{item}.{tries}").touch()
    if item == 1 and tries == 0:
        os._exit(1)
    return base + item


def die(folder: Path, item: str) -> None:
    """Or stay, as another item."""
    (folder / f"{item}.{attempts(folder, item)}").touch()
    if item == "deadly":
        os._exit(1)
    time.sleep(60)


@pytest.mark.slow
def test_a_cluster_gives_what_this_machine_gives_though_a_worker_dies(dask: Dask, digits: Data, tmp_path: Path) -> None:
    dask.add(2)
    found = []
    for pool in (open_pool(1), open_pool(2), open_pool(cluster=dask.address)):
        with pool as opened:
            found.append(dict(opened.run(search, (digits, None), SEEDS)))
    with open_pool(cluster=dask.address) as opened:
        found.append(dict(opened.run(search, (digits, tmp_path), SEEDS)))
    assert sorted(found[0]) == list(SEEDS)
    assert len(set(found[0].values())) == len(SEEDS)
    assert found[1:] == found[:1] * 3
    assert [attempts(tmp_path, seed) for seed in SEEDS] == [2 if seed == VICTIM else 1 for seed in SEEDS]
    assert sorted(worker.poll() is None for worker in dask.workers) == [False, True]


@pytest.mark.slow
def test_local_workers_go_on_when_one_dies_in_mid_search(digits: Data, tmp_path: Path) -> None:
    with open_pool(2) as pool:
        whole = dict(pool.run(search, (digits, None), SEEDS))
        again = dict(pool.run(search, (digits, tmp_path), SEEDS))
    assert again == whole
    assert [attempts(tmp_path, seed) for seed in SEEDS] == [2 if seed == VICTIM else 1 for seed in SEEDS]


@pytest.mark.slow
def test_errors_and_warnings_come_from_the_cluster(dask: Dask, caplog: pytest.LogCaptureFixture) -> None:
    dask.add(1)
    logging.getLogger("edgeticket").propagate = True  # the command line may have turned it off
    with open_pool(cluster=dask.address) as pool:
        with pytest.raises(UnsupportedError, match="item 7") as told:
            list(pool.run(tell, UnsupportedError, [7]))
        assert type(told.value) is UnsupportedError
        with pytest.raises(Exception, match="item 7"):
            list(pool.run(tell, Odd, [7]))
        assert list(pool.run(warn, None, [5])) == [(5, None)]
        wait_until(lambda: "warned of 5" in caplog.text)
    assert "informed" not in caplog.text


@pytest.mark.slow
def test_a_worker_that_joins_gets_work(dask: Dask, tmp_path: Path) -> None:
    dask.add(1)
    with open_pool(cluster=dask.address) as pool:
        done = pool.run(end_late, tmp_path, iter([1, 0, 2, 3]))
        assert next(done) == (1, 1)
        dask.add(1)
        assert [next(done)[0], next(done)[0]] == [2, 3]  # 0 keeps the first worker
        (tmp_path / "go").touch()
        assert list(done) == [(0, 0)]


@pytest.mark.slow
def test_all_workers_may_die_with_the_data(dask: Dask, tmp_path: Path) -> None:
    dask.add(1)

    def add() -> None:
        dask.workers[0].wait()
        dask.add(1)

    adding = Thread(target=add)
    adding.start()
    with open_pool(cluster=dask.address) as pool:
        assert list(pool.run(die_first, (tmp_path, 40), [1, 2])) == [(1, 41), (2, 42)]
    adding.join()
    assert [attempts(tmp_path, item) for item in (1, 2)] == [2, 1]


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up_by_name(dask: Dask, tmp_path: Path) -> None:
    dask.add(5)
    with (
        open_pool(cluster=dask.address) as pool,
        pytest.raises(EdgeTicketError, match=r"^deadly: the cluster's workers died on it"),
    ):
        list(pool.run(die, tmp_path, ["another", "deadly"]))
    assert (attempts(tmp_path, "deadly"), attempts(tmp_path, "another")) == (4, 1)


@pytest.mark.slow
def test_without_workers_work_is_given_up(dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    monkeypatch.setattr(cluster, "ALONE", 0.5)
    with pytest.raises(EdgeTicketError, match=r"no worker.*dask worker tcp://"), open_pool(cluster=dask.address):
        pass
    dask.add(1)
    with open_pool(cluster=dask.address) as pool, pytest.raises(EdgeTicketError, match="no worker"):
        list(pool.run(die, tmp_path, ["deadly"]))


@pytest.mark.slow
def test_a_scheduler_that_dies_is_told(dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 1.0)
    dask.add(1)
    with open_pool(cluster=dask.address) as pool:
        running = pool.run(end_late, tmp_path, [1, 0])
        assert next(running) == (1, 1)
        wait_until(lambda: attempts(tmp_path, 1) == 1)
        dask.scheduler.kill()
        with pytest.raises(EdgeTicketError, match="connection to the scheduler was lost"):
            next(running)


@pytest.mark.slow
def test_a_worker_that_is_not_fit_is_told_by_address(dask: Dask, tmp_path: Path) -> None:
    for folder in ("edgeticket", "exporters"):
        shutil.copytree(ROOT / folder, tmp_path / "other" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "other" / "edgeticket" / "prng.py").open("a").write("\n")
    (tmp_path / "none" / "edgeticket").mkdir(parents=True)
    (tmp_path / "none" / "edgeticket" / "__init__.py").write_text("")
    unfit = [
        ({"threads": 2}, r"worker tcp://127\S+ has 2 threads.*--nthreads 1"),
        ({"path": str(tmp_path / "other")}, r"worker tcp://127\S+ has edgeticket.*results would differ"),
        ({"path": str(tmp_path / "none")}, "a worker cannot import this edgeticket"),
    ]
    for options, told in unfit:
        dask.add(1, **options)  # type: ignore[arg-type]
        with pytest.raises(EdgeTicketError, match=told), open_pool(cluster=dask.address):
            pass
        dask.workers[-1].kill()
        dask.workers[-1].wait()


@pytest.mark.slow
def test_a_worker_that_joins_unfit_is_told(dask: Dask, tmp_path: Path) -> None:
    dask.add(1)
    with open_pool(cluster=dask.address) as pool:
        running = pool.run(end_late, tmp_path, [1, 0, 2, 3])
        assert next(running) == (1, 1)
        dask.add(1, threads=2)
        with pytest.raises(EdgeTicketError, match="has 2 threads"):
            list(running)


NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
"""


@pytest.mark.slow
def test_a_sweep_sends_networks_and_not_where_they_lie(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask.add(2)
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "-m", "net.py:Net", "-m", "conv:8,8", "--seeds", "0-1", "--epochs", "1", "--format", "json", "-o"]
    rows = []
    for more in (["a"], ["b", "--workers", "2"], ["c", "--cluster", dask.address]):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 0, done.output
        rows.append([json.loads(line) for line in done.stdout.splitlines()])
        for row in rows[-1]:
            del row["cpu_seconds"]
    assert len(rows[0]) == 4
    assert rows[1:] == rows[:1] * 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a", "b", "c", "net.py"]


@pytest.mark.slow
def test_a_plug_in_that_is_another_file_on_a_worker_is_told(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask.add(1)
    method = "from edgeticket.search.subset_sum import *\n"
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0", "--epochs", "1", "--method", "mine.py", "-o", "rows"]
    for there, told in ((method + "# other\n", "mine.py is another file here"), (None, "no such file")):
        (tmp_path / "mine.py").write_text(method)
        (dask.folder / "mine.py").unlink(missing_ok=True)
        if there:
            (dask.folder / "mine.py").write_text(there)
        done = CliRunner().invoke(main, [*words, "--cluster", dask.address])
        assert done.exit_code == 1
        assert told in done.output
    (dask.folder / "mine.py").write_text(method)
    done = CliRunner().invoke(main, [*words, "--cluster", dask.address])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:8786", "http://127.0.0.1:8786", "tcp://127.0.0.1", "s.json"]
)
def test_what_is_no_address_is_told_at_once(address: str) -> None:
    with pytest.raises(UsageError, match="for example tcp://"), open_pool(cluster=address):
        pass


def test_a_scheduler_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.3)
    with (
        pytest.raises(EdgeTicketError, match=r"--cluster tcp://127.0.0.1:1: no Dask scheduler answers"),
        open_pool(cluster="tcp://127.0.0.1:1"),
    ):
        pass


def test_tls_without_certificates_is_told() -> None:
    with pytest.raises(EdgeTicketError, match="names no certificates"), open_pool(cluster="tls://127.0.0.1:1"):
        pass


def test_without_the_package_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0", "--epochs", "1", "-o", str(tmp_path / "rows")]
    done = CliRunner().invoke(main, [*words, "--cluster", "tcp://127.0.0.1:1"])
    assert done.exit_code == 1
    assert "pip install 'edgeticket[cluster]'" in done.output


def test_what_decides_results_is_one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgeticket").mkdir()
    (tmp_path / "edgeticket" / "one.py").write_text("1")
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    words = cluster.program.__wrapped__
    first = words()
    (tmp_path / "edgeticket" / "notes.txt").write_text("1")
    assert words() == first
    (tmp_path / "edgeticket" / "one.py").write_text("2")
    assert words() != first
    assert f"torch {torch.__version__}" in first
