"""Words and numbers of a language: texts from LANGUAGE.yaml beside this file, numbers as they are usual there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil, floor, isfinite
from typing import Any

import yaml

from edgeticket.errors import UsageError

LANGUAGES = ("en", "ja")
PERCENT = "accuracy"  # the headline that is shown in percent
GIGA = 1e9
_SLACK = 1e-9  # of a number that is rounded to the safe side: 0.95 is 95.0 %, not 94.9 %


@dataclass(frozen=True)
class Words:
    """`words(key, name=value)`: the text of that key with its placeholders filled in. `headline`: the figure of quality."""

    language: str
    texts: Mapping[str, Any]
    headline: str

    def __call__(self, key: str, **values: Any) -> str:
        if key not in self.texts:
            raise KeyError(f"no text {key}")
        text: str = self.texts[key]
        return text.format(**values)

    def __contains__(self, key: str) -> bool:
        return key in self.texts

    def lines(self, key: str, **values: Any) -> list[str]:
        return [line.format(**values) for line in self.texts[key]]

    @property
    def headline_word(self) -> str:
        return self(f"headline.{self.headline}")

    @property
    def headline_title(self) -> str:
        """The same at the beginning of a sentence."""
        return self.headline_word[:1].upper() + self.headline_word[1:]

    def either(self, key: str, otherwise: str) -> str:
        """The text of `key`, or `otherwise` where a record names something that this page has no words for."""
        return self(key) if key in self.texts else otherwise

    # numbers

    def percent(self, share: float, digits: int = 1) -> str:
        return self("format.percent", number=f"{100 * share:.{digits}f}")

    def at_least(self, share: float) -> str:
        """A lower bound, never rounded up."""
        return self.percent(floor(1000 * share + _SLACK) / 1000)

    def at_most(self, share: float) -> str:
        """An upper bound, never rounded down."""
        return self.percent(ceil(1000 * share - _SLACK) / 1000)

    def level(self, share: float) -> str:
        """A share that somebody chose, such as 95 %."""
        return self("format.percent", number=f"{100 * share:.4g}")

    def count(self, number: float) -> str:
        if abs(number) >= GIGA:
            return self("format.giga", number=f"{number / GIGA:,.4g}")
        return f"{number:,.0f}"

    def size(self, number: float) -> str:
        return self("format.bytes", number=f"{number:,.0f}")

    def figure(self, number: float) -> str:
        """Four significant digits, grouped."""
        if not isfinite(number) or number == 0:
            return f"{number:g}"
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"

    def milliseconds(self, number: float | None) -> str:
        return self("format.unmeasured") if number is None else self("format.milliseconds", number=three_digits(number))

    def duration(self, seconds: float) -> str:
        if seconds < 120:
            return self("format.seconds", number=f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}")
        if seconds < 7200:
            return self("format.minutes", number=f"{seconds / 60:.1f}")
        return self("format.hours", number=f"{seconds / 3600:,.1f}")

    def quality(self, value: float) -> str:
        """A figure of the record's headline: accuracy in percent, the others as they are."""
        return self.percent(value, 2) if self.headline == PERCENT else self.plain(value)

    def plain(self, value: float) -> str:
        """The same without its unit, as inside an interval or on an axis."""
        return f"{100 * value:.2f}" if self.headline == PERCENT else f"{value:.4f}"

    def difference(self, value: float, sign: str = "") -> str:
        """Between two figures of the headline; `sign` "+" shows that of a gain too."""
        shown = 100 * value if self.headline == PERCENT else value
        number = (f"{shown:+.2f}" if sign and self.headline == PERCENT else f"{shown:{sign}.3g}").replace("-", "−")
        return self("format.points", number=number) if self.headline == PERCENT else number

    def interval(self, value: float, low: float, high: float) -> str:
        return self("format.interval", value=self.quality(value), low=self.plain(low), high=self.plain(high))

    def money(self, number: float, currency: str) -> str:
        amount = f"{number:,.2f}" if abs(number) >= 1 else f"{number:.3g}"
        return self("format.money", number=amount, currency=currency).strip()

    def list(self, texts: list[str]) -> str:
        return self("format.list").join(texts)


def three_digits(number: float) -> str:
    """As a scale shows it: 0.0210, 2.10, 210, 2,100."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:#.3g}"


def load(language: str, headline: str) -> Words:
    """Raises UsageError for a language that has no texts."""
    if language not in LANGUAGES:
        raise UsageError(f"--lang {language}: there is {', '.join(LANGUAGES)}")
    return Words(language, _texts(language), headline)


@cache
def _texts(language: str) -> dict[str, Any]:
    text = (files(__package__) / f"{language}.yaml").read_text(encoding="utf-8")
    return dict(_flat(yaml.safe_load(text)))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
