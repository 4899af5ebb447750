"""The roll-out that a fleet is in, as one row says it: what each device should run follows from it alone."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from edgeticket.errors import UsageError
from edgeticket.rollout import store
from edgeticket.rollout.members import position
from edgeticket.rollout.plan import Plan, Stage
from edgeticket.sequential import Evidence


@dataclass(frozen=True)
class Assignment:
    """Digests of the model that answers on a device and of the one that runs aside to be compared, None for none."""

    run: str
    aside: str | None


@dataclass(frozen=True)
class Current:
    """A row of `rollouts`."""

    id: int
    name: str
    plan: Plan
    model: str
    previous: str
    state: str
    stage: int
    bound: int
    members: int
    slowest_ms: float | None

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def at(self) -> Stage:
        return self.plan.stages[self.stage]

    def holds(self, device: str) -> bool:
        """Whether a device is in the stage that runs."""
        return self.running and position(self.name, device) <= self.bound

    def assignment(self, device: str) -> Assignment:
        if not self.holds(device):
            return Assignment(self.model if self.state == "done" else self.previous, None)
        return Assignment(self.previous, self.model) if self.at.shadow else Assignment(self.model, self.previous)


def newest(connection: sa.Connection) -> Current | None:
    """The roll-out that was started last."""
    columns = (store.rollouts.c[field.name] for field in fields(Current))
    row = connection.execute(sa.select(*columns).order_by(store.rollouts.c.id.desc()).limit(1)).first()
    return Current(**row._asdict() | {"plan": Plan.from_json(row.plan)}) if row else None


def latest(connection: sa.Connection) -> Current:
    """The same. Raises UsageError where none was."""
    if found := newest(connection):
        return found
    raise UsageError("no roll-out was started yet: `edgeticket rollout new` starts one")


def names(connection: sa.Connection) -> list[str]:
    """Of every device."""
    return list(connection.execute(sa.select(store.devices.c.name).order_by(store.devices.c.name)).scalars())


def evidence(connection: sa.Connection, current: Current) -> dict[str, Evidence]:
    """Of the stage that runs, by gate."""
    table = store.gates
    query = sa.select(table).where(table.c.rollout == current.id, table.c.stage == current.stage).order_by(table.c.gate)
    rows = connection.execute(query).mappings()
    return {row["gate"]: Evidence(**{key: row[key] for key in asdict(Evidence())}) for row in rows}


def heard(connection: sa.Connection, current: Current) -> int:
    """Devices of the stage whose reports counted in it."""
    table = store.heard
    query = sa.select(sa.func.count()).where(table.c.rollout == current.id, table.c.stage == current.stage)
    return int(connection.execute(query).scalar_one())


def numbers(current: Current, found: Mapping[str, Evidence], heard_of: int) -> dict[str, Any]:
    """All that a decision rests on; logarithms are natural."""
    tests = current.plan.tests(current.stage)
    by_gate = {
        name: asdict(each) | asdict(tests[name]) | {"unit": current.plan.gates[name].unit}
        | {"pass_at": tests[name].pass_at, "stop_at": tests[name].stop_at}
        for name, each in found.items()
    }  # fmt: skip
    return {"gates": by_gate, "heard": heard_of, "members": current.members, "quorum": current.plan.quorum}


def record(connection: sa.Connection, current: Current, action: str, why: str, facts: Mapping[str, Any]) -> None:
    """Append a decision."""
    row = {"rollout": current.id, "stage": current.stage, "action": action, "why": why}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute(store.decisions.insert().values(**row, at=at, numbers=json.dumps(facts, sort_keys=True)))
