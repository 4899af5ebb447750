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

from edgeticket.bench import bench, table
from edgeticket.compact import zeroed
from edgeticket.data import load
from edgeticket.describe import describe, describe_text, prove_compact, prove_text
from edgeticket.errors import UsageError
from edgeticket.export import export
from edgeticket.find import Found, find, network_plan
from edgeticket.settings import Settings
from edgeticket.verify import verify

KEYS = {"name", "model", "data", "layout", "images", "find", "export", "bench"}
FLAGS = {"control": True, "float_control": False}
WIDE, CONTROL, FLOAT = "unremoved.onnx", "control.onnx", "float.onnx"


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
        return Settings.parse(**{"density": str(given.pop("density", Settings.density)), **given})

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
            "find": {**self.settings.to_json(), **flags},
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
    for key in ("find", "export", "bench"):
        if not isinstance(given.get(key, {}), dict):
            raise UsageError(f"{path}: {key} is not a mapping of options")
    config = Config(
        str(given.get("name", path.stem)),
        str(given.get("model", "conv")),
        str(given.get("data", "digits")),
        str(given.get("layout", "auto")),
        given.get("images"),
        given.get("find", {}),
        {str(name): options or {} for name, options in given.get("export", {f"{path.stem}.onnx": {}}).items()},
        given.get("bench", {}),
    )
    _check_names(path, config)
    return config


def _check_names(path: Path, config: Config) -> None:
    known = {**signature(Settings).parameters, **signature(Settings.parse).parameters, **FLAGS}
    for key in config.find:
        if key not in known or key in ("given", "layer_density"):
            raise UsageError(f"{path}: find has no option {key!r}")
    for key in config.bench:
        if key not in signature(bench).parameters or key == "paths":
            raise UsageError(f"{path}: bench has no option {key!r}")
    for name in (config.name, *config.export):
        if Path(name).name != name or name in ("", ".", "..", WIDE, CONTROL, FLOAT):
            raise UsageError(f"{path}: {name!r} cannot be the name of an output here")


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
    target, partial = folder / config.name, folder / f"{config.name}.partial"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists already: change `name`, or add --overwrite to replace it")
    partial.mkdir(parents=True, exist_ok=True)
    _start(partial, config)
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
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    return target


def _start(partial: Path, config: Config) -> None:
    """A partial folder is gone on with only if it was made by the same config."""
    text, file = yaml.safe_dump(config.resolved(), sort_keys=False), partial / "config.yaml"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        shutil.rmtree(partial)
        partial.mkdir()
    file.write_text(text, encoding="utf-8")
    for old in ("report.jsonl", "log.txt"):
        (partial / old).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Log:
    folder: Path
    say: Callable[[str], None]

    def add(self, step: str, result: Any, text: str) -> None:
        with (self.folder / "report.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "result": result}) + "\n")
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"== {step}\n{text}\n\n")
        self.say(f"== {step}\n{text}\n")


def _find(config: Config, data: Any, ticket: Path, report: Callable[[Any], None]) -> Found:
    checkpoint = ticket.with_name(ticket.name + ".checkpoint")
    found = find(
        network_plan(config.model, data),
        data,
        config.settings,
        control=config.flag("control"),
        float_control=config.flag("float_control"),
        checkpoint=checkpoint,
        report=report,
    )
    found.ticket.write(ticket)
    checkpoint.unlink(missing_ok=True)
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
