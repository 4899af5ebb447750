"""Starting a roll-out, moving it from stage to stage, taking it back. Every move and its record are one transaction."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

import sqlalchemy as sa

from edgeticket.errors import UsageError
from edgeticket.rollout import current as rows
from edgeticket.rollout import store
from edgeticket.rollout.current import Current
from edgeticket.rollout.gating import fresh, judge
from edgeticket.rollout.members import bound, position, size
from edgeticket.rollout.plan import DIGEST, NAME, Plan
from edgeticket.rollout.replay import NOTHING
from edgeticket.rollout.store import Store
from edgeticket.sequential import Evidence

LONGEST_REASON = 500


def register(where: Store, names: Iterable[str]) -> int:
    """Add devices to the fleet; returns how many are new. Raises UsageError for a name that no report could carry."""
    wanted, (highest, seen) = list(dict.fromkeys(names)), NOTHING
    for name in wanted:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"device {name!r}: letters, digits and ._:@/- are allowed, at most 128, a letter or digit first"
            )
    with where.writing() as connection:
        new = store.insert_new(
            connection, store.devices, [{"name": name, "highest": highest, "seen": seen} for name in wanted]
        )
        _recount(connection)
    return len(new)


def remove(where: Store, names: Iterable[str]) -> int:
    """Take devices out of the fleet, such as scrapped ones, which a stage would wait for; returns how many were in it.

    One that is added again is waited for again, and where a device counts once it has counted.
    """
    wanted = [{"device": name} for name in set(names)]
    with where.writing() as connection:
        before = len(rows.names(connection))
        if wanted:
            key: sa.BindParameter[str] = sa.bindparam("device")
            connection.execute(store.devices.delete().where(store.devices.c.name == key), wanted)
            connection.execute(store.heard.delete().where(store.heard.c.device == key), wanted)
        _recount(connection)
        return before - len(rows.names(connection))


def _recount(connection: sa.Connection) -> None:
    if current := rows.newest(connection):
        _update(connection, current.id, members=sum(map(current.holds, rows.names(connection))))


def start(where: Store, name: str, plan: Plan, model: str, previous: str | None = None) -> Current:
    """Begin with the first stage. `previous`: what devices run now, if not the model of the last roll-out that was finished.

    Raises UsageError while another one runs, for a name that was used, for digests that are none, and for a stage that its gates
    can never let pass.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"roll-out {name!r}: letters, digits and ._:@/- are allowed, at most 128, a letter or digit first"
        )
    with where.writing() as connection:
        previous = previous or _in_use(connection)
        _check_models(model, previous)
        _check_idle(connection, name)
        fleet = rows.names(connection)
        check_reachable(plan, len(fleet))
        row = {"name": name, "plan": plan.to_json(), "model": model, "previous": previous, "state": "running"}
        connection.execute(
            store.rollouts.insert().values(**row, stage=0, bound=-1, members=0, hook_since=0, hook_until=0)
        )
        current = _enter(connection, rows.latest(connection), 0)
        rows.record(
            connection, current, "start", "started by hand", {"members": current.members, "plan": plan.to_json()}
        )
    return current


def _check_models(model: str, previous: str | None) -> None:
    if previous is None:
        raise UsageError(
            "name the digest of the model that devices run now by --previous: it is what they would go back to"
        )
    for digest in (model, previous):
        if not DIGEST.fullmatch(digest):
            raise UsageError(f"model {digest!r}: a digest is 64 digits 0-9a-f, for example the SHA-256 of the bundle")
    if model == previous:
        raise UsageError("the new model and the previous one have the same digest: there is nothing to roll out")


def _check_idle(connection: sa.Connection, name: str) -> None:
    found = connection.execute(sa.select(store.rollouts.c.name, store.rollouts.c.state)).all()
    if running := [row.name for row in found if row.state == "running"]:
        raise UsageError(
            f"roll-out {running[0]} is running: wait for its end, or take it back by `edgeticket rollout revert`"
        )
    if name in [row.name for row in found]:
        raise UsageError(f"roll-out {name} was there before, and it chooses the devices: take another name")


def _in_use(connection: sa.Connection) -> str | None:
    if (last := rows.newest(connection)) is None:
        return None
    return last.model if last.state == "done" else last.previous


def check_reachable(plan: Plan, devices: int) -> None:
    """Raises UsageError where a stage has fewer devices than a gate that counts each once needs, or there are none at all."""
    if not devices:
        raise UsageError("the fleet has no device: add them by `edgeticket rollout devices`")
    for index, stage in enumerate(plan.stages):
        inside = size(devices, stage.percent)
        for name, test in plan.tests(index).items():
            if plan.gates[name].unit == "device" and test.least() > inside:
                raise UsageError(
                    f"stage {stage.name} has {inside} devices, and gate {name} needs {test.least()} without one failure: let "
                    "the stage be larger, the bad rate or alpha higher, or the unit be report (docs/rollout.md says what it assumes)"
                )


def settle(connection: sa.Connection, current: Current, evidence: Mapping[str, Evidence]) -> Current:
    """Judge the stage by its evidence and move on or back where that is due, inside the caller's transaction."""
    if judge(evidence, 1.0, current.plan.quorum) == "wait":
        return current  # whoever was heard of
    heard = rows.heard(connection, current)
    share = heard / current.members if current.members else 0.0
    verdict = judge(evidence, share, current.plan.quorum)
    if verdict == "wait":
        return current
    facts = rows.numbers(current, evidence, heard)
    if verdict == "revert":
        stopped = ", ".join(name for name, each in evidence.items() if each.stopped)
        return _end(connection, current, "revert", f"stopped by {stopped}", facts)
    if current.stage + 1 == len(current.plan.stages):
        return _end(connection, current, "finish", "every gate of the last stage passed", facts)
    rows.record(connection, current, "advance", "every gate passed", facts)
    return _enter(connection, current, current.stage + 1)


def step(where: Store) -> Current:
    """Judge without a new report: what devices that were removed make possible."""
    with where.writing() as connection:
        current = rows.latest(connection)
        return settle(connection, current, rows.evidence(connection, current)) if current.running else current


def revert(where: Store, reason: str) -> Current:
    """Take the model back by hand, from a running roll-out or one that is done. Raises UsageError where it is back already."""
    with where.writing() as connection:
        current = rows.latest(connection)
        if current.state == "reverted":
            raise UsageError(f"roll-out {current.name} is reverted already")
        facts = rows.numbers(current, rows.evidence(connection, current), rows.heard(connection, current))
        return _end(connection, current, "revert", f"by hand: {reason[:LONGEST_REASON]}", facts)


def _enter(connection: sa.Connection, current: Current, stage: int) -> Current:
    fleet, percent = rows.names(connection), current.plan.stages[stage].percent
    before = -1 if current.at.shadow else current.bound
    limit = max(before, bound(current.name, fleet, percent))
    inside = sum(position(current.name, device) <= limit for device in fleet)
    found = replace(current, stage=stage, bound=limit, members=inside)
    _update(connection, current.id, stage=stage, bound=limit, members=inside, slowest_ms=None)
    for gate, each in fresh(current.plan, stage).items():
        connection.execute(store.gates.insert().values(rollout=current.id, stage=stage, gate=gate, **asdict(each)))
    return found


def _end(connection: sa.Connection, current: Current, action: str, why: str, facts: Mapping[str, object]) -> Current:
    state = {"finish": "done", "revert": "reverted"}[action]
    rows.record(connection, current, action, why, facts)
    _update(connection, current.id, state=state)
    return replace(current, state=state)


def _update(connection: sa.Connection, rollout: int, **values: object) -> None:
    connection.execute(store.rollouts.update().where(store.rollouts.c.id == rollout).values(**values))
