"""By PyTorch's name: what each operation of a traced module becomes, and what to do about those that become nothing.

A handler gets the builder, the node and all of the operation's arguments: Values, Constants or plain Python.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch.fx import Node

from edgeticket.errors import UnsupportedError
from edgeticket.frontends._builder import Value
from edgeticket.frontends._source import operation, unsupported
from edgeticket.ops import Shape

Handler = Callable[..., Any]
HANDLERS: dict[str, Handler] = {}  # filled by the files that import this one
MOVES = {  # operations that only move values: they run on the values' numbers
    f"aten.{name}"
    for name in [
        "view.default",
        "reshape.default",
        "_unsafe_view.default",
        "flatten.using_ints",
        "unflatten.int",
        "squeeze.default",
        "squeeze.dim",
        "squeeze.dims",
        "unsqueeze.default",
        "permute.default",
        "transpose.int",
        "movedim.int",
        "alias.default",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "expand.default",
        "repeat.default",
        "tile.default",
        "repeat_interleave.self_int",
        "slice.Tensor",
        "select.int",
        "narrow.default",
        "index.Tensor",
        "index_select.default",
        "flip.default",
        "fliplr.default",
        "roll.default",
        "split.Tensor",
        "split_with_sizes.default",
        "chunk.default",
        "tensor_split.sections",
        "unbind.int",
        "channel_shuffle.default",
        "native_channel_shuffle.default",
        "pixel_shuffle.default",
        "pixel_unshuffle.default",
    ]
}


def handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS.update({f"aten.{name}": handler for name in names})
        return handler

    return register


def each(value: int | Sequence[int], n: int) -> Shape:
    """PyTorch's way to give one number for every direction."""
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * n if len(values) == 1 else values)


def require_directions(node: Node, x: Value, n: int) -> None:
    if len(x.shape) != n + 2:
        problem = f"{operation(node)} of {n} directions reads a tensor of {len(x.shape)} with the batch"
        raise unsupported(node, problem, f"give it batch, channels and {n} directions")


def advice(node: Node) -> UnsupportedError:
    """For an operation that has no handler."""
    name = operation(node)
    text = next((text for words, text in _ADVICE.items() if name.strip("_") in words.split()), "")
    return unsupported(node, f"{name} is not supported", text or "replace it: the README lists the operations")


WRITTEN_OUT = "fold it into the layer before or after; a hard-swish written out is torch.nn.Hardswish"
_ADVICE = {
    "softmax log_softmax log_sigmoid": "leave it out at the end: the loss contains it, and the order of the outputs stays",
    "matmul bmm mm addmm baddbmm einsum scaled_dot_product_attention": "attention and products of tensors have no layer",
    "layer_norm group_norm instance_norm native_layer_norm native_group_norm": "use a batch norm",
    "native_batch_norm_legit native_batch_norm_legit_functional": "a batch norm needs running statistics: use "
    "track_running_stats=True and training=False",
    "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell": "use a temporal convolution",
    "sub rsub subtract neg negative div true_divide divide": WRITTEN_OUT,
    "elu celu selu mish softplus rrelu threshold": "use relu, relu6, leaky_relu, silu, gelu, hardswish or prelu",
    "glu": "write it as a * torch.sigmoid(b) of the two halves",
    "conv3d max_pool3d avg_pool3d conv_transpose3d": "one or two directions are possible",
    "sum": "use the mean",
    "embedding": "give the network what it would look up",
}
