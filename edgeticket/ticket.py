"""What a search learned, and what of it is in its file (edgeticket/ticket_file.py).

The file's JSON object holds the fields of `Ticket._header`. Its tensors, one per layer or group:
  kept.G     u8   bitmap, bit i = channel i of group G is left; one for every group that is not fixed
  mask.L     u8   bitmap over (filter, edge, input channel, tap) of what is left, C order
  flip.L     u8   bitmap over the kept weights of L, bit = 1: sign is the opposite of the seed's (learned signs only)
  learned.L  i8   weights of a learned layer
  scale.L, bias.L, slope.L   f32 per channel (slope: PRelu layers)
Reading runs no code, and refuses every file that writing the result would not reproduce byte for byte.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.errors import TicketError, UnsupportedError
from edgeticket.files import write_atomic
from edgeticket.ops import PRelu
from edgeticket.plan import Plan
from edgeticket.prng import GENERATOR
from edgeticket.text import printable
from edgeticket.ticket_file import MAX_FILE, decode, encode, pack, unpack

FORMAT = 2
MAX_EDGES = 16
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Input:
    """x = (raw - offset[channel]) * step[channel]. Integer sensors: equal steps, integer offsets, which padding reads as."""

    dtype: str  # "uint8" | "int16" | "float32": what the sensor gives
    offset: tuple[float, ...]
    step: tuple[float, ...]

    @property
    def one_step(self) -> bool:
        """All channels have the same step."""
        return len(set(self.step)) == 1

    def apply(self, raw: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """Network input for raw values [batch, channels, ...]."""
        offset, step = np.array([self.offset, self.step], dtype).reshape(2, -1, *[1] * (raw.ndim - 2))
        return ((raw.astype(dtype) - offset) * step).astype(dtype)


@dataclass(frozen=True)
class Target:
    """target = output / step + offset: a regression learns targets at mean 0 and deviation 1, each in its own unit."""

    offset: tuple[float, ...]
    step: tuple[float, ...]

    def apply(self, outputs: np.ndarray) -> np.ndarray:
        """In the targets' units, [batch, targets]."""
        offset, step = np.array([self.offset, self.step], outputs.dtype)
        return outputs / step + offset


@dataclass(frozen=True)
class Quant:
    """real = (code - zero_point) * scale, codes 0..255."""

    scale: float
    zero_point: int


Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Ticket:
    """`plan` is the WIDE network; every array is of what is left of it (see the module's text for their axes)."""

    plan: Plan
    seed: int
    edges: Mapping[str, int]
    kept: Arrays
    masks: Arrays  # layer -> bool [filters, edges, inputs, *kernel]
    flips: Arrays  # layer -> bool, like masks and only where they are set; no entry: the seed's signs
    learned: Arrays  # layer -> int8 [filters, inputs, *kernel]
    scale: Arrays
    bias: Arrays
    inputs: Mapping[str, Input]
    quant: Mapping[str, Quant]
    task: str
    purity: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    generator: str = GENERATOR
    slope: Arrays = field(default_factory=dict)
    target: Target | None = None

    @property
    def narrow(self) -> Plan:
        return self.plan.narrow(self.kept)

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file. Raises TicketError where it would be larger than a reader takes."""
        return encode(self._header(), self._tensors())

    def write(self, path: str | Path) -> None:
        """Whole or not at all. Raises EdgeTicketError where the system refuses, or as `to_bytes`."""
        write_atomic(Path(path), self.to_bytes())

    def _header(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "plan": self.plan.to_json(),
            "seed": self.seed,
            "generator": self.generator,
            "edges": dict(self.edges),
            "inputs": {
                name: {"dtype": one.dtype, "offset": list(one.offset), "step": list(one.step)}
                for name, one in self.inputs.items()
            },
            "quant": {name: [q.scale, q.zero_point] for name, q in self.quant.items()},
            "task": self.task,
            "purity": self.purity,
            "provenance": dict(self.provenance),
            **({"target": asdict(self.target)} if self.target else {}),
        }

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = {f"kept.{name}": pack(kept) for name, kept in self.kept.items()}
        tensors |= {f"mask.{name}": pack(mask) for name, mask in self.masks.items()}
        tensors |= {f"flip.{name}": pack(flip[self.masks[name]]) for name, flip in self.flips.items()}
        tensors |= {f"learned.{name}": weights for name, weights in self.learned.items()}
        tensors |= {f"scale.{name}": scale.astype(np.float32) for name, scale in self.scale.items()}
        tensors |= {f"bias.{name}": bias.astype(np.float32) for name, bias in self.bias.items()}
        tensors |= {f"slope.{name}": slope.astype(np.float32) for name, slope in self.slope.items()}
        return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def read_ticket(path: str | Path) -> Ticket:
    """Read a ticket file. Raises TicketError for anything that is not exactly what writing it would give."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE:
            raise TicketError(f"{path}: larger than {MAX_FILE} bytes: not a ticket")
        content = path.read_bytes()
    except OSError as error:
        raise TicketError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    try:
        return parse_ticket(content)
    except TicketError as error:
        raise TicketError(f"{path}: {error}: fetch or make the ticket again") from error


def parse_ticket(content: bytes) -> Ticket:
    """Inverse of `Ticket.to_bytes`. Raises TicketError; never any other exception."""
    header, tensors = decode(content)
    for key, known in (("format", FORMAT), ("generator", GENERATOR)):
        found = header.get(key)
        if type(found) is not type(known) or found != known:
            told = repr(found)[:40] if isinstance(found, int | str) else "of another kind"
            raise TicketError(f"{key} {told}, this version reads {known!r}")
    try:
        ticket = _build(header, tensors)
        canonical = ticket.to_bytes()
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError, UnsupportedError) as error:
        told = printable(str(error)[:200])
        raise TicketError(f"malformed ({type(error).__name__}: {told})") from error
    if canonical != content:
        raise TicketError("the seal does not match: the file was altered or damaged")
    return ticket


def _build(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> Ticket:
    plan = Plan.from_json(header["plan"])
    edges = {name: _integer(n, 1, MAX_EDGES) for name, n in header["edges"].items()}
    part = {kind: {} for kind in ("kept", "mask", "flip", "learned", "scale", "bias", "slope")}  # type: dict[str, dict[str, np.ndarray]]
    for key, array in tensors.items():
        kind, _, name = key.partition(".")
        part[kind][name] = array
    kept = {name: unpack(bits, len(plan.groups[name].ids)) for name, bits in part["kept"].items()}
    narrow = plan.narrow(kept)
    masks, flips = {}, {}
    for layer in narrow.weighted():
        rows, *rest = narrow.weight_shape(layer)
        if layer.name in part["learned"]:
            continue
        shape = (rows, edges[layer.name], *rest)
        masks[layer.name] = unpack(part["mask"][layer.name], prod(shape)).reshape(shape)
        if layer.name in part["flip"]:
            flip = np.zeros(shape, bool)
            flip[masks[layer.name]] = unpack(part["flip"][layer.name], int(masks[layer.name].sum()))
            flips[layer.name] = flip
    ticket = Ticket(
        plan=plan,
        seed=_integer(header["seed"], 0, (1 << 64) - 1),
        edges=edges,
        kept=kept,
        masks=masks,
        flips=flips,
        learned=part["learned"],
        scale=part["scale"],
        bias=part["bias"],
        inputs={
            name: Input(str(one["dtype"]), tuple(one["offset"]), tuple(one["step"]))
            for name, one in header["inputs"].items()
        },
        quant={name: Quant(scale, _integer(zero, 0, 255)) for name, (scale, zero) in header["quant"].items()},
        task=header["task"],
        purity=header["purity"],
        provenance=header["provenance"],
        slope=part["slope"],
        target=Target(*(tuple(header["target"][key]) for key in ("offset", "step"))) if "target" in header else None,
    )
    _check(ticket, narrow)
    return ticket


def _integer(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} is not an integer in [{low}, {high}]")
    return value


def _check(ticket: Ticket, narrow: Plan) -> None:
    """Raise ValueError where fields do not fit one another."""
    names = {layer.name for layer in narrow.weighted()}
    masked = names - set(ticket.learned)
    if not set(ticket.learned) <= names or not masked <= set(ticket.edges) <= names or set(ticket.masks) != masked:
        raise ValueError("learned weights, edges or masks for layers that have none")
    if set(ticket.kept) != {name for name, group in ticket.plan.groups.items() if not group.fixed}:
        raise ValueError("kept channels are not those of every group that may lose some")
    scaled = {layer.name for layer in narrow.scaled()}
    slopes = {layer.name for layer in narrow.layers if isinstance(layer.op, PRelu)}
    for what, wanted in (("scale", scaled), ("bias", scaled), ("slope", slopes)):
        arrays = getattr(ticket, what)
        if set(arrays) != wanted:
            raise ValueError(f"{what} of other layers than those that have one")
        for name, array in arrays.items():
            if array.shape != narrow.shapes[name][:1] or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"layer {name}: {what} must be {narrow.shapes[name][0]} finite float32")
    for name, weights in ticket.learned.items():
        shape = narrow.weight_shape(narrow[name])
        if weights.shape != shape or weights.dtype != np.int8:
            raise ValueError(f"layer {name}: learned weights must be int8 {shape}")
    if list(ticket.inputs) != list(narrow.inputs):
        raise ValueError("input maps of other inputs than the network's")
    for name, sensor in ticket.inputs.items():
        _check_map(sensor, narrow.shapes[name][0])
        _check_sensor(sensor)
    if ticket.target:
        _check_map(ticket.target, prod(narrow.shapes[narrow.outputs[0]]))
    scales = [q.scale for q in ticket.quant.values()]
    if not all(type(n) in (int, float) and FLOAT32_TINY <= n <= FLOAT32_MAX for n in scales):
        raise ValueError("a scale is not a positive float32")
    for text in (ticket.task, ticket.purity):
        if not isinstance(text, str) or not text.isprintable():
            raise ValueError(f"{text!r} is not the name of a task or a purity")
    if not isinstance(ticket.provenance, dict):
        raise ValueError("provenance is not an object")
    if set(ticket.quant) != set(narrow.shapes):
        raise ValueError("not every tensor has a quantisation")


def _check_map(values: Input | Target, channels: int) -> None:
    """Raise ValueError for a map that is none of `channels` channels."""
    if not all(type(n) in (int, float) and abs(n) <= FLOAT32_MAX for n in (*values.offset, *values.step)):
        raise ValueError("a map of inputs or targets is not finite float32")
    if not len(values.offset) == len(values.step) == channels:
        raise ValueError(f"a map of other channels than the {channels} that the network has")
    if any(step < FLOAT32_TINY or float(np.float32(step)) != step for step in values.step):
        raise ValueError("a step is not a positive float32")


def _check_sensor(sensor: Input) -> None:
    if sensor.dtype not in ("uint8", "int16", "float32"):
        raise ValueError(f"input type {sensor.dtype!r}")
    if sensor.dtype != "float32":
        if not sensor.one_step:
            raise ValueError(f"the channels of a {sensor.dtype} sensor have different steps")
        limits = np.iinfo(sensor.dtype)
        if not all(offset == int(offset) and limits.min <= offset <= limits.max for offset in sensor.offset):
            raise ValueError(f"input offset {sensor.offset} is not one of {sensor.dtype}")
