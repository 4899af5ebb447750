"""Prove that a ticket's compacted network equals the masked wide one."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.cli._options import data_options
from edgeticket.data import load
from edgeticket.describe import prove_compact, prove_text
from edgeticket.ticket import read_ticket


@click.command("compact")
@click.argument("ticket", type=click.Path(path_type=Path))
@data_options(required=False)
@click.option("--images", default=256, show_default=True, type=click.IntRange(1), help="Inputs to take from --data.")
@format_option
def command(ticket: Path, source: str | None, layout: str, images: int, output_format: str) -> None:
    """Prove that the compacted network of TICKET equals the masked wide one, else exit 4.

    Both run on random raw values over the sensor's range, the same ones every time, or on --data.
    """
    opened = read_ticket(ticket)
    raw = load(source, layout=layout, task=opened.task).certify[0][:images] if source else None
    report = prove_compact(opened, raw)
    click.echo(json.dumps(report) if output_format == "json" else prove_text(report))
