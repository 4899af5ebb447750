"""Networks by the words of a command line: a built-in or plug-in architecture, or a PyTorch module of the user's."""

import re
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Any

from edgeticket import tasks
from edgeticket.data import Data
from edgeticket.errors import PluginError, UnsupportedError, UsageError
from edgeticket.model import Model
from edgeticket.ops import Shape
from edgeticket.plan import Plan
from edgeticket.plugins import blame, load

WORDS = "NAME[:WIDTH,...], PATH.py[:WIDTH,...], or a PyTorch module MY_NET.py:NAME"
_MODULE = re.compile(r".+\.py:[^\W\d]\w*")


def is_module(spec: str) -> bool:
    """Whether `spec` is FILE.py:NAME, a PyTorch module."""
    return _MODULE.fullmatch(spec) is not None


def read_module(spec: str, inputs: Sequence[Shape]) -> Model:
    """The module FILE.py:NAME with its own weights, reading `inputs` (shapes without the batch). Needs torch.

    Raises UsageError where they are missing, UnsupportedError for what a plan cannot hold.
    """
    if not inputs:
        raise UsageError(f"network {spec!r}: say what it reads, for example --input 3x96x96, once for each input")
    from edgeticket.frontends import pytorch

    return pytorch.import_module(pytorch.load_module(spec), inputs)


def read_plan(spec: str, inputs: Sequence[Shape], outputs: int | None = None) -> Plan:
    """The plan of any network. Raises UsageError where there are too many inputs or, for a module, none, or `outputs`."""
    if is_module(spec):
        if outputs is not None:
            raise UsageError(f"network {spec!r}: a PyTorch module says itself what it gives: leave --outputs out")
        return read_module(spec, inputs).plan
    if len(inputs) > 1:
        raise UsageError(f"network {spec!r} has one input: give --input once")
    return architecture(spec, inputs[0] if inputs else None, outputs)


def network_plan(spec: str, data: Data) -> Plan:
    """The plan of a network for the data's shape and task. Raises UnsupportedError for several inputs or outputs."""
    shape = tuple(data.train[0].shape[1:])
    if not is_module(spec):
        return architecture(spec, shape, tasks.of(data).outputs(data))
    from edgeticket.frontends import pytorch

    module = pytorch.load_module(spec)
    _require_one(spec, "inputs", _arguments(module.forward))
    plan = pytorch.import_module(module, [shape]).plan
    _require_one(spec, "outputs", plan.outputs)
    return plan


def _arguments(call: Callable[..., Any]) -> list[str]:
    """Names of the positional arguments that have no default; none where Python cannot tell (a traced module)."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    try:
        return [
            each.name
            for each in signature(call).parameters.values()
            if each.kind in kinds and each.default is each.empty
        ]
    except (TypeError, ValueError):
        return []


def _require_one(spec: str, word: str, names: Sequence[str]) -> None:
    if len(names) > 1:
        raise UnsupportedError(
            f"network {spec!r} has {len(names)} {word} ({', '.join(names)}): a search teaches one with one input and one "
            "output; inspect and export take it as it is, and bench what export writes"
        )


def architecture(spec: str, shape: Shape | None = None, outputs: int | None = None) -> Plan:
    """The plan of `NAME[:WIDTH,...]` (or PATH.py[:WIDTH,...]); without `shape` or `outputs`, at those that it was published for."""
    name, _, sizes = spec.partition(":")
    try:
        widths = [int(size) for size in sizes.split(",") if size]
    except ValueError:
        raise UsageError(f"network {spec!r}: write {WORDS}, for example conv:32,64,64") from None
    if any(width < 1 for width in widths) or (outputs is not None and outputs < 1):
        raise UsageError(f"network {spec!r}: a width, and the number of outputs, is at least 1")
    module = load("architectures", name)
    shape, outputs = shape or getattr(module, "INPUT", None), outputs or getattr(module, "CLASSES", 10)
    if shape is None:
        raise UsageError(f"network {spec!r} has no input size of its own: say which, for example --input 1x28x28")
    with blame("architectures", name):
        plan = module.plan(*widths, input=shape, classes=outputs)
    if not isinstance(plan, Plan):
        raise PluginError(f"architecture {name}: plan(...) returned {type(plan).__name__}, not an edgeticket Plan")
    return plan
