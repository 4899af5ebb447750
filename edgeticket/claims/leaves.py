"""Two records, leaf by leaf: what the told one says and the derived one does not bear out."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

EXACT = 1e-9  # relative: sums in another order, and the way through decimal digits


@dataclass(frozen=True)
class Near:
    """A number that may be off by so much."""

    value: float
    off: float


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of everything that holds nothing further; an empty list or mapping is one."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value:
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, value


def anonymous(path: str) -> str:
    """ "rows[3].bytes" is "rows[].bytes"."""
    return re.sub(r"\[\d+\]", "[]", path)


def within(path: str, place: str) -> bool:
    """Whether a leaf is `place`, or in it."""
    name = anonymous(path)
    return name == place or name.startswith((f"{place}.", f"{place}["))


def agrees(told: Any, derived: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (told, derived)]
    if isinstance(derived, Near):
        return numbers[0] and abs(told - derived.value) <= derived.off
    if all(numbers):
        return isclose(told, derived, rel_tol=EXACT, abs_tol=1e-12)
    return type(told) is type(derived) and told == derived


def shown(value: Any) -> str:
    return f"{value.value!r}" if isinstance(value, Near) else repr(value)
