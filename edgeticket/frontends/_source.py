"""Where in the user's source something is, for the texts of errors."""

import re
import sysconfig
from pathlib import Path
from traceback import extract_tb

import torch
from torch.fx import Node

from edgeticket.errors import UnsupportedError

_HERE = str(Path(__file__).parent)
_TORCH = (str(Path(torch.__file__).parent), _HERE, "<frozen")
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib")})
_FRAME = re.compile(r'File "(.*)", line (\d+), in .*(?:\n\s+(?!File )(.*))?')


def unsupported(node: Node, problem: str, advice: str) -> UnsupportedError:
    """`problem` begins with what the operation is called."""
    return UnsupportedError(f"{problem}, in {place_of(node)}: {advice}")


def operation(node: Node) -> str:
    """Name of the operation without its namespace and variant: "softmax"."""
    return str(node.target).removeprefix("aten.").partition(".")[0] if node.op == "call_function" else node.op


def place_of(node: Node) -> str:
    """File, line and text of the user's call, and the module that makes it, as far as they are known.

    PyTorch keeps the lines of functions named `forward`: a helper's operations are placed where forward calls it.
    """
    frames = [(file, int(line), text or "") for file, line, text in _FRAME.findall(node.meta.get("stack_trace") or "")]
    module = module_path(node)
    return _shown(frames, f"module {module}" if module else "") or "the network"


def place_of_error(error: BaseException) -> str:
    """The same for the innermost frame of the user's that an exception went through."""
    if isinstance(error, SyntaxError):
        return _shown([(error.filename or "?", error.lineno or 0, (error.text or "").strip())], "")
    frames = extract_tb(error.__traceback__)
    called = max((i for i, frame in enumerate(frames) if frame.filename.startswith(_HERE)), default=-1) + 1
    return _shown([(one.filename, one.lineno or 0, one.line or "") for one in frames[called:]], "") or "the network"


def module_path(node: Node) -> str:
    """Of the innermost module that the call is made in, "features.0"; empty for the whole network."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return own_path(stack[-1][0]) if stack else ""


def own_path(path: str) -> str:
    """As the user knows it: without the module that torch.export was given around the user's."""
    return path.removeprefix("network").removeprefix(".")


def is_torch_module(node: Node) -> bool:
    """The innermost module is one of PyTorch's own layers."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return bool(stack) and str(stack[-1][1]).startswith("torch.nn.")


def _shown(frames: list[tuple[str, int, str]], module: str) -> str:
    """The innermost frame outside of packages, else outside of torch; `module` is added, or stands alone."""
    theirs = [frame for frame in frames if not frame[0].startswith(_TORCH)]
    own = [frame for frame in theirs if not frame[0].startswith(_PACKAGES)]
    if not theirs:
        return module
    file, line, text = (own or theirs)[-1]
    path = Path(file)
    name = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{name}, line {line}" + (f": `{text.strip()}`" if text else "") + (f" ({module})" if module else "")
