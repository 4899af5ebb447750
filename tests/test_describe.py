"""`show` and `compact`: the numbers against counts made by hand, and text that fits a terminal."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, Case, chain
from click.testing import CliRunner

from edgeticket import describe as module
from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.describe import describe, describe_text, prove_compact, prove_text
from edgeticket.errors import DataError
from edgeticket.ops import GlobalAveragePool, Linear, MaxPool, conv
from edgeticket.packet import layer_bytes, packed_bytes
from edgeticket.ticket import MAX_EDGES, Ticket, read_ticket


@pytest.fixture
def ticket() -> Ticket:
    return replace(
        CASES["plain"].ticket(), provenance={"command": "find -m conv:8,12,12", "versions": {"numpy": "2.4"}}
    )


def test_layers_against_counts_by_hand(ticket: Ticket) -> None:
    told = describe(ticket)
    stem, body, *_ = told["layers"]
    left = int(ticket.kept["l0"].sum())
    after = int(ticket.kept["l1"].sum())
    assert (stem["name"], stem["op"], stem["kind"], stem["channels"]) == (
        "l0",
        "Conv",
        "int8",
        {"before": 8, "after": left},
    )
    assert stem["kept"] == stem["weights"]["after"] == left * 9
    assert stem["density"] == 1.0
    assert body["kind"] == "signs"
    assert body["weights"] == {"before": 8 * 12 * 9, "after": left * after * 9}
    assert body["kept"] == ticket.masks["l1"].sum()
    assert body["density"] == ticket.masks["l1"].mean()
    assert body["macs"] == {"before": 8 * 12 * 9 * 16, "after": left * after * 9 * 16}
    assert body["kept_macs"] == ticket.masks["l1"].sum() * 16


@pytest.mark.parametrize("name", CASES)
def test_totals_are_sums(name: str) -> None:
    ticket = CASES[name].ticket()
    told, model = describe(ticket), compact(ticket)
    total, layers = told["total"], told["layers"]
    assert total["kept"] == sum(weights.kept for weights in model.weights.values())
    assert total["kept_macs"] == sum(model.kept_macs().values())
    assert total["weights"] == {
        "before": sum(ticket.plan.weights().values()),
        "after": sum(model.plan.weights().values()),
    }
    assert total["macs"] == {"before": sum(ticket.plan.macs().values()), "after": sum(model.plan.macs().values())}
    assert told["bytes"]["packed"] == sum(packed_bytes(model).values())
    assert told["bytes"]["ticket"] == len(ticket.to_bytes())
    sizes = {name: sum(layer_bytes(model, name).values()) for name in model.weights}
    assert {row["name"]: row["bytes"] for row in layers} == sizes
    assert told["peak_activations"]["after"] == model.plan.peak_activations() <= told["peak_activations"]["before"]
    assert 0 <= total["learned_share_of_bytes"] < 1
    learned = sum(values.size for values in ticket.learned.values())
    assert total["learned_share_of_weights"] == learned / total["weights"]["after"]
    inputs = {
        name: sensor | {key: list(sensor[key]) for key in ("offset", "step")} for name, sensor in told["inputs"].items()
    }
    assert list(inputs) == list(ticket.plan.inputs)
    assert json.loads(json.dumps(told)) == told | {"inputs": inputs}


def test_edges_count_in_density_and_in_the_share_of_the_wide_net() -> None:
    ticket = Case(CASES["plain"].plan, edges=3, learned=False, keep=1.0).ticket()
    told = describe(ticket)
    kept = sum(int(mask.sum()) for mask in ticket.masks.values())
    assert told["total"]["kept_of_wide"] == kept / (3 * sum(ticket.plan.weights().values()))
    assert [row["density"] for row in told["layers"]] == [mask.mean() for mask in ticket.masks.values()]
    assert told["total"]["density"] == pytest.approx(0.5, abs=0.02)


def test_text_of_an_extreme_ticket_fits() -> None:
    plan = chain((3, 9, 9), conv(256), conv(64, stride=8), GlobalAveragePool(), Linear(4))
    told = describe(replace(Case(plan, edges=MAX_EDGES, flips=True, keep=0.1).ticket(), provenance={"word": "x" * 300}))
    for row in told["layers"]:
        row["name"] = "a very long name of a layer" * 3
        row |= {"kept": 123_456_789, "kept_macs": 123_456_789_012, "bytes": 123_456_789}
        row |= {key: {"before": 987_654_321, "after": 123_456_789} for key in ("weights", "macs")}
    text = describe_text(told)
    assert max(map(len, text.splitlines())) < 120
    table = text.splitlines()[: 2 + len(told["layers"])]
    assert len({len(line) for line in table}) == 1, "columns are not aligned"
    assert "signs+flips x16" in text


def test_text_says_it_all(ticket: Ticket) -> None:
    text = describe_text(describe(ticket))
    told = describe(ticket)
    for part in (
        f"seed     {ticket.seed}",
        "generator quad32-4",
        "purity P2+stem",
        f"packed {told['bytes']['packed']:,}",
        f"ticket file {told['bytes']['ticket']:,}",
        f"as fp32 {told['bytes']['fp32']:,}",
        ticket.digest,
        "versions.numpy = 2.4",
        "1x8x8 uint8",
        f"{told['total']['kept_of_wide']:.2%} of the wide",
    ):
        assert part in text


def test_text_tells_every_step_where_they_differ() -> None:
    assert "x = (raw - [0.5]) * 0.333333" in describe_text(describe(CASES["plain, float sensor"].ticket()))
    text = describe_text(describe(CASES["float sensor of different steps"].ticket()))
    assert "x = (raw - [0.005, 37.5, 1]) * [33.3333, 0.00666667, 0.333333]" in text


def test_text_tells_every_input() -> None:
    text = describe_text(describe(CASES["two inputs and two outputs"].ticket()))
    for part in (
        "input    2x6x6 uint8, x = (raw - [20, 23]) * 0.00392157",
        "input    3x12 uint8, x = (raw - [20, 23, 26]) * 0.00392157",
    ):
        assert part in text.splitlines()


def test_a_transposed_layer_by_hand() -> None:
    """Each kept weight works once an input position: 5 x 4, not the 11 x 12 of the output."""
    ticket = replace(CASES["transposed"], learned=False).ticket()
    row = describe(ticket)["layers"][1]
    left, after = (int(ticket.kept[name].sum()) for name in ("l0", "l1"))
    assert (row["name"], row["op"], row["kind"]) == ("l1", "ConvTranspose", "signs")
    assert row["weights"] == {"before": 8 * 6 * 6, "after": left * after * 6}
    assert row["macs"] == {"before": 8 * 6 * 6 * 20, "after": left * after * 6 * 20}
    assert row["kept_macs"] == ticket.masks["l1"].sum() * 20


def test_a_network_without_weights_is_told_too(tmp_path: Path) -> None:
    """No search makes one, but a file can hold it."""
    plan = chain((2, 4, 4), MaxPool((2, 2), (2, 2), (0,) * 4), GlobalAveragePool())
    ticket = Case(plan).ticket()
    ticket.write(tmp_path / "a.ticket")
    told = describe(read_ticket(tmp_path / "a.ticket"))
    assert (told["layers"], told["total"]["kept"], told["total"]["density"]) == ([], 0, 0)
    assert describe_text(told)
    assert prove_compact(ticket)["difference"] == 0


def test_text_cannot_drive_the_terminal(ticket: Ticket) -> None:
    hostile = replace(ticket, provenance={"\x1b]0;k\x07": ["\x1b[2J", "\u202e"]}, task="\x1b[31m", purity="\x9b2J")
    text = describe_text(describe(hostile))
    assert all(character.isprintable() or character == "\n" for character in text)


# random inputs and the proof


@pytest.mark.parametrize(
    "name", ["plain", "plain, int16 sensor", "plain, float sensor", "float sensor of different steps"]
)
def test_random_inputs_cover_what_the_input_is_quantised_for(name: str) -> None:
    model = compact(CASES[name].ticket())
    raw, quant = model.random_inputs(500), model.quant["x"]
    assert (raw.shape, raw.dtype) == ((500, *model.plan.inputs["x"]), model.inputs["x"].dtype)
    assert raw.tobytes() == model.random_inputs(500).tobytes()
    codes = model.inputs["x"].apply(raw) / quant.scale + quant.zero_point
    for channel in range(codes.shape[1]):
        assert codes[:, channel].min() == pytest.approx(0, abs=2)
        assert codes[:, channel].max() == pytest.approx(255, abs=2)


def test_random_inputs_without_a_range() -> None:
    model = replace(compact(CASES["plain, float sensor"].ticket()), quant={})
    x = model.inputs["x"].apply(model.random_inputs(500))
    assert (x.min(), x.max()) == (pytest.approx(-1, abs=0.01), pytest.approx(1, abs=0.01))


def test_random_inputs_of_several_inputs() -> None:
    model = compact(CASES["two inputs and two outputs, float sensors"].ticket())
    raw = model.random_inputs(500)
    assert isinstance(raw, dict)
    assert {name: values.shape for name, values in raw.items()} == {"picture": (500, 2, 6, 6), "current": (500, 3, 12)}
    for name, values in raw.items():
        codes = model.inputs[name].apply(values) / model.quant[name].scale + model.quant[name].zero_point
        assert (codes.min(), codes.max()) == (pytest.approx(0, abs=2), pytest.approx(255, abs=2))
    report = prove_compact(CASES["two inputs and two outputs"].ticket())
    assert (report["inputs"], report["difference"] < 1e-12) == (32, True)
    mine = CASES["two inputs and two outputs"].raw(5)
    assert prove_compact(CASES["two inputs and two outputs"].ticket(), mine)["inputs"] == 5


def test_proof_reports_and_refuses_other_shapes(ticket: Ticket) -> None:
    report = prove_compact(ticket)
    assert report["inputs"] == 32
    assert report["difference"] < 1e-12
    assert "largest difference" in prove_text(report)
    with pytest.raises(DataError, match="8x8"):
        prove_compact(ticket, np.zeros((2, 1, 7, 7), np.uint8))


# command line


@pytest.fixture
def path(ticket: Ticket, tmp_path: Path) -> str:
    ticket.write(tmp_path / "a.ticket")
    return str(tmp_path / "a.ticket")


def test_show_and_compact_commands(path: str, ticket: Ticket) -> None:
    run = CliRunner().invoke
    shown = run(main, ["show", path])
    assert (shown.exit_code, shown.output) == (0, describe_text(describe(ticket)) + "\n")
    assert json.loads(run(main, ["show", path, "--format", "json"]).stdout)["seed"] == ticket.seed
    proven = run(main, ["compact", path])
    assert proven.exit_code == 0
    assert "equal to the masked wide network on 32 inputs" in proven.output
    assert json.loads(run(main, ["compact", path, "-d", "digits", "--format", "json"]).stdout)["inputs"] == 256


def test_compact_exits_4_where_the_networks_differ(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = module.prove.__globals__["compact"]

    def wrong(ticket: Ticket) -> object:
        model = right(ticket)
        return replace(model, bias=model.bias | {"l1": model.bias["l1"] + np.float32(1e-3)})

    monkeypatch.setitem(module.prove.__globals__, "compact", wrong)
    result = CliRunner().invoke(main, ["compact", path])
    assert result.exit_code == 4
    assert "differ" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["show", "compact"])
def test_damaged_and_missing_files_exit_1(command: str, path: str, tmp_path: Path) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    Path(path).write_bytes(content)
    for name in (path, str(tmp_path / "none.ticket"), str(tmp_path)):
        result = CliRunner().invoke(main, [command, name])
        assert (result.exit_code, result.stdout) == (1, "")
        assert name in result.stderr
