"""What a device lives through while it gets a new model, and the power cut at any moment of it.

`python tests/slots_stories.py` runs the whole campaign and prints the table of docs/reliability.md.
"""

import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from random import Random

from slots_sim import TEARS, TRIALS, Broken, Device, Flash, Model, PowerCut, any_packet, build, flip, rot, update

BYTE_TEARS = ("nothing", "random", "whole")  # of a byte there is no part
RESETS = 12  # after which a story must have ended, and two more for each cut
PACKETS = {n: any_packet(61 + n, n) for n in range(1, 8)}  # of each sequence


@dataclass
class Story:
    """From an old model to a new one, as a device lives it: whatever it finds after a reset, it goes on from there.

    `old`: the sequence that the device runs, 0: built in; `known`: the highest that was confirmed, and must be refused from then on.
    A story with `bad` is sent that model first, and each time that it runs on trial it is rejected, or hangs, so that the watchdog
    resets the device.
    """

    device: Device
    old: int
    known: int
    new: int
    bad: int = 0
    rejects: bool = False
    tried: dict[int, int] = field(default_factory=dict)  # runs on trial
    confirming: bool = False
    confirmed: bool = False
    rejected: bool = False
    bad_sent: bool = False

    def boot(self) -> Model:
        model, packet = self.device.boot()
        number = model.sequence if model.slot >= 0 else 0
        if number not in (self.old, self.new, self.bad) or packet != PACKETS.get(number, b""):
            raise Broken(f"model {number} with {len(packet)} bytes runs: neither the old one nor the new one")
        if model.trial != (number != self.old) and not (number == self.new and self.confirming):
            raise Broken(f"model {number} runs{'' if model.trial else ' without a'} on trial")
        if self.confirmed and (number != self.new or model.trial):
            raise Broken("the confirmed model is lost")
        if number == self.bad and number and (self.rejected or self.confirming):
            raise Broken("a model that was given up runs again")
        self.tried[number] = self.tried.get(number, 0) + model.trial
        if self.tried[number] > TRIALS:
            raise Broken(f"trial {self.tried[number]} of model {number}")
        return model

    def step(self) -> bool:
        """What happens from one reset to the next. True: the story has ended."""
        model = self.boot()
        if model.trial and model.sequence == self.bad:
            self.bad_sent = True
            self._must_wait()
            if self.rejects:
                self.rejected = self.device.reject() == "OK"
                self._must_wait()
        elif model.trial:
            self.confirming = True
            self.confirmed = self.device.confirm() == "OK"
        elif model.slot >= 0 and model.sequence == self.new:
            return True
        else:
            self._send()
        return False

    def _must_wait(self) -> None:
        """The other slot has the way back."""
        if (code := self.device.send(update(self.new, PACKETS[self.new]))) != "STATE":
            raise Broken(f"an update during a trial: {code}")

    def _send(self) -> None:
        if self.known and (code := self.device.send(update(self.known, PACKETS[self.known]))) != "OLD":
            raise Broken(f"model {self.known}, an old one, is sent again: {code}")
        number = self.new if self.bad_sent or not self.bad else self.bad
        self.tried[number] = 0
        code = self.device.send(update(number, PACKETS[number]))
        if code != "OK":
            raise Broken(f"update {number}: {code}")
        self.bad_sent = True

    def run(self, cuts: list[tuple[int, str, int]]) -> list[int]:
        """With power cuts, each (operation since the one before, tear, seed). Bytes of the operations after the last one."""
        waiting = list(cuts)
        self.device.flash.arm(*(waiting.pop(0) if waiting else (None,)))
        for _ in range(RESETS + 2 * len(cuts)):
            try:
                if self.step():
                    return self.device.flash.sizes
            except PowerCut:
                self.device.flash.arm(*(waiting.pop(0) if waiting else (None,)))
        raise Broken("no end: the new model never gets through")


def _factory(device: Device) -> tuple[int, int]:
    return 0, 0


def _one(device: Device) -> tuple[int, int]:
    device.install(1, PACKETS[1])
    return 1, 1


def _two(device: Device) -> tuple[int, int]:
    device.install(1, PACKETS[1])
    device.install(2, PACKETS[2])
    return 2, 2


def _failed(device: Device) -> tuple[int, int]:
    """Two confirmed, then one that was rejected in the place of the first."""
    _two(device)
    device.boot()
    answers = device.send(update(3, PACKETS[3])), device.boot()[0].trial, device.reject()
    if answers != ("OK", 1, "OK"):
        raise Broken(f"a bad update: {answers}")
    return 2, 2


def _damaged(device: Device) -> tuple[int, int]:
    """The newest of two has rotted: the one before runs, and what was confirmed stays known."""
    _two(device)
    rot(device)
    return 1, 2


def _unnoted(device: Device) -> tuple[int, int]:
    """It has rotted that the older of two was confirmed."""
    _two(device)
    model, _ = device.boot()
    flip(device.flash.addresses[1 - model.slot] + 2 * device.flash.place)
    return 2, 2


# What a device has before: each gives (the sequence that runs, the highest that was confirmed).
STATES = {"factory": _factory, "one": _one, "two": _two, "failed": _failed, "damaged": _damaged, "unnoted": _unnoted}
KINDS: dict[str, dict[str, int | bool]] = {"good": {}, "hangs": {"bad": 5}, "rejected": {"bad": 5, "rejects": True}}
CHECKED = [(256, 3, 1), (512, 2, 4), (2048, 1, 8), (512, 3, 32)]
DEEP = [
    (128, 8, 2),
    (512, 4, 16),
    (4096, 2, 8),
    (16384, 1, 4),
    (131072, 1, 32),
    (2048, 3, 1),
    (256, 6, 32),
    (1024, 2, 16),
]


@dataclass
class Tally:
    operations: int = 0
    cuts: int = 0
    doubles: int = 0
    failures: list[str] = field(default_factory=list)


class Campaign:
    """Every operation of every story cut in every way, then `doubles` pairs of cuts of each at random."""

    def __init__(self, library: Path, geometry: tuple[int, int, int], doubles: int = 0) -> None:
        self.library, self.geometry, self.doubles, self.tally, self.random = (
            library,
            geometry,
            doubles,
            Tally(),
            Random(7),
        )

    def run(self, states: Iterable[str] = STATES, kinds: Iterable[str] = KINDS) -> Tally:
        for state, kind in product(states, kinds):
            device = Device(self.library, Flash(*self.geometry))
            try:
                old, known = STATES[state](device)
                self._cut(Story(device, old, known, 6, **KINDS[kind]), device.flash.contents())
            except Broken as error:
                self.tally.failures.append(f"{self.geometry} {state}, {kind}: {error}")
        return self.tally

    def _cut(self, story: Story, before: list[bytes]) -> None:
        sizes = self._lived(story, before)
        self.tally.operations += len(sizes)
        for i, size in enumerate(sizes, 1):
            for tear, again in product(TEARS if size > 1 else BYTE_TEARS, range(8 if size == self.geometry[0] else 1)):
                self._lived(story, before, (i, tear, 8 * i + again))
                self.tally.cuts += 1
        for _ in range(self.doubles):
            self._lived(story, before, self._any(len(sizes)), self._any(len(sizes)))
            self.tally.doubles += 1

    def _any(self, operations: int) -> tuple[int, str, int]:
        return 1 + self.random.randrange(operations), self.random.choice(TEARS), self.random.randrange(1 << 30)

    def _lived(self, story: Story, before: list[bytes], *cuts: tuple[int, str, int]) -> list[int]:
        story.device.flash.restore(before)
        try:
            return replace(story, tried={}).run(list(cuts))
        except Broken as error:
            raise Broken(f"cut at {', '.join(map(str, cuts)) or 'nothing'}: {error}") from error


def main(folder: Path) -> None:
    library = build(folder)
    print("| sector x sectors, unit | operations | cuts | double faults | failures |\n|---|--:|--:|--:|--:|")
    for geometry in [*CHECKED, *DEEP]:
        tally = Campaign(library, geometry, 200).run()
        sector, sectors, unit = geometry
        numbers = tally.operations, tally.cuts, tally.doubles, len(tally.failures)
        print(f"| {sector:,} x {sectors}, {unit} | {' | '.join(f'{n:,}' for n in numbers)} |", flush=True)
        print("\n".join(tally.failures[:5]), end="", file=sys.stderr)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
