"""Compare the width that the theorems ask for with what is measured, density by density."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._network import NETWORK, input_option
from edgeticket.errors import UsageError


@click.command("bound")
@click.option("-m", "--model", "network", help=NETWORK)
@input_option
@click.option("--outputs", type=int, help="Values that a named network gives.  [default: as published]")
@click.option("--widths", help="Instead of -m: widths of a fully connected target, e.g. 64,32,10.")
@click.option("-n", "n", type=int, help="With -k: measure exactly k of n numbers, and nothing else.")
@click.option("-k", "k", type=int, help="With -n: how many of them are added.")
@click.option("--eps", default=0.01, show_default=True, help="Largest error, above 0 and below 0.5.")
@click.option("--density", default="0.5,0.3,0.2,0.1,0.05,0.02", show_default=True, help="k / n, separated by commas.")
@click.option(
    "--z", default=0.0, show_default=True, help="Target of a measured sum, a multiple of sqrt(k) from -1 to 1."
)
@click.option("--draws", default=2000, show_default=True, help="Draws of n numbers that a share is measured on.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--picture",
    "drawn",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw parameters against density, .svg, .png or .pdf; needs -m or --widths.",
)
@click.option("--overwrite", is_flag=True, help="Replace the picture if it exists.")
@format_option
def command(
    network: str | None,
    inputs: list[Any],
    outputs: int | None,
    widths: str | None,
    n: int | None,
    k: int | None,
    eps: float,
    density: str,
    drawn: Path | None,
    overwrite: bool,
    output_format: str,
    **draws: Any,
) -> None:
    """Show what the strong lottery ticket theorems say about width and density, and measure their random subset sums.

    The constants of the upper bounds are not known: widths are at c = 1. What is measured is exact for each draw.
    """
    from edgeticket import bound_table, rfss
    from edgeticket.pareto import check_picture

    if drawn:
        check_picture(drawn, overwrite)
    if n is not None and k is not None and not (network or widths or drawn):
        found = rfss.measure(n, k, eps, **draws)
        click.echo(json.dumps(found.to_json()) if output_format == "json" else bound_table.line(found))
        return
    if n is not None or k is not None:
        raise UsageError("-n and -k go together, without a network, --widths or --picture")
    layers = _layers(network, inputs, outputs, widths)
    if drawn and not layers:
        raise UsageError("--picture: say of which target, -m NETWORK or --widths 64,32,10")
    table = bound_table.table(layers, _numbers("--density", density, float), eps, **draws)
    click.echo(json.dumps(table.to_json()) if output_format == "json" else bound_table.text(table))
    if drawn:
        bound_table.picture(table, drawn)


def _layers(network: str | None, inputs: list[Any], outputs: int | None, widths: str | None) -> list[Any]:
    from edgeticket import bounds
    from edgeticket.network import read_plan

    if widths and (network or inputs or outputs is not None):
        raise UsageError("--widths stands for a network of its own: leave -m, --input and --outputs out")
    if widths:
        return bounds.chain(_numbers("--widths", widths, int))
    if network is None and (inputs or outputs is not None):
        raise UsageError("--input and --outputs: say of which network, -m")
    return bounds.matrices(read_plan(network, inputs, outputs)) if network else []


def _numbers(option: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r}: write numbers separated by commas") from None
