"""Data: splits, input map, every source, every refusal."""

import contextlib
import hashlib
import json
import os
import zipfile
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from edgeticket import data
from edgeticket.cli import data as cli_data
from edgeticket.cli import main
from edgeticket.data import Data, load, names, summary
from edgeticket.datasets import arrays, digits, fashion_mnist, folder, npz, split, survey
from edgeticket.datasets.forms import FORMS, LAYOUT_HELP, LAYOUTS, TASK_HELP, TASKS
from edgeticket.errors import DataError, InsufficientDataError, UsageError

PARTS = ("train", "select", "certify")
N = 120


def missing(reason: str) -> None:
    """Skip on a laptop, fail in CI, where everything must have been installed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def example(
    n: int = N, classes: int = 3, shape: tuple[int, ...] = (1, 5, 6), dtype: str = "uint8", test: int = 0
) -> dict:
    """Arrays of an .npz; every example's first value is its index, so that it can be recognised."""
    generator = np.random.default_rng(0)
    found = {}
    for part, count in (("train", n), ("test", test)):
        if count:
            x = generator.integers(0, 200, (count, *shape)).astype(dtype)
            x.reshape(count, -1)[:, 0] = np.arange(count) % 251
            found |= {f"x_{part}": x, f"y_{part}": np.arange(count) % classes}
    return found


def save(tmp_path: Path, contents: dict, name: str = "x.npz") -> str:
    path = tmp_path / name
    np.savez(path, **contents)
    return str(path)


def ids(part: tuple[np.ndarray, np.ndarray]) -> set[int]:
    return {int(value) for value in part[0].reshape(len(part[0]), -1)[:, 0]}


# ---- splits and digest


def test_without_a_test_set_60_20_20_by_index(tmp_path: Path) -> None:
    found = load(save(tmp_path, example()))
    parts = [ids(getattr(found, part)) for part in PARTS]
    assert set.union(*parts) == set(range(N))
    assert sum(map(len, parts)) == N
    places = [int.from_bytes(hashlib.sha256(str(i).encode()).digest()[:8], "big") / 2**64 for i in range(N)]
    assert parts[2] == {i for i in range(N) if places[i] < 0.2}
    assert parts[1] == {i for i in range(N) if 0.2 <= places[i] < 0.4}


def test_with_a_test_set_certify_is_all_of_it(tmp_path: Path) -> None:
    contents = example(test=30)
    found = load(save(tmp_path, contents))
    assert np.array_equal(found.certify[0], contents["x_test"])
    assert np.array_equal(found.certify[1], contents["y_test"])
    assert ids(found.train) | ids(found.select) == set(range(N))
    assert not ids(found.train) & ids(found.select)
    assert 0.1 * N < len(found.select[1]) < 0.3 * N


def test_the_share_of_a_large_set() -> None:
    place = split.places(np.arange(20_000))
    assert abs((place < 0.2).mean() - 0.2) < 0.01
    assert abs((place < 0.4).mean() - 0.4) < 0.01


def test_appended_examples_move_none(tmp_path: Path) -> None:
    short, long = load(save(tmp_path, example(60))), load(save(tmp_path, example(N), "y.npz"))
    for part in PARTS:
        assert ids(getattr(short, part)) == {i for i in ids(getattr(long, part)) if i < 60}


@pytest.mark.parametrize("kind", ["integers", "strings"])
@pytest.mark.parametrize("test", [0, 30])
def test_groups_stay_together(tmp_path: Path, kind: str, test: int) -> None:
    lots = np.arange(N) // 4
    groups = lots if kind == "integers" else np.array([str(lot) for lot in lots])
    found = load(save(tmp_path, example(test=test) | {"groups": groups}))
    used = PARTS[:2] if test else PARTS
    seen = [{lots[i] for i in ids(getattr(found, part))} for part in used]
    assert sum(map(len, seen)) == len(set.union(*seen)) == N // 4


@pytest.mark.parametrize(
    ("count", "fifths", "sizes"),
    [
        (3, (1, 1, 3), [[1, 1, 1]]),
        (4, (1, 1, 3), [[1, 1, 2]]),
        (5, (1, 1, 3), [[1, 1, 3]]),
        (8, (1, 1, 3), [[1, 2, 5], [2, 1, 5]]),
        (12, (1, 1, 3), [[2, 3, 7], [3, 2, 7]]),
        (2, (1, 4), [[1, 1]]),
        (3, (1, 4), [[1, 2]]),
        (12, (1, 4), [[2, 10]]),
    ],
)
def test_groups_of_one_size(count: int, fifths: tuple[int, ...], sizes: list[list[int]]) -> None:
    assert np.bincount(split.allot(np.full(count, 75), fifths)).tolist() in sizes


@pytest.mark.parametrize("fifths", [(1, 1, 3), (1, 4)])
@pytest.mark.parametrize("count", [3, 4, 6, 8])
def test_groups_of_any_sizes_come_close(count: int, fifths: tuple[int, ...]) -> None:
    """Against the best of all ways to place them."""
    parts = len(fifths)
    ways = np.indices((parts,) * count).reshape(count, -1)
    loads = np.array([ways == part for part in range(parts)])
    ways_kept = loads.any(1).all(0)
    for seed in range(20):
        sizes = np.random.default_rng(seed).integers(50, 150, count)
        shares = (loads * sizes[:, None]).sum(1)[:, ways_kept] / sizes.sum()
        best = np.abs(shares - np.reshape(fifths, (-1, 1)) / 5).max(0).min()
        found = np.bincount(split.allot(sizes, fifths), sizes, parts) / sizes.sum()
        assert found.min() > 0
        assert np.abs(found - np.array(fifths) / 5).max() < best + 0.06


@pytest.mark.parametrize("giant", [0, 7, 30])
def test_one_group_of_half_of_all_goes_to_train(giant: int) -> None:
    numbers = split.allot(np.insert(np.ones(30, int), giant, 30), (1, 1, 3))
    assert numbers[giant] == 2
    assert np.bincount(numbers).tolist() == [12, 12, 7]


def test_many_groups_are_counted_out_in_order() -> None:
    assert split._fill(np.array([1, 1, 98]), 100, most=1) == [0]  # the parts that follow need one each
    numbers = split.allot(np.ones(1000, int), (1, 1, 3))
    assert numbers.tolist() == [0] * 200 + [1] * 200 + [2] * 600
    sizes = np.random.default_rng(0).integers(1, 100, 30_000)
    assert np.bincount(split.allot(sizes, (1, 1, 3)), sizes) / sizes.sum() == pytest.approx([0.2, 0.2, 0.6], abs=1e-3)


@pytest.mark.parametrize(("groups", "test"), [(3, 0), (5, 0), (8, 0), (12, 0), (2, 30)])
def test_few_groups_fill_every_part(tmp_path: Path, groups: int, test: int) -> None:
    lots = np.arange(N) // (N // groups)
    found = load(save(tmp_path, example(test=test) | {"groups": lots}))
    held = [{lots[i] for i in ids(getattr(found, part))} for part in (PARTS[:2] if test else PARTS)]
    assert all(held)
    assert sum(map(len, held)) == len(set.union(*held)) == groups
    assert len(held[0]) == {3: 1, 5: 3, 8: 5, 12: 7, 2: 1}[groups]


def test_groups_are_taken_in_the_order_of_their_hashes(tmp_path: Path) -> None:
    found = load(save(tmp_path, example() | {"groups": np.arange(N) // 4 * 5}))
    order = np.argsort(split.places(np.arange(N // 4) * 5))
    held = [{i // 4 for i in ids(getattr(found, part))} for part in PARTS]
    assert held == [set(order[12:]), set(order[6:12]), set(order[:6])]


@pytest.mark.parametrize(("groups", "test"), [(1, 0), (2, 0), (1, 30)])
def test_too_few_groups(tmp_path: Path, groups: int, test: int) -> None:
    source = save(tmp_path, example(test=test) | {"groups": np.arange(N) % groups})
    with pytest.raises(
        InsufficientDataError, match=rf"{groups} group\(s\) cannot fill .*give {2 if test else 3}"
    ) as caught:
        load(source)
    assert str(caught.value).startswith(f"data {source}: ")


def test_a_class_that_no_training_group_holds(tmp_path: Path) -> None:
    lots = np.arange(N) // 24
    apart = np.argsort(split.places(np.arange(5)))[0]  # the group that certifies
    contents = example(classes=2) | {"groups": lots}
    contents["y_train"][lots == apart] = 2
    with pytest.raises(
        InsufficientDataError, match=r"no example of class 2 \(2\) falls into the part train: .*to x_train"
    ):
        load(save(tmp_path, contents))


@pytest.mark.parametrize("images", [1_000, 20, 7])
def test_images_cuts_training_only(tmp_path: Path, images: int) -> None:
    source = save(tmp_path, example())
    whole, cut = load(source), load(source, images=images)
    for index in (0, 1):
        assert np.array_equal(cut.train[index], whole.train[index][:images])
        assert np.array_equal(cut.select[index], whole.select[index])
        assert np.array_equal(cut.certify[index], whole.certify[index])
    assert cut.digest == whole.digest


def test_digest_is_of_the_arrays_alone(tmp_path: Path) -> None:
    contents = example(dtype="int16")
    before = load(save(tmp_path, contents)).digest
    swapped = contents | {"x_train": contents["x_train"].astype(">i2"), "y_train": contents["y_train"].astype(np.uint8)}
    assert load(save(tmp_path, swapped, "other.npz")).digest == before
    contents["y_train"][5] = (contents["y_train"][5] + 1) % 3
    assert load(save(tmp_path, contents)).digest != before


# ---- input map


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 16), (9,)])
def test_integers_get_one_integer_offset(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    contents = example(shape=shape, dtype=dtype)
    if dtype == "int16":
        contents["x_train"] -= 5000
    found = load(save(tmp_path, contents), layout="flat" if len(shape) == 1 else "channels-first")
    x = found.train[0]
    assert found.input.dtype == x.dtype.name == dtype
    assert found.input.offset == (float(round(x.mean())),) * shape[0]
    assert found.input.step == (pytest.approx(1 / x.std(), rel=1e-6),) * shape[0]
    assert found.input.one_step
    assert float(np.float32(found.input.step[0])) == found.input.step[0]


def test_floats_get_an_offset_per_channel(tmp_path: Path) -> None:
    contents = example(shape=(2, 16), dtype="float64")
    contents["x_train"][:, 1] += 1000.25
    found = load(save(tmp_path, contents), layout="series")
    x = found.input.apply(found.train[0])
    assert found.input.dtype == found.train[0].dtype.name == "float32"
    assert np.allclose(x.mean((0, 2)), 0, atol=1e-4)
    assert np.allclose(x.std((0, 2)), 1, atol=1e-4)
    assert all(float(np.float32(n)) == n for n in (*found.input.offset, *found.input.step))


def test_every_channel_of_floats_gets_deviation_1(tmp_path: Path) -> None:
    contents = example(shape=(3, 16), dtype="float32")
    contents["x_train"] *= np.float32([[1e-4], [1], [1e6]])
    found = load(save(tmp_path, contents), layout="series")
    assert np.allclose(found.input.apply(found.train[0]).std((0, 2)), 1, atol=1e-4)
    assert f"* ({min(found.input.step):.9g}..{max(found.input.step):.9g} by channel)" in cli_data._text(summary(found))


@pytest.mark.parametrize(
    ("constant", "spread"),
    [(0.0, 1.0), (0.1, 1.0), (1e5, 1e5), (-1e5, 1e5), (1e-42, 1.0)],  # of the whole, or of its own magnitude
)
def test_a_constant_channel_gets_a_step_that_cannot_drown_the_others(constant: float, spread: float) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([np.full((500, 8), constant), rng.normal(7, sqrt(2), (500, 8))], 1).astype(np.float32)
    found = data._input(x)
    assert found.step == (pytest.approx(1 / spread, rel=0.05), pytest.approx(sqrt(0.5), rel=0.05))
    assert (found.apply(x)[:, 0] == 0).all()
    one = found.apply(x + np.float32([[1], [0]]))[:, 0]
    assert np.abs(one).max() <= 1.05


@pytest.mark.parametrize(("values", "what"), [((5.0, 5.0), "0.0"), ((0.0, 1e-41), "e-42"), ((-3e38, 3e38), "38")])
def test_floats_that_no_step_can_scale_are_refused(values: tuple[float, float], what: str) -> None:
    x = np.array([values] * 50, np.float32).reshape(-1, 1)
    with pytest.raises(DataError, match=rf"spread by .*{what}"):
        data._input(x)
    with pytest.raises(DataError, match=r"spread by 0\.0"):
        data._input(np.float32([[1, 2]] * 50))  # two channels, neither of which changes


def test_the_map_comes_from_the_training_part_that_is_used(tmp_path: Path) -> None:
    contents = example(test=30)
    contents["x_test"][:] = 255
    assert load(save(tmp_path, contents)).input == load(save(tmp_path, example(test=30))).input
    cut = load(save(tmp_path, contents), images=20)
    assert cut.input.step == (pytest.approx(1 / cut.train[0].std(), rel=1e-6),)


def test_moments_by_blocks() -> None:
    x = np.random.default_rng(1).integers(0, 256, (3000, 1000)).astype(np.uint8)
    assert data._moments(x) == pytest.approx((x.mean(), x.std()), rel=1e-12)


# ---- layouts


@pytest.mark.parametrize(
    ("stored", "dtype", "layout", "shape"),
    [
        ((6, 7), "uint8", "auto", (1, 6, 7)),
        ((6, 7, 3), "uint8", "auto", (3, 6, 7)),
        ((6, 7, 1), "float32", "auto", (1, 6, 7)),
        ((4, 6, 7), "uint8", "auto", (4, 6, 7)),
        ((9,), "float32", "auto", (9,)),
        ((9,), "uint8", "auto", (9,)),
        ((9,), "float32", "series", (1, 9)),
        ((2, 9), "float32", "series", (2, 9)),
        ((2, 9), "uint8", "channels-first", (2, 9)),
        ((9, 2), "float32", "channels-last", (2, 9)),
        ((9, 2), "float32", "series-last", (2, 9)),
        ((6, 7, 2), "uint8", "channels-last", (2, 6, 7)),
        ((2, 6, 7), "uint8", "channels-first", (2, 6, 7)),
        ((6, 7, 3), "uint8", "flat", (126,)),
    ],
)
def test_layout(tmp_path: Path, stored: tuple[int, ...], dtype: str, layout: str, shape: tuple[int, ...]) -> None:
    found = load(save(tmp_path, example(shape=stored, dtype=dtype)), layout=layout)
    assert found.train[0].shape[1:] == shape
    assert found.train[0].flags.c_contiguous


def test_channels_last_moves_the_axis() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    assert arrays.arrange("x", x, "channels-last")[0, 2, 1, 3] == x[0, 1, 3, 2]


@pytest.mark.parametrize("stored", [(2, 6, 7), (3, 6, 3), (1, 6, 1)])
def test_auto_refuses_to_guess(tmp_path: Path, stored: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"two ways.*channels-first"):
        load(save(tmp_path, example(shape=stored)))


@pytest.mark.parametrize(
    ("stored", "layout"),
    [
        ((9,), "channels-first"),
        ((9,), "channels-last"),
        ((9,), "series-last"),
        ((3, 4, 4), "series"),
        ((3, 4, 4), "series-last"),
        ((3, 9), "auto"),
    ],
)
def test_layout_that_does_not_fit(tmp_path: Path, stored: tuple[int, ...], layout: str) -> None:
    with pytest.raises(DataError, match=r"x_train has shape .*layout"):
        load(save(tmp_path, example(shape=stored, dtype="float32")), layout=layout)


def test_options_that_fit_nothing() -> None:
    for options in ({"layout": "sideways"}, {"layout": "channels-last"}, {"images": 0}):
        with pytest.raises(UsageError):
            load("digits", **options)


# ---- refusals


def changed(key: str, index: object, value: object, **options: object) -> dict:
    contents = example(**options)
    contents[key][index] = value
    return contents


def without(key: str) -> dict:
    return {name: array for name, array in example(test=30).items() if name != key}


REFUSALS = {
    "NaN": (changed("x_train", (7, 0), np.nan, dtype="float32"), r"x_train holds NaN.*1 of 120.*first in example 7"),
    "infinity": (changed("x_train", (8, 0), -np.inf, dtype="float64"), r"x_train holds NaN, inf.*first in example 8"),
    "beyond float32": (changed("x_train", (9, 0), 1e300, dtype="float64"), r"beyond float32.*first in example 9"),
    "NaN in test": (changed("x_test", (3, 0), np.nan, dtype="float32", test=30), r"x_test holds NaN"),
    "negative label": (changed("y_train", 4, -1), r"y_train\[4\] is -1"),
    "huge label": (changed("y_train", 5, 10**9), r"y_train\[5\] is 1000000000"),
    "label beyond classes": (example() | {"classes": np.array(["a", "b"])}, r"y_train holds label 2, classes are 0..1"),
    "test label beyond": (changed("y_test", 6, 3, test=30), r"y_test holds label 3, classes are 0..2"),
    "label gap": (
        changed("y_train", 7, 99),
        r"labels run to 99 but class 3 has none: number them from 0 without gaps",
    ),
    "label gap at 0": (changed("y_train", slice(None), np.arange(N) % 3 + 1), r"labels run to 3 but class 0 has none"),
    "class without examples": (example() | {"classes": np.array([*"abcd"])}, r"class 3 \(d\) has no training example"),
    "float labels in one part": (
        example(test=30) | {"y_train": np.arange(N) / 7},
        r"y_train is float64 and y_test is int64: give both as integers for classification, or",
    ),
    "boolean labels": (example() | {"y_train": np.zeros(N, bool)}, r"y_train is bool"),
    "text labels": (example() | {"y_train": np.array(["a"] * N)}, r"y_train is <U1"),
    "one class": (example(classes=1), r"only one class"),
    "one class, numbered 1": (changed("y_train", slice(None), 1), r"only one class"),
    "fewer labels": (example() | {"y_train": np.zeros(N - 1, int)}, r"y_train has shape \(119,\) for 120 examples"),
    "label column": (example() | {"y_train": np.zeros((N, 1), int)}, r"y_train has shape \(120, 1\)"),
    "one axis": (example() | {"x_train": np.zeros(N, np.uint8)}, r"x_train has shape \(120,\)"),
    "five axes": (example() | {"x_train": np.zeros((N, 1, 2, 2, 2), np.uint8)}, r"x_train has shape"),
    "no examples": (example() | {"x_train": np.zeros((0, 4), np.uint8)}, r"x_train has shape \(0, 4\)"),
    "empty examples": (example() | {"x_train": np.zeros((N, 0), np.uint8)}, r"x_train has shape \(120, 0\)"),
    "empty test": (example() | {"x_test": np.zeros((0, 4)), "y_test": np.zeros(0, int)}, r"x_test has shape \(0, 4\)"),
    "test of other shape": (
        example() | {"x_test": np.zeros((9, 5), np.uint8), "y_test": np.arange(9) % 3},
        r"x_test is",
    ),
    "test of other type": (example(test=30) | {"x_test": np.ones((30, 1, 5, 6))}, r"x_test is float32.*x_train uint8"),
    "int64": (example(dtype="int64"), r"x_train is int64: store .*uint8, int16"),
    "complex": (example(dtype="complex64"), r"x_train is complex64"),
    "text": (example() | {"x_train": np.full((N, 3), "a")}, r"x_train is <U1"),
    "constant": (changed("x_train", slice(None), 7), r"spread by 0.0"),
    "constant floats": (changed("x_train", slice(None), 0.1, dtype="float32"), r"spread by "),
    "no x_train": (without("x_train"), r"'x_train' is missing \(found: y_train, x_test, y_test\)"),
    "no y_train": (without("y_train"), r"'y_train' is missing"),
    "no x_test": (without("x_test"), r"'x_test' is missing"),
    "no y_test": (without("y_test"), r"'y_test' is missing"),
    "nothing": ({}, r"'x_train' is missing \(found: none\)"),
    "unknown array": (example() | {"group": np.arange(N)}, r"'group' is unknown: known are .*groups"),
    "float groups": (example() | {"groups": np.zeros(N)}, r"groups is float64"),
    "fewer groups": (example() | {"groups": np.zeros(N - 1, int)}, r"groups is int64 \(119,\) for 120"),
    "classes twice": (example() | {"classes": np.array(["a", "b", "a"])}, r"one name twice"),
    "classes as numbers": (example() | {"classes": np.arange(3)}, r"classes is not a list of strings"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(tmp_path: Path, case: str) -> None:
    contents, sentence = REFUSALS[case]
    source = save(tmp_path, contents)
    with pytest.raises(DataError, match=sentence) as caught:
        load(source)
    assert str(caught.value).startswith(f"data {source}: ")


def test_too_few_examples_are_told_as_such(tmp_path: Path) -> None:
    source = save(tmp_path, example(4))
    with pytest.raises(
        InsufficientDataError, match=rf"data {source}: only .* fall into the part (train|select|certify)"
    ):
        load(source)
    run = CliRunner().invoke(main, ["data", "check", source])
    assert run.exit_code == 6


def test_objects_are_refused_unread(tmp_path: Path) -> None:
    contents = example() | {"y_train": np.array([{}] * N, object)}
    with pytest.raises(DataError, match=r"y_train.npy holds Python objects"):
        load(save(tmp_path, contents))


def test_images_that_leave_one_class(tmp_path: Path) -> None:
    contents = example()
    contents["y_train"].sort()
    with pytest.raises(DataError, match="first 5 training examples are of one class"):
        load(save(tmp_path, contents), images=5)


@pytest.mark.parametrize("source", ["fashion", "no/such/folder", "x.csv", "", "a" * 5000, "nul\0"])
def test_unknown_name_lists_the_known(source: str) -> None:
    with pytest.raises(DataError, match=r"digits, fashion-mnist.*\.npz"):
        load(source)


@pytest.mark.parametrize("source", ["absent.npz", "absent.py:f", "nul\0.npz", "a" * 5000 + ".npz"])
def test_absent_file(source: str) -> None:
    with pytest.raises(DataError, match=r"not a file|cannot be read"):
        load(source)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.npz")
    with pytest.raises(DataError, match="not a file"):
        load(str(tmp_path / "p.npz"))


# ---- tasks


def test_the_task_follows_from_the_labels(tmp_path: Path) -> None:
    x = example(test=30)
    for y_train, task in (
        (x["y_train"], "classification"),
        (x["y_train"].astype(np.uint8), "classification"),
        (np.linspace(0, 1, N), "regression"),
        (np.linspace(0, 1, N).astype(np.float16), "regression"),
        (np.random.default_rng(0).normal(size=(N, 3)), "regression"),
    ):
        source = save(tmp_path, x | {"y_train": y_train, "y_test": y_train[:30]})
        assert (load(source).task, load(source, task=task).digest) == (task, load(source).digest)


@pytest.mark.parametrize("targets", [None, 1, 2])
def test_targets_stay_in_their_own_units(tmp_path: Path, targets: int | None) -> None:
    generator = np.random.default_rng(1)
    shape = (N,) if targets is None else (N, targets)
    y = 40 + generator.normal(size=shape) * (0.01 if targets != 2 else [0.01, 1e4])
    contents = example() | {"y_train": y}
    found, by_class = load(save(tmp_path, contents)), load(save(tmp_path, example(), "c.npz"))
    for part in PARTS:
        x, values = getattr(found, part)
        assert np.array_equal(x, getattr(by_class, part)[0])  # the task moves no example
        assert values.dtype == np.float32
        assert np.array_equal(values, y.astype(np.float32)[[*x.reshape(len(x), -1)[:, 0]]])
    assert found.classes == (("target 0", "target 1") if targets == 2 else ("target",))
    cut = load(save(tmp_path, contents), images=20)
    assert len(cut.target_offset) == len(cut.target_step) == (targets or 1)
    train = cut.train[1].astype(np.float64).reshape(20, -1)
    assert cut.target_offset == pytest.approx(train.mean(0).tolist(), rel=1e-7)
    assert cut.target_step == pytest.approx((1 / train.std(0)).tolist(), rel=1e-6)
    assert all(float(np.float32(value)) == value for value in (*cut.target_offset, *cut.target_step))
    assert (by_class.target_offset, by_class.target_step, by_class.left_out) == ((), (), 0)


def test_targets_by_name_and_from_integers(tmp_path: Path) -> None:
    y = np.stack([np.arange(N) ** 2, np.arange(N)], 1)
    source = save(tmp_path, example() | {"y_train": y, "classes": np.array(["bar", "degrees"])})
    found = load(source, task="regression")
    assert found.classes == ("bar", "degrees")
    assert found.train[1].dtype == np.float32
    assert summary(found)["targets"]["names"] == ["bar", "degrees"]


def targets(y: np.ndarray, **more: np.ndarray) -> dict:
    return example() | {"y_train": y} | more


def spoilt(index: object, value: float) -> np.ndarray:
    y = np.linspace(0, 1, 2 * N).reshape(N, 2)
    y[index] = value
    return y


BAD_TARGETS = {
    "NaN": (targets(spoilt((4, 1), np.nan)), r"y_train holds NaN.* 1 of 120 .*first in example 4"),
    "infinity": (targets(spoilt((5, 0), np.inf)), r"y_train holds NaN, infinity.*first in example 5"),
    "beyond float32": (targets(spoilt((6, 0), 1e39)), r"y_train holds .*beyond float32.*first in example 6"),
    "three axes": (targets(np.ones((N, 1, 1))), r"y_train has shape \(120, 1, 1\) for 120 examples"),
    "no target": (targets(np.ones((N, 0))), r"y_train has shape \(120, 0\)"),
    "fewer": (targets(np.ones(N - 1)), r"y_train has shape \(119,\) for 120 examples"),
    "text": (targets(np.array(["1.5"] * N)), r"y_train is <U3: targets are numbers"),
    "too few names": (targets(spoilt((0, 0), 9), classes=np.array(["a"])), r"1 names for 2 target\(s\)"),
    "another test set": (
        targets(spoilt((0, 0), 9), x_test=example(9)["x_train"], y_test=np.arange(9) / 3),
        r"y_test has rows of \(\), y_train of \(2,\)",
    ),
    "spread beyond float32": (targets(np.arange(N) * 1e-44), r"targets spread by .*change the unit"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_targets_refused(tmp_path: Path, case: str) -> None:
    contents, sentence = BAD_TARGETS[case]
    with pytest.raises(DataError, match=sentence):
        load(save(tmp_path, contents), task="regression")


def test_a_target_that_never_changes(tmp_path: Path) -> None:
    y = np.stack([np.linspace(0, 1, N), np.full(N, 0.1)], 1)
    source = save(tmp_path, targets(y))
    with pytest.raises(InsufficientDataError, match=r"target 1 is 0\.1.* in all 69 training examples"):
        load(source)
    assert CliRunner().invoke(main, ["data", "check", source]).exit_code == 6
    y[:, 1] = np.arange(N) > 60
    with pytest.raises(InsufficientDataError, match=r"target 1 is 0\.0 in all 5 "):
        load(save(tmp_path, targets(y)), images=5)


def test_floats_are_no_classes(tmp_path: Path) -> None:
    for task in ("classification", "anomaly"):
        with pytest.raises(DataError, match=r"y_train is float64: number the classes"):
            load(save(tmp_path, targets(np.arange(N) / 2)), task=task)


@pytest.mark.parametrize("test", [0, 30])
@pytest.mark.parametrize("groups", [False, True])
def test_anomalies_are_left_out_of_train_alone(tmp_path: Path, test: int, groups: bool) -> None:
    contents = example(classes=4, test=test)
    for name in ("y_train", "y_test")[: 2 if test else 1]:
        contents[name] = np.array([0, 3, 0, -7])[contents[name]]
    contents |= {"groups": np.arange(N) // 4} if groups else {}
    source = save(tmp_path, contents)
    found = load(source, task="anomaly")
    whole = load(save(tmp_path, contents | {"y_train": np.arange(N) % 3}, "whole.npz")) if not test else None
    assert (found.task, found.classes) == ("anomaly", ("normal", "anomaly"))
    for part in PARTS:
        x, y = getattr(found, part)
        assert y.dtype == np.int64
        assert y.tolist() == [int(first) % 2 for first in x.reshape(len(x), -1)[:, 0]]
        assert len(set(y.tolist())) == (1 if part == "train" else 2)
    assert found.train[1].max() == 0
    assert found.left_out == N // 2 - sum(found.select[1] == 1) - (0 if test else sum(found.certify[1] == 1))
    assert found.left_out > 10
    if whole:
        assert ids(found.train) == {i for i in ids(whole.train) if i % 2 == 0}
        assert ids(found.certify) == ids(whole.certify)
    cut = load(source, task="anomaly", images=7)
    assert np.array_equal(cut.train[0], found.train[0][:7])
    assert cut.left_out == found.left_out


def test_which_class_is_normal(tmp_path: Path) -> None:
    contents = example()
    for classes, normal in ((["bad", "OK", "worse"], 1), (["good", "x", "y"], 0)):
        found = load(save(tmp_path, contents | {"classes": np.array(classes)}), task="anomaly")
        x, y = found.certify
        assert np.array_equal(y == 0, x.reshape(len(x), -1)[:, 0] % 3 == normal)
    for classes in (["a", "b", "c"], ["ok", "good", "c"]):
        with pytest.raises(DataError, match=r"which of the classes .*, c is normal\? Name one"):
            load(save(tmp_path, contents | {"classes": np.array(classes)}), task="anomaly")


@pytest.mark.parametrize(
    ("y_train", "y_test", "sentence"),
    [
        (
            np.zeros(N, int),
            np.arange(30) % 2,
            r"no example of class 1 \(anomaly\) falls into the part select.*to x_train",
        ),
        (np.arange(N) % 2, np.zeros(30, int), r"no example of class 1 \(anomaly\) .* certify: .*to x_test"),
        (np.arange(N) % 2, np.ones(30, int), r"no example of class 0 \(normal\) .* certify"),
        (np.ones(N, int), np.arange(30) % 2, r"only 0 example\(s\) fall into the part train"),
    ],
)
def test_anomalies_need_both_kinds(tmp_path: Path, y_train: np.ndarray, y_test: np.ndarray, sentence: str) -> None:
    source = save(tmp_path, example(test=30) | {"y_train": y_train, "y_test": y_test})
    with pytest.raises(InsufficientDataError, match=sentence):
        load(source, task="anomaly")
    assert CliRunner().invoke(main, ["data", "check", source, "--task", "anomaly"]).exit_code == 6


def test_one_training_example(tmp_path: Path) -> None:
    for task in TASKS:
        with pytest.raises(DataError, match="1 training example is too few"):
            load(save(tmp_path, example()), images=1, task=task)


def test_an_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown task 'sorting': one of auto, classification, regression, anomaly"):
        load(save(tmp_path, example()), task="sorting")
    assert CliRunner().invoke(main, ["data", "check", "digits", "--task", "sorting"]).exit_code == 2


def test_warnings_follow_the_task(tmp_path: Path) -> None:
    (whole,) = summary(load(save(tmp_path, targets(np.arange(N) % 3 + 0.0))))["warnings"]
    assert whole.startswith("the targets are 3 whole numbers")
    assert summary(load(save(tmp_path, targets(np.arange(N) + 0.0))))["warnings"] == []
    assert summary(load(save(tmp_path, targets(np.arange(N) % 3 + 0.5))))["warnings"] == []
    contents = example(classes=2, test=30)
    assert summary(load(save(tmp_path, contents), task="anomaly"))["warnings"] == []
    contents["y_test"] = np.arange(30) // 28
    (few,) = summary(load(save(tmp_path, contents), task="anomaly"))["warnings"]
    assert few.startswith("fewer than 5 examples of a class in certify: anomaly (2)")


def test_the_summary_follows_the_task(tmp_path: Path) -> None:
    source = save(tmp_path, targets(spoilt((0, 0), 9.0), classes=np.array(["bar", "degrees"])))
    found = summary(load(source))
    assert "classes" not in found
    y = load(source).train[1].astype(np.float64)
    assert found["targets"]["mean"] == pytest.approx(y.mean(0))
    assert found["targets"]["spread"] == pytest.approx(y.std(0))
    run = CliRunner().invoke(main, ["data", "check", source, "--format", "json"])
    assert json.loads(run.stdout) == found
    text = CliRunner().invoke(main, ["data", "check", source]).stdout
    assert "x.npz (regression)" in text
    assert "targets 2: mean, standard deviation in train\n  bar " in text
    assert f"{y.mean(0)[1]:.4g}  {y.std(0)[1]:.4g}\n" in text
    text = CliRunner().invoke(main, ["data", "check", save(tmp_path, example(classes=2)), "--task", "anomaly"]).stdout
    left = load(source, task="regression").train[0].shape[0] - load(str(tmp_path / "x.npz"), task="anomaly").left_out
    assert "x.npz (anomaly)" in text
    assert f"{69 - left} anomalous ones are left out of train\n  normal   {left}  " in text
    assert "\n  anomaly   0  " in text


# ---- damaged .npz


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = Path(save(tmp_path, example(20))).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="damaged"):
            load(str(path))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_altered_bytes_never_raise_anything_else(tmp_path: Path, changes: list, compressed: bool) -> None:
    path = tmp_path / "m.npz"
    (np.savez_compressed if compressed else np.savez)(path, **example(40))
    content = bytearray(path.read_bytes())
    for where, value in changes:
        content[where % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert isinstance(load(str(path)), Data)


def write_member(path: Path, header: bytes, body: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", npy.magic(1, 0) + len(header).to_bytes(2, "little") + header + body)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 4), }\n",  # allocates a terabyte if believed
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2), }\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 1000000000000000000000000), }\n",
        b"{'descr': '|V0', 'fortran_order': False, 'shape': (4,), }\n",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (4,), }\n",
        b"((((((((((",
        b"__import__('os').abort()\n",
    ],
)
def test_a_header_is_not_believed(tmp_path: Path, header: bytes) -> None:
    write_member(tmp_path / "x.npz", header, b"1234")
    with pytest.raises(DataError, match="damaged"):
        load(str(tmp_path / "x.npz"))


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, example())
    for name, value, sentence in (
        ("MAX_BYTES", 2000, "unpacks to"),
        ("MAX_FILE", 2000, "larger"),
        ("MAX_MEMBERS", 1, "1 arrays"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(npz, name, value)
            with pytest.raises(DataError, match=sentence):
                load(source)


def test_one_name_twice(tmp_path: Path) -> None:
    source = save(tmp_path, example())
    with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x_train.npy", b"")
    with pytest.raises(DataError, match="one name twice"):
        load(source)


def test_compressed_and_fortran_order(tmp_path: Path) -> None:
    contents = example()
    np.savez_compressed(tmp_path / "c.npz", x_train=np.asfortranarray(contents["x_train"]), y_train=contents["y_train"])
    assert load(str(tmp_path / "c.npz")).digest == load(save(tmp_path, contents)).digest


def test_a_path_object(tmp_path: Path) -> None:
    source = save(tmp_path, example())
    found = load(Path(source))
    assert (found.name, found.digest) == ("x.npz", load(source).digest)
    with pytest.raises(DataError, match=r"^data .*none.npz: "):
        load(tmp_path / "none.npz")


# ---- file.py:function


def test_function(tmp_path: Path) -> None:
    source = save(tmp_path, example(test=30))
    file = tmp_path / "mine.py"
    file.write_text(
        f"import numpy as np\ndef get():\n    return dict(np.load({source!r})) | {{'classes': ['a', 'b', 'c']}}\n"
    )
    found = load(f"{file}:get")
    assert found.digest == load(source).digest
    assert found.classes == ("a", "b", "c")
    assert found.name == "mine.py:get"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("def get(:\n", "SyntaxError"),
        ("import no_such_module_here\n", "ModuleNotFoundError"),
        ("def other(): pass\n", "AttributeError"),
        ("def get(): return 1 / 0\n", r"get in .*mine.py failed \(ZeroDivisionError"),
        ("def get(): return None\n", "gave NoneType: return a dict"),
        ("def get(): return {'x_train': [[1]], 'y_train': [0]}\n", "x_train is list: give a numpy array"),
        ("import numpy as np\ndef get(): return {'x_train': np.array([{}]), 'y_train': np.zeros(1, int)}\n", "objects"),
        ("def get(): return {1: 2}\n", "array 1 is unknown"),
        ("def get(): raise PermissionError(13, 'no')\n", "PermissionError"),
    ],
)
def test_function_refused(tmp_path: Path, body: str, sentence: str) -> None:
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(DataError, match=sentence):
        load(f"{tmp_path / 'mine.py'}:get")


# ---- folder of images


def pictures(root: Path, count: int = 20, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> Path:
    """Two classes; picture i of a class has the value i, plus 100 in class b."""
    try:
        from PIL import Image
    except ImportError:
        missing("Pillow is not installed: pip install edgeticket[images]")
    for label, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for index in range(count):
            value = 100 * label + index
            Image.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(
                root / name / f"{index:03d}.png"
            )
    return root


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_folder(tmp_path: Path, mode: str, channels: int) -> None:
    found = load(str(pictures(tmp_path / "parts", mode=mode)))
    assert found.name == "parts"
    assert found.classes == ("a", "b")
    assert found.train[0].shape[1:] == (channels, 4, 5)
    assert found.train[0].dtype == np.uint8
    for part in PARTS:
        x, y = getattr(found, part)
        assert np.array_equal(x[:, 0, 0, 0] >= 100, y == 1)
    assert set(load(str(tmp_path / "parts"), images=8).train[1]) == {0, 1}  # the classes alternate


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    pictures(tmp_path / "train"), pictures(tmp_path / "test", count=3)
    found = load(str(tmp_path))
    assert len(found.certify[1]) == 6
    assert len(found.train[1]) + len(found.select[1]) == 40


def test_folder_refusals(tmp_path: Path) -> None:
    from_scratch = iter(range(100))

    def refused(sentence: str, damage, below: str = "") -> None:  # type: ignore[no-untyped-def]
        root = tmp_path / str(next(from_scratch))
        pictures(root / below)
        damage(root)
        with pytest.raises(DataError, match=sentence):
            load(str(root))

    def smaller(root: Path) -> None:
        from PIL import Image

        Image.new("RGB", (5, 3)).save(root / "b" / "007.png")

    def cut(root: Path) -> None:
        file = root / "a" / "003.png"
        file.write_bytes(file.read_bytes()[:50])

    def sixteen_bits(root: Path) -> None:
        from PIL import Image

        Image.new("I;16", (5, 4)).save(root / "a" / "002.png")

    refused(r"b/007.png is \(3, 3, 5\) .*before it are \(3, 4, 5\)", smaller)
    refused(r"a/003.png is not a usable image \([^<>]*\): convert", cut)
    refused(
        r"a/004.png is not a usable image \(damaged, or none of PNG, JPEG[^<>]*\): convert",
        lambda root: (root / "a" / "004.png").write_text("%!PS-Adobe"),
    )
    refused(r"a/002.png is not a usable image .*colour mode", sixteen_bits)
    refused(r"notes.txt is not an image of a known kind", lambda root: (root / "a" / "notes.txt").write_text("x"))
    refused(r"stray.png lies beside", lambda root: (root / "a" / "001.png").rename(root / "stray.png"))
    refused(r"c is a class without training images", lambda root: pictures(root / "test" / "c"), below="train")


def test_folder_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "d")
    for name, value, sentence in (
        ("MAX_PIXELS", 10, "more than 10 pixels"),
        ("MAX_BYTES", 10, "over 10"),
        ("MAX_FILE", 10, "larger"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(folder, name, value)
            with pytest.raises(DataError, match=sentence):
                load(str(tmp_path / "d"))


def test_empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_pillow", lambda: None)
    with pytest.raises(DataError, match="has no sub-folders"):
        load(str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load(str(tmp_path))


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder, "_pillow", lambda: None)
    monkeypatch.setattr(Path, "iterdir", denied)  # root may read everything, so chmod would not do
    with pytest.raises(DataError, match=r"cannot be read.*Permission denied.*permissions"):
        load(str(tmp_path))


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    source = save(tmp_path, example())
    monkeypatch.setattr(Path, "read_bytes", denied)
    for name in (source, "digits"):
        with pytest.raises(DataError, match=r"cannot be read.*Permission denied"):
            load(name)


def test_folder_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install edgeticket\[images\]"):
        load(str(tmp_path))


# ---- known names


def test_digits() -> None:
    found = load("digits")
    assert [len(getattr(found, part)[1]) for part in PARTS] == [1061, 359, 377]
    assert found.train[0].shape[1:] == (1, 8, 8)
    assert found.train[0].dtype == np.uint8
    assert found.train[1].dtype == np.int64
    assert max(getattr(found, part)[0].max() for part in PARTS) == 16
    assert found.input.offset == (5.0,)
    assert found.digest == "ab2aeb8d7060d01895858e6616d2e93161eeeb7799505cf99ea78485a7e88789"
    assert "CC BY 4.0" in found.note
    assert load("digits", layout="flat").train[0].shape[1:] == (64,)


def test_altered_digits_are_refused() -> None:
    content = bytearray((Path(digits.resources.files("sample_models")) / "digits.csv.gz").read_bytes())
    content[-1] ^= 1
    with pytest.raises(DataError, match=r"SHA-256.*install edgeticket again"):
        digits.parse(bytes(content))


def test_fashion_mnist() -> None:
    try:
        found = load("fashion-mnist")
    except DataError as error:
        if fashion_mnist.FOLDER.is_dir():
            raise
        missing(str(error))
    assert [len(getattr(found, part)[1]) for part in PARTS] == [48028, 11972, 10000]
    assert found.train[0].shape[1:] == (1, 28, 28)
    assert found.input.offset == (73.0,)
    assert found.digest == "558f85bdf4375367a7073561b6f6772b3ddcfb11134d445dc5af684100187bc5"
    assert np.bincount(found.certify[1]).tolist() == [1000] * 10


def test_fashion_mnist_absent_or_altered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist.read(tmp_path / "none")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is not a file"):
        fashion_mnist.read(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"SHA-256.*apt-get install --reinstall"):
        fashion_mnist.read(tmp_path)


# ---- summary and command line


def test_summary_counts_every_example() -> None:
    found = load("digits", images=100)
    counts = summary(found)
    assert counts["sizes"] == {"train": 100, "select": 359, "certify": 377}
    assert np.sum(list(counts["classes"].values()), 0).tolist() == [100, 359, 377]
    assert summary(replace(found, name="other")) == counts | {"name": "other"}


def test_command_list() -> None:
    run = CliRunner().invoke(main, ["data", "list", "--format", "json"])
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["name"] for row in rows if "name" in row] == [name for name, _ in names()]
    assert [row["form"] for row in rows if "form" in row] == list(FORMS)
    assert [row["layout"] for row in rows if "layout" in row] == list(LAYOUTS)
    assert [row["task"] for row in rows if "task" in row] == list(TASKS)
    text = CliRunner().invoke(main, ["data", "list"]).stdout
    assert all(name in text and line in text for name, line in [*names(), *FORMS.items()])
    shown = CliRunner().invoke(main, ["data", "check", "--help"]).stdout.replace("\n  ", "\n")
    assert all(words in text and words in shown for words in (LAYOUT_HELP, TASK_HELP))


def test_the_text_on_layouts_is_short_and_of_those_there_are() -> None:
    assert data.LAYOUT_HELP is LAYOUT_HELP
    assert [line.split()[0] for line in LAYOUT_HELP.splitlines()[1:]] == list(data.LAYOUTS)
    assert max(map(len, LAYOUT_HELP.splitlines())) < 100
    assert "[n, channels, length]" in LAYOUT_HELP
    assert "[n, length, channels]" in LAYOUT_HELP


SPREADS = (0.01, 50, 1)


def uneven(n: int = 60) -> dict:
    generator = np.random.default_rng(3)
    x = generator.normal(np.reshape((1, 2, 3), (3, 1)), np.reshape(SPREADS, (3, 1)), (n, 3, 40))
    return {"x_train": x, "y_train": np.arange(n) % 2}


@pytest.mark.parametrize("dtype", ["float64", "int16"])
def test_each_channels_mean_and_spread(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = uneven() | {"x_train": (100 * uneven()["x_train"]).astype(dtype)}
    found = load(save(tmp_path, contents), layout="series")
    monkeypatch.setattr(survey, "blocks", lambda x: iter((x[:7], x[7:])))
    told = summary(found)["channels"]
    x = found.train[0].astype(np.float64)
    assert told["mean"] == pytest.approx(x.mean((0, 2)))
    assert told["spread"] == pytest.approx(x.std((0, 2)))


def test_channels_are_listed_while_few(tmp_path: Path) -> None:
    found = summary(load(save(tmp_path, uneven()), layout="series"))["channels"]
    text = CliRunner().invoke(main, ["data", "check", str(tmp_path / "x.npz"), "--layout", "series"]).stdout
    for mean, spread in zip(found["mean"], found["spread"], strict=True):
        assert f"{mean:12.4g} {spread:12.4g}\n" in text
    text = CliRunner().invoke(main, ["data", "check", str(tmp_path / "x.npz"), "--layout", "flat"]).stdout
    flat = summary(load(str(tmp_path / "x.npz"), layout="flat"))["channels"]
    low, high = min(flat["spread"]), max(flat["spread"])
    assert f"120 features in train, raw: mean {min(flat['mean']):.4g}.." in text
    assert f"deviation {low:.4g}..{high:.4g}\n" in text


def test_warnings(tmp_path: Path) -> None:
    contents = example(test=30)
    contents["x_train"][:, 0, 2, 3] = 7  # one pixel is not a channel
    assert summary(load(save(tmp_path, contents)))["warnings"] == []
    contents["x_test"][:4] = load(save(tmp_path, contents)).train[0][:4]
    contents["y_test"] = np.arange(30) % 10 // 9 * 2  # 27 of class 0, none of class 1, 3 of class 2
    copies, few = summary(load(save(tmp_path, contents)))["warnings"]
    assert copies.startswith("4 of 30 examples of certify have an identical one in train")
    assert few.startswith("fewer than 5 examples of a class in certify: 1 (0), 2 (3): ")
    contents = example(shape=(3, 4, 5))
    contents["x_train"][:, 1] = 7
    (constant,) = summary(load(save(tmp_path, contents)))["warnings"]
    assert constant.startswith("1 of 3 channels never change in train (number 1): ")


def test_warnings_go_to_stderr_or_into_the_json(tmp_path: Path) -> None:
    contents = example(test=30) | {"y_test": np.arange(30) % 10 // 9 * 2}
    arguments = ["data", "check", save(tmp_path, contents)]
    text = CliRunner().invoke(main, arguments)
    assert text.exit_code == 0
    assert text.stderr.startswith("Warning: fewer than 5 examples of a class in certify")
    assert "Warning" not in text.stdout
    run = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert [f"Warning: {line}" for line in json.loads(run.stdout)["warnings"]] == text.stderr.splitlines()


def test_long_lists_are_cut() -> None:
    counts, classes = np.zeros(9, int), tuple("abcdefghi")
    assert "a (0), b (0), c (0), d (0), e (0) and 4 more" in survey._few("train", counts, classes)[0]
    assert (
        "12 of 12 features never change in train (number 0, 1, 2, 3, 4, ...)" in survey._constant(np.ones((5, 12)))[0]
    )


def test_command_check() -> None:
    run = CliRunner().invoke(main, ["data", "check", "digits", "--images", "50", "--format", "json"])
    assert json.loads(run.stdout) == json.loads(json.dumps(summary(load("digits", images=50))))
    text = CliRunner().invoke(main, ["data", "check", "digits"]).stdout
    for piece in (
        "train 1061, select 359, certify 377",
        "1 x 8 x 8 uint8",
        "(raw - 5) * 0.165779859",
        "ab2aeb8d",
        "CC BY",
    ):
        assert piece in text


def test_command_refuses_in_one_line(tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["data", "check", save(tmp_path, example(classes=1))])
    assert run.exit_code == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "only one class" in run.stderr
