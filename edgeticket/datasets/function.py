"""Arrays from a Python function of the user's, `file.py:function`."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from edgeticket.datasets.raw import Raw
from edgeticket.errors import DataError


def read(source: str) -> Raw:
    """Runs the file, calls the function without arguments. Raises DataError for whatever goes wrong in it."""
    file, _, name = source.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise DataError(f"{path} is not a file: check the path")
    try:
        spec = importlib.util.spec_from_file_location(f"edgeticket_data_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        arrays = getattr(module, name)()
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"{name} in {path} failed ({type(error).__name__}: {error}): correct it") from error
    if not isinstance(arrays, Mapping):
        raise DataError(
            f"{name} in {path} gave {type(arrays).__name__}: return a dict of numpy arrays, as an .npz has them"
        )
    return Raw(arrays, f"function {name} of {path.name}; its licence is not stated")
