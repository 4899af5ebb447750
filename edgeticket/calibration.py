"""Ranges of every tensor -> uint8 scale and zero point. Needs neither labels nor torch."""

from dataclasses import replace

import numpy as np

from edgeticket.compact import compact
from edgeticket.data import Data
from edgeticket.errors import DataError
from edgeticket.model import Model
from edgeticket.reference import batches, check_raw, run_all
from edgeticket.ticket import Quant, Ticket


def calibrate(model: Model, raw: np.ndarray) -> dict[str, Quant]:
    """Min-max over `raw` [n, *input shape]; every range includes 0, so that 0 is a code."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for part in batches(model.plan, raw):
        for name, values in run_all(model, part).items():
            low[name] = min(low.get(name, 0.0), float(values.min()))
            high[name] = max(high.get(name, 0.0), float(values.max()))
    return {name: _quant(low[name], high[name]) for name in low}


def _quant(low: float, high: float) -> Quant:
    scale = float(np.float32(max(high - low, 1e-6) / 255))
    return Quant(scale, int(np.clip(round(-low / scale), 0, 255)))


def requantize(ticket: Ticket, data: Data) -> Ticket:
    """The ticket with the ranges of the training part of `data`, which its provenance names. Raises DataError."""
    model = compact(ticket)
    check_data(model, data)
    made_by = {**ticket.provenance, "requantized": {"data": data.name, "data_digest": data.digest}}
    return replace(ticket, quant=calibrate(model, data.train[0]), provenance=made_by)


def check_data(model: Model, data: Data) -> None:
    """Raise DataError unless the certify part is what the network's sensor gives and its classes are the outputs."""
    raw, labels = data.certify
    check_raw(model.plan, raw)
    if raw.dtype.name != model.input.dtype:
        raise DataError(
            f"data {data.name} are {raw.dtype}, the ticket's sensor gives {model.input.dtype}: give its data"
        )
    outputs = model.plan.shapes[model.plan.outputs[0]]
    if len(outputs) != 1 or labels.max() >= outputs[0]:
        raise DataError(
            f"data {data.name} hold label {labels.max()}, the network's output is {outputs}: give the ticket's data"
        )
