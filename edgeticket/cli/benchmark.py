"""Run the standard benchmark (docs/protocol.md): one sealed record that other machines' and companies' can be compared with."""

import json
from pathlib import Path
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._bar import stages
from edgeticket.cli._network import NETWORK, setting
from edgeticket.cli._options import DATA, LAYOUT, TASK
from edgeticket.cli._pool import pool_options
from edgeticket.files import check_free


@click.command("benchmark")
@click.option("-d", "--data", "source", help=f"Your own data, as one more proof. {DATA}")
@click.option("--layout", default="auto", show_default=True, help=LAYOUT)
@click.option("--task", default="auto", show_default=True, help=TASK)
@click.option("-m", "--model", "network", default="conv", show_default=True, help=f"For your own data: {NETWORK}")
@click.option("--success", help="For your own data, as for poc.")
@setting("--epochs", "For your own data.")
@setting("--batch", "For your own data.")
@pool_options
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="runs/benchmark",
    show_default=True,
    help="Where the proofs lie; those that are finished are not run again.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The record, a .json."
)
@click.option("--overwrite", is_flag=True, help="Replace the record if it exists.")
@format_option
def command(
    source: str | None,
    layout: str,
    task: str,
    network: str,
    success: str | None,
    epochs: int,
    batch: int,
    workers: int,
    cluster: str,
    folder: Path,
    output: Path,
    overwrite: bool,
    output_format: str,
) -> None:
    """Proofs of concept on digits, synthetic-bearing (SYNTHETIC) and, with -d, your own data, by docs/protocol.md."""
    from edgeticket.data import load
    from edgeticket.poc.show import text
    from edgeticket.poc.suite import benchmark, own_task
    from edgeticket.pool import open_pool

    check_free(output, overwrite)
    own: Any = None
    if source:
        data = load(source, layout=layout, task=task)
        origin = {"data": source, "layout": layout, "task": task}
        own = data, own_task(data, network, success, epochs, batch, source), origin
    with open_pool(workers, cluster) as pool, stages() as report:
        found = benchmark(
            folder,
            output,
            pool,
            own=own,
            workers=workers,
            remote=bool(cluster),
            report=lambda name, stage: report(stage.of_proof(name)),
        )
    click.echo(json.dumps(found) if output_format == "json" else "\n\n".join(map(text, found["results"].values())))
    click.echo(f"wrote {output}: `edgeticket compare {output} OTHER.json` sets it beside another", err=True)
