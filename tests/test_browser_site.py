"""make.py of the browser demo: what a site is made of, and what can be none. Nothing here needs npm or a browser."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import small_bundle
from browser_site import DEMO, PINNED, TICKET, answers, colours, make, softmax_model, written

from edgeticket import bundle_file
from edgeticket.data import Data
from exporters import to_onnx


@pytest.fixture(scope="module")
def no_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make.py takes for onnxruntime-web; it cannot run."""
    folder = tmp_path_factory.mktemp("node_modules")
    (folder / "onnxruntime-web" / "dist").mkdir(parents=True)
    (folder / "onnxruntime-web" / "package.json").write_text(json.dumps({"version": PINNED}))
    for file in make.RUNTIME.values():
        (folder / "onnxruntime-web" / "dist" / file).write_bytes(file.encode())
    return folder


def test_a_site_is_whole_and_says_what_python_counts(
    models: dict[str, Path], no_runtime: Path, digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    site = tmp_path / "site"
    assert written(site, models["seed"], models["int8"], "digits", no_runtime) == 0
    found = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    page = {path.name for path in (DEMO / "page").iterdir()}
    runtime = {f"runtime/{name}" for name in ("ort.js", "ort.wasm", "LICENSE.txt", "ThirdPartyNotices.txt")}
    assert found == page | runtime | {"demo.json", "sample.bin", "compact.onnx", "float.onnx"}
    assert "MIT License" in (site / "runtime" / "LICENSE.txt").read_text()
    assert (site / "compact.onnx").read_bytes() == models["seed"].read_bytes()
    assert (site / "float.onnx").read_bytes() == models["int8"].read_bytes()
    x, y = digits.certify
    assert (site / "sample.bin").read_bytes() == x.tobytes()
    demo = json.loads((site / "demo.json").read_text())
    assert demo["sample"]["labels"] == y.tolist()
    assert [y[i] for i in demo["sample"]["shown"]] == list(range(10))
    assert [list(y).index(label) for label in range(10)] == demo["sample"]["shown"]
    assert demo["input"] == {
        **{"dtype": "uint8", "shape": [1, 8, 8], "low": 0, "high": 16, "background": 0, "ink": make.INK},
        "fit": {"side": 1.0, "x": 0.5, "y": 0.5},
    }
    told = capsys.readouterr().out
    for role, form in (("compact", "seed"), ("float", "int8")):
        right = int((answers(models[form], x).argmax(1) == y).sum())
        assert f"{role}: {form}.onnx, {models[form].stat().st_size:,} bytes, {right} of 377 right" in told


def test_a_smaller_sample_is_evenly_spaced(
    models: dict[str, Path], no_runtime: Path, digits: Data, tmp_path: Path
) -> None:
    assert written(tmp_path / "site", models["cast8"], models["int8"], "digits", no_runtime, "--sample", "3") == 0
    demo = json.loads((tmp_path / "site" / "demo.json").read_text())
    x, y = digits.certify
    assert demo["sample"]["of"] == 377
    assert demo["sample"]["labels"] == [int(y[i]) for i in (0, 188, 376)]
    assert (tmp_path / "site" / "sample.bin").read_bytes() == x[[0, 188, 376]].tobytes()


def test_where_the_subject_of_a_picture_lies() -> None:
    ink = np.zeros((3, 8, 16), bool)
    ink[0, 2:6, 4:8] = ink[1, 2:6, 4:12] = True  # the third is empty, and counts for nothing
    assert make.subject(ink) == {"side": 0.5, "x": (6 + 8) / 2 / 16, "y": 0.5}


def test_pictures_without_a_background_are_not_fitted(no_runtime: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", **colours())
    model = softmax_model(tmp_path / "softmax.onnx")
    assert written(tmp_path / "site", model, model, tmp_path / "noise.npz", no_runtime) == 0
    demo = json.loads((tmp_path / "site" / "demo.json").read_text())
    assert demo["input"]["fit"] is None
    assert demo["models"]["compact"]["shares"] is True


def test_of_a_bundle_the_model_of_the_gateway_is_taken(
    models: dict[str, Path], no_runtime: Path, digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = models["seed"].read_bytes()
    raw = digits.certify[0][:4]
    files = {
        "digits.onnx": ("onnx", content),
        "digits.ticket": ("ticket", TICKET.read_bytes()),
        "golden": ("golden", bundle_file.golden(raw, to_onnx.run_bytes(content, raw))),
    }
    good = small_bundle.write(tmp_path / "good.bundle", files)
    assert written(tmp_path / "site", good, models["int8"], "digits", no_runtime) == 0
    assert (tmp_path / "site" / "compact.onnx").read_bytes() == content
    other = small_bundle.write(tmp_path / "other.bundle", files, labels=list("abcdefghij"))
    assert written(tmp_path / "other", other, models["int8"], "digits", no_runtime) == 2
    assert "its labels are a, b, c" in capsys.readouterr().err
    good.write_bytes(good.read_bytes()[:-1])
    assert written(tmp_path / "cut", good, models["int8"], "digits", no_runtime) == 4


@pytest.mark.parametrize(
    ("change", "code", "said"),
    {
        "no pictures": ({"data": "flat.npz"}, 2, "classes of images"),
        "no such data": ({"data": "nothing"}, 1, "no such data"),
        "no such file": ({"compact": "none.onnx"}, 1, "none.onnx"),
        "no network": ({"compact": "text.onnx"}, 2, "ONNX Runtime .* refuses it"),
        "another input": ({"compact": "softmax.onnx"}, 2, "the first float32 3x6x9 .* the data are uint8 1x8x8"),
        "other classes": ({"data": "four.npz"}, 2, "for 4 classes it must be float32"),
        "batches of two": ({"compact": "two.onnx", "data": "noise.npz"}, 2, "in batches of 2"),
        "nothing to run it": ({"node_modules": "nothing"}, 1, f"{PINNED} is needed, none is there: run `npm install"),
        "an old runtime": ({"node_modules": "old"}, 1, f"{PINNED} is needed, 1.2.3 is there"),
        "no folder of sites": ({"output": "mine", "more": "--overwrite"}, 2, "not one of these sites"),
        "a site that is there": ({"output": "there"}, 2, "exists already"),
    }.values(),
)
def test_what_cannot_be_a_site(
    change: Mapping[str, str], code: int, said: str, models: dict[str, Path], no_runtime: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    x = np.zeros((40, 64), np.float32) + np.arange(40)[:, None]
    np.savez(tmp_path / "flat.npz", x_train=x, y_train=np.arange(40) % 2)
    np.savez(tmp_path / "four.npz", **colours((1, 8, 8), classes=4))
    four = np.load(tmp_path / "four.npz")
    np.savez(
        tmp_path / "four.npz",
        **{**four, "x_train": four["x_train"].astype(np.uint8), "x_test": four["x_test"].astype(np.uint8)},
    )
    np.savez(tmp_path / "noise.npz", **colours())
    softmax_model(tmp_path / "softmax.onnx")
    softmax_model(tmp_path / "two.onnx", batch=2)
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "old" / "onnxruntime-web").mkdir(parents=True)
    (tmp_path / "old" / "onnxruntime-web" / "package.json").write_text('{"version": "1.2.3"}')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "demo.json").write_text("{}")
    before = sorted(path.name for path in tmp_path.iterdir())
    own = {name: tmp_path / value for name, value in change.items() if name not in ("more", "data")}
    data = change.get("data", "digits")
    done = written(
        own.get("output", tmp_path / "site"),
        own.get("compact", models["seed"]),
        models["int8"],
        tmp_path / data if data.endswith(".npz") else data,
        own.get("node_modules", no_runtime),
        *change.get("more", "").split(),
    )
    error = capsys.readouterr().err
    assert (done, bool(re.search(said, error))) == (code, True), error
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_site_is_replaced_as_a_whole(models: dict[str, Path], no_runtime: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert written(site, models["seed"], models["int8"], "digits", no_runtime) == 0
    (site / "old.txt").write_text("of another version")
    assert written(site, models["cast8"], models["int8"], "digits", no_runtime, "--overwrite") == 0
    assert not (site / "old.txt").exists()
    assert (site / "compact.onnx").read_bytes() == models["cast8"].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_the_page_names_no_other_host_and_has_nothing_inline() -> None:
    for path in (DEMO / "page").iterdir():
        assert not re.search(r"(https?:)?//\w+\.\w", path.read_text()), path
    page = (DEMO / "page" / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page) == [""]


def test_one_version_is_pinned_and_no_list_of_hosts_is_kept() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", PINNED)
    assert not (DEMO / "package-lock.json").exists()
    assert "package-lock=false" in (DEMO / ".npmrc").read_text().split()
