"""List the data known by name, and check any data as a search would read them."""

import json
from typing import Any

import click

from edgeticket import data
from edgeticket.cli import format_option


@click.group("data")
def command() -> None:
    """List the data known by name, and check any data as a search would read them."""


@command.command("list")
@format_option
def list_names(output_format: str) -> None:
    """Print the data sets that are known by name."""
    for name, line in data.names():
        click.echo(json.dumps({"name": name, "line": line}) if output_format == "json" else f"{name:15s} {line}")


@command.command("check")
@click.argument("name")
@click.option(
    "--layout", type=click.Choice(data.LAYOUTS), default="auto", show_default=True, help="How arrays are stored."
)
@click.option("--images", type=click.IntRange(min=1), help="Keep the first N of the training part.")
@format_option
def check(name: str, output_format: str, **options: Any) -> None:
    """Read NAME and print its parts, shape, classes, input map, digest and licence.

    NAME is a known name, an .npz (x_train, y_train, optional x_test, y_test, groups, classes), a folder with a sub-folder
    of images per class, or file.py:function giving a dict of such arrays.
    """
    found = data.summary(data.load(name, **options))
    click.echo(json.dumps(found) if output_format == "json" else _text(found))


def _text(found: dict[str, Any]) -> str:
    sizes, sensor = found["sizes"], found["input"]
    offsets = sorted(set(sensor["offset"]))
    offset = f"{offsets[0]:g}" if len(offsets) == 1 else f"{offsets[0]:g}..{offsets[-1]:g} by channel"
    width = max(len(name) for name in found["classes"])
    return "\n".join(
        [
            f"name    {found['name']} ({found['task']})",
            f"shape   {' x '.join(map(str, found['shape']))} {sensor['dtype']}",
            f"parts   train {sizes['train']}, select {sizes['select']}, certify {sizes['certify']}",
            f"input   x = (raw - {offset}) * {sensor['step']:.9g}",
            f"digest  {found['digest']}",
            f"source  {found['note']}",
            f"classes {len(found['classes'])}: examples in train, select, certify",
            *(
                f"  {name:{width}s} {train:7d} {select:7d} {certify:7d}"
                for name, (train, select, certify) in found["classes"].items()
            ),
        ]
    )
