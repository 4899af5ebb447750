"""What there is to say, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeticket.rollout.members import size
from edgeticket.rollout.plan import Plan
from edgeticket.rollout.simulate import Outcome
from edgeticket.text import columns


def outlook(plan: Plan, devices: int) -> list[str]:
    """Before it starts: devices of each stage, and what its gates need to pass."""
    inside = [f"{stage.name}: {size(devices, stage.percent)}" for stage in plan.stages]
    rows = [["gate", "stages", "good", "bad", "counts each", "passes after", "at the good rate"]]
    for name, gate in plan.gates.items():
        where = next(index for index in range(len(plan.stages)) if name in plan.tests(index))
        test, stages = plan.tests(where)[name], "shadow" if gate.shadow_only else "all"
        even, whole = test.usual()
        usual = f"{whole}" if gate.unit == "inference" or name == "self_test" else f"{even} to {whole}"
        rows.append([name, stages, f"{test.good:.3g}", f"{test.bad:.3g}", gate.unit, f"{test.least()}", usual])
    return [
        f"devices of each stage: {', '.join(inside)}",
        *columns(rows, "<<>><"),
        "passes after so many without one failure, and about so many, on average, at the good rate: more if few reports hold all failures",
    ]


def status(found: Mapping[str, Any]) -> list[str]:
    """Of edgeticket.rollout.status.status."""
    lines = [
        f"roll-out {found['rollout']}: {found['state']}, stage {found['stage']} of {', '.join(found['stages'])}",
        f"devices: {found['devices']}, {found['members']} in the stage, {found['silent']} of them silent",
        *columns(_gates(found["gates"]), "<"),
    ]
    if found["slowest_ms"] is not None:
        lines.append(f"slowest report of the stage: {found['slowest_ms']:g} ms at the 99th percentile")
    if found["refused"]:
        lines.append("refused: " + ", ".join(f"{count} {reason}" for reason, count in sorted(found["refused"].items())))
    if hook := found["hook"]:
        lines.append(f"last hook: decision {hook['decision']}, exit code {hook['code']}")
    return lines


def _gates(gates: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = [["gate", "units", "failures", "rate", "to pass", "to stop", ""]]
    for name, each in gates.items():
        rate = f"{each['failures'] / each['units']:.3%}" if each["units"] else "-"
        verdict = "stopped" if each["stopped"] else "passed" if each["passed"] else "undecided"
        passing, stopping = (
            f"{each[key]:.2f} of {each[limit]:.2f}"
            for key, limit in (("against_bad", "pass_at"), ("against_good", "stop_at"))
        )
        rows.append([name, f"{each['units']}", f"{each['failures']:.6g}", rate, passing, stopping, verdict])
    return rows


def decision(found: Mapping[str, Any]) -> list[str]:
    """One of edgeticket.rollout.status.log."""
    stage = found["stage"]
    kind = "shadow:" if stage["shadow"] else ""
    hook = "".join(f"; hook exited with {run['code']}" for run in found["hook"])
    head = f"{found['decision']}  {found['at']}  {found['rollout']}  {kind}{stage['percent']:g}  {found['action']}: {found['why']}{hook}"
    gates = found["numbers"].get("gates")
    return [head, *("    " + line for line in columns(_gates(gates), "<"))] if gates else [head]


def outcomes(found: Sequence[Outcome]) -> list[str]:
    """What simulated fleets came to."""
    rows = [["ended", "at stage", "fleets", "days", "largest share of devices"]]
    for state, stage in sorted({(each.state, each.stage) for each in found}):
        same = [each for each in found if (each.state, each.stage) == (state, stage)]
        days = sorted(each.days for each in same)
        rows.append(
            [state, stage, f"{len(same)}", f"{days[len(days) // 2]:.1f}", f"{max(each.got for each in same):.1%}"]
        )
    return columns(rows, "<<")
