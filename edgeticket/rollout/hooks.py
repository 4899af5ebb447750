"""Telling the user's updater: a command is run with what every device should run, until it exits with 0."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import Any

import sqlalchemy as sa

from edgeticket.errors import UsageError
from edgeticket.rollout import current as rows
from edgeticket.rollout import store
from edgeticket.rollout.current import Assignment, Current
from edgeticket.rollout.store import Store

TIMED_OUT, NOT_STARTED = 124, 127  # exit codes, as a shell has them
LONGEST_OUTPUT = 2000  # characters that are kept
LONGEST_S = 86400
MARGIN_S = (
    5.0  # after the time-out, until another process may run the hook of a process that died; two clocks differ by less
)


@dataclass(frozen=True)
class HookRun:
    """Of one decision; `code` 0: done, 124: took too long and was ended, 127: could not be started."""

    decision: int
    code: int
    output: str


def run_hook(where: Store, command: str, timeout_s: float) -> HookRun | None:
    """Run `command` for the newest decision, if it has not succeeded for that one yet and runs nowhere else; else None.

    Only the newest: its standard input is the whole state that is wanted (`orders`), so an older call that failed is not missed.
    Raises UsageError for a command that cannot be split into words, and for a time-out that is none.
    """
    words = _words(command)
    if not 0 < timeout_s <= LONGEST_S:
        raise UsageError(f"the hook's time-out is {timeout_s:g} s: it is above 0 and at most {LONGEST_S} s")
    with where.writing() as connection:
        claimed = _claim(connection, timeout_s)
    if claimed is None:
        return None
    decision, payload = claimed
    code, output = _call(words, payload, timeout_s)
    found = HookRun(decision, code, output)
    with where.writing() as connection:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        connection.execute(store.hook_runs.insert().values(at=at, command=command, **vars(found)))
        connection.execute(store.rollouts.update().values(hook_until=0))
    return found


def orders(connection: sa.Connection, current: Current) -> list[dict[str, Any]]:
    """What every device of the fleet should run, grouped: run, aside, devices."""
    groups: dict[Assignment, list[str]] = defaultdict(list)
    for device in rows.names(connection):
        groups[current.assignment(device)].append(device)
    return [{"run": each.run, "aside": each.aside, "devices": devices} for each, devices in groups.items()]


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"hook {command!r}: {error}") from None
    if not words:
        raise UsageError("the hook is empty: name a command")
    return words


def _claim(connection: sa.Connection, timeout_s: float) -> tuple[int, str] | None:
    """Number and standard input of the newest decision, if its hook is due, and nobody else's from now on."""
    newest = connection.execute(sa.select(store.decisions).order_by(store.decisions.c.id.desc()).limit(1)).first()
    if newest is None or _succeeded(connection, newest.id):
        return None
    now, table = time.time(), store.rollouts
    claims = table.c.hook_until > now, table.c.hook_since < now + MARGIN_S  # or else the clock was set back since
    if connection.execute(sa.select(table.c.id).where(*claims)).first():
        return None
    claim = {"hook_since": now, "hook_until": now + timeout_s + MARGIN_S}
    connection.execute(table.update().where(table.c.id == newest.rollout).values(**claim))
    current = rows.latest(connection)
    facts = {"decision": newest.id, "rollout": current.name, "action": newest.action, "state": current.state}
    return newest.id, json.dumps(
        facts | {"stage": current.at.name, "why": newest.why, "orders": orders(connection, current)}
    )


def _succeeded(connection: sa.Connection, decision: int) -> bool:
    table = store.hook_runs
    query = sa.select(table.c.id).where(table.c.decision == decision, table.c.code == 0).limit(1)
    return connection.execute(query).first() is not None


def _call(words: list[str], payload: str, timeout_s: float) -> tuple[int, str]:
    """By files, not pipes: what the hook leaves running may hold those, and nobody waits for it."""
    try:
        with TemporaryFile() as given, TemporaryFile() as said:
            given.write(payload.encode())
            given.seek(0)
            process = subprocess.Popen(
                words, start_new_session=True, stdin=given, stdout=said, stderr=subprocess.STDOUT
            )
            try:
                code = process.wait(timeout_s)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it started
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    return TIMED_OUT, f"ended after {timeout_s:g} s"
                raise
            most = 4 * LONGEST_OUTPUT + 4  # bytes, in UTF-8
            output = os.pread(said.fileno(), most, max(0, os.fstat(said.fileno()).st_size - most))
            return code, output.decode(errors="replace")[-LONGEST_OUTPUT:]
    except OSError as error:
        return NOT_STARTED, str(error)
