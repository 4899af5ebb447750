"""A proof of concept's record once more: all of it that follows from its tickets, its files and the data, derived anew."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeticket import tasks
from edgeticket.budget import Budget, How, Term, Verdict
from edgeticket.claims import delivered
from edgeticket.claims.reached import Reached, reached, reached_by_files
from edgeticket.claims.sizes import size
from edgeticket.compact import compact
from edgeticket.data import Data, summary
from edgeticket.describe import describe
from edgeticket.errors import EquivalenceError
from edgeticket.network import network_plan
from edgeticket.poc import FLOATS, indicators, judge
from edgeticket.poc.chosen import confusion
from edgeticket.poc.jobs import FLOPS, Job, ticket_facts
from edgeticket.poc.record import FORMAT, PROTOCOL
from edgeticket.poc.request import SPARSER
from edgeticket.poc.success import Criterion, bar
from edgeticket.rivals import what
from edgeticket.settings import AUTO_EDGES, AUTO_KEPT, Settings
from edgeticket.targets.on_cpu import describe_machine
from edgeticket.ticket import Ticket, read_ticket
from edgeticket.verify import verify
from exporters import to_onnx
from exporters.graph import to_bytes

Row = Mapping[str, Any]
COUNTED = {
    "packet_bytes": "bytes",
    "macs": "macs",
    "kept_macs": "kept_macs",
}  # terms of a budget, and what rows call them
RENAMED = ("method", "teacher")  # a ticket keeps the digest of a file of these, not its path


class Again:
    """`told`: the record. What does not follow from `folder` and `data` is left out of what is made."""

    def __init__(self, told: Row, folder: Path, data: Data) -> None:
        self.told, self.folder, self.data = told, folder, data
        self.request, self.task = told["request"], tasks.of(data)
        self.criterion = Criterion.parse(self.request["success"], data.task, self.task.lower_is_better)
        self.budget = Budget.parse(self.request["budget"]) if self.request["budget"] else None
        self.plan = network_plan(self.request["model"], data)
        self.settings = Settings.parse(**self.request["settings"])

    def record(self) -> dict[str, Any]:
        """Raises EquivalenceError where rows are not those of the request, or a ticket is of another search."""
        told, request = self.told, self.request
        self.check_rows()
        self.check_rivals()
        return {  # in this order they are compared: what follows from evidence first
            "format": FORMAT,
            "protocol": PROTOCOL,
            "seal": told["seal"],
            "data": json.loads(json.dumps(summary(self.data))),
            "rivals": [self.rival(row) for row in told["rivals"]],
            "bar": self.bar(),
            "rows": [self.searched(row) for row in told["rows"]],
            "sparser": [self.searched(row) for row in told["sparser"]],
            "chosen": self.chosen(),
            "request": {
                **{key: request[key] for key in ("success", "model", "budget", "probability", "confidence", "seeds")},
                "first_seed": told["rows"][0]["seed"],
                **self.settings_told(),
            },
            "indicators": indicators.summarise(
                told["rows"], told["sparser"], told["rivals"], request["confidence"], {}
            ),
            "verdict": judge.verdict(told),
        }

    # which rows there are

    def check_rows(self) -> None:
        """Raises EquivalenceError where seeds are left out, or others stand in their place."""
        asked, first = self.request["seeds"], self.request["first_seed"]
        own, sparser = ([row["seed"] for row in self.told[key]] for key in ("rows", "sparser"))
        _require("rows", own, list(range(first, first + len(own))))
        wanted = [(density, first + i) for density in self.densities() for i in range(FLOATS)]
        given = list(zip([row["asked"] for row in self.told["sparser"]], sparser, strict=True))
        _require("sparser", given, wanted[: len(given)])
        stopped = len(own) < asked or len(given) < len(wanted)
        if not own or len(own) > asked or (stopped and self.request["max_cost_s"] is None):
            raise EquivalenceError(
                f"rows: {len(own)} of {asked} seeds, and {len(given)} of {len(wanted)} sparser searches"
            )

    def densities(self) -> list[float]:
        """Of the sparser searches."""
        own = self.settings
        if self.budget or own.layer_density or own.layer_edges:
            return []
        base = own.density or AUTO_KEPT / (own.edges or (1 if own.signs == "learned" else AUTO_EDGES))
        return [base / factor for factor in SPARSER]

    def check_rivals(self) -> None:
        """Raises EquivalenceError where one that belongs there is left out."""
        told = [(row["kind"], row["name"], row["seed"]) for row in self.told["rivals"]]
        controls = [key for key in told if key[:2] == ("search", "control")]
        first = self.request["first_seed"]
        wanted = [("float", name, seed) for seed in range(FLOATS) for name in ("float", "float-int8")]
        wanted += [
            ("search", "control", first + i) for i in range(FLOATS) if ("search", "control", first + i) in controls
        ]
        if any("failed" not in row for row in self.told["rows"]):
            wanted += [(kind, kind, seed) for kind in ("int8-narrow", "pruned") for seed in range(FLOATS)]
        _require("rivals", told, wanted)

    # rows

    def searched(self, told: Row) -> dict[str, Any]:
        """One row of a search."""
        kind = "sparser" if told["asked"] is not None else "search"
        job = Job(kind, told["seed"], density=told["asked"])
        why = judge.why_not(told, self.criterion, self.told["bar"])
        made = {"kind": kind, "seed": job.seed, "asked": job.density, "why": why, "success": not why}
        if "failed" in told:
            return made
        path = f"tickets/{job.file}.ticket"
        ticket = read_ticket(self.file(path))
        self.check_ticket(path, ticket, job)
        steps = len(self.data.train[0]) // self.settings.batch * self.settings.batch * self.settings.epochs
        facts = ticket_facts(describe(ticket))
        return {
            **made,
            **reached(_onnx(ticket), self.data).figures(),
            **facts,
            "terms": list(
                map(self.term, told["terms"], self.budget.terms if self.budget else (), [facts] * len(told["terms"]))
            ),
            "purity": ticket.purity,
            "widths": ticket.narrow.widths(),
            "ticket": path,
            "digest": ticket.digest,
            "flops": FLOPS * sum(self.plan.macs().values()) * steps,
        }

    def term(self, told: Row, own: Term, facts: Row) -> dict[str, Any]:
        """A term of the budget; its value and how it was found out only where a ticket tells."""
        counted = COUNTED.get(own.resource)
        value: float | None = facts[counted] if counted else told["value"]
        how: How = "measured" if counted else told["how"]
        made = Verdict(own, value, None if value is None else value / own.limit, how).to_json()
        return made if counted else {key: made[key] for key in ("term", "ratio", "met", "text")}

    def check_ticket(self, path: str, ticket: Ticket, job: Job) -> None:
        """Raises EquivalenceError unless the ticket came from this search."""
        made_by = ticket.provenance
        words = replace(self.settings, seed=job.seed, density=job.density or self.settings.density).words()
        for key, value in words.items():
            left = self.budget and value == "auto"  # chosen for the budget
            if key == "float_step" or left or (key in RENAMED and ".py" in str(value)):
                continue
            _require(f"request.settings.{key} ({path})", value, made_by["settings"][key])
        _require(f"request.model ({path})", self.plan, ticket.plan)
        _require(f"data.digest ({path})", self.data.digest, made_by["data_digest"])
        _require(f"request.budget ({path})", self.budget.words() if self.budget else None, made_by.get("budget"))

    def settings_told(self) -> Row:
        """As `check_ticket` found them borne out; the float networks' step size no file tells. Nothing without a ticket."""
        if all("failed" in row for row in (*self.told["rows"], *self.told["sparser"])):
            return {}
        told = self.request["settings"].items()
        known = {
            key: value for key, value in told if key != "float_step" and not (key in RENAMED and ".py" in str(value))
        }
        return {"settings": known}

    # rivals

    def rival(self, told: Row) -> dict[str, Any]:
        made = {key: told[key] for key in ("kind", "name", "seed")} | {"asked": None}  # as check_rivals found them
        if "failed" in told:
            return made
        path = _rival_path(told)
        own = self.rivals_reached[path]
        about = size(self.file(path).read_bytes(), self.plan, self.data)
        if told["name"] == "control":
            del about["bytes"]  # of masks, which a float file does not hold
        else:
            made["what"] = what(told["name"], about["widths"])
        if told["name"] == "float":
            deviation = self.task.deviation(own.select, self.task.headline(own.select))
            made["deviation"] = own.near(deviation, len(own.select.labels))
        return made | {"onnx": path} | about | own.figures()

    @cached_property
    def rivals_reached(self) -> dict[str, Reached]:
        """Of all of them at once: a process that runs ONNX Runtime takes a while to start."""
        paths = [_rival_path(row) for row in self.told["rivals"] if "failed" not in row]
        made = reached_by_files([self.file(path) for path in paths], self.data, self.elsewhere)
        return dict(zip(paths, made, strict=True))

    @cached_property
    def elsewhere(self) -> bool:
        """Whether this is another CPU, or another ONNX Runtime, than the record's."""
        here = {"cpu": describe_machine()["cpu"], "onnxruntime": version("onnxruntime")}
        return any(self.told["environment"][key] != value for key, value in here.items())

    def bar(self) -> dict[str, Any]:
        floats = [row for row in self.told["rivals"] if row["name"] == "float"]
        return bar(self.criterion, self.task, floats, self.data)

    # what is delivered

    def chosen(self) -> dict[str, Any] | None:
        rows, told = self.told["rows"], self.told["chosen"]
        seed = judge.chosen_seed(rows, self.task.lower_is_better)
        if seed is None or told is None:
            return None if seed is None else {"seed": seed}
        row, name = next(row for row in rows if row["seed"] == seed), self.request["name"]
        ticket = read_ticket(self.file(f"{name}.ticket"))
        _require("chosen.digest", row["digest"], ticket.digest)
        about, files = describe(ticket), delivered.files(self.folder, name, ticket, told["files"])
        checked = verify(self.file(f"{name}.ticket"), [self.folder / one["path"] for one in files], self.data)
        onnx = [one["path"] for one in files if one["format"] == "onnx"]
        return {
            "seed": seed,
            "by": "select",
            "ticket": f"{name}.ticket",
            **{key: row[key] for key in ("digest", "certify", "select", "figures", "purity", "curve")},
            **{key: about[key] for key in ("layers", "total", "bytes", "peak_activations")},
            "labels": list(self.data.classes),
            "confusion": confusion(ticket, self.data),
            "files": files,
            "bench": delivered.bench(told["bench"], onnx, self.told["rivals"], self.request["period_ms"]),
            "chain": delivered.chain(told["chain"], checked, self.elsewhere),
        }

    def file(self, path: str) -> Path:
        """Raises EquivalenceError where it is not there, or not in the folder."""
        found = self.folder / path
        if Path(path).is_absolute() or ".." in Path(path).parts or not found.is_file():
            raise EquivalenceError(
                f"{found} is not there: the record can only be checked in the whole folder of its run"
            )
        return found


def _rival_path(told: Row) -> str:
    return f"rivals/{told['name']}-{told['seed']}.onnx"


def _onnx(ticket: Ticket) -> bytes:
    return to_bytes(to_onnx.build(compact(ticket)))


def _require(what: str, told: Any, made: Any) -> None:
    if told != made:
        raise EquivalenceError(f"{what}: {told!r} in the record, {made!r} derived anew")
