"""A roll-out where something is wrong: hostile numbers, a database of something else, one that is away, a clock set back."""

import dataclasses
import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sqlalchemy = pytest.importorskip("sqlalchemy")

from fleets import DEVICES, digest, line, lines, started  # noqa: E402
from servers import wait_until  # noqa: E402
from test_rollout import forked, path, run, script  # noqa: E402, F401

from edgeticket.errors import UsageError  # noqa: E402
from edgeticket.rollout import controller, hooks, service, show, status, store  # noqa: E402
from edgeticket.rollout.intake import ingest  # noqa: E402
from edgeticket.rollout.members import bound, position, size  # noqa: E402
from edgeticket.rollout.plan import Gate, Plan, gates, stages  # noqa: E402
from edgeticket.rollout.reports import LARGEST  # noqa: E402
from edgeticket.rollout.simulate import Fleet, simulate  # noqa: E402
from edgeticket.rollout.store import Store  # noqa: E402
from edgeticket.sequential import COUNTED, RateTest  # noqa: E402

ONCE = Plan(stages("100"), {"disagreement": Gate(0.1, 0.5, "device")}, alpha=0.01)


def units(where: Store, gate: str = "disagreement") -> int:
    return int(status.status(where)["gates"][gate]["units"])


# Numbers that no device means


def test_one_device_cannot_count_beyond_what_a_database_holds(path: str) -> None:  # noqa: F811
    plan = Plan(stages("100"), {"disagreement": Gate(0.1, 0.5, "inference")}, quorum=1.0)
    where = started(path, plan)
    assert ingest(where, [line(inferences=2**53)]).refused == {"wrong-value": 1}
    with where.writing() as connection:
        connection.execute(store.gates.update().values(units=COUNTED - 1))
    for sequence in range(1, 5):
        assert ingest(where, [line(sequence=sequence, inferences=LARGEST)]).counted == 1
    assert units(where) == COUNTED


# A device that counts once


def test_a_report_that_says_nothing_is_not_a_devices_only_observation(path: str) -> None:  # noqa: F811
    """Each gate has its own: a device that is off at first, or reports one number later than another."""
    both = {"disagreement": Gate(0.1, 0.5, "device"), "self_test": Gate(0.1, 0.5, "device")}
    where = started(path, dataclasses.replace(ONCE, gates=both, quorum=1.0))
    ingest(where, [line(device, 1, inferences=0) for device in DEVICES[:-1]])
    assert (units(where), units(where, "self_test")) == (0, 0)
    ingest(where, [line(device, 2, disagreements=100) for device in DEVICES[:1]])
    ingest(where, [line(device, n, self_test="ok") for n in (3, 4) for device in DEVICES[:-1]])
    assert (units(where), units(where, "self_test")) == (19, 19)
    assert status.status(where)["gates"]["disagreement"]["failures"] == 1


def test_a_device_that_is_taken_out_and_added_again_counts_once(path: str) -> None:  # noqa: F811
    where = started(path, ONCE)
    for _ in range(3):
        ingest(where, [line(disagreements=100)])
        assert status.status(where)["silent"] == len(DEVICES) - 1
        controller.remove(where, DEVICES[:1])
        controller.register(where, DEVICES[:1])
        assert DEVICES[0] in status.silent(where)
    assert units(where) == 1
    ingest(where, [line(DEVICES[1])])
    assert units(where) == 2


# How many devices are in a stage


@given(st.integers(1, 10**6), st.decimals("0.0000001", 100, places=7))
def test_a_stage_has_the_share_that_was_written(devices: int, percent: Any) -> None:
    exact = Fraction(percent) * devices / 100
    assert exact <= size(devices, float(percent)) < exact + 1


@pytest.mark.parametrize(("devices", "percent", "inside"), [(3000, 8.3, 249), (700, 0.57, 4), (10, 1e-10, 1)])
def test_everybody_agrees_how_many_devices_a_stage_has(devices: int, percent: float, inside: int) -> None:
    names = [f"d{index}" for index in range(devices)]
    limit = bound("r", names, percent)
    assert sum(position("r", name) <= limit for name in names) == inside
    plan = Plan(stages(f"{percent},100"), {"guard": Gate(0.01, 0.05)}, alpha=1e-300, beta=1e-300)
    assert f": {inside}, 100: {devices}" in show.outlook(plan, devices)[0]
    found = simulate(plan, Fleet(devices, {"guard": 0.03}, reports=1, inferences=1), 0, days=1)
    assert (found.state, found.got) == ("running", inside / devices)


def test_a_stage_that_is_one_device_short_is_refused() -> None:
    """249 devices, and a gate that needs 250: it could never pass."""
    alpha = math.exp(-249.5 * math.log(0.99 / 0.95))
    plan = Plan(stages("8.3,100"), {"guard": Gate(0.01, 0.05, "device")}, alpha)
    assert RateTest(0.01, 0.05, alpha, 0.1).least() == 250
    with pytest.raises(UsageError, match="has 249 devices"):
        controller.check_reachable(plan, 3000)
    controller.check_reachable(plan, 3013)


def test_the_outlook_says_what_happens_on_average() -> None:
    """Of 0 and 1 by the observation: simulated; of shares: from all alike to whole reports that fail."""
    plan = Plan(stages("100"), gates(["disagreement=0.5%:2%,unit=inference"]))
    rows = {row.split()[0]: row.split()[6:] for row in show.outlook(plan, 10000)[2:6]}
    test = plan.tests(0)["disagreement"]
    failed = np.random.default_rng(1).random((1000, 4000)) < test.good
    passed = np.cumsum(test.of_trials(failed, np.ones_like(failed, dtype=float))[1], axis=1) >= test.pass_at
    assert passed.any(axis=1).all()
    assert float(rows["disagreement"][0]) == pytest.approx(passed.argmax(axis=1).mean() + 1, rel=0.06)
    assert (rows["self_test"], rows["latency"]) == (["285"], ["566", "to", "684"])


# Databases


@contextmanager
def other(where: str, table: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(where)) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.commit()
        yield connection


@pytest.mark.parametrize("table", ["devices (serial TEXT)", "orders (number INTEGER)"])
def test_a_database_of_something_else_is_left_alone(path: str, table: str) -> None:  # noqa: F811
    with other(path, table) as connection:
        before = connection.execute("SELECT * FROM sqlite_master").fetchall()
        said = run("devices", path, "--add", "-", stdin="line-1", code=2)
        assert f"holds no fleet but other tables, such as {table.split()[0]}" in said
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == before


def test_a_fleet_is_made_with_its_first_devices_or_not_at_all(path: str) -> None:  # noqa: F811
    run("devices", path, "--add", "-", stdin="line-1\ntwo words", code=2)
    where = Store(path, create=True)
    with pytest.raises(UsageError, match="disk"), where.writing():
        raise UsageError("disk")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    assert "holds no fleet" in run("status", path, code=2)
    assert controller.register(where, DEVICES) == len(DEVICES)
    assert controller.register(where, DEVICES) == 0


def test_several_may_make_a_fleet_at_once(path: str) -> None:  # noqa: F811
    found: list[int] = []
    begun = [Store(path, create=True) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda each=each: found.append(controller.register(each, DEVICES))) for each in begun
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 0, len(DEVICES)]


def test_a_database_that_is_locked_does_not_end_serve(path: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(store, "WAIT_S", 0.05)
    monkeypatch.setattr(service, "LOOK_S", 0.05)
    monkeypatch.setattr(service, "RETRY_S", 0.05)
    where, stopped, told, failures = started(path), threading.Event(), list[str](), list[BaseException]()
    monkeypatch.setattr(store, "WAIT_S", 30)  # of all others

    def work() -> None:
        try:
            hook = service.Hook("true")
            service.serve(where, None, None, hook, stopped, lambda found: told.append(found["action"]))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: status.status(Store(path))["hook"])
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            for _ in range(2):
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(0.5)
                connection.execute("ROLLBACK")
        controller.revert(Store(path), "fire")
        wait_until(lambda: told or failures)
    finally:
        stopped.set()
        thread.join()
    assert (told, failures) == (["revert"], [])


# Hooks


def test_a_hook_says_what_no_database_holds(path: str, tmp_path: Path) -> None:  # noqa: F811
    where = started(path)
    command = script(tmp_path, r"sys.stdout.buffer.write(b'a\0b\xff')") + " \udcff"
    assert hooks.run_hook(where, command, 30) == hooks.HookRun(1, 0, "a\0b\ufffd")
    assert hooks.run_hook(where, command, 30) is None
    assert status.status(where)["hook"] | {"at": ""} == {"decision": 1, "at": "", "code": 0, "output": "a?b\ufffd"}
    assert "is reverted" in run("revert", path, "--reason", "smoke \udcff")
    assert status.log(where)[-1]["why"] == "by hand: smoke ?"


@pytest.mark.parametrize(("now", "runs"), [(0, False), (-3, False), (599, False), (606, True), (-3600, True)])
def test_the_claim_of_a_hook_that_died(path: str, monkeypatch: pytest.MonkeyPatch, now: float, runs: bool) -> None:  # noqa: F811
    """600 s and a margin; another's time-out is nothing to it, and a clock that was set back ends it."""
    where = started(path)

    def dies(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(hooks, "_call", dies)
    monkeypatch.setattr(hooks.time, "time", lambda: 1e9)
    with pytest.raises(KeyboardInterrupt):
        hooks.run_hook(where, "true", 600)
    monkeypatch.setattr(hooks, "_call", lambda *_: (0, ""))
    monkeypatch.setattr(hooks.time, "time", lambda: 1e9 + now)
    assert (hooks.run_hook(where, "true", 1) is not None) == runs


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-5"])
def test_a_time_out_that_is_none(path: str, seconds: str) -> None:  # noqa: F811
    started(path)
    assert "above 0" in run("step", path, "--hook", "true", "--hook-timeout-s", seconds, code=2)


# The command line


def test_what_is_said_of_a_slip(path: str, tmp_path: Path) -> None:  # noqa: F811
    run("devices", path, "--add", "-", stdin="\n".join(DEVICES))
    assert run("devices", path).splitlines()[0] == f"{DEVICES[0]}  -  -"
    for wrong in (tmp_path / "missing.bundle", tmp_path):
        words = ["new", path, "r1", "--model", str(wrong), "--previous", digest(0), "--stages", "100"]
        assert f"{wrong}: no digest of 64 digits" in run(*words, code=2)
    assert "--seed" in run("simulate", "--seed", "-1", code=2)
    assert "the broker is mqtt://" in run("serve", path, "--mqtt", "127.0.0.1:1883", code=2)


def test_a_file_without_any_report_is_an_error(path: str) -> None:  # noqa: F811
    started(path)
    assert "no line is a report" in run("report", path, "-", stdin="a\nb", code=1)
    run("report", path, "-", stdin="")
    sent = b"\n".join(lines(1)).decode()
    for _ in range(2):
        run("report", path, "-", stdin=f"{sent}\na")
