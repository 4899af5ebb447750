"""Prove that a ticket's compacted network equals the masked wide one."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.data import load
from edgeticket.describe import prove_compact, prove_text
from edgeticket.ticket import read_ticket


@click.command("compact")
@click.argument("ticket", type=click.Path(path_type=Path))
@click.option("-d", "--data", help="Prove it on these data instead: a name, an .npz, a folder or FILE.py:FUNCTION.")
@click.option("--images", default=256, show_default=True, type=click.IntRange(1), help="Inputs to take from --data.")
@format_option
def command(ticket: Path, data: str | None, images: int, output_format: str) -> None:
    """Prove that the compacted network of TICKET equals the masked wide one, else exit 4.

    Both run on random raw values over the sensor's range, the same ones every time, or on --data.
    """
    opened = read_ticket(ticket)
    report = prove_compact(opened, load(data).certify[0][:images] if data else None)
    click.echo(json.dumps(report) if output_format == "json" else prove_text(report))
