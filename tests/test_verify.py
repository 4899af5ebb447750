"""The chain of proof passes for what was exported from the ticket, and breaks for everything else."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import comb
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import CASES, Case, chain
from click.testing import CliRunner, Result
from onnx import numpy_helper

from edgeticket import compact as compact_module
from edgeticket import verify as verify_module
from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.data import Data, load
from edgeticket.errors import DataError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.export import export
from edgeticket.ops import Linear, conv
from edgeticket.reference import run
from edgeticket.ticket import Ticket, read_ticket
from edgeticket.verify import Link, Verification, verify

ROOT = Path(__file__).parent.parent
CASE = CASES["plain, 3 edges"]
STORED = {name: {"weights": name} for name in ("fp32", "cast8", "trit5", "seed")}
EXPORTS = {**STORED, "int8": {"precision": "int8"}}
TORCH = "passed" if find_spec("torch") else "not run"
WRONG_PATHS = {"none.onnx": "no such file", "a.ticket": "not an ONNX file", ".": "not a folder that"}
WRONG = 7  # examples of the certify part with another label than the network's answer


@dataclass(frozen=True)
class Place:
    """A ticket that knows its data, and data on which the network's answers have a margin of several codes."""

    folder: Path
    ticket: Path
    data: Path

    def export(self, name: str, source: Ticket | None = None, **options: str) -> Path:
        path = self.folder / name
        export(source or self.source, "onnx", path, overwrite=True, **options)
        return path

    @property
    def source(self) -> Ticket:
        return replace(CASE.ticket(), provenance={"data_digest": self.loaded.digest})

    @property
    def loaded(self) -> Data:
        return load(str(self.data))

    def verify(self, *artifacts: Path) -> Verification:
        return verify(self.ticket, artifacts, self.loaded)

    def command(self, *artifacts: Path, arguments: tuple[str, ...] = ()) -> Result:
        return CliRunner().invoke(
            main, ["verify", str(self.ticket), *map(str, artifacts), "-d", str(self.data), *arguments]
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("verify")
    place = Place(folder, folder / "a.ticket", folder / "own.npz")
    raw = CASE.raw(900)
    answers = np.sort(run(compact(CASE.ticket()), raw), axis=1)
    raw = raw[answers[:, -1] - answers[:, -2] > 0.01][:300]
    labels = run(compact(CASE.ticket()), raw).argmax(1)
    labels[:WRONG] = (labels[:WRONG] + 1) % 4
    train = {"x_train": raw, "y_train": np.arange(len(raw)) % 4}
    np.savez(place.data, **train, x_test=raw, y_test=labels)
    place.source.write(place.ticket)
    for name, options in EXPORTS.items():
        place.export(f"{name}.onnx", **options)
    return place


def outcomes(found: Verification) -> dict[str, str]:
    return {link.what: link.outcome for link in found.links}


def failed(found: Verification) -> list[Link]:
    return [link for link in found.links if link.outcome == "failed"]


def test_every_link_passes_for_what_was_exported(place: Place) -> None:
    found = place.verify(*(place.folder / f"{name}.onnx" for name in EXPORTS))
    assert outcomes(found) == {
        "compacted network": "passed",
        "fp32.onnx": "passed",
        "cast8.onnx": "passed",
        "trit5.onnx": "passed",
        "seed.onnx": "passed",
        "int8.onnx": "passed",
        "int8.onnx, layer by layer": "passed",
        "int8.onnx, answers": "passed",
        "masked torch network": TORCH,
    }
    assert found.passed
    found.require()
    for link in found.links:
        if link.outcome == "passed":
            assert link.examples > 0, link
            assert link.measured is not None, link
    assert found.digest == place.source.digest
    assert (found.ticket, found.purity, found.data) == ("a.ticket", "P2+stem", "own.npz")


def test_accuracy_is_counted_on_the_certify_part_with_its_interval(place: Place) -> None:
    found = place.verify(place.folder / "fp32.onnx", place.folder / "int8.onnx")
    n = len(place.loaded.certify[1])
    assert [row.what for row in found.rows] == ["a.ticket", "fp32.onnx", "int8.onnx", "integer network"]
    for row in found.rows:
        assert (row.figures["correct"], row.figures["of"]) == (n - WRONG, n)
        assert row.figures["accuracy"] == (n - WRONG) / n
        assert row.agreement == 1.0
        # Clopper-Pearson: at each end, as many right answers and more, or fewer, have probability 2.5 %
        for bound, counts in (
            (row.figures["low"], range(n - WRONG, n + 1)),
            (row.figures["high"], range(n - WRONG + 1)),
        ):
            tail = sum(comb(n, k) * bound**k * (1 - bound) ** (n - k) for k in counts)
            assert tail == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize(
    ("correct", "of", "low", "high"),
    [
        (10, 10, 0.025 ** (1 / 10), 1.0),  # p^10 = 0.025
        (1, 10, 1 - 0.975 ** (1 / 10), 0.4450161),  # 1 - (1 - p)^10 = 0.025
        (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),
        (9, 10, 0.5549839, 0.975 ** (1 / 10)),  # 10 p^9 (1 - p) + p^10 = 0.025
    ],
)
def test_the_interval_by_hand(correct: int, of: int, low: float, high: float, place: Place) -> None:
    labels = (np.arange(of) >= correct).astype(int)
    part = (place.loaded.certify[0][:of], labels)
    judge = verify_module._Judge(compact(place.source), replace(place.loaded, certify=part))
    row = judge.row("net", np.eye(4)[np.zeros(of, int)])
    assert (row.figures["correct"], row.figures["of"]) == (correct, of)
    assert row.figures["low"] == pytest.approx(low, abs=1e-6)
    assert row.figures["high"] == pytest.approx(high, abs=1e-6)


def edited(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target


def change_constant(part: str, by: Callable[[np.ndarray], None]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (t for t in model.graph.initializer if part in t.name)
        values = numpy_helper.to_array(tensor).copy()
        by(values)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def flip_largest(values: np.ndarray) -> None:
    values[np.unravel_index(np.abs(values).argmax(), values.shape)] *= -1


def raise_first(values: np.ndarray) -> None:
    values[0] += 1e-3


def make_nan(values: np.ndarray) -> None:
    values[0] = np.nan


def weight_name(place: Place, layer: str) -> str:
    names = [t.name for t in onnx.load(place.folder / "fp32.onnx").graph.initializer]
    (name,) = (name for name in names if name.startswith(layer) and "bias" not in name)
    return name


def of_another_seed(place: Place) -> Path:
    return place.export("bad.onnx", replace(place.source, seed=place.source.seed + 1))


def with_a_weight_changed(place: Place) -> Path:
    change = change_constant(weight_name(place, "l4"), flip_largest)
    return edited(place.folder / "fp32.onnx", place.folder / "bad.onnx", change)


def with_a_bias_changed(place: Place) -> Path:
    return edited(place.folder / "fp32.onnx", place.folder / "bad.onnx", change_constant("l4_bias", raise_first))


def with_a_bias_that_is_no_number(place: Place) -> Path:
    return edited(place.folder / "fp32.onnx", place.folder / "bad.onnx", change_constant("l4_bias", make_nan))


def int8_of_another_ticket(place: Place) -> Path:
    return place.export("bad.onnx", replace(place.source, seed=place.source.seed + 1), precision="int8")


def int8_of_other_ranges(place: Place) -> Path:
    quant = {name: replace(q, scale=q.scale * 1.01) for name, q in place.source.quant.items()}
    return place.export("bad.onnx", replace(place.source, quant=quant), precision="int8")


def of_five_outputs(place: Place) -> Path:
    wide = Case(chain((1, 8, 8), *(layer.op for layer in CASE.plan.layers[:-1]), Linear(5)))
    return place.export("bad.onnx", wide.ticket())


def of_another_input(place: Place) -> Path:
    return place.export("bad.onnx", Case(chain((2, 8, 8), *(layer.op for layer in CASE.plan.layers))).ticket())


def of_another_sensor(place: Place) -> Path:
    return place.export("bad.onnx", replace(CASE, dtype="int16").ticket())


def with_an_integer_output(place: Place) -> Path:
    def change(model: onnx.ModelProto) -> None:
        (output,) = model.graph.output
        model.graph.node.append(onnx.helper.make_node("Cast", [output.name], ["whole"], to=onnx.TensorProto.INT64))
        model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("whole", onnx.TensorProto.INT64, ["N", 4]))

    return edited(place.folder / "fp32.onnx", place.folder / "bad.onnx", change)


def cut_short(place: Place) -> Path:
    (place.folder / "bad.onnx").write_bytes((place.folder / "fp32.onnx").read_bytes()[:3000])
    return place.folder / "bad.onnx"


def empty(place: Place) -> Path:
    (place.folder / "bad.onnx").write_bytes(b"")
    return place.folder / "bad.onnx"


def of_noise(place: Place) -> Path:
    (place.folder / "bad.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    return place.folder / "bad.onnx"


BROKEN = {
    of_another_seed: "",
    with_a_weight_changed: "",
    with_a_bias_changed: "",
    with_a_bias_that_is_no_number: "not a finite number",
    int8_of_another_ticket: "",
    int8_of_other_ranges: "",
    of_five_outputs: r"float32 \[\d+, 5\] for \d+ examples, where 4 numbers each are expected",
    of_another_input: "",
    of_another_sensor: "",
    with_an_integer_output: "int64",
    cut_short: "not an ONNX file",
    empty: "not an ONNX file",
    of_noise: "not an ONNX file",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_file_that_is_not_the_tickets_breaks_the_chain_and_exits_4(
    broken: Callable, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Verification] = []
    monkeypatch.setattr(verify_module, "verify", lambda *given, **more: kept.append(verify(*given, **more)) or kept[-1])
    done = place.command(place.folder / "trit5.onnx", broken(place))
    assert done.exit_code == 4, done.output
    lines = done.stdout.splitlines()
    assert any(line.startswith("  failed   bad.onnx") for line in lines), done.stdout  # the report comes all the same
    assert any(line.startswith("  passed   trit5.onnx") for line in lines), done.stdout
    assert done.stderr.startswith("Error: bad.onnx is not the ")
    assert done.stderr.count("\n") == 1
    (found,) = kept
    assert not found.passed
    (first, *_) = failed(found)
    assert first.what == "bad.onnx"
    assert first.note or first.measured > first.allowed
    assert re.search(BROKEN[broken], first.note)
    with pytest.raises(EquivalenceError, match=r"bad\.onnx"):
        found.require()


def test_the_bias_that_was_changed_by_a_thousandth_is_measured(place: Place) -> None:
    (link,) = failed(place.verify(with_a_bias_changed(place)))
    outputs = run(compact(place.source), place.loaded.certify[0])
    assert link.measured == pytest.approx(1e-3 / np.abs(outputs).max(), rel=0.01)


def test_an_int8_file_with_ranges_of_its_own_differs_from_the_tickets(place: Place) -> None:
    links = failed(place.verify(int8_of_other_ranges(place)))
    assert [link.against for link in links] == ["the ticket's int8 graph, bit for bit"]


def test_compaction_that_changes_the_function_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compact_module.masked
    monkeypatch.setattr(compact_module, "masked", lambda ticket: real(replace(ticket, seed=ticket.seed + 1)))
    done = place.command(place.folder / "fp32.onnx")
    assert done.exit_code == 4
    assert "  failed   compacted network = the masked wide network" in done.stdout
    assert done.stderr.startswith("Error: compacted network is not the masked wide network: ")
    (link,) = failed(place.verify(place.folder / "fp32.onnx"))
    assert "outputs differ by" in link.note


def test_a_runtime_that_strays_from_the_integer_network_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The int8 file may be the ticket's own graph and still not be the specification."""
    from exporters import qdq

    real = qdq.compare
    monkeypatch.setattr(qdq, "compare", lambda model, raw: {**real(model, raw), "l2": 2})
    monkeypatch.setattr(verify_module, "EQUAL_ANSWERS", 1.01)
    links = failed(place.verify(place.folder / "int8.onnx"))
    assert [(link.what, link.measured) for link in links] == [
        ("int8.onnx, layer by layer", 2),
        ("int8.onnx, answers", 1.0),
    ]


def test_a_torch_network_that_computes_something_else_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from edgeticket import masked

    real = masked.of_ticket
    monkeypatch.setattr(masked, "of_ticket", lambda ticket: real(replace(ticket, seed=ticket.seed + 1)))
    done = place.command(place.folder / "fp32.onnx")
    assert done.exit_code == 4
    assert done.stderr.startswith("Error: masked torch network is not the compacted network: ")
    (link,) = failed(place.verify(place.folder / "fp32.onnx"))
    assert link.measured > link.allowed


def test_what_was_not_run_is_said_and_never_passes(place: Place) -> None:
    found = place.verify()
    assert outcomes(found) == {"compacted network": "passed", "masked torch network": TORCH, "ONNX": "not run"}
    assert "  not run  ONNX = the compacted network (no ONNX file was given)" in found.text().splitlines()
    none = replace(found, links=tuple(link for link in found.links if link.outcome == "not run"))
    assert none.links
    assert not none.passed
    assert not replace(found, links=()).passed


def test_a_ticket_without_integer_form_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise UnsupportedError("layer l1: its range is too small")

    monkeypatch.setattr(verify_module, "integerise", refuse)
    found = place.verify(place.folder / "fp32.onnx")
    assert outcomes(found)["integer network"] == "not run"
    assert "integer network" not in [row.what for row in found.rows]
    assert found.passed


def test_other_data_are_not_taken_for_the_searchs(place: Place, tmp_path: Path) -> None:
    assert place.verify().same_data
    raw, labels = place.loaded.certify
    raw = raw.copy()
    raw[0, 0, 0, 0] ^= 1
    train = {"x_train": raw, "y_train": np.arange(len(raw)) % 4}
    np.savez(tmp_path / "own.npz", **train, x_test=raw, y_test=labels)
    found = verify(place.ticket, [], load(str(tmp_path / "own.npz")))
    assert not found.same_data
    assert "NOT the data of the search" in found.text()
    assert "NOT the data" not in place.verify().text()


def test_json_is_the_report(place: Place) -> None:
    done = place.command(place.folder / "fp32.onnx", arguments=("--format", "json"))
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(place.verify(place.folder / "fp32.onnx").to_json()))
    assert told["passed"] is True
    done = place.command(with_a_bias_that_is_no_number(place), arguments=("--format", "json"))
    assert done.exit_code == 4
    told = json.loads(done.stdout, parse_constant=pytest.fail)  # NaN is not JSON
    assert told["passed"] is False


def test_wrong_requests_are_refused(place: Place, tmp_path: Path) -> None:
    for name in WRONG_PATHS:
        with pytest.raises(UsageError, match=WRONG_PATHS[name]):
            place.verify(place.folder / name)
    raw, labels = place.loaded.certify
    wrong = {
        "2x8x8": {"x": np.concatenate([raw, raw], 1), "y": labels},
        "int16": {"x": raw.astype(np.int16), "y": labels},
        "label 4": {"x": raw, "y": labels + 1},
    }
    for told, part in wrong.items():
        path = tmp_path / f"{told}.npz"
        y_train = np.arange(len(raw)) % (1 + part["y"].max())
        np.savez(path, x_train=part["x"], y_train=y_train, x_test=part["x"], y_test=part["y"])
        with pytest.raises(DataError, match=told):
            verify(place.ticket, [], load(str(path), layout="channels-first"))


def test_without_torch(place: Place) -> None:
    files = [str(place.folder / f"{name}.onnx") for name in EXPORTS]
    arguments = ["verify", str(place.ticket), *files, "-d", str(place.data)]
    code = f"import sys; sys.modules['torch'] = None\nfrom edgeticket.cli import main\nmain({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("  passed ") == 8
    assert "  not run  masked torch network = the compacted network (torch is not installed" in done.stdout


# other tasks


def judged(task: str, folder: Path) -> Place:
    """A ticket whose outputs are nearly the targets, or whose reconstruction is nearly the input where it is normal."""
    place = Place(folder, folder / "a.ticket", folder / "own.npz")
    rng, count = np.random.default_rng(0), 450
    if task == "regression":
        plan, raw = CASE.plan, CASE.raw(count)
    else:
        plan, raw = (
            chain((1, 8, 8), conv(8), conv(1, norm=False, activation="none")),
            rng.integers(0, 256, (count, 1, 8, 8), np.uint8),
        )
    ticket = replace(Case(plan, edges=3, density=0.4).ticket(), task=task)
    outputs = run(compact(ticket), raw)
    if task == "regression":
        y = (outputs + rng.normal(0, 0.05, outputs.shape)).astype(np.float32)
    else:
        y = (np.arange(count) % 3 == 2).astype(np.int64)
        raw[y == 1] //= 2
    np.savez(place.data, x_train=raw[150:], y_train=y[150:], x_test=raw[:150], y_test=y[:150])
    digest = load(place.data, task=task).digest
    replace(ticket, provenance={"data_digest": digest}).write(place.ticket)
    for name, options in (("fp32", {}), ("int8", {"precision": "int8"})):
        export(read_ticket(place.ticket), "onnx", folder / f"{name}.onnx", overwrite=True, **options)
    return place


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return judged("regression", tmp_path_factory.mktemp("regression"))


@pytest.fixture(scope="module")
def anomaly(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return judged("anomaly", tmp_path_factory.mktemp("anomaly"))


def test_a_regression_is_verified_in_its_units(regression: Place) -> None:
    data = load(regression.data, task="regression")
    found = verify(regression.ticket, [regression.folder / "fp32.onnx", regression.folder / "int8.onnx"], data)
    assert found.passed
    assert found.same_data
    raw, y = data.certify
    errors = (run(compact(read_ticket(regression.ticket)), raw) - y) ** 2
    assert [row.what for row in found.rows] == ["a.ticket", "fp32.onnx", "int8.onnx", "integer network"]
    for row in found.rows:
        near = {"rel": 1e-9} if row.what == "a.ticket" else {"rel": 1e-4} if row.what == "fp32.onnx" else {"abs": 0.02}
        assert row.figures["rmse"] == pytest.approx(np.sqrt(errors.mean(0)).tolist(), **near)
        assert (row.figures["of"], row.agreement) == (150, None)
    assert "int8.onnx, answers" not in outcomes(found)  # there is no answer that could be equal
    assert "int8.onnx, layer by layer" in outcomes(found)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["what"] for row in told["rmse"]] == [row.what for row in found.rows]
    assert found.text().count("RMSE target 0 ") == 4


def test_an_anomaly_detector_is_verified_at_its_threshold(anomaly: Place) -> None:
    data = load(anomaly.data, task="anomaly")
    found = verify(anomaly.ticket, [anomaly.folder / "fp32.onnx", anomaly.folder / "int8.onnx"], data)
    assert found.passed
    model = compact(read_ticket(anomaly.ticket))

    def errors(raw: np.ndarray) -> np.ndarray:
        return ((run(model, raw) - model.inputs["x"].apply(raw, np.float64)) ** 2).mean((1, 2, 3))

    (raw, y), (select, labels) = data.certify, data.select
    score, normal = errors(raw), np.sort(errors(select)[labels == 0])
    threshold = normal[len(normal) - 1 - (len(normal) - 1) // 100]
    figures = found.rows[0].figures
    assert figures["threshold"] == pytest.approx(threshold, rel=1e-5)
    assert figures["auc"] == pytest.approx((score[y == 1][:, None] > score[y == 0]).mean(), abs=1e-9)
    for name, label in (("detected", 1), ("false_alarms", 0)):
        assert figures[name]["count"] == (score[y == label] > figures["threshold"]).sum()
        assert figures[name]["of"] == (y == label).sum()
    agreed = {row.what: row.agreement for row in found.rows}
    assert agreed["a.ticket"] == agreed["fp32.onnx"] == 1.0
    assert all(0.9 < share <= 1 for share in agreed.values())
    assert outcomes(found)["int8.onnx, answers"] == "passed"
    assert "auc" in found.to_json()["auc"][0]["figures"]
    assert "% as the ticket" in found.text()


def test_alarms_that_stray_from_the_integer_network_fail(anomaly: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of an anomaly detector are its alarms: one that is never quiet has other ones."""
    data = load(anomaly.data, task="anomaly")
    real = verify_module.run_integer
    monkeypatch.setattr(verify_module, "run_integer", lambda model, raw: 255 - real(model, raw))
    found = verify(anomaly.ticket, [anomaly.folder / "int8.onnx"], data)
    assert outcomes(found)["int8.onnx, answers"] == "failed"
    assert found.rows[-1].agreement < 0.9


def test_data_of_another_task_or_number_of_targets_are_refused(
    place: Place, regression: Place, anomaly: Place, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="are for classification, the ticket is for regression"):
        verify(regression.ticket, [], place.loaded)
    with pytest.raises(DataError, match="are for regression, the ticket is for classification"):
        verify(place.ticket, [], load(regression.data, task="regression"))
    contents = dict(np.load(regression.data))
    few = {name: values[:, :3] if name.startswith("y") else values for name, values in contents.items()}
    np.savez(tmp_path / "few.npz", **few)
    with pytest.raises(DataError, match=r"need 3 outputs, the network's output is \(4,\)"):
        verify(regression.ticket, [], load(tmp_path / "few.npz", task="regression"))
    maps = replace(Case(chain((1, 8, 8), conv(8), conv(4))).ticket(), task="classification")
    maps.write(tmp_path / "maps.ticket")
    with pytest.raises(DataError, match=r"need 4 outputs, the network's output is \(4, 8, 8\)"):
        verify(tmp_path / "maps.ticket", [], place.loaded)


# C


@pytest.fixture(scope="module")
def folder(place: Place) -> Path:
    export(place.source, "c", place.folder / "board")
    return place.folder / "board"


def test_exported_c_is_run_over_the_certify_part(place: Place, folder: Path) -> None:
    made = place.verify(folder)
    (link,) = (link for link in made.links if link.what == "board")
    assert (link.outcome, link.against, link.measured, link.allowed) == ("passed", "the integer network", 0, 0)
    assert link.examples == len(place.loaded.certify[0])
    rows = {row.what: row.figures for row in made.rows}
    assert rows["board"] == rows["integer network"]


def test_another_networks_c_fails(place: Place, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "board"
    export(replace(CASE, seed=8).ticket(), "c", other)
    made = place.verify(other)
    assert not made.passed
    assert place.command(other).exit_code == 4
