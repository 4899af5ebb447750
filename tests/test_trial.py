"""A model on trial in a gateway: what is counted, what the line gets whatever the new model does, and reports that outlive a kill."""

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import fleet_bundles
import numpy as np
import pytest
from fleet_bundles import Made

from edgeticket import order, outbox, trial
from edgeticket.errors import BundleError, EdgeTicketError, UsageError
from edgeticket.guard import Status
from edgeticket.order import STARTS, Bundles, Choice, Order, choose
from edgeticket.outbox import Outbox
from edgeticket.rollout.replay import NOTHING, admit
from edgeticket.rollout.reports import Report, parse
from edgeticket.runtime import Prediction, Predictor
from edgeticket.trial import AHEAD, Trial

ROOT = Path(__file__).parent.parent
FAULT = Prediction(None, None, Status.STUCK)
FRAME = np.zeros((1, 8, 8), np.uint8)


def says(label: str, *outputs: float, status: Status = Status.OK) -> Prediction:
    return Prediction(label, 1.0, status, np.array(outputs, np.float32))


class Scripted:
    """A model that gives one answer after the other, the last one for ever; an exception is raised, a function called."""

    def __init__(
        self, *answers: Prediction | Exception | Callable[[np.ndarray], Prediction], task: str = "classification"
    ) -> None:
        self.answers, self.manifest, self.frames = list(answers), {"task": task}, 0

    def predict(self, frame: np.ndarray) -> Prediction:
        answer = self.answers[min(self.frames, len(self.answers) - 1)]
        self.frames += 1
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Prediction) else answer(frame)


def counted(own: Trial) -> dict[str, Any]:
    """Of all frames until now, without the times."""
    own.close(30)
    return {key: value for key, value in own.take().to_json().items() if key != "latency_ms"}


A, B = says("a"), says("b")


# what is counted


@pytest.mark.parametrize("shadow", [True, False])
def test_one_answers_and_the_new_one_is_counted(shadow: bool) -> None:
    new, current = [A, B, FAULT, A, FAULT, says("a", status=Status.DRIFT)], [A, A, A, FAULT, FAULT, A]
    own = Trial(Scripted(*new), Scripted(*current), shadow=shadow, deadline_ms=1e9)
    found = [own.predict(FRAME) for _ in new]
    assert found == (current if shadow else new)
    assert counted(own) == {"inferences": 6, "disagreements": 3, "guard_alarms": 2, "misses": 0, "self_test": "ok"}
    assert own.skipped == 0


def test_without_another_there_is_nothing_to_disagree_with() -> None:
    own = Trial(Scripted(A, FAULT, B))
    assert [own.predict(FRAME) for _ in range(3)] == [A, FAULT, B]
    assert counted(own) == {"inferences": 3, "guard_alarms": 1, "self_test": "ok"}


def test_a_model_that_was_refused_is_a_failed_self_test_and_the_other_answers() -> None:
    own = Trial(None, Scripted(A, FAULT), deadline_ms=1e-9)
    assert [own.predict(FRAME) for _ in range(2)] == [A, FAULT]
    assert counted(own) == {"inferences": 0, "self_test": "failed"}
    for arguments in ((None,), (None, None)):
        with pytest.raises(UsageError, match="no model is left"):
            Trial(*arguments)
    with pytest.raises(UsageError, match="no model is left"):
        Trial(Scripted(A), shadow=True)


def test_counts_are_those_since_the_last_ones() -> None:
    own = Trial(Scripted(B), Scripted(A), shadow=True)
    total, stopped = 0, threading.Event()

    def take() -> None:
        nonlocal total
        while not stopped.is_set():
            total += own.take().inferences

    taker = threading.Thread(target=take)
    taker.start()
    for _ in range(500):
        own.predict(FRAME)
    own.close(30)
    stopped.set()
    taker.join()
    assert total + own.take().inferences + own.skipped == 500
    assert own.take().to_json() == {"inferences": 0, "disagreements": 0, "guard_alarms": 0, "self_test": "ok"}


class Clock:
    """The clock on the wall, and the processor time of a thread, which here is a tenth of that."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now / 10

    def takes(self, ms: float, answer: Prediction = A) -> Callable[[np.ndarray], Prediction]:
        def work(_: np.ndarray) -> Prediction:
            self.now += ms / 1000
            return answer

        return work


@pytest.mark.parametrize(("shadow", "misses", "p99"), [(False, 2, 49.6), (True, 1, 4.96)])
def test_a_deadline_is_missed_by_the_clock_or_aside_by_processor_time(
    monkeypatch: pytest.MonkeyPatch, shadow: bool, misses: int, p99: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    new = Scripted(*(clock.takes(ms) for ms in (4, 10, 10.1, 50)))
    own = Trial(new, Scripted(clock.takes(1000)), shadow=shadow, deadline_ms=4.9 if shadow else 10.05)
    for _ in range(4):
        own.predict(FRAME)
        wait(lambda: not own._waiting)
    found = own.take()
    assert (found.misses, found.inferences) == (misses, 4)
    assert found.latency_ms == pytest.approx(np.percentile([4, 10, 10.1, 50], 99) / (10 if shadow else 1), abs=1e-3)
    own.close()


def test_in_time_is_no_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    own = Trial(Scripted(clock.takes(125), clock.takes(125.1)), deadline_ms=125)  # an eighth of a second is exact
    assert [own.predict(FRAME) for _ in range(2)] == [A, A]
    assert own.take().misses == 1


def wait(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_regression_agrees_within_its_tolerance() -> None:
    current = says("mm", 1.0, 1.0)
    new = [says("mm", 1.1, 1.0), says("mm", 1.0, 1.2), says("mm", 1.0), says("mm", np.nan, 1.0), says("mm", 0.9, 0.9)]
    own = Trial(Scripted(*new, task="regression"), Scripted(current, task="regression"), shadow=True, tolerance=0.15)
    for _ in new:
        assert own.predict(FRAME) is current
    assert counted(own)["disagreements"] == 3
    for tolerance in (None, -1.0, float("nan")):
        with pytest.raises(UsageError, match="tolerance"):
            Trial(Scripted(A, task="regression"), Scripted(A, task="regression"), tolerance=tolerance)
    Trial(Scripted(A, task="regression")).close()


def test_outputs_count_only_in_a_regression() -> None:
    own = Trial(Scripted(says("a", 1.0)), Scripted(says("a", 2.0)), tolerance=0.0)
    own.predict(FRAME)
    assert counted(own)["disagreements"] == 0


# the line goes on


def test_a_new_model_that_raises_aside_disagrees_and_the_line_does_not_notice(caplog: pytest.LogCaptureFixture) -> None:
    own = Trial(Scripted(A, ValueError("bad"), RuntimeError(), A), Scripted(A), shadow=True, deadline_ms=1e9)
    assert [own.predict(FRAME) for _ in range(4)] == [A] * 4
    assert counted(own) == {"inferences": 4, "disagreements": 2, "guard_alarms": 0, "misses": 2, "self_test": "ok"}
    assert [record.getMessage()[:40] for record in caplog.records] == ["the model on trial raised ValueError('ba"]


def test_where_a_new_model_raises_that_answers_the_current_one_does() -> None:
    own = Trial(Scripted(A, ValueError(), A), Scripted(B), deadline_ms=1e9)
    assert [own.predict(FRAME) for _ in range(3)] == [A, B, A]
    assert counted(own) == {"inferences": 3, "disagreements": 3, "guard_alarms": 0, "misses": 1, "self_test": "ok"}


def test_what_nobody_can_answer_is_raised() -> None:
    for own in (
        Trial(Scripted(ValueError("it"))),
        Trial(None, Scripted(ValueError("it"))),
        Trial(Scripted(A), Scripted(ValueError("it")), shadow=True),
    ):
        with pytest.raises(ValueError, match="it"):
            own.predict(FRAME)
        own.close()


def test_a_new_model_that_hangs_or_is_slow_aside_holds_nobody_up() -> None:
    ready, go = threading.Event(), threading.Event()

    def hangs(_: np.ndarray) -> Prediction:
        ready.set()
        assert go.wait(30)
        return B

    own = Trial(Scripted(hangs), Scripted(A), shadow=True)
    assert [own.predict(FRAME) for _ in range(AHEAD + 50)] == [A] * (AHEAD + 50)
    assert ready.wait(30)
    assert own.skipped == 50
    assert own.take().inferences == 0
    go.set()
    assert counted(own)["inferences"] == AHEAD
    assert own.predict(FRAME) is A
    assert own.take().inferences == 0
    assert own.skipped == 51


def test_closing_does_not_wait_for_ever_and_ends_the_thread() -> None:
    before, go = set(threading.enumerate()), threading.Event()
    new = Scripted(lambda _: A if go.wait(30) else B)
    own = Trial(new, Scripted(A), shadow=True)
    (thread,) = set(threading.enumerate()) - before
    for _ in range(3):
        own.predict(FRAME)
    start = time.monotonic()
    own.close(0.05)
    assert time.monotonic() - start < 10
    assert thread.is_alive()
    go.set()
    thread.join(30)
    assert not thread.is_alive()
    assert own.take().inferences == new.frames == 1


def test_the_camera_may_fill_its_buffer_anew_at_once() -> None:
    go, buffer = threading.Event(), np.zeros(1)
    seen = []

    def looks(frame: np.ndarray) -> Prediction:
        assert go.wait(30)
        seen.append(float(frame[0]))
        return A

    own = Trial(Scripted(looks), Scripted(A), shadow=True)
    for i in range(3):
        buffer[0] = i
        own.predict(buffer)
    go.set()
    own.close(30)
    assert seen == [0, 1, 2]


# reports


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "line-7.reports"


DIGEST = "ab" * 32


def test_what_is_counted_is_a_report_as_the_rollout_reads_it(file: Path) -> None:
    own = Trial(Scripted(A, FAULT), Scripted(A, B), shadow=True, deadline_ms=1e9)
    for _ in range(2):
        own.predict(FRAME)
    own.close(30)
    found = parse(Outbox(file, "line-7").add(DIGEST, own.take().to_json()))
    assert isinstance(found.latency_ms, float)
    assert found == Report("line-7", DIGEST, 0, 2, 1, "ok", 1, 0, found.latency_ms)
    refused = parse(Outbox(file, "line-7").add(DIGEST, Trial(None, Scripted(A)).take().to_json()))
    assert refused == Report("line-7", DIGEST, 1, 0, self_test="failed")


def test_numbers_go_on_after_a_restart_and_lines_stay_as_they_were(file: Path) -> None:
    first = Outbox(file, "line-7")
    lines = [first.add(DIGEST, {"inferences": n}) for n in range(3)]
    assert first.waiting() == lines
    first.acknowledge(lines[:2])
    half_written = file.with_name(f".{file.name}.abcd_123.aside")
    half_written.touch()
    again = Outbox(file, "line-7")
    assert not half_written.exists()
    assert again.waiting() == lines[2:]
    lines.append(again.add(DIGEST, {"inferences": 3}))
    again.acknowledge(lines)
    last = Outbox(file, "line-7")
    assert last.waiting() == []
    lines.append(last.add(DIGEST, {"inferences": 4}))
    assert [(parse(line).sequence, parse(line).inferences) for line in lines] == [(n, n) for n in range(5)]


def test_a_report_leaves_only_once_it_is_on_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Outbox(file, "line-7")
    kept = own.add(DIGEST, {"inferences": 1})

    def full(*_: Any) -> None:
        raise EdgeTicketError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(outbox, "write_atomic", full)
        for call in (lambda: own.add(DIGEST, {"inferences": 2}), own.waiting, lambda: own.acknowledge([kept])):
            with pytest.raises(EdgeTicketError, match="full"):
                call()
        assert Outbox(file, "line-7").waiting() == [kept]
    (line,) = own.waiting()
    assert (parse(line).sequence, parse(line).inferences) == (1, 2)
    assert Outbox(file, "line-7").waiting() == [line]


def test_of_too_many_reports_the_oldest_go(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST", 3)
    own = Outbox(file, "line-7")
    lines = [own.add(DIGEST, {"inferences": n}) for n in range(5)]
    assert own.waiting() == Outbox(file, "line-7").waiting() == lines[2:]
    assert parse(own.add(DIGEST, {"inferences": 5})).sequence == 5


def test_a_file_that_is_damaged_or_anothers_is_refused(file: Path) -> None:
    own = Outbox(file, "line-7")
    for n in range(2):
        own.add(DIGEST, {"inferences": n})
    with pytest.raises(UsageError, match="of line-7, not of line-8"):
        Outbox(file, "line-8")
    whole = json.loads(file.read_bytes())
    first, second = whole["waiting"]
    wrong: list[Any] = [
        None, [], whole | {"format": "2"}, whole | {"next": 1}, whole | {"next": "2"}, whole | {"waiting": 5},
        whole | {"waiting": [second, first]}, whole | {"waiting": [first, first]}, whole | {"waiting": [first, "{}"]},
        whole | {"waiting": [first, "x"]}, whole | {"waiting": [first, 7]}, whole | {"waiting": [first, "[]"]},
    ]  # fmt: skip
    contents = [json.dumps(value).encode() for value in wrong] + [b"", b"\xff", file.read_bytes()[:-9], b"[" * 99999]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(EdgeTicketError, match="damaged: remove it"):
            Outbox(file, "line-7")
    file.unlink()
    file.mkdir()
    with pytest.raises(EdgeTicketError, match="cannot read"):
        Outbox(file, "line-7")


SENDS = """
import sys
from pathlib import Path
from edgeticket.outbox import Outbox
folder = Path(sys.argv[1])
added, sent = open(folder / "added", "ab", 0), open(folder / "sent", "ab", 0)
outbox = Outbox(folder / "reports", "line-7")
print(flush=True)
for i in range(int(sys.argv[2])):
    if i % 3 < 2:
        added.write(outbox.add("ab" * 32, {"inferences": int.from_bytes(open("/dev/urandom", "rb").read(3))}) + b"\\n")
    lines = outbox.waiting()
    sent.write(b"".join(line + b"\\n" for line in lines))
    outbox.acknowledge(lines)
"""


def sender(folder: Path, rounds: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", SENDS, str(folder), str(rounds)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_random_moments_no_number_comes_twice_and_no_report_is_lost(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    for _ in range(kills):
        child = sender(tmp_path, 1_000_000)
        assert child.stdout
        child.stdout.readline()
        size = (tmp_path / "added").stat().st_size + chance.randrange(400)
        wait(lambda: (tmp_path / "added").stat().st_size > size)  # noqa: B023
        time.sleep(chance.uniform(0, 0.01))
        child.kill()
        child.wait()
    assert sender(tmp_path, 1).wait() == 0
    added, sent = ((tmp_path / name).read_bytes().splitlines() for name in ("added", "sent"))
    assert set(added) <= set(sent)
    by_number = {parse(line).sequence: line for line in sent}
    assert all(by_number[parse(line).sequence] == line for line in sent)
    window, counted = NOTHING, 0
    for line in sent:
        after = admit(*window, parse(line).sequence)
        window, counted = after or window, counted + (after is not None)
    assert counted == len(set(sent)) > kills


# orders


OLD, NEW, THIRD = "0" * 64, "1" * 64, "2" * 64
SHADOW, ACTIVE, SETTLED = Order(OLD, NEW, NEW), Order(NEW, OLD, NEW), Order(NEW, None, NEW)


@pytest.mark.parametrize(
    ("told", "loaded", "refused", "answers", "choice"),
    [
        (SHADOW, {OLD, NEW}, (), OLD, Choice(NEW, NEW, OLD, shadow=True)),
        (SHADOW, {OLD, NEW}, (), None, Choice(NEW, NEW, OLD, shadow=True)),
        (SHADOW, {OLD, NEW, THIRD}, (), THIRD, Choice(NEW, NEW, OLD, shadow=True)),
        (SHADOW, {OLD}, {NEW}, OLD, Choice(NEW, None, OLD)),
        (SHADOW, {OLD}, (), OLD, Choice(OLD, OLD, None)),
        (SHADOW, {NEW, THIRD}, (), THIRD, Choice(NEW, NEW, THIRD, shadow=True)),
        (SHADOW, {NEW}, (), NEW, Choice(NEW, NEW, None)),
        (SHADOW, {NEW}, {OLD}, None, None),
        (SHADOW, (), {NEW}, None, None),
        (ACTIVE, {OLD, NEW}, (), OLD, Choice(NEW, NEW, OLD)),
        (ACTIVE, {NEW}, (), None, Choice(NEW, NEW, None)),
        (ACTIVE, {NEW, THIRD}, {OLD}, THIRD, Choice(NEW, NEW, None)),
        (ACTIVE, {OLD}, {NEW}, OLD, Choice(NEW, None, OLD)),
        (ACTIVE, {OLD}, (), OLD, Choice(OLD, OLD, None)),
        (ACTIVE, {THIRD}, {NEW}, THIRD, Choice(NEW, None, THIRD)),
        (SETTLED, {OLD, NEW}, (), OLD, Choice(NEW, NEW, None)),
        (SETTLED, {OLD}, {NEW}, OLD, Choice(NEW, None, OLD)),
        (SETTLED, {OLD}, (), OLD, Choice(OLD, OLD, None)),
        (SETTLED, (), {NEW}, None, None),
    ],
)
def test_what_runs_of_what_there_is(
    told: Order, loaded: Any, refused: Any, answers: str | None, choice: Choice | None
) -> None:
    if choice is None:
        with pytest.raises(EdgeTicketError, match="no model to run"):
            choose(told, loaded, refused, answers)
    else:
        assert choose(told, loaded, refused, answers) == choice


def subsets(of: tuple[str, ...]) -> Iterator[set[str]]:
    return (set(each) for n in range(len(of) + 1) for each in itertools.combinations(of, n))


def test_a_model_in_shadow_never_answers_and_what_answers_is_always_there() -> None:
    found = 0
    for told, loaded in itertools.product((SHADOW, ACTIVE, SETTLED), subsets((OLD, NEW, THIRD))):
        for refused, answers in itertools.product(subsets(tuple({OLD, NEW} - loaded)), (None, *loaded)):
            try:
                choice = choose(told, loaded, refused, answers)
            except EdgeTicketError:
                assert answers is None
                continue
            found += 1
            assert {choice.answers, choice.model or choice.answers, choice.beside or choice.answers} <= loaded
            assert choice.model != choice.beside
            assert told is not SHADOW or choice.answers != NEW or answers == NEW
            assert choice.reports == (NEW if NEW in loaded | refused else choice.answers)
            assert told.run not in loaded or choice.answers == told.run
    assert found > 80


def test_an_order_is_digests_and_nothing_else() -> None:
    told = {"device": "line-7", "run": OLD, "aside": NEW, "model": NEW}
    assert Order.of(told) == SHADOW
    assert Order.of(told | {"aside": None, "model": OLD}) == Order(OLD, None, OLD)
    assert (SHADOW.other, ACTIVE.other, SETTLED.other) == (OLD, OLD, None)
    assert (SHADOW.digests, SETTLED.digests) == ({OLD, NEW}, {NEW})
    for wrong in (
        *(told | {name: value} for name in ("run", "aside", "model") for value in ("../" * 22, 7, "", [], OLD + "\n")),
        *(told | {name: None} for name in ("run", "model")), told | {"model": THIRD}, told | {"aside": None}, told | {"model": OLD, "aside": ""}, told | {"model": OLD, "aside": "../" * 22},
        {}, [], None, "x", 5, {"run": OLD, "aside": NEW},
    ):  # fmt: skip
        with pytest.raises(EdgeTicketError, match="no order"):
            Order.of(wrong)


# bundles


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return fleet_bundles.make(tmp_path_factory.mktemp("bundles"))


def test_bundles_by_digest_are_loaded_refused_or_not_there(made: Made, tmp_path: Path) -> None:
    for name in ("old", "broken"):
        shutil.copy(made.path(name), tmp_path)
    altered, absent = tmp_path / made.path("equal").name, made.digests["again"]
    shutil.copy(made.path("old"), altered)
    wanted = [*(made.digests[name] for name in ("old", "broken", "equal")), absent]
    own = Bundles(tmp_path, tmp_path, [made.key])
    own.load(wanted)
    assert own.models.keys() == {wanted[0]}
    assert own.refused.keys() == {wanted[1], wanted[2]}
    assert "golden" in own.refused[wanted[1]]
    assert "digest" in own.refused[wanted[2]]
    first = own.models[wanted[0]]
    shutil.copy(made.path("equal"), altered)
    own.load(wanted)
    assert own.models.keys() == {wanted[0], wanted[2]}
    assert own.models[wanted[0]] is first
    own.keep({wanted[2], None})
    assert own.models.keys() == {wanted[2]}
    assert not own.refused
    stranger = Bundles(made.folder, tmp_path, [fleet_bundles.new_key()[1]])
    stranger.load(wanted)
    assert stranger.refused.keys() == set(wanted)
    other = Bundles(made.folder, tmp_path, [made.key], "press-7")
    other.load(wanted[:1])
    assert "(refused: class)" in other.refused[wanted[0]]


def test_a_key_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a public key"):
        Bundles(tmp_path, tmp_path, [fleet_bundles.new_key()[0]])


def test_the_bytes_that_were_hashed_are_those_that_run(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another bundle, rightly signed, is put there as soon as the ordered one was read."""
    digest = made.digests["old"]
    place = Path(shutil.copy(made.path("old"), tmp_path))

    def exchanged(*given: Any, **named: Any) -> Predictor:
        shutil.copy(made.path("swapped"), place)
        return Predictor(*given, **named)

    monkeypatch.setattr(order, "Predictor", exchanged)
    own = Bundles(tmp_path, tmp_path, [made.key])
    own.load([digest])
    assert own.models[digest].manifest["sequence"] == 1


class Later(date):
    @classmethod
    def today(cls) -> "Later":
        return cls(3000, 1, 1)


def test_an_expired_bundle_is_not_taken_but_one_in_use_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fleet_bundles.make(tmp_path, expires="2999-12-31")
    old, new, state = made.digests["old"], made.digests["equal"], tmp_path / "state"
    state.mkdir()
    Bundles(tmp_path, state, [made.key]).load([old])
    monkeypatch.setattr(order, "date", Later)
    own = Bundles(tmp_path, state, [made.key])  # the next start
    own.load([old, new])
    assert own.models.keys() == {old}
    assert own.refused[new].startswith(
        f"{made.path('equal')}: the bundle expired on 2999-12-31, and today is 3000-01-01"
    )
    with pytest.raises(BundleError, match="expired"):
        Predictor(made.path("old"), [made.key], today=Later.today())
    assert Predictor(made.path("old"), [made.key]).manifest["expires"] == "2999-12-31"


def test_a_bundle_in_use_goes_on_where_the_disk_took_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise EdgeTicketError("the disk is full")

    made, state = fleet_bundles.make(tmp_path, expires="2999-12-31"), tmp_path / "state"
    old, new = made.digests["old"], made.digests["equal"]
    state.mkdir()
    own = Bundles(tmp_path, state, [made.key])
    with monkeypatch.context() as broken:
        broken.setattr(order, "write_atomic", full)
        own.load([old])
    own.keep([])
    monkeypatch.setattr(order, "date", Later)
    again = Bundles(tmp_path, state, [made.key])
    again.load([old])
    assert again.refused.keys() == {old}
    own.load([old, new])
    assert (own.models.keys(), own.refused.keys(), own.accepted) == ({old}, {new}, {old})
    again.load([old])  # noted meanwhile
    assert again.models.keys() == {old}


def test_a_state_that_can_only_be_read_keeps_no_bundle_out(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    own, digest = Bundles(made.folder, tmp_path), made.digests["old"]
    monkeypatch.setattr(Path, "unlink", no)
    own.load([digest])
    assert (own.models.keys(), own.refused) == ({digest}, {})


def test_whatever_a_bundle_makes_the_loader_raise_is_a_refusal(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explodes(*_: Any, **__: Any) -> None:
        raise RuntimeError("of ONNX Runtime")

    own = Bundles(made.folder, tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("edgeticket.order.Predictor", explodes)
        for _ in range(STARTS + 1):
            own.load([made.digests["old"]])
            assert own.refused == {made.digests["old"]: "of ONNX Runtime"}
    own.load([made.digests["old"]])
    assert own.models
    assert not own.refused


def test_what_is_the_devices_own_fault_is_no_refusal(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise EdgeTicketError("the disk is full")

    def gone(path: Path, *_: Any, **__: Any) -> None:
        raise BundleError("unreadable", f"{path} (Input/output error)")

    own, digest = Bundles(made.folder, tmp_path), made.digests["old"]
    with monkeypatch.context() as broken:
        broken.setattr(order, "Predictor", gone)
        own.load([digest])
    assert not own.models | own.refused
    monkeypatch.setattr(order, "write_atomic", full)
    own.load([digest])
    assert own.models.keys() == {digest}


def test_a_bundle_that_ends_the_process_again_and_again_is_refused(made: Made, tmp_path: Path) -> None:
    own, digest = Bundles(made.folder, tmp_path, [made.key]), made.digests["old"]
    for _ in range(STARTS - 1):
        assert killed_in_loading(own, digest)
    own.load([digest])
    assert own.models
    own.keep([])
    for _ in range(STARTS):
        assert killed_in_loading(own, digest)
    assert not killed_in_loading(own, digest)
    own.load([digest])
    assert f"ended the process {STARTS} times (remove {tmp_path / digest}.starts" in own.refused[digest]
    (tmp_path / f"{digest}.starts").unlink()
    own.load([digest])
    assert own.models.keys() == {digest}


def killed_in_loading(own: Bundles, digest: str) -> bool:
    """Whether a process in which ONNX Runtime dies comes to that."""
    child = os.fork()
    if not child:
        order.Predictor = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,misc]
        own.load([digest])
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_real_models_side_by_side(made: Made, tmp_path: Path) -> None:
    digests, frames = made.digests, made.frames[:200]
    own = Bundles(made.folder, tmp_path, [made.key])
    own.load(digests.values())
    right = [Predictor(made.path("old")).predict(frame).label for frame in frames[:1]]
    for name, disagreements in (("equal", 0), ("swapped", 200)):
        running = own.trial(Choice(digests[name], digests[name], digests["old"], shadow=True), deadline_ms=1e9)
        for frame in frames:
            found = running.predict(frame)
            wait(lambda: not running._waiting)  # noqa: B023
        running.close()
        assert found.status in (Status.OK, Status.DRIFT, Status.UNFAMILIAR)
        assert own.models[digests["old"]].predict(frames[0]).label == right[0]
        counts = running.take()
        assert (counts.inferences, counts.disagreements, counts.guard_alarms) == (200, disagreements, 0)


def test_nothing_heavy_is_imported(made: Made) -> None:
    code = """
import sys
from edgeticket import order, outbox, trial
print(sorted({"torch", "onnx", "exporters", "click", "sqlalchemy", "cryptography"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
