"""The wheel, installed without torch in an environment of its own: export, unpack, verify, bench, show and data work there."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKED = ("edgeticket", "exporters", "sample_models")


@pytest.mark.slow
def test_all_but_find_works_without_torch(tmp_path: Path) -> None:
    def run(*words: object) -> str:
        done = subprocess.run([str(word) for word in words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    run(sys.executable, "-m", "venv", "env")
    (wheel,) = tmp_path.glob("edgeticket-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path for part in PACKED for path in (ROOT / part).rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert names >= {str(path.relative_to(ROOT)) for path in files}
    assert {name.split("/")[0] for name in names} == set(PACKED)
    run(*pip, "--python", "env/bin/python", "install", wheel)
    tool, ticket = tmp_path / "env/bin/edgeticket", ROOT / "sample_models/digits.ticket"
    assert "torch" not in run(*pip, "--python", "env/bin/python", "list")
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
