"""Sites of the browser demo, for its tests: what make.py is given, and what ONNX Runtime in Python makes of it."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edgeticket.export import export
from edgeticket.ticket import read_ticket

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "browser"
TICKET = ROOT / "sample_models" / "digits.ticket"
PINNED = json.loads((DEMO / "package.json").read_text())["dependencies"]["onnxruntime-web"]
PATIENCE_S = 120
FORMS = {"fp32": {}, "cast8": {"weights": "cast8"}, "seed": {"weights": "seed"}, "int8": {"precision": "int8"}}


def program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DEMO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


make = program("make")


def models(folder: Path) -> dict[str, Path]:
    """The sample ticket in each of FORMS."""
    ticket = read_ticket(TICKET)
    return {form: export(ticket, "onnx", folder / f"{form}.onnx", **options).path for form, options in FORMS.items()}


def written(output: Path, compact: Path, other: Path, data: object, node_modules: Path, *more: str) -> int:
    words = ["--compact", compact, "--float", other, "-d", data, "--node-modules", node_modules, "-o", output, *more]
    return make.main(list(map(str, words)))


def answers(content: Path | bytes, x: np.ndarray) -> np.ndarray:
    """Outputs of ONNX Runtime in Python, one picture at a time."""
    session = ort.InferenceSession(content if isinstance(content, bytes) else content.read_bytes())
    (own,) = session.get_inputs()
    return np.concatenate([session.run(None, {own.name: one[None]})[0] for one in x])


def colours(
    shape: tuple[int, ...] = (3, 6, 9), dtype: str = "float32", classes: int = 13, n: int = 60
) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    x = (4 * rng.random((n, *shape)) - 1).astype(dtype)
    return {
        "x_train": x,
        "y_train": np.arange(n) % classes,
        "x_test": x[: n // 2],
        "y_test": np.arange(n // 2) % classes,
    }


def blots(n: int = 40) -> dict[str, Any]:
    """Dark on light, 12 rows and 10 columns: 6 x 5 pixels, left of and below the middle. Two classes, of two darknesses."""
    x = np.full((n, 1, 12, 10), 250, np.uint8)
    y = np.arange(n) % 2
    x[:, 0, 4:10, 2:7] = 60 * y[:, None, None]
    return {"x_train": x, "y_train": y, "x_test": x[:20], "y_test": y[:20]}


def softmax_model(
    path: Path,
    shape: tuple[int, ...] = (3, 6, 9),
    classes: int = 13,
    batch: object = "n",
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Its outputs are shares already."""
    weight = np.random.default_rng(3).normal(size=(int(np.prod(shape)), classes)).astype(np.float32) / (
        8 if kind == TensorProto.FLOAT else 8 * 255
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["sums"]),
        helper.make_node("Softmax", ["sums"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, [batch, *shape])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
