"""The tickets in sample_models/: small, unaltered, and still computing what they did when they were made."""

import shlex

import numpy as np
import pytest

from edgeticket import integer, reference
from edgeticket.cli import main
from edgeticket.compact import compact, prove
from edgeticket.data import load
from edgeticket.export import export
from edgeticket.ticket import read_ticket
from sample_models import make

NAMES = sorted(path.stem for path in make.FOLDER.glob("*.ticket"))
LARGEST = 16 * 1024


def vectors(name: str) -> dict[str, np.ndarray]:
    with np.load(make.FOLDER / f"{name}.npz") as file:
        return dict(file)


def test_digits_are_there_and_every_ticket_has_its_command() -> None:
    assert "digits" in NAMES
    assert set(NAMES) <= set(make.SAMPLES)
    assert sorted(path.stem for path in make.FOLDER.glob("*.npz")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_canonical(name: str) -> None:
    path = make.FOLDER / f"{name}.ticket"
    assert path.stat().st_size < LARGEST
    assert (make.FOLDER / f"{name}.npz").stat().st_size < LARGEST
    assert read_ticket(path).to_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_the_one_that_the_command_asks_for(name: str) -> None:
    words = shlex.split(make.SAMPLES[name])
    asked = dict(zip(words[1::2], words[2::2], strict=True))
    ticket = read_ticket(make.FOLDER / f"{name}.ticket")
    settings = ticket.provenance["settings"]
    widths = [int(width) for width in asked["-m"].partition(":")[2].split(",")]
    assert [*ticket.plan.widths().values()][:-1] == widths
    assert ticket.provenance["data"] == asked["-d"]
    assert ticket.seed == int(asked["--seed"])
    for option in ("density", "epochs", "threads", "seed"):
        if f"--{option}" in asked:
            assert settings[option] == float(asked[f"--{option}"])
    assert str(make.FOLDER) not in str(ticket.provenance)


@pytest.mark.parametrize("name", NAMES)
def test_golden_vectors(name: str) -> None:
    ticket, golden = read_ticket(make.FOLDER / f"{name}.ticket"), vectors(name)
    model = compact(ticket)
    assert (len(golden["raw"]), golden["outputs"].dtype, golden["codes"].dtype) == (make.GOLDEN, np.float64, np.uint8)
    assert len(np.unique(golden["outputs"].argmax(1))) > 2  # not one answer for everything
    outputs = reference.run(model, golden["raw"])
    assert np.abs(outputs - golden["outputs"]).max() <= 1e-9 * np.abs(golden["outputs"]).max()
    codes = integer.run(integer.integerise(model), golden["raw"])
    assert (codes == golden["codes"]).all()
    assert prove(ticket, golden["raw"]) <= 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_onnx_gives_the_golden_outputs(name: str, tmp_path) -> None:
    from exporters import to_onnx

    golden = vectors(name)
    export(read_ticket(make.FOLDER / f"{name}.ticket"), "onnx", tmp_path / "a.onnx", weights="trit5")
    off = to_onnx.run(tmp_path / "a.onnx", golden["raw"]) - golden["outputs"]
    assert np.abs(off).max() <= reference.TOLERANCE * np.abs(golden["outputs"]).max()


def test_digits_accuracy_is_the_recorded_one() -> None:
    golden, data = vectors("digits"), load("digits")
    ticket = read_ticket(make.FOLDER / "digits.ticket")
    assert ticket.provenance["data_digest"] == data.digest
    raw, labels = data.certify
    assert (golden["raw"] == raw[: make.GOLDEN]).all()
    correct = int((reference.run(compact(ticket), raw).argmax(1) == labels).sum())
    assert (correct, len(labels)) == (golden["correct"], golden["of"])
    assert correct / len(labels) > 0.95


def test_the_readme_is_of_these_files() -> None:
    assert (make.FOLDER / "README.md").read_text(encoding="utf-8") == make.readme()


def test_making_one_twice_gives_the_same_bytes(tmp_path) -> None:
    pytest.importorskip("torch")
    command = make.SAMPLES["digits"].replace("--epochs 40", "--epochs 1")
    assert command != make.SAMPLES["digits"]
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make.make("digits", command, tmp_path / name)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert made[0].keys() == {"digits.ticket", "digits.npz"}
    assert made[0] == made[1]


def test_absent_data_leave_the_files_as_they_are(tmp_path, monkeypatch, capsys) -> None:
    from edgeticket.datasets import fashion_mnist

    monkeypatch.setattr(make, "FOLDER", tmp_path)
    monkeypatch.setattr(make, "readme", lambda: "")
    monkeypatch.setattr(fashion_mnist.read, "__defaults__", (tmp_path / "absent",))
    (tmp_path / "fashion.ticket").write_bytes(b"committed")
    make.make_all(["fashion"])
    assert (tmp_path / "fashion.ticket").read_bytes() == b"committed"
    assert not (tmp_path / "fashion.npz").exists()
    told = capsys.readouterr().err
    assert "fashion.ticket stays as it was" in told
    assert "apt-get install dataset-fashion-mnist" in told


def test_the_command_line_knows_every_option_of_the_samples() -> None:
    for command in make.SAMPLES.values():
        code = main([*shlex.split(command), "-o", "no/such/folder/a.ticket"], standalone_mode=False)
        assert code == 2  # the folder alone is wrong: it is looked at before any work
