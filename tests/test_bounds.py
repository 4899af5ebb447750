"""The theorems' formulas against values by hand, and what `edgeticket bound` says of them."""

import json
import re
from math import log2
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeticket import bound_table, rfss
from edgeticket.bounds import Matrix, all_targets, chain, entropy, matrices, one_target, upper, width
from edgeticket.cli import main
from edgeticket.errors import UnsupportedError, UsageError
from edgeticket.network import architecture
from edgeticket.ops import Flatten, Layer
from edgeticket.plan import Plan

densities = st.floats(1e-4, 0.5)
errors = st.floats(1e-6, 0.49)


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["bound", *words])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("density", "bits", "n", "k"),
    [
        (0.5, 1.0, (9, 13, 16), 6.3),
        (0.3, 0.881, (9, 14, 18), 4.1),
        (0.2, 0.722, (11, 16, 21), 3.2),
        (0.1, 0.469, (16, 24, 32), 2.4),
        (0.05, 0.286, (24, 38, 51), 1.9),
        (0.02, 0.141, (50, 75, 101), 1.5),
    ],
)
def test_theorem_2_at_c_1(density: float, bits: float, n: tuple[int, ...], k: float) -> None:
    """n at eps 1e-2, 1e-3 and 1e-4, and k at 1e-3, as worked out for the project's notes."""
    assert entropy(density) == pytest.approx(bits, abs=5e-4)
    assert tuple(round(one_target(density, eps)) for eps in (1e-2, 1e-3, 1e-4)) == n
    assert density * one_target(density, 1e-3) == pytest.approx(k, abs=0.05)


@settings(deadline=None)
@given(densities, errors, st.sampled_from([1, 2]), st.floats(1, 1e6), st.floats(0.5, 1e4))
def test_width_is_the_largest_solution(density: float, eps: float, power: int, factor: float, scale: float) -> None:
    n = width(density, eps, power, factor, scale)

    def missing(n: float) -> float:
        return scale * log2(factor * density * n / eps) ** power - n * entropy(density)

    assert n >= 1 / density
    if n > 1 / density:
        assert missing(n) == pytest.approx(0, abs=1e-6 * n * entropy(density))
    for larger in (1.001, 1.1, 2, 10, 1000):
        assert missing(larger * n) < 0


def test_corollary_1_squares_the_logarithm() -> None:
    n = all_targets(0.5, 0.01)
    assert n == pytest.approx(log2(0.5 * n / 0.01) ** 2)
    assert n == pytest.approx(170.5, abs=0.05)


def test_theorem_3_by_hand() -> None:
    """Two layers, d = 4, 3, 2: n = log2(2 * 2 * d d' * n / 4 / eps)^2 / H2(1/4)."""
    first, second = upper(chain([4, 3, 2]), 0.25, 0.01)
    for found, (a, b) in ((first, (4, 3)), (second, (3, 2))):
        n = found.n
        assert n * entropy(0.25) == pytest.approx(log2(4 * a * b * n / 4 / 0.01) ** 2)
        assert (found.theorem, found.k) == (3, pytest.approx(n / 4))
        assert found.start == pytest.approx(2 * a * a * n + 2 * a * b * n)
        assert found.kept == pytest.approx(4 * a * b * n / 4)
        assert found.lower is not None
        assert found.lower * entropy(0.25) == pytest.approx(min(a, b) ** 2 / 2 * log2(found.lower / 4 / 0.01))


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), densities, errors)
def test_the_density_of_theorem_3_holds_for_the_counts(a: int, b: int, density: float, eps: float) -> None:
    layers = [Matrix("", a, b)]
    (found,) = upper(layers, density, eps)
    assert found.kept <= bound_table.ratio(layers) * density * found.start * (1 + 1e-9)
    assert (found.lower is None) == (eps >= 1 / 16)


def test_theorem_4_counts_taps_and_groups() -> None:
    (conv,), (two,) = (upper([Matrix("", 8, 16, taps=9, groups=g)], 0.5, 0.01) for g in (1, 2))
    assert (conv.theorem, conv.lower) == (4, None)
    assert conv.n == pytest.approx(log2(2 * 16**2 * 9 * conv.n / 2 / 0.01) ** 2)
    assert conv.start == pytest.approx(9 * 2 * 8 * conv.n * (8 + 16))
    assert (two.start, two.kept) == (2 * conv.start, 2 * conv.kept)


@pytest.mark.parametrize("name", ["conv:8,16", "ds-cnn", "wave", "autoencoder", "mobilenet-v1-025"])
def test_the_layers_of_a_plan_have_all_its_weights(name: str) -> None:
    plan = architecture(name, None if ":" not in name and name != "wave" else (1, 28, 28)[: 3 if ":" in name else 2])
    assert {each.name: each.parameters for each in matrices(plan)} == plan.weights()


def test_a_plan_without_weights_has_no_bound() -> None:
    with pytest.raises(UnsupportedError, match="no layer with weights"):
        matrices(Plan({"x": (2, 3)}, (Layer("flat", Flatten(), ("x",)),), ("flat",)))


@pytest.mark.parametrize(
    ("density", "eps"),
    [(0.0, 0.01), (0.51, 0.01), (float("nan"), 0.01), (5e-324, 0.01), (0.5, 0.0), (0.5, 0.5), (0.5, 1e-320)],
)
def test_what_the_theorems_do_not_cover(density: float, eps: float) -> None:
    with pytest.raises(UsageError, match="the theorems want"):
        width(density, eps)


# the table, the picture and the command


def test_rows_hold_the_theorems_and_what_is_measured() -> None:
    layers = chain([8, 4])
    table = bound_table.table(layers, [0.3], 0.01, draws=200)
    (row,) = table.rows
    assert (row.one_target, row.all_targets) == (one_target(0.3, 0.01), all_targets(0.3, 0.01))
    assert row.at == rfss.measure(10, 3, 0.01, draws=200)
    assert row.first == rfss.smallest(0.3, 0.01, draws=200)
    assert row.first is not None
    c = bound_table.constant(row.first)
    k, n = row.first.k, row.first.n
    assert c * log2(k / 0.01) / entropy(k / n) == pytest.approx(n)
    told = table.to_json()
    assert told["rows"][0]["measured_first"]["c"] == c
    assert told["rho"] == 2
    assert "not known" in told["constants"]


def test_the_command_says_scale_measurement_and_what_is_not_met() -> None:
    code, output = invoke("--widths", "64,32,10", "--density", "0.5,0.1", "--draws", "200")
    assert code == 0
    for words in ("c = 1: scale only, the constants are not known", "Clopper-Pearson", "200 draws", "Theorem 3"):
        assert words in output
    for words in ("Normalisation", "2508.11020", "Data", "gradients", "Learned layers", "2603.02234"):
        assert words in output.partition("does not meet")[2]


def test_the_command_takes_networks_and_numbers() -> None:
    words = ("-m", "conv:8,16", "--input", "1x8x8", "--density", "0.5", "--draws", "80", "--format", "json")
    code, output = invoke(*words)
    told = json.loads(output)
    assert (code, [layer["theorem"] for layer in told["rows"][0]["layers"]]) == (0, [4, 4, 3])
    assert told["target_parameters"] == 9 * 8 + 9 * 8 * 16 + 160
    code, output = invoke("-n", "12", "-k", "6", "--draws", "80", "--z", "0.5", "--format", "json")
    assert json.loads(output) == rfss.measure(12, 6, 0.01, 0.5, draws=80).to_json()
    assert "exactly 6 of 12" in invoke("-n", "12", "-k", "6", "--draws", "80")[1]


def test_what_is_beyond_reach_is_said() -> None:
    code, output = invoke("--density", "0.5", "--eps", "1e-10", "--draws", "80")
    assert (code, output.count("beyond reach")) == (0, 2)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("-n", "5"), "go together"),
        (("-n", "5", "-k", "2", "--widths", "3,4"), "without a network"),
        (("--widths", "3"), "two or more"),
        (("--widths", "3,0"), "at least 1"),
        (("--widths", "a,b"), "separated by commas"),
        (("--widths", "3,4", "-m", "mlp"), "leave -m"),
        (("--input", "3x3"), "say of which network"),
        (("--density", ""), "separated by commas"),
        (("--density", "0.7"), "at most 0.5"),
        (("--eps", "0.5"), "below 0.5"),
        (("--draws", "71"), "take 72 or more"),
        (("-n", "5", "-k", "2", "--eps", "1e-5"), "smallest that is measured"),
        (("--picture", "x.svg"), "of which target"),
        (("--picture", "x.gif", "--widths", "3,4"), "ends in"),
        (("-m", "conv:8"), "no input size"),
    ],
)
def test_wrong_requests_are_usage_errors(words: tuple[str, ...], match: str) -> None:
    code, output = invoke(*words)
    assert (code, match in output) == (2, True), output


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, two, conv = (tmp_path / f"{name}.svg" for name in ("one", "two", "conv"))
    words = ("--density", "0.5,0.3,0.1", "--draws", "80", "--picture")
    assert [invoke("--widths", "8,4", *words, str(path))[0] for path in (one, two)] == [0, 0]
    assert one.read_bytes() == two.read_bytes()
    assert "lower bound" in one.read_text()
    assert invoke("--widths", "8,4", *words, str(one))[0] == 2  # not overwritten
    assert invoke("-m", "conv:4", "--input", "1x8x8", *words, str(conv))[0] == 0
    assert "lower bound" not in conv.read_text()  # Theorem 5 is not about convolutions


@pytest.mark.slow
def test_the_page_holds_what_is_measured() -> None:
    """docs/theory.md against new runs of the same seed: shares at Theorem 2's n and the first n, at eps 0.01."""
    page = (Path(__file__).parent.parent / "docs/theory.md").read_text()
    rows = re.findall(
        r"^\| 0\.01 \| (\S+) \|.*\| (\d+) of (\d+): (\S+) \(.*\| (\d+), (\d+) \| (\S+) \(", page, re.MULTILINE
    )
    assert len(rows) == len(bound_table.DENSITIES)
    for density, k, n, hit, first, first_k, first_hit in rows:
        at = rfss.measure(int(n), int(k), 0.01, draws=10_000)
        found = rfss.smallest(float(density), 0.01, draws=10_000)
        assert found is not None
        assert f"{at.hits / at.draws:.4f}" == hit
        assert (found.n, found.k, f"{found.hits / found.draws:.4f}") == (int(first), int(first_k), first_hit)
