"""One row of a sweep: its search, what tells it from others, and its figures, made in this process or another."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeticket import __version__
from edgeticket.budget import Budget, Cost, Verdict
from edgeticket.compact import compact
from edgeticket.cost import estimated
from edgeticket.data import Data
from edgeticket.describe import describe
from edgeticket.errors import BudgetError, PluginError, UnsupportedError
from edgeticket.find import find
from edgeticket.found import Found
from edgeticket.pareto import CORE
from edgeticket.plan import Plan
from edgeticket.search._training import Progress
from edgeticket.settings import Settings
from edgeticket.spending import Latency


@dataclass(frozen=True)
class Search:
    """One row to be. `budget`: as on the command line, or empty."""

    network: str
    budget: str
    settings: Settings

    def key(self, data: Data) -> dict[str, Any]:
        """What a finished row must share to be this one's: never where a plug-in lies, but what it says.

        Raises PluginError for a file that is not there.
        """
        words = self.settings.words()
        return {
            "edgeticket": __version__,
            "network": identity(self.network),
            "budget": self.budget,
            "data": data.digest,
            "examples": len(data.train[0]),
        } | {name: identity(word) if name in ("method", "teacher") else word for name, word in words.items()}


def identity(word: str) -> str:
    """Of PATH.py or PATH.py:MORE with the file's SHA-256; a name as it is."""
    named = re.fullmatch(r"(.+?\.py)(:.*)?", word)
    if not named:
        return word
    path = Path(named[1])
    if not path.is_file():
        raise PluginError(f"{path}: there is no such file")
    return f"{path.name}{named[2] or ''} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


@dataclass(frozen=True)
class Task:
    """A row that is missing, and all that another process needs for it but the data."""

    search: Search
    key: dict[str, Any]
    plan: Plan
    checkpoint: Path | None

    def __str__(self) -> str:
        budget = f" under {self.search.budget}" if self.search.budget else ""
        return f"{self.search.network}{budget}, seed {self.search.settings.seed}"


def run(
    data: Data,
    task: Task,
    latency: Latency | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """The figures of a task's row, in whatever process. Raises as `find` does, but for a budget: the row then says so."""
    search = task.search
    require_same_files(task)
    try:
        found = find(
            task.plan,
            data,
            search.settings,
            budget=Budget.parse(search.budget) if search.budget else None,
            latency=latency,
            control=False,
            checkpoint=task.checkpoint,
            report=report,
        )
    except BudgetError as error:
        return {"failed": str(error)}
    return _figures(found, latency)


def require_same_files(task: Task) -> None:
    """Raises PluginError where another machine has another plug-in at the same path."""
    for name in ("method", "teacher"):
        word = getattr(task.search.settings, name)
        if identity(word) != task.key[name]:
            raise PluginError(f"{word} is another file here than where the sweep was started: copy that one")


def _figures(found: Found, latency: Latency | None) -> dict[str, Any]:
    told, model, result = describe(found.ticket), compact(found.ticket), found.results[0]
    narrow = model.plan
    try:
        core = estimated(model, CORE)
    except UnsupportedError:  # it has no C form
        core = Cost(CORE, "none")
    if latency:
        latency.fill([narrow])
    return {
        "select": result.task.headline(result.select),
        "certify": result.task.headline(result.certify),
        "headline": result.task.headline_word,
        "lower_is_better": result.task.lower_is_better,
        "purity": result.purity,
        "widths": result.widths,
        "cpu_seconds": result.seconds + sum(trial.seconds for trial in found.trials),
        "missed": [verdict.text() for verdict in found.verdicts if not verdict.met],
        "cost": {
            "latency_ms": _measured(found.verdicts) or (latency.predict(narrow) if latency else None),
            "packed_bytes": told["bytes"]["packed"],
            "kept_macs": told["total"]["kept_macs"],
            "instructions": core.instructions,
            "ram_bytes": core.ram_bytes,
        },
    }


def _measured(verdicts: Sequence[Verdict]) -> float | None:
    return next((verdict.value for verdict in verdicts if verdict.term.resource == "latency_ms"), None)
