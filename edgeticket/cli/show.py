"""Print what a ticket holds, before and after: channels, weights, MACs, bytes, memory."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.describe import describe, describe_text
from edgeticket.ticket import read_ticket


@click.command("show")
@click.argument("ticket", type=click.Path(path_type=Path))
@format_option
def command(ticket: Path, output_format: str) -> None:
    """Print what TICKET holds, layer by layer and in total.

    A pair a>b is the wide network and what is left of it. Density is the kept share of a layer's remaining weights. Bytes are
    everything a device needs beyond code, counted alike for the ticket and for an int8 or fp32 network of the same shape.
    """
    told = describe(read_ticket(ticket))
    click.echo(json.dumps(told) if output_format == "json" else describe_text(told))
