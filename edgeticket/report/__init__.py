"""A record of a proof of concept as one self-contained page: readable without scripts, on a phone and on paper.

verdict     three sentences            words      texts and numbers of a language (en.yaml, ja.yaml)
contents    what the sections hold     tables     of networks
readings    those that are text        evidence   tables of the chosen ticket and of the run
costs       bytes and money            pictures   what is drawn
records     reading a record           svg        a matplotlib figure as accessible inline SVG
page        page.html (Jinja2) filled in, with page.css in it
"""

from collections.abc import Mapping
from typing import Any

from edgeticket.report._verdict import sentences
from edgeticket.report._words import LANGUAGES, load

__all__ = ["LANGUAGES", "render", "verdict"]


def verdict(record: Mapping[str, Any], language: str = "en") -> dict[str, Any]:
    """`meaning`, `reason` and `change`: three sentences; `reasons` and `changes`: further ones."""
    return sentences(record, load(language, record["bar"]["headline"]))


def render(record: Mapping[str, Any], language: str = "en") -> bytes:
    """The page of a sealed record, in UTF-8. Same record, same bytes. Needs the packages of `edgeticket[report]`.

    Raises UsageError for a language that there is not, and for a record that does not hold what its format says.
    """
    from edgeticket.report._page import page

    return page(record, language)
