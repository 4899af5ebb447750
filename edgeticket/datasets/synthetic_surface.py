"""SYNTHETIC camera pictures of brushed metal with a scratch, pit, stain or crack. Made here by numpy, from one seed.

Texture is Gaussian noise with an anisotropic Gaussian spectrum (long along the brush, short across it); light falls off in one
direction, as under a lamp at the side. Defects are levels of distance: a scratch of the distance from a straight line, a crack
from a line whose centre is a random walk, a pit of a disc, a stain of a wide ellipse. A defect may be brighter or darker.

Brush direction and grain, roughness, level, light, place, size, contrast and specks of dust vary in every class; the test
set is of sheets that training never sees.
"""

import numpy as np

from edgeticket.datasets.raw import Raw

LINE = "SYNTHETIC pictures of brushed metal, 1x32x32, 6,000, 5 classes of defect; nothing to install"
NOTE = (
    "SYNTHETIC: made by edgeticket's own generator, seed 5, licence of edgeticket; no claim about real surfaces. Training "
    "and test pictures are of different sheets (40 and 20)"
)
CLASSES = ("ok", "scratch", "pit", "stain", "crack")
SEED = 5
PICTURES = 20  # of each sheet and class
SHEETS, TEST_SHEETS = 40, 20
SIZE = 32
DUST = 5  # at most, in one picture
WEIGHT = np.array([0, 1, 1.1, 1.1, 0.8])  # contrast of each class: none betrays itself by its spread


def read() -> Raw:
    """uint8 [4000, 1, 32, 32] and a test set of 2,000; groups are the sheets. The same values every time."""
    random = np.random.RandomState(SEED)  # numpy keeps this generator's stream frozen (NEP 19)
    x_train, y_train, groups = _part(random, SHEETS)
    x_test, y_test, _ = _part(random, TEST_SHEETS)
    arrays = {"x_train": x_train, "y_train": y_train, "groups": groups, "x_test": x_test, "y_test": y_test}
    return Raw(arrays | {"classes": list(CLASSES)}, NOTE, "channels-first")


def _part(random: np.random.RandomState, sheets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the number of the sheet; classes alternate."""
    n = len(CLASSES) * PICTURES * sheets
    y, sheet = np.arange(n) % len(CLASSES), np.arange(n) // len(CLASSES) % sheets
    angle, length, width, rough, level, slope, lamp = (
        random.uniform(low, high, sheets)[sheet, None, None]
        for low, high in ((0, np.pi), (2, 6), (0.5, 1.2), (10, 30), (90, 165), (0, 0.25), (0, 2 * np.pi))
    )
    texture = _texture(random, angle + _uniform(random, n, -0.1, 0.1), length, width) + _dust(random, n)
    contrast = _sign(random, n) * _uniform(random, n, 3.5, 6) * WEIGHT[y, None, None]
    light = 1 + slope * (_turned(*_grid(), lamp)[0]) / (SIZE / 2)
    reflected = (
        level
        + _uniform(random, n, -15, 15)
        + rough * _uniform(random, n, 0.8, 1.2) * (texture + contrast * _defect(random, y))
    )
    return np.clip(np.rint(light * reflected), 0, 255).astype(np.uint8)[:, None], y, sheet


def _texture(random: np.random.RandomState, angle: np.ndarray, length: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Deviation 1, correlated over `length` pixels along `angle` and `width` across."""
    across = 2 * np.pi * np.fft.fftfreq(SIZE)
    u, v = _turned(across[None, : SIZE // 2 + 1], across[:, None], angle)
    noise = np.fft.rfft2(random.normal(size=(len(angle), SIZE, SIZE)))
    made = np.fft.irfft2(noise * np.exp(-((u * length) ** 2 + (v * width) ** 2) / 2), (SIZE, SIZE))
    return (made - made.mean((1, 2), keepdims=True)) / made.std((1, 2), keepdims=True)


def _dust(random: np.random.RandomState, n: int) -> np.ndarray:
    """Single pixels, bright or dark."""
    found, shape = np.zeros((n, SIZE * SIZE)), (n, DUST)
    strength = random.uniform(2, 6, shape) * (2 * random.randint(0, 2, shape) - 1) * (random.uniform(size=shape) < 0.7)
    np.add.at(found, (np.arange(n)[:, None], random.randint(0, SIZE * SIZE, shape)), strength)
    return found.reshape(n, SIZE, SIZE)


def _defect(random: np.random.RandomState, y: np.ndarray) -> np.ndarray:
    """0..1 [n, SIZE, SIZE]: how much of the defect each pixel has."""
    n = len(y)
    x, down = (place - _uniform(random, n, -9, 9) for place in _grid())
    along, off = _turned(x, down, _uniform(random, n, 0, 2 * np.pi))
    walk = np.cumsum(2 * random.randint(0, 2, (n, 2 * SIZE + 1)) - 1, 1)
    walk -= walk[:, SIZE, None]  # through the defect's middle
    step = np.clip(np.rint(along).astype(np.int64) + SIZE, 0, 2 * SIZE).reshape(n, -1)
    bend = np.take_along_axis(walk, step, 1).reshape(along.shape) * (y == 4)[:, None, None]
    end = 1 + np.exp(2 * (np.abs(along) - _uniform(random, n, 6, 12)))
    line = np.exp(-(((off - bend) / _uniform(random, n, 0.6, 1)) ** 2)) / end
    pit = 1 / (1 + np.exp(4 * (np.hypot(x, down) - _uniform(random, n, 1.3, 2.6))))
    flat, wide = _uniform(random, n, 0.6, 1), _uniform(random, n, 2.5, 4.5)
    stain = np.exp(-((along / flat) ** 2 + (off * flat) ** 2) / (2 * wide**2))
    return np.choose(y[:, None, None], [0 * line, line, pit, stain, line])


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel from the picture's middle."""
    down, right = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return right, down


def _turned(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _uniform(random: np.random.RandomState, n: int, low: float, high: float) -> np.ndarray:
    return random.uniform(low, high, (n, 1, 1))


def _sign(random: np.random.RandomState, n: int) -> np.ndarray:
    return 2 * random.randint(0, 2, (n, 1, 1)) - 1
