"""pool: every item once, whatever dies; an error as it was raised; nothing left behind."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edgeticket.errors import BudgetError, EdgeTicketError, UnsupportedError, UsageError
from edgeticket.lanes import Lane, end
from edgeticket.pool import ATTEMPTS, Pool, open_pool

loads = 0  # in a worker: how often what is shared came


class Shared:
    """Counts in a worker how often it comes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, Any]) -> None:
        global loads
        loads += 1
        self.__dict__.update(state)


class Odd(Exception):
    """Cannot be read back from a pickle."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one)


def about(shared: Shared, item: int) -> tuple[int, int, int]:
    return os.getpid(), shared.number + item, loads


def square(shared: None, item: int) -> int:
    return item * item


def after_the_other(folder: Path, item: str) -> str:
    """`first` waits for `second`."""
    if item == "first":
        wait_until((folder / "second").exists)
    (folder / item).touch()
    return item


def tell(error: type[Exception], item: int) -> int:
    raise error(f"item {item}", "more") if error is Odd else error(f"item {item}")


def die_once(folder: Path, item: int) -> int:
    """Item 3 dies at its first attempt, when item 4 has begun; item 4 ends when item 3 has begun again."""
    tries = attempts(folder, item)
    (folder / f"{item}.{tries}").touch()
    if item == 3 and tries == 0:
        wait_until(lambda: attempts(folder, 4) > 0)
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 4:
        wait_until(lambda: attempts(folder, 3) > 1)
    return item


def die(folder: Path, item: str) -> None:
    (folder / f"{item}.{attempts(folder, item)}").touch()
    os._exit(1)


def attempts(folder: Path, item: Any) -> int:
    return len(list(folder.glob(f"{item}.*")))


def hang(folder: Path, item: int) -> None:
    """With a process of its own; or, once another hangs, fail as item 0 and return as item -1."""
    if item < 1:
        wait_until(lambda: len(list(folder.glob("*.pid"))) == 2)
        if item == 0:
            raise BudgetError("enough")
        return
    child = subprocess.Popen(["sleep", "600"])
    for pid in (os.getpid(), child.pid):
        (folder / f"{pid}.pid").touch()
    child.wait()


def interrupt(shared: None, item: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return item


def warn(shared: None, item: int) -> None:
    logging.getLogger("edgeticket.some").warning("warned of %d", item)
    logging.getLogger("edgeticket.some").info("informed of %d", item)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def left(folder: Path) -> list[int]:
    """Processes that `hang` was in."""
    return [pid for pid in (int(path.stem) for path in folder.glob("*.pid")) if runs(pid)]


def test_every_item_once_in_processes_that_get_what_is_shared_once() -> None:
    with open_pool(2) as pool:
        first, second = (dict(pool.run(about, Shared(base), range(9))) for base in (10, 20))
    assert sorted(first) == sorted(second) == list(range(9))
    assert all(first[item][1] == 10 + item and second[item][1] == 20 + item for item in range(9))
    assert {loaded for *_, loaded in first.values()} == {1}
    assert {loaded for *_, loaded in second.values()} == {2}
    used = {pid for pid, *_ in [*first.values(), *second.values()]}
    assert len(used) == 2
    assert os.getpid() not in used
    assert not any(map(runs, used))


def test_results_come_in_the_order_in_which_they_are_done(tmp_path: Path) -> None:
    with open_pool(2) as pool:
        done = list(pool.run(after_the_other, tmp_path, ["first", "second"]))
    assert done == [("second", "second"), ("first", "first")]


def test_items_are_taken_as_they_are_needed_until_told_to_stop() -> None:
    taken: list[int] = []
    done: list[int] = []

    def endless() -> Iterator[int]:
        for item in count():
            taken.append(item)
            yield item

    with open_pool(2) as pool:
        for item, result in pool.run(square, None, endless(), lambda: len(done) < 5):
            assert result == item * item
            done.append(item)
            assert len(taken) <= len(done) + 2
    assert 5 <= len(done) <= 6  # another was running when the fifth was done
    assert sorted(done) == list(range(len(done)))


def test_once_told_to_stop_it_does_not_begin_again() -> None:
    answers = iter([True, False, True, True])
    with open_pool() as pool:
        assert list(pool.run(square, None, range(4), lambda: next(answers))) == [(0, 0)]
        assert list(pool.run(square, None, range(4), lambda: False)) == []


@pytest.mark.parametrize("error", [UnsupportedError, BudgetError, KeyError])
def test_an_error_arrives_as_it_was_raised(error: type[Exception]) -> None:
    with open_pool() as pool:
        with pytest.raises(error, match="item 7") as told:
            list(pool.run(tell, error, [7]))
        assert type(told.value) is error
        assert list(pool.run(square, None, [3])) == [(3, 9)]


def test_an_error_that_cannot_be_sent_is_told_in_words() -> None:
    with open_pool() as pool, pytest.raises(EdgeTicketError, match="unexpected Odd: item 7"):
        list(pool.run(tell, Odd, [7]))


def test_what_cannot_be_sent_is_told_at_once() -> None:
    with open_pool() as pool:
        with pytest.raises(Exception, match="pickle"):
            list(pool.run(lambda shared, item: item, None, [1]))
        with pytest.raises(Exception, match="pickle"):
            list(pool.run(square, lambda: None, [1]))  # type: ignore[arg-type]


def test_a_death_costs_only_its_own_item(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_pool(2) as pool:
        assert sorted(pool.run(die_once, tmp_path, range(6))) == [(item, item) for item in range(6)]
    assert [attempts(tmp_path, item) for item in range(6)] == [1, 1, 1, 2, 1, 1]
    assert "3: its worker died; it is handed out again (1 of 3)" in caplog.text


def test_an_item_that_kills_every_worker_is_given_up_by_name(tmp_path: Path) -> None:
    with open_pool() as pool, pytest.raises(EdgeTicketError, match=f"^deadly: its worker died {ATTEMPTS} times"):
        list(pool.run(die, tmp_path, ["deadly"]))
    assert attempts(tmp_path, "deadly") == ATTEMPTS == 4


def test_a_worker_that_died_between_two_items_costs_nothing() -> None:
    with open_pool() as pool:
        ((_, (pid, *_)),) = pool.run(about, Shared(1), [1])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not runs(pid))
        ((_, (other, *_)),) = pool.run(about, Shared(1), [1])
    assert other != pid


def test_an_error_ends_what_else_runs_with_its_own_processes(tmp_path: Path) -> None:
    with open_pool(2) as pool:
        with pytest.raises(BudgetError, match="enough"):
            list(pool.run(hang, tmp_path, [1, 0]))
        assert len(list(tmp_path.glob("*.pid"))) == 2
        wait_until(lambda: not left(tmp_path))
        assert sorted(pool.run(square, None, [3, 4])) == [(3, 9), (4, 16)]


def test_leaving_a_run_in_the_middle_ends_what_runs(tmp_path: Path) -> None:
    with open_pool(2) as pool:
        running = pool.run(hang, tmp_path, [1, -1])
        assert next(running) == (-1, None)
        assert len(left(tmp_path)) == 2
    wait_until(lambda: not left(tmp_path))
    running.close()


def test_workers_ignore_ctrl_c() -> None:
    with open_pool() as pool:
        assert list(pool.run(interrupt, None, [1, 2])) == [(1, 1), (2, 2)]


def test_ctrl_c_does_not_reach_a_worker_that_is_starting() -> None:
    lane = Lane()
    try:
        future = lane.submit(pickle.dumps(None), square, 3)
        os.kill(lane.context.started[0].pid or 0, signal.SIGINT)
        assert future.result(timeout=60) == 9
    finally:
        end([lane])


def test_warnings_of_workers_reach_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with open_pool(2) as pool:
        list(pool.run(warn, None, [1, 2]))
    told = capfd.readouterr().err
    assert sorted(line for line in told.splitlines() if "of" in line) == ["warned of 1", "warned of 2"]


SCRIPT = """
import sys
from pathlib import Path
from edgeticket.pool import open_pool
from test_pool import hang
if __name__ == "__main__":
    with open_pool(2) as pool:
        list(pool.run(hang, Path(sys.argv[1]), [1, 2]))
"""


@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)])
def test_whatever_ends_the_parent_ends_its_workers(tmp_path: Path, number: int, group: bool) -> None:
    """A terminal sends Ctrl-C to all of its group, `kill` to the parent alone."""
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, "script.py", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(left(tmp_path)) == 4)
    (os.killpg if group else os.kill)(parent.pid, number)
    told = parent.communicate(timeout=60)[1]
    wait_until(lambda: not left(tmp_path))
    assert parent.returncode != 0
    if number == signal.SIGINT:
        assert told.count("Traceback") == told.count("KeyboardInterrupt") == 1


def test_numbers_that_make_no_pool() -> None:
    for workers, cluster, told in ((0, "", "take 1 or more"), (2, "tcp://127.0.0.1:1", "leave --workers out")):
        with pytest.raises(UsageError, match=told), open_pool(workers, cluster):
            pass


class AtOnce:
    """Workers that are done at once, and know which of their futures anyone still has."""

    def __init__(self) -> None:
        self.given: weakref.WeakSet[Future[int]] = weakref.WeakSet()
        self.hold = lambda shared: None
        self.stop = self.close = lambda: None

    def room(self, running: int) -> bool:
        return running < 2

    def submit(self, function: Callable[[Any, Any], Any], item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(None, item))
        self.given.add(future)
        return future

    def wait(self, running: Iterable[Future[Any]]) -> set[Future[Any]]:
        return set(running)

    def result(self, future: Future[Any], item: Any) -> Any:
        return future.result()


def test_a_task_that_is_done_is_let_go_of() -> None:
    """Else Dask, should the worker die later, would do it again."""
    workers = AtOnce()
    left = [len(workers.given) for _ in Pool(workers).run(square, None, range(6))]
    assert left == [1, 0, 1, 0, 1, 0]
