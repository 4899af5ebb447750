"""The anomaly detector of MLPerf Tiny (Banbury et al. 2021; baseline of DCASE 2020 task 2): `autoencoder:128,128,128,128,8`."""

from math import prod

from edgeticket.ops import Flatten, Layer, Linear, Shape
from edgeticket.plan import Plan

INPUT = (640,)  # five frames of 128 mel bands
CLASSES = 640  # values that it reconstructs
DEFAULT = (128, 128, 128, 128, 8)


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """Widths down to the code; the way back mirrors them. The output is the input again, flat; `classes` is not used."""
    encoder, layers, last = widths or DEFAULT, [], "input"
    if len(input) > 1:
        layers.append(Layer("flatten", Flatten(), (last,)))
        last = "flatten"
    names = [*(f"encoder{i + 1}" for i in range(len(encoder) - 1)), "code"]
    names += [f"decoder{i + 1}" for i in range(len(encoder) - 1)]
    for name, width in zip(names, (*encoder, *encoder[-2::-1]), strict=True):
        layers.append(Layer(name, Linear(width, norm=True, activation="relu"), (last,)))
        last = name
    layers.append(Layer("head", Linear(prod(input)), (last,)))
    return Plan({"input": input}, tuple(layers), ("head",))
