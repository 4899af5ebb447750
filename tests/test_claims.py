"""A record is believed only as far as its evidence goes: one altered field is refused, under its seal and under a new one."""

import copy
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import poc_records
import pytest
from cases import CASES
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

from edgeticket import data  # noqa: E402
from edgeticket.calibration import calibrate  # noqa: E402
from edgeticket.claims import TAKEN, again, check, delivered  # noqa: E402
from edgeticket.claims.leaves import Near, agrees, anonymous, leaves, within  # noqa: E402
from edgeticket.claims.sizes import size  # noqa: E402
from edgeticket.cli import main  # noqa: E402
from edgeticket.errors import DataError, EdgeTicketError, EquivalenceError, UnsupportedError, UsageError  # noqa: E402
from edgeticket.model import Float, Model  # noqa: E402
from edgeticket.ops import Gather, Norm, PRelu  # noqa: E402
from edgeticket.packet import packed_bytes  # noqa: E402
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.poc import Request, poc, record  # noqa: E402
from edgeticket.post_training import quantised  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import Input  # noqa: E402
from exporters import qdq, to_onnx  # noqa: E402
from exporters.graph import to_bytes  # noqa: E402

DIGITS = data.load("digits")
Path_ = tuple[str | int, ...]

# altering one leaf


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Of every leaf."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not value or not inside:
        yield path
    for key, inner in inside:
        yield from places(inner, (*path, key))


def at(value: Any, path: Path_) -> Any:
    return functools.reduce(lambda inner, key: inner[key], path, value)


def altered(found: dict[str, Any], path: Path_) -> dict[str, Any]:
    """With one leaf changed to a value of its own kind."""
    made = copy.deepcopy(found)
    at(made, path[:-1])[path[-1]] = other(at(found, path))
    return made


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 + 0.25
    if isinstance(value, str):
        return f"{value}x" if not value or not value[-1].isdigit() else value[:-1] + str((int(value[-1]) + 1) % 10)
    return [1] if value == [] else "x"


def name(path: Path_) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


@pytest.mark.parametrize("task", ["classification", "regression", "anomaly"])
def test_the_seal_refuses_every_leaf_that_is_altered_alone(task: str, tmp_path: Path) -> None:
    found, path = poc_records.record(task, seeds=2, failures=1), tmp_path / "poc.json"
    for row in found["chosen"]["bench"]:
        del row["samples_ms"][2:]
    found["seal"] = record.seal(found)
    path.write_bytes(record.canonical(found))
    assert record.read(path) == found
    kinds = {anonymous(name(place)): place for place in places(found)}
    if task != "classification":  # the leaves of every task are altered once
        for place in places(poc_records.record("classification", seeds=2, failures=1)):
            kinds.pop(anonymous(name(place)), None)
    assert kinds
    for place in kinds.values():
        path.write_bytes(record.canonical(altered(found, place)))
        with pytest.raises((EquivalenceError, UsageError), match=r"seal|not a record of the format"):
            check(path)


def test_a_number_may_be_off_by_what_near_says_and_by_no_more() -> None:
    assert agrees(0.1, Near(0.11, 0.011))
    assert not agrees(0.1, Near(0.12, 0.011))
    assert not agrees("0.11", Near(0.11, 1))
    assert not agrees(True, Near(1, 0))
    assert agrees(1.0, 1)
    assert agrees(0.1 + 0.2, 0.3)
    assert not agrees(0.3001, 0.3)
    assert not agrees(1, True)
    assert not agrees("a", "b")
    assert not agrees(None, 0)
    assert not agrees([], {})


def test_leaves_have_names_and_places() -> None:
    found = {"a": [{"b": 1}, {"b": []}], "c": {}}
    assert list(leaves(found)) == [("a[0].b", 1), ("a[1].b", []), ("c", {})]
    assert anonymous("a[0].b[12]") == "a[].b[]"
    assert within("a[3].b", "a[].b")
    assert within("a[3].b.c", "a[].b")
    assert within("a[3].b[0]", "a[].b")
    assert not within("a[3].bc", "a[].b")


# what a rival's file tells of its size


def float_model(plan: Plan, sensor: Input) -> Model:
    rng = np.random.default_rng(0)
    weights = {x.name: Float(rng.normal(size=plan.weight_shape(x)).astype(np.float32)) for x in plan.weighted()}
    channels = {x.name: plan.shapes[x.name][0] for x in plan.layers}
    scale, bias = (
        {x.name: rng.uniform(0.5, 1.5, channels[x.name]).astype(np.float32) for x in plan.scaled()} for _ in range(2)
    )
    slope = {x.name: np.full(channels[x.name], 0.2, np.float32) for x in plan.layers if isinstance(x.op, PRelu)}
    return Model(plan, weights, scale, bias, {next(iter(plan.inputs)): sensor}, {}, slope=slope)


CONSTANT = "one channel"  # some of its filters are, rounded
ONE = [
    name for name, case in CASES.items() if len(case.plan.inputs) == 1 and case.dtype == "uint8" and name != CONSTANT
]


@pytest.mark.parametrize("name", ONE)
def test_bytes_and_work_follow_from_the_weights_in_a_file(name: str) -> None:
    wide = CASES[name].plan
    gathers = any(isinstance(layer.op, Gather) for layer in wide.layers)
    rounded = any(isinstance(layer.op, Norm | PRelu) for layer in wide.layers)
    for model, content, silent in zip(*narrower(wide), (gathers, gathers or rounded), strict=True):
        found = size(content, wide, Data_(next(iter(model.inputs.values()))))  # type: ignore[arg-type]
        assert found["widths"] == model.plan.widths()
        assert found["macs"] == sum(model.plan.macs().values())
        assert ("bytes" not in found) == silent
        assert silent or found["bytes"] == sum(packed_bytes(model).values())


def test_bytes_do_not_follow_where_a_constant_filter_lost_its_weights() -> None:
    wide = CASES[CONSTANT].plan
    (whole, small), (float_file, int8_file) = narrower(wide)
    told = Data_(next(iter(whole.inputs.values())))
    assert size(float_file, wide, told)["bytes"] == sum(packed_bytes(whole).values())  # type: ignore[arg-type]
    assert "bytes" not in size(int8_file, wide, told)  # type: ignore[arg-type]
    assert small.plan == whole.plan


def narrower(wide: Plan) -> tuple[tuple[Model, Model], tuple[bytes, bytes]]:
    """A float network of two thirds of the channels and its int8 form, and their files."""
    kept = {key: np.arange(len(group.ids)) % 3 != 1 for key, group in wide.groups.items() if not group.fixed}
    (shape,) = wide.inputs.values()
    whole = float_model(wide.narrow(wide.fill(kept)), Input("uint8", (3.0,) * shape[0], (0.02,) * shape[0]))
    raw = np.random.default_rng(1).integers(0, 256, (4, *shape)).astype(np.uint8)
    small = quantised(whole)
    small = replace(small, quant=calibrate(small, raw))
    return (whole, small), (to_bytes(to_onnx.build(whole)), to_bytes(qdq.build(small)))


class Data_:
    """What of data decides bytes."""

    task, target_offset, target_step = "classification", (), ()

    def __init__(self, sensor: Input) -> None:
        self.input = sensor


def test_a_file_of_another_network_has_no_size_here() -> None:
    one, other = CASES["plain"].plan, CASES["depthwise"].plan
    content = to_bytes(to_onnx.build(float_model(one, Input("uint8", (3.0,), (0.02,)))))
    with pytest.raises(UnsupportedError, match="layers with weights"):
        size(content, other, Data_(Input("uint8", (3.0,), (0.02,))))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="not an ONNX file"):
        size(content[:-9], one, Data_(Input("uint8", (3.0,), (0.02,))))  # type: ignore[arg-type]


# a real record


class Here:
    """A pool without processes."""

    def run(
        self, function: Callable[..., Any], shared: Any, items: Any, go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[Any, Any]]:
        for item in items:
            if not go_on():
                return
            yield item, function(shared, item)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small proof of concept on real digits, with a budget of bytes that some seeds miss."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    request = Request("conv:4,8,8", "accuracy >= float - 0.2", Settings(epochs=2, batch=64), seeds=3)
    origin = {"command": "edgeticket poc", "name": "digits", "data": "digits"}
    origin |= {"layout": "auto", "task": "auto", "images": None}
    poc(request, DIGITS, folder, Here(), origin=origin)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def quick(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder. What is run again is run once for all records that are checked beside it."""
    folder = tmp_path / "digits"
    shutil.copytree(made, folder)
    kept: dict[Any, Any] = {}

    def once(function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            own = (function.__name__, key(*values))
            if own not in kept:
                kept[own] = function(*values)
            return kept[own]

        return call

    monkeypatch.setattr(again, "reached", once(again.reached, lambda onnx, data: onnx))
    by_files = once(
        again.reached_by_files, lambda paths, data, elsewhere: (*(path.read_bytes() for path in paths), elsewhere)
    )
    monkeypatch.setattr(again, "reached_by_files", by_files)
    monkeypatch.setattr(again, "size", once(again.size, lambda onnx, plan, data: onnx))
    monkeypatch.setattr(again, "verify", once(again.verify, lambda ticket, files, data: (ticket, tuple(files))))
    monkeypatch.setattr(again, "describe", once(again.describe, lambda ticket: ticket.digest))
    monkeypatch.setattr(again, "confusion", once(again.confusion, lambda ticket, data: ticket.digest))
    monkeypatch.setattr(again, "summary", once(again.summary, lambda data: data.digest))
    monkeypatch.setattr(again, "_onnx", once(again._onnx, lambda ticket: ticket.digest))
    monkeypatch.setattr(again, "read_ticket", once(again.read_ticket, lambda path: path))
    monkeypatch.setattr(delivered, "_possible", lambda ticket, format, what: True)
    return folder


def resealed(folder: Path, found: dict[str, Any]) -> Path:
    record.write(found, folder / record.NAME)
    return folder / record.NAME


@pytest.mark.slow
def test_a_record_is_borne_out_and_what_is_not_derived_is_named(made: Path) -> None:
    told = check(made / record.NAME)
    found = record.read(made)
    assert told.seal == found["seal"]
    assert told.derived["rows"] > 70
    assert told.derived["chosen"] > 300
    named = {place for places in told.taken.values() for place in places}
    assert {"rows[].cpu_seconds", "rows[].latency_ms", "environment", "rows[].curve"} <= named
    assert not named & {"rows[].certify", "rows[].bytes", "rivals[].bytes", "chosen.chain.links[]", "rivals[].certify"}
    assert "1,1" in told.text() or sum(told.derived.values()) > 900
    assert check(made, DIGITS) == check(str(made))


OTHERS = {
    "regression": ("mlp:8,8", "rmse <= float + 1", ""),
    "anomaly": ("mlp:8,4,8", "auc >= float - 0.4", ""),
    "a budget, met, and a control": ("conv:16,16,16", "accuracy >= float - 0.3", "macs=40K,packet=1500"),
    "a budget that no width meets": ("conv:4,8,8", "accuracy >= float - 0.3", "packet=40"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_other_records_are_borne_out_too(what: str, tmp_path: Path) -> None:
    model, success, budget = OTHERS[what]
    given = DIGITS
    if what == "regression":
        given = data.load(str(_regression(tmp_path / "made.npz")))
    if what == "anomaly":
        given = data.load("shuttle", images=1000)
    request = Request(model, success, Settings(epochs=1, batch=64), budget=budget, seeds=2)
    origin = {"command": "edgeticket poc", "name": "made", "data": given.name, "layout": "auto", "task": "auto"}
    poc(request, given, tmp_path / "made", Here(), origin={**origin, "images": None})  # type: ignore[arg-type]
    told = check(tmp_path / "made", given)
    controls = [row for row in record.read(tmp_path / "made")["rivals"] if row["name"] == "control"]
    assert bool(controls) == (what == "a budget, met, and a control")
    assert ("not told by a rival's file" in told.taken) == bool(controls)
    found = record.read(tmp_path / "made")
    row = next((i for i, own in enumerate(found["rows"]) if "failed" not in own), None)
    for key in ("certify", "bytes") if row is not None else ():
        with pytest.raises(EquivalenceError, match=rf"rows\[{row}\].{key} is"):
            check(resealed(tmp_path / "made", altered(found, ("rows", row, key))), given)  # type: ignore[arg-type]


def _regression(path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6)).astype(np.float32)
    np.savez(path, x_train=x, y_train=np.stack([3 * x[:, 0] + x[:, 1] ** 2, x[:, 2]], 1).astype(np.float32))
    return path


@pytest.mark.slow
def test_under_a_new_seal_a_derivable_leaf_that_is_altered_is_refused(quick: Path) -> None:
    """One leaf of every name."""
    found = record.read(quick)
    chosen = {anonymous(name(place)): place for place in derivable(found)}
    assert len(chosen) > 150
    assert believed(quick, found, list(chosen.values())) == []


@pytest.mark.soak
def test_under_a_new_seal_every_derivable_leaf_that_is_altered_is_refused(quick: Path) -> None:
    found = record.read(quick)
    chosen = list(derivable(found))
    assert len(chosen) > 1000
    assert believed(quick, found, chosen) == []


def believed(folder: Path, found: dict[str, Any], chosen: list[Path_]) -> list[str]:
    """Names of the leaves that may be altered and nobody notices."""
    check(folder)
    names = []
    for place in chosen:
        try:
            check(resealed(folder, altered(found, place)))
            names.append(name(place))
        except EdgeTicketError:
            pass
    return names


def derivable(found: dict[str, Any]) -> Iterator[Path_]:
    """Leaves that are not in TAKEN, and what TAKEN holds in general but this record's evidence tells."""
    taken = [place for places in TAKEN.values() for place in places]
    for place in places(found):
        own = name(place)
        told = own.startswith(("chosen.chain.", "request.settings.")) and not own.endswith(".float_step")
        told = told or anonymous(own) in ("rivals[].bytes", "rivals[].what", "chosen.bench[].name")
        if own != "seal" and (told or not any(within(own, each) for each in taken)):
            yield place


@pytest.mark.slow
def test_what_is_left_out_is_missed(quick: Path) -> None:
    found = record.read(quick)
    for path in (("rows",), ("sparser",), ("rivals",), ("chosen", "chain", "links"), ("chosen", "chain", "accuracy")):
        for i in range(len(at(found, path))):
            less = copy.deepcopy(found)
            del at(less, path)[i]
            with pytest.raises(EquivalenceError):
                check(resealed(quick, less))
    for path in (("chosen", "files"), ("chosen", "bench")):
        less = copy.deepcopy(found)
        at(less, path).pop()
        with pytest.raises(EquivalenceError, match=name(path)):
            check(resealed(quick, less))
    for key in ("verdict", "bar", "indicators", "data", "rows", "environment"):
        with pytest.raises(EquivalenceError):
            check(resealed(quick, {own: value for own, value in found.items() if own != key}))
    with pytest.raises(EquivalenceError, match="chosen"):
        check(resealed(quick, {**found, "chosen": None}))
    for asked in (2, 4):
        with pytest.raises(EquivalenceError, match=f"3 of {asked} seeds"):
            check(resealed(quick, {**found, "request": {**found["request"], "seeds": asked}}))


@pytest.mark.slow
def test_what_nobody_writes_is_refused(quick: Path) -> None:
    found = record.read(quick)
    with pytest.raises(EquivalenceError, match="certified is 'yes' in the record, and nothing derives it"):
        check(resealed(quick, {**found, "certified": "yes"}))
    for place in (("rows", 0), ("chosen",), ("indicators", "success"), ("chosen", "chain")):
        more = copy.deepcopy(found)
        at(more, place)["note"] = "approved"
        with pytest.raises(EquivalenceError, match="nothing derives it"):
            check(resealed(quick, more))
    for strange in (None, 7, "x", [], {}, True, -1, 1e308):
        for place in (("rows",), ("rows", 0), ("rows", 0, "seed"), ("request",), ("chosen",), ("rivals", 0, "name")):
            wrong = copy.deepcopy(found)
            at(wrong, place[:-1])[place[-1]] = strange
            with pytest.raises(EdgeTicketError):
                check(resealed(quick, wrong))


@pytest.mark.slow
def test_evidence_that_was_swapped_is_noticed(quick: Path) -> None:
    check(quick)
    pairs = {
        "tickets/seed-0.ticket": "tickets/seed-1.ticket",
        "digits.ticket": "tickets/sparser-0.0208-0.ticket",
        "rivals/float-0.onnx": "rivals/float-1.onnx",
        "rivals/pruned-0.onnx": "rivals/pruned-1.onnx",
        "digits.onnx": "digits-int8.onnx",
    }
    for path, instead in pairs.items():
        content = (quick / path).read_bytes()
        (quick / path).write_bytes((quick / instead).read_bytes())
        with pytest.raises(EdgeTicketError):
            check_uncached(quick)
        (quick / path).unlink()
        with pytest.raises(EquivalenceError, match=r"not there|belong there"):
            check_uncached(quick)
        (quick / path).write_bytes(content)
    (quick / "digits-c" / "extra.c").write_text("int x;")
    with pytest.raises(EquivalenceError, match=r"chosen.files\[2\]"):
        check_uncached(quick)


def check_uncached(folder: Path) -> None:
    """In a folder of another name, which nothing is remembered of."""
    other = folder.with_name(f"copy-{len(list(folder.parent.iterdir()))}")
    shutil.copytree(folder, other)
    check(other)


@pytest.mark.slow
def test_no_path_of_a_record_leads_out_of_its_folder(quick: Path) -> None:
    found = record.read(quick)
    shutil.copy(quick / "digits.ticket", quick.parent / "digits.ticket")
    for away in ("../digits", str(quick.parent / "digits")):
        wrong = copy.deepcopy(found)
        wrong["request"]["name"] = away
        wrong["chosen"]["ticket"] = f"{away}.ticket"
        with pytest.raises(EquivalenceError, match="not there"):
            check(resealed(quick, wrong))


@pytest.mark.slow
def test_the_command_says_it_and_exits_with_4(made: Path, tmp_path: Path) -> None:
    def call(*words: str) -> Any:
        return CliRunner().invoke(main, ["verify", *words])

    path = str(made / record.NAME)
    done = call("--claims", path, "-d", "digits", "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["passed"]
    assert call("--claims", path, "-d", "plaid").exit_code == DataError.exit_code
    assert call("--claims", path, path).exit_code == UsageError.exit_code
    assert call("--claims", str(tmp_path)).exit_code == UsageError.exit_code
    found = record.read(made)
    found["rows"][1]["bytes"] -= 1
    (tmp_path / "digits").mkdir()
    shutil.copytree(made, tmp_path / "digits", dirs_exist_ok=True)
    done = call("--claims", str(resealed(tmp_path / "digits", found)))
    assert done.exit_code == EquivalenceError.exit_code
    assert "rows[1].bytes" in done.stderr
