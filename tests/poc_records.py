"""Records of proofs of concept made by hand, one of each task: what `edgeticket poc` writes, with numbers that nobody measured."""

import random
from collections.abc import Sequence
from typing import Any

from edgeticket.poc.record import FORMAT, PROTOCOL, seal
from edgeticket.theory import lower_bound, upper_bound

CLASSES = [str(digit) for digit in range(10)]
LAYERS = {"conv1": (16, 16), "conv2": (32, 24), "conv3": (32, 16), "head": (10, 10)}
RIVALS = {
    "float": (58_000, 0.0),
    "float-int8": (14_500, -0.002),
    "control": (3300, -0.012),
    "int8-narrow": (3290, -0.02),
}


def record(task: str = "classification", seeds: int = 59, failures: int = 2, **changes: Any) -> dict[str, Any]:
    """Sealed. `changes` replace whole top-level entries before that."""
    chance = random.Random(7)
    words = {"classification": ("accuracy", 0.98), "regression": ("relative RMSE", 0.2), "anomaly": ("AUC", 0.995)}
    headline, reached = words[task]
    lower = task == "regression"
    rows = [_row(task, seed, seed < seeds - failures, reached, chance) for seed in range(seeds)]
    rivals = [
        _rival(task, name, seed, size, reached + (-worse if lower else worse), chance)
        for name, (size, worse) in RIVALS.items()
        for seed in range(3)
    ]
    rivals.append(
        {"name": "pruned", "kind": "pruned", "seed": 0, "failed": "no width fits 3,290 bytes", "cpu_seconds": 0.0}
    )
    sparser = [_sparser(rows[seed], step) for step in (2, 4) for seed in range(min(3, seeds))]
    good = [row for row in rows if row["success"]]
    made: dict[str, Any] = {
        "format": FORMAT,
        "protocol": PROTOCOL,
        "request": {
            "command": f"edgeticket poc -d sample -m conv:16,32,32 --seeds {seeds}",
            "name": "sample",
            "model": "conv:16,32,32",
            "data": "sample",
            "budget": "packet=4K",
            "settings": {"epochs": 20, "batch": 32, "threads": 1, "density": "auto"},
            "success": {"regression": "rmse <= float + 0.05", "anomaly": "auc >= 0.98"}.get(
                task, "accuracy >= float - 0.02"
            ),
            "probability": 0.85,
            "confidence": 0.95,
            "seeds": seeds,
            "first_seed": 0,
            "max_cost_s": None,
            "period_ms": 0.5,
        },
        "data": _data(task),
        "bar": {
            "headline": headline,
            "lower_is_better": lower,
            "float": reached,
            "value": reached + (0.05 if lower else -0.02),
            "margin": 0.05 if lower else 0.02,
            "deviation": 0.1,
            "smallest_margin": 0.0142,
            "needed": 190,
        },
        "rows": rows,
        "sparser": sparser,
        "rivals": rivals,
        "indicators": _indicators(rows, seeds - failures, sparser),
        "chosen": _chosen(good[0], task) if good else None,
        "verdict": _verdict(seeds, failures),
        "environment": {
            "edgeticket": "0.1.0",
            "python": "3.11.2",
            "torch": "2.13.0",
            "cpu": "Example CPU",
            "cores": 2,
            "os": "Linux",
        },
        "prices": None,
    }
    return sealed(made, **changes)


def sealed(made: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """With other top-level entries, and the seal that goes with them."""
    made = made | changes
    return made | {"seal": seal(made)}


def without_tickets(made: dict[str, Any]) -> dict[str, Any]:
    """Every search ended without one, and nothing could be compared."""
    kept = ("kind", "seed", "success", "cpu_seconds", "wall_seconds")
    failed = "no width meets the budget: packet=100"
    rows = [{key: row[key] for key in kept} | {"failed": failed, "why": [failed]} for row in made["rows"]]
    return sealed(made, rows=rows, rivals=[], indicators=_indicators(rows, 0), sparser=[], chosen=None)


def _data(task: str) -> dict[str, Any]:
    labels: dict[str, Any] = {"classes": {name: {"train": 100, "select": 36, "certify": 36} for name in CLASSES}}
    if task == "regression":
        labels = {"targets": {"torque": {"mean": 1.0, "spread": 0.5}}}
    return {
        "name": "sample",
        "task": task,
        "shape": [1, 8, 8],
        "sizes": {"train": 1061, "select": 360, "certify": 360},
        **labels,
        "warnings": [],
        "digest": "ab" * 32,
        "note": "",
    }


def _figures(task: str, value: float) -> dict[str, Any]:
    if task == "regression":
        errors = {"rmse": [value / 2], "low": [value / 2 - 0.01], "high": [value / 2 + 0.01], "r2": [0.96]}
        return {"targets": ["torque"], **errors, "of": 360}
    ends = {"low": value - 0.015, "high": min(1.0, value + 0.01)}
    if task == "anomaly":
        rate = {"rate": 0.95, "count": 171, "of": 180, "low": 0.907, "high": 0.977}
        alarm = {"rate": 0.01, "count": 2, "of": 180, "low": 0.001, "high": 0.04}
        return {"auc": value, **ends, "threshold": 0.0123, "detected": rate, "false_alarms": alarm}
    return {"accuracy": value, "correct": round(360 * value), "of": 360, **ends}


def _row(task: str, seed: int, success: bool, reached: float, chance: random.Random) -> dict[str, Any]:
    sign = -1 if task == "regression" else 1
    value = reached - sign * (chance.uniform(0, 0.015) if success else 0.06)
    curve = [{"epoch": e, "loss": 2 / e, "select": value - sign * 0.1 / e} for e in range(1, 21)]
    return {
        "kind": "search",
        "seed": seed,
        "success": success,
        "why": [] if success else [f"{value:.4f} is not enough"],
        "select": value - sign * chance.uniform(0, 0.004),
        "certify": value,
        "figures": _figures(task, value),
        "terms": [
            {"term": "packet=4K", "value": 3340, "how": "measured", "met": True, "ratio": 0.8, "text": "packet=4K: met"}
        ],
        "purity": "P2+stem",
        "density": 1 / 3,
        "kept_of_wide": 0.15 + chance.uniform(0, 0.01),
        "kept": 6000,
        "bytes": 3300 + chance.randrange(60),
        "macs": 90_000,
        "kept_macs": 40_000,
        "widths": {name: after for name, (_, after) in LAYERS.items()},
        "latency_ms": {"p50": 0.02 + chance.uniform(0, 0.002), "p90": 0.025, "p99": 0.03, "max": 0.2, "n": 100},
        "ticket": f"tickets/seed-{seed}.ticket",
        "digest": "cd" * 32,
        "cpu_seconds": 2.9 + chance.random(),
        "wall_seconds": 3.1,
        "flops": 12_000_000_000,
        "curve": curve,
    }


def _sparser(row: dict[str, Any], step: int) -> dict[str, Any]:
    smaller = {key: row[key] / step for key in ("density", "kept_of_wide")} | {"bytes": row["bytes"] // step}
    return row | smaller | {"kind": "sparser", "asked": row["density"] / step}


def _ladder(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    steps: dict[float | None, list[dict[str, Any]]] = {}
    for row in rows:
        if "failed" not in row:
            steps.setdefault(row.get("asked"), []).append(row)
    return [
        {key: own[0][key] for key in ("density", "bytes", "certify")}
        | _success(sum(row["success"] for row in own), len(own))
        for own in steps.values()
    ]


def _success(successes: int, trials: int) -> dict[str, Any]:
    bounds = {"lower": lower_bound(successes, trials), "upper": upper_bound(successes, trials)}
    return {"successes": successes, "trials": trials, "rate": successes / trials, "confidence": 0.95} | bounds


def _rival(task: str, name: str, seed: int, size: int, value: float, chance: random.Random) -> dict[str, Any]:
    value += chance.uniform(-0.003, 0.003)
    return {
        "kind": name,
        "name": name,
        "what": "a network to compare with",
        "seed": seed,
        "select": value,
        "certify": value,
        "figures": _figures(task, value),
        "bytes": size,
        "macs": 120_000,
        "widths": {name: before for name, (before, _) in LAYERS.items()},
        "onnx": f"rivals/{name}-{seed}.onnx",
        "latency_ms": {"p50": 0.03, "p90": 0.035, "p99": 0.04, "max": 0.3, "n": 100},
        "cpu_seconds": 2.0,
    }


def _indicators(rows: list[dict[str, Any]], successes: int, sparser: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    def spread(values: list[float]) -> dict[str, float]:
        ordered = sorted(values)
        shares = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
        return {name: ordered[int(share * (len(ordered) - 1))] for name, share in shares.items()} | {"n": len(ordered)}

    def of(key: str) -> dict[str, float] | None:
        values = [row[key] for row in rows if "failed" not in row]
        return spread(values) if values else None

    n = len(rows)
    low, seconds = lower_bound(successes, n), [row["cpu_seconds"] for row in rows]
    each = sum(seconds) / n
    latency = [row["latency_ms"]["p50"] for row in rows if "failed" not in row]
    return {
        "sparsity": {key: of(key) for key in ("density", "kept_of_wide", "bytes", "macs", "kept_macs")}
        | {"ladder": _ladder([*rows, *sparser])},
        "quality": {"certify": of("certify"), "latency_ms": spread(latency) if latency else None},
        "success": _success(successes, n),
        "cost": {
            "cpu_seconds": spread(seconds),
            "wall_seconds": of("wall_seconds"),
            "flops": of("flops"),
            "search_cpu_seconds": sum(seconds),
            "total_cpu_seconds": sum(seconds) + 60,
            "per_success": {
                "expected": each * n / successes if successes else None,
                "at_most": each / low if low else None,
            },
            "run_wall_seconds": 150.0,
            "workers": 2,
            "joules": None,
        },
    }


def _chosen(row: dict[str, Any], task: str) -> dict[str, Any]:
    layers = [_layer(name, before, after) for name, (before, after) in LAYERS.items()]
    pairs = {
        key: {when: sum(layer[key][when] for layer in layers) for when in ("before", "after")}
        for key in ("channels", "weights", "macs")
    }
    kept = sum(layer["kept"] for layer in layers)
    shares = {"density": 0.33, "kept_of_wide": 0.15, "learned_share_of_weights": 0.034, "learned_share_of_bytes": 0.134}
    confusion = [[33 + (i % 3) if i == j else int(j == (i + 3) % 10) for j in range(10)] for i in range(10)]
    return {
        "seed": row["seed"],
        "by": "select",
        "ticket": "sample.ticket",
        **{key: row[key] for key in ("digest", "certify", "select", "figures", "purity", "curve")},
        "layers": layers,
        "total": {"kept": kept, "kept_macs": 40_000, **pairs, **shares},
        "bytes": {"ticket": 9306, "packed": row["bytes"], "int8": 9000, "fp32": 36_000},
        "peak_activations": {"before": 1536, "after": 1280},
        "confusion": confusion if task == "classification" else None,
        "labels": CLASSES,
        "files": [
            {"path": "sample.onnx", "format": "onnx", "what": "float", "bytes": 40_000, "sha256": "01" * 32},
            {"path": "sample-int8.onnx", "format": "onnx", "what": "int8", "bytes": 14_000, "sha256": "23" * 32},
            {"path": "sample-c", "format": "c", "what": "C99", "bytes": 30_000, "sha256": "45" * 32},
        ],
        "bench": [
            _bench(name, i)
            for i, name in enumerate(("unremoved.onnx", "sample.onnx", "sample-int8.onnx", "rivals/float-0.onnx"))
        ],
        "cores": [
            {"target": "cortex-m4", "how": "simulated", "instructions": 810_000, "flash_bytes": 7100, "ram_bytes": None}
        ],
        "chain": _chain(task, row["figures"]),
        "device_seconds": 21.5,
    }


def _layer(name: str, before: int, after: int) -> dict[str, Any]:
    return {
        "name": name,
        "op": "Conv",
        "kind": "int8" if name in ("conv1", "head") else "signs",
        "edges": 1 if name in ("conv1", "head") else 3,
        "channels": {"before": before, "after": after},
        "weights": {"before": 90 * before, "after": 60 * after},
        "kept": 20 * after,
        "density": 1 / 3,
        "macs": {"before": 3000 * before, "after": 2000 * after},
        "kept_macs": 700 * after,
        "bytes": 40 * after,
    }


def _bench(name: str, i: int) -> dict[str, Any]:
    chance = random.Random(i)
    samples = [0.02 + 0.005 * i + 0.004 * chance.random() ** 4 for _ in range(100)]
    return {
        "name": name,
        "percentiles": {
            "p50": 0.021 + 0.005 * i,
            "p90": 0.023 + 0.005 * i,
            "p99": 0.03 + 0.005 * i,
            "max": 0.1,
            "n": 500,
        },
        "first_ms": 0.2,
        "init_ms": 3.1,
        "samples_ms": samples,
        "period_ms": 0.5,
        "missed": {"missed": 0, "of": 100},
    }


def _chain(task: str, figures: dict[str, Any]) -> dict[str, Any]:
    def link(
        what: str, against: str, outcome: str, measured: float | None, allowed: float | None, **more: Any
    ) -> dict[str, Any]:
        plain = {"examples": 360, "note": "", "unit": "of the largest output"}
        return (
            {"what": what, "against": against, "outcome": outcome, "measured": measured, "allowed": allowed}
            | plain
            | more
        )

    same = "the integer network"
    links = [
        link("compacted network", "the masked wide network", "passed", 0.0, 1e-9, examples=64),
        link("sample.onnx", "the compacted network", "passed", 2.3e-7, 1e-5),
        link("sample-int8.onnx, layer by layer", same, "passed", 1, 1, unit="codes", examples=256),
        link(
            "sample-int8.onnx, answers",
            same,
            "passed",
            0.9972,
            0.995,
            unit="of the answers",
            note="up to 0.9999 with 95 % confidence",
        ),
        link("sample-c", same, "not run", None, None, note="no C compiler: install gcc", examples=0),
    ]
    word = {"classification": "accuracy", "regression": "rmse", "anomaly": "auc"}[task]
    rows = [
        {"what": what, "figures": figures, "agreement": 1.0}
        for what in ("sample.ticket", "sample.onnx", "sample-int8.onnx")
    ]
    return {"links": links, word: rows, "passed": True, "data": "sample", "digest": "cd" * 32}


def _verdict(seeds: int, failures: int) -> dict[str, Any]:
    successes = seeds - failures
    shown = {"successes": successes, "trials": seeds, "confidence": 0.95, "probability": 0.85}
    lower, upper = lower_bound(successes, seeds), upper_bound(successes, seeds)
    if lower >= 0.85:
        return {
            "word": "go",
            "reasons": [{"code": "success", **shown, "lower": lower}],
            "change": [{"code": "failures", "failures": 3}],
        }
    if not successes:
        reasons = [
            {"code": "none", **shown, "upper": upper},
            {"code": "unlikely", **shown, "upper": upper, "lower": lower},
        ]
        budget = {"code": "budget", "term": "packet=4K", "factor": 1.31, "seeds": seeds}
        return {"word": "stop", "reasons": reasons, "change": [budget]}
    changes = [
        {"code": "new proof", "seeds": 20, "first_seed": 20, "failures": 1, "confidence": 0.975, "cpu_seconds": 70.0},
        {"code": "accept", "probability": lower},
        {"code": "margin", "margin": 0.06, "asked": 0.02},
    ]
    reasons = [
        {"code": "undecided", **shown, "lower": lower, "upper": upper},
        {"code": "early", "done": seeds, "asked": 59, "max_cost_s": 100.0},
    ]
    return {"word": "measure more", "reasons": reasons, "change": changes}
