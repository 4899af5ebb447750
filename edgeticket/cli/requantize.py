"""Calibrate a ticket's activation ranges again, on other data."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.cli._options import data_options
from edgeticket.files import check_free


@click.command("requantize")
@click.argument("ticket", type=click.Path(path_type=Path))
@data_options()
@click.option("--images", type=int, help="Of the first so many training examples.  [default: of all over them]")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The new ticket.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@format_option
def command(
    ticket: Path, source: str, layout: str, images: int | None, output: Path, overwrite: bool, output_format: str
) -> None:
    """Give TICKET the activation ranges of the data -d: the int8 form follows them, the float form stays as it is."""
    from edgeticket.calibration import requantize
    from edgeticket.data import load
    from edgeticket.ticket import read_ticket

    check_free(output, overwrite)
    old = read_ticket(ticket)
    new = requantize(old, load(source, layout=layout, images=images, task=old.task))
    new.write(output)
    quant = new.quant
    rows = {name: {"scale": q.scale, "zero_point": q.zero_point} for name, q in quant.items()}
    if output_format == "json":
        click.echo(json.dumps(rows))
    else:
        click.echo("\n".join(f"{name:20} scale {q.scale:.6g}  zero point {q.zero_point}" for name, q in quant.items()))
    click.echo(f"wrote {output}, {output.stat().st_size:,} bytes", err=True)
