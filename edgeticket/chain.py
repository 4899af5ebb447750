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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import yaml

from edgeticket import plugins
from edgeticket.bench import bench, table
from edgeticket.compact import zeroed
from edgeticket.data import load
from edgeticket.describe import describe, describe_text, prove_compact, prove_text
from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.export import export
from edgeticket.find import Found, find, network_plan
from edgeticket.settings import Settings
from edgeticket.verify import verify

KEYS = {"name", "model", "data", "layout", "images", "find", "export", "bench"}
FLAGS = {"control": True, "float_control": False}
WIDE, CONTROL, FLOAT = "unremoved.onnx", "control.onnx", "float.onnx"
CONFIG, REPORT, LOG = "config.yaml", "report.jsonl", "log.txt"
PARTIAL = ".partial"


@dataclass(frozen=True)
class Config:
    name: str
    model: str
    data: str
    layout: str
    images: int | None
    find: Mapping[str, Any]
    export: Mapping[str, Mapping[str, Any]]
    bench: Mapping[str, Any]

    @property
    def settings(self) -> Settings:
        given = {key: value for key, value in self.find.items() if key not in FLAGS}
        return Settings.parse(**{"density": Settings.density, "edges": Settings.edges, **given})

    def flag(self, name: str) -> bool:
        return bool(self.find.get(name, FLAGS[name]))

    def resolved(self) -> dict[str, Any]:
        """Every choice, the defaults too."""
        flags = {name: self.flag(name) for name in FLAGS}
        return {
            "name": self.name,
            "model": self.model,
            "data": self.data,
            "layout": self.layout,
            "images": self.images,
            "find": {**self.settings.words(), **flags},
            "export": {name: dict(options) for name, options in self.export.items()},
            "bench": dict(self.bench),
        }


def read_config(path: Path) -> Config:
    """Raises UsageError for a file that is not such a mapping, and for unknown keys."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(given, dict) or set(given) - KEYS:
        unknown = ", ".join(sorted(map(str, set(given) - KEYS))) if isinstance(given, dict) else "no mapping at all"
        raise UsageError(f"{path}: {unknown}: the keys are {', '.join(sorted(KEYS))}")
    exports = given.get("export", {f"{path.stem}.onnx": {}})
    sections = {"find": given.get("find", {}), "export": exports, "bench": given.get("bench", {})}
    if isinstance(exports, dict):
        sections |= {f"export {name}": {} if options is None else options for name, options in exports.items()}
    for key, section in sections.items():
        if not isinstance(section, dict):
            raise UsageError(f"{path}: {key} is not a mapping of options")
    config = Config(
        str(given.get("name", path.stem)),
        str(given.get("model", "conv")),
        str(given.get("data", "digits")),
        str(given.get("layout", "auto")),
        given.get("images"),
        given.get("find", {}),
        {str(name): options or {} for name, options in exports.items()},
        given.get("bench", {}),
    )
    _check_names(path, config)
    _check_options(path, config)
    return config


def _check_names(path: Path, config: Config) -> None:
    own = {WIDE, CONTROL, FLOAT, CONFIG, REPORT, LOG, f"{config.name}.ticket", f"{config.name}.ticket.checkpoint"}
    for name in (config.name, *config.export):
        plain = name and Path(name).name == name and name.isprintable() and not name.startswith(".")
        if not plain or name in own or name.endswith(PARTIAL):
            raise UsageError(f"{path}: {name!r} cannot be the name of an output here")


def _check_options(path: Path, config: Config) -> None:
    """Every option exists and is of its kind: a long search must not end in a spelling mistake."""
    search = {name: option.default for name, option in signature(Settings).parameters.items()}
    search |= {"density": "0.5", "edges": "1", "pure": False, **FLAGS}
    del search["layer_density"], search["layer_edges"]
    measure = {name: option.default for name, option in signature(bench).parameters.items() if name != "paths"}
    sections = [("find", config.find, search), ("bench", config.bench, measure)]
    for name, options in config.export.items():
        exporter = plugins.load("exporters", str(options.get("format", "onnx")))
        known = {"format": "onnx", "align": 8}
        known |= {
            key: p.default for key, p in signature(exporter.export).parameters.items() if p.kind == p.KEYWORD_ONLY
        }
        sections.append((f"export {name}", options, known))
    for section, options, known in sections:
        for key, value in options.items():
            if key not in known:
                raise UsageError(f"{path}: {section} has no option {key!r}: it has {', '.join(known)}")
            if not _fits(value, known[key]) and not (key in ("density", "edges") and _fits(value, 0.5)):
                raise UsageError(f"{path}: {section}: {key} cannot be {value!r}")
    if config.images is not None and not _fits(config.images, 1):
        raise UsageError(f"{path}: images cannot be {config.images!r}: give a whole number")
    _ = config.settings  # raises for values out of their ranges


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of an option's kind, by its default; None stands for a number that may be left out."""
    if default is None:
        return value is None or _fits(value, 0.5)
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def steps(config: Config) -> Iterator[str]:
    """What a run will do, a line a step."""
    yield f"find     {config.model} on {config.data}, {config.settings.epochs} epochs -> {config.name}.ticket"
    yield "show     channels, weights, MACs, bytes, before and after"
    yield "compact  proof that removal changed nothing"
    for name, options in config.export.items():
        yield f"export   {name} {json.dumps(options)}"
    others = [WIDE, *([CONTROL] if config.flag("control") else []), *([FLOAT] if config.flag("float_control") else [])]
    yield f"export   to compare with: {', '.join(others)}"
    yield "verify   every file against the ticket, and its accuracy on the certify part"
    yield f"bench    all of them in turns, ratios to {WIDE}"


def run(
    config: Config,
    folder: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    report: Callable[[Any], None] = lambda progress: None,
) -> Path:
    """Do the steps; returns the folder's name. It appears whole: until then the work is in NAME.partial, and resumable.

    `say` gets each step's result as text; the same results lie in the folder as report.jsonl. Raises UsageError when the
    folder exists without `overwrite`, and whatever a step raises.
    """
    target, partial = folder / config.name, folder / f"{config.name}{PARTIAL}"
    if target.exists() and not (overwrite and target.is_dir()):
        raise UsageError(f"{target} exists already: change `name`, or add --overwrite to replace the folder of a run")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        _start(partial, config)
        _work(config, partial, say, report)
        _put_in_place(partial, target)
    except OSError as error:
        raise EdgeTicketError(
            f"cannot write {error.filename or partial}: {error.strerror or error}; {target} is as it was: free some space "
            "or choose another folder, then run it again: it goes on where it stopped"
        ) from error
    return target


def _work(config: Config, partial: Path, say: Callable[[str], None], report: Callable[[Any], None]) -> None:
    log = _Log(partial, say)
    ticket = partial / f"{config.name}.ticket"
    data = load(config.data, layout=config.layout, images=config.images)
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


def _checkpoint(ticket: Path) -> Path:
    """Kept until all is done: a run that stops after the search need not search again."""
    return ticket.with_name(ticket.name + ".checkpoint")


def _put_in_place(partial: Path, target: Path) -> None:
    """The folder of an earlier run leaves last, so there is always a whole one, except between two renames."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _start(partial: Path, config: Config) -> None:
    """A partial folder is gone on with only if it was made by the same config."""
    text, file = yaml.safe_dump(config.resolved(), sort_keys=False), partial / CONFIG
    if file.exists() and file.read_text(encoding="utf-8") != text:
        shutil.rmtree(partial)
        partial.mkdir()
    file.write_text(text, encoding="utf-8")
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
