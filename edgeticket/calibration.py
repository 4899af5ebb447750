"""Ranges of every tensor -> uint8 scale and zero point. Needs neither labels nor torch."""

from dataclasses import replace
from math import prod

import numpy as np

from edgeticket import tasks
from edgeticket.compact import compact
from edgeticket.data import Data
from edgeticket.errors import DataError
from edgeticket.model import Model, Raw
from edgeticket.reference import batches, feed, run_all
from edgeticket.ticket import FLOAT32_TINY, Quant, Ticket

CALIBRATION_EXAMPLES = 1024  # at most


def calibrate(model: Model, raw: Raw) -> dict[str, Quant]:
    """Min-max over `raw`, [n, *shape] of each input; every range includes 0, so that 0 is a code."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for part in batches(model.plan, raw):
        for name, values in run_all(model, part).items():
            low[name] = min(low.get(name, 0.0), float(values.min()))
            high[name] = max(high.get(name, 0.0), float(values.max()))
    return {name: _quant(low[name], high[name]) for name in low}


def _quant(low: float, high: float) -> Quant:
    scale = float(np.float32(max((high - low) or 1e-6, 256 * FLOAT32_TINY) / 255))
    return Quant(scale, int(np.clip(round(-low / scale), 0, 255)))


def calibrated(model: Model, data: Data) -> Model:
    """The model with the ranges of the training part, on examples from all over it: data may lie sorted by class."""
    raw = data.train[0]
    return replace(model, quant=calibrate(model, raw[:: -(-len(raw) // CALIBRATION_EXAMPLES)]))


def requantize(ticket: Ticket, data: Data) -> Ticket:
    """The ticket with the ranges of the training part of `data`, which its provenance names. Raises DataError."""
    model = compact(ticket)
    check_data(model, data)
    made_by = {**ticket.provenance, "requantized": {"data": data.name, "data_digest": data.digest}}
    return replace(ticket, quant=calibrated(model, data).quant, provenance=made_by)


def check_data(model: Model, data: Data) -> None:
    """Raise DataError unless the certify part is what the network's sensor gives and its task is the network's."""
    raw, _ = data.certify
    feed(model.plan, raw)
    (sensor,) = model.inputs.values()
    if raw.dtype.name != sensor.dtype:
        raise DataError(f"data {data.name} are {raw.dtype}, the ticket's sensor gives {sensor.dtype}: give its data")
    if data.task != model.task:
        raise DataError(
            f"data {data.name} are for {data.task}, the ticket is for {model.task}: give its data, or --task"
        )
    outputs, wanted = model.plan.shapes[model.plan.outputs[0]], tasks.of(data).outputs(data)
    if len(outputs) != 1 or outputs[0] < wanted if data.task == "classification" else prod(outputs) != wanted:
        raise DataError(
            f"data {data.name} need {wanted} outputs, the network's output is {outputs}: give the ticket's data"
        )
