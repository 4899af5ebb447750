"""Plug-ins: the folder is the registry, and a path to a .py works wherever a name does.

Loading a plug-in runs its code: name only files that you would run yourself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from edgeticket.errors import EdgeTicketError, PluginError, UnknownPluginError

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Kind:
    """Files `package`/`prefix`NAME.py, each with all of the `required` names at module level: constants in capitals."""

    word: str
    package: str
    prefix: str
    required: tuple[str, ...]


KINDS = {
    "architectures": Kind("architecture", "edgeticket.architectures", "", ("plan",)),
    "exporters": Kind("exporter", "exporters", "to_", ("SUFFIX", "export")),
    "targets": Kind("target", "edgeticket.targets", "on_", ("FORMATS", "missing", "measure")),
    "search": Kind("search method", "edgeticket.search", "", ("WEIGHT", "search")),
}


def names(kind: str) -> list[str]:
    """Names of the built-in plug-ins of one kind, sorted. Files that begin with an underscore are helpers."""
    wanted = _kind(kind)
    folder = ROOT.joinpath(*wanted.package.split("."))
    stems = (path.stem for path in folder.glob(f"{wanted.prefix}*.py"))
    return sorted(stem.removeprefix(wanted.prefix) for stem in stems if not stem.startswith("_"))


def load(kind: str, name_or_path: str) -> ModuleType:
    """The plug-in module; a name may have hyphens for the underscores of its file (ds-cnn is ds_cnn.py).

    Raises UnknownPluginError, or PluginError when it cannot be imported or lacks a required name.
    """
    wanted = _kind(kind)
    path = Path(name_or_path)
    if path.suffix == ".py":
        return _checked(_import_file(wanted, path), wanted, str(path))
    known, name = names(kind), name_or_path.replace("-", "_")
    if name not in known:
        told = ", ".join(known) or "(none)"
        told = told.replace("_", "-") if kind == "targets" else told  # as docs/boards.md writes them
        raise UnknownPluginError(
            f"{wanted.word} {name_or_path!r} is unknown: take one of {told}, or give the path to a .py file"
        )
    module = f"{wanted.package}.{wanted.prefix}{name}"
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    try:
        return _checked(import_module(module), wanted, str(file))
    except (Exception, SystemExit) as error:
        raise _explained(wanted, file, error) from error


@contextmanager
def blame(kind: str, name_or_path: str) -> Iterator[None]:
    """Around a call into a plug-in: what it raises names the file and line of the plug-in, as a PluginError.

    Errors of our own pass, and so does everything from a built-in plug-in: that would be our fault, not its author's.
    """
    wanted, path = _kind(kind), Path(name_or_path)
    try:
        yield
    except EdgeTicketError:
        raise
    except Exception as error:
        if path.suffix != ".py":
            raise
        raise _explained(wanted, path, error) from error


def _kind(kind: str) -> Kind:
    if kind not in KINDS:
        raise PluginError(f"there are no plug-ins of the kind {kind!r}: the kinds are {', '.join(KINDS)}")
    return KINDS[kind]


def _import_file(kind: Kind, path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"{kind.word} {path}: there is no such file")
    name = f"edgeticket_plugin_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling in the plug-in look themselves up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _explained(kind, path, error) from error
    return module


def _checked(module: ModuleType, kind: Kind, place: str) -> ModuleType:
    absent = [_described(name) for name in kind.required if not _is_defined(module, name)]
    if absent:
        raise PluginError(f"{kind.word} {place} defines no {' and no '.join(absent)} at module level")
    return module


def _described(name: str) -> str:
    return f"constant {name}" if name.isupper() else f"function {name}(...)"


def _is_defined(module: ModuleType, name: str) -> bool:
    return hasattr(module, name) and (name.isupper() or callable(getattr(module, name)))


def _explained(kind: Kind, path: Path, error: BaseException) -> PluginError:
    """The error with the line of the plug-in that it came from; a plug-in that is merely incomplete stays as it is."""
    if isinstance(error, PluginError):
        return error
    own = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).resolve() == path.resolve()]
    if own:
        place = f"{path}, line {own[-1].lineno}"
    elif isinstance(error, SyntaxError):
        place = f"{error.filename or path}, line {error.lineno}"
    else:  # it was called in another way than it is written
        place = str(path)
    return PluginError(f"{kind.word} {place}: {type(error).__name__}: {error}")
