"""Constructions against a random network that is built and run in full, and files that claim what is not so."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeticket import certificate, construction_file, relu_network
from edgeticket.cli import main
from edgeticket.construct import Construction, Settings, construct
from edgeticket.data import load
from edgeticket.errors import DataError, EdgeTicketError, EquivalenceError, TicketError, UnsupportedError, UsageError
from edgeticket.prng import LIMIT
from edgeticket.relu_network import ReluNetwork, parse
from edgeticket.rfss import ONE, uniform

SMALL = Settings(eps=0.05, n=12, k=3, seed=5)


def network(*widths: int, seed: int = 0) -> ReluNetwork:
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for i, (a, b) in enumerate(pairwise(widths), 1):
        arrays |= {f"w{i}": random.normal(size=(b, a)), f"b{i}": random.normal(size=b)}
    return parse(arrays)


def direct(target: ReluNetwork, x: np.ndarray) -> np.ndarray:
    for i, (weights, bias) in enumerate(target.layers):
        x = x @ weights.T + bias
        x = np.maximum(x, 0) if i < len(target.layers) - 1 else x
    return x


def whole(made: Construction, x: np.ndarray) -> np.ndarray:
    """The random network with all of its weights, multiplied by masks of their shape."""
    n = made.settings.n
    for i, mask in enumerate(made.masks):
        d, (b, hidden) = x.shape[1], mask.shape
        first = uniform(made.settings.seed, 2 * i, 0, np.arange(hidden)[:, None], np.arange(d)) / ONE
        second = uniform(made.settings.seed, 2 * i + 1, 0, np.arange(b)[:, None], np.arange(hidden)) / ONE
        own = np.arange(hidden)[:, None] // (2 * n) == np.arange(d)
        x = np.maximum(x @ (first * own).T, 0) @ (second * mask).T
        x = np.maximum(x, 0) if i < len(made.masks) - 1 else x
    return x


MADE = construct(network(4, 3, 2), SMALL)


def test_a_homogeneous_network_is_the_same_network() -> None:
    target = network(4, 5, 3, 2)
    matrices, scale = target.homogeneous()
    assert [np.linalg.norm(matrix, 2) for matrix in matrices] == pytest.approx([1, 1, 1])
    x = np.random.default_rng(1).normal(size=(20, 4))
    found = relu_network.outputs(matrices, np.concatenate([x, np.ones((20, 1))], axis=1))
    assert scale * found[-1] == pytest.approx(direct(target, x))


def test_examples_are_mapped() -> None:
    arrays = network(4, 2).arrays() | {"offset": np.array(3.0), "step": np.array([1.0, 2.0, 3.0, 4.0])}
    assert parse(arrays).examples(np.full((1, 2, 2), 5, np.uint8)).tolist() == [[2.0, 4.0, 6.0, 8.0]]
    with pytest.raises(DataError, match="has 6 values, the network reads 4"):
        parse(arrays).examples(np.zeros((1, 6)))


@pytest.mark.parametrize("made", [MADE, construct(network(2, 2), Settings(eps=0.05, n=14, k=5, seed=0))])
def test_every_weight_is_the_nearest_sum_of_exactly_k(made: Construction) -> None:
    """Found again by listing all subsets of each pool."""
    k = made.settings.k
    for (matrix, pair), mask in zip(made.pairs, made.masks, strict=True):
        for j, pool in pair.pools():
            assert len(pool) <= made.settings.n
            assert len({*(pair.first[pool] > 0).tolist()}) <= 1
            for o in range(len(matrix)):
                values = pair.first[pool] * pair.second[o, pool] / ONE**2
                sums = [sum(each) for each in combinations(values, k)]
                if matrix[o, j] == 0 or not sums:
                    assert not mask[o, pool].any()
                    continue
                assert mask[o, pool].sum() == k
                best = min(abs(each - matrix[o, j]) for each in sums)
                assert abs(values[mask[o, pool]].sum() - matrix[o, j]) == pytest.approx(best, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4))
def test_the_bound_holds_for_any_input(values: list[float]) -> None:
    x = np.array([[*values, 1.0]])
    told = certificate.certify(MADE)
    wanted = relu_network.outputs(MADE.target.homogeneous()[0], x)
    ours = MADE.outputs(x)
    assert ours[-1] == pytest.approx(whole(MADE, x), abs=1e-9)
    for layer, a, b in zip(told["layers"], ours, wanted, strict=True):
        assert np.linalg.norm(a - b) <= layer["bound"] * np.linalg.norm(x) * (1 + 1e-12)


def test_the_bound_is_reached_by_one_layer() -> None:
    """For a single layer the norm of the errors is attained, at an input with both signs."""
    made = construct(network(3, 2), SMALL)
    (layer,) = certificate.certify(made)["layers"]
    random = np.random.default_rng(0).normal(size=(20_000, 4))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    wanted = relu_network.outputs(made.target.homogeneous()[0], random)
    seen = np.linalg.norm(made.outputs(random)[0] - wanted[0], axis=1).max()
    assert 0.5 * layer["bound"] < seen <= layer["bound"]


def test_certificate_counts_what_is_there() -> None:
    told = certificate.certify(MADE)
    for layer, (matrix, _), mask in zip(told["layers"], MADE.pairs, MADE.masks, strict=True):
        b, d = matrix.shape
        hidden = 2 * SMALL.n * d
        assert (layer["start"], layer["sums"]) == (hidden * (b + d), 2 * np.count_nonzero(matrix))
        assert layer["kept"] == mask.sum() + sum(mask[:, h].any() for h in range(hidden))
        assert layer["largest_error"] < SMALL.eps or layer["failures"]
    assert told["density"] == told["kept"] / told["start"]
    assert told["theorems_at_c_1"]["theorem_2_n"] > 0
    assert told["bound"] == pytest.approx(np.prod([1 + layer["norm_of_errors"] for layer in told["layers"]]) - 1)


def test_a_pool_that_is_too_small_is_a_failure() -> None:
    """With k = n every pool with fewer than n neurons of its sign has no subset: the weight is left out and counted."""
    made = construct(network(6, 4), Settings(eps=1e-9, n=3, k=3, seed=1))
    ((matrix, pair),), (mask,) = made.pairs, made.masks
    without = sum(len(pool) < 3 for _, pool in pair.pools())
    assert 0 < without < 14
    assert mask.sum() == 3 * 4 * (14 - without)
    told = certificate.certify(made)
    assert told["failures"] == told["sums"] == 2 * matrix.size
    assert told["theorems_at_c_1"] is None


def test_the_same_seed_gives_the_same_file_and_another_one_does_not() -> None:
    told = certificate.certify(MADE)
    again = construct(network(4, 3, 2), SMALL)
    assert construction_file.to_bytes(again, certificate.certify(again)) == construction_file.to_bytes(MADE, told)
    other = construct(network(4, 3, 2), Settings(eps=0.05, n=12, k=3, seed=6))
    assert (other.masks[0] != MADE.masks[0]).any()


def test_progress_is_told() -> None:
    steps: list[tuple[int, int]] = []
    construct(network(2, 2), SMALL, lambda done, of: steps.append((done, of)))
    assert steps == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        ({"k": 0}, UsageError, "at least 1"),
        ({"k": 13}, UsageError, "at most all"),
        ({"eps": 0.0}, UsageError, "the theorems want"),
        ({"eps": 0.5}, UsageError, "the theorems want"),
        ({"n": LIMIT}, UnsupportedError, "hidden neurons"),
        ({"n": 80, "k": 40}, UsageError, "subsets"),
        ({"seed": -1}, UnsupportedError, "seed -1"),
    ],
)
def test_settings_that_fit_nothing(words: dict, error: type[EdgeTicketError], match: str) -> None:
    with pytest.raises(error, match=match):
        construct(network(2, 2), Settings(**{**SMALL.__dict__, **words}))


ARRAYS = network(4, 3, 2).arrays()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"w1": None}, "missing, unknown"),
        ({"b2": None}, "b2: missing"),
        ({"extra": np.zeros(1)}, "extra: missing, unknown"),
        ({"w2": np.ones((2, 4))}, "w2 reads 4 values, w1 gives 3"),
        ({"b1": np.ones(4)}, "store w1"),
        ({"w1": np.ones((3, 4), int)}, "w1 is int64"),
        ({"w1": np.full((3, 4), np.nan)}, "not finite"),
        ({"w1": np.full((3, 4), 1e10)}, "beyond 1e"),
        ({"w2": np.zeros((2, 3))}, "not all zero"),
        ({"step": np.ones(3)}, "one for each input"),
    ],
)
def test_a_target_that_is_none(tmp_path: Path, change: dict, match: str) -> None:
    arrays = {name: array for name, array in {**ARRAYS, **change}.items() if array is not None}
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=match):
        relu_network.read(tmp_path / "t.npz")


def test_float32_and_a_missing_map_are_taken(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "t.npz", **{name: array.astype(np.float32) for name, array in ARRAYS.items() if name[0] in "wb"}
    )
    assert relu_network.read(tmp_path / "t.npz").parameters == 4 * 3 + 3 + 3 * 2 + 2


# files


def written(path: Path, made: Construction, **changes: object) -> Path:
    """The file of a construction, some fields of its certificate or some arrays replaced."""
    told = certificate.certify(made)
    fields = {name: value for name, value in changes.items() if name in told}
    path.write_bytes(construction_file.to_bytes(made, told | fields))
    arrays = dict(np.load(path))
    for name in changes.keys() - fields.keys():
        arrays[name] = changes[name]
    np.savez(path, **arrays)
    return path


def test_a_file_is_read_back_and_checked(tmp_path: Path) -> None:
    path = written(tmp_path / "c.npz", MADE)
    found, _ = construction_file.read(path)
    assert found.settings == SMALL
    assert all((a == b).all() for a, b in zip(found.masks, MADE.masks, strict=True))
    assert construction_file.check(path) == certificate.certify(MADE)


def flipped(made: Construction, bit: int) -> np.ndarray:
    bitmap = np.packbits(made.masks[0], bitorder="little")
    bitmap[bit // 8] ^= 1 << bit % 8
    return bitmap


@given(st.integers(0, 4 * 5 * 24 - 1))
@settings(deadline=None, max_examples=30)
def test_every_bit_of_a_bitmap_counts(bit: int) -> None:
    with TemporaryDirectory() as folder, pytest.raises(TicketError, match=r"exactly 3|belongs to no sum"):
        construction_file.check(written(Path(folder) / "c.npz", MADE, kept1=flipped(MADE, bit)))


def test_subsets_of_the_right_size_must_have_the_errors_that_are_claimed(tmp_path: Path) -> None:
    """Another subset of k of the same pool is well formed; its error is not the one in the certificate."""
    (_, pair), mask = MADE.pairs[0], MADE.masks[0].copy()
    pool = next(pool for _, pool in pair.pools() if mask[0, pool].any() and not mask[0, pool].all())
    mask[0, pool] = np.roll(mask[0, pool], 1)
    with pytest.raises(EquivalenceError, match=r"norm_of_errors|largest_error|kept"):
        construction_file.check(written(tmp_path / "c.npz", MADE, kept1=np.packbits(mask, bitorder="little")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bound", 0.001),
        ("failures", 0.0),
        ("kept", 1),
        ("density", float("nan")),
        ("layers", []),
        ("scale", "1"),
        ("eps", 0.04),
        ("theorems_at_c_1", None),
    ],
)
def test_an_altered_claim_is_found(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(EquivalenceError, match="derived again"):
        construction_file.check(written(tmp_path / "c.npz", MADE, **{field: value}))


def test_an_altered_target_is_found(tmp_path: Path) -> None:
    weights = MADE.target.layers[0][0] + 1e-6
    with pytest.raises(EquivalenceError):
        construction_file.check(written(tmp_path / "c.npz", MADE, w1=weights))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "x"}, "this program reads"),
        ({"generator": []}, "this program reads"),
        ({"k": 1 << 40}, "at most all"),
        ({"n": 1 << 20}, "hidden neurons"),
        ({"seed": "x"}, "invalid literal"),
        ({"certificate": np.frombuffer(b"[" * 100_000, np.uint8)}, "not a construction"),
        ({"certificate": np.frombuffer(b"[]", np.uint8)}, "not a construction"),
        ({"kept1": np.zeros(3, np.uint8)}, "a bitmap is"),
        ({"kept1": np.zeros((4, 5), np.float64)}, "a bitmap is"),
        ({"kept7": np.zeros(3, np.uint8)}, "belongs to no layer"),
        ({"w1": np.zeros(3)}, "not a construction"),
    ],
)
def test_a_damaged_file_is_no_construction(tmp_path: Path, changes: dict, match: str) -> None:
    with pytest.raises(TicketError, match=match):
        construction_file.check(written(tmp_path / "c.npz", MADE, **changes))


def test_bits_beyond_the_last_weight_are_refused(tmp_path: Path) -> None:
    made = construct(network(2, 1), Settings(eps=0.1, n=2, k=1, seed=0))
    bitmap = np.packbits(made.masks[0], bitorder="little")
    assert made.masks[0].size % 8
    bitmap[-1] |= 128
    with pytest.raises(TicketError, match="beyond its last weight"):
        construction_file.check(written(tmp_path / "c.npz", made, kept1=bitmap))


# data and the command


@pytest.fixture(scope="module")
def digits_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small linear classifier, of some use: class means."""
    data = load("digits")
    x, y = data.train[0].reshape(-1, 64) / 16, data.train[1]
    means = np.stack([x[y == label].mean(0) for label in range(10)])
    hidden = np.concatenate([means, -means])[:12]
    path = tmp_path_factory.mktemp("target") / "target.npz"
    second = np.random.default_rng(0).normal(size=(10, 12))
    np.savez(path, w1=hidden, b1=-hidden.mean(1), w2=second, b2=np.zeros(10), step=np.array(1 / 16))
    return path


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["construct", *words])
    return done.exit_code, done.output


def test_the_command_constructs_and_checks(tmp_path: Path, digits_target: Path) -> None:
    path = str(tmp_path / "c.npz")
    words = (str(digits_target), "-n", "14", "-k", "4", "-d", "digits", "-o", path)
    code, output = invoke(*words, "--format", "json")
    told = json.loads(output)
    assert code == 0
    assert told["observed"]["examples"] == 1797
    assert all(a <= b["bound"] for a, b in zip(told["observed"]["largest_errors"], told["layers"], strict=True))
    code, output = invoke("--check", path, "-d", "digits", "--format", "json")
    assert (code, json.loads(output)) == (0, told)
    code, output = invoke(path, "--check")
    assert code == 0
    for line in ("exactly 4 of 14", "for every input", "scale only", "sums are off by eps or more"):
        assert line in output
    assert invoke(*words)[0] == 2  # not overwritten
    assert invoke(*words, "--overwrite")[0] == 0


def test_what_a_file_claims_of_data_is_checked(tmp_path: Path, digits_target: Path) -> None:
    data, made = load("digits"), construct(relu_network.read(digits_target), Settings(0.05, 8, 2, 0))
    told = certificate.certified(made, data)
    told["observed"]["same_class"] -= 1
    path = tmp_path / "c.npz"
    path.write_bytes(construction_file.to_bytes(made, told))
    assert "observed" not in construction_file.check(path)
    with pytest.raises(EquivalenceError, match="same_class"):
        construction_file.check(path, data)


def test_an_error_above_its_bound_is_an_error(monkeypatch: pytest.MonkeyPatch, digits_target: Path) -> None:
    made = construct(relu_network.read(digits_target), Settings(0.05, 8, 2, 0))
    honest = certificate.certify(made)
    monkeypatch.setattr(
        certificate, "certify", lambda _: honest | {"layers": [layer | {"bound": 1e-9} for layer in honest["layers"]]}
    )
    with pytest.raises(EquivalenceError, match="layer 1: an error of"):
        certificate.certified(made, load("digits"))


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("t.npz",), 2, "-o FILE"),
        (("t.npz", "--check", "-o", "x.npz"), 2, "leave -o out"),
        (("none.npz", "-o", "x.npz"), 1, "not a file"),
        (("TARGET", "--check"), 1, "holds no certificate"),
        (("TARGET", "-o", "x.npz", "-d", "plaid"), 1, "has 256 values, the network reads 64"),
        (("TARGET", "-o", "x.npz", "--eps", "0.7"), 2, "below 0.5"),
    ],
)
def test_wrong_requests(
    tmp_path: Path, digits_target: Path, words: tuple[str, ...], code: int, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, output = invoke(*(str(digits_target) if word == "TARGET" else word for word in words))
    assert (found, match in output) == (code, True), output
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_digits_are_constructed_within_the_certificate() -> None:
    """The network of docs/theory.md at the command's defaults."""
    spec = spec_from_file_location("target", Path(__file__).parent.parent / "docs/evidence/target.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    data = load("digits")
    arrays = module.train(data, [32])
    assert module.accuracy(arrays, *data.certify) > 0.95
    failures = 0
    for seed in range(5):
        told = certificate.certified(construct(parse(arrays), Settings(0.01, 32, 4, seed)), data)
        failures += told["failures"]
        assert told["observed"]["same_class"] >= 1790
    assert failures <= 5  # of 24,110
