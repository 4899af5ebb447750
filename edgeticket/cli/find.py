"""Search a random network for a structured-sparse subnetwork: writes a ticket."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import click

from edgeticket.budget import Budget
from edgeticket.cli import format_option
from edgeticket.cli._bar import bar
from edgeticket.cli._network import BUDGET, NETWORK, latency_table, search_options, setting
from edgeticket.cli._options import TASK, data_options
from edgeticket.datasets.forms import LAYOUT_HELP
from edgeticket.errors import UsageError
from edgeticket.files import check_free, remove_aside
from edgeticket.lock import alone
from edgeticket.settings import Settings

HELD_OUT = 20  # random networks that tell how good the latency table is
STEPS = (
    "epochs",
    "batch",
    "score_step",
    "weight_step",
    "device",
    "threads",
)  # what an update may be asked, and with it
UPDATE = {*STEPS, "source", "layout", "task", "images", "old", "output", "overwrite", "resume", "output_format"}


@click.command("find", epilog="\b\n" + LAYOUT_HELP)
@click.option("-m", "--model", "network", default="conv", show_default=True, help=NETWORK)
@data_options(default="digits")
@click.option("--task", default="auto", show_default=True, help=TASK)
@click.option("--images", type=int, help="Learn from the first so many training examples.")
@click.option("--budget", help=BUDGET)
@search_options
@setting("--seed", "Of the random network, in [0, 2^64), and of the search.")
@setting("--teacher", "A network (as for -m) that is first trained in float, and then advises; its cost is shown.")
@setting("--score-step", "Step size of the scores.")
@setting("--weight-step", "Step size of learned layers.")
@setting("--float-step", "Step size of --float-control.")
@setting("--device", "cpu or cuda.")
@click.option("--no-control", is_flag=True, help="With --keep or --budget: skip the narrow network to beat.")
@click.option("--uniform-control", is_flag=True, help="With --budget: also search the network scaled alike everywhere.")
@click.option("--float-control", is_flag=True, help="Also train an ordinary float network of the same final shape.")
@click.option(
    "--update-of",
    "old",
    type=click.Path(path_type=Path),
    help="Search on from this ticket, with its network, seed and channels, for the firmware that runs it: a small update.",
)
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
    old: Path | None,
    output: Path,
    output_format: str,
    **options: Any,
) -> None:
    """Search the random network -m for a subnetwork that does the job -d, and write what was chosen as a ticket."""
    from edgeticket.data import load

    overwrite, resume = options.pop("overwrite"), options.pop("resume")
    with alone(output):
        check_free(output, overwrite)
        checkpoint = _checkpoint(output, resume)
        if old:
            _check_update()
        data = load(source, layout=layout, images=images, task=task)
        found, told = (
            _update(old, data, checkpoint, options) if old else _search(network, data, budget, checkpoint, options)
        )
        found.ticket.write(output)
        checkpoint.unlink(missing_ok=True)
    summary = found.to_json() | {"ticket": str(output), "bytes": output.stat().st_size} | told
    click.echo(json.dumps(summary) if output_format == "json" else "\n".join([found.text(), *_lines(told)]))
    click.echo(f"wrote {output}, {summary['bytes']:,} bytes", err=True)
    found.require_budget()


def _search(
    network: str, data: Any, budget: str | None, checkpoint: Path, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """What was found, and what there is to say beside it."""
    from edgeticket.find import check_budget, check_plan, find
    from edgeticket.network import network_plan

    controls = {"control": not options.pop("no_control")}
    controls |= {name: options.pop(name) for name in ("uniform_control", "float_control")}
    settings, limits = Settings.parse(**options), Budget.parse(budget) if budget is not None else None
    plan = network_plan(network, data)
    check_plan(plan, data)
    check_budget(settings, limits)
    table, told = _table(limits, settings.threads, plan, data)
    with bar() as report:
        return find(
            plan, data, settings, budget=limits, latency=table, checkpoint=checkpoint, report=report, **controls
        ), told


def _check_update() -> None:
    """Raise UsageError for options that an update has no choice about."""
    context = click.get_current_context()
    given = [
        max(option.opts, key=len)
        for option in context.command.params
        if option.name not in UPDATE
        and context.get_parameter_source(str(option.name)) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(f"--update-of keeps the old ticket's network and choices: leave {', '.join(given)} out")


def _update(old: Path, data: Any, checkpoint: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    from edgeticket.find import update
    from edgeticket.ticket import read_ticket
    from edgeticket.update import settings_of, told

    context, ticket = click.get_current_context(), read_ticket(old)
    source = context.get_parameter_source
    given = {name: options[name] for name in STEPS if source(name) is click.core.ParameterSource.COMMANDLINE}
    settings = settings_of(ticket, **given)
    with bar() as report:
        found = update(ticket, data, settings, checkpoint=checkpoint, report=report)
    return found, {"update": told(ticket, found.ticket)}


def _lines(told: dict[str, Any]) -> list[str]:
    lines = []
    if off := told.get("latency_table"):
        lines.append(
            "latency table: {median:.1%} off in the median, {max:.1%} at most, on {networks} random networks".format(
                **off
            )
        )
    if update := told.get("update"):
        lines.append(
            f"update of {update['of'][:12]}: {update['mask_bits_changed']:.2%} of the mask's bits changed, ranges of "
            f"{', '.join(update['ranges_changed']) or 'no tensor'}; the old firmware "
            + ("reads it" if update["same_firmware"] else "does not read it: send a firmware")
        )
    return lines


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
    remove_aside(path)
    return path
