"""The progress bar of long work, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click


@contextmanager
def bar() -> Iterator[Callable[[Any], None]]:
    """A function that takes `Progress`: a bar per phase, with ETA, loss and accuracy; silent where stderr is no terminal."""
    stream = sys.stderr
    bars: dict[str, Any] = {}
    with ExitStack() as stack:

        def report(progress: Any) -> None:
            if progress.phase not in bars:
                stack.close()
                bars[progress.phase] = stack.enter_context(
                    click.progressbar(
                        length=progress.steps,
                        label=f"{progress.phase:13}",
                        file=stream,
                        hidden=not stream.isatty(),
                        item_show_func=_describe,
                    )
                )
            current = bars[progress.phase]
            current.update(progress.step - current.pos, progress)

        yield report


def _describe(progress: Any) -> str:
    if progress is None:
        return ""
    watched = "" if progress.accuracy is None else f"  accuracy {100 * progress.accuracy:.1f} %"
    return f"loss {progress.loss:.3f}{watched}"
