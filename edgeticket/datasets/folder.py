"""Images in one sub-folder per class, read by Pillow (the extra `images`); train/ and test/ above them where present."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.datasets.raw import MAX_BYTES, Raw, read_file
from edgeticket.errors import DataError

MAX_FILE = 1 << 26
MAX_PIXELS = 1 << 24
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def read(path: Path) -> Raw:
    """uint8 [n, c, h, w] of one size; classes = sub-folders' names, sorted. Raises DataError and says which file."""
    _pillow()
    train = path / "train" if (path / "train").is_dir() else path
    test = path / "test" if train != path and (path / "test").is_dir() else None
    classes = [folder.name for folder in _entries(train) if folder.is_dir()]
    if not classes:
        raise DataError(f"{train} has no sub-folders: put each class's images into a folder of the class's name")
    arrays: dict[str, Any] = {"classes": classes}
    arrays["x_train"], arrays["y_train"] = _part(train, classes, None)
    if test is not None:
        arrays["x_test"], arrays["y_test"] = _part(test, classes, arrays["x_train"].shape[1:])
    return Raw(arrays, f"folder {path.name}; its licence is not stated", "channels-first")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("reading images needs Pillow: run `pip install edgeticket[images]`") from error
    return Image


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error


def _part(folder: Path, classes: list[str], shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
    """x and y of all images below `folder`; `shape` [c, h, w] is required of all where given."""
    files = _files(folder, classes)
    first = _image(files[0][2])
    shape = shape or first.shape
    if len(files) * first.size > MAX_BYTES:
        raise DataError(f"{folder}: {len(files)} images of {shape} are over {MAX_BYTES} bytes: use smaller images")
    x = np.empty((len(files), *shape), np.uint8)
    for index, (_, _, file) in enumerate(files):
        image = _image(file)
        if image.shape != shape:
            raise DataError(
                f"{file} is {image.shape} (channels, height, width), those before it are {shape}: "
                "convert all images to one size and one colour mode"
            )
        x[index] = image
    return x, np.array([label for _, label, _ in files], np.int64)


def _files(folder: Path, classes: list[str]) -> list[tuple[int, int, Path]]:
    """(position in its class, label, file), sorted: the classes alternate, so the first N hold all of them."""
    found = []
    for entry in _entries(folder):
        if not entry.is_dir():
            raise DataError(f"{entry} lies beside the class folders: move it into one, or away")
        if entry.name not in classes:
            raise DataError(f"{entry} is a class without training images: known are {', '.join(classes)}")
        for position, file in enumerate(_entries(entry)):
            if file.suffix.lower() not in SUFFIXES:
                raise DataError(
                    f"{file} is not an image of a known kind ({', '.join(SUFFIXES)}): convert it, or move it away"
                )
            found.append((position, classes.index(entry.name), file))
    if not found:
        raise DataError(f"{folder} holds no images: put each class's images into a folder of the class's name")
    return sorted(found)


def _image(file: Path) -> np.ndarray:
    """uint8 [c, h, w] as stored, without EXIF rotation: what a camera's buffer holds."""
    content = read_file(file, MAX_FILE)
    try:
        with _pillow().open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS} pixels")
            mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
            if mode not in CHANNELS:
                raise ValueError(f"colour mode {mode}; known are 8-bit grey, RGB and RGBA")
            return np.asarray(image.convert(mode)).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        unknown = type(error).__name__ == "UnidentifiedImageError"  # its text shows our buffer, not the file
        reason = f"damaged, or none of {', '.join(FORMATS)}" if unknown else str(error)
        raise DataError(f"{file} is not a usable image ({reason}): convert it, or move it away") from error
