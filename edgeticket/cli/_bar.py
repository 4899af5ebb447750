"""The progress bar of long work, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


@contextmanager
def bar() -> Iterator[Callable[[Any], None]]:
    """A function that takes `Progress`; a bar per phase, with ETA, loss and accuracy. Silent where stderr is no terminal."""
    shown: dict[str, Any] = {}
    stream = click.get_text_stream("stderr")

    def report(progress: Any) -> None:
        if progress.phase not in shown:
            _close(shown)
            shown[progress.phase] = click.progressbar(
                length=progress.steps,
                label=f"{progress.phase:13}",
                file=stream,
                hidden=not stream.isatty(),
                item_show_func=_describe,
            )
            shown[progress.phase].__enter__()
        current = shown[progress.phase]
        current.update(progress.step - current.pos, progress)

    try:
        yield report
    finally:
        _close(shown)


def _close(shown: dict[str, Any]) -> None:
    for current in shown.values():
        if current is not None:
            current.__exit__(None, None, None)
    for phase in shown:
        shown[phase] = None


def _describe(progress: Any) -> str:
    if progress is None:
        return ""
    watched = "" if progress.accuracy is None else f"  accuracy {100 * progress.accuracy:.1f} %"
    return f"loss {progress.loss:.3f}{watched}"
