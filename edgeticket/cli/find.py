"""Search a random network for a structured-sparse subnetwork: writes a ticket."""

import json
from pathlib import Path
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._bar import bar
from edgeticket.errors import UsageError
from edgeticket.files import check_free


@click.command("find")
@click.option("-m", "--model", "network", default="conv", show_default=True, help="NAME[:WIDTHS], e.g. conv:32,64,64.")
@click.option("-d", "--data", "source", default="digits", show_default=True, help="See `edgeticket data list`.")
@click.option(
    "--layout", default="auto", show_default=True, help="How arrays are stored; see `edgeticket data check --help`."
)
@click.option("--images", type=int, help="Learn from the first so many training examples.")
@click.option("--density", default="0.5", show_default=True, help="Kept weights / fan-in, e.g. 0.1 or 0.1,conv1=0.5.")
@click.option(
    "--edges",
    default="1",
    show_default=True,
    help="Random edges a connection, e.g. 3 or 1,conv1=4; density counts them.",
)
@click.option("--keep", default=1.0, show_default=True, help="Fraction of channels that stay.")
@click.option("--align", default=8, show_default=True, help="Kept widths are multiples of this.")
@click.option("--seed", default=0, show_default=True, help="Of the random network, in [0, 2^64), and of the search.")
@click.option("--epochs", default=10, show_default=True, help="Passes over the training examples.")
@click.option("--batch", default=128, show_default=True, help="Examples a step.")
@click.option("--learn", default="stem,head", show_default=True, help="Layers with learned int8 weights, or none.")
@click.option("--pure", is_flag=True, help="The same as --learn none: masks, scales and biases only.")
@click.option(
    "--signs",
    type=click.Choice(["seed", "learned"]),
    default="seed",
    show_default=True,
    help="Keep the seed's signs, or learn flips.",
)
@click.option("--method", default="edge_popup", show_default=True, help="Search method, or the path to a .py file.")
@click.option("--score-step", default=0.5, show_default=True, help="Step size of the scores.")
@click.option("--weight-step", default=0.5, show_default=True, help="Step size of learned layers.")
@click.option("--float-step", default=0.1, show_default=True, help="Step size of --float-control.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--threads", default=1, show_default=True, help="Part of the result: the same threads give the same bytes."
)
@click.option("--no-control", is_flag=True, help="With --keep: skip the narrow network that the search must beat.")
@click.option("--float-control", is_flag=True, help="Also train an ordinary float network of the same final shape.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ticket.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option("--resume", is_flag=True, help="Go on from OUTPUT.checkpoint.")
@format_option
def command(
    network: str, source: str, layout: str, images: int | None, output: Path, output_format: str, **options: Any
) -> None:
    """Search the random network -m for a subnetwork that does the job -d, and write what was chosen as a ticket."""
    from edgeticket.data import load
    from edgeticket.find import Settings, find, network_plan

    check_free(output, options.pop("overwrite"))
    checkpoint = _checkpoint(output, options.pop("resume"))
    control, float_control = not options.pop("no_control"), options.pop("float_control")
    settings = Settings.parse(**options)
    data = load(source, layout=layout, images=images)
    plan = network_plan(network, data)
    with bar() as report:
        found = find(
            plan, data, settings, control=control, float_control=float_control, checkpoint=checkpoint, report=report
        )
    found.ticket.write(output)
    checkpoint.unlink(missing_ok=True)
    summary = found.to_json() | {"ticket": str(output), "bytes": output.stat().st_size}
    click.echo(json.dumps(summary) if output_format == "json" else found.text())
    click.echo(f"wrote {output}, {summary['bytes']:,} bytes", err=True)


def _checkpoint(output: Path, resume: bool) -> Path:
    path = output.with_name(output.name + ".checkpoint")
    if path.exists() and not resume:
        raise UsageError(f"{path} holds an interrupted search: add --resume to go on with it, or delete it")
    if resume and not path.exists():
        raise UsageError(f"--resume: there is no {path}: leave --resume out to start")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent} is not a folder: make it first")
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name a file for the ticket")
    return path
