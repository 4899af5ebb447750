"""What is in a ticket: layer by layer and in total, before (the wide network) and after (what is left of it)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

from edgeticket.compact import compact, prove
from edgeticket.model import Model, Raw
from edgeticket.ops import Layer
from edgeticket.packet import equivalents, layer_bytes, packed_bytes
from edgeticket.reference import feed
from edgeticket.text import columns
from edgeticket.ticket import Ticket

WIDTH = 118  # of the text, in columns
_PROOF_INPUTS = 32


def describe(ticket: Ticket) -> dict[str, Any]:
    """Everything `edgeticket show` prints, as plain JSON values. Sizes in bytes, activations in int8 elements = bytes."""
    model = compact(ticket)
    layers = [_layer(ticket, model, layer) for layer in ticket.plan.weighted()]
    parts = packed_bytes(model)
    total = _totals(layers, sum(parts.values()), parts["int8"])
    wide, narrow = ticket.plan, model.plan
    return {
        "inputs": {
            name: {
                "shape": list(wide.shapes[name]),
                "dtype": sensor.dtype,
                "offset": list(sensor.offset),
                "step": list(sensor.step),
            }
            for name, sensor in ticket.inputs.items()
        },
        "target": {key: list(values) for key, values in asdict(ticket.target).items()} if ticket.target else None,
        "task": ticket.task,
        "purity": ticket.purity,
        "seed": ticket.seed,
        "generator": ticket.generator,
        "digest": ticket.digest,
        "layers": layers,
        "total": total,
        "bytes": {
            "ticket": len(ticket.to_bytes()),
            "packed": sum(parts.values()),
            "parts": parts,
            **equivalents(narrow, ticket.inputs),
        },
        "peak_activations": {"before": wide.peak_activations(), "after": narrow.peak_activations()},
        "provenance": dict(ticket.provenance),
    }


def _layer(ticket: Ticket, model: Model, layer: Layer) -> dict[str, Any]:
    name, wide, narrow = layer.name, ticket.plan, model.plan
    weights, edges = model.weights[name], ticket.edges.get(name, 1)
    before, after = prod(wide.weight_shape(layer)), prod(narrow.weight_shape(narrow[name]))
    return {
        "name": name,
        "op": type(layer.op).__name__,
        "kind": "int8" if name in ticket.learned else "signs+flips" if name in ticket.flips else "signs",
        "edges": edges,
        "channels": {"before": wide.shapes[name][0], "after": narrow.shapes[name][0]},
        "weights": {"before": before, "after": after},
        "kept": weights.kept,
        "density": weights.kept / (after * edges),
        "macs": {"before": before * wide.positions(name), "after": after * narrow.positions(name)},
        "kept_macs": weights.kept * narrow.positions(name),
        "bytes": sum(layer_bytes(model, name).values()),
    }


def _totals(layers: list[dict[str, Any]], packed: int, learned_bytes: int) -> dict[str, Any]:
    """Sums over layers. `kept_of_wide`: kept edges over all edges of the wide network."""
    total: dict[str, Any] = {key: sum(row[key] for row in layers) for key in ("kept", "kept_macs")}
    for key in ("channels", "weights", "macs"):
        total[key] = {when: sum(row[key][when] for row in layers) for when in ("before", "after")}
    edges = {when: sum(row["weights"][when] * row["edges"] for row in layers) for when in ("before", "after")}
    learned = sum(row["weights"]["after"] for row in layers if row["kind"] == "int8")
    return total | {
        "density": total["kept"] / max(1, edges["after"]),  # a network without weights has none of them
        "kept_of_wide": total["kept"] / max(1, edges["before"]),
        "learned_share_of_weights": learned / max(1, total["weights"]["after"]),
        "learned_share_of_bytes": learned_bytes / packed,
    }


def prove_compact(ticket: Ticket, raw: Raw | None = None) -> dict[str, Any]:
    """Compare the compacted with the masked wide network on `raw`, or on random inputs.

    Raises EquivalenceError where they differ, DataError where `raw` does not fit.
    """
    if raw is None:
        raw = compact(ticket).random_inputs(_PROOF_INPUTS)
    count = len(next(iter(feed(ticket.plan, raw).values())))
    off = prove(ticket, raw)
    told = describe(ticket)
    return {"inputs": count, "difference": off, "total": told["total"], "peak_activations": told["peak_activations"]}


# text


def describe_text(told: Mapping[str, Any]) -> str:
    """`describe(ticket)` as aligned tables under 120 columns."""
    total, sizes = told["total"], told["bytes"]
    parts = ", ".join(f"{name} {count:,}" for name, count in sizes["parts"].items() if count)
    facts = [
        [
            "seed",
            f"{told['seed']}   generator {told['generator']}   purity {_safe(told['purity'])}   task {_safe(told['task'])}",
        ],
        *(["input", _input_text(sensor)] for sensor in told["inputs"].values()),
        *(
            [["target", f"output / {_few(told['target']['step'])} + {_few(told['target']['offset'])}"]]
            if told["target"]
            else []
        ),
        [
            "kept",
            f"{total['kept']:,} weights = {total['density']:.2%} of the narrow, {total['kept_of_wide']:.2%} of the wide network"
            + (", every edge of a connection counted" if any(row["edges"] > 1 for row in told["layers"]) else ""),
        ],
        [
            "learned",
            f"{total['learned_share_of_weights']:.2%} of weights, {total['learned_share_of_bytes']:.2%} of packed bytes (int8 layers)",
        ],
        [
            "bytes",
            f"packed {sizes['packed']:,}   as int8 {sizes['int8']:,}   as fp32 {sizes['fp32']:,}   ticket file {sizes['ticket']:,}",
        ],
        ["packed", parts],
        ["memory", _arrow(told["peak_activations"]) + " bytes of int8 activations at the peak"],
        ["digest", told["digest"]],
    ]
    made_by = ", ".join(f"{key} = {value}" for key, value in _flat(told["provenance"]))
    provenance = [["made by", made_by]] if told["provenance"] else []
    return "\n\n".join(["\n".join(columns(_layer_rows(told), "<<<")), "\n".join(_folded(facts + provenance))])


def prove_text(report: Mapping[str, Any]) -> str:
    total = report["total"]
    rows = [["", "before", "after"]]
    for key, label in (("channels", "channels"), ("weights", "weights"), ("macs", "MACs")):
        rows.append([label, f"{total[key]['before']:,}", f"{total[key]['after']:,}"])
    peak = report["peak_activations"]
    rows.append(["peak activations", f"{peak['before']:,}", f"{peak['after']:,}"])
    rows.append(["kept weights", "", f"{total['kept']:,}"])
    rows.append(["kept MACs", "", f"{total['kept_macs']:,}"])
    equal = (
        f"equal to the masked wide network on {report['inputs']} inputs, largest difference {report['difference']:.1e}"
    )
    return "\n".join([*columns(rows, "<"), equal])


def _layer_rows(told: Mapping[str, Any]) -> list[list[str]]:
    head = ["layer", "op", "weights are", "channels", "weights", "kept", "density", "MACs", "kept MACs", "bytes"]
    rows = [head]
    for row in (
        *told["layers"],
        {"name": "total", "op": "", "kind": "", "bytes": told["bytes"]["packed"]} | told["total"],
    ):
        numbers = [_arrow(row[key]) for key in ("channels", "weights")]
        numbers += [_number(row["kept"]), f"{row['density']:.3f}", _arrow(row["macs"]), _number(row["kept_macs"])]
        edges = row.get("edges", 1)
        kind = row["kind"] + (f" x{edges}" if edges > 1 else "")
        rows.append([row["name"], row["op"], kind, *numbers, _number(row["bytes"])])
    room = WIDTH - sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:])
    return [[_short(name, max(8, room)), *rest] for name, *rest in rows]


def _arrow(pair: Mapping[str, int]) -> str:
    before, after = pair["before"], pair["after"]
    return _number(before) if before == after else f"{_brief(before)}>{_brief(after)}"


def _number(number: int) -> str:
    return f"{number:,}" if number < 10**7 else _brief(number)


def _brief(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= max(size, 10**4):
            return f"{number / size:.4g}{unit}"
    return str(number)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"


def _input_text(fact: Mapping[str, Any]) -> str:
    offset, steps = _few(fact["offset"]), fact["step"]
    step = f"{steps[0]:g}" if len(set(steps)) == 1 else _few(steps)
    return f"{'x'.join(map(str, fact['shape']))} {fact['dtype']}, x = (raw - {offset}) * {step}"


def _few(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values[:4])}{', ...' if len(values) > 4 else ''}]"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of nested JSON, whatever a ticket holds there shown as printable text."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield _safe(name), _safe(value) if isinstance(value, str) else ascii(value)


def _safe(text: str) -> str:
    """Printable ASCII, so that no ticket can drive a terminal."""
    return ascii(text)[1:-1]


def _folded(facts: list[list[str]], width: int = WIDTH - 9) -> list[str]:
    """`name  text`, with the text folded at spaces or cut hard where there are none."""
    lines = []
    for name, text in facts:
        while text:
            cut = len(text) if len(text) <= width else (text.rfind(" ", 1, width) if " " in text[1:width] else width)
            lines.append(f"{name:<8} {text[:cut]}".rstrip())
            name, text = "", text[cut:].lstrip()
    return lines
