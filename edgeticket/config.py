"""The YAML file of `edgeticket run`: read, checked whole before anything is done, and written out with every default."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import yaml

from edgeticket import plugins
from edgeticket.bench import bench
from edgeticket.data import Data, load
from edgeticket.errors import UsageError
from edgeticket.settings import Settings

KEYS = {"name", "model", "data", "layout", "task", "images", "find", "export", "bench"}
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
    task: str
    images: int | None
    find: Mapping[str, Any]
    export: Mapping[str, Mapping[str, Any]]
    bench: Mapping[str, Any]

    @property
    def settings(self) -> Settings:
        given = {key: value for key, value in self.find.items() if key not in FLAGS}
        return Settings.parse(**given)

    def flag(self, name: str) -> bool:
        return bool(self.find.get(name, FLAGS[name]))

    def load(self) -> Data:
        """The data, as `edgeticket.data.load` reads them."""
        return load(self.data, layout=self.layout, images=self.images, task=self.task)

    def search(self) -> dict[str, Any]:
        """What the search depends on: another export or bench does not search again."""
        return {key: value for key, value in self.resolved().items() if key not in ("export", "bench")}

    def resolved(self) -> dict[str, Any]:
        """Every choice, the defaults too."""
        flags = {name: self.flag(name) for name in FLAGS}
        return {
            "name": self.name,
            "model": self.model,
            "data": self.data,
            "layout": self.layout,
            "task": self.task,
            "images": self.images,
            "find": {**self.settings.words(), **flags},
            "export": {name: dict(options) for name, options in self.export.items()},
            "bench": dict(self.bench),
        }


def read_config(path: str | Path) -> Config:
    """Raises UsageError for a file that is not such a mapping, and for unknown keys."""
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(given, dict) or set(given) - KEYS:
        unknown = ", ".join(sorted(map(str, set(given) - KEYS))) if isinstance(given, dict) else "no mapping at all"
        raise UsageError(f"{path}: {unknown}: the keys are {', '.join(sorted(KEYS))}")
    exports = given.get("export", {f"{path.stem}.onnx": {}})
    measure = given.get("bench", {})
    if isinstance(measure, dict) and True in measure:
        measure = {
            "on" if key is True else key: value for key, value in measure.items()
        }  # YAML reads a bare `on` as true
    sections = {"find": given.get("find", {}), "export": exports, "bench": measure}
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
        str(given.get("task", "auto")),
        given.get("images"),
        given.get("find", {}),
        {str(name): options or {} for name, options in exports.items()},
        measure,
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
        known: dict[str, Any] = {"format": "onnx", "align": 8}
        known |= {
            key: p.default for key, p in signature(exporter.export).parameters.items() if p.kind == p.KEYWORD_ONLY
        }
        if not name.endswith(exporter.SUFFIX):
            raise UsageError(f"{path}: export {name!r}: a name that ends in {exporter.SUFFIX}")
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
