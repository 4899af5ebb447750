"""Fashion-MNIST from Debian's package: IDX files, gzipped, pinned by SHA-256."""

import gzip
from pathlib import Path

import numpy as np

from edgeticket.datasets.raw import Raw, read_file, require_sha256
from edgeticket.errors import DataError

LINE = "70,000 real clothing photographs, 28x28, 10 classes; apt-get install dataset-fashion-mnist"
NOTE = "Fashion-MNIST (Zalando SE, 2017), MIT licence, Debian package dataset-fashion-mnist"
FOLDER = Path("/usr/share/datasets/fashion-mnist")
MAX_FILE = 1 << 25
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FILES = {  # array: file, SHA-256 of the file, shape; an IDX header is 4 bytes and 4 per axis
    "x_train": (
        "train-images-idx3-ubyte.gz",
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        (60000, 1, 28, 28),
    ),
    "y_train": (
        "train-labels-idx1-ubyte.gz",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        (60000,),
    ),
    "x_test": (
        "t10k-images-idx3-ubyte.gz",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        (10000, 1, 28, 28),
    ),
    "y_test": (
        "t10k-labels-idx1-ubyte.gz",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        (10000,),
    ),
}


def read(folder: Path = FOLDER) -> Raw:
    """uint8 [60000, 1, 28, 28] and a test set of 10,000. Raises DataError where the package is absent or altered."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not there: run `apt-get install dataset-fashion-mnist`")
    arrays = {}
    for key, (name, sha256, shape) in FILES.items():
        content = read_file(folder / name, MAX_FILE)
        require_sha256(content, sha256, str(folder / name), "run `apt-get install --reinstall dataset-fashion-mnist`")
        header = 16 if key.startswith("x") else 8
        arrays[key] = np.frombuffer(gzip.decompress(content), np.uint8, offset=header).reshape(shape)
    return Raw(arrays | {"classes": list(CLASSES)}, NOTE, "channels-first")
