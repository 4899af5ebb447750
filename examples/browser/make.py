"""Write a folder that any web server can serve: two networks side by side, run in the visitor's browser by ONNX Runtime Web.

    npm install --prefix examples/browser
    python examples/browser/make.py --compact digits.onnx --float float.onnx -d digits -o site
    python -m http.server --directory site 8000

--compact and --float are any two ONNX classifiers of the data's images, raw as `edgeticket.data` reads them, or bundles of
`edgeticket ship`, of which the model that a gateway would run is taken. The data's certify part, which neither network has seen,
gives the pictures of the page. What ONNX Runtime in Python answers for them is printed: the page must count the same.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgeticket import bundle_file
from edgeticket.data import Data, load
from edgeticket.errors import DataError, EdgeTicketError, UsageError
from edgeticket.files import check_free, put_in_place

HERE = Path(__file__).parent
SUM = 1e-3  # outputs that are never negative and sum to 1 within this are shares already
MOST = 5000  # training pictures that are looked at for where their subject lies
INK = 0.2  # of the range: what differs so much from the background is no background
KINDS = {"tensor(uint8)": "uint8", "tensor(int16)": "int16", "tensor(float)": "float32"}
RUNTIME = {
    "ort.js": "ort.wasm.bundle.min.mjs",
    "ort.wasm": "ort-wasm-simd-threaded.wasm",
}  # names servers have types for
DEMO = "demo.json"
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")
Files = dict[str, bytes]


@dataclass(frozen=True)
class Network:
    """`outputs` [n, classes]: of the sample, by ONNX Runtime in Python."""

    name: str
    content: bytes
    outputs: np.ndarray

    @property
    def gives_shares(self) -> bool:
        return bool((self.outputs >= 0).all() and (np.abs(self.outputs.sum(1) - 1) < SUM).all())


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        check_output(options.output, options.overwrite)
        runtime, version = runtime_files(options.node_modules)
        data = images(options.data, options.layout)
        chosen = sample(data, options.sample)
        networks = {role: opened(getattr(options, role), data, chosen) for role in ("compact", "float")}
        files = page_files() | runtime | site_files(data, chosen, networks, version)
        write(files, options.output, options.overwrite)
    except (EdgeTicketError, OSError) as error:
        print(f"make: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(summary(networks, data.certify[1][chosen], files, options.output))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compact", type=Path, required=True, metavar="FILE", help=".onnx or .bundle")
    parser.add_argument("--float", type=Path, required=True, metavar="FILE", help=".onnx or .bundle")
    parser.add_argument("-d", "--data", required=True, help="images with classes, as for `edgeticket find`")
    parser.add_argument("--layout", default="auto", help="as for `edgeticket find`")
    parser.add_argument(
        "--sample", type=int, default=1000, help="at most so many pictures of the certify part (default: %(default)s)"
    )
    parser.add_argument(
        "--node-modules", type=Path, default=HERE / "node_modules", metavar="DIR", help="where npm put onnxruntime-web"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    options = parser.parse_args(arguments)
    if options.sample < 1:
        parser.error("--sample: give at least 1")
    return options


# data


def images(source: str, layout: str) -> Data:
    """Raises UsageError for anything but classes of pictures with 1 or 3 channels."""
    data = load(source, layout=layout)
    shape = data.train[0].shape[1:]
    if data.task != "classification" or len(shape) != 3 or shape[0] not in (1, 3):
        raise UsageError(
            f"data {source}: {data.task} of {'x'.join(map(str, shape))}; the page is for classes of images with 1 or 3 channels"
        )
    return data


def sample(data: Data, most: int) -> np.ndarray:
    """Indices into the certify part, evenly spaced: data sorted by class keep all of their classes."""
    count = len(data.certify[1])
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def sensor(data: Data) -> dict[str, Any]:
    """What a picture must become: shape and type, range, background, and where pictures of the training part have their subject.

    `fit`: side = its longest side, x and y = its centre, medians in shares of the frame; None where the rim is no background.
    """
    x = data.train[0]
    low, high = float(x.min()), float(x.max())
    x = x[:: -(-len(x) // MOST)]
    rim = np.concatenate([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], axis=-1)
    background = float(np.median(rim))
    told = {
        "dtype": x.dtype.name,
        "shape": list(x.shape[1:]),
        "low": low,
        "high": high,
        "background": background,
        "ink": INK,
    }
    plain = np.abs(rim - background).max(1) <= INK * (high - low)
    return told | {"fit": subject(np.abs(x - background).max(1) > INK * (high - low)) if plain.mean() > 0.5 else None}


def subject(ink: np.ndarray) -> dict[str, float]:
    """Medians over bool [n, height, width] of what is not background."""
    shape, ink = ink.shape[1:], ink[ink.any((1, 2))]
    spans = []
    for axis, cells in ((2, shape[0]), (1, shape[1])):
        line = ink.any(axis)
        spans.append((line.argmax(1), cells - line[:, ::-1].argmax(1)))
    (top, bottom), (left, right) = spans
    side = np.maximum((bottom - top) / shape[0], (right - left) / shape[1])
    return {
        "side": float(np.median(side)),
        "x": float(np.median(left + right)) / 2 / shape[1],
        "y": float(np.median(top + bottom)) / 2 / shape[0],
    }


# networks


def opened(path: Path, data: Data, chosen: np.ndarray) -> Network:
    """Raises UsageError for a network that does not read these data or has another number of classes."""
    name, content = _model(path, data)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, which have no common parent
        raise UsageError(f"{path}: ONNX Runtime {ort.__version__} refuses it ({error})") from error
    x = data.certify[0][chosen]
    _require_fit(path, session, x, len(data.classes))
    own = session.get_inputs()[0].name
    return Network(name, content, np.concatenate([session.run(None, {own: one[None]})[0] for one in x]))


def _model(path: Path, data: Data) -> tuple[str, bytes]:
    if path.suffix != ".bundle":
        return path.name, path.read_bytes()
    bundle = bundle_file.read(path)
    if tuple(bundle.manifest["labels"]) != data.classes:
        raise UsageError(
            f"{path}: its labels are {', '.join(bundle.manifest['labels'])}, which are not those of the data"
        )
    name = bundle.manifest["model"]
    return f"{path.name}: {name}", bundle.files[name]


def _require_fit(path: Path, session: ort.InferenceSession, x: np.ndarray, classes: int) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    own, given = inputs[0], outputs[0]
    reads = f"{KINDS.get(own.type, own.type)} {'x'.join(map(str, own.shape[1:]))}"
    wanted = f"{x.dtype} {'x'.join(map(str, x.shape[1:]))}"
    batched = isinstance(own.shape[0], int) and own.shape[0] != 1
    if len(inputs) != 1 or reads != wanted or batched:
        raise UsageError(
            f"{path}: it reads {len(inputs)} input(s), the first {reads} in batches of {own.shape[0]}; the data are {wanted}, "
            "one at a time: put normalisation into the network, channels first"
        )
    if given.type != "tensor(float)" or len(given.shape) != 2 or given.shape[1] != classes:
        raise UsageError(
            f"{path}: it gives {given.type} {given.shape}; for {classes} classes it must be float32 [n, {classes}]"
        )


# files


def check_output(path: Path, overwrite: bool) -> None:
    """Raise UsageError where nothing may be written. Only a site of this program is ever replaced."""
    check_free(path, overwrite, folder=True)
    if path.exists() and not (path / DEMO).exists():
        raise UsageError(f"{path} is a folder without {DEMO}, so it is not one of these sites: name another output")


def page_files() -> Files:
    return {path.name: path.read_bytes() for path in (HERE / "page").iterdir()}


def runtime_files(node_modules: Path) -> tuple[Files, str]:
    """ONNX Runtime Web with its licences, and its version. Raises DataError unless it is the version that package.json pins."""
    wanted = json.loads((HERE / "package.json").read_bytes())["dependencies"]["onnxruntime-web"]
    package = node_modules / "onnxruntime-web"
    try:
        found = json.loads((package / "package.json").read_bytes())["version"]
    except OSError:
        found = "none"
    if found != wanted:
        raise DataError(f"{package}: version {wanted} is needed, {found} is there: run `npm install --prefix {HERE}`")
    files = {f"runtime/{name}": (package / "dist" / source).read_bytes() for name, source in RUNTIME.items()}
    for name in LICENCES:  # the npm package has none; these are of the same sources
        files[f"runtime/{Path(name).stem}.txt"] = resources.files("onnxruntime").joinpath(name).read_bytes()
    return files, found


def site_files(data: Data, chosen: np.ndarray, networks: dict[str, Network], version: str) -> Files:
    """DEMO, which the page reads first, and what it names: the networks and the pictures."""
    x, y = data.certify[0][chosen], data.certify[1][chosen]
    told = {
        "data": data.name,
        "note": data.note,
        "labels": list(data.classes),
        "input": sensor(data),
        "models": {
            role: {"file": f"{role}.onnx", "name": one.name, "shares": one.gives_shares}
            for role, one in networks.items()
        },
        "sample": {
            "file": "sample.bin",
            "labels": y.tolist(),
            "of": len(data.certify[1]),
            "shown": [int(i) for i in np.unique(y, return_index=True)[1]],
        },
        "runtime": version,
    }
    models = {f"{role}.onnx": one.content for role, one in networks.items()}
    pictures = np.ascontiguousarray(x, x.dtype.newbyteorder("<")).tobytes()
    return {DEMO: json.dumps(told).encode(), "sample.bin": pictures, **models}


def write(files: Files, output: Path, overwrite: bool) -> None:
    """All of the files, or the folder stays as it was."""
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as aside:
        partial = Path(aside) / output.name
        for name, content in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        check_output(output, overwrite)
        put_in_place(partial, output)


def summary(networks: dict[str, Network], y: np.ndarray, files: Files, output: Path) -> str:
    answers = {role: one.outputs.argmax(1) for role, one in networks.items()}
    lines = [f"{output}: {len(files)} files, {sum(map(len, files.values())):,} bytes"]
    for role, one in networks.items():
        right = int((answers[role] == y).sum())
        lines.append(f"{role}: {one.name}, {len(one.content):,} bytes, {right:,} of {len(y):,} right in Python")
    alike = int((answers["compact"] == answers["float"]).sum())
    lines.append(f"both give the same answer for {alike:,} of {len(y):,}")
    return "\n".join([*lines, f"serve it: python -m http.server --directory {output} 8000"])


if __name__ == "__main__":
    sys.exit(main())
