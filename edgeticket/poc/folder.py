"""Where a proof of concept lies while it runs: NAME.partial, gone on with after any stop, and put in place whole."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.files import ASIDE, put_in_place, remove, write_atomic
from edgeticket.lock import alone
from edgeticket.poc.jobs import Done, Job

PARTIAL, ROWS, KEY = ".partial", "rows.jsonl", "request.json"
ABOUT = ("job", "files")  # what a row says beside its facts


class Folder:
    """`key`: what must be the same for rows to be gone on with. `rows`: all that jobs gave, in the order that they ended."""

    def __init__(self, partial: Path, key: Mapping[str, Any]) -> None:
        self.partial, self.rows = partial, list[dict[str, Any]]()
        if _known(partial) != words(key):
            _empty(partial)
            write_atomic(partial / KEY, words(key).encode())
        self.checkpoints = partial / "checkpoints"
        self.checkpoints.mkdir(exist_ok=True)
        self.rows = _read(partial / ROWS)

    def add(self, job: Job, done: Done) -> None:
        """Files first: a row that is there has its files. Rows of the same job are replaced."""
        for name, content in done.files.items():
            path = self.partial / name
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content)
        about = {"job": asdict(job), "files": _digests(done.files)}
        self.rows = [row for row in self.rows if row["job"] != about["job"]] + [row | about for row in done.rows]
        write_atomic(self.partial / ROWS, "".join(json.dumps(row) + "\n" for row in self.rows).encode())

    def of(self, job: Job) -> list[dict[str, Any]]:
        """Rows of a job that is done; none where it is not, or its files are not what they were."""
        found = [row for row in self.rows if row["job"] == asdict(job)]
        whole = all(self._digest(name) == digest for row in found for name, digest in row["files"].items())
        return [{key: value for key, value in row.items() if key not in ABOUT} for row in found] if whole else []

    def _digest(self, name: str) -> str | None:
        path = self.partial / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def words(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _known(folder: Path) -> str | None:
    """The key of what lies there."""
    path = folder / KEY
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None


def _empty(folder: Path) -> None:
    """Rows first: without them nothing that is left counts."""
    (folder / ROWS).unlink(missing_ok=True)
    for child in folder.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise EdgeTicketError(f"{path}: damaged ({error}): delete the folder {path.parent} and start again") from error


def check_target(target: Path, key: Mapping[str, Any], overwrite: bool) -> None:
    """Raises UsageError where something is there, finished or not, that may not be gone on from or replaced."""
    if target.exists() and not (overwrite and (target / KEY).is_file()):
        raise UsageError(f"{target} exists already: name another (-o), or add --overwrite to replace an earlier proof")
    partial = target.with_name(target.name + PARTIAL)
    if not overwrite and _known(partial) not in (None, words(key)):
        raise UsageError(
            f"{partial}: an unfinished proof of another request lies there: name another folder (-o), repeat that request to go "
            "on with it, or add --overwrite to begin anew"
        )


@contextmanager
def opened(target: Path, key: Mapping[str, Any], overwrite: bool = False) -> Iterator[Folder]:
    """The folder that becomes `target` when the block ends well; what it holds is kept otherwise.

    A finished folder of the same key is gone on from. Raises UsageError where another run is at work on it, and what
    `check_target` raises: another may have ended since that was asked.
    """
    partial = target.with_name(target.name + PARTIAL)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target):
            check_target(target, key, overwrite)
            partial.mkdir(exist_ok=True)
            for left in [*partial.rglob(f".*.{ASIDE}")]:  # of processes that were killed
                remove(left)
            _go_on_from(target, partial, key)
            folder = Folder(partial, key)
            yield folder
            shutil.rmtree(folder.checkpoints)
            put_in_place(partial, target)
    except OSError as error:
        if error.filename is not None and partial not in Path(str(error.filename)).parents:
            raise
        raise EdgeTicketError(
            f"cannot write {error.filename or partial}: {error.strerror or error}; nothing that was done is lost: free some "
            "space or choose another folder, then run it again: it goes on where it stopped"
        ) from error


def _go_on_from(target: Path, partial: Path, key: Mapping[str, Any]) -> None:
    """What is finished need not be run again."""
    if _known(partial) is not None or _known(target) != words(key):
        return
    _empty(partial)
    for name in ("tickets", "rivals"):
        if (target / name).is_dir():
            shutil.copytree(target / name, partial / name)
    write_atomic(partial / KEY, words(key).encode())
    write_atomic(partial / ROWS, (target / ROWS).read_bytes())
