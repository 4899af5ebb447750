"""Prove that artifacts compute what their ticket computes, and certify its accuracy."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.cli._options import data_options


@click.command("verify")
@click.argument("ticket", type=click.Path(path_type=Path))
@click.argument("artifacts", nargs=-1, type=click.Path(path_type=Path))
@data_options()
@format_option
def command(ticket: Path, artifacts: tuple[Path, ...], source: str, layout: str, output_format: str) -> None:
    """Compare each of ARTIFACTS with TICKET on the certify part of the data -d; any difference exits with 4."""
    from edgeticket.data import load
    from edgeticket.ticket import read_ticket
    from edgeticket.verify import verify

    found = verify(ticket, artifacts, load(source, layout=layout, task=read_ticket(ticket).task))
    click.echo(json.dumps(found.to_json()) if output_format == "json" else found.text())
    found.require()
