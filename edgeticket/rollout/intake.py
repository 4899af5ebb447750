"""Reports into the store: each counts once, whatever is sent again, and moves the roll-out as soon as it can."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import sqlalchemy as sa

from edgeticket.rollout import current as rows
from edgeticket.rollout import store
from edgeticket.rollout.controller import settle
from edgeticket.rollout.current import Current
from edgeticket.rollout.gating import Counts, feed
from edgeticket.rollout.replay import admit
from edgeticket.rollout.reports import MEASURES, Refused, Report, parse
from edgeticket.rollout.store import Store

CHUNK = 5000  # reports of a transaction
Sent = tuple[bytes, Collection[str] | None]  # a line, and the devices that its sender may speak for


@dataclass
class Receipt:
    """counted: as evidence; other: of a device or model that is not on trial; replayed: came before, or is too old to tell (replay.py);
    refused: by reason, no report of this fleet."""

    counted: int = 0
    other: int = 0
    replayed: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {"refused": dict(self.refused)}


def ingest(where: Store, lines: Iterable[bytes], own: Collection[str] | None = None) -> Receipt:
    """One report a line, of the devices `own`, None for any. What was stored when this is cut short stays, and all may be sent again."""
    return ingest_sent(where, ((line, own) for line in lines))


def ingest_sent(where: Store, sent: Iterable[Sent]) -> Receipt:
    """The same, of senders that differ."""
    receipt, rest = Receipt(), iter(sent)
    while chunk := list(islice(rest, CHUNK)):
        _ingest_chunk(where, chunk, receipt)
    return receipt


def _ingest_chunk(where: Store, chunk: Sequence[Sent], receipt: Receipt) -> None:
    refused: Counter[str] = Counter()
    parsed = list(_parsed(chunk, refused))
    with where.writing() as connection:
        windows = _windows(connection, {report.device for report in parsed})
        found = [report for report in parsed if report.device in windows]
        refused["unknown-device"] += len(parsed) - len(found)
        counted, new = _take(connection, found, windows)
        _count_refusals(connection, refused := +refused)
    receipt.counted += counted
    receipt.other += new - counted
    receipt.replayed += len(found) - new
    receipt.refused.update(refused)


def _parsed(chunk: Sequence[Sent], refused: Counter[str]) -> Iterable[Report]:
    for line, own in chunk:
        try:
            yield parse(line, own)
        except Refused as error:
            refused[str(error)] += 1


def _windows(connection: sa.Connection, names: set[str]) -> dict[str, tuple[int, int]]:
    """Of those names that are devices of the fleet."""
    table = store.devices
    query = sa.select(table.c.name, table.c.highest, table.c.seen).where(table.c.name.in_(names))
    return {row.name: (row.highest, row.seen) for row in connection.execute(query)}


def _take(connection: sa.Connection, found: Sequence[Report], windows: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How many of the reports counted, and how many were new."""
    new = []
    for report in found:
        after = admit(*windows[report.device], report.sequence)
        if after:
            windows[report.device] = after
            new.append(report)
    _keep(connection, {report.device for report in new}, windows)
    current = rows.newest(connection)
    counted = [each for each in new if current and each.model == current.model and current.holds(each.device)]
    if current and counted:
        _weigh(connection, current, counted)
    return len(counted), len(new)


def _keep(connection: sa.Connection, names: set[str], windows: dict[str, tuple[int, int]]) -> None:
    key: sa.BindParameter[str] = sa.bindparam("device")
    if names:
        values = [{"device": name, "highest": windows[name][0], "seen": windows[name][1]} for name in sorted(names)]
        connection.execute(store.devices.update().where(store.devices.c.name == key), values)


def _weigh(connection: sa.Connection, current: Current, reports: Sequence[Report]) -> None:
    _firsts(connection, store.heard, _key(current), {each.device for each in reports})
    counts = _counts(connection, current, reports)
    evidence = feed(current.plan, current.stage, rows.evidence(connection, current), counts)
    table = store.gates
    for name, each in evidence.items():
        key = sa.and_(table.c.rollout == current.id, table.c.stage == current.stage, table.c.gate == name)
        connection.execute(table.update().where(key).values(**asdict(each)))
    _keep_slowest(connection, current, reports)
    settle(connection, current, evidence)


def _keep_slowest(connection: sa.Connection, current: Current, reports: Sequence[Report]) -> None:
    found = [each.latency_ms for each in reports if each.latency_ms is not None]
    if found and max(found) > (current.slowest_ms or -1):
        table = store.rollouts
        connection.execute(table.update().where(table.c.id == current.id).values(slowest_ms=max(found)))


def _key(current: Current) -> dict[str, Any]:
    return {"rollout": current.id, "stage": current.stage}


def _firsts(connection: sa.Connection, table: sa.Table, key: dict[str, Any], names: set[str]) -> set[str]:
    """Those of the devices that were not in the table under that key, and now are."""
    new = [key | {"device": name} for name in sorted(names)]
    return {row[-1] for row in store.insert_new(connection, table, new)}


def _counts(connection: sa.Connection, current: Current, reports: Sequence[Report]) -> Counts:
    """By gate; where a device counts once, by the first report of the stage that says anything to the gate."""
    found = {}
    for name in current.plan.tests(current.stage):
        pairs = [MEASURES[name](report) for report in reports]
        if current.plan.gates[name].unit == "device":
            telling: dict[str, tuple[int, int]] = {}
            for report, pair in zip(reports, pairs, strict=True):
                if pair[1]:
                    telling.setdefault(report.device, pair)
            firsts = _firsts(connection, store.counted, _key(current) | {"gate": name}, set(telling))
            pairs = [pair for device, pair in telling.items() if device in firsts]
        table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        found[name] = table[:, 0], table[:, 1]
    return found


def _count_refusals(connection: sa.Connection, refused: Counter[str]) -> None:
    table = store.refusals
    store.insert_new(connection, table, [{"reason": reason, "count": 0} for reason in refused])
    for reason, count in refused.items():
        connection.execute(table.update().where(table.c.reason == reason).values(count=table.c.count + count))
