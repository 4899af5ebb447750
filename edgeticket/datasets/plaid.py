"""PLAID, real electric current of appliances, from the installed package sktime, which is never imported."""

from math import fsum, sqrt

import numpy as np

from edgeticket.datasets.raw import Raw, package_file

LINE = "1,074 real current records of 11 household appliances, 1x256; pip install --no-deps sktime==1.2.0"
NOTE = (
    "PLAID (J. Gao and others, 2014), CC BY 4.0, post-processed for the UCR archive (P. Schafer, U. Leser), copy of sktime 1.2.0; "
    "rate and unit of these series are not stated. Window: the first 256 readings, a shorter record held at its last one, times "
    "4096 / root mean square of the 256, rounded, clipped to int16: a device must do the same. The two files halve each class, and "
    "each appliance was recorded three to six times: certify is of known appliances"
)
PACKAGE, VERSION = "sktime", "1.2.0"
FILES = {  # part: file, SHA-256
    "train": (
        "sktime/datasets/data/PLAID/PLAID_TRAIN.ts",
        "40deb3bc6bd1e1aa0e6db6e6bfd3cecc4a23bf57f6a6d6ab90fb75e4a2c72344",
    ),
    "test": (
        "sktime/datasets/data/PLAID/PLAID_TEST.ts",
        "aa6da0dc1461e8d374e068a940ce37d1b0bb1a9844596d818920c8af696d656d",
    ),
}
CLASSES = (
    "air conditioner",
    "compact fluorescent lamp",
    "fan",
    "fridge",
    "hairdryer",
    "heater",
    "incandescent bulb",
    "laptop",
    "microwave",
    "vacuum",
    "washing machine",
)
LENGTH = 256
ONE = 4096  # what the root mean square of a window becomes


def read() -> Raw:
    """int16 [537, 1, 256] and a test set of 537. Raises DataError where the package is absent or a file altered."""
    arrays: dict[str, object] = {"classes": list(CLASSES)}
    for part, (name, sha256) in FILES.items():
        text = package_file(PACKAGE, VERSION, name, sha256).decode()
        arrays[f"x_{part}"], arrays[f"y_{part}"] = _parse(text)
    return Raw(arrays, NOTE, "series")


def _parse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A .ts file: a head that ends with @data, then a line for each record, `reading,reading,...:class`."""
    lines = text.partition("@data\n")[2].splitlines()
    records = [line.rpartition(":") for line in lines]
    x = [window([float(reading) for reading in readings.split(",")]) for readings, _, _ in records]
    return np.stack(x)[:, None], np.array([int(label) for _, _, label in records])


def window(readings: list[float]) -> np.ndarray:
    """int16 [256] of a record of any length; NOTE has the rule."""
    held = (readings + readings[-1:] * LENGTH)[:LENGTH]
    level = sqrt(fsum(reading * reading for reading in held) / LENGTH) or 1.0  # fsum: the same on every machine
    return np.clip(np.rint(np.array(held) * (ONE / level)), -(1 << 15), (1 << 15) - 1).astype(np.int16)
