"""The command line: one file a command, and the folder is the list of commands.

A file holds `command`, a click command, and the first line of its docstring is the command's line in the overview. No file is
imported before its command is called. What goes wrong becomes a line on stderr and an exit code here and nowhere else.
"""

import ast
import errno
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from traceback import format_exception
from typing import Any, NoReturn

import click

from edgeticket import __version__
from edgeticket.errors import EdgeTicketError

# The order of work; a command that is not named here comes last.
ORDER = [
    "inspect",
    "bound",
    "construct",
    "poc",
    "report",
    "find",
    "sweep",
    "show",
    "compact",
    "requantize",
    "export",
    "unpack",
    "pack",
    "key",
    "ship",
    "verify",
    "bench",
    "data",
    "run",
    "rollout",
    "benchmark",
    "compare",
]
EXTRAS = {
    "torch": "edgeticket[search]",
    "PIL": "edgeticket[images]",
    "torch_pruning": "edgeticket[poc]",
    "distributed": "edgeticket[cluster]",
    "jinja2": "edgeticket[report]",
    "sqlalchemy": "edgeticket[rollout]",
    "psycopg": "edgeticket[rollout]",
    "paho": "edgeticket[rollout]",
    "cryptography": "edgeticket[sign]",
}
INTERRUPTED = 130
_DEBUG = "edgeticket.debug"


class LazyGroup(click.Group):
    """Commands by file name; every command also takes -v and --debug."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        files = (path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
        return sorted(files, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"edgeticket.cli.{cmd_name}").command
        _add_common_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeTicketError as error:
            _fail(ctx, str(error), error.exit_code, error)
        except KeyboardInterrupt as error:
            _fail(
                ctx,
                "interrupted, nothing half-written is left; what was saved goes on: "
                "a search with `find --resume`, a sweep or a run when started again",
                INTERRUPTED,
                error,
            )
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except ModuleNotFoundError as error:
            _fail(ctx, _missing(error), 1, error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            what = f"unexpected {type(error).__name__}: {error}"
            _fail(ctx, f"{what}: please report it, with the traceback that --debug prints", 1, error)


def _fail(ctx: click.Context, text: str, code: int, error: BaseException) -> NoReturn:
    if ctx.meta.get(_DEBUG):
        click.echo("".join(format_exception(error)), err=True, nl=False)
    click.echo(f"Error: {text}", err=True)
    ctx.exit(code)


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    wanted = EXTRAS.get(package, package)
    return f"this needs the package {package}, which is not installed: pip install '{wanted}'"


def _summary(name: str) -> str:
    """First line of the docstring of a command's file, without importing it."""
    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def _set_verbosity(ctx: click.Context, _: click.Parameter, count: int) -> None:
    logger = logging.getLogger("edgeticket")
    if ctx.parent is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    logger.setLevel(min(logger.level, (logging.WARNING, logging.INFO, logging.DEBUG)[min(count, 2)]))


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG] = True


def _common_options() -> list[click.Parameter]:
    verbose, debug = "Say on stderr what is being done; -vv says more.", "Keep the traceback of an error."
    return [
        click.Option(["-v", "--verbose"], count=True, expose_value=False, callback=_set_verbosity, help=verbose),
        click.Option(["--debug"], is_flag=True, is_eager=True, expose_value=False, callback=_set_debug, help=debug),
    ]


def _add_common_options(command: click.Command) -> None:
    if not any(option.name == "debug" for option in command.params):
        command.params += _common_options()
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _add_common_options(child)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--format text|json`, as the parameter `output_format`: results go to stdout, in JSON one line each."""
    choice = click.Choice(["text", "json"])
    return click.option(
        "--format",
        "output_format",
        type=choice,
        default="text",
        show_default=True,
        help="Form of the result on stdout.",
    )(command)


@click.command(cls=LazyGroup, params=_common_options(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Find sparse subnetworks of random networks and ship them to devices.

    Exit codes: 0 done, 1 error, 2 usage, 3 budget not met, 4 equivalence failed or bundle refused, 5 unsupported network,
    6 too few data, 130 interrupted.
    """
