"""A user's PyTorch module as a Plan, and as a Model with the module's own weights.

Through torch.export and not torch.fx's symbolic trace: operations in place arrive as functional ones, functional code and
modules arrive alike, and each operation carries the line of the user's source (all verified with torch 2.13).
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from edgeticket.errors import EdgeTicketError, PluginError, UnsupportedError, UsageError
from edgeticket.frontends._builder import BATCH
from edgeticket.frontends._graph import read_graph
from edgeticket.frontends._source import place_of_error
from edgeticket.model import Model
from edgeticket.ops import Shape
from edgeticket.plan import Plan
from edgeticket.reference import difference, run_outputs

BATCHES = (BATCH, 1, 3, 17)  # sizes that the check runs the module on; the plan runs on the first, which was traced
CHECK_TOLERANCE = 1e-4  # of the largest output: the module computes in float32, the plan in float64


def load_module(spec: str) -> nn.Module:
    """The module "FILE.py:NAME": an nn.Module, or a class or function that gives one when called without arguments.

    Runs the file. Raises UsageError where there is no such file or name, PluginError for what goes wrong in it.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not name:
        raise UsageError(f"{spec!r} does not name a network: write FILE.py:NAME")
    if not path.is_file():
        raise UsageError(f"{spec}: there is no file {path}: check the path")
    with _blamed(spec), _beside(path):
        loader = spec_from_file_location(f"edgeticket_network_{path.stem}", path)
        assert loader is not None
        assert loader.loader is not None
        source = module_from_spec(loader)
        sys.modules[loader.name] = source  # dataclasses and pickling look themselves up here
        loader.loader.exec_module(source)
        found = getattr(source, name, None)
        if found is None:
            own = [
                key for key, value in vars(source).items() if isinstance(value, type) and issubclass(value, nn.Module)
            ]
            raise UsageError(f"{spec}: {path} defines no {name}: its modules are {', '.join(own) or '(none)'}")
        made = found if isinstance(found, nn.Module) or not callable(found) else found()
    if not isinstance(made, nn.Module):
        raise UsageError(f"{spec} gives a {type(made).__name__}: name a torch.nn.Module, or what makes one")
    return made


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """The file may import its neighbours, as it does when Python runs it."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _blamed(spec: str) -> Iterator[None]:
    try:
        yield
    except EdgeTicketError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{spec}: {type(error).__name__}: {error}, in {place_of_error(error)}") from error


def import_module(module: nn.Module, inputs: Sequence[Shape], *, check: bool = True) -> Model:
    """The network that `module` computes outside of training, for `inputs` of these shapes (without the batch).

    The model's weights are Float, its inputs are named as the arguments of `forward`, and take what the module takes.
    Raises UnsupportedError where an operation cannot be taken, with its place in the source, or (`check`) where the model
    does not compute what the module computes; UsageError where the module itself fails on these shapes.
    """
    with _undisturbed(module):
        named = dict(zip(_names(module, len(inputs)), map(tuple, inputs), strict=True))
        Plan(named, (), tuple(named))  # sizes that no plan can hold are refused before torch takes memory for them
        _require_float32(module)
        model = read_graph(_trace(module, inputs), named)
        if check:
            _check(module, model)
            with _awake(module) as changed:
                if changed:
                    _check(module, read_graph(_trace(module, inputs), named))
    return model


@contextmanager
def _awake(module: nn.Module) -> Iterator[bool]:
    """With random weights in the place of those that are all 0, as the gamma of a branch: a check sees nothing behind them."""
    zero = [one for name, one in module.named_parameters() if name.endswith("weight") and not one.any()]
    try:
        for weight in zero:
            weight.normal_()
        yield bool(zero)
    finally:
        for weight in zero:
            weight.zero_()


def _names(module: nn.Module, count: int) -> list[str]:
    """Of the arguments of `forward`; those of *args are numbered."""
    try:
        bound = inspect.signature(module.forward).bind(*range(count))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{type(module).__name__}.forward with {count} inputs: {error}: give a shape for each"
        ) from error
    names = []
    for name, value in bound.arguments.items():
        names += [f"{name}_{i}" for i in range(len(value))] if isinstance(value, tuple) else [name]
    return names


def _require_float32(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UnsupportedError(f"parameter {name} is {tensor.dtype}: call .float() on the module first")


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """In eval mode, without gradients; modes and random state are as before afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            module.eval()
            yield
        finally:
            for part, mode in modes:
                part.training = mode


def _batch(module: nn.Module, arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    return tuple(torch.tensor(array, device=device) for array in arrays)


class _Whole(nn.Module):
    """A module whose attributes cannot hide those of torch.fx's GraphModule, as one named `code` does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)


def _trace(module: nn.Module, inputs: Sequence[Shape]) -> ExportedProgram:
    zeros = [np.zeros((BATCH, *shape), np.float32) for shape in inputs]
    try:
        with _quiet():
            whole = _Whole(module).eval()
            return torch.export.export(whole, _batch(module, zeros), strict=False).run_decompositions({})
    except Exception as error:
        _run(module, zeros)  # where the module itself fails, that is the error to show
        text = str(error).strip().partition("\n")[0]
        raise UnsupportedError(
            f"{place_of_error(error)}: the network's operations depend on its data or on what torch.export cannot follow "
            f"({type(error).__name__}: {text}): compute with tensors alone, without if, while or .item() on their values"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch.export's own warnings, log and dumps of graphs."""
    level = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _run(module: nn.Module, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The tensors that the module gives. Raises UsageError where it fails."""
    try:
        made = module(*_batch(module, arrays))
    except Exception as error:
        shapes = ", ".join("x".join(map(str, array.shape)) for array in arrays)
        raise UsageError(
            f"the module fails on an input of {shapes} (the batch first): {type(error).__name__}: {error}, "
            f"in {place_of_error(error)}: give the input shape that it is made for"
        ) from error
    return [one.cpu().numpy() for one in tree_leaves(made) if isinstance(one, Tensor)]


def _check(module: nn.Module, model: Model) -> None:
    """Raise UnsupportedError unless both compute the same from random inputs, in the batch that was traced, alone, and among others."""
    rng = np.random.default_rng(0)
    sizes = {name: (max(BATCHES), *shape) for name, shape in model.plan.inputs.items()}
    raw = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    planned = run_outputs(model, {name: values[: BATCHES[0]] for name, values in raw.items()})
    for count in BATCHES:
        try:
            made = _run(module, [values[:count] for values in raw.values()])
        except UsageError as error:
            raise UnsupportedError(f"the network depends on the size of the batch: {error}") from error
        for name, ours, theirs in zip(model.plan.outputs, planned, made, strict=True):
            _compare(name, count, ours, theirs)


def _compare(name: str, count: int, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raise UnsupportedError unless output `name` of `count` examples is ours, of which there are the first BATCHES[0]."""
    if theirs.shape != (count, *ours.shape[1:]):
        raise UnsupportedError(
            f"output {name} has shape {theirs.shape} for {count} examples, not {(count, *ours.shape[1:])}: the network "
            "depends on the size of the batch: squeeze() and view() need their directions"
        )
    if not np.isfinite(theirs).all():
        raise UnsupportedError(f"the module gives NaN or infinity as output {name} of random inputs: check its weights")
    off = difference(ours[:count], theirs[: len(ours)])
    if off <= CHECK_TOLERANCE:
        return
    if count != BATCHES[0]:
        raise UnsupportedError(
            f"output {name} of an example differs by {off:.2g} of the largest in a batch of {count}: the network depends on "
            "the size of the batch: compute each example alone"
        )
    raise UnsupportedError(
        f"the plan does not compute what the module computes: output {name} differs by {off:.2g} of the largest, "
        f"{CHECK_TOLERANCE:.0e} is allowed: please report this network"
    )
