"""One direction: a file imports only from lower layers (DESIGN, section 4), and heavy packages only where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A folder's number holds for every file in it.
LAYERS = {
    "edgeticket.errors": 0,
    "edgeticket.files": 0,
    "edgeticket.lock": 0,
    "edgeticket.prng": 0,
    "edgeticket.range_coder": 0,
    "edgeticket.text": 0,
    "edgeticket.cluster": 0,
    "edgeticket._watch": 0,  # C
    "edgeticket.lanes": 0,
    "edgeticket.pool": 1,
    "edgeticket.ops": 1,
    "edgeticket.coupling": 1,
    "edgeticket.plan": 1,
    "edgeticket.budget": 1,
    "edgeticket.theory": 1,
    "edgeticket.sequential": 1,
    "edgeticket.signing": 1,
    "edgeticket.tls": 1,
    "edgeticket.outbox": 1,
    "edgeticket.rfss": 2,
    "edgeticket.bounds": 2,
    "edgeticket.relu_network": 3,
    "edgeticket.construct": 4,
    "edgeticket.certificate": 5,
    "edgeticket.construction_file": 6,
    "edgeticket.bound_table": 7,
    "edgeticket.architectures": 2,
    "edgeticket.ticket": 2,
    "edgeticket.ticket_file": 2,
    "edgeticket.model": 2,
    "edgeticket.arena": 2,
    "edgeticket.datasets": 2,
    "edgeticket.drift": 2,
    "edgeticket.settings": 3,
    "edgeticket.reference": 3,
    "edgeticket.integer": 3,
    "edgeticket.integer_layer": 3,
    "edgeticket.compact": 3,
    "edgeticket.packet": 3,
    "edgeticket.wire_plan": 3,
    "edgeticket.wire_coding": 3,
    "edgeticket.wire": 3,
    "edgeticket.wire_bytes": 3,
    "edgeticket.wire_weights": 3,
    "edgeticket.wire_reader": 3,
    "edgeticket.wire_delta": 3,
    "edgeticket.rounding": 1,
    "edgeticket.codes": 2,
    "edgeticket.envelope": 3,
    "edgeticket.manifest": 3,
    "edgeticket.bundle_file": 3,
    "edgeticket.data": 3,
    "edgeticket.guard": 3,
    "edgeticket.watch": 3,
    "edgeticket.plugins": 3,
    "edgeticket.tasks": 4,
    "edgeticket.runtime": 3,
    "edgeticket.trial": 4,
    "edgeticket.order": 5,
    "edgeticket.frontends": 4,
    "edgeticket.weights": 4,
    "edgeticket.cells": 4,
    "edgeticket.masked": 4,
    "edgeticket.calibration": 4,
    "edgeticket.describe": 4,
    "edgeticket.inspection": 7,
    "edgeticket.targets": 4,
    "exporters": 4,
    "edgeticket.search": 5,
    "edgeticket.latency": 5,
    "edgeticket.export": 5,
    "edgeticket.packing": 5,
    "edgeticket.bench": 5,
    "edgeticket.found": 5,
    "edgeticket.core_table": 5,
    "edgeticket.footprint": 5,
    "edgeticket.stand_in": 5,
    "edgeticket.update": 5,
    "edgeticket.network": 5,
    "edgeticket.spending": 6,
    "edgeticket.auto": 6,
    "edgeticket.session": 6,
    "edgeticket.find": 6,
    "edgeticket.rivals": 6,
    "edgeticket.post_training": 5,
    "edgeticket.cost": 6,
    "edgeticket.config": 6,
    "edgeticket.verify": 6,
    "edgeticket.bundle": 6,
    "edgeticket.bundle_c": 5,
    "edgeticket.bundle_check": 6,
    "edgeticket.bundle_packet": 6,
    "edgeticket.rollout": 6,
    "edgeticket.chain": 7,
    "edgeticket.claims": 7,
    "edgeticket.poc": 7,
    "edgeticket.row": 7,
    "edgeticket.sweep": 7,
    "edgeticket.pareto": 7,
    "edgeticket.report": 7,
    "edgeticket.cli": 8,
    "edgeticket.__main__": 9,
    "edgeticket": -1,  # imports nothing of its own by statement; all may read the version
}

# Neighbours in one layer, each with its reason: the first reads the second, never the other way round.
NEIGHBOURS = {
    ("edgeticket.masked", "edgeticket.cells"): "a network is made of cells",
    ("edgeticket.find", "edgeticket.session"): "a search and its controls are one session",
    ("edgeticket.find", "edgeticket.spending"): "under a budget,",
    ("edgeticket.find", "edgeticket.auto"): "which may leave the density open,",
    ("edgeticket.find", "edgeticket.cost"): "and is judged by what was found",
    ("edgeticket.rivals", "edgeticket.session"): "a rival is trained as a search's controls are,",
    ("edgeticket.rivals", "edgeticket.cost"): "at a size that is estimated first",
    ("edgeticket.session", "edgeticket.spending"): "a search narrows to a budget",
    ("edgeticket.auto", "edgeticket.spending"): "candidates are scaled to the budget",
    ("edgeticket.spending", "edgeticket.cost"): "a budget is judged by estimated costs",
    ("edgeticket.stand_in", "edgeticket.footprint"): "what stands for a network has its footprint",
    ("edgeticket.masked", "edgeticket.weights"): "and says what their weights are",
    ("edgeticket.cells", "edgeticket.weights"): "a cell multiplies with weights",
    ("edgeticket.coupling", "edgeticket.ops"): "channels are coupled by operations",
    ("edgeticket.plan", "edgeticket.ops"): "a plan is made of operations",
    ("edgeticket.plan", "edgeticket.coupling"): "and knows its coupled channels",
    ("edgeticket.cluster", "edgeticket.errors"): "a cluster can be out of reach",
    ("edgeticket.lanes", "edgeticket.errors"): "and an error may not be one that a process can send",
    ("edgeticket.files", "edgeticket.errors"): "writing a file can fail",
    ("edgeticket.lock", "edgeticket.errors"): "as can a second run on it,",
    ("edgeticket.lock", "edgeticket.files"): "which may find what a killed one left",
    ("edgeticket.prng", "edgeticket.errors"): "so can a counter that is out of range",
    ("edgeticket.ticket", "edgeticket.ticket_file"): "what was learned, and the bytes that hold it",
    ("edgeticket.model", "edgeticket.ticket"): "a model keeps a ticket's input map and ranges",
    ("edgeticket.calibration", "edgeticket.tasks"): "data fit a network where they fit its task",
    ("edgeticket.sweep", "edgeticket.pareto"): "a sweep goes on from the rows that are compared,",
    ("edgeticket.sweep", "edgeticket.row"): "and adds rows",
    ("edgeticket.row", "edgeticket.pareto"): "a row has the costs that are compared",
    ("edgeticket.bound_table", "edgeticket.pareto"): "pictures are drawn alike every time",
    ("edgeticket.claims", "edgeticket.poc"): "what a proof of concept claims is judged by its own rules",
    ("edgeticket.poc", "edgeticket.sweep"): "and estimated alike",
    ("edgeticket.poc", "edgeticket.row"): "its cost is known before it starts, as a sweep's",
    ("edgeticket.poc", "edgeticket.report"): "one wording of a verdict",
    ("edgeticket.compact", "edgeticket.reference"): "compaction is proven with the oracle",
    ("edgeticket.integer", "edgeticket.integer_layer"): "one specification, in two files",
    ("edgeticket.integer", "edgeticket.reference"): "both cut windows in the same way",
    ("edgeticket.integer_layer", "edgeticket.reference"): "tables hold the oracle's activations",
    ("edgeticket.wire_plan", "edgeticket.integer"): "a firmware is of an integer network,",
    ("edgeticket.wire_plan", "edgeticket.integer_layer"): "and of the constants of its layers",
    ("edgeticket.wire", "edgeticket.integer"): "so is the packet that it reads,",
    ("edgeticket.wire", "edgeticket.integer_layer"): "constant by constant,",
    ("edgeticket.wire", "edgeticket.wire_plan"): "in the firmware's sections",
    ("edgeticket.wire", "edgeticket.wire_coding"): "weights have a code of their own",
    ("edgeticket.wire_coding", "edgeticket.integer_layer"): "of the integers that a layer multiplies with",
    ("edgeticket.wire_coding", "edgeticket.wire_plan"): "of the kind that the firmware expects",
    ("edgeticket.wire_reader", "edgeticket.wire"): "reading is writing backwards,",
    ("edgeticket.wire_reader", "edgeticket.wire_plan"): "section by section,",
    ("edgeticket.wire_reader", "edgeticket.wire_bytes"): "byte by byte,",
    ("edgeticket.wire_reader", "edgeticket.wire_weights"): "weights last",
    ("edgeticket.wire_weights", "edgeticket.wire_bytes"): "they are bytes too,",
    ("edgeticket.wire_weights", "edgeticket.wire_plan"): "of a section",
    ("edgeticket.wire_delta", "edgeticket.wire_coding"): "sizes are coded alike,",
    ("edgeticket.wire_delta", "edgeticket.wire_bytes"): "and refused alike",
    ("edgeticket.manifest", "edgeticket.envelope"): "bundles and updates are numbered alike",
    ("edgeticket.bundle_file", "edgeticket.envelope"): "and refused by their number alike",
    ("edgeticket.guard", "edgeticket.data"): "a guard is fitted to data; nothing is imported for that",
    ("edgeticket.guard", "edgeticket.watch"): "and its rules are watched over",
    ("edgeticket.runtime", "edgeticket.guard"): "what a guard refuses is not predicted,",
    ("edgeticket.runtime", "edgeticket.bundle_file"): "nor what a bundle does not hold",
    ("edgeticket.bundle_file", "edgeticket.manifest"): "a bundle is a manifest and its files",
    ("edgeticket.bundle", "edgeticket.verify"): "what is shipped is proven first,",
    ("edgeticket.bundle", "edgeticket.bundle_check"): "and accepted as whoever gets it will accept it,",
    ("edgeticket.bundle", "edgeticket.bundle_packet"): "with a packet for the firmware",
    ("edgeticket.bundle_check", "edgeticket.bundle_packet"): "that follows from the ticket",
}

MAY_IMPORT = {
    "torch": (
        "edgeticket.weights",
        "edgeticket.cells",
        "edgeticket.masked",
        "edgeticket.search",
        "edgeticket.frontends",
    ),
    "onnx": ("exporters", "edgeticket.targets", "edgeticket.export", "edgeticket.verify", "edgeticket.frontends"),
    "onnxruntime": ("exporters", "edgeticket.targets", "edgeticket.export", "edgeticket.verify", "edgeticket.runtime"),
    "click": ("edgeticket.cli",),
    "torch_pruning": ("edgeticket.search._pruned",),
    "distributed": ("edgeticket.cluster",),
    "sqlalchemy": ("edgeticket.rollout",),
    "cryptography": ("edgeticket.signing",),
    "paho": ("edgeticket.rollout.mqtt",),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path for folder in ("edgeticket", "exporters") for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(path: Path) -> Iterator[str]:
    """Full names that a file imports anywhere in it, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def unit(module: str) -> str:
    """The entry of LAYERS that a module falls under."""
    parts = module.split(".")
    if module in ("edgeticket", "exporters"):
        return module
    found = next((name for name in (".".join(parts[:2]), parts[0]) if name in LAYERS), None)
    assert found not in (None, "edgeticket"), f"{module} has no layer: give it a number in LAYERS and in DESIGN"
    return str(found)


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def violations(module: str, names: Iterator[str]) -> list[str]:
    own, found = unit(module), []
    for name in names:
        top = name.partition(".")[0]
        if top in MAY_IMPORT and not within(module, MAY_IMPORT[top]):
            found.append(f"{module} imports {top}: only {', '.join(MAY_IMPORT[top])} may")
        if top in ("edgeticket", "exporters"):
            other = unit(name)
            if other != own and (own, other) not in NEIGHBOURS and LAYERS[other] >= LAYERS[own]:
                found.append(f"{module} ({LAYERS[own]}) imports {name} ({LAYERS[other]})")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    assert violations(module, imported(MODULES[module])) == []


def test_exporters_and_targets_never_read_each_other():
    for module, path in MODULES.items():
        last = module.rpartition(".")[2]
        if last.startswith(("to_", "on_")):
            assert not [name for name in imported(path) if name.rpartition(".")[2].startswith(("to_", "on_"))], module


def test_neighbours_do_not_form_a_circle():
    for reader, read in NEIGHBOURS:
        assert LAYERS[reader] == LAYERS[read]
        assert (read, reader) not in NEIGHBOURS


def test_the_rule_can_fail():
    assert violations("edgeticket.plan", iter(["edgeticket.ticket"]))
    assert violations("edgeticket.ticket", iter(["edgeticket.model"]))
    assert violations("edgeticket.find", iter(["torch.nn"]))
    assert violations("edgeticket.bench", iter(["edgeticket.cli"]))
    assert violations("exporters.to_onnx", iter(["torch"]))
    assert not violations("edgeticket.search.edge_popup", iter(["torch", "edgeticket.search._training"]))
