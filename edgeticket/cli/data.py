"""List the data known by name, and check any data as a search would read them."""

import json
from typing import Any

import click

from edgeticket import data
from edgeticket.cli import format_option
from edgeticket.cli._options import TASK
from edgeticket.text import columns

MAX_CHANNELS = 8  # listed one by one


@click.group("data")
def command() -> None:
    """List the data known by name, and check any data as a search would read them."""


@command.command("list")
@format_option
def list_names(output_format: str) -> None:
    """Print the data sets that are known by name, the other forms that -d takes, the layouts and the tasks."""
    rows = [("name", *row) for row in data.names()]
    rows += [("form", *row) for row in data.FORMS.items()]
    if output_format == "json":
        rows += [("layout", *row) for row in data.LAYOUT_LINES.items()]
        rows += [("task", *row) for row in data.TASK_LINES.items()]
        click.echo("\n".join(json.dumps({kind: name, "line": line}) for kind, name, line in rows))
    else:
        click.echo("\n".join(columns([row[1:] for row in rows], "<<")) + f"\n\n{data.LAYOUT_HELP}\n\n{data.TASK_HELP}")


@command.command("check", epilog=f"\b\n{data.LAYOUT_HELP}\n\n\b\n{data.TASK_HELP}")
@click.argument("name")
@click.option(
    "--layout", type=click.Choice(data.LAYOUTS), default="auto", show_default=True, help="How arrays are stored."
)
@click.option("--task", type=click.Choice(data.TASKS), default="auto", show_default=True, help=TASK)
@click.option("--images", type=click.IntRange(min=1), help="Keep the first N of the training part.")
@format_option
def check(name: str, output_format: str, **options: Any) -> None:
    """Read NAME and print its parts, shape, classes, channels, input map, digest and licence, and warnings on stderr.

    NAME is a known name, an .npz (x_train, y_train, optional x_test, y_test, groups, classes), a folder with a sub-folder
    of images per class, or file.py:function giving a dict of such arrays.
    """
    found = data.summary(data.load(name, **options))
    click.echo(json.dumps(found) if output_format == "json" else _text(found))
    for warning in found["warnings"] if output_format == "text" else ():
        click.echo(f"Warning: {warning}", err=True)


def _text(found: dict[str, Any]) -> str:
    sizes, sensor = found["sizes"], found["input"]
    return "\n".join(
        [
            f"name    {found['name']} ({found['task']})",
            f"shape   {' x '.join(map(str, found['shape']))} {sensor['dtype']}",
            f"parts   train {sizes['train']}, select {sizes['select']}, certify {sizes['certify']}",
            *_channels("channel" if len(found["shape"]) > 1 else "feature", **found["channels"]),
            f"input   x = (raw - {_range(sensor['offset'], 'g')}) * {_range(sensor['step'], '.9g')}",
            f"digest  {found['digest']}",
            f"source  {found['note']}",
            *_labels(found),
        ]
    )


def _labels(found: dict[str, Any]) -> list[str]:
    if found["task"] == "regression":
        targets = found["targets"]
        numbers = ([f"{value:.4g}" for value in targets[key]] for key in ("mean", "spread"))
        head, rows = "targets {}: mean, standard deviation in train", [*zip(targets["names"], *numbers, strict=True)]
    else:
        head = "classes {}: examples in train, select, certify"
        rows = [(name, *map(str, counts)) for name, counts in found["classes"].items()]
    if found["task"] == "anomaly":
        head += f"; {found['left_out']} anomalous ones are left out of train"
    lines = columns(rows, "<")
    return [head.format(len(lines)), *(f"  {line}" for line in lines)]


def _range(values: list[float], style: str) -> str:
    low, high = min(values), max(values)
    return f"{low:{style}}" if low == high else f"({low:{style}}..{high:{style}} by channel)"


def _channels(word: str, mean: list[float], spread: list[float]) -> list[str]:
    """A line a channel, or their range where they are many."""
    head = f"sensor  {len(mean)} {word}{'s' if len(mean) > 1 else ''} in train, raw:"
    if len(mean) > MAX_CHANNELS:
        ranges = (f"{min(values):.4g}..{max(values):.4g}" for values in (mean, spread))
        return ["{} mean {}, standard deviation {}".format(head, *ranges)]
    rows = (f"  {c:<5d} {m:12.4g} {s:12.4g}" for c, (m, s) in enumerate(zip(mean, spread, strict=True)))
    return [f"{head} mean, standard deviation", *rows]
