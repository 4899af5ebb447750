"""Make one page of a proof of concept that decision makers can read, in English or Japanese."""

import hashlib
import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.files import check_free, write_atomic


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The page, .html.")
@click.option("--lang", "language", type=click.Choice(["en", "ja"]), default="en", show_default=True, help="Language.")
@click.option("--overwrite", is_flag=True, help="Replace the page if it exists.")
@format_option
def command(run: Path, output: Path, language: str, overwrite: bool, output_format: str) -> None:
    """Write the page of RUN, a folder that `edgeticket poc` made or its poc.json: one file that loads nothing from elsewhere.

    Nothing is computed anew: `edgeticket verify --claims` does that.
    """
    from edgeticket.poc import record
    from edgeticket.report import render

    check_free(output, overwrite)
    found = record.read(run)
    page = render(found, language)
    write_atomic(output, page)
    told = {
        "file": str(output),
        "bytes": len(page),
        "sha256": hashlib.sha256(page).hexdigest(),
        "verdict": found["verdict"]["word"],
        "seal": found["seal"],
    }
    text = f"{told['file']}: {told['verdict']}; {told['bytes']:,} bytes, sha256 {told['sha256']}"
    click.echo(json.dumps(told) if output_format == "json" else text)
