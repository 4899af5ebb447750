"""Real handwritten digits, 8 x 8 pixels of 0..16, shipped in the package sample_models."""

import gzip
import io
from importlib import resources

import numpy as np

from edgeticket.datasets.raw import Raw, require_sha256
from edgeticket.errors import DataError

LINE = "1,797 real handwritten digits, 8x8, 10 classes; comes with edgeticket"
NOTE = (
    "UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998), CC BY 4.0, copy of scikit-learn 1.9.1; "
    "13 writers, not named: the parts share writers (sample_models/DIGITS-LICENCE.txt)"
)
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


def read() -> Raw:
    """uint8 [1797, 1, 8, 8]; no test set. Raises DataError where the file is missing or altered."""
    try:
        content = resources.files("sample_models").joinpath("digits.csv.gz").read_bytes()
    except (OSError, ModuleNotFoundError) as error:
        raise DataError(f"sample_models/digits.csv.gz cannot be read ({error}): install edgeticket again") from error
    return parse(content)


def parse(content: bytes) -> Raw:
    """The same from the bytes of the file."""
    require_sha256(content, SHA256, "sample_models/digits.csv.gz", "install edgeticket again")
    table = np.loadtxt(io.BytesIO(gzip.decompress(content)), np.uint8, delimiter=",")
    return Raw({"x_train": table[:, :-1].reshape(-1, 1, 8, 8), "y_train": table[:, -1]}, NOTE, "channels-first")
