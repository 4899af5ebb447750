"""What is asked of a proof of concept, all of it before the first search."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeticket import tasks
from edgeticket.budget import Budget
from edgeticket.data import Data
from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.find import check_budget, check_plan
from edgeticket.network import network_plan
from edgeticket.poc.folder import check_target
from edgeticket.poc.success import Criterion
from edgeticket.row import Search
from edgeticket.settings import AUTO_EDGES, AUTO_KEPT, Settings

SPARSER = (2, 4, 8)  # times sparser than what is asked: how far can it go?


@dataclass(frozen=True)
class Request:
    """What is asked, all of it before the first search. `max_cost_s`: CPU seconds after which no further search is begun."""

    model: str
    success: str
    settings: Settings
    budget: str = ""
    seeds: int = 59
    first_seed: int = 0
    probability: float = 0.95
    confidence: float = 0.95
    max_cost_s: float | None = None
    period_ms: float | None = None

    def __post_init__(self) -> None:
        checks = {
            "--seeds is at least 1": self.seeds >= 1,
            "--first-seed and the seeds after it are from 0 to 2^64 - 1": 0 <= self.first_seed <= 2**64 - self.seeds,
            "--probability and --confidence are above 0 and below 1": 0 < self.probability < 1
            and 0 < self.confidence < 1,
            "--max-cost is above 0": self.max_cost_s is None or self.max_cost_s > 0,
            "--period-ms is from 0.01 to 1,000,000": self.period_ms is None or 0.01 <= self.period_ms <= 1e6,
        }
        for rule, good in checks.items():
            if not good:
                raise UsageError(rule)

    def check(
        self, data: Data, target: Path, *, workers: int = 1, remote: bool = False, overwrite: bool = False
    ) -> None:
        """Everything that can be refused before anything is run; raises what `poc` would."""
        plan, task = network_plan(self.model, data), tasks.of(data)
        Criterion.parse(self.success, data.task, task.lower_is_better)
        check_plan(plan, data)
        budget = Budget.parse(self.budget) if self.budget else None
        check_budget(self.settings, budget)
        if (remote or workers > 1) and budget and budget.has("latency_ms"):
            raise UsageError(
                "a budget of latency is measured on this machine while searching, and other searches would disturb it: "
                "take one worker and no --cluster, or budget macs instead"
            )
        if find_spec("torch_pruning") is None:
            raise EdgeTicketError(
                "a proof compares with Torch-Pruning, which is not installed: pip install 'edgeticket[poc]'"
            )
        check_target(target, self.key(data), overwrite)

    def words(self) -> dict[str, Any]:
        settings = self.settings.words()
        del settings["seed"]
        return {**asdict(self), "settings": settings}

    def key(self, data: Data) -> dict[str, Any]:
        """What must be the same for a finished search to count: all but what is only measured afterwards.

        The number of seeds and the probability too: who looks at 59 seeds and then adds some, or asks for less, has no bound.
        """
        words = {key: value for key, value in self.words().items() if key != "period_ms"}
        return {**words, **Search(self.model, self.budget, self.settings).key(data), "torch": version("torch")}


def sparser_densities(request: Request) -> list[float]:
    """Below the one that is searched at; none where a budget, or layers of their own, say how dense a ticket is."""
    settings, base = request.settings, request.settings.density
    if request.budget or settings.layer_density or settings.layer_edges:
        return []
    if base is None:
        base = AUTO_KEPT / (settings.edges or (1 if settings.signs == "learned" else AUTO_EDGES))
    return [base / factor for factor in SPARSER]
