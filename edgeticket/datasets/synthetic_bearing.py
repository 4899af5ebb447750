"""SYNTHETIC vibration of a ball bearing: strikes that ring a resonance, in noise. Made here by numpy, from one seed.

Rates, turns of the shaft per second times: (N/2)(1 - d/D) for a defect of the outer race, (N/2)(1 + d/D) of the inner, and
(D/d)(1 - (d/D)^2) of a ball, which strikes both races; the cage turns at (1 - d/D)/2. A strike's strength follows the
shaft (inner) or the cage (ball) through the load zone, and balls slip 1-2 % from strike to strike. Source: R. B. Randall and
J. Antoni, Rolling element bearing diagnostics - a tutorial, Mech. Syst. Signal Process. 25 (2011) 485-520; the sizes are
those of the type 6205.

A healthy bearing is struck as strongly and as often, at random times: only the rhythm tells. Speed, load, gain, noise, its
colour, resonance, mesh tones and stray knocks vary in every class; the test set is of machines that training never sees.
"""

import numpy as np

from edgeticket.datasets.raw import Raw

LINE = "SYNTHETIC vibration of a ball bearing, 1x1024 at 12 kHz, 3,600 windows, 4 classes; nothing to install"
NOTE = (
    "SYNTHETIC: made by edgeticket's own generator, seed 12, licence of edgeticket; no claim about real bearings. Training "
    "and test windows are of different machines (24 and 12)"
)
CLASSES = ("ok", "outer", "inner", "ball")
SEED = 12
WINDOWS = 25  # of each machine and class
MACHINES, TEST_MACHINES = 24, 12
RATE, LENGTH = 12_000, 1024
LEAD, SIZE = (
    256,
    2048,
)  # samples before the window, for strikes that still ring in it; length of the circular convolution
STRIKES, KNOCKS = 32, 3
RATIO = 7.94 / 39.04  # d / D, ball to pitch diameter
OUTER, INNER, BALL = 9 / 2 * (1 - RATIO), 9 / 2 * (1 + RATIO), (1 - RATIO**2) / RATIO
CAGE = (1 - RATIO) / 2
COUNTS = 2500  # of the converter, for a strike of strength 1 at gain 1


def read() -> Raw:
    """int16 [2400, 1, 1024] and a test set of 1,200; groups are the machines. The same values every time."""
    random = np.random.RandomState(SEED)  # numpy keeps this generator's stream frozen (NEP 19)
    x_train, y_train, groups = _part(random, MACHINES)
    x_test, y_test, _ = _part(random, TEST_MACHINES)
    arrays = {"x_train": x_train, "y_train": y_train, "groups": groups, "x_test": x_test, "y_test": y_test}
    return Raw(arrays | {"classes": list(CLASSES)}, NOTE, "series")


def _part(random: np.random.RandomState, machines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the number of the machine; classes alternate."""
    n = len(CLASSES) * WINDOWS * machines
    y, machine = np.arange(n) % len(CLASSES), np.arange(n) // len(CLASSES) % machines
    resonance, damping, colour, tone, mesh, gain = (
        random.uniform(low, high, machines)[machine, None]
        for low, high in ((2400, 4200), (0.03, 0.08), (-0.6, 0.6), (0.1, 0.5), (15, 40), (-1, 1))
    )
    speed = random.uniform(24, 31, (n, 1))  # Hz
    noise = np.fft.rfft(random.normal(size=(n, SIZE))) * random.uniform(0.15, 0.45, (n, 1))
    noise *= 1 + colour * np.cos(np.linspace(0, np.pi, SIZE // 2 + 1))
    time = np.arange(SIZE) / RATE
    ring = np.exp(-2 * np.pi * resonance * damping * time) * np.sin(2 * np.pi * resonance * time)
    x = np.fft.irfft(np.fft.rfft(_strikes(random, y, speed)) * np.fft.rfft(ring) + noise, SIZE)[:, LEAD:][:, :LENGTH]
    for order in (1, 2, mesh):
        phase, strength = random.uniform(0, 2 * np.pi, (n, 1)), random.uniform(0, 1, (n, 1))
        x += tone * strength * np.sin(2 * np.pi * order * speed * time[:LENGTH] + phase)
    counts = np.rint(COUNTS * np.exp2(gain) * x)
    return np.clip(counts, -(1 << 15), (1 << 15) - 1).astype(np.int16)[:, None], y, machine


def _strikes(random: np.random.RandomState, y: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Strength of the strike that begins at each sample [n, SIZE]."""
    n = len(y)
    kind = np.where(y == 0, random.randint(1, 4, n), y)[:, None]  # the rhythm that a healthy one has on average
    rate = speed * np.array([0, OUTER, INNER, BALL])[kind]
    slip = 1 + random.uniform(0.01, 0.02, (n, 1)) * random.normal(size=(n, STRIKES))
    steps = np.where(y[:, None] == 0, random.exponential(1, (n, STRIKES)), slip)
    when = (random.uniform(-1, 0, (n, 1)) + np.cumsum(steps, 1)) / rate
    turns = np.where(kind == 3, CAGE, 1) * speed
    depth = np.where(kind == 1, 0, random.uniform(0.5, 1, (n, 1)))
    load = 1 + depth * np.cos(2 * np.pi * turns * when + random.uniform(0, 2 * np.pi, (n, 1)))
    strength = random.uniform(1, 3, (n, 1)) * load * (1 + 0.2 * random.normal(size=(n, STRIKES)))
    when = np.hstack([when, random.uniform(0, (LEAD + LENGTH) / RATE, (n, KNOCKS))])
    strength = np.hstack([strength, random.uniform(0, 3, (n, KNOCKS))])
    sample = np.rint(when * RATE).astype(np.int64)
    inside = (sample >= 0) & (sample < LEAD + LENGTH)
    found = np.zeros((n, SIZE))
    np.add.at(found, (np.nonzero(inside)[0], sample[inside]), strength[inside])
    return found
