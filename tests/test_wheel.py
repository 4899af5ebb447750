"""The wheel, installed without torch in an environment of its own: export, unpack, verify, bench, show and data work there.

Without a C compiler there is a wheel too, and numpy judges the frames (edgeticket/watch.py).
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKED = ("edgeticket", "exporters", "sample_models")
BUILT, SOURCE = "edgeticket/_watch.abi3.so", "edgeticket/_watch.c"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def execute(place: Path, *words: object, **environment: str) -> str:
    own = {**os.environ, **environment}
    done = subprocess.run([str(word) for word in words], cwd=place, env=own, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def built(place: Path, **environment: str) -> Path:
    """The wheel of a copy of the sources, in which nothing was built before."""
    for part in PACKED:
        shutil.copytree(ROOT / part, place / "source" / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, place / "source")
    execute(place, *PIP, "wheel", "--no-deps", "--wheel-dir", place, place / "source", **environment)
    (wheel,) = place.glob("edgeticket-*.whl")
    return wheel


@pytest.mark.slow
def test_without_a_compiler_numpy_judges_the_frames(tmp_path: Path) -> None:
    with zipfile.ZipFile(built(tmp_path, CC="/bin/false")) as wheel:
        assert not [name for name in wheel.namelist() if "_watch." in name]
        wheel.extractall(tmp_path / "installed")
    code = """
import edgeticket
from edgeticket.data import load
from edgeticket.guard import Guard
digits = load("digits")
guard = Guard.fit(digits)
print(edgeticket.__file__, guard.compiled, *(guard.check(digits.certify[0][0]) for _ in range(3)))
"""
    places = f"{tmp_path / 'installed'}{os.pathsep}{sysconfig.get_path('purelib')}"
    told = execute(tmp_path, sys.executable, "-S", "-c", code, PYTHONPATH=places)  # -S: not the editable one
    assert told.split() == [str(tmp_path / "installed" / "edgeticket" / "__init__.py"), "False", "ok", "ok", "stuck"]


@pytest.mark.slow
def test_all_but_find_works_without_torch(tmp_path: Path) -> None:
    run, wheel = partial(execute, tmp_path), built(tmp_path)
    run(sys.executable, "-m", "venv", "env")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path for part in PACKED for path in (ROOT / part).rglob("*") if path.is_file()}
    packed = {str(path.relative_to(ROOT)) for path in files if path.suffix not in (".pyc", ".so")}
    assert names >= packed - {SOURCE}
    assert {name.split("/")[0] for name in names} == set(PACKED)
    headers = (Path(sysconfig.get_path("include")) / "Python.h").is_file()
    compiler = headers and shutil.which(sysconfig.get_config_var("CC").split()[0]) is not None
    assert (BUILT in names) == compiler
    run(*PIP, "--python", "env/bin/python", "install", wheel)
    code = "from edgeticket.watch import Compiled; print(Compiled is not None)"
    assert run("env/bin/python", "-c", code).strip() == str(compiler)
    tool, ticket = tmp_path / "env/bin/edgeticket", ROOT / "sample_models/digits.ticket"
    assert "torch" not in run(*PIP, "--python", "env/bin/python", "list")
    assert "digits" in run(tool, "data", "list")
    assert "P2+stem" in run(tool, "show", ticket)
    assert "groups of channels can shrink" in run(tool, "inspect", "-m", "resnet8")
    for name, options in (("a", ()), ("b", ("--weights", "seed")), ("c", ("--precision", "int8"))):
        run(tool, "export", ticket, "--to", "onnx", *options, "-o", f"{name}.onnx")
    run(tool, "unpack", "b.onnx", "-o", "plain.onnx")
    assert "not run  masked torch network" in run(tool, "verify", ticket, "a.onnx", "b.onnx", "c.onnx", "-d", "digits")
    assert "latency" in run(tool, "bench", "a.onnx", "plain.onnx", "--runs", "25")
    missing = subprocess.run([tool, "find", "-o", "x.ticket"], cwd=tmp_path, capture_output=True, text=True)
    assert missing.returncode == 1
    assert "pip install 'edgeticket[search]'" in missing.stderr
