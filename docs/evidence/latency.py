"""How near predictions of the latency table are to networks it was not made from, in docs/latency.md.

Three rounds of 20 random networks; each makes its table anew, predicts, and only then measures. Nothing here is asserted.
"""

import logging
import sys
import time
from pathlib import Path

import numpy as np

from edgeticket.latency import KINDS, HeldOut, Table, chain, held_out
from edgeticket.ops import GlobalAveragePool, Linear, conv
from edgeticket.targets import on_cpu

PAGE = Path(__file__).parent.parent / "latency.md"
ROUNDS, NETWORKS, FIRST_SEED = 3, 20, 90_000
HEADER = "| network | seed | operations | MACs | predicted us | measured us | error | at equal speed |"

TEXT = """# Latency table

Made by `python docs/evidence/latency.py` on {machine}, one thread; load average {load} on {cores} cores (other programs ran
beside it).

An entry is one operation of the graph that ONNX Runtime makes of the exported file, timed as a model of its own; a network takes
what a call costs plus its operations. Nothing is fitted to whole networks but two constants, on two reference networks that are
part of every table: what a call costs, and what an operation costs more among others than among its like.

{networks} random networks in {rounds} rounds, predicted before they were measured, each round with a table made anew ({seconds:.0f} s
and {entries} entries in all). Error: predicted / measured - 1. *At equal speed*: the same when one more network,
measured with the table and again among the networks, has told how fast the CPU had become; what is left is the table's own error.

| | median error | largest error | largest at equal speed | CPU against the table's |
|---|---|---|---|---|
{summary}

| kind | networks | median error | largest error | largest at equal speed |
|---|---|---|---|---|
{kinds}

The table does not know from which cache a network's weights will come: convolutions with some 100 KB of weights over few
positions (128 channels at 4x4) are predicted worst. A network's own last nodes (units of a regression's targets) are left out.

What a 3x3 convolution from w to w channels takes between two others at 16x16, w in multiples of 8:

| w | {widths} |
|---|{line}
| us | {steps} |
| GMAC/s | {rates} |

{header}
|---|---|---|---|---|---|---|---|
{rows}
"""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    machine, begin, rounds, entries = on_cpu.describe_machine(), time.perf_counter(), [], 0
    for i in range(ROUNDS):
        table, first = Table(None), FIRST_SEED + i * NETWORKS
        rounds.append(held_out(table, range(first, first + NETWORKS)))
        entries += len(table.entries)
    found = [row for each in rounds for row in each]
    summary = [f"| round {i + 1} | {errors(each)} | {each[0].speed:.3f}x |" for i, each in enumerate(rounds)]
    text = TEXT.format(
        machine=table.section.rpartition(",")[0],
        load=machine["load_average"][0],
        cores=machine["cores"],
        networks=len(found),
        rounds=ROUNDS,
        seconds=time.perf_counter() - begin,
        entries=entries,
        summary="\n".join([*summary, f"| all | {errors(found)} | |"]),
        kinds="\n".join(of_kind(kind, [row for row in found if row.kind == kind]) for kind in KINDS),
        **steps(table),
        header=HEADER,
        rows="\n".join(map(line, found)),
    )
    PAGE.write_text(text)
    sys.stdout.write(text)


def steps(table: Table) -> dict[str, str]:
    """Cells of the table by width."""
    plans = {w: chain((3, 16, 16), [*[conv(w)] * 3, GlobalAveragePool(), Linear(10)]) for w in range(8, 72, 8)}
    table.fill([*plans.values()])
    us = {w: 1000 * table.layer_ms(plan, "layer1") for w, plan in plans.items()}
    return {
        "widths": " | ".join(map(str, us)),
        "line": "---|" * len(us),
        "steps": " | ".join(f"{each:.1f}" for each in us.values()),
        "rates": " | ".join(f"{plans[w].macs()['layer1'] / each / 1000:.0f}" for w, each in us.items()),
    }


def errors(rows: list[HeldOut]) -> str:
    raw, own = (np.abs([getattr(row, name) for row in rows]) for name in ("error", "error_at_speed"))
    return f"{np.median(raw):.1%} | {raw.max():.1%} | {own.max():.1%}"


def of_kind(kind: str, rows: list[HeldOut]) -> str:
    return f"| {kind} | {len(rows)} | {errors(rows)} |"


def line(row: HeldOut) -> str:
    macs, times = sum(row.plan.macs().values()), f"{1000 * row.predicted_ms:.1f} | {1000 * row.measured_ms:.1f}"
    return (
        f"| {row.kind} | {row.seed} | {len(row.plan.layers)} | {macs:,} | {times} | {row.error:+.1%} | "
        f"{row.error_at_speed:+.1%} |"
    )


if __name__ == "__main__":
    main()
