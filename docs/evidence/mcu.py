"""The C export beside CMSIS-NN on emulated cores: python docs/evidence/mcu.py [TICKET ...] writes docs/mcu.md.

Networks of edgeticket/architectures with masks and weights at random (what they cost does not depend on which), and every TICKET
named. What is there in docs/evidence/mcu.json is kept; delete it to measure again. Figures of CMSIS-NN are in
docs/evidence/cmsis_nn.json, with where they come from.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent.parent / "tests"))

from cases import Case, chain  # noqa: E402

from edgeticket.bench import bench  # noqa: E402
from edgeticket.compact import compact  # noqa: E402
from edgeticket.model import Model  # noqa: E402
from edgeticket.ops import GlobalAveragePool, Linear, conv  # noqa: E402
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.plugins import load  # noqa: E402
from edgeticket.ticket import read_ticket  # noqa: E402
from exporters.to_c import export  # noqa: E402

ROWS, PEERS, PAGE = HERE / "mcu.json", HERE / "cmsis_nn.json", HERE.parent / "mcu.md"
CORES = ("cortex-m4", "cortex-m0", "cortex-m7", "cortex-m3", "cortex-m33", "cortex-m55")
FEW = ("cortex-m4", "cortex-m0", "cortex-m7", "cortex-m55")
IMAGE = (1, 28, 28)
PURE, SIGNS, EDGES = {"learned": False}, {"flips": True}, {"edges": 3, "density": 1 / 6}
BIG = chain((64, 7, 7), conv(64), GlobalAveragePool(), Linear(10))


def shaped(name: str, *widths: int, input: tuple[int, ...] | None = None) -> Plan:
    own = load("architectures", name)
    classes = getattr(own, "CLASSES", 10)
    return own.plan(*widths, input=input or own.INPUT, classes=classes)


# label -> peer, plan, choices of the random ticket, form, cores
NETWORKS: dict[str, tuple[str, Plan, dict[str, Any], str, tuple[str, ...]]] = {
    "conv:16,32,32 --pure": ("conv:16,32,32", shaped("conv", 16, 32, 32, input=IMAGE), PURE, "seed", CORES),
    "conv:16,32,32 --pure --density 0.25": (
        "conv:16,32,32",
        shaped("conv", 16, 32, 32, input=IMAGE),
        PURE | {"density": 0.25},
        "seed",
        CORES,
    ),
    "conv:16,32,32, three edges": ("conv:16,32,32", shaped("conv", 16, 32, 32, input=IMAGE), EDGES, "seed", FEW),
    "conv:16,32,32 --signs learned": ("conv:16,32,32", shaped("conv", 16, 32, 32, input=IMAGE), SIGNS, "seed", FEW),
    "conv:16,32,32, all int8": ("conv:16,32,32", shaped("conv", 16, 32, 32, input=IMAGE), PURE, "dense", FEW),
    "conv:16,64,64 --density 0.1": (
        "conv:16,64,64",
        shaped("conv", 16, 64, 64, input=IMAGE),
        {"density": 0.1},
        "seed",
        FEW,
    ),
    "conv:32,64,64 --density 0.1": (
        "conv:32,64,64",
        shaped("conv", 32, 64, 64, input=IMAGE),
        {"density": 0.1},
        "seed",
        FEW,
    ),
    "big --pure": ("big", BIG, PURE, "seed", CORES),
    "wave": ("wave", shaped("wave"), {}, "seed", FEW),
    "resnet8": ("resnet8", shaped("resnet8"), {}, "seed", FEW),
    "ds-cnn": ("ds-cnn", shaped("ds-cnn"), {}, "seed", FEW),
    "mobilenet-v1-025": (
        "mobilenet-v1-025",
        shaped("mobilenet-v1-025"),
        {},
        "seed",
        ("cortex-m4", "cortex-m0", "cortex-m7"),
    ),
    "autoencoder": ("autoencoder", shaped("autoencoder"), PURE, "seed", FEW),
}
for form in ("signs", "lists", "boot"):
    NETWORKS[f"conv:16,32,32 --pure, form {form}"] = (*NETWORKS["conv:16,32,32 --pure"][:3], form, FEW)
    NETWORKS[f"big --pure, form {form}"] = (*NETWORKS["big --pure"][:3], form, FEW)


def main(tickets: list[str]) -> None:
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    for label, (peer, plan, choices, form, cores) in NETWORKS.items():
        model = compact(Case(plan, zero_offset=True, **{"keep": 1, **choices}).ticket())
        for core in cores:
            measure(rows, label, peer, model, form, core)
    for path in tickets:
        ticket = read_ticket(path)
        for core in FEW:
            measure(rows, Path(path).name, peer_of(ticket.narrow), compact(ticket), "seed", core)
    PAGE.write_text(page(rows, json.loads(PEERS.read_text())))


def peer_of(plan: Plan) -> str:
    widths = [size for name, size in plan.widths().items() if name.startswith("conv")]
    return "conv:" + ",".join(map(str, widths))


def measure(rows: dict[str, Any], label: str, peer: str, model: Model, form: str, core: str) -> None:
    key = f"{label}@{core}"
    if key in rows and rows[key]["digest"] == model.digest:
        return
    with TemporaryDirectory() as folder:
        export(model, Path(folder) / "net", form=form)
        (report,) = bench([Path(folder) / "net"], on=core)
    cost, found = report.cost, report.details
    rows[key] = {
        "network": label,
        "core": core,
        "peer": peer,
        "digest": model.digest,
        "instructions": cost.instructions,
        "flash": cost.flash_bytes,
        "ram": cost.ram_bytes,
        "model_bytes": found["model_bytes"],
        "weights": sum(model.plan.weights().values()),
        "environment": {k: v for k, v in report.environment.items() if k in ("compiler", "emulator", "machine")},
    }
    print(json.dumps(rows[key]), file=sys.stderr)
    ROWS.write_text(json.dumps(rows, indent=1) + "\n")


def page(rows: dict[str, Any], peers: dict[str, Any]) -> str:
    """The rows by core, each beside CMSIS-NN's int8 network of the same shape."""
    lines = [
        "# Microcontrollers, beside CMSIS-NN",
        "",
        "`python docs/evidence/mcu.py` (the C of `edgeticket export --to c`, built and run by `edgeticket bench --on CORE`). Instructions",
        "per inference in QEMU are simulated: they rank, they are not time. Flash is the linker's text and data of the network alone,",
        "RAM its data, bss and the deepest stack. Masks are at random here; tickets that were found are named by their file.",
        "",
        f"CMSIS-NN: {peers['source']}",
        "",
    ]
    for core in CORES:
        own = [row for row in rows.values() if row["core"] == core]
        lines += [
            f"## {core}",
            "",
            "| network | instructions | of CMSIS-NN | flash | of it | RAM | of it | model, of a byte a weight |",
        ]
        lines += ["|---|--:|--:|--:|--:|--:|--:|--:|"]
        lines += [line(row, peers["figures"].get(f"{row['peer']}@{core}")) for row in own] + [""]
    return "\n".join(lines)


def line(row: dict[str, Any], peer: dict[str, int] | None) -> str:
    cells = [row["network"]]
    for word in ("instructions", "flash", "ram"):
        cells += [f"{row[word]:,}", f"{row[word] / peer[word]:.2f}x" if peer else "-"]
    share = row["model_bytes"] / row["weights"]
    return f"| {' | '.join([*cells, f'{share:.2f}x'])} |"


if __name__ == "__main__":
    main(sys.argv[1:])
