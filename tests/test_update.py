"""find --update-of: a ticket for new data that an old ticket's firmware runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, random_ticket
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edgeticket.cli import main  # noqa: E402
from edgeticket.compact import compact  # noqa: E402
from edgeticket.data import Data  # noqa: E402
from edgeticket.errors import DataError  # noqa: E402
from edgeticket.find import find, update  # noqa: E402
from edgeticket.masked import Choices, MaskedNet, of_ticket, outputs  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.reference import run  # noqa: E402
from edgeticket.search._begin import begin  # noqa: E402
from edgeticket.search.subset_sum import SubsetSum  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import Quant, Ticket, read_ticket  # noqa: E402
from edgeticket.update import data_for, ranges, settings_of, told  # noqa: E402
from edgeticket.wire import pack  # noqa: E402


def shift(x: np.ndarray) -> np.ndarray:
    """Half the contrast on a brighter ground, with noise."""
    rng = np.random.default_rng(len(x))
    return np.clip(0.5 * x + 6 + rng.normal(0, 1, x.shape), 0, 16).round().astype(np.uint8)


@pytest.fixture(scope="module")
def shifted(digits: Data) -> Data:
    parts = {
        part: (shift(getattr(digits, part)[0]), getattr(digits, part)[1]) for part in ("train", "select", "certify")
    }
    return replace(digits, name="shifted digits", digest="0" * 64, **parts)


def old_ticket(digits: Data, **settings) -> Ticket:
    given = {"keep": 0.5, "epochs": 4, "batch": 64, "seed": 3} | settings
    return find(network_plan("conv:16,32,32", digits), digits, Settings(**given), control=False).ticket


@pytest.fixture(scope="module")
def old(digits: Data) -> Ticket:
    return old_ticket(digits)


def started(old: Ticket, raw: np.ndarray) -> MaskedNet:
    plan, asked = old.narrow, settings_of(old)
    choices = Choices(
        asked.densities(plan), asked.edge_counts(plan), asked.learned(plan), asked.signs == "learned", weight=SubsetSum
    )
    net = MaskedNet(old.plan, old.seed, choices)
    begin(net, old, raw, next(iter(old.inputs.values())))
    return net


@pytest.mark.parametrize("settings", [{}, {"signs": "learned"}, {"learn": "none", "density": 0.2, "edges": 1}], ids=str)
def test_a_search_begins_with_the_old_masks_and_the_old_outputs(digits: Data, settings: dict) -> None:
    old = old_ticket(digits, **settings)
    raw = digits.train[0][:500]
    net = started(old, raw)
    with torch.no_grad():
        made = net.train()(_inputs(old, raw))
    assert np.allclose(made.numpy(), run(compact(old), raw), atol=2e-3 * np.abs(made.numpy()).max())
    for name, mask in old.masks.items():
        kept, flips = net.cell(name).weight.choose()
        full = mask.reshape(len(mask), -1).sum(1) == net.cell(name).weight.k
        assert full.any()
        assert (kept[full] == mask[full]).all()
        assert (kept >= mask).all()  # where inputs have left, a filter takes more of the others
        if old.flips:
            assert (flips[mask] == old.flips[name][mask]).all()
    for name, codes in old.learned.items():
        assert (net.cell(name).weight.codes() == codes).all()


def _inputs(old: Ticket, raw: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(next(iter(old.inputs.values())).apply(raw))


def test_an_update_is_for_the_same_firmware(old: Ticket, shifted: Data) -> None:
    found = update(old, shifted, settings_of(old, epochs=2, batch=64))
    new = found.ticket
    before, after = (pack(compact(ticket)) for ticket in (old, new))
    assert after.firmware.digest == before.firmware.digest
    assert after.packet != before.packet
    assert new.inputs == old.inputs
    assert {name: kept.tolist() for name, kept in new.kept.items()} == {
        n: kept.tolist() for n, kept in old.kept.items()
    }
    assert (new.seed, new.edges, new.purity, list(new.learned)) == (old.seed, old.edges, old.purity, list(old.learned))
    assert new.provenance["update_of"] == old.digest
    assert [row.name for row in found.results] == ["ticket", "before"]
    (sensor,) = old.inputs.values()
    known = outputs(of_ticket(old), shifted.certify[0], {"input": sensor})[0]
    assert found.results[1].to_json()["accuracy"] == (known.argmax(1) == shifted.certify[1]).mean()
    changes = told(old, new)
    assert changes["same_firmware"]
    bits = sum(mask.size for mask in old.masks.values())
    assert changes["mask_bits_changed"] == sum((old.masks[n] != new.masks[n]).sum() for n in old.masks) / bits
    assert changes["mask_bits_changed"] < 0.1


def test_ranges_stay_unless_they_must_grow() -> None:
    old = {"a": Quant(0.1, 0), "b": Quant(0.1, 100), "c": Quant(0.1, 0)}
    new = ranges(old, {"a": Quant(0.09, 0), "b": Quant(0.1, 110), "c": Quant(0.2, 0)})
    assert (new["a"], new["c"]) == (old["a"], Quant(float(np.float32(0.2)), 0))
    assert new["b"].scale == pytest.approx((11 + 15.5) / 255)  # from -11 of the new one to 15.5 of the old one
    assert new["b"].zero_point == round(11 / new["b"].scale)


def test_data_that_do_not_fit(old: Ticket, digits: Data) -> None:
    x, y = digits.certify
    for other, word in (
        (replace(digits, certify=(x.astype(np.int16), y)), "int16"),
        (replace(digits, certify=(x[:, :, :6], y)), "shape"),
        (replace(digits, task="regression", certify=(x, y.astype(np.float32))), "regression"),
    ):
        with pytest.raises(DataError, match=word):
            data_for(old, other)


def test_what_an_update_has_no_choice_about_is_a_usage_error(old: Ticket, tmp_path: Path) -> None:
    old.write(tmp_path / "old.ticket")
    words = ["find", "--update-of", str(tmp_path / "old.ticket"), "-o", str(tmp_path / "new.ticket")]
    for more in (
        ["--keep", "0.5"],
        ["--budget", "packet=1K"],
        ["--density", "0.1"],
        ["-m", "conv"],
        ["--pure"],
        ["--seed", "1"],
    ):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 2
        option = "--model" if more[0] == "-m" else more[0]
        assert f"--update-of keeps the old ticket's network and choices: leave {option} out" in done.output
    assert not (tmp_path / "new.ticket").exists()


def test_channels_that_nothing_reads_stay_in_the_firmware() -> None:
    """A random ticket has some: the update's settings must not be thrown by filters without a weight."""
    old = random_ticket(CASES["plain"])
    asked = settings_of(old)
    plan = old.narrow
    for name, mask in old.masks.items():
        k = int(mask.reshape(len(mask), -1).sum(1).max())
        assert round(asked.densities(plan)[name] * np.prod(mask.shape[1:])) == k


@pytest.mark.slow
def test_an_update_learns_and_is_the_same_file_again(digits: Data, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\nfrom edgeticket.data import load\n\ndef shifted():\n    d = load('digits')\n"
        "    rng = np.random.default_rng(0)\n"
        "    f = lambda x: np.clip(0.5 * x + 6 + rng.normal(0, 1, x.shape), 0, 16).round().astype(np.uint8)\n"
        "    x, y = (np.concatenate([d.train[i], d.select[i]]) for i in (0, 1))\n"
        "    return {'x_train': f(x), 'y_train': y, 'x_test': f(d.certify[0]), 'y_test': d.certify[1]}\n"
    )
    old = old_ticket(digits, epochs=10)
    old.write(tmp_path / "old.ticket")
    words = [
        "find",
        "--update-of",
        str(tmp_path / "old.ticket"),
        "-d",
        f"{tmp_path / 'data.py'}:shifted",
        "--format",
        "json",
    ]
    told = []
    for name in ("a", "b"):
        done = CliRunner().invoke(main, [*words, "-o", str(tmp_path / f"{name}.ticket")])
        assert done.exit_code == 0, done.output
        told.append(json.loads(next(line for line in done.output.splitlines() if line.startswith("{"))))
    assert (tmp_path / "a.ticket").read_bytes() == (tmp_path / "b.ticket").read_bytes()
    now, before = told[0]["results"]
    assert now["accuracy"] > before["accuracy"] + 0.1
    assert told[0]["update"]["same_firmware"]
    new = read_ticket(tmp_path / "a.ticket")
    assert pack(compact(new)).firmware.digest == pack(compact(old)).firmware.digest
