"""int8 of a network that was trained in float32: what a user does who asks for no training under rounding."""

from dataclasses import replace

import numpy as np

from edgeticket.model import Int8, Model, Weights
from edgeticket.rounding import TOP, round_parameters, stored_unit

LARGEST = 127  # of an int8 weight; -128 has no counterpart
SMALLEST = 1e-30  # unit of a layer without weights other than 0


def quantised(model: Model) -> Model:
    """The network with int8 weights, one scale per filter, nearest codes; without ranges, which calibration.calibrated adds.

    Scales lie on a grid that a device stores in a byte each (edgeticket/rounding.py), never below what a filter's largest
    weight needs, and weights are rounded to the scale that is stored: nothing is cut off or stretched. Values of a Norm
    and slopes of a PRelu stay float32.
    """
    weights: dict[str, Weights] = {}
    scale, bias = dict(model.scale), dict(model.bias)
    for layer in model.plan.weighted():
        name, whole = layer.name, model.weight(layer.name).astype(np.float64)
        rows = whole.reshape(len(whole), -1)
        scale[name] = _scales(np.abs(rows).max(1) / LARGEST)
        codes = np.rint(rows / scale[name][:, None]).astype(np.int8)
        weights[name], bias[name] = Int8(codes.reshape(whole.shape)), round_parameters(bias[name])
    return replace(model, weights=weights, scale=scale, bias=bias, quant={})


def _scales(least: np.ndarray) -> np.ndarray:
    """float32 [filters], each at least `least` and above 0: multiples 1 to TOP of one unit, as rounding.py has them."""
    unit = stored_unit(max(float(least.max(initial=0)) / TOP, SMALLEST))
    return (np.clip(np.ceil(least / unit), 1, TOP) * unit).astype(np.float32)
