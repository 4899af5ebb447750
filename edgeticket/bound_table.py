"""The theorems' widths and what is measured beside them, by density: what `edgeticket bound` prints and draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, log2
from pathlib import Path
from typing import Any

from edgeticket import bounds, rfss
from edgeticket.bounds import Matrix, Upper
from edgeticket.files import write_atomic
from edgeticket.pareto import UNDATED
from edgeticket.rfss import Measured
from edgeticket.text import columns

DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
LEVEL = 0.95
SCALE = "c = 1: scale only, the constants are not known"
UNMET = (
    "Normalisation: the target has layers of norm at most 1, ReLU and no bias, inputs of norm at most 1; a search scales every "
    "channel and learns biases.",
    "Weights: Uniform[-1, 1]; a ticket's are signs times a scale (finite precision: Kumar and Natale, arXiv 2508.11020).",
    "Data: the theorems hold for all inputs; a ticket is judged on a data set.",
    "Search: a subset that exists is not a subset that gradients find.",
    "Learned layers: unless --pure, two layers of a ticket have trained int8 weights.",
    "Structured removal: single weights leave, not channels; to stand for one neuron by removing neurons takes order 1/eps of "
    "them, by removing weights order log(1/eps) (arXiv 2603.02234 v3).",
)
_CURVE = 60  # densities that a curve is drawn at


@dataclass(frozen=True)
class Row:
    """One density. `at`: measured at Theorem 2's n; `first`: at the first n above LEVEL; None beyond reach. `upper` by layer."""

    density: float
    one_target: float
    all_targets: float
    upper: list[Upper]
    at: Measured | None
    first: Measured | None

    def to_json(self) -> dict[str, Any]:
        first = self.first and {**self.first.to_json(), "c": constant(self.first)}
        widths = {"theorem_2_n": self.one_target, "corollary_1_n": self.all_targets}
        measured = {"measured_at_theorem_2": self.at and self.at.to_json(), "measured_first": first}
        return {"density": self.density, **widths, **measured, "layers": [each.to_json() for each in self.upper]}


@dataclass(frozen=True)
class Table:
    """Rows by density of a target's `layers`, which may be none; z, draws and seed are those of rfss.measure."""

    layers: Sequence[Matrix]
    eps: float
    z: float
    draws: int
    seed: int
    rows: Sequence[Row]

    @property
    def target(self) -> int:
        """Weights of the target."""
        return sum(layer.parameters for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Everything `edgeticket bound` prints, as plain JSON values."""
        return {
            "source": "arXiv 2410.14754",
            "constants": SCALE,
            "eps": self.eps,
            "target_parameters": self.target,
            "rho": ratio(self.layers) if self.layers else None,
            "rows": [row.to_json() for row in self.rows],
            "not_met_by_a_search": list(UNMET),
        }


def table(
    layers: Sequence[Matrix], densities: Sequence[float], eps: float, z: float = 0.0, draws: int = 2000, seed: int = 0
) -> Table:
    """Raises UsageError for a density or an eps that the theorems do not cover, and as rfss.smallest does."""
    for density in densities:
        bounds.check(density, eps)
    rows = [_row(layers, density, eps, {"z": z, "draws": draws, "seed": seed}) for density in densities]
    return Table(layers, eps, z, draws, seed, rows)


def _row(layers: Sequence[Matrix], density: float, eps: float, draws: dict[str, Any]) -> Row:
    one_target = bounds.one_target(density, eps)
    n = ceil(one_target)
    k = rfss.kept(density, n)
    return Row(
        density=density,
        one_target=one_target,
        all_targets=bounds.all_targets(density, eps),
        upper=bounds.upper(layers, density, eps),
        at=rfss.measure(n, k, eps, **draws) if rfss.within_reach(n, k, eps, draws["draws"]) else None,
        first=rfss.smallest(density, eps, LEVEL, **draws),
    )


def constant(found: Measured) -> float:
    """The c of Theorem 2 at which its n is the measured one."""
    return found.n * bounds.entropy(found.k / found.n) / log2(found.k / found.eps)


def ratio(layers: Sequence[Matrix]) -> float:
    """Theorem 3's rho: it states a density of rho * k / n for the whole network."""
    return max(max(layer.inputs / layer.outputs, layer.outputs / layer.inputs) for layer in layers)


def text(table: Table) -> str:
    """What `edgeticket bound` prints."""
    lines = [
        f"One sum of k of n numbers, eps {table.eps:g}. Theorems (arXiv 2410.14754): {SCALE}.",
        *_sums(table.rows),
        f"Measured: Uniform[-1, 1], target {table.z:g} sqrt(k), {table.draws:,} draws, seed {table.seed}, 95 % Clopper-Pearson "
        f"interval; first n whose interval lies above {LEVEL:g}, and the c at which Theorem 2 has that n.",
    ]
    if table.layers:
        lines += ["", *_network(table)]
    return "\n".join(
        [*lines, "", "What a search for tickets does not meet of the theorems:", *map("- {}".format, UNMET)]
    )


def line(found: Measured) -> str:
    """One measured pair (n, k)."""
    return (
        f"{found.hits:,} of {found.draws:,} draws hit: {share(found)}, 95 % Clopper-Pearson interval {found.low:.4f} to "
        f"{found.high:.4f}\nexactly {found.k} of {found.n} numbers, Uniform[-1, 1], add up to {found.z:g} sqrt({found.k}) "
        f"within eps {found.eps:g}; seed {found.seed}"
    )


def _sums(rows: Sequence[Row]) -> list[str]:
    head = ["density", "Thm 2: n", "k", "Cor. 1: n", "k", "measured: k of n", "hit", "95 %", "first n", "k", "hit", "c"]
    body = []
    for row in rows:
        at, first = row.at, row.first
        needed = (
            [str(first.n), str(first.k), share(first), f"{constant(first):.2f}"] if first else ["beyond reach", *"---"]
        )
        widths = [f"{value:.1f}" for n in (row.one_target, row.all_targets) for value in (n, row.density * n)]
        seen = [f"{at.k} of {at.n}", share(at), f"{at.low:.4f}-{at.high:.4f}"] if at else ["beyond reach", *"--"]
        body.append([f"{row.density:g}", *widths, *seen, *needed])
    return columns([head, *body], "")


def share(found: Measured) -> str:
    return f"{found.hits / found.draws:.4f}"


def _network(table: Table) -> list[str]:
    head = [
        "density",
        "widest n",
        "k",
        "start",
        "kept",
        "start/target",
        "kept/target",
        "kept/start",
        "Thm 5: start at least",
    ]
    body, target = [], table.target
    for row in table.rows:
        widest = max(row.upper, key=lambda each: each.n)
        start, kept = (sum(getattr(each, name) for each in row.upper) for name in ("start", "kept"))
        shares = [f"{start / target:,.0f}x", f"{kept / target:,.0f}x", f"{kept / start:.3g}"]
        counts = [f"{widest.n:,.0f}", f"{widest.k:,.0f}", f"{start:,.0f}", f"{kept:,.0f}"]
        body.append([f"{row.density:g}", *counts, *shares, _lower(row.upper)])
    theorems = " and ".join(map(str, sorted({each.theorem for each in table.rows[0].upper})))
    return [
        f"Target: {len(table.layers)} layers, {target:,} weights, all of it within eps {table.eps:g}. Theorem {theorems}: {SCALE}; "
        f"rho {ratio(table.layers):.3g}.",
        *columns([head, *body], ""),
        "Theorem 5 binds the largest of the fully connected layers alone, with a constant that is known.",
    ]


def _lower(upper: Sequence[Upper]) -> str:
    known = [each.lower for each in upper if each.lower is not None]
    return f"{max(known):,.0f}" if known else "-"


def picture(table: Table, path: Path) -> None:
    """Random parameters a target weight against density, as in the paper's Fig. 1; the suffix says the format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "edgeticket", "font.size": 8}):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        _draw(figure.subplots(), table)
        figure.savefig(drawn, format=path.suffix[1:], metadata=UNDATED[path.suffix])
    write_atomic(path, drawn.getvalue())


def _draw(panel: Any, table: Table) -> None:
    target, shown = table.target, [row.density for row in table.rows]
    low, high = min(shown), max(shown)
    grid = [low * (high / low) ** (i / _CURVE) for i in range(_CURVE + 1)]
    curves = [bounds.upper(table.layers, density, table.eps) for density in grid]
    panel.plot(grid, [sum(each.start for each in one) / target for one in curves], label="upper bound, c = 1")
    if all(each.lower for each in curves[0]):
        lower = [max(each.lower or 0 for each in one) / target for one in curves]
        panel.plot(grid, lower, linestyle="--", label="lower bound, Theorem 5")
    reached = [(row.density, row.first.n) for row in table.rows if row.first]
    wide = sum(each.groups * each.taps * 2 * each.inputs * (each.inputs + each.outputs) for each in table.layers)
    measured = [n * wide / target for _, n in reached]
    panel.plot(
        [density for density, _ in reached], measured, "o", markersize=4, label=f"measured, one sum at {LEVEL:g}"
    )
    panel.set(xscale="log", yscale="log", xlabel="density k / n", ylabel="random parameters / target weights")
    panel.set_xticks(shown, [f"{density:g}" for density in shown])
    panel.set_xticks([], minor=True)
    panel.set_title(f"eps {table.eps:g}, {target:,} target weights; upper bound: scale only", fontsize=8)
    panel.legend(fontsize=7)
