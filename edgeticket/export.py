"""Ticket or Model -> Artifact: written by a plug-in, compared with the reference, and only then put in place."""

import logging
import os
import tempfile
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeticket import plugins
from edgeticket.budget import Artifact
from edgeticket.compact import align as align_channels
from edgeticket.compact import compact
from edgeticket.data import Data
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.files import check_free, write_atomic, write_folder
from edgeticket.guard import Guard
from edgeticket.lock import alone
from edgeticket.model import Model
from edgeticket.targets._confined import Limits, check
from edgeticket.ticket import Ticket

LOG = logging.getLogger("edgeticket.export")
PROBES = 8
ALIGN = 8  # of an exporter that names no other


def export(
    source: Ticket | Model,
    format: str,
    path: str | Path,
    *,
    overwrite: bool = False,
    align: int | None = None,
    **options: Any,
) -> Artifact:
    """Write `source` with the exporter `format` (a name, or a path to a .py) to `path`, a file or a folder.

    A ticket is compacted first; `align` rounds channel counts up with zero channels, if it is not given to what
    suits the format. `options` go to the exporter's
    `export(model, path, **options)`, then to its `prove(model, path, raw, **options)` with a few raw inputs, which raises
    EquivalenceError. An exporter without `prove` leaves that to `edgeticket verify`. UsageError when `path` exists without
    `overwrite`, is a folder of files that are no export's, or the exporter has no such option. On any error `path` is as it was.
    """
    path, exporter = Path(os.path.abspath(path)), plugins.load("exporters", format)
    check_free(path, overwrite, folder=not exporter.SUFFIX)
    if hasattr(exporter, "left"):
        _require_ours(path, exporter.left(path))
    align = getattr(exporter, "ALIGN", ALIGN) if align is None else align
    if align < 1:
        raise UsageError(f"align {align}: 1 leaves channel counts as they are, 8 rounds them up to multiples of 8")
    _check_options(exporter, format, options)
    model = compact(source) if isinstance(source, Ticket) else source
    if align > 1:
        model = align_channels(model, align)
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        made = Path(folder) / path.name
        exporter.export(model, made, **options)
        if hasattr(exporter, "prove"):
            exporter.prove(model, made, model.random_inputs(PROBES), **options)
            LOG.info("%s: equal to what it was made from on %d random inputs", path, PROBES)
        _put_in_place(made, path, exporter)
    return Artifact(path, Path(format).stem.removeprefix("to_"))


def unpack(path_in: str | Path, path_out: str | Path, overwrite: bool = False) -> Artifact:
    """Write the plain fp32 form of an ONNX file of ours: every stored weight computed, nothing else changed.

    Raises EdgeTicketError for a file that is not one of ours, UsageError for an int8 one, EquivalenceError unless the
    outputs are the same bit for bit.
    """
    path_in, path_out = Path(path_in), Path(path_out)
    check_free(path_out, overwrite)
    import onnx  # here: `import edgeticket` loads neither onnx nor ONNX Runtime

    from exporters import fold
    from exporters.graph import to_bytes

    content = _read_onnx(path_in)
    model = onnx.load_from_string(content)
    if any(node.op_type in fold.KEPT_BY_DESIGN for node in model.graph.node):
        raise UsageError(f"{path_in} is an int8 network and computes in int8: export again with --precision float")
    plain = to_bytes(fold.fold(model))
    onnx.checker.check_model(plain, full_check=True)
    left = fold.unfolded(onnx.load_from_string(plain))
    if left:
        raise UnsupportedError(f"{path_in}: {left[0]} could not be computed once: please report it with the file")
    _require_same_bits(fold.session(content), fold.session(plain), path_in)
    write_atomic(path_out, plain)
    return Artifact(path_out, "onnx")


def _read_onnx(path: Path) -> bytes:
    """Of a file that a child process has looked at before it is parsed here: anyone can write our name into one."""
    import onnx
    from google.protobuf.message import DecodeError

    from exporters.graph import OPSET, PRODUCER

    try:
        with path.open("rb") as file:
            check([path], Limits())
            content = file.read()
        model = onnx.load_from_string(content)
        onnx.checker.check_model(content)
    except OSError as error:
        raise EdgeTicketError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise EdgeTicketError(f"{path}: damaged, or not an ONNX file: export it again") from error
    if model.producer_name != PRODUCER or [(opset.domain, opset.version) for opset in model.opset_import] != [
        ("", OPSET)
    ]:
        raise UnsupportedError(f"{path}: was not written by edgeticket export: give one of its ONNX files")
    return content


def _require_same_bits(packed: Any, plain: Any, path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = {"tensor(uint8)": np.uint8, "tensor(int16)": np.int16, "tensor(float)": np.float32}
    raw = {
        entry.name: rng.integers(0, 256, (PROBES, *entry.shape[1:])).astype(kinds[entry.type])
        for entry in packed.get_inputs()
    }
    for a, b in zip(packed.run(None, raw), plain.run(None, raw), strict=True):
        if a.tobytes() != b.tobytes():
            raise EquivalenceError(f"{path}: the plain form gives other outputs: nothing was written, please report it")


def _check_options(exporter: ModuleType, format: str, options: dict[str, Any]) -> None:
    known = [name for name, p in signature(exporter.export).parameters.items() if p.kind == p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise UsageError(f"exporter {format} has no option --{name}: it has {', '.join(known) or 'none'}")


def guard_of(model: Model, data: Data) -> Guard:
    """A guard for frames like those of `data`, by the answers of the ONNX file that `export` writes. Raises as `Guard.fit`."""
    from exporters import to_onnx
    from exporters.graph import to_bytes

    answers = (
        to_onnx.answers(to_bytes(to_onnx.build(align_channels(model, ALIGN))))
        if data.task == "classification"
        else None
    )
    return Guard.fit(data, answers)


def _put_in_place(made: Path, path: Path, exporter: ModuleType) -> None:
    """Whole or not at all. A folder is replaced with all that an export has left in it; anything else in it, UsageError."""
    if made.is_file():
        write_atomic(path, made.read_bytes())
        return
    files = {str(file.relative_to(made)): file.read_bytes() for file in sorted(made.rglob("*")) if file.is_file()}
    with alone(path):
        _require_ours(
            path, exporter.left(path) if hasattr(exporter, "left") else {Path(name).parts[0] for name in files}
        )
        write_folder(path, files)


def _require_ours(path: Path, ours: set[str]) -> None:
    other = sorted(file.name for file in path.iterdir() if file.name not in ours) if path.exists() else []
    if other:
        raise UsageError(f"{path} holds {other[0]}, which no export wrote: move it away, or name another output")
