"""Options of commands that run many searches."""

from collections.abc import Callable
from typing import Any

import click

WORKERS = "Processes of this machine that search at the same time; each uses --threads."
CLUSTER = "Search on the workers of a Dask cluster instead: its scheduler, tcp://HOST:PORT (docs/cluster.md)."


def pool_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--workers` and `--cluster`, as edgeticket.pool.open_pool takes them."""
    command = click.option("--cluster", default="", metavar="ADDRESS", help=CLUSTER)(command)
    return click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help=WORKERS)(command)
