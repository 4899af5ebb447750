"""Run a proof of concept: what sparsity to expect, how likely a search succeeds, and what it costs, before any roll-out."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgeticket.cli import format_option
from edgeticket.cli._bar import stages
from edgeticket.cli._network import BUDGET, NETWORK, latency_file, search_options
from edgeticket.cli._options import TASK, data_options
from edgeticket.cli._pool import pool_options
from edgeticket.datasets.forms import LAYOUT_HELP

SUCCESS = (
    "What a seed must reach on the certify part, e.g. 'accuracy >= float - 0.01', where float is the mean of three float "
    "networks on the select part; auc for anomalies, rmse for regression.  [default: float - 0.01, or rmse <= float + 0.01]"
)
_COST = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600}


def cost(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Seconds of "600", "10m" or "2h"."""
    if text is None:
        return None
    match = _COST.fullmatch(text)
    if not match:
        raise click.BadParameter(f"{text!r} is not an amount of CPU time: write 600, 10m or 2h")
    return float(match[1]) * _UNITS[match[2]]


@click.command("poc", epilog="\b\n" + LAYOUT_HELP)
@click.option("-m", "--model", "network", default="conv", show_default=True, help=NETWORK)
@data_options()
@click.option("--task", default="auto", show_default=True, help=TASK)
@click.option("--images", type=int, help="Learn from the first so many training examples.")
@click.option("--success", help=SUCCESS)
@click.option("--seeds", default=59, show_default=True, help="Independent searches; 59 without a failure show 0.95.")
@click.option("--first-seed", default=0, show_default=True, help="They are this one and those after it.")
@click.option("--probability", default=0.95, show_default=True, help="Of success, that must be shown for a go ...")
@click.option("--confidence", default=0.95, show_default=True, help="... with this confidence.")
@click.option(
    "--max-cost",
    callback=cost,
    help="Begin no search, after the first, beyond this much CPU time of searches: 600, 10m or 2h.",
)
@click.option("--period-ms", type=float, help="Also count missed deadlines at one inference every so many ms.")
@click.option(
    "--prices", type=click.Path(path_type=Path, dir_okay=False), help="A YAML file of your own prices, for the report."
)
@click.option("--budget", default="", help=BUDGET)
@search_options
@pool_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="The folder.  [default: runs/DATA]"
)
@click.option(
    "--overwrite", is_flag=True, help="Replace an earlier proof; what the same request had finished is not run again."
)
@click.option("--list", "only_list", is_flag=True, help="Say what would be run and what it costs, and run nothing.")
@format_option
def command(
    network: str,
    source: str,
    task: str,
    layout: str,
    images: int | None,
    success: str | None,
    seeds: int,
    first_seed: int,
    probability: float,
    confidence: float,
    max_cost: float | None,
    period_ms: float | None,
    prices: Path | None,
    budget: str,
    workers: int,
    cluster: str,
    output: Path | None,
    overwrite: bool,
    only_list: bool,
    output_format: str,
    **options: Any,
) -> None:
    """Search with many seeds, judge each on data that chose nothing, and say go, measure more or stop.

    The folder that is left holds every ticket, the one that is best on the select part with its exports, and poc.json, from
    which `edgeticket report` makes a page and which `edgeticket verify --claims` checks.
    """
    from edgeticket.data import load
    from edgeticket.poc import Request, poc
    from edgeticket.poc.prices import read_prices
    from edgeticket.poc.show import text
    from edgeticket.poc.success import default_criterion
    from edgeticket.pool import open_pool
    from edgeticket.settings import Settings

    data = load(source, layout=layout, images=images, task=task)
    settings = Settings.parse(**options)
    request = Request(
        model=network,
        success=success or default_criterion(data.task),
        settings=settings,
        budget=budget,
        seeds=seeds,
        first_seed=first_seed,
        probability=probability,
        confidence=confidence,
        max_cost_s=max_cost,
        period_ms=period_ms,
    )
    target = output or Path("runs") / Path(data.name).stem
    known = read_prices(prices) if prices else None
    request.check(data, target, workers=workers, remote=bool(cluster), overwrite=overwrite)
    _announce(request, data, workers)
    if only_list:
        return
    context = click.get_current_context()
    origin = {
        "command": _words(context),
        "name": target.name,
        "data": source,
        "layout": layout,
        "task": task,
        "images": images,
    }
    with open_pool(workers, cluster) as pool, stages() as report:
        record = poc(
            request,
            data,
            target,
            pool,
            origin=origin,
            prices=known,
            table=latency_file(),
            workers=workers,
            remote=bool(cluster),
            overwrite=overwrite,
            report=report,
        )
    click.echo(json.dumps(record) if output_format == "json" else text(record))
    click.echo(f"wrote {target}: `edgeticket report {target} -o report.html` makes a page of it", err=True)


def _announce(request: Any, data: Any, workers: int) -> None:
    from edgeticket.poc import estimate

    each, count = estimate(request, data)
    lanes = f"{workers} worker{'s' * (workers > 1)}"
    click.echo(
        f"{count} searches of {request.model} on {data.name}, about {each:.0f} s of CPU each: {each * count / 60:.1f} minutes of "
        f"CPU on {lanes}, and three runs each of what they are compared with\n"
        f"success of a seed: {request.success}" + (f", and {request.budget}" if request.budget else ""),
        err=True,
    )


def _words(context: click.Context) -> str:
    """The command that does it again: every option that was given."""
    words = ["edgeticket", "poc"]
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) != ParameterSource.COMMANDLINE or name in ("overwrite", "output_format"):
            continue
        value = context.params.get(name)
        words += [max(parameter.opts, key=len)] if value is True else [max(parameter.opts, key=len), str(value)]
    return shlex.join(words)
