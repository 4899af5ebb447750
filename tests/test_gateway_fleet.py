"""A fleet of examples/gateway.py under the real roll-out, in processes that are killed."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fleet_bundles import Made
from gateways import ENVIRONMENT, Gateway, bundles, gateway
from servers import free_port, wait_until

from edgeticket.rollout.reports import parse

STAGED = [
    "--gate",
    "disagreement=5%:60%",
    "--gate",
    "self_test=5%:60%",
    "--gate",
    "guard=10%:60%",
    "--gate",
    "latency=20%:70%",
]
DEVICES = [f"line-{i}" for i in range(20)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return bundles(tmp_path_factory.mktemp("bundles"))


class Fleet:
    """A roll-out server of its own process, and four gateways with five devices each."""

    def __init__(self, made: Made, folder: Path) -> None:
        self.made, self.folder, self.port = made, folder, free_port()
        self.database, self.stack = str(folder / "fleet.db"), ExitStack()
        self.edgeticket("devices", "--add", "-", feed="\n".join(DEVICES))
        self.server: subprocess.Popen[bytes] | None = None
        self.gateways: dict[int, Gateway] = {}
        self.left: list[bytes] = []

    def edgeticket(self, *words: str, feed: str = "") -> list[Any]:
        name, *rest = words
        command = [sys.executable, "-m", "edgeticket", "rollout", name, self.database, *rest, "--format", "json"]
        done = subprocess.run(command, input=feed, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def serve(self) -> None:
        command = [
            sys.executable,
            "-m",
            "edgeticket",
            "rollout",
            "serve",
            self.database,
            "--http",
            f"127.0.0.1:{self.port}",
        ]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
        assert self.server.stderr
        assert b"listening at" in self.server.stderr.readline()

    def kill(self) -> None:
        if self.server and self.server.stderr:
            self.server.kill()
            self.server.wait()
            self.server.stderr.close()

    def kill_gateway(self, i: int) -> None:
        """And start it again. What it had not sent may be missing from its log."""
        own = self.gateways[i]
        assert own.ended(signal.SIGKILL) == -signal.SIGKILL
        for path in own.state.glob("*.reports"):
            self.left += [line.encode() for line in json.loads(path.read_bytes())["waiting"]]
        size = own.out.stat().st_size
        self.start(i)
        wait_until(lambda: own.out.stat().st_size > size)

    def start(self, *numbers: int) -> None:
        more = ["--report-s", "0.3", "--period-ms", "50", "--deadline-ms", "1000", "--loop"]
        for i in numbers:
            own = gateway(
                self.made, f"http://127.0.0.1:{self.port}", self.folder / f"{i}", *DEVICES[5 * i : 5 * i + 5], more=more
            )
            self.gateways[i] = self.stack.enter_context(own)

    def new(self, name: str, *plan: str) -> None:
        old = ["--previous", str(self.made.path("old"))] if name == "equal" else []
        self.edgeticket("new", name, "--model", str(self.made.path(name)), *old, *STAGED, *plan)

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=30) as answer:
            return dict(json.load(answer))

    def ends(self, state: str) -> dict[str, Any]:
        """The decision that the roll-out ends with."""
        wait_until(lambda: time.sleep(0.1) or self.status()["state"] == state, 60)
        return dict(self.edgeticket("log")[-1])

    def answer_by(self, name: str) -> None:
        """Until every device does."""
        wait_until(lambda: time.sleep(0.1) or self.latest() == dict.fromkeys(DEVICES, self.made.digests[name]))

    def latest(self) -> dict[str, str]:
        """By device, the digest of the model that answered last."""
        return {row["device"]: row["model"] for own in self.gateways.values() for row in own.rows(4096)}

    def got(self, name: str) -> set[str]:
        """Devices where a model ever answered."""
        rows = [row for own in self.gateways.values() for row in own.rows()]
        return {row["device"] for row in rows if row["model"] == self.made.digests[name]}

    def reports(self, name: str) -> list[Any]:
        made = {*self.left, *(line for own in self.gateways.values() for line in own.made())}
        found = [parse(line) for line in made]
        assert len({(each.device, each.sequence) for each in found}) == len(found)
        return [each for each in found if each.model == self.made.digests[name]]


@pytest.fixture
def fleet(made: Made, tmp_path: Path) -> Iterator[Fleet]:
    pytest.importorskip("sqlalchemy")
    own = Fleet(made, tmp_path)
    with own.stack:
        try:
            yield own
        finally:
            own.kill()


@pytest.mark.slow
def test_a_fleet_takes_an_equal_model_refuses_others_and_loses_no_report(fleet: Fleet) -> None:
    fleet.serve()
    fleet.new("equal", "--stages", "shadow:20,20,100", "--quorum", "1")
    fleet.start(0, 1, 2, 3)
    an_equal_model_gets_through_all_stages(fleet)
    one_that_disagrees_is_taken_back(fleet)
    one_that_fails_its_golden_vectors_never_answers(fleet)
    no_report_is_lost_or_counted_twice_whoever_is_killed(fleet)


def an_equal_model_gets_through_all_stages(fleet: Fleet) -> None:
    assert fleet.ends("done")["why"] == "every gate of the last stage passed"
    assert [each["action"] for each in fleet.edgeticket("log")] == ["start", "advance", "advance", "finish"]
    fleet.answer_by("equal")
    found = fleet.reports("equal")
    assert {each.device for each in found} == set(DEVICES)
    assert sum(each.disagreements or 0 for each in found) == 0 < sum(each.inferences for each in found)
    assert {each.self_test for each in found} == {"ok"}


def one_that_disagrees_is_taken_back(fleet: Fleet) -> None:
    fleet.new("swapped", "--stages", "20,100")
    found = fleet.ends("reverted")
    gate = found["numbers"]["gates"]["disagreement"]
    assert found["why"] == "stopped by disagreement"
    assert gate["stopped"]
    assert gate["failures"] == gate["units"] > 0
    fleet.answer_by("equal")
    got = fleet.got("swapped")
    assert 0 < len(got) <= found["numbers"]["members"] == 4
    assert {each.device for each in fleet.reports("swapped")} <= got
    assert all(each.disagreements == each.inferences for each in fleet.reports("swapped"))


def one_that_fails_its_golden_vectors_never_answers(fleet: Fleet) -> None:
    fleet.new("broken", "--stages", "shadow:20,100")
    found = fleet.ends("reverted")
    assert found["why"] == "stopped by self_test"
    assert found["numbers"]["gates"]["self_test"]["failures"] == found["numbers"]["gates"]["self_test"]["units"]
    fleet.answer_by("equal")
    assert fleet.got("broken") == set()
    assert {(each.self_test, each.inferences) for each in fleet.reports("broken")} == {("failed", 0)}


def no_report_is_lost_or_counted_twice_whoever_is_killed(fleet: Fleet) -> None:
    """One device is silent, so that the stage does not end; one gate counts inferences and the others reports."""
    fleet.edgeticket("devices", "--add", "-", feed="silent")
    fleet.new("again", "--stages", "100", "--quorum", "1", "--gate", "guard=10%:60%,unit=inference")
    for pause in (1.0, 0.4):
        time.sleep(pause)
        fleet.kill()
        fleet.kill_gateway(0)
        fleet.serve()
        time.sleep(pause)
        fleet.kill_gateway(0)
    fleet.answer_by("again")
    assert [own.ended() for own in fleet.gateways.values()] == [0] * 4
    found, made = fleet.status(), fleet.reports("again")
    assert found["state"] == "running"
    assert found["silent"] == 1
    assert found["gates"]["self_test"]["units"] == len(made)
    assert found["gates"]["guard"]["units"] == sum(each.inferences for each in made)
    assert found["refused"] == {}
    for own in fleet.gateways.values():
        assert all(json.loads(path.read_bytes())["waiting"] == [] for path in own.state.glob("*.reports"))
