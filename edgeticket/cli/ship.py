"""Prove a ticket and what was made of it, and put all of it into one signed file."""

import json
from pathlib import Path
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._options import data_options

FILE = click.Path(path_type=Path)


@click.command("ship")
@click.argument("ticket", type=FILE)
@click.argument("artifacts", nargs=-1, required=True, type=FILE)
@click.option(
    "--class", "target_class", required=True, help="Word for the devices that this is for, as line-camera-v2."
)
@click.option(
    "--sequence", required=True, type=int, help="Number of this release, higher each time: devices take no lower one."
)
@click.option("--expires", help="Last day on which it may be installed, as 2027-12-31; not a past one.")
@click.option("--key", type=FILE, help="Private key of `edgeticket key new`. Without it nothing is signed.")
@click.option(
    "--report", type=FILE, help="runs/NAME/poc.json: its indicators go along as claims. Without -d, its data too."
)
@click.option("--against", type=FILE, help="Packet that devices have: add what differs from it.")
@data_options(required=False)
@click.option("-o", "--output", required=True, type=FILE, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@format_option
def command(
    ticket: Path,
    artifacts: tuple[Path, ...],
    source: str | None,
    layout: str,
    key: Path | None,
    report: Path | None,
    output_format: str,
    **options: Any,
) -> None:
    """Verify each of ARTIFACTS, ONNX files and a folder of C, against TICKET, and write one bundle.

    A broken chain of proof ships nothing. The first ONNX file is the one that `edgeticket.runtime` runs. Eight examples of the
    certify part travel along as golden vectors.
    """
    from edgeticket.bundle import ship
    from edgeticket.files import check_free
    from edgeticket.manifest import Label
    from edgeticket.signing import key_file, public_of

    label = Label(*(options.pop(name) for name in ("target_class", "sequence", "expires")))
    output = options.pop("output")
    check_free(output, options["overwrite"])
    private = None if key is None else key_file(key, public_of)
    record = _record(report)
    done = ship(
        ticket,
        artifacts,
        _data(ticket, source, layout, record),
        output,
        label,
        private=private,
        record=record,
        **options,
    )
    click.echo(json.dumps(done.to_json()) if output_format == "json" else done.text())


def _record(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    from edgeticket.poc.record import read

    return read(path)


def _data(ticket: Path, source: str | None, layout: str, record: dict[str, Any] | None) -> Any:
    from edgeticket.data import load
    from edgeticket.ticket import read_ticket

    asked = record["request"] if record else {}
    source = source or asked.get("data")
    if source is None:
        raise click.UsageError("Missing option '-d' / '--data', or a --report that names its data.")
    layout = asked.get("layout", layout) if layout == "auto" else layout
    return load(source, layout=layout, images=asked.get("images"), task=read_ticket(ticket).task)
