"""Figures of docs/rollout.md: `rollout.py [errors|usual|fleets|units|speed|speed20]...`, all but the last by default."""

import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgeticket.rollout import controller
from edgeticket.rollout.intake import ingest
from edgeticket.rollout.plan import GATES, STAGES, Gate, Plan, gates, rates, stages
from edgeticket.rollout.reports import lines
from edgeticket.rollout.simulate import Fleet, Outcome, simulate
from edgeticket.rollout.store import Store
from edgeticket.sequential import Evidence, RateTest

USUAL = Plan(stages(STAGES), gates([]))
RUNS = 2000


def share(found: Iterable[Outcome], state: str) -> float:
    return float(np.mean([each.state == state for each in found]))


def errors() -> None:
    """One test, single trials, alpha 0.01 and beta 0.05; looked at after every trial, or once in so many."""
    test = RateTest(0.005, 0.02, 0.01, 0.05)
    for every in (1, 10, 100, 1000):
        row = []
        for rate, wrong in ((test.bad, "passed"), (test.good, "stopped")):
            draws = np.random.default_rng(1).random((RUNS, 5000)) < rate
            runs = draws.reshape(RUNS, -1, every).sum(2)
            ends = [Evidence().after(test, run, np.full(len(run), every), single=True) for run in runs]
            row.append(f"{np.mean([getattr(end, wrong) for end in ends]):.2%}")
        print(f"| {every} | {row[0]} | {row[1]} |")


def usual() -> None:
    """Observations until each gate passes at its good rate: what `new` says, and the mean of simulations."""
    random = np.random.default_rng(1)
    for name, test in USUAL.tests(0).items():
        row = []
        for each in (1, 200):
            shares = random.binomial(each, test.good, (RUNS, 6000)) / each
            passed = np.cumsum(test.of_shares(shares)[1], axis=1) >= test.pass_at
            row.append(f"{passed.argmax(axis=1).mean() + 1:.0f}" if passed.any(axis=1).all() else "not all")
        print(f"| {name} | {' | '.join(map(str, test.usual()[::-1]))} | {' | '.join(row)} |")


def fleets() -> None:
    """The usual plan: an equal model, and one that is bad at one gate."""
    found = [simulate(USUAL, Fleet(10000, rates(USUAL, [])), seed) for seed in range(RUNS)]
    days = np.median([each.days for each in found])
    print(f"equal: stopped {share(found, 'reverted'):.2%}, done {share(found, 'done'):.2%}, median {days:.2f} days")
    for name, gate in GATES.items():
        fleet = Fleet(10000, rates(USUAL, [f"{name}={gate.bad}"]))
        found = [simulate(USUAL, fleet, seed) for seed in range(RUNS)]
        few = np.mean([each.got <= 0.05 for each in found])
        print(
            f"{name} bad: done {share(found, 'done'):.2%}, stopped {share(found, 'reverted'):.2%}; at most 5 % of devices in {few:.2%} of {RUNS} fleets,",
            end=" ",
        )
        print(
            f"none at all in {np.mean([each.got == 0 for each in found]):.2%}, largest {max(each.got for each in found):.1%}"
        )


def units() -> None:
    """One stage of 500 devices and one gate: which unit holds under which dependence."""
    shapes = {
        "independent": {},
        "inferences of a report: correlation 0.1": {"within": 0.1},
        "inferences of a report: all or none": {"within": 1.0},
        "devices differ: correlation 0.01": {"between": 0.01},
        "devices differ: correlation 0.1": {"between": 0.1},
        "2 % of devices fail wholly": {"between": 1.0},
    }
    for name, shape in shapes.items():
        row = []
        for unit in ("inference", "report", "device"):
            plan = Plan(stages("100"), {"disagreement": Gate(0.005, 0.02, unit)})
            for rate, state in ((0.02, "done"), (0.005, "done")):
                fleet = Fleet(500, {"disagreement": rate}, **shape)
                row.append(f"{share([simulate(plan, fleet, seed, days=10) for seed in range(RUNS)], state):.1%}")
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def speed(reports: int = 1) -> None:
    """100,000 devices, so many reports each from a file, all of them in the stage that runs, SQLite, one process."""
    devices = [f"plant-7/line-{index}" for index in range(100_000)]
    values = {
        "inferences": 28800,
        "disagreements": 120,
        "self_test": "ok",
        "guard_alarms": 200,
        "misses": 3,
        "latency_ms": 2.5,
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/fleet.db", create=True)
        controller.register(store, [*devices, "silent"])  # the stage never ends
        plan = Plan(stages("100"), gates([]), quorum=1.0)
        controller.start(store, "speed", plan, "a" * 64, "b" * 64)
        with open(f"{folder}/reports", "w") as file:
            for sequence in range(1, reports + 1):
                for device in devices:
                    print(json.dumps({"device": device, "model": "a" * 64, "sequence": sequence} | values), file=file)
        with open(f"{folder}/reports", "rb") as file:
            begun, wall = time.process_time(), time.perf_counter()
            receipt = ingest(store, lines(file))
            cpu, wall = time.process_time() - begun, time.perf_counter() - wall
        size = Path(f"{folder}/fleet.db").stat().st_size / len(devices)
        print(f"{receipt.counted} counted: {cpu:.1f} s of processor time, {wall:.1f} s, {size:.0f} bytes a device")


CHECKS = {
    "errors": errors,
    "usual": usual,
    "fleets": fleets,
    "units": units,
    "speed": speed,
    "speed20": lambda: speed(20),
}

if __name__ == "__main__":
    for word in sys.argv[1:] or ["errors", "usual", "fleets", "units", "speed"]:
        print(f"== {word}", flush=True)
        CHECKS[word]()
