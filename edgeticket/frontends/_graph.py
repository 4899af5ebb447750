"""Walks the graph of a traced module, operation by operation, and hands each to its handler."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves, tree_map

from edgeticket.errors import UnsupportedError
from edgeticket.frontends import _elementwise, _space, _weighted  # noqa: F401  their handlers register themselves
from edgeticket.frontends._builder import Builder, Constant, Value
from edgeticket.frontends._operations import HANDLERS, MOVES, advice
from edgeticket.frontends._source import operation, own_path, unsupported
from edgeticket.model import Model
from edgeticket.ops import Shape


def read_graph(program: ExportedProgram, inputs: Mapping[str, Shape]) -> Model:
    """The model of a functional ATen graph. Raises UnsupportedError for what has no layer, with its place."""
    graph, signature = program.graph, program.graph_signature
    for node in list(graph.nodes):
        if str(node.target) == "aten._assert_tensor_metadata.default":
            graph.erase_node(node)
    if signature.buffers_to_mutate:
        names = ", ".join(sorted(map(own_path, signature.buffers_to_mutate.values())))
        raise UnsupportedError(f"the network changes its buffer {names} when it runs: a plan keeps no state")
    builder = Builder(inputs)
    known = _placeholders(program, builder)
    last = {read: node for node in graph.nodes for read in node.all_input_nodes}  # its last reader
    for node in graph.nodes:
        if node.op == "output":
            return builder.model(
                _outputs(program, builder, [known.get(one) if isinstance(one, Node) else one for one in node.args[0]])
            )
        if node.op != "placeholder":
            known[node] = _step(program, builder, node, known)
            builder.hold(node, [one for one in tree_leaves(known[node]) if isinstance(one, Value)])
        for read in node.all_input_nodes:
            if last[read] is node:
                del known[read]
    raise AssertionError("a graph ends in its output")


def _placeholders(program: ExportedProgram, builder: Builder) -> dict[Node, Any]:
    """Inputs as values, parameters and buffers as constants; tensors that are one have one name."""
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    stored = {**program.constants, **program.state_dict}
    first: dict[int, str] = {}
    names = iter(builder.inputs)
    known: dict[Node, Any] = {}
    for node in program.graph.find_nodes(op="placeholder"):
        spec = specs[node.name]
        if spec.kind != InputKind.USER_INPUT:
            tensor = stored[spec.target]
            name = first.setdefault(tensor.untyped_storage().data_ptr(), own_path(spec.target))
            known[node] = Constant(tensor.detach().cpu(), frozenset([name]))
            continue
        name = next(names)
        if not node.users:
            raise UnsupportedError(f"the network does not read its input {name}: take it out of forward")
        known[node] = builder.value(node, name)
        builder.hold(node, [known[node]])
    return known


def _step(program: ExportedProgram, builder: Builder, node: Node, known: dict[Node, Any]) -> Any:
    if node.op == "get_attr":
        return getattr(program.graph_module, str(node.target), None)
    args = map_arg(_arguments(node), known.__getitem__)
    try:
        made = _made(builder, node, args)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Operations are called in more ways than are known here: whatever it is, the place is what the user needs.
        problem = f"{operation(node)} is not supported in this form"
        raise unsupported(node, problem, f"{type(error).__name__}: {error}") from error
    if isinstance(made, Value):
        expected = node.meta["val"]
        if expected.dtype != torch.float32:
            raise unsupported(node, f"{operation(node)} to {expected.dtype} is not supported", "compute in float32")
        if made.shape != tuple(expected.shape):
            problem = f"{operation(node)} gives {tuple(expected.shape)}, {made.shape} here"
            raise unsupported(node, problem, "please report it")
    return made


def _made(builder: Builder, node: Node, args: tuple[Any, ...]) -> Any:
    if node.target is operator.getitem:
        if args[0][args[1]] is None:
            raise unsupported(node, "positions of a maximum are not supported", "use the values alone")
        return args[0][args[1]]
    leaves = [one for one in tree_leaves(args) if isinstance(one, Value | Constant)]
    if not any(isinstance(one, Value) for one in leaves):
        return _constant(node, args, leaves)
    if str(node.target) in MOVES and isinstance(args[0], Value):
        return builder.move(node, args[0], _move(node, args))
    if str(node.target) not in HANDLERS:
        raise advice(node)
    return HANDLERS[str(node.target)](builder, node, *args)


def _arguments(node: Node) -> tuple[Any, ...]:
    """All of the operation's, in order, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.args
    rest = schema.arguments[len(node.args) :]
    return (*node.args, *(node.kwargs.get(one.name, one.default_value) for one in rest))


def _move(node: Node, args: tuple[Any, ...]) -> Callable[[Tensor], Any]:
    """The operation itself, for the numbers of the values."""
    target = node.target
    if "view" in str(target):  # a view fails where the strides of the values are others than those of their numbers
        target = torch.ops.aten.reshape.default
    schema = target._schema.arguments  # type: ignore[union-attr]
    rest = [one for one, argument in zip(args, schema, strict=False) if not argument.kwarg_only][1:]
    return lambda index: target(index, *_tensors(rest))  # type: ignore[operator]


def _tensors(args: Any) -> Any:
    """Constants as their tensors. Raises ValueError for values: where they move is then decided by data."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            raise ValueError("places that depend on the input")
        return leaf.tensor if isinstance(leaf, Constant) else leaf

    return tree_map(one, args)


def _constant(node: Node, args: Any, leaves: list[Any]) -> Any:
    """What the operation gives, computed here and now: it does not depend on the input."""
    if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise unsupported(node, f"{operation(node)} is random", "a plan computes the same every time")
    keywords = {name: value for name, value in node.kwargs.items() if name != "device"}
    made = node.target(*_tensors(args[: len(node.args)]), **keywords)  # type: ignore[operator]
    parameters = frozenset[str]().union(*(one.parameters for one in leaves))
    return tree_map(lambda one: Constant(one, parameters) if isinstance(one, Tensor) else one, made)


def _outputs(program: ExportedProgram, builder: Builder, values: list[Any]) -> list[str]:
    specs = program.graph_signature.output_specs
    names: list[str] = []
    for spec, value in zip(specs, values, strict=True):
        if spec.kind != OutputKind.USER_OUTPUT or value is None:
            continue
        if not isinstance(value, Value):
            raise UnsupportedError(f"output {len(names)} of the network does not depend on its input: leave it out")
        name = builder.tensor(value)
        if name in builder.inputs or name in names:
            raise UnsupportedError(
                f"the network gives {name} as it is, or twice: give each tensor that it computes once"
            )
        names.append(name)
    return names
