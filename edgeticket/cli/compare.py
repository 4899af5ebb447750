"""Set two benchmarks side by side: what differs, and what chance alone would explain."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgeticket.cli import format_option


@click.command("compare")
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@format_option
def command(one: Path, other: Path, output_format: str) -> None:
    """Compare two records of `edgeticket benchmark` of the same protocol and data."""
    from edgeticket.poc.suite import compare, read_benchmark, table

    found = compare(read_benchmark(one), read_benchmark(other))
    click.echo(json.dumps([asdict(row) for row in found]) if output_format == "json" else table(found))
