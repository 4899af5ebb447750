"""The C of operations without weights that work element by element, and of those in exporters/c_space.py.

Kernels are shared by the layers of a network: what tells two layers apart are arguments, and tables of their sizes. Neither
depends on the constants of the model, which a device may replace.
"""

from collections.abc import Callable, Mapping
from math import prod

from edgeticket.integer import IntegerModel
from edgeticket.integer_layer import IntegerLayer
from edgeticket.ops import Activation, Add, Concat, Mul, Norm, PRelu
from exporters.c_kernel import Kernel
from exporters.c_site import Site, table
from exporters.c_space import KERNELS as SPACE

MANY = 256  # elements: from here on a table of all codes is worth its making


def operation(model: IntegerModel, record: IntegerLayer, tensors: Mapping[str, str]) -> Kernel:
    """The kernel of one layer; `tensors`: name -> C expression of the pointer to its dense array.

    A layer with an activation of its own reads the et_activation ET_ACT_lN, N its place in the plan. Raises UnsupportedError
    for sizes that the kernels' tables do not hold, KeyError for an operation that has its kernel elsewhere.
    """
    return (_KERNELS | SPACE)[type(record.layer.op)](Site(model, record, tensors))


def _activation(site: Site) -> Kernel:
    count = prod(site.shape)
    fragment, call = _each(site, 0, count, site.y, site.act, "k + 1", f"k + 1 + ET_HEAD({site.act})")
    return Kernel(("ops_shift.h", fragment), (), call, MANY if "scratch" in call else 0)


def _concat(site: Site) -> Kernel:
    fragments, calls, head = ["ops_shift.h", "ops_none.h"], [], f"k + {len(site.shapes)}"
    first = 0
    for i, shape in enumerate(site.shapes):
        fragment, call = _each(site, i, prod(shape), f"{site.y} + {first}", "&et_none", head, f"{head} + {4 + 3 * i}")
        first += prod(shape)
        fragments.append(fragment)
        calls.append(call)
    call = "\n".join(calls)
    return Kernel(tuple(dict.fromkeys(fragments)), (), call, MANY if "scratch" in call else 0)


def _each(site: Site, i: int, count: int, y: str, act: str, head: str, row: str) -> tuple[str, str]:
    """Fragment and call that make `count` codes at `y` of operand `i`, each of one code."""
    kind = site.kinds[i]
    if kind == "u8" and count >= MANY:
        return "ops_lookup.h", f"et_lookup({site.xs[i]}, {y}, {count}, k[{i}], {act}, {head}, {row}, scratch);"
    return f"ops_each.h:{kind}", f"et_each_{kind}({site.xs[i]}, {y}, {count}, k[{i}], {act}, {head}, {row});"


def _norm(site: Site) -> Kernel:
    channels, *size = site.shape
    call = f"et_norm_{site.kind}({site.x}, {site.y}, {channels}, {prod(size)}, {site.act}, k);"
    return Kernel(("ops_shift.h", "ops_narrow.h", f"ops_norm.h:{site.kind}"), (), call)


def _prelu(site: Site) -> Kernel:
    channels, *size = site.shape
    call = f"et_prelu_{site.kind}({site.x}, {site.y}, {channels}, {prod(size)}, k);"
    return Kernel(("ops_shift.h", f"ops_prelu.h:{site.kind}"), (), call)


def _join(site: Site) -> Kernel:
    """Two operands of codes have loops of their own."""
    total, (size, *steps) = isinstance(site.op, Add), broadcast(site.shape, site.shapes)
    act = site.act if total else "&et_none"
    none = () if total else ("ops_none.h",)
    if site.kinds == ["u8", "u8"]:
        pair = site.table("et_pair", [size, *steps])
        name, own, more = ("add", f", {act}", none) if total else ("mul", "", ("ops_shift.h",))
        call = f"et_{name}({site.xs[0]}, {site.xs[1]}, {site.y}, &{site.name('pair')}{own}, k);"
        return Kernel((*more, "ops_pair.h", f"ops_{name}.h"), (pair,), call)
    rows = []
    for x, kind, step in zip(site.xs, site.kinds, steps, strict=True):
        rows.append(f"{{{x}, 0, {table(step)}}}" if kind == "u8" else f"{{0, {x}, {table(step)}}}")
    operands = f"const et_operand operands[] = {{{', '.join(rows)}}};"
    sizes = f"static const int32_t {site.name('size')}[] = {table(size)};"
    call = f"et_join(operands, {len(rows)}, {site.y}, {site.name('size')}, {int(total)}, {act}, k);"
    return Kernel((*none, "ops_shift.h", "ops_join.h"), (sizes,), f"{{\n  {operands}\n  {call}\n}}")


def broadcast(shape: tuple[int, ...], shapes: list[tuple[int, ...]]) -> list[list[int]]:
    """Three sizes of the result, then of each operand how many elements it moves in each of them.

    Neighbouring directions in which every operand goes on as if they were one are one; (5, 4, 4) of equal shapes is 1, 1, 80.
    """
    steps = [[prod(own[i + 1 :]) if own[i] > 1 else 0 for i in range(len(own))] for own in shapes]
    rows = [list(row) for row in zip(shape, *steps, strict=True) if row[0] > 1]  # of each direction
    merged: list[list[int]] = []
    for row in rows:
        if merged and all(outer == row[0] * inner for outer, inner in zip(merged[-1][1:], row[1:], strict=True)):
            merged[-1] = [merged[-1][0] * row[0], *row[1:]]
        else:
            merged.append(row)
    one = [1, *[0] * len(shapes)]
    return [list(column) for column in zip(*[one] * (3 - len(merged)), *merged, strict=True)]


_KERNELS: dict[type, Callable[[Site], Kernel]] = {
    Activation: _activation,
    Add: _join,
    Concat: _concat,
    Mul: _join,
    Norm: _norm,
    PRelu: _prelu,
}
