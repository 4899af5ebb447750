"""The slow tier: the whole chain over networks and options on real data, and the exported files on the oldest runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")

from edgeticket.chain import run
from edgeticket.config import read_config
from edgeticket.export import export
from edgeticket.ticket import read_ticket

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_models"
FASHION = Path("/usr/share/datasets/fashion-mnist")
EXPORTS: dict[str, dict[str, str]] = {
    **{f"{weights}.onnx": {"weights": weights} for weights in ("fp32", "cast8", "trit5", "seed")},
    "int8.onnx": {"precision": "int8"},
}
CHAINS = {
    "conv": {"model": "conv:32,64,64", "find": {"keep": 0.5, "density": 0.25, "float_control": True}},
    "residual": {"model": "resnet8:16,32,32", "find": {"keep": 0.5, "signs": "learned"}},
    "edges": {"model": "conv:16,32", "find": {"edges": "2,conv1=4", "density": "0.2,conv1=0.5", "pure": True}},
    "flat": {"model": "mlp:64,32", "find": {"keep": 0.5, "density": 0.2}},
    "odd widths": {"model": "conv:12,20,28", "find": {"keep": 0.5, "align": 1}},
    "real": {"model": "resnet8:16,32,64", "data": "fashion-mnist", "images": 3000, "find": {"keep": 0.5, "epochs": 2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_the_chain_holds(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every export of every network is proven equal, on all certify examples."""
    if name == "real" and not FASHION.exists():
        require_in_ci(request, "apt-get install dataset-fashion-mnist")
    config = {"name": "whole", "export": EXPORTS, "bench": {"runs": 25}, **CHAINS[name]}
    config["find"] = {"epochs": 6, "seed": 3, **CHAINS[name]["find"]}
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(config))
    made = run(read_config(tmp_path / "whole.yaml"), tmp_path / "runs")
    steps = {row["step"]: row["result"] for row in map(json.loads, (made / "report.jsonl").read_text().splitlines())}
    assert steps["verify"]["passed"]
    assert {link["outcome"] for link in steps["verify"]["links"]} == {"passed"}
    assert steps["find"]["results"][0]["accuracy"] > 0.5  # chance is 0.1


def require_in_ci(request: pytest.FixtureRequest, what: str) -> None:
    """A missing system package is a skip on a laptop and a failure in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"missing here: {what}")
    pytest.skip(what)


OLD = """
import sys, numpy, onnxruntime
golden = numpy.load(sys.argv[1])
outputs = {}
for path in sys.argv[2:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs[path],) = session.run(None, {session.get_inputs()[0].name: golden["raw"]})
first, *others = [outputs[path] for path in sys.argv[2:-1]]
assert all(first.tobytes() == other.tobytes() for other in others), "the storages differ"
scale = abs(golden["outputs"]).max()
assert abs(first - golden["outputs"]).max() <= 1e-5 * scale, "float differs"
assert (outputs[sys.argv[-1]].argmax(1) == golden["codes"].argmax(1)).mean() >= 0.9, "int8 differs"
print(onnxruntime.__version__)
"""


@pytest.mark.slow
def test_the_oldest_runtime_computes_the_same(tmp_path: Path) -> None:
    """setup.cfg allows ONNX Runtime from 1.17 on: all five forms load and run there."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([*pip, "--python", python, "install", "onnxruntime==1.17.3", "numpy<2"], check=True)
    ticket = read_ticket(SAMPLES / "digits.ticket")
    for name, options in EXPORTS.items():
        export(ticket, "onnx", tmp_path / name, **options)
    golden = np.load(SAMPLES / "digits.npz")
    assert set(golden.files) >= {"raw", "outputs", "codes"}
    done = subprocess.run(
        [python, "-c", OLD, SAMPLES / "digits.npz", *(tmp_path / name for name in EXPORTS)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "1.17.3", done.stderr
