"""Options of networks and searches that several commands share."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from edgeticket.ops import Shape
from edgeticket.settings import Settings

NETWORK = (
    "NAME[:WIDTH,...], PATH.py[:WIDTH,...] or your own PyTorch module, MY_NET.py:NAME. NAME is conv, mlp, wave, resnet8, "
    "ds-cnn, mobilenet-v1-025, autoencoder or streaming-wakeword."
)
DENSITY = "Kept edges / (fan-in x edges), above 0 and at most 1, e.g. 0.1 or auto,conv1=0.5; auto: half an edge a connection, or what --budget wants."
EDGES = "Random edges a connection, 1 to 16, e.g. 3 or auto,conv1=4."
LEARN = "Layers with learned int8 weights: stem, head (while at most 5 % of the weights), depthwise, layer names, all, or none."
BUDGET = (
    "What the result may cost on a device, e.g. latency=2ms@cpu,packet=6K or flash=32K@cortex-m4,ram=20K,"
    "instructions=2M@cortex-m4; also macs, kept_macs, file. Widths, and density and edges on auto, follow it."
)
_SHAPE = re.compile(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){0,2}")


def setting(name: str, help: str, **more: Any) -> Callable[..., Any]:
    """An option whose default is that of `Settings`."""
    field = name.removeprefix("--").replace("-", "_")
    return click.option(name, default=getattr(Settings, field), show_default=True, help=help, **more)


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides one search, but for seed and budget: options of `Settings.parse`."""
    signs = click.Choice(["seed", "learned"])
    options = [
        click.option("--density", default="auto", show_default=True, help=DENSITY),
        click.option("--edges", default="auto", show_default=True, help=EDGES),
        setting("--keep", "Fraction of channels that stay."),
        setting(
            "--align",
            "Kept widths are multiples of this, and at least this; channels that nothing reads leave as well.",
        ),
        setting("--epochs", "Passes over the training examples."),
        setting("--batch", "Examples a step."),
        setting("--learn", LEARN),
        click.option("--pure", is_flag=True, help="The same as --learn none: masks, scales and biases only."),
        setting("--signs", "Keep the seed's signs, or learn flips.", type=signs),
        setting("--method", "Search method, or the path to a .py file."),
        setting("--threads", "Of a search, and part of the result: the same threads give the same bytes."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def input_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--input CxHxW`, once for each input, as the parameter `inputs`."""
    return click.option(
        "--input",
        "inputs",
        multiple=True,
        callback=_shapes,
        help="Shape without the batch, 3x96x96; once for each input.",
    )(command)


def _shapes(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> list[Shape]:
    for text in texts:
        if not _SHAPE.fullmatch(text):
            raise click.BadParameter(f"{text!r} is not a shape: write 9, 1x1024 or 3x96x96, without the batch")
    return [tuple(map(int, text.split("x"))) for text in texts]


def latency_file() -> Path:
    """Where entries of latency tables are kept: among the program's own files of this user."""
    return Path(click.get_app_dir("edgeticket")) / "latency.json"


def latency_table(threads: int, inputs: Mapping[str, Any]) -> Any:
    """This CPU's. `inputs`: the sensors of the networks to come."""
    from edgeticket.latency import Table

    return Table(latency_file(), threads, inputs)
