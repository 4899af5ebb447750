"""Arrays from an .npz file. Sizes are checked before anything is allocated, and no pickle is ever read."""

import io
import zipfile
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from edgeticket.datasets.raw import MAX_BYTES, Raw, read_file
from edgeticket.errors import DataError

MAX_FILE = 1 << 31
MAX_MEMBERS = 64


def read(path: Path) -> Raw:
    """Every array of the file. Raises DataError where it is damaged, too large, or holds Python objects."""
    content = read_file(path, MAX_FILE)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive, path)
            arrays = {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}
    except DataError:
        raise
    except Exception as error:  # zipfile, its codecs and numpy's header parser raise many types
        raise DataError(f"{path} is damaged or not an .npz ({error}): write it again with numpy.savez") from error
    return Raw(arrays, f"file {path.name}; its licence is not stated")


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    names = [info.filename for info in members]
    if len(members) > MAX_MEMBERS or len(set(names)) != len(names):
        raise DataError(f"{path} holds more than {MAX_MEMBERS} arrays or one name twice: write it again")
    if sum(info.file_size for info in members) > MAX_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_BYTES} bytes: make it smaller")
    return members


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """A view of the member's bytes; what its header claims must fill the member exactly."""
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    stream = io.BytesIO(content)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(f"{info.filename} holds Python objects: store plain numbers (no dtype=object, no ragged rows)")
    if prod(shape) * dtype.itemsize != len(content) - stream.tell() or dtype.itemsize == 0:
        raise ValueError(f"{info.filename}: shape {shape} of {dtype} does not fit its size")
    if prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
