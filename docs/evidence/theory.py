"""The figures of docs/theory.md: `python docs/evidence/theory.py`. Nothing here is asserted."""

import sys
import time
from collections.abc import Iterator
from math import comb, exp, pi, sqrt
from pathlib import Path

import numpy as np
from target import accuracy, train

from edgeticket import bound_table, bounds, certificate, rfss
from edgeticket.construct import Settings, construct
from edgeticket.data import Data, load
from edgeticket.relu_network import parse
from edgeticket.theory import interval

PAGE = Path(__file__).parent.parent / "theory.md"
START, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
SEEDS, EPS = range(100, 120), 0.01  # 32 and 4 were chosen on seeds 0 to 19
SUMS = [(24, 3), (12, 6), (16, 8), (16, 4), (20, 10), (20, 4), (24, 12), (24, 6)]
ALL = [(16, 4), (20, 4), (24, 4), (32, 4), (40, 4), (24, 6), (28, 6)]
WIDTHS = [(12, 3), (16, 4), (24, 4), (24, 6), (32, 4)]
DRAWS, ALL_DRAWS = 10_000, 500


def main() -> None:
    tables = [densities(), sums(), all_targets(), constructions(load("digits"))]
    head, _, rest = PAGE.read_text().partition(START)
    text = head + START + "\n\n".join(tables) + "\n" + END + rest.partition(END)[2]
    PAGE.write_text(text)
    sys.stdout.write(text)


def table(head: str, rows: Iterator[str] | list[str]) -> str:
    return "\n".join([f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows])


def densities() -> str:
    """Theorem 2 and what is measured, by density and error; the picture on the way."""
    rows = []
    for eps in (0.01, 0.001):
        found = bound_table.table(bounds.chain([64, 32, 10]), bound_table.DENSITIES, eps, draws=DRAWS)
        if eps == EPS:
            bound_table.picture(found, PAGE.with_suffix(".svg"))
        rows += [density(eps, row) for row in found.rows]
    head = "eps | density | Thm 2, c = 1: n | Cor. 1, c = 1: n | hit at Thm 2's n | first n, k | hit there | c"
    return table(head, rows)


def density(eps: float, row: bound_table.Row) -> str:
    at, first = row.at, row.first
    assert at
    last = f"{first.n}, {first.k} | {share(first)} | {bound_table.constant(first):.2f}" if first else "beyond reach | |"
    return f"| {eps:g} | {row.density:g} | {row.one_target:.1f} | {row.all_targets:.0f} | {at.k} of {at.n}: {share(at)} | {last} |"


def share(found: rfss.Measured) -> str:
    return f"{found.hits / found.draws:.4f} ({found.low:.4f}-{found.high:.4f})"


def sums() -> str:
    """Measured shares beside the estimate that takes the subsets for independent."""
    rows = []
    for n, k in SUMS:
        for z in (0.0, 0.9):
            start = time.process_time()
            found = rfss.measure(n, k, EPS, z, DRAWS)
            expected = comb(n, k) * 2 * EPS * exp(-1.5 * z * z) / sqrt(2 * pi * k / 3)
            seconds = time.process_time() - start
            rows.append(
                f"| {k} of {n} | {z:g} | {expected:.3g} | {1 - exp(-expected):.4f} | {share(found)} | {seconds:.1f} |"
            )
    return table("k of n | target / sqrt(k) | hits expected, E | 1 - exp(-E) | measured | CPU s", rows)


def all_targets() -> str:
    """Corollary 1's event: every target up to sqrt(k) in size is hit, all by subsets of the same n numbers."""
    rows = []
    for n, k in ALL:
        values = rfss.uniform(0, 0, 1, np.arange(ALL_DRAWS)[:, None], np.arange(n))
        subsets = rfss._half(n, k, k)
        hits = sum(all_hit(subsets.sums(one[None])[0] / rfss.ONE, sqrt(k)) for one in values)
        low, high = interval(hits, ALL_DRAWS)
        known = bounds.all_targets(k / n, EPS)
        rows.append(
            f"| {k} of {n} | {known:.0f} | {hits} of {ALL_DRAWS}: {hits / ALL_DRAWS:.3f} ({low:.3f}-{high:.3f}) |"
        )
    return table("k of n | Cor. 1, c = 1: n at this density | all targets hit", rows)


def all_hit(sums: np.ndarray, most: float) -> bool:
    """Whether every target in -most..most is nearer than EPS to a sum."""
    near = np.sort(sums[np.abs(sums) < most + EPS])
    return bool(len(near)) and np.diff([-most - EPS, *near, most + EPS]).max() < 2 * EPS


def constructions(data: Data) -> str:
    arrays = train(data, [32])
    target, rows = parse(arrays), []
    right = 100 * accuracy(arrays, *data.certify)
    print(f"target: {target.parameters} parameters, {right:.2f} % of the certify part", file=sys.stderr)
    for n, k in WIDTHS:
        start, found = time.process_time(), []
        for seed in SEEDS:
            found.append(certificate.certified(construct(target, Settings(EPS, n, k, seed)), data))
        rows.append(constructed(found, (time.process_time() - start) / len(SEEDS)))
    head = "k of n | sums off | networks with none off | bound | seen | same class | start / target | kept / target | density | CPU s"
    return table(head, rows)


def constructed(found: list[dict], seconds: float) -> str:
    first, failures, of = found[0], sum(one["failures"] for one in found), sum(one["sums"] for one in found)
    clean = sum(not one["failures"] for one in found)
    low, high = interval(failures, of)
    kept = np.mean([one["kept"] for one in found])
    return " ".join(
        [
            f"| {first['k']} of {first['n']}",
            f"| {failures} of {of:,} ({100 * low:.3f}-{100 * high:.3f} %)",
            "| {} of {} ({:.2f}-{:.2f})".format(clean, len(found), *interval(clean, len(found))),
            f"| {max(one['bound'] for one in found):.4f}",
            f"| {max(one['observed']['largest_errors'][-1] for one in found):.5f}",
            f"| {min(one['observed']['same_class'] for one in found):,}",
            f"| {first['start'] / first['target_parameters']:.0f}x | {kept / first['target_parameters']:.1f}x",
            f"| {kept / first['start']:.3f} | {seconds:.1f} |",
        ]
    )


if __name__ == "__main__":
    main()
