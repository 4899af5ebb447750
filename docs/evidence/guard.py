"""What the guard sees and what it costs: python docs/evidence/guard.py writes the tables of docs/guard.md.

Every frame comes from the certify part, which no guard was fitted to, and goes through `Guard.judge`. `--quick`: a tenth of the runs or less.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent.parent / "tests"))

from cases import Case  # noqa: E402
from test_c_guard import emulated  # noqa: E402

from edgeticket.compact import compact  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.find import find  # noqa: E402
from edgeticket.guard import Guard, Status  # noqa: E402
from edgeticket.model import Model  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.plugins import load as plugin  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import read_ticket  # noqa: E402
from exporters import to_c, to_onnx  # noqa: E402
from exporters.graph import to_bytes  # noqa: E402

PAGE = HERE.parent / "guard.md"
MARK = "<!-- from here on written by docs/evidence/guard.py -->\n"
NAMES = {"digits": 0.95, "fashion-mnist": 0.95, "synthetic-bearing": 0.95, "plaid": 0.6}  # and the confidence asked for
WINDOWS, LONG = 200, 2000
RUNS = 20 if "--quick" in sys.argv else 300
PARTS = ("train", "select", "certify")
SINGLE = 50  # frames that every fault is put into
WIRED = {
    "digits": "fashion-mnist",
    "fashion-mnist": "digits",
    "synthetic-bearing": "plaid",
    "plaid": "synthetic-bearing",
}
TICKETS = {"digits": "digits.ticket", "fashion-mnist": "fashion.ticket"}
Change = Answers = Callable[[np.ndarray], np.ndarray]
Rows = list[list[str]]


def main() -> None:
    sets = {name: load(name) for name in NAMES}
    networks = {name: searched(name, data) for name, data in sets.items()}
    guards = {name: Guard.fit(data, networks[name], confidence=NAMES[name]) for name, data in sets.items()}
    parts = [
        ("Faults caught", faults(sets, guards)),
        ("False alarms on clean frames", false_alarms(sets, networks, guards)),
        (
            f"Shifts: share of {RUNS} runs in which an alarm or a fault is told within {WINDOWS} frames",
            shifts(sets, networks, guards),
        ),
        ("Cost of one frame", costs(sets, guards)),
    ]
    text = "\n\n".join(f"## {title}\n\n{table(rows)}" for title, rows in parts)
    head = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n{text}\n")


def searched(name: str, data: Data) -> Answers:
    """A network's: of sample_models/, or one that is searched now."""
    if name in TICKETS:
        ticket = read_ticket(HERE.parent.parent / "sample_models" / TICKETS[name])
    else:
        ticket = find(network_plan("wave", data), data, Settings(epochs=10, seed=1)).ticket
    return to_onnx.answers(to_bytes(to_onnx.build(compact(ticket))))


def table(rows: Rows) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


# faults


def broken(data: Data) -> Iterator[tuple[str, Status, Change]]:
    """Name, the status that is right, and what is done to a clean frame."""
    ends, kind = np.iinfo(data.train[0].dtype), data.train[0].dtype
    yield "float64, as after a careless conversion", Status.DTYPE, lambda x: x.astype(np.float64)
    yield "NaN in a float frame", Status.DTYPE, lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x)
    yield "other integers", Status.DTYPE, lambda x: x.astype(np.uint16)
    yield (
        "bytes swapped",
        Status.DTYPE,
        lambda x: x.astype(x.dtype.newbyteorder(">")) if x.itemsize > 1 else x.view(np.int8),
    )
    yield "cut short", Status.SHAPE, lambda x: x[..., :-1]
    yield "a batch", Status.SHAPE, lambda x: x[None]
    yield "a channel too many", Status.SHAPE, lambda x: np.concatenate([x, x])
    yield "all at the bottom of the converter", Status.CONSTANT, lambda x: np.full_like(x, ends.min)
    yield "all at the top", Status.CONSTANT, lambda x: np.full_like(x, ends.max)
    yield "all at one value", Status.CONSTANT, lambda x: np.full_like(x, x.flat[x.size // 2])
    most = Guard.fit(data, confidence=0.5).rules.most[0]
    if most < ends.max:
        yield (
            "one value out of range",
            Status.RANGE,
            lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, most + 1, x).astype(kind),
        )


def faults(sets: dict[str, Data], guards: dict[str, Guard]) -> Rows:
    found: dict[str, dict[str, str]] = {}
    for name, guard in guards.items():
        x = sets[name].certify[0][:SINGLE]
        for what, right, change in broken(sets[name]):
            guard.reset()
            told = [guard.check(change(frame)) for frame in x]
            caught = sum(status.fault for status in told)
            named = sum(status == right for status in told)
            found.setdefault(what, {})[name] = f"{caught} of {len(x)}" + (
                "" if named == caught else f" ({named} by name)"
            )
        held = []
        for frame in x:
            guard.reset()
            held.append([guard.check(frame) for _ in range(3)][-1] == Status.STUCK)
        found.setdefault("the same frame three times", {})[name] = f"{sum(held)} of {len(x)}"
    rows = [[what, *(own.get(name, "no value is") for name in guards)] for what, own in found.items()]
    return [["injected", *guards], *rows]


# false alarms


def false_alarms(sets: dict[str, Data], networks: dict[str, Answers], guards: dict[str, Guard]) -> Rows:
    head = "held out, of these beyond is 1 %, with confidence|frames|faults|unfamiliar|runs of 200 with a drift|of one class|of 2,000 of one class|of 200 of one machine"
    rows = [["", *head.split("|")]]
    for name, guard in guards.items():
        x, y = sets[name].certify
        told, answers = [one_by_one(guard, frame) for frame in x], networks[name](x)
        alone, rules = sum(s == Status.UNFAMILIAR for s in told), guard.rules
        drifts = alarms(guard, x, answers, 10 * RUNS // 3)
        classes, long = (of_classes(guard, x, y, answers, frames) for frames in (WINDOWS, LONG))
        rows.append(
            [
                name,
                f"{rules.held_out}, {rules.limits.confidence:.0%}",
                str(len(x)),
                str(sum(s.fault for s in told)),
                f"{alone} ({alone / len(x):.2%})",
                f"{drifts:.1%}",
                f"{classes:.0%}",
                f"{long:.0%}",
                of_machines(guard, x, answers) if name == "synthetic-bearing" else "-",
            ]
        )
    return rows


def of_classes(guard: Guard, x: np.ndarray, y: np.ndarray, answers: np.ndarray, frames: int) -> float:
    runs = max(1, RUNS // 10)
    return float(np.mean([alarms(guard, x[y == k], answers[y == k], runs, frames) for k in np.unique(y)]))


def of_machines(guard: Guard, x: np.ndarray, answers: np.ndarray) -> str:
    """Twelve machines, by edgeticket/datasets/synthetic_bearing.py: four classes of a machine, then of the next."""
    machine = np.arange(len(x)) // 4 % 12
    seen = [alarms(guard, x[machine == m], answers[machine == m], max(1, RUNS // 10)) for m in range(12)]
    return f"{np.mean(seen):.0%}; {sum(share > 0.5 for share in seen)} of 12 machines in most runs"


def one_by_one(guard: Guard, frame: np.ndarray) -> Status:
    guard.reset()
    return guard.check(frame)


def alarms(guard: Guard, x: np.ndarray, answers: np.ndarray, runs: int, frames: int = WINDOWS) -> float:
    """The share of runs in which a drift is told; a frame that is drawn three times running is none of a stuck sensor."""
    guard = Guard(replace(guard.rules, stuck=0))
    told = [first(guard, x[own], answers[own]) < frames for own in drawn(np.arange(len(x)), runs, frames=frames)]
    return float(np.mean(told))


def drawn(x: np.ndarray, runs: int, seed: int = 3, frames: int = WINDOWS) -> Iterator[np.ndarray]:
    """Runs of frames with replacement."""
    random = np.random.default_rng(seed)
    for _ in range(runs):
        yield x[random.integers(0, len(x), frames)]


def first(guard: Guard, run: np.ndarray, answers: np.ndarray) -> int:
    """Frames before a drift or a fault is told; all: it is not."""
    guard.reset()
    for i, pair in enumerate(zip(run, answers.tolist(), strict=True)):
        if guard.judge(*pair) not in (Status.OK, Status.UNFAMILIAR):
            return i
    return len(run)


# shifts


def shifts(sets: dict[str, Data], networks: dict[str, Answers], guards: dict[str, Guard]) -> Rows:
    found: dict[str, dict[str, str]] = {}
    for name, guard in guards.items():
        data = sets[name]
        for what, change in changes(data):
            runs = (change(run) for run in drawn(data.certify[0], RUNS, 4))
            firsts = [first(guard, run, networks[name](run)) for run in runs]
            share, middle = np.mean([i < WINDOWS for i in firsts]), int(np.median(firsts))
            found.setdefault(what, {})[name] = f"{share:.1%}" + (f", {middle + 1}" if share >= 0.5 else "")
        strange = other(sets, name)
        firsts = [first(guard, run, networks[name](run)) for run in drawn(strange, RUNS, 4)]
        share, middle = np.mean([i < WINDOWS for i in firsts]), int(np.median(firsts))
        found.setdefault("other sensor", {})[name] = f"{share:.1%}, {middle + 1}"
    return [
        ["", *(f"{name}: share, median frame" for name in guards)],
        *([what, *own.values()] for what, own in found.items()),
    ]


def changes(data: Data) -> Iterator[tuple[str, Change]]:
    x = data.train[0]
    ends, spread = np.iinfo(x.dtype), float(x.std())
    top = 16 if data.name == "digits" else ends.max  # its pixels are counts of 0..16
    random = np.random.default_rng(6)

    def whole(values: np.ndarray) -> np.ndarray:
        return values.round().clip(ends.min, top).astype(x.dtype)

    yield "gain x2", lambda run: whole(2.0 * run)
    yield "gain x1.25", lambda run: whole(1.25 * run)
    yield "gain x1.1", lambda run: whole(1.1 * run)
    for share in (0.5, 0.1, 0.02):
        yield f"offset of {share} deviations of x", lambda run, share=share: whole(run + share * spread)
    yield "stuck", lambda run: np.broadcast_to(run[:1], run.shape)
    for times in (3, 1):
        noise = times * floor(x)
        yield f"noise {times}x added", lambda run, noise=noise: whole(run + noise * random.normal(size=run.shape))
    yield "blur, mean of 3 neighbours along each axis", lambda run: whole(blurred(run))


def floor(x: np.ndarray) -> float:
    """Deviation of the noise: of second differences (their median, for normal noise), at least 1 % of the range of bytes."""
    steps = np.abs(np.diff(x[:2000].astype(float), n=2, axis=-1))
    own = float(np.median(steps)) / 0.6745 / 6**0.5
    return max(own, 0.01 * float(x.max())) if x.dtype == np.uint8 else own


def blurred(x: np.ndarray) -> np.ndarray:
    values = x.astype(float)
    for axis in range(2, x.ndim):
        values = (np.roll(values, 1, axis) + values + np.roll(values, -1, axis)) / 3
    return values


def other(sets: dict[str, Data], name: str) -> np.ndarray:
    """Frames of WIRED[name], cut and scaled so that shape, type and strength fit."""
    x, own = sets[WIRED[name]].certify[0][:1000].astype(float), sets[name].train[0]
    if name == "digits":
        values = x[:, :, 2:26, 2:26].reshape(-1, 1, 8, 3, 8, 3).mean((3, 5)) * 16 / 255
    elif name == "fashion-mnist":
        values = np.pad(np.kron(x[:, 0], np.ones((3, 3)))[:, None] * 255 / 16, ((0, 0), (0, 0), (2, 2), (2, 2)))
    elif name == "synthetic-bearing":
        values = np.tile(x, (1, 1, 4)) * (own.std() / x.std())
    else:
        values = x[:, :, :256] * (4096 / np.sqrt(np.mean(np.square(x[:, :, :256]), 2, keepdims=True)))
    ends = np.iinfo(own.dtype)
    return values.round().clip(ends.min, ends.max).astype(own.dtype)


# costs

NETWORKS = (  # data, architecture, widths: masks at random, which does not matter for costs
    ("digits", "conv", (16, 32, 32)),
    ("fashion-mnist", "conv", (16, 32, 32)),
    ("fashion-mnist", "resnet8", ()),
    ("synthetic-bearing", "wave", ()),
    ("plaid", "wave", ()),
)
CALLS, BLOCK = 500 if "--quick" in sys.argv else 5000, 25


def costs(sets: dict[str, Data], guards: dict[str, Guard]) -> Rows:
    head = "network|data|ONNX Runtime|guard in C|share|ONNX Runtime|guard in numpy|share|M4 instructions|guard|share"
    rows = [head.split("|")]
    for name, architecture, widths in NETWORKS:
        what = architecture + (f":{','.join(map(str, widths))}" if widths else "")
        data, guard = sets[name], guards[name]
        model, x = network(data, architecture, widths), data.certify[0]
        core, core_check = instructions(model, guard, x)
        on_core = [f"{core:,}", f"{core_check:,}", f"{core_check / core:.1%}"]
        rows.append([what, name, *of_both(model, guard, x), *on_core])
        if name == "digits":
            other = Guard(guard.rules, compiled=False).judge
            rows.append([what, f"{name}, after other work", *turns(model, guard, x, other), *["-"] * 6])
        if architecture == "wave":
            floats = as_floats(data)
            own = Guard.fit(floats, confidence=NAMES[name])
            spent = of_both(network(floats, architecture, widths), own, floats.certify[0])
            rows.append([what, f"{name}, as float32", *spent, *["-"] * 3])
    return rows


def network(data: Data, architecture: str, widths: tuple[int, ...]) -> Model:
    plan = plugin("architectures", architecture).plan(*widths, input=data.train[0].shape[1:], classes=len(data.classes))
    return compact(Case(plan, zero_offset=True, keep=1, dtype=data.input.dtype).ticket())


def as_floats(data: Data) -> Data:
    """The same measurements by a sensor that gives floats, which are not whole."""
    parts = {part: (getattr(data, part)[0] * np.float32(0.1), getattr(data, part)[1]) for part in PARTS}
    return replace(data, **parts, input=replace(data.input, dtype="float32"))


def of_both(model: Model, guard: Guard, x: np.ndarray) -> list[str]:
    if not guard.compiled:
        raise SystemExit("the compiled guard is not built: pip install -e . with a C compiler")
    return turns(model, guard, x) + turns(model, Guard(guard.rules, compiled=False), x)


def turns(
    model: Model, guard: Guard, x: np.ndarray, other: Callable[[np.ndarray], object] = lambda frame: None
) -> list[str]:
    """An inference alone, what a guard adds that runs before and after it as in `Predictor`, and the share, on one thread: medians of
    the medians of BLOCK frames, without a guard and with one by turns, each frame after other work."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(to_bytes(to_onnx.build(model)), options, providers=["CPUExecutionProvider"])
    name, watch = session.get_inputs()[0].name, guard.watch

    def alone(frame: np.ndarray) -> float:
        start = time.perf_counter()
        session.run(None, {name: frame[None]})
        return time.perf_counter() - start

    def guarded(frame: np.ndarray) -> float:
        start = time.perf_counter()
        status = watch.check(frame)
        session.run(None, {name: frame[None]})
        if not status.fault:
            watch.follow(0)
        return time.perf_counter() - start

    def median(run: Callable[[np.ndarray], float], block: int) -> float:
        spent = []
        for i in range(block, block + BLOCK):
            other(x[i % len(x)])
            spent.append(run(x[i % len(x)]))
        return float(np.median(spent))

    pairs = [(median(alone, block), median(guarded, block)) for block in range(0, CALLS, BLOCK)]
    inference, added = np.median([(one, both - one) for one, both in pairs[len(pairs) // 10 :]], axis=0)
    return [f"{1e6 * inference:.0f} us", f"{1e6 * added:.1f} us", f"{added / inference:.1%}"]


def instructions(model: Model, guard: Guard, x: np.ndarray) -> tuple[int, int]:
    """Of an inference and of a check on an emulated Cortex-M4."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "net"
        to_c.export(model, folder, guard=guard)
        words = ["make", "-s", "-C", str(folder), "run", "BOARD=m4"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        own = next(line for line in told.splitlines() if line.startswith("instructions")).split()[1:]
        return max(map(int, own)), emulated(guard, folder, "net", x[:2], "m4")[-1]


if __name__ == "__main__":
    main()
