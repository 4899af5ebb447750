"""Measure artifacts on a target, side by side, with ratios to the first."""

import json
from pathlib import Path
from typing import Any

import click

from edgeticket import plugins
from edgeticket.bench import bench, table
from edgeticket.cli import format_option
from edgeticket.targets._confined import MEMORY_MB

TARGETS = ", ".join(name.replace("_", "-") for name in plugins.names("targets"))


@click.command("bench")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--on",
    default="cpu",
    show_default=True,
    help=f"Target: {TARGETS}, or the path to a .py file. ssh://user@host[:port] and serial:DEVICE[@baud] have an address.",
)
@click.option("--threads", default=1, show_default=True, help="Threads of the runtime.")
@click.option("--runs", default=500, show_default=True, help="Measured inferences of each model, back to back.")
@click.option("--warmup", default=20, show_default=True, help="Inferences of each model before the first measured one.")
@click.option("--period-ms", type=float, help="Also run once every so many ms, and count missed deadlines.")
@click.option(
    "--paced-runs", default=100, show_default=True, help="Measured inferences of each model with --period-ms."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the random input values.")
@click.option("--timeout-s", default=600.0, show_default=True, help="Give up after so many seconds.")
@click.option(
    "--memory-mb",
    default=MEMORY_MB,
    show_default=True,
    help="On cpu: give up where a model takes more memory.",
)
@format_option
def command(paths: tuple[Path, ...], output_format: str, **options: Any) -> None:
    """Measure each of PATHS (.onnx, or a folder of C) on a target: latency, memory, size.

    cortex-*: instructions, flash, RAM and stack of a folder of C on an emulated core. The folder's code is built and run: take
    only one that you would run yourself.

    Several models are measured in turns in one run, so the ratio to the first one holds on a busy machine. In brackets
    is a 95 % interval of the ratio; a ratio within 3 % of 1 is called no difference.
    """
    reports = bench(paths, **options)
    if output_format == "json":
        for report in reports:
            click.echo(json.dumps(report.to_json()))
    else:
        click.echo(table(reports))
