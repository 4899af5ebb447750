"""A record as text: the three indicators, what was compared, and the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from edgeticket.report import verdict
from edgeticket.text import columns

Row = Mapping[str, Any]
NONE = "-"


def text(record: Row) -> str:
    bar, told, asked = record["bar"], record["indicators"], record["request"]
    sense = "<=" if bar["lower_is_better"] else ">="
    lines = [
        f"{asked['model']} on {record['data']['name']}; a seed succeeds with {bar['headline']} {sense} {bar['value']:.4f}"
        + (f" and {asked['budget']}" if asked["budget"] else "")
        + f" ({asked['success']}; float: {bar['float']:.4f} on the select part)",
        "",
        *columns(list(_compared(record)), "<"),
        "",
        *_indicators(told),
        "",
        *_verdict(record),
    ]
    return "\n".join(lines)


def _compared(record: Row) -> Iterator[list[str]]:
    """Medians over the seeds of each kind of network, all judged on the certify part."""
    headline = record["bar"]["headline"]
    yield ["", "runs", headline, "least", "most", "bytes", "MACs", "p50 ms", "CPU s"]
    yield _row("ticket", [row for row in record["rows"] if "failed" not in row])
    names = dict.fromkeys(row["name"] for row in record["rivals"])
    for name in names:
        own = [row for row in record["rivals"] if row["name"] == name]
        made = [row for row in own if "failed" not in row]
        yield _row(name, made) if made else [name, "0", f"not made: {own[0]['failed']}", *[""] * 6]


def _row(name: str, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return [name, "0", *[NONE] * 7]
    reached = [row["certify"] for row in rows]
    middle = {key: median(row[key] for row in rows) for key in ("bytes", "macs", "cpu_seconds")}
    return [
        name,
        str(len(rows)),
        *(f"{value:.4f}" for value in (median(reached), min(reached), max(reached))),
        f"{middle['bytes']:,.0f}",
        f"{middle['macs']:,.0f}",
        f"{median(row['latency_ms']['p50'] for row in rows):.4f}",
        f"{middle['cpu_seconds']:.1f}",
    ]


def _indicators(told: Row) -> Iterator[str]:
    success, cost, density = told["success"], told["cost"], told["sparsity"]["density"]
    if density:
        size = told["sparsity"]["bytes"]
        yield (
            f"sparsity   {density['median']:.2%} of the edges kept [{density['p10']:.2%}, {density['p90']:.2%} of eight in ten seeds], "
            f"{size['median']:,.0f} bytes [{size['p10']:,.0f}, {size['p90']:,.0f}]"
        )
    for step in told["sparsity"]["ladder"][1:]:
        yield (
            f"sparser    at {step['density']:.2%} kept, {step['bytes']:,.0f} bytes: {step['successes']} of {step['trials']} seeds "
            f"succeed, {step['certify']:.4f} in the median"
        )
    yield (
        f"success    {success['successes']} of {success['trials']} seeds: at least {success['lower']:.3f} with "
        f"{success['confidence']:.0%} confidence (Clopper-Pearson, one-sided), on these data"
    )
    each, once = cost["cpu_seconds"], cost["per_success"]["at_most"]
    yield (
        f"cost       {each['median']:.1f} s of CPU a search [{each['p10']:.1f}, {each['p90']:.1f}]"
        + (f", at most {once:.1f} s until one succeeds, on average" if once else "")
        + f"; {cost['total_cpu_seconds']:.0f} s in all, with what it is compared with; energy "
        + (f"{cost['joules']['searches_and_floats']:.0f} J" if cost["joules"] else "not measured: no counter here")
    )


def _verdict(record: Row) -> Iterator[str]:
    told = verdict(record)
    yield f"verdict    {record['verdict']['word']}. {told['meaning']}"
    for line in (told["reason"], *told["reasons"]):
        yield f"why        {line}"
    for line in (told["change"], *told["changes"]):
        yield f"change     {line}"
