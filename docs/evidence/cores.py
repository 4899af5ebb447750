"""What code, constants, RAM and work are worth on each core: measured, fitted, and tried on networks that the fit never saw.

python docs/evidence/cores.py            measure what is missing, write edgeticket/core_table.py and docs/cores.md
python docs/evidence/cores.py --fit      from what is measured so far

Needs arm-none-eabi-gcc, qemu-system-arm and make. Rows are kept in runs/evidence/cores.jsonl by the digest of the C.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent.parent / "tests"))

from cases import CASES  # noqa: E402

from edgeticket.bench import artifact, bench  # noqa: E402
from edgeticket.budget import CORES  # noqa: E402
from edgeticket.compact import compact  # noqa: E402
from edgeticket.footprint import Footprint  # noqa: E402
from edgeticket.model import Model  # noqa: E402
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.plugins import load  # noqa: E402
from edgeticket.reference import run_all  # noqa: E402
from edgeticket.rounding import round_parameters  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.stand_in import Chosen, Outlines, random_model  # noqa: E402
from edgeticket.ticket import Input, Quant  # noqa: E402
from edgeticket.wire import pack  # noqa: E402
from exporters import to_c  # noqa: E402

ROWS = HERE.parent.parent / "runs" / "evidence" / "cores.jsonl"
ALIKE = (
    "cortex-m3",
    "cortex-m7",
    "cortex-m33",
)  # on these fewer networks are measured, and the fit stays near that of M4
FEW = ("fit conv 16-32-32", "fit resnet8", "fit wave", "fit mlp", "held out 1", "held out 2", "fit half of conv")
HELD_OUT = 24
Rows = list[dict[str, Any]]
Fit = dict[str, dict[str, float]]  # what -> core -> worth
# Of tests/cases.py, for the kernels of other operations.
OPERATIONS = (
    *(
        "plain",
        "plain, signs alone",
        "plain, 3 edges",
        "plain, 3 edges and flips",
        "plain, float sensor",
        "plain, int16 sensor",
    ),
    *(
        "residual",
        "residual, 3 edges",
        "depthwise",
        "norm alone",
        "prelu",
        "slices, shuffle and grouped",
        "transposed",
        "u-net",
    ),
    *("attention by broadcast", "two inputs and two outputs", "pad and crop", "depth to space", "space to depth"),
    *(
        "resize linear",
        "resize area",
        "resize nearest",
        "squeeze and excite",
        "product of three",
        "max pool",
        "average pool",
    ),
    *("1-D", "linear wider than a sign word", "fused leaky_relu", "fused sigmoid", "own silu", "own relu6"),
)
IMAGE, COLOUR, SERIES, SOUND = (1, 28, 28), (3, 32, 32), (1, 1024), (1, 49, 10)


# networks


def networks() -> Iterator[tuple[str, Model, Plan, Chosen | None]]:
    """Name, model; the wide plan and what was chosen, to estimate it by."""
    for name, plan, settings, share in [*known(), *(held_out(seed) for seed in range(HELD_OUT))]:
        final = random_model(plan, chosen(plan, settings), share).plan
        own = chosen(final, settings)
        yield name, drawn(plan, own, share), plan, own
    for name in OPERATIONS:
        yield f"case {name}", compact(CASES[name].ticket()), CASES[name].plan, None


def known() -> Iterator[tuple[str, Plan, Settings, int]]:
    """What the fit is made of, beside the tests' cases."""
    cnn = plan("conv", (16, 32, 32), IMAGE)
    for i, settings in enumerate(SETTINGS):
        yield f"fit conv 16-32-32, {i}", cnn, settings, 1
    for density in (0.1, 0.3, 0.7, 0.9):
        yield f"fit conv 16-32-32, density {density}", cnn, Settings(density=density, edges=1, learn="none"), 1
    for name, widths, shape in (
        ("conv", (32, 64, 64), IMAGE), ("conv", (8, 8), (1, 8, 8)), ("conv", (8, 24, 40), COLOUR), ("resnet8", (16, 32, 64), COLOUR),
        ("ds-cnn", (64,), SOUND), ("wave", (16, 16, 32, 32), SERIES), ("mobilenet-v1-025", (8,), COLOUR), ("mlp", (64, 32), IMAGE),
        ("autoencoder", (128, 128, 8), (640,)),
    ):  # fmt: skip
        for i in (0, 2, 3) if name in ("conv", "mlp") else (0, 3):
            yield f"fit {name} {'-'.join(map(str, widths))}, {i}", plan(name, widths, shape), SETTINGS[i], 1
    for name, widths, shape, every in (
        ("conv", (32, 64, 64), IMAGE, (0, 2, 5)), ("resnet8", (16, 32, 64), COLOUR, (0, 3)), ("wave", (16, 16, 32, 32), SERIES, (0,)),
        ("mobilenet-v1-025", (16,), COLOUR, (0, 3)), ("mlp", (64, 64), IMAGE, (0, 2)),
    ):  # fmt: skip
        for i in every:
            yield f"fit half of {name}, {i}", plan(name, widths, shape), SETTINGS[i], 2


SETTINGS = (
    Settings(),
    Settings(learn="none"),
    Settings(density=0.5, edges=1, learn="none"),
    Settings(density=0.1, edges=1),
    Settings(signs="learned"),
    Settings(edges=8, density=0.1875),
)


def held_out(seed: int) -> tuple[str, Plan, Settings, int]:
    """A network of random widths and settings."""
    rng = np.random.default_rng([seed, 77])
    name = ("conv", "conv", "conv", "resnet8", "ds-cnn", "wave", "mobilenet-v1-025", "mlp")[seed % 8]
    base = {"conv": 3, "resnet8": 3, "wave": 4, "mlp": 2}.get(name, 1)
    widths = tuple(int(8 * rng.integers(1, 8 if base > 1 else 6)) for _ in range(base))
    shape = {"wave": SERIES, "ds-cnn": SOUND, "mlp": IMAGE}.get(name, (IMAGE, COLOUR, (1, 20, 24))[rng.integers(3)])
    if name == "mobilenet-v1-025":
        widths = (8,)
    edges = int(rng.choice([1, 1, 3, 3, 8]))
    settings = Settings(
        seed=seed,
        density=float(rng.uniform(0.08, 0.9) if edges == 1 else rng.uniform(0.06, 0.4)),
        edges=edges,
        signs="learned" if edges == 1 and rng.random() < 0.4 else "seed",
        learn="none" if rng.random() < 0.3 else "stem,head",
    )
    return (
        f"held out {seed}: {name} {'-'.join(map(str, widths))}",
        plan(name, widths, shape),
        settings,
        int(rng.choice([1, 1, 2])),
    )


def plan(name: str, widths: tuple[int, ...], shape: tuple[int, ...]) -> Plan:
    return load("architectures", name).plan(*widths, input=shape, classes=10)


def chosen(plan: Plan, settings: Settings) -> Chosen:
    inputs = {name: Input("uint8", (30.0,) * shape[0], (1 / 128,) * shape[0]) for name, shape in plan.inputs.items()}
    return Chosen.by(settings, plan, inputs)


def drawn(wide: Plan, own: Chosen, share: int) -> Model:
    """A random ticket's model whose activations keep their size from layer to layer, as norms see to; ranges of random data."""
    model, rng = random_model(wide, own, share), np.random.default_rng(1)
    scale, bias = {}, {}
    for layer in model.plan.scaled():
        channels = model.plan.shapes[layer.name][0]
        size = 1.0
        if layer.name in model.weights:
            values = model.weights[layer.name].values.astype(float).reshape(channels, -1)
            size = np.sqrt(2 / (values**2).sum(1).clip(1))
        scale[layer.name] = round_parameters(size * rng.uniform(0.5, 1.5, channels), nonzero=True)
        bias[layer.name] = round_parameters(rng.normal(0, 0.2, channels))
    model = replace(model, scale=scale, bias=bias)
    quant = {}
    for name, values in run_all(model, model.random_inputs(8)).items():
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        step = (high - low) / 255 or 1.0
        quant[name] = Quant(step, int(np.clip(round(-low / step), 0, 255)))
    return replace(model, quant=quant)


# measuring


def measure(name: str, core: str, folder: str) -> dict[str, Any]:
    (report,) = bench([folder], on=core)
    keys = ("flash_bytes", "static_ram_bytes", "stack_bytes", "instructions")
    row = {"name": name, "core": core, "sha256": report.sha256}
    return row | {key: report.details[key] for key in keys}


def measure_all() -> None:
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["sha256"], row["core"]) for row in read()}
    with TemporaryDirectory() as place, ProcessPoolExecutor(2) as pool, ROWS.open("a") as file:
        due = []
        for i, (name, model, *_) in enumerate(networks()):
            for core in CORES:
                if core in ALIKE and not name.startswith(FEW):
                    continue
                folder = Path(place) / f"n{i}_{to_c.AUTO.get(core)}"
                if not folder.exists():
                    to_c.export(model, folder, core=core)
                if (artifact(folder).sha256, core) not in done:
                    due.append(pool.submit(measure, name, core, str(folder)))
        for future in as_completed(due):
            file.write(json.dumps(future.result()) + "\n")
            file.flush()


def counted(rows: Rows) -> Rows:
    """With what is counted of each network, and guessed of a stand-in for it."""
    found = {}
    for name, model, wide, own in networks():
        wire = pack(model)
        for boot in (False, True):
            guess = counts(Outlines(wide, own)(model.plan, boot)) if own else None
            found[name, boot] = {"counted": counts(Footprint(model, wire, boot)), "guessed": guess}
    return [row | found[row["name"], boots(row["core"])] for row in rows if (row["name"], False) in found]


def boots(core: str) -> bool:
    return to_c.AUTO.get(core) == "boot"


def counts(made: Footprint) -> dict[str, Any]:
    work = {what: float(count) for what, count in made.work.items()}
    return {"code": dict(made.code), "stack": dict(made.stack), "work": work} | {
        name: getattr(made, name) for name in ("ram_bytes", "model_bytes", "table_bytes")
    }


def read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


# fitting

TABLE = HERE.parent.parent / "edgeticket" / "core_table.py"
PAGE = HERE.parent / "cores.md"
NEAR = 0.3  # how strongly the fits of cores with few networks keep to that of M4; of all, a hundredth of it to 0
TINY = 0.15  # weight of the tests' cases, in which nothing is done often
BASE = "cortex-m4"
ON_M0 = ("adds by 4 u8", *(f"{what} by 4 {kind}" for what in ("products", "planes", "steps") for kind in ("u8", "i16")))
NOT_ON_M0 = (
    *("adds u8", "half adds u8", "passes u8"),
    *(f"{what} {kind}" for what in ("products", "planes", "steps") for kind in ("u8", "i16")),
)  # it has no words that are not aligned, and few registers
ORDER = (BASE, *(core for core in CORES if core != BASE))


def code_of(row: dict[str, Any]) -> float:
    """Flash that neither the model nor the lists of sizes take."""
    return row["flash_bytes"] - row["counted"]["model_bytes"] - row["counted"]["table_bytes"]


MEASURED = {"code": code_of, "stack": lambda row: row["stack_bytes"], "work": lambda row: row["instructions"]}


def fit(rows: Rows, kind: str) -> Fit:
    """Least squares, of instructions of relative errors; no work takes less than nothing."""
    found: Fit = {what: dict.fromkeys(CORES, 0.0) for row in rows for what in row["counted"][kind]}
    for core in ORDER:
        own = [row for row in rows if row["core"] == core]
        other = NOT_ON_M0 if core == "cortex-m0" else ON_M0
        y = np.array([MEASURED[kind](row) for row in own], float)
        of = [[0.0 if what in other else row["counted"][kind].get(what, 0.0) for what in found] for row in own]
        table = np.array(of, float)
        weight = 1 / y if kind == "work" else np.full(len(y), 1 / 50)
        weight *= [TINY if row["name"].startswith("case") else 1 for row in own]
        table, y = table * weight[:, None], y * weight
        first = np.array([found[what][BASE] for what in found]) if core in ALIKE else np.zeros(len(found))
        strength = NEAR if core in ALIKE else NEAR / 100
        pull = strength * np.abs(table).max(0).clip(1e-12) if kind == "work" else np.full(len(found), strength / 10)
        solved = first + solve(table, y - table @ first, pull, first if kind == "work" else None)
        for what, worth in zip(found, solved, strict=True):
            found[what][core] = float(worth)
    return found


def solve(table: np.ndarray, y: np.ndarray, pull: np.ndarray, room: np.ndarray | None) -> np.ndarray:
    """x of the least |table x - y|^2 + |pull x|^2; with `room` none below its negative: what falls below is set to it in turn."""
    free, x = np.ones(table.shape[1], bool), np.zeros(table.shape[1])
    while True:
        left = y - table[:, ~free] @ x[~free]
        every = np.vstack([table[:, free], np.diag(pull[free])])
        x[free] = np.linalg.lstsq(every, np.concatenate([left, np.zeros(free.sum())]), rcond=None)[0]
        below = free & (x < -room - 1e-12) if room is not None else np.zeros_like(free)
        if room is None or not below.any():
            return x
        worst = np.flatnonzero(below)[np.argmin((x + room)[below])]
        free[worst], x[worst] = False, -room[worst]


def worth(row: dict[str, Any], fits: dict[str, Fit], kind: str, counts: str = "counted") -> float:
    return sum(count * fits[kind][what][row["core"]] for what, count in row[counts][kind].items() if what in fits[kind])


def estimated(row: dict[str, Any], fits: dict[str, Fit], counts: str = "guessed") -> dict[str, float]:
    """Flash, RAM and instructions of a stand-in ("guessed"), or of the network itself ("counted")."""
    own = row[counts]
    return {
        "flash": own["model_bytes"] + own["table_bytes"] + worth(row, fits, "code", counts),
        "ram": own["ram_bytes"] + worth(row, fits, "stack", counts),
        "instructions": worth(row, fits, "work", counts),
    }


def measured(row: dict[str, Any]) -> dict[str, float]:
    ram = row["static_ram_bytes"] + row["stack_bytes"]
    return {"flash": row["flash_bytes"], "ram": ram, "instructions": row["instructions"]}


def errors(rows: Rows, fits: dict[str, Fit], counts: str) -> dict[str, np.ndarray]:
    found = [(estimated(row, fits, counts), measured(row)) for row in rows]
    return {
        what: np.array([guess[what] / real[what] - 1 for guess, real in found])
        for what in ("flash", "ram", "instructions")
    }


def latest() -> Rows:
    """The last row of each network and core."""
    return counted(list({(row["name"], row["core"]): row for row in read()}.values()))


def write(rows: Rows) -> None:
    """The table, and a page that says how far it is off."""
    seen = [row for row in rows if not row["name"].startswith("held out")]
    fits = {kind: fit(seen, kind) for kind in MEASURED}
    TABLE.write_text(HEAD + "".join(lines(kind.upper(), fits[kind], 0 if kind == "stack" else 1) for kind in MEASURED))
    new = [row for row in rows if row["name"].startswith("held out")]
    PAGE.write_text(
        PAGE_TEXT.format(
            summary=summary(seen, new, fits), rows=each(new, fits), networks=len({r["name"] for r in seen})
        )
    )
    print(PAGE.read_text())


HEAD = '''"""What code, stack and work are worth on each core: bytes, bytes, instructions. Made by docs/evidence/cores.py; docs/cores.md says
how far it is off. Columns: Cortex-M0, M3, M4, M7, M33, M55. Keys: edgeticket/footprint.py."""

Table = dict[str, tuple[float, ...]]
'''
PAGE_TEXT = """# What a network will take on a core

Made by `python docs/evidence/cores.py`: every figure was read off a linked image and an emulated board (QEMU). `find --budget` estimates
flash, RAM and instructions before the search is over by what is written in `edgeticket/core_table.py`, which was fitted to
{networks} networks; the held-out ones are others, and estimated as a search does it: without weights. They were not fitted, but their errors
were seen while the terms of the fit were chosen. Most rows were measured with the kernels of commit 92724f2, 47 with those of an hour before.

| core | fitted | flash, median and largest error | RAM | instructions | held out | flash | RAM | instructions |
|---|---|---|---|---|---|---|---|---|
{summary}

Flash = linker's text + data of the network alone, RAM = its static RAM + the stack it was seen to write. Held-out networks:

| network | core | flash | error | RAM | error | instructions | error |
|---|---|---|---|---|---|---|---|
{rows}
"""


def lines(name: str, worths: Fit, digits: int) -> str:
    """Python of a table, without what is worth nothing anywhere."""
    rows = {what: tuple(round(worths[what][core], digits) for core in CORES) for what in sorted(worths)}
    return (
        f"{name}: Table = {{\n" + "".join(f"    {what!r}: {row},\n" for what, row in rows.items() if any(row)) + "}\n"
    )


def summary(seen: Rows, new: Rows, fits: dict[str, Fit]) -> str:
    rows = []
    for core in CORES:
        cells = [core.removeprefix("cortex-").upper()]
        for part, counts in ((seen, "counted"), (new, "guessed")):
            own = [row for row in part if row["core"] == core]
            off = errors(own, fits, counts).values()
            cells += [str(len(own)), *(f"{np.median(np.abs(e)):.1%}, {np.abs(e).max():.1%}" for e in off)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def each(new: Rows, fits: dict[str, Fit]) -> str:
    rows = []
    for row in new:
        guess, real = estimated(row, fits), measured(row)
        cells = [f"{real[what]:,} | {guess[what] / real[what] - 1:+.1%}" for what in real]
        rows.append(
            f"| {row['name'].removeprefix('held out ')} | {row['core'].removeprefix('cortex-')} | {' | '.join(cells)} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    if "--fit" not in sys.argv:
        measure_all()
    write(latest())
