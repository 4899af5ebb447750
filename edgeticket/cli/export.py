"""Write a ticket as an ONNX file or another format, proven equal to the ticket."""

import json
from pathlib import Path
from typing import Any

import click

from edgeticket.budget import Artifact
from edgeticket.cli import format_option
from edgeticket.cli._network import input_option
from edgeticket.cli._options import data_options
from edgeticket.errors import BundleError, UsageError
from edgeticket.export import export, guard_of
from edgeticket.guard import Guard
from edgeticket.model import Model
from edgeticket.network import is_module, read_module
from edgeticket.ops import Shape
from edgeticket.ticket import Ticket, read_ticket

INTEGERS = {"c": "int8"}  # formats that have no floats


@click.command("export")
@click.argument("network", metavar="TICKET")
@click.option("--to", "format", default="onnx", show_default=True, help="Format: a name, or the path to a .py file.")
@click.option("--precision", help="float or int8.  [default: the exporter's]")
@click.option("--weights", help="How ONNX stores them: fp32, cast8, trit5 or seed; the outputs are the same bits.")
@click.option(
    "--form", help="C: seed, signs, lists, boot or dense; where masked weights come from (docs/c.md).  [default: auto]"
)
@click.option("--core", help="C: the core that --form auto is chosen for, as cortex-m55.  [default: cortex-m4]")
@click.option(
    "--bands", type=int, help="C: at most so many bands of rows between convolutions; more take less RAM.  [default: 2]"
)
@click.option(
    "--guard",
    metavar="DATA",
    help="C: also a guard for frames like these data's, or the guard of a bundle, guard.json (docs/guard.md).",
)
@click.option("--align", type=int, help="Round channel counts up to a multiple; 1: leave them.  [default: ONNX 8, C 1]")
@input_option
@data_options(required=False)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File or folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@format_option
def command(
    network: str, format: str, output: Path, align: int | None, overwrite: bool, output_format: str, **options: Any
) -> None:
    """Write TICKET for a device.

    TICKET may also be a PyTorch module, MY_NET.py:NAME, with its own weights, to compare with: that needs --input, and for int8
    data -d as the module reads them, to learn its ranges from.
    """
    about = {name: options.pop(name) for name in ("inputs", "source", "layout")}
    given = {name: value for name, value in options.items() if value is not None}
    if is_module(network) and given.get("weights", "fp32") != "fp32":
        raise UsageError(f"{network}: its weights are trained floats, which have no shorter form: leave --weights out")
    if is_module(network) and "int8" in (given.get("precision"), INTEGERS.get(format)) and not about["source"]:
        raise UsageError(f"{network}: int8 needs the ranges of its activations: give data as it reads them, -d")
    opened = _opened(network, **about)
    if "guard" in given:
        given["guard"] = _guard(given["guard"], opened, about["layout"])
    done = export(opened, format, output, overwrite=overwrite, align=align, **given)
    show(done, output_format)


def _opened(network: str, inputs: list[Shape], source: str | None, layout: str) -> Ticket | Model:
    if is_module(network):
        if not source:
            return read_module(network, inputs)
        from edgeticket.calibration import calibrated
        from edgeticket.data import load

        return calibrated(read_module(network, inputs), load(source, layout=layout))
    if inputs or source:
        raise UsageError(f"{network}: --input and --data are for a PyTorch module, MY_NET.py:NAME: leave them out")
    return read_ticket(network)


def _guard(source: str, network: Ticket | Model, layout: str) -> Guard:
    """For frames like those of `source`, by the network's answers; or the guard in a guard.json."""
    if source.endswith(".json"):
        try:
            return Guard.from_json(json.loads(Path(source).read_bytes()))
        except (OSError, ValueError, RecursionError, BundleError) as error:
            raise UsageError(f"{source}: no guard: give data, or the guard.json of a bundle ({error})") from error
    from edgeticket.calibration import check_data
    from edgeticket.compact import compact
    from edgeticket.data import load

    model = compact(network) if isinstance(network, Ticket) else network
    data = load(source, layout=layout, task=model.task)
    check_data(model, data)
    return guard_of(model, data)


def show(done: Artifact, output_format: str) -> None:
    """Path, size raw and through gzip, digest."""
    if output_format == "json":
        fields = {
            "path": str(done.path),
            "format": done.format,
            "bytes": done.file_bytes,
            "gzip_bytes": done.gzip_bytes,
        }
        click.echo(json.dumps(fields | {"sha256": done.sha256}))
    else:
        click.echo(f"{done.path}: {done.file_bytes:,} bytes, {done.gzip_bytes:,} through gzip, sha256 {done.sha256}")
