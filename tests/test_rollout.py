"""A roll-out: who gets what when, by what evidence, and back again."""

import dataclasses
import json
import os
import random
import re
import shlex
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

sqlalchemy = pytest.importorskip("sqlalchemy")

from fleets import DEVICES, SHORT, digest, line, lines, noisy, started  # noqa: E402

from edgeticket.cli import main  # noqa: E402
from edgeticket.errors import EdgeTicketError, UsageError  # noqa: E402
from edgeticket.rollout import controller, current, hooks, intake, replay, show, status  # noqa: E402
from edgeticket.rollout.gating import feed, fresh, judge  # noqa: E402
from edgeticket.rollout.intake import ingest  # noqa: E402
from edgeticket.rollout.members import EVERYWHERE, bound, position  # noqa: E402
from edgeticket.rollout.plan import GATES, STAGES, Gate, Plan, gates, rates, stages  # noqa: E402
from edgeticket.rollout.reports import Refused, Report, parse  # noqa: E402
from edgeticket.rollout.simulate import Fleet, simulate  # noqa: E402
from edgeticket.rollout.store import Store  # noqa: E402
from edgeticket.sequential import Evidence  # noqa: E402

USUAL = Plan(stages(STAGES), gates([]))


@pytest.fixture
def path() -> Iterator[str]:
    """In memory where that is a folder: what is committed survives a kill there too, and a sync costs nothing."""
    memory = next((str(each) for each in [Path("/dev", "shm")] if each.is_dir()), None)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield f"{folder}/fleet.db"


# Plans


def test_plan_survives_the_database() -> None:
    plan = Plan(
        stages("shadow,10,100"),
        gates(["guard=2%:4%,unit=device", "latency=off", "disagreement=0.01:0.1,stages=shadow"]),
    )
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.gates["guard"] == Gate(0.02, 0.04, "device")
    assert set(plan.tests(0)) == {"disagreement", "self_test", "guard"}
    assert set(plan.tests(1)) == {"self_test", "guard"}
    assert [stage.name for stage in plan.stages] == ["shadow:100", "10", "100"]


def test_beta_is_shared_by_every_test_of_every_stage() -> None:
    plan = Plan(stages("shadow:5,100"), gates(["disagreement=0.01:0.1,stages=shadow"]), beta=0.07)
    tests = [test for index in range(2) for test in plan.tests(index).values()]
    assert len(tests) == 7
    assert sum(test.beta for test in tests) == pytest.approx(0.07)
    assert {test.alpha for test in tests} == {plan.alpha}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5,1,100",
        "5,5,100",
        "100,shadow:5",
        "shadow",
        "a,100",
        "0,100",
        "101",
        "nan,100",
        "dark:5,100",
        "5,,100",
    ],
)
def test_stages_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        Plan(stages(text), gates([]))


@pytest.mark.parametrize(
    "word",
    [
        "speed=1%:2%",
        "guard",
        "guard=1%",
        "guard=3%:1%",
        "guard=a:b",
        "guard=1%:2%,unit=week",
        "guard=1%:2%,x=1",
        "guard=nan:1%",
        "guard=1%:2%,stages=last",
    ],
)
def test_gates_that_make_no_sense(word: str) -> None:
    with pytest.raises(UsageError):
        gates([word])


def test_plans_that_hold_nothing() -> None:
    off = [f"{name}=off" for name in GATES]
    for words in (off, [*off[1:], "disagreement=1%:2%,stages=shadow"]):
        with pytest.raises(UsageError, match="gate"):
            Plan(stages("shadow:5,100"), gates(words))
    with pytest.raises(UsageError, match="quorum"):
        Plan(stages("100"), gates([]), quorum=0)


# Which devices


def test_stages_are_nested_and_of_the_size_that_was_asked_for() -> None:
    names = [f"d{index}" for index in range(1000)]
    limits = [bound("r", names, percent) for percent in (0.01, 1, 5, 25, 100)]
    inside = [{name for name in names if position("r", name) <= limit} for limit in limits]
    assert [len(each) for each in inside] == [1, 10, 50, 250, 1000]
    assert all(small < large for small, large in pairwise(inside))
    assert bound("r", [], 5) == -1
    assert bound("r", [], 100) == EVERYWHERE


def test_another_rollout_starts_with_other_devices() -> None:
    names = [f"d{index}" for index in range(1000)]
    limits = {rollout: bound(rollout, names, 5) for rollout in "ab"}
    first, second = ({name for name in names if position(rollout, name) <= limit} for rollout, limit in limits.items())
    assert len(first & second) < 15


def test_positions_are_frozen() -> None:
    """A fleet that was started by another version goes on with the same devices."""
    assert position("spring", "line-1") == 3369915038433925367


def test_nobody_leaves_a_stage_when_the_fleet_grows(path: str) -> None:
    store = started(path)
    ingest(store, lines(3))
    before = {each["device"] for each in status.assignments(store) if each["aside"]}
    controller.register(store, [f"new/{index}" for index in range(500)])
    after = {each["device"] for each in status.assignments(store) if each["aside"]}
    assert before <= after
    assert status.status(store)["members"] == len(after)


def test_nobody_leaves_between_stages_when_many_devices_join(path: str) -> None:
    """A name whose four lowest devices lie high: 21 % of the larger fleet would end below some of them."""
    name = next(name for name in map(str, range(1000)) if bound(name, DEVICES, 20) > 0.3 * EVERYWHERE)
    plan = dataclasses.replace(SHORT, stages=stages("20,21,100"), quorum=0.001)
    store = started(path, plan, name=name)
    before = {each["device"] for each in status.assignments(store) if each["aside"]}
    controller.register(store, [f"new/{index}" for index in range(2000)])
    ingest(store, lines(10))
    assert status.status(store)["stage"] == "21"
    assert before <= {each["device"] for each in status.assignments(store) if each["aside"]}


# Reports


def test_a_whole_report() -> None:
    values = {"self_test": "ok", "guard_alarms": 3, "misses": 2, "latency_ms": 1.5}
    assert parse(line(**values)) == Report(DEVICES[0], digest(1), 1, 100, 0, "ok", 3, 2, 1.5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"\xff\xfe", "not-json"),
        (b"[" * 4000, "not-json"),
        (b'{"device": NaN}', "not-json"),
        (line().replace(b'"sequence": 1', b'"sequence": 1, "sequence": 2'), "not-json"),
        (b"[]", "wrong-keys"),
        (b"null", "wrong-keys"),
        (b"{}", "wrong-keys"),
        (line(disagrements=1), "wrong-keys"),
        (line(device=""), "wrong-value"),
        (line(device="\ud800"), "wrong-value"),
        (line(device="a\n"), "wrong-value"),
        (line(device=7), "wrong-value"),
        (line(model=1).replace(digest(1).encode(), b"abc"), "wrong-value"),
        (line(sequence=-1), "wrong-value"),
        (line(sequence=True), "wrong-value"),
        (line(sequence=2**63), "wrong-value"),
        (line(inferences=2**31 + 1), "wrong-value"),
        (line(sequence=1.0), "wrong-value"),
        (line(inferences="9"), "wrong-value"),
        (line(self_test="OK"), "wrong-value"),
        (line(self_test=[]), "wrong-value"),
        (line(latency_ms=-1), "wrong-value"),
        (line().replace(b"}", b', "latency_ms": 1e999}'), "wrong-value"),
        (line(disagreements=101), "inconsistent"),
        (line(misses=101), "inconsistent"),
        (line(guard_alarms=101), "inconsistent"),
        (line(device="a" * 5000), "too-long"),
    ],
)
def test_what_is_no_report(content: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        parse(content)


SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = SIMPLE | st.lists(SIMPLE, max_size=2) | st.dictionaries(st.text(max_size=2), SIMPLE, max_size=2)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(json.loads(line(misses=1, self_test="ok")))), JSON))
def test_any_value_is_a_report_or_refused(values: dict[str, Any]) -> None:
    content = json.dumps(json.loads(line()) | values).encode()
    with suppress(Refused):
        assert isinstance(parse(content), Report)


def test_refused_reports_are_counted_and_the_others_count(path: str) -> None:
    store = started(path, dataclasses.replace(SHORT, quorum=1.0))
    inside = [each["device"] for each in status.assignments(store) if each["aside"]]
    receipt = ingest(
        store, [line(inside[0]), b"nonsense", line("stranger"), line(inside[0], inferences=-1), line(inside[1])]
    )
    assert (receipt.counted, receipt.refused) == (2, {"not-json": 1, "unknown-device": 1, "wrong-value": 1})
    ingest(store, [b"nonsense"])
    assert status.status(store)["refused"] == {"not-json": 2, "unknown-device": 1, "wrong-value": 1}
    assert status.status(store)["gates"]["disagreement"]["units"] == 2


def test_replays_count_once(path: str) -> None:
    store = started(path, dataclasses.replace(SHORT, quorum=1.0))
    inside = next(each["device"] for each in status.assignments(store) if each["aside"])
    sent = [line(inside, 5), line(inside, 4), line(inside, 5, disagreements=100)]
    assert dataclasses.astuple(ingest(store, sent))[:3] == (2, 0, 1)
    assert dataclasses.astuple(ingest(store, sent))[:3] == (0, 0, 3)
    assert (
        status.status(store)["gates"]["disagreement"] | {"units": 2, "failures": 0.0}
        == status.status(store)["gates"]["disagreement"]
    )


@given(st.lists(st.integers(0, 200), max_size=60))
def test_a_window_admits_each_number_once(numbers: list[int]) -> None:
    """Against a set of all numbers that came: what is admitted is new, and what is refused came before or is 63 behind."""
    window, came = replay.NOTHING, set[int]()
    for number in numbers:
        after = replay.admit(*window, number)
        if after is None:
            assert number in came or number < max(came) - replay.WINDOW
            continue
        assert number not in came
        came.add(number)
        window = after
        assert window[0] == max(came)
        assert 0 <= window[1] < 2**63


def test_late_reports_count_while_they_can_be_told_from_replays(path: str) -> None:
    store = started(path, dataclasses.replace(SHORT, quorum=1.0))
    inside = next(each["device"] for each in status.assignments(store) if each["aside"])
    assert ingest(store, [line(inside, 100), line(inside, 37), line(inside, 36)]).replayed == 1
    assert ingest(store, [line(inside, 37), line(inside, 38), line(inside, 2**53)]).counted == 2


def test_the_slowest_report_of_a_stage(path: str) -> None:
    store = started(path, Plan(stages("50,100"), {"disagreement": Gate(0.1, 0.5)}, alpha=0.1, quorum=1.0))
    for sequence, latency in enumerate([2.5, 7.25, 3.0, None], 1):
        ingest(store, [line(device, sequence, latency_ms=latency) for device in DEVICES[:19]])
    assert status.status(store)["slowest_ms"] == 7.25
    controller.remove(store, DEVICES[19:])
    finish(store)
    assert status.status(store)["slowest_ms"] is None


def test_only_the_new_model_on_devices_of_the_stage_counts(path: str) -> None:
    store = started(path)
    aside = {each["device"]: each["aside"] for each in status.assignments(store)}
    outside = next(name for name, model in aside.items() if model is None)
    inside = next(name for name, model in aside.items() if model)
    receipt = ingest(store, [line(outside, 1, disagreements=100), line(inside, 1, model=0, disagreements=100)])
    assert (receipt.counted, receipt.other) == (0, 2)
    assert status.status(store)["gates"]["disagreement"]["units"] == 0


# Decisions


def finish(store: Store) -> None:
    """A report of each device at a time, until nothing is left to decide."""
    for first in range(1, 60):
        ingest(store, lines(1, first=first))


def actions(store: Store, rollout: str = "r1") -> list[tuple[float, str]]:
    return [(each["stage"]["percent"], each["action"]) for each in status.log(store) if each["rollout"] == rollout]


def test_a_good_model_goes_through_every_stage_once(path: str) -> None:
    store = started(path)
    seen = []
    for first in range(1, 60):
        seen += [(each["run"], each["aside"]) for each in status.assignments(store)]
        ingest(store, lines(1, first=first))
    assert actions(store) == [(50, "start"), (50, "advance"), (20, "advance"), (50, "advance"), (100, "finish")]
    assert status.status(store)["state"] == "done"
    assert {(each["run"], each["aside"]) for each in status.assignments(store)} == {(digest(1), None)}
    assert set(seen) == {(digest(0), None), (digest(0), digest(1)), (digest(1), digest(0)), (digest(1), None)}


@pytest.mark.parametrize(
    ("gate", "values"),
    [
        ("disagreement", {"disagreements": 40}),
        ("self_test", {"self_test": "failed"}),
        ("guard", {"guard_alarms": 40}),
        ("latency", {"misses": 40}),
    ],
)
def test_each_gate_stops_and_takes_back_by_itself(path: str, gate: str, values: dict[str, Any]) -> None:
    store = started(path, USUAL)
    good = {"disagreements": 0, "self_test": "ok", "guard_alarms": 0, "misses": 0}
    ingest(store, lines(800, **good))
    assert status.status(store)["stage"] == "1"
    ingest(store, lines(400, first=801, **(good | values)))
    found = status.status(store)
    assert (found["state"], found["stage"]) == ("reverted", "1")
    (last,) = status.log(store)[-1:]
    assert last["why"] == f"stopped by {gate}"
    numbers = last["numbers"]["gates"][gate]
    assert numbers["against_good"] >= numbers["stop_at"] > 0
    assert numbers["failures"] > 0
    assert {(each["run"], each["aside"]) for each in status.assignments(store)} == {(digest(0), None)}
    assert ingest(store, lines(1, first=2000)).counted == 0


def test_a_gate_that_never_hears_its_number_waits(path: str) -> None:
    store = started(path, Plan(stages("100"), gates([]), quorum=0.1))
    ingest(store, lines(200, self_test="ok", guard_alarms=0, disagreements=0))
    found = status.status(store)
    assert found["state"] == "running"
    assert {name for name, each in found["gates"].items() if not each["passed"]} == {"latency"}


def test_silence_holds_a_stage_and_removing_the_silent_ends_it(path: str) -> None:
    store = started(path, Plan(stages("100"), {"disagreement": Gate(0.1, 0.5)}, quorum=1.0))
    ingest(store, [line(device, sequence) for sequence in range(1, 30) for device in DEVICES[:-1]])
    found = status.status(store)
    assert found["state"] == "running"
    assert found["gates"]["disagreement"]["passed"]
    assert (found["silent"], status.silent(store)) == (1, DEVICES[-1:])
    assert controller.remove(store, ["nobody", DEVICES[-1]]) == 1
    assert controller.step(store).state == "done"


def test_a_device_counts_once_where_that_is_the_unit(path: str) -> None:
    plan = Plan(stages("100"), {"self_test": Gate(0.01, 0.5, "device")}, beta=1e-9)
    store = started(path, plan)
    ingest(store, (line(DEVICES[0], sequence, self_test="failed") for sequence in range(1, 100)))
    assert status.status(store)["gates"]["self_test"]["units"] == 1
    ingest(store, [line(device, 1, self_test="ok") for device in DEVICES for _ in (1, 2)])
    assert status.status(store)["gates"]["self_test"]["units"] == len(DEVICES)


def test_a_stage_with_too_few_devices_to_ever_pass_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="needs 112"):
        started(path, Plan(stages("100"), {"self_test": Gate(0.01, 0.05, "device")}, alpha=0.01))


def test_one_after_the_other(path: str) -> None:
    store = started(path)
    for wrong in [("r2", digest(2)), ("r1", digest(2)), ("r2", "abc"), ("r2", digest(0)), ("no name", digest(2))]:
        with pytest.raises(UsageError):
            controller.start(store, wrong[0], SHORT, wrong[1], digest(0))
    finish(store)
    with pytest.raises(UsageError, match="another name"):
        controller.start(store, "r1", SHORT, digest(2))
    assert controller.start(store, "r2", SHORT, digest(2)).previous == digest(1)
    controller.revert(store, "seen smoke")
    with pytest.raises(UsageError, match="reverted already"):
        controller.revert(store, "again")
    assert status.log(store)[-1]["why"] == "by hand: seen smoke"
    assert {each["run"] for each in status.assignments(store)} == {digest(1)}
    assert controller.start(store, "r3", SHORT, digest(3)).previous == digest(1)


def test_a_model_that_is_done_can_still_be_taken_back(path: str) -> None:
    store = started(path)
    finish(store)
    assert status.status(store)["state"] == "done"
    controller.revert(store, "customers complain")
    assert {each["run"] for each in status.assignments(store)} == {digest(0)}


def test_the_log_cannot_be_changed(path: str) -> None:
    store = started(path)
    hooks.run_hook(store, "true", 5)
    with sqlite3.connect(path) as connection:
        for statement in (
            "UPDATE decisions SET why = ''",
            "DELETE FROM decisions",
            "UPDATE hook_runs SET code = 0",
            "DELETE FROM hook_runs",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


def test_the_verdict() -> None:
    passed, stopped, open_ = Evidence(passed=True), Evidence(passed=True, stopped=True), Evidence()
    assert judge({"a": passed, "b": passed}, 0.9, 0.9) == "pass"
    assert judge({"a": passed, "b": passed}, 0.89, 0.9) == "wait"
    assert judge({"a": passed, "b": open_}, 1, 0.9) == "wait"
    assert judge({"a": passed, "b": stopped}, 0, 0.9) == "revert"


def test_reports_without_trials_say_nothing() -> None:
    counts = {name: (np.array([0, 0]), np.array([0, 0])) for name in GATES}
    assert feed(USUAL, 0, fresh(USUAL, 0), counts) == fresh(USUAL, 0)


# Stores


def test_stores_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be taken for one " * 50)
    for where, kind in [("none.db", UsageError), ("nowhere/a.db", UsageError), ("text", EdgeTicketError)]:
        with pytest.raises(kind, match=where.partition("/")[0]):
            Store(str(tmp_path / where))
    with pytest.raises(UsageError, match="folder"):
        Store(str(tmp_path / "nowhere" / "a.db"), create=True)
    for where in ("mysql://a/b", "postgresql://[::"):
        with pytest.raises(UsageError, match="store is"):
            Store(where)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(UsageError, match="holds no fleet"):
        Store(str(tmp_path / "other.db"))


def test_a_newer_format_is_left_alone(path: str) -> None:
    started(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET format = 'edgeticket-rollout 2'")
    with pytest.raises(EdgeTicketError, match="rollout 2"):
        Store(path)


def test_an_error_in_the_middle_stores_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = started(path)

    def broken(*_: Any) -> None:
        raise OSError("disk")

    monkeypatch.setattr(current, "record", broken)
    with pytest.raises(OSError, match="disk"):
        ingest(store, lines(100))
    monkeypatch.undo()
    assert status.status(store)["gates"]["disagreement"]["units"] == 0
    assert ingest(store, lines(100)).replayed == 0


def test_many_writers_lose_nothing(path: str) -> None:
    started(path, Plan(stages("100"), {"disagreement": Gate(0.1, 0.5)}, alpha=1e-300))
    sent = list(lines(20))
    writers = [
        threading.Thread(target=lambda part=part: ingest(Store(path), sent[part::4] + sent[part::8]))
        for part in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert status.status(Store(path))["gates"]["disagreement"]["units"] == len(sent)


# Hooks


def script(folder: Path, body: str) -> str:
    """A hook in Python; `order` is its input, OUT a file beside it."""
    file = folder / "hook.py"
    file.write_text(f"import json, sys, time\norder = json.load(sys.stdin)\nOUT = {str(folder / 'out')!r}\n{body}\n")
    return f"{sys.executable} {file}"


def test_the_hook_is_told_what_every_device_should_run_until_it_succeeds(path: str, tmp_path: Path) -> None:
    store = started(path)
    failing = script(tmp_path, "print('no updater'); sys.exit(3)")
    assert hooks.run_hook(store, failing, 30) == hooks.HookRun(1, 3, "no updater\n")
    command = script(tmp_path, "open(OUT, 'a').write(json.dumps(order) + '\\n')")
    assert hooks.run_hook(store, command, 30) == hooks.HookRun(1, 0, "")
    assert hooks.run_hook(store, command, 30) is None
    finish(store)
    assert hooks.run_hook(store, command, 30) == hooks.HookRun(5, 0, "")
    first, last = map(json.loads, (tmp_path / "out").read_text().splitlines())
    assert (first["action"], first["stage"], last["action"], last["state"]) == ("start", "shadow:50", "finish", "done")
    assert last["orders"] == [{"run": digest(1), "aside": None, "devices": sorted(DEVICES)}]
    assert {(each["run"], each["aside"], len(each["devices"])) for each in first["orders"]} == {
        (digest(0), digest(1), 10),
        (digest(0), None, 10),
    }
    assert [run["code"] for run in status.log(store)[0]["hook"]] == [3, 0]


def test_a_hook_that_hangs_is_ended_with_its_children(path: str, tmp_path: Path) -> None:
    store = started(path)
    body = "import subprocess; child = subprocess.Popen(['sleep', '60']); open(OUT, 'w').write(str(child.pid)); time.sleep(60)"
    begun = time.monotonic()
    found = hooks.run_hook(store, script(tmp_path, body), 3)
    assert found is not None
    assert found.code == hooks.TIMED_OUT
    assert time.monotonic() - begun < 30
    child = Path(f"/proc/{(tmp_path / 'out').read_text()}/stat")
    for _ in range(100):
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the hook's child lives on")


def test_a_hook_is_over_when_it_exits_whatever_it_leaves(path: str) -> None:
    found = hooks.run_hook(started(path), "sh -c 'sleep 60 & printf %05000d $!'", 5)
    assert found is not None
    os.kill(int(found.output), signal.SIGKILL)
    assert (found.code, len(found.output)) == (0, hooks.LONGEST_OUTPUT)


def test_hooks_that_cannot_start(path: str) -> None:
    store = started(path)
    found = hooks.run_hook(store, "/nonexistent/updater", 5)
    assert found is not None
    assert found.code == hooks.NOT_STARTED
    for wrong in ("", "a 'b"):
        with pytest.raises(UsageError, match="hook"):
            hooks.run_hook(store, wrong, 5)


def test_one_hook_at_a_time_and_again_after_a_process_that_died(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = started(path)
    monkeypatch.setattr(hooks, "MARGIN_S", 0.0)
    command = script(tmp_path, "open(OUT, 'a').write('x')\nwhile open(OUT).read() == 'x': time.sleep(0.02)")

    def run() -> None:
        hooks.run_hook(Store(path), command, 4)

    child = forked(run)
    while not (tmp_path / "out").exists():
        time.sleep(0.02)
    assert hooks.run_hook(store, command, 4) is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while (found := hooks.run_hook(store, command, 4)) is None:
        time.sleep(0.1)
    assert found.code == 0
    assert (tmp_path / "out").read_text() == "xx"


# Killed at any moment


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(1)


ROUNDS = 15


def rate(model: int) -> float:
    return 0.6 if model % 3 == 0 else 0.02


def go_on(where: str, rollouts: int) -> None:
    """All roll-outs, one after the other, from wherever it stands."""
    store = Store(where)
    while True:
        model = int(status.status(store)["rollout"][1:])
        ingest(store, noisy(model, rate(model), ROUNDS))
        if status.status(store)["state"] == "running":
            raise AssertionError(f"r{model} did not end")
        if model == rollouts:
            return
        controller.start(store, f"r{model + 1}", SHORT, digest(model + 1))


def history(where: str) -> list[Any]:
    return [(each["rollout"], each["stage"], each["action"], each["numbers"]) for each in status.log(Store(where))]


def consistent(where: str) -> None:
    """The row, the log and the evidence say the same, whenever one looks."""
    store = Store(where)
    found, last = status.status(store), status.log(store)[-1]
    states = {"finish": "done", "revert": "reverted", "start": "running", "advance": "running"}
    assert found["rollout"] == last["rollout"]
    assert found["state"] == states[last["action"]]
    names = [f"shadow:{stage.percent:g}" if stage.shadow else f"{stage.percent:g}" for stage in SHORT.stages]
    at = next(index for index, stage in enumerate(SHORT.stages) if dataclasses.asdict(stage) == last["stage"])
    assert found["stage"] == names[at + (last["action"] == "advance")]
    assert set(found["gates"]) == {"disagreement"}
    runs = {each["run"] for each in status.assignments(store)}
    assert runs <= {found["model"], found["previous"]}
    if found["state"] != "running":
        assert len(runs) == 1


def killed_at_random(where: str, kills: int, rollouts: int) -> None:
    chance, done = random.Random(kills), 0
    while True:
        child = forked(lambda: go_on(where, rollouts))
        time.sleep(chance.uniform(0.0, 0.15))
        if done < kills:
            os.kill(child, signal.SIGKILL)
        _, how = os.waitpid(child, 0)
        consistent(where)
        if os.WIFSIGNALED(how):
            done += 1
            continue
        assert os.WEXITSTATUS(how) == 0
        assert done == kills, "it was over before it could be killed often enough"
        return


@pytest.mark.parametrize(
    ("kills", "rollouts"),
    [(3, 4), pytest.param(30, 40, marks=pytest.mark.slow), pytest.param(200, 100, marks=pytest.mark.soak)],
)
def test_a_controller_that_is_killed_at_random_moments_decides_the_same(
    path: str, monkeypatch: pytest.MonkeyPatch, kills: int, rollouts: int
) -> None:
    """No stage skipped, none repeated, no device left between; the numbers are those of an undisturbed run."""
    monkeypatch.setattr(intake, "CHUNK", 7)
    undisturbed, disturbed = f"{path}a", f"{path}b"
    for where in (undisturbed, disturbed):
        started(where).close()
    killed_at_random(disturbed, kills, rollouts)
    go_on(undisturbed, rollouts)
    assert history(disturbed) == history(undisturbed)
    per = [
        [action for rollout, _, action, _ in history(disturbed) if rollout == f"r{model}"]
        for model in range(1, rollouts + 1)
    ]
    assert per[1] == ["start", "advance", "advance", "advance", "finish"]
    assert per[2] == ["start", "revert"]


# Simulated fleets


@pytest.mark.parametrize("fleets", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_bad_model_reaches_few_devices(fleets: int) -> None:
    """10,000 devices, 0.5 % agreed and 2 % true, 20 reports a device a day."""
    fleet = Fleet(10000, rates(USUAL, ["disagreement=2%"]))
    found = [simulate(USUAL, fleet, seed) for seed in range(fleets)]
    assert np.mean([each.got <= 0.05 for each in found]) >= 0.99
    assert np.mean([each.state == "reverted" for each in found]) >= 0.99


@pytest.mark.parametrize(
    "fleets", [10, pytest.param(200, marks=pytest.mark.slow), pytest.param(2000, marks=pytest.mark.soak)]
)
def test_an_equal_model_is_rarely_stopped(fleets: int) -> None:
    fleet = Fleet(2000, rates(USUAL, []))
    found = [simulate(USUAL, fleet, seed) for seed in range(fleets)]
    allowed = USUAL.beta + 3 * (USUAL.beta * (1 - USUAL.beta) / fleets) ** 0.5
    assert np.mean([each.state == "reverted" for each in found]) <= allowed
    assert np.mean([each.state == "done" for each in found]) >= 1 - allowed


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["inference", "report", "device"])
def test_2000_rollouts_with_one_gate_keep_both_errors(unit: str) -> None:
    """One stage and one gate, where nothing else could hold a bad model back."""
    plan = Plan(stages("100"), {"guard": Gate(0.05, 0.15, unit)})
    for true, state, error in [(0.15, "done", plan.alpha), (0.05, "reverted", plan.beta)]:
        fleet = Fleet(1000, {"guard": true}, inferences=1, between=1.0 if unit == "device" else 0.0)
        share = np.mean([simulate(plan, fleet, seed).state == state for seed in range(2000)])
        assert share <= error + 3 * (error * (1 - error) / 2000) ** 0.5


def test_devices_that_differ_are_what_the_unit_is_about() -> None:
    """A model that fails wholly on 15 % of devices: a small stage can miss them by inferences, never by devices."""

    def passes(unit: str, devices: int) -> float:
        plan = Plan(stages("100"), {"guard": Gate(0.01, 0.15, unit)})
        fleet = Fleet(devices, {"guard": 0.15}, between=1.0)
        return float(np.mean([simulate(plan, fleet, seed, days=5).state == "done" for seed in range(300)]))

    assert passes("device", 60) <= 0.01 + 3 * (0.01 / 300) ** 0.5
    assert passes("device", 4) == 0
    assert passes("inference", 4) > 0.3


@pytest.mark.parametrize(
    "wrong", [{"devices": 0}, {"reports": 0}, {"rates": {"guard": 2.0}}, {"rates": {"x": 0.1}}, {"within": 1.5}]
)
def test_fleets_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Fleet(**({"devices": 10, "rates": {"guard": 0.1}} | wrong))


def test_simulation_decides_as_the_database_does(path: str) -> None:
    """The same reports through both: the same evidence."""
    plan = Plan(stages("100"), {"disagreement": Gate(0.1, 0.5)}, alpha=1e-300)
    store = started(path, plan)
    sent = noisy(1, 0.1, 10)
    ingest(store, sent)
    failures = np.array([json.loads(each)["disagreements"] for each in sent])
    found = feed(plan, 0, fresh(plan, 0), {"disagreement": (failures, np.full(len(sent), 100))})["disagreement"]
    stored = status.status(store)["gates"]["disagreement"]
    assert {key: stored[key] for key in dataclasses.asdict(found)} == pytest.approx(dataclasses.asdict(found))


# Command line


def run(*words: str, stdin: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["rollout", *words], input=stdin)
    assert result.exit_code == code, result.output
    return result.output


def test_a_rollout_by_hand(path: str, tmp_path: Path) -> None:
    assert run("devices", path, "--add", "-", stdin="\n".join(DEVICES)) == "20 added\n"
    bundle = tmp_path / "new.bundle"
    bundle.write_bytes(b"1")
    words = [
        path,
        "spring",
        "--model",
        str(bundle),
        "--previous",
        digest(0),
        "--stages",
        "shadow:50,100",
        "--quorum",
        "0.5",
    ]
    dry = run("new", *words, "--dry-run")
    assert "shadow:50: 10, 100: 20" in dry
    run("status", path, code=2)
    assert run("new", *words) == dry
    found = json.loads(run("status", path, "--format", "json"))
    assert (found["model"], found["stage"]) == (digest(1), "shadow:50")
    sent = b"\n".join(lines(20, self_test="ok", guard_alarms=0, misses=0)).decode()
    assert run("report", path, "-", stdin=sent) == "200 counted, 200 other, 0 there before\n"
    assert json.loads(run("report", path, "-", "--format", "json", stdin=sent + "\nx"))["refused"] == {"not-json": 1}
    assert "undecided" in run("status", path)
    assert run("devices", path, "--silent") == ""
    assert run("devices", path).count(digest(1)) == 10
    run("step", path, "--hook", "false", code=1)
    assert "exit code 0" in run("step", path, "--hook", "true")
    assert "reverted" in run("revert", path, "--reason", "fire")
    assert "by hand: fire" in run("log", path)
    assert [json.loads(each)["action"] for each in run("log", path, "--format", "json").splitlines()] == [
        "start",
        "revert",
    ]
    assert run("devices", path, "--remove", "-", stdin=DEVICES[0]) == "1 removed\n"


def test_the_commands_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / "rollout.md").read_text()
    words = [shlex.split(each)[2:] for each in re.findall(r"^    edgeticket rollout .*", text, re.MULTILINE)]
    assert [each[0] for each in words] == ["devices", "new", "serve", "status", "serve", "serve"]
    monkeypatch.chdir(tmp_path)
    for name, content in [("names.txt", "\n".join(DEVICES)), ("new.bundle", "1"), ("old.bundle", "0")]:
        Path(name).write_text(content)
    for name in ("server", "controller", "ca"):
        Path(f"{name}.pem").touch()
        Path(f"{name}.key").touch()
    group: Any = main.get_command(click.Context(main), "rollout")
    for each in words:
        if each[0] == "serve":
            group.commands["serve"].make_context("serve", each[1:])
        else:
            run(*each)
    assert status.assignment(Store("fleet.db"), DEVICES[0])["run"] == digest(0)


def test_what_the_command_line_refuses(path: str) -> None:
    started(path)
    for words in [
        ["serve", path],
        ["serve", path, "--http", "here"],
        ["serve", path, "--http", "127.0.0.1:0", "--mqtt", "tcp://a/b"],
        ["simulate", "--fleets", "0"],
        ["simulate", "--rate", "speed=1%"],
        ["new", path, "r2", "--model", digest(2)],
        ["status", f"{path}x"],
    ]:
        run(*words, code=2)
    run("devices", path, "--add", "-", stdin="two words", code=2)


def test_simulate_says_what_would_happen() -> None:
    found = json.loads(run("simulate", "--fleets", "5", "--rate", "self_test=20%", "--format", "json"))
    assert found["outcomes"] == [{"state": "reverted", "stage": "shadow:5", "fleets": 5}]
    assert "done" in run("simulate", "--fleets", "1", "--devices", "200")


def test_the_log_as_text_shows_the_numbers(path: str) -> None:
    store = started(path)
    finish(store)
    text = "\n".join(each for found in status.log(store) for each in show.decision(found))
    assert text.count("to stop") == 4
    assert "finish: every gate of the last stage passed" in text
