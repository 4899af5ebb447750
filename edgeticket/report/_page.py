"""The page itself: contents in the template."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from re import sub
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from edgeticket.errors import UsageError
from edgeticket.report._contents import contents
from edgeticket.report._words import load

# What no page can be made without.
NEEDED = {
    "request",
    "data",
    "bar",
    "rows",
    "sparser",
    "rivals",
    "indicators",
    "chosen",
    "verdict",
    "environment",
    "prices",
}


def page(record: Mapping[str, Any], language: str) -> bytes:
    """What `edgeticket.report.render` gives."""
    missing = sorted({*NEEDED, "protocol", "seal"} - record.keys())
    if missing:
        raise _unfit(f"{', '.join(missing)} is missing")
    try:
        words = load(language, record["bar"]["headline"])
        told = contents(record, words)
    except (LookupError, TypeError, AttributeError) as error:
        raise _unfit(f"{type(error).__name__} {error}") from error
    style = Markup((files(__package__) / "page.css").read_text(encoding="utf-8"))
    return _template().render(record=record, words=words, style=style, **told).encode()


def _unfit(what: str) -> UsageError:
    return UsageError(
        f"the record does not hold what its format says ({what}): make it again with `edgeticket poc`, "
        "or its report with the version of edgeticket that it names"
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["prose"] = prose
    return environment.from_string((files(__package__) / "page.html").read_text(encoding="utf-8"))


def prose(text: str) -> Markup:
    """Escaped; what stands between backticks is code."""
    return Markup(sub(r"`([^`]+)`", r'<code lang="en">\1</code>', str(escape(text))))
