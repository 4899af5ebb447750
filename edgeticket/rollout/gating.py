"""The decision itself, without a database: evidence in, verdict out. The controller and the simulation both call this."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from edgeticket.rollout.plan import Plan
from edgeticket.sequential import Evidence

Verdict = Literal["wait", "pass", "revert"]
Counts = Mapping[str, tuple[np.ndarray, np.ndarray]]  # by gate: failures [n] and trials [n], a report each


def fresh(plan: Plan, stage: int) -> dict[str, Evidence]:
    """Of a stage that starts: every stage is passed by its own reports alone."""
    return {name: Evidence() for name in plan.tests(stage)}


def feed(plan: Plan, stage: int, evidence: Mapping[str, Evidence], counts: Counts) -> dict[str, Evidence]:
    """The evidence after more reports, looked at after each of them. Reports without a trial say nothing to that gate."""
    tests = plan.tests(stage)
    found = {}
    for name, before in evidence.items():
        failures, trials = (np.asarray(each, dtype=np.float64) for each in counts[name])
        some = trials > 0
        single = plan.gates[name].unit == "inference"
        found[name] = before.after(tests[name], failures[some], trials[some], single)
    return found


def judge(evidence: Mapping[str, Evidence], heard: float, quorum: float) -> Verdict:
    """One gate that is stopped reverts, whatever the others say; all passed and enough devices heard of ends the stage.

    A model that silences its devices fails no gate: `heard`, the share of the stage's devices that reported, holds it.
    """
    if any(each.stopped for each in evidence.values()):
        return "revert"
    return "pass" if all(each.passed for each in evidence.values()) and heard >= quorum else "wait"
