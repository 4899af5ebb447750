"""Search a random network for a structured-sparse subnetwork: writes a ticket."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import click

from edgeticket.budget import Budget
from edgeticket.cli import format_option
from edgeticket.cli._bar import bar
from edgeticket.cli._network import BUDGET, DENSITY, EDGES, LEARN, NETWORK, latency_table, setting
from edgeticket.cli._options import TASK, data_options
from edgeticket.datasets.forms import LAYOUT_HELP
from edgeticket.errors import UsageError
from edgeticket.files import check_free
from edgeticket.settings import Settings

HELD_OUT = 20  # random networks that tell how good the latency table is


@click.command("find", epilog="\b\n" + LAYOUT_HELP)
@click.option("-m", "--model", "network", default="conv", show_default=True, help=NETWORK)
@data_options(default="digits")
@click.option("--task", default="auto", show_default=True, help=TASK)
@click.option("--images", type=int, help="Learn from the first so many training examples.")
@click.option("--density", default="auto", show_default=True, help=DENSITY)
@click.option("--edges", default="auto", show_default=True, help=EDGES)
@setting("--keep", "Fraction of channels that stay.")
@click.option("--budget", help=BUDGET)
@setting("--align", "Kept widths are multiples of this, and at least this; channels that nothing reads leave as well.")
@setting("--seed", "Of the random network, in [0, 2^64), and of the search.")
@setting("--epochs", "Passes over the training examples.")
@setting("--batch", "Examples a step.")
@setting("--learn", LEARN)
@click.option("--pure", is_flag=True, help="The same as --learn none: masks, scales and biases only.")
@setting("--signs", "Keep the seed's signs, or learn flips.", type=click.Choice(["seed", "learned"]))
@setting("--method", "Search method, or the path to a .py file.")
@setting("--teacher", "A network (as for -m) that is first trained in float, and then advises; its cost is shown.")
@setting("--score-step", "Step size of the scores.")
@setting("--weight-step", "Step size of learned layers.")
@setting("--float-step", "Step size of --float-control.")
@setting("--device", "cpu or cuda.")
@setting("--threads", "Part of the result: the same threads give the same bytes.")
@click.option("--no-control", is_flag=True, help="With --keep or --budget: skip the narrow network to beat.")
@click.option("--uniform-control", is_flag=True, help="With --budget: also search the network scaled alike everywhere.")
@click.option("--float-control", is_flag=True, help="Also train an ordinary float network of the same final shape.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ticket.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option("--resume", is_flag=True, help="Go on from OUTPUT.checkpoint.")
@format_option
def command(
    network: str,
    source: str,
    layout: str,
    task: str,
    images: int | None,
    budget: str | None,
    output: Path,
    output_format: str,
    **options: Any,
) -> None:
    """Search the random network -m for a subnetwork that does the job -d, and write what was chosen as a ticket."""
    from edgeticket.data import load
    from edgeticket.find import check_budget, check_plan, find
    from edgeticket.network import network_plan

    check_free(output, options.pop("overwrite"))
    checkpoint = _checkpoint(output, options.pop("resume"))
    controls = {"control": not options.pop("no_control")}
    controls |= {name: options.pop(name) for name in ("uniform_control", "float_control")}
    settings, limits = Settings.parse(**options), Budget.parse(budget) if budget is not None else None
    data = load(source, layout=layout, images=images, task=task)
    plan = network_plan(network, data)
    check_plan(plan, data)
    check_budget(settings, limits)
    table, told = _table(limits, settings.threads, plan, data)
    with bar() as report:
        found = find(
            plan, data, settings, budget=limits, latency=table, checkpoint=checkpoint, report=report, **controls
        )
    found.ticket.write(output)
    checkpoint.unlink(missing_ok=True)
    summary = found.to_json() | {"ticket": str(output), "bytes": output.stat().st_size} | told
    click.echo(json.dumps(summary) if output_format == "json" else found.text())
    if told and output_format != "json":
        click.echo(
            "latency table: {median:.1%} off in the median, {max:.1%} at most, on {networks} random networks".format(
                **told["latency_table"]
            )
        )
    click.echo(f"wrote {output}, {summary['bytes']:,} bytes", err=True)
    found.require_budget()


def _table(budget: Any, threads: int, plan: Any, data: Any) -> tuple[Any, dict[str, Any]]:
    """A latency table where the budget needs one, and how far it is off on networks that it was not made from."""
    if not budget or not budget.has("latency_ms"):
        return None, {}
    from edgeticket.latency import held_out

    table = latency_table(threads, {next(iter(plan.inputs)): data.input})
    off = sorted(abs(one.error) for one in held_out(table, range(HELD_OUT)))
    return table, {"latency_table": {"networks": len(off), "median": median(off), "max": off[-1]}}


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
