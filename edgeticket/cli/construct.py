"""Carry out the existence proof: a small trained ReLU network as a subnetwork of a random one, with a certificate."""

import json
from pathlib import Path
from types import SimpleNamespace

import click

from edgeticket.cli import format_option
from edgeticket.cli._bar import stages
from edgeticket.cli._options import TASK, data_options
from edgeticket.errors import UsageError
from edgeticket.files import check_free, write_atomic


@click.command("construct")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--eps", default=0.01, show_default=True, help="Largest error of a weight, of a network with layers of norm 1."
)
@click.option("-n", "n", default=32, show_default=True, help="Random neurons for each input and sign.")
@click.option("-k", "k", default=4, show_default=True, help="How many of them stand for each weight, exactly.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random network.")
@data_options(required=False)
@click.option("--task", default="auto", show_default=True, help=TASK)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write, .npz.")
@click.option("--overwrite", is_flag=True, help="Replace it if it exists.")
@click.option("--check", is_flag=True, help="PATH is such a file: derive all that it claims again from its seed.")
@format_option
def command(
    path: Path,
    eps: float,
    n: int,
    k: int,
    seed: int,
    source: str | None,
    layout: str,
    task: str,
    output: Path | None,
    overwrite: bool,
    check: bool,
    output_format: str,
) -> None:
    """Find the network of PATH (.npz with w1, b1, w2, b2, ...) in a random network, by exact fixed-size subset sums.

    A tool to teach and to validate, and no way to a small network: what it finds is far larger than PATH. The file it writes
    is no ticket, because a ticket's weights are signs. -d: also measure the errors on all examples of DATA.
    """
    from edgeticket import certificate, construction_file, relu_network
    from edgeticket.construct import Settings, construct
    from edgeticket.data import load

    if check and output:
        raise UsageError("--check writes nothing: leave -o out")
    if output:
        check_free(output, overwrite)
    elif not check:
        raise UsageError("name the file to write: -o FILE")
    data = load(source, layout=layout, task=task) if source else None
    if output is None:
        told = construction_file.check(path, data)
    else:
        target = relu_network.read(path)
        with stages() as report:
            made = construct(target, Settings(eps, n, k, seed), lambda done, of: report(_stage(done, of)))
        told = certificate.certified(made, data)
        write_atomic(output, construction_file.to_bytes(made, told))
    click.echo(json.dumps(told) if output_format == "json" else certificate.text(told))


def _stage(done: int, of: int) -> SimpleNamespace:
    return SimpleNamespace(name="subset sums", done=done, of=of, note="")
