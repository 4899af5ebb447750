"""A small fleet, a short plan, and reports of it, the same every time."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeticket.rollout import controller
from edgeticket.rollout.plan import Gate, Plan, stages
from edgeticket.rollout.store import Store

DEVICES = [f"press/{index}" for index in range(20)]
SHORT = Plan(stages("shadow:50,20,50,100"), {"disagreement": Gate(0.1, 0.5)}, alpha=0.1, beta=0.3, quorum=0.5)


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def line(device: str = DEVICES[0], sequence: int = 1, model: int = 1, **values: Any) -> bytes:
    whole = {"device": device, "model": digest(model), "sequence": sequence, "inferences": 100, "disagreements": 0}
    return json.dumps(whole | values).encode()


def lines(rounds: int, disagreements: int = 0, first: int = 1, model: int = 1, **values: Any) -> Iterator[bytes]:
    """A report of each device a round."""
    for sequence in range(first, first + rounds):
        for device in DEVICES:
            yield line(device, sequence, model, disagreements=disagreements, **values)


def noisy(model: int, rate: float, rounds: int) -> list[bytes]:
    """Disagreements at random, the same for the same model."""
    counts = np.random.default_rng(model).binomial(100, rate, (rounds, len(DEVICES)))
    return [
        line(device, model * 1000 + i, model, disagreements=int(counts[i, j]))
        for i in range(rounds)
        for j, device in enumerate(DEVICES)
    ]


def started(where: str, plan: Plan = SHORT, model: int = 1, name: str = "r1") -> Store:
    """A store with the fleet, where a roll-out of `model` has started."""
    store = Store(where, create=True)
    controller.register(store, DEVICES)
    controller.start(store, name, plan, digest(model), digest(0))
    return store
