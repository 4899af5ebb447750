"""Ranges of every tensor -> uint8 scale and zero point. Needs neither labels nor torch."""

import numpy as np

from edgeticket.model import Model
from edgeticket.reference import run_all
from edgeticket.ticket import Quant


def calibrate(model: Model, raw: np.ndarray, batch: int = 256) -> dict[str, Quant]:
    """Min-max over `raw` [n, *input shape]; every range includes 0, so that 0 is a code."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for i in range(0, len(raw), batch):
        for name, values in run_all(model, raw[i : i + batch]).items():
            low[name] = min(low.get(name, 0.0), float(values.min()))
            high[name] = max(high.get(name, 0.0), float(values.max()))
    return {name: _quant(low[name], high[name]) for name in low}


def _quant(low: float, high: float) -> Quant:
    scale = float(np.float32(max(high - low, 1e-6) / 255))
    return Quant(scale, int(np.clip(round(-low / scale), 0, 255)))
