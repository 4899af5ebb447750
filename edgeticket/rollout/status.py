"""What a fleet's database says, for people and programs."""

import json
from typing import Any

import sqlalchemy as sa

from edgeticket.errors import UsageError
from edgeticket.rollout import current as rows
from edgeticket.rollout import store
from edgeticket.rollout.plan import NAME
from edgeticket.rollout.store import Store


def status(where: Store) -> dict[str, Any]:
    """Of the newest roll-out: state, stage, evidence by gate, devices heard of, refused reports, the hook."""
    with where.reading() as connection:
        current = rows.latest(connection)
        heard = rows.heard(connection, current)
        found = {
            "rollout": current.name,
            "state": current.state,
            "stage": current.at.name,
            "stages": [stage.name for stage in current.plan.stages],
            "model": current.model,
            "previous": current.previous,
            "devices": len(rows.names(connection)),
            "silent": max(0, current.members - heard) if current.running else 0,
            "refused": {row.reason: row.count for row in connection.execute(sa.select(store.refusals))},
            "slowest_ms": current.slowest_ms,
            "hook": _hook(connection),
        }
        return found | rows.numbers(current, rows.evidence(connection, current), heard)


def _hook(connection: sa.Connection) -> dict[str, Any] | None:
    """How the last run ended."""
    row = (
        connection.execute(sa.select(store.hook_runs).order_by(store.hook_runs.c.id.desc()).limit(1)).mappings().first()
    )
    return {key: row[key] for key in ("decision", "at", "code", "output")} if row else None


def count(where: Store) -> int:
    """Devices of the fleet."""
    with where.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(store.devices)).scalar_one())


def silent(where: Store) -> list[str]:
    """Devices of the stage that runs, of which no report has counted in it."""
    with where.reading() as connection:
        current = rows.latest(connection)
        table = store.heard
        query = sa.select(table.c.device).where(table.c.rollout == current.id, table.c.stage == current.stage)
        heard = set(connection.execute(query).scalars())
        return [name for name in rows.names(connection) if current.holds(name) and name not in heard]


def assignments(where: Store) -> list[dict[str, Any]]:
    """What each device should run, by name; nothing before the first roll-out."""
    with where.reading() as connection:
        current = rows.newest(connection)
        nothing = dict.fromkeys(("run", "aside", "model"))
        return [_told(current, name) if current else {"device": name} | nothing for name in rows.names(connection)]


def assignment(where: Store, device: str) -> dict[str, Any]:
    """Of one device. Raises UsageError where it is not of the fleet or no roll-out was started."""
    with where.reading() as connection:
        known = sa.select(store.devices.c.name).where(store.devices.c.name == device)
        if not NAME.fullmatch(device) or connection.execute(known).first() is None:
            raise UsageError(f"{device!r} is no device of this fleet: add it by `edgeticket rollout devices`")
        return _told(rows.latest(connection), device)


def _told(current: rows.Current, device: str) -> dict[str, Any]:
    """`model`: the one that its reports are about."""
    found = current.assignment(device)
    return {"device": device, **vars(found), "model": current.model if found.aside else found.run}


def log(where: Store, after: int = 0) -> list[dict[str, Any]]:
    """Every decision after that number, oldest first, with the runs of its hook."""
    with where.reading() as connection:
        name, plan = store.rollouts.c.name, store.rollouts.c.plan
        query = sa.select(store.decisions, name, plan).join(store.rollouts).order_by(store.decisions.c.id)
        query = query.where(store.decisions.c.id > after)
        runs = list(connection.execute(sa.select(store.hook_runs).order_by(store.hook_runs.c.id)).mappings())
        return [
            {
                "decision": row["id"],
                "rollout": row["name"],
                "at": row["at"],
                "stage": json.loads(row["plan"])["stages"][row["stage"]],
                "action": row["action"],
                "why": row["why"],
                "numbers": json.loads(row["numbers"]),
                "hook": [{"at": run["at"], "code": run["code"]} for run in runs if run["decision"] == row["id"]],
            }
            for row in connection.execute(query).mappings()
        ]
