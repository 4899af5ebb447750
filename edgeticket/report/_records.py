"""What several parts of the page read out of a record of a proof of concept (edgeticket/poc/record.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Section = Mapping[str, Any]  # what the template gets of one
PARTS = ("train", "select", "certify")


def found(record: Row) -> list[Row]:
    """The searches that gave a ticket."""
    return [row for row in record["rows"] if "failed" not in row]


def sparser(record: Row) -> list[Row]:
    """The further searches at lower densities that gave a ticket."""
    return [row for row in record["sparser"] if "failed" not in row]


def rivals(record: Row) -> dict[str, list[Row]]:
    """Networks for comparison by name, without those that could not be made; in the order of the record."""
    named: dict[str, list[Row]] = {}
    for row in record["rivals"]:
        if "failed" not in row:
            named.setdefault(row["name"], []).append(row)
    return named


def middle(rows: Sequence[Row]) -> Row:
    """The row whose judged figure has as many above as below it."""
    return sorted(rows, key=lambda row: (row["certify"], row["seed"]))[len(rows) // 2]


def benched(record: Row, name: str) -> Row | None:
    """What was measured of the file of that name beside the chosen ticket."""
    rows = record["chosen"]["bench"] if record["chosen"] else []
    return next((row for row in rows if row["name"] == name), None)


def first_seeds(record: Row) -> dict[str, str]:
    """Rival by the file of its first seed: the one that was measured beside the chosen ticket."""
    return {rows[0]["onnx"]: name for name, rows in rivals(record).items() if "onnx" in rows[0]}


def shipped(record: Row, kind: str) -> Row | None:
    """The file of the chosen ticket that is `kind`: float, int8 or C99."""
    files = record["chosen"]["files"] if record["chosen"] else []
    return next((file for file in files if file["what"] == kind), None)


def verified(record: Row, name: str) -> Row | None:
    """Figures of a file as the chain of proof measured them."""
    chain = record["chosen"]["chain"]
    rows: list[Row] = next((chain[word] for word in ("accuracy", "rmse", "auc") if word in chain), [])
    return next((row["figures"] for row in rows if row["what"] == name), None)
