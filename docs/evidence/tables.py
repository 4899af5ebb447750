"""docs/evidence.md from docs/evidence/results.jsonl."""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

from _runs import results
from rows import SECTIONS, Section

Rows = list[dict[str, Any]]
HEAD = """# Evidence

Made by `make evidence`: `edgeticket find ARGUMENTS --seed 0`, then 1, ...; resumable, search by search. Means with the standard
deviation over seeds, on the certify part, which chose nothing. Packed bytes count every parameter that a device needs, by one
function for tickets and rivals alike (`edgeticket show`); `of int8` is their ratio to the same network with every weight an int8.
Adds are kept edges, multiplies those of int8 layers, both of one inference; `work` is their sum in multiply-accumulates of the
same network without a mask. Float networks are trained for the same steps at step 0.5, the best of 0.1 to 2 (docs/notes.md).

Every row says how many seeds it has; rows with fewer than their section asks for are not finished (`make evidence` goes on). The
first section and most of "Other networks" were searched before the units of scales and biases had their final number of bits: their
values were put on those grids afterwards, which moves them by 1e-5 of themselves, to be weighed; accuracy is as found.
"""
COLUMNS = (
    "arguments",
    "network",
    "seeds",
    "figure",
    "purity",
    "widths",
    "packed",
    "of int8",
    "adds",
    "multiplies",
    "work",
    "CPU s",
)


def page(file: Path) -> str:
    return "\n".join([HEAD, *(part for section in SECTIONS.values() for part in table(file, section))])


def table(file: Path, section: Section) -> list[str]:
    found = {row: results(file, section.arguments(row)) for row in section.rows}
    lines = [
        line(section, row, rows, i)
        for row, rows in found.items()
        for i in range(len(rows[0]["results"]) if rows else 0)
    ]
    if not lines:
        return []
    common = f"`{section.common}`\n\n" if section.common else ""
    told = sorted(
        {
            f"- seed {row['seed']}, `{section.rows[name]}`: {row['verdict']}"
            for name, rows in found.items()
            for row in rows
            if row["verdict"]
        }
    )
    return [
        f"## {section.title}\n\n{common}| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|",
        "\n".join(lines) + "\n",
        *(["\n".join(told) + "\n"] if told else []),
    ]


def line(section: Section, name: str, rows: Rows, i: int) -> str:
    result, sizes, total = rows[0]["results"][i], rows[0]["bytes"], rows[0]["total"]
    own = result["name"] == "ticket"
    packed = mean(row["bytes"]["packed"] for row in rows)
    macs, kept, learned = total["macs"]["after"], total["kept_macs"], rows[0].get("learned_macs", 0)
    cells = [
        f"`{section.rows[name]}`" if i == 0 else "",
        result["name"],
        str(len(rows)),
        figure(rows, i),
        result["purity"],
        "-".join(map(str, result["widths"].values()))
        if len(result["widths"]) < 8
        else f"{len(result['widths'])} layers",
        *(
            [
                f"{packed:,.0f}",
                f"{packed / sizes['int8']:.2f}x",
                f"{kept - learned:,}",
                f"{learned:,}",
                f"{kept / macs:.2f}x",
            ]
            if own
            else [""] * 5
        ),
        f"{mean(row['results'][i]['cpu_seconds'] for row in rows):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def figure(rows: Rows, i: int) -> str:
    key = next(key for key in ("accuracy", "auc", "r2") if key in rows[0]["results"][i])
    values = [row["results"][i][key] * (100 if key == "accuracy" else 1) for row in rows]
    digits = 2 if key == "accuracy" else 4
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
