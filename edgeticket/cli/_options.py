"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

DATA = (
    "A name of `edgeticket data list`, FILE.npz, a folder with a sub-folder of images per class, or FILE.py:FUNCTION."
)
LAYOUT = "How arrays are stored: see `edgeticket data list`."
TASK = "auto, classification, regression or anomaly: see `edgeticket data list`."


def data_options(default: str | None = None, required: bool = True) -> Callable[..., Any]:
    """`-d`, as the parameter `source`, and `--layout`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        needed = required and default is None
        command = click.option("--layout", default="auto", show_default=True, help=LAYOUT)(command)
        about: dict[str, Any] = {"default": default, "show_default": True} if default else {"required": needed}
        return click.option("-d", "--data", "source", help=DATA, **about)(command)

    return add
