"""Search over a grid of settings and show what is worth its cost: resumable row by row, with a Pareto table and picture."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._bar import bar, stages
from edgeticket.cli._network import NETWORK, latency_table, setting
from edgeticket.cli._options import TASK, data_options
from edgeticket.cli._pool import pool_options
from edgeticket.errors import UsageError
from edgeticket.files import check_free

PER_ROW = 1000  # steps of the bar


def several(option: str, default: str, help: str) -> Callable[..., Any]:
    return click.option(option, default=default, show_default=True, help=f"{help}, separated by commas.")


@click.command("sweep")
@click.option("-m", "--model", "networks", multiple=True, default=["conv"], show_default=True, help=NETWORK)
@data_options(default="digits")
@click.option("--task", default="auto", show_default=True, help=TASK)
@click.option("--images", type=int, help="Learn from the first so many training examples.")
@click.option("--budget", "budgets", multiple=True, help="As for find; once for each that is swept.")
@several("--density", "auto", "Densities")
@several("--edges", "auto", "Random edges a connection")
@several("--signs", "seed", "seed, learned or both")
@several("--method", "subset_sum", "Search methods")
@several("--keep", "1", "Fractions of channels that stay")
@click.option(
    "--learn", default="stem,head", show_default=True, help="As for find; several are separated by semicolons."
)
@click.option("--seeds", default="0-2", show_default=True, help="N-M, or several separated by commas.")
@setting("--epochs", "Passes over the training examples.")
@setting("--batch", "Examples a step.")
@setting("--threads", "Part of the result: the same threads give the same bytes.")
@click.option("--latency", is_flag=True, help="Also estimate latency on this CPU for rows without a budget of it.")
@pool_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The rows, JSON lines."
)
@click.option(
    "--picture",
    "drawn",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw what the rows say, .svg, .png or .pdf.",
)
@click.option("--overwrite", is_flag=True, help="Replace the picture if it exists; rows are never replaced.")
@click.option("--list", "only_list", is_flag=True, help="Say what would be run and what it costs, and run nothing.")
@format_option
def command(
    networks: tuple[str, ...],
    source: str,
    task: str,
    layout: str,
    images: int | None,
    budgets: tuple[str, ...],
    latency: bool,
    workers: int,
    cluster: str,
    output: Path,
    drawn: Path | None,
    overwrite: bool,
    only_list: bool,
    output_format: str,
    **options: Any,
) -> None:
    """Search every combination of the given settings; what OUTPUT already holds is not run again."""
    from edgeticket import pareto, sweep
    from edgeticket.data import load
    from edgeticket.network import network_plan

    check_free(output, overwrite=True)  # rows are added to those that are there
    if drawn:
        pareto.check_picture(drawn, overwrite)
        if drawn.resolve() == output.resolve():
            raise UsageError(f"--picture {drawn}: that is where the rows go: name another file")
    data = load(source, layout=layout, images=images, task=task)
    axes = {
        name: options[name].split(";" if name == "learn" else ",")
        for name in ("density", "edges", "signs", "method", "learn")
    }
    axes["keep"] = [_number("--keep", word, float) for word in options["keep"].split(",")]
    axes |= {name: [options[name]] for name in ("epochs", "batch", "threads")}
    searches = sweep.grid(networks, budgets or ("",), _seeds(options["seeds"]), **axes)
    _announce(searches, data, output)
    if only_list:
        return
    sensors = {next(iter(network_plan(network, data).inputs)): data.input for network in networks}
    timed = latency or any("latency" in budget for budget in budgets)
    table = latency_table(options["threads"], sensors) if timed else None
    with bar() as report, stages() as count:
        rows = sweep.sweep(
            searches,
            data,
            output,
            latency=table,
            report=lambda row, of, progress: report(_whole(row, of, progress)),
            workers=workers,
            cluster=cluster,
            finished=lambda row, of: count(SimpleNamespace(name="sweep", done=row, of=of, note="")),
        )
    click.echo("\n".join(map(json.dumps, rows)) if output_format == "json" else pareto.table(rows))
    if drawn:
        pareto.picture(rows, drawn)


def _announce(searches: list[Any], data: Any, output: Path) -> None:
    """What is to be run and what it costs, on stderr."""
    from edgeticket import pareto, sweep

    rows = pareto.read_rows(output)
    missing = [search for search in searches if not sweep.done(search, data, rows)]
    kinds: dict[tuple[str, bool], list[Any]] = {}
    for search in missing:
        kinds.setdefault((search.network, sweep.tried(search)), []).append(search)
    costs = {kind: sweep.seconds(alike[0], data, rows) for kind, alike in kinds.items()}
    total = sum(costs[kind] * len(alike) for kind, alike in kinds.items())
    click.echo(f"{len(searches)} searches, {len(searches) - len(missing)} of them done in {output}", err=True)
    for (network, tried), cost in costs.items():
        what = f"{network} with the trials of --density auto" if tried else network
        click.echo(f"  {len(kinds[network, tried])} of {what}, about {cost:.0f} s of CPU each", err=True)
    click.echo(f"about {total / 60:.1f} minutes of CPU to go", err=True)


def _whole(row: int, of: int, progress: Any) -> Any:
    """The sweep's progress: rows that are done and the share of this one's own search, which comes last of its phases."""
    from edgeticket.search._training import Progress

    share = progress.step / progress.steps if progress.phase == "ticket" else 0.0
    step = int((row - 1 + min(share, 0.999)) * PER_ROW)
    return Progress("sweep", step, of * PER_ROW, progress.loss, f"search {row} of {of}, {progress.phase}")


def _seeds(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    if dash:
        low, high = (_number("--seeds", word, int) for word in (first, last))
        if high < low:
            raise UsageError(f"--seeds {text}: write the smaller one first")
        return list(range(low, high + 1))
    return [_number("--seeds", word, int) for word in text.split(",")]


def _number(option: str, word: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise UsageError(f"{option}: {word!r} is not a number") from None
