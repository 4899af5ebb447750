"""The whole job from one file: find, show, compact, export, verify, bench, into a folder of its own.

name: demo                      # -> runs/demo/
model: conv:64,128,128
data: digits
images: 1000                    # optional, as `layout`
find: {keep: 0.25, epochs: 30}  # the options of `edgeticket find`
export:                         # file name -> the options of `edgeticket export`
  demo.onnx: {weights: trit5}
bench: {runs: 300}              # the options of `edgeticket bench`
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgeticket.bench import bench, table
from edgeticket.compact import zeroed
from edgeticket.config import CONFIG, CONTROL, FLOAT, LOG, PARTIAL, REPORT, WIDE, Config
from edgeticket.describe import describe, describe_text, prove_compact, prove_text
from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.export import export
from edgeticket.files import put_in_place
from edgeticket.find import find
from edgeticket.found import Found
from edgeticket.lock import alone
from edgeticket.network import network_plan
from edgeticket.verify import verify

SEARCH = "search.json"


def steps(config: Config) -> Iterator[str]:
    """What a run will do, a line a step."""
    yield f"find     {config.model} on {config.data}, {config.settings.epochs} epochs -> {config.name}.ticket"
    yield "show     channels, weights, MACs, bytes, before and after"
    yield "compact  proof that removal changed nothing"
    for name, options in config.export.items():
        yield f"export   {name} {json.dumps(options)}"
    others = [WIDE, *([CONTROL] if config.flag("control") and config.settings.keep < 1 else [])]
    others += [FLOAT] if config.flag("float_control") else []
    yield f"export   to compare with: {', '.join(others)}"
    yield "verify   the exported files against the ticket, and their accuracy on the certify part"
    yield f"bench    all of them in turns, ratios to {WIDE}"


def run(
    config: Config,
    folder: str | Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    report: Callable[[Any], None] = lambda progress: None,
) -> Path:
    """Do the steps; returns the folder's name. It appears whole: until then the work is in NAME.partial, and resumable.

    `say` gets each step's result as text; the same results lie in the folder as report.jsonl. Raises UsageError when the
    folder exists without `overwrite` or another run is at work on it, and whatever a step raises.
    """
    target, partial = Path(folder) / config.name, Path(folder) / f"{config.name}{PARTIAL}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target):
            if target.exists() and not (overwrite and target.is_dir()):
                raise UsageError(
                    f"{target} exists already: change `name`, or add --overwrite to replace the folder of a run"
                )
            partial.mkdir(exist_ok=True)
            _start(partial, config)
            _work(config, partial, say, report)
            put_in_place(partial, target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EdgeTicketError(
            f"cannot write {error.filename or partial}: {error.strerror or error}; {target} is as it was: free some space "
            "or choose another folder, then run it again: it goes on where it stopped"
        ) from error
    return target


def _work(config: Config, partial: Path, say: Callable[[str], None], report: Callable[[Any], None]) -> None:
    log = _Log(partial, say)
    ticket = partial / f"{config.name}.ticket"
    data = config.load()
    found = _find(config, data, ticket, report)
    log.add("find", found.to_json(), found.text())
    log.add("show", described := describe(found.ticket), describe_text(described))
    log.add("compact", proof := prove_compact(found.ticket), prove_text(proof))
    files = _export(config, found, partial)
    checked = verify(ticket, files[: len(config.export)], data)
    log.add("verify", checked.to_json(), checked.text())
    checked.require()
    reports = bench([partial / WIDE, *files], **config.bench)
    log.add("bench", [one.to_json() for one in reports], table(reports))
    _checkpoint(ticket).unlink(missing_ok=True)
    (partial / SEARCH).unlink()


def _checkpoint(ticket: Path) -> Path:
    """Kept until all is done: a run that stops after the search need not search again."""
    return ticket.with_name(ticket.name + ".checkpoint")


def _start(partial: Path, config: Config) -> None:
    """A partial folder is gone on with only if its search was the same."""
    search, known = json.dumps(config.search()), partial / SEARCH
    if not known.exists() or known.read_text(encoding="utf-8") != search:
        shutil.rmtree(partial)
        partial.mkdir()
    known.write_text(search, encoding="utf-8")
    (partial / CONFIG).write_text(yaml.safe_dump(config.resolved(), sort_keys=False), encoding="utf-8")
    for old in (REPORT, LOG):
        (partial / old).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Log:
    folder: Path
    say: Callable[[str], None]

    def add(self, step: str, result: Any, text: str) -> None:
        with (self.folder / REPORT).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "result": result}) + "\n")
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"== {step}\n{text}\n\n")
        self.say(f"== {step}\n{text}\n")


def _find(config: Config, data: Any, ticket: Path, report: Callable[[Any], None]) -> Found:
    found = find(
        network_plan(config.model, data),
        data,
        config.settings,
        control=config.flag("control"),
        float_control=config.flag("float_control"),
        checkpoint=_checkpoint(ticket),
        report=report,
    )
    found.ticket.write(ticket)
    return found


def _export(config: Config, found: Found, folder: Path) -> list[Path]:
    """The files that were asked for, then those to compare with; all but the unremoved network, which comes first in a bench."""
    files = [folder / name for name in config.export]
    for file, options in zip(files, config.export.values(), strict=True):
        export(found.ticket, **{"format": "onnx", **options}, path=file, overwrite=True)
    export(zeroed(found.ticket), "onnx", folder / WIDE, overwrite=True)
    for name, control in found.controls.items():
        export(control, "onnx", folder / f"{name}.onnx", overwrite=True)
        files.append(folder / f"{name}.onnx")
    return files
