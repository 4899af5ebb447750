"""Tell what of a network can be compacted, and what forbids the rest, before any search."""

import json
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._network import DENSITY, EDGES, LEARN, NETWORK, input_option, setting


@click.command("inspect")
@click.option("-m", "--model", "network", required=True, help=NETWORK)
@input_option
@click.option("--outputs", type=int, help="Values that a named network gives.  [default: as published]")
@click.option("--density", default="auto", show_default=True, help=DENSITY)
@click.option("--edges", default="auto", show_default=True, help=EDGES)
@setting("--learn", LEARN)
@setting("--signs", "As for find.", type=click.Choice(["seed", "learned"]))
@format_option
def command(network: str, inputs: list[Any], outputs: int | None, output_format: str, **options: Any) -> None:
    """Show the layers and channel groups of the network -m: which can shrink, which cannot, and the operation that blocks it."""
    from edgeticket.inspection import inspect, inspect_text
    from edgeticket.network import read_plan
    from edgeticket.settings import Settings

    told = inspect(read_plan(network, inputs, outputs), Settings.parse(**options))
    click.echo(json.dumps(told) if output_format == "json" else inspect_text(told))
