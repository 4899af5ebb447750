"""Shuttle, nine readings of a real spacecraft, from the installed package river, which is never imported."""

import gzip
import io

import numpy as np

from edgeticket.datasets.raw import Raw, package_file

LINE = "49,097 real records of 9 sensors, anomalies to find; pip install --no-deps river==0.26.1"
NOTE = (
    "UCI Statlog (Shuttle), NASA, CC BY 4.0, as in the ODDS benchmark, copy of river 0.26.1: the largest class is normal, the "
    "second is discarded, the rare ones are anomalies; the order in time is lost, and the first attribute is time itself"
)
PACKAGE, VERSION = "river", "0.26.1"
FILE = "river/datasets/shuttle.csv.gz"
SHA256 = "1ed4bfa77233d95bff2c8ab2482725d2d800410daedf5919ad80ec6faf60ff59"


def read() -> Raw:
    """float32 [49097, 9]; no test set. Raises DataError where the package is absent or the file altered."""
    content = gzip.decompress(package_file(PACKAGE, VERSION, FILE, SHA256))
    table = np.loadtxt(io.BytesIO(content), np.int32, delimiter=",", skiprows=1)
    # whole numbers, but of very different spread: floats get a step per sensor
    return Raw({"x_train": table[:, :-1].astype(np.float32), "y_train": table[:, -1]}, NOTE, "flat", "anomaly")
