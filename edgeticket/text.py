"""Text for a terminal."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """A line a row, columns two spaces apart; `align` ("<" or ">") per column, the rest to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = align.ljust(len(widths), ">")
    return ["  ".join(f"{cell:{align[i]}{widths[i]}}" for i, cell in enumerate(row)).rstrip() for row in rows]


def printable(text: str) -> str:
    """With a `?` for each character that could drive a terminal: for text from a file, a tool or another machine."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
