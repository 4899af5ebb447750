"""What tests of several files share. What not every test needs is imported where it is used."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_c

from edgeticket.data import Data, load

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a background job of a shell ignores it, and so would what it starts


@pytest.fixture(scope="session")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def cia_listed_once() -> Iterator[None]:
    """torch.export lists PyTorch's composite operations anew for every module: a quarter of an import, for a constant."""
    from torch.export import exported_program

    known = cache(exported_program._collect_all_valid_cia_ops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exported_program, "_collect_all_valid_cia_ops", known)
        yield


# The browser demo


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample ticket in every ONNX form."""
    import browser_site

    return browser_site.models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where onnxruntime-web is: beside the demo, or fetched by npm for this session."""
    from browser_site import DEMO, PATIENCE_S, make

    beside = DEMO / "node_modules"
    try:
        make.runtime_files(beside)
        return beside
    except make.DataError:
        tiny_c.need("npm", "node")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", ".npmrc"):
        shutil.copy(DEMO / name, folder)
    done = subprocess.run(["npm", "install"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm install: {done.stderr}")
    assert not (folder / "package-lock.json").exists()
    return folder / "node_modules"


@pytest.fixture(scope="session")
def trained(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float network of a few epochs, by the program that the documents name."""
    from browser_site import DEMO, PATIENCE_S, ROOT, answers

    path = tmp_path_factory.mktemp("trained") / "float.onnx"
    words = ["-m", "conv:16,32,32", "-d", "digits", "--epochs", "6", "--seed", "7", "-o", str(path)]
    command = [sys.executable, str(DEMO / "train_float.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert done.returncode == 0, done.stderr
    x, y = digits.certify
    right = int((answers(path, x).argmax(1) == y).sum())
    assert f"{path.stat().st_size:,} bytes, {right} of 377 right" in done.stdout
    return path


@pytest.fixture(scope="session")
def both(models: dict[str, Path], trained: Path) -> tuple[Path, Path]:
    """What the site shows side by side."""
    return models["cast8"], trained


@pytest.fixture(scope="session")
def site(both: tuple[Path, Path], node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from browser_site import written

    folder = tmp_path_factory.mktemp("sites") / "digits"
    assert written(folder, *both, "digits", node_modules) == 0
    return folder


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    from browser_page import measure

    with measure.served(site) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    tiny_c.need("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def opened(browser: Any, address: str) -> Iterator[Any]:
    from browser_page import Visit

    visit = Visit(browser, address).ready()
    yield visit
    visit.close()


@pytest.fixture
def visit(opened: Any) -> Any:
    return opened.fresh()


@pytest.fixture
def new(browser: Any, address: str) -> Iterator[Any]:
    """A function that makes a visit of its own."""
    from browser_page import Visit

    made: list[Visit] = []

    def start(url: str = address, **options: Any) -> Visit:
        made.append(Visit(browser, url, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()
