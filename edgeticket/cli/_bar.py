"""The progress bar of long work, on stderr, and a stop between two steps on Ctrl-C or SIGTERM."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

DRAW_EVERY = 20  # steps


@contextmanager
def bar() -> Iterator[Callable[[Any], None]]:
    """A function that takes `Progress`: a bar per phase, with ETA, loss and what is watched; silent where stderr is no terminal.

    While a phase runs, SIGINT and SIGTERM are kept until the function is next called: it then raises KeyboardInterrupt, at a
    moment when the search can be saved.
    """
    bars: dict[str, Any] = {}
    with ExitStack() as stack:

        def report(progress: Any) -> None:
            if progress.phase not in bars:
                stack.close()
                bars[progress.phase] = stack.enter_context(_bar(progress)), stack.enter_context(_held_signals())
            current, signals = bars[progress.phase]
            if progress.step % DRAW_EVERY == 0 or progress.step == progress.steps:
                current.update(progress.step - current.pos, progress)
            if progress.step == progress.steps:
                stack.close()
            if signals:
                raise KeyboardInterrupt

        yield report


@contextmanager
def stages() -> Iterator[Callable[[Any], None]]:
    """A function that takes `poc.Stage`: a bar per stage, with ETA; silent where stderr is no terminal."""
    bars: dict[str, Any] = {}
    with ExitStack() as stack:

        def report(stage: Any) -> None:
            if stage.name not in bars:
                stack.close()
                bars[stage.name] = stack.enter_context(_counter(stage))
            current = bars[stage.name]
            current.update(stage.done - current.pos, stage)

        yield report


def _counter(stage: Any) -> Any:
    return _drawn(stage.of, f"{stage.name:20}", lambda stage: stage.note if stage else "", show_pos=True)


def _bar(progress: Any) -> Any:
    return _drawn(progress.steps, f"{progress.phase:13}", _describe)


def _drawn(length: int, label: str, note: Callable[[Any], str], **more: Any) -> Any:
    hidden = not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden, item_show_func=note, **more)


@contextmanager
def _held_signals() -> Iterator[list[int]]:
    """A list that fills with the signals that came."""
    came: list[int] = []
    old = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _describe(progress: Any) -> str:
    if progress is None:
        return ""
    return f"loss {progress.loss:.3f}  {progress.watched}".rstrip()
