"""How much faster two workers are than one, on this machine: wall times of the same searches in one run, printed.

Each pool has done a search before its clock starts, as in a proof of concept whose searches are many. Nothing is asserted.
"""

import os
import time
from collections.abc import Sequence
from statistics import median

from edgeticket.data import Data, load
from edgeticket.find import find
from edgeticket.network import network_plan
from edgeticket.plan import Plan
from edgeticket.pool import Pool, open_pool
from edgeticket.settings import Settings

ROUNDS, SEEDS, EPOCHS, MODEL = 3, range(8), 20, "conv:16,32,32"


def search(shared: tuple[Plan, Data], seed: int) -> str:
    """The ticket's digest."""
    plan, data = shared
    return find(plan, data, Settings(epochs=EPOCHS, seed=seed), control=False).ticket.digest


def timed(pool: Pool, shared: tuple[Plan, Data], seeds: Sequence[int]) -> tuple[float, dict[int, str]]:
    """Wall seconds, and digests."""
    start = time.perf_counter()
    digests = dict(pool.run(search, shared, seeds))
    return time.perf_counter() - start, digests


def main() -> None:
    data = load("digits")
    shared = network_plan(MODEL, data), data
    ratios = []
    with open_pool(1) as one, open_pool(2) as two:
        for pool in (one, two):
            timed(pool, shared, range(2))
        for _ in range(ROUNDS):
            load_before = os.getloadavg()[0]
            (alone, digests), (both, others) = (timed(pool, shared, SEEDS) for pool in (one, two))
            assert digests == others
            ratios.append(alone / both)
            print(
                f"{alone:.1f} s with one worker, {both:.1f} s with two: {ratios[-1]:.2f}x, load before {load_before:.1f}"
            )
    print(f"{len(SEEDS)} searches of {MODEL}, {EPOCHS} epochs: {median(ratios):.2f}x, the median of {ROUNDS} rounds")


if __name__ == "__main__":
    main()
