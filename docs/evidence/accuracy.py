"""Accuracy figures of docs/evidence.md: every row is a command that anyone can type. Resumable, row by row.

python docs/evidence/accuracy.py            run what is missing, then write docs/evidence.md
python docs/evidence/accuracy.py ROW ...    the same for these rows alone (two processes may share the work)
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from edgeticket.describe import describe
from edgeticket.ticket import read_ticket

HERE = Path(__file__).parent
RESULTS = HERE / "accuracy.jsonl"
TABLE = HERE.parent / "evidence.md"
RUNS = HERE.parent.parent / "runs" / "evidence"
COMMON = "-d fashion-mnist --images 30000 --epochs 10"
SEEDS = (0, 1, 2)
ROWS = {
    "one": "-m conv:16,32,32 --density 0.5 --float-control --float-step 0.1",
    "wide": "-m conv:32,64,64 --density 0.1",
    "signs": "-m conv:16,32,32 --density 0.5 --signs learned --float-control --float-step 0.2",
    "pure": "-m conv:16,32,32 --density 0.5 --pure --float-control --float-step 0.05",
    "edges": "-m conv:16,32,32 --density 0.166667 --edges 3 --float-control --float-step 0.5",
    "keep": "-m conv:64,128,128 --keep 0.25 --density 0.5",
}


def main() -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    done = {(row["row"], row["seed"], row["arguments"]) for row in results()}
    wanted = sys.argv[1:] or list(ROWS)
    for seed in SEEDS:
        for name in wanted:
            if (name, seed, ROWS[name]) not in done:
                run(name, seed, ROWS[name])
    TABLE.write_text(table())


def results() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run(name: str, seed: int, arguments: str) -> None:
    ticket = RUNS / f"{name}-{seed}.ticket"
    checkpoint = ticket.with_name(ticket.name + ".checkpoint")
    words = [
        *arguments.split(),
        *COMMON.split(),
        "--seed",
        str(seed),
        "-o",
        str(ticket),
        "--overwrite",
        "--format",
        "json",
    ]
    command = [sys.executable, "-m", "edgeticket", "find", *words, *(["--resume"] if checkpoint.exists() else [])]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    about = describe(read_ticket(ticket))
    row = {
        "row": name,
        "seed": seed,
        "arguments": arguments,
        "bytes": about["bytes"],
        "total": about["total"],
        **{key: found[key] for key in ("results", "verdict", "digest")},
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def networks(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]], dict[str, Any]]]:
    """(title, results of all seeds, a row that shows the ticket's bytes) for each network of each row."""
    for name, arguments in ROWS.items():
        own = [row for row in rows if row["row"] == name and row["arguments"] == arguments]
        for i, result in enumerate(own[0]["results"] if own else ()):
            yield f"{arguments} · {result['name']}", [row["results"][i] for row in own], own[0]


def table() -> str:
    lines = [
        "# Evidence",
        "",
        f"Made by `make evidence` (`edgeticket find ... {COMMON} --seed 0|1|2`); all 10,000 test images certify, none chose.",
        "Mean of the seeds, with their standard deviation; bytes count every parameter (`edgeticket show`).",
        "",
        "| command and network | seeds | accuracy | purity | widths | packed bytes | int8 bytes of the shape | kept MACs | MACs | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, found, row in networks(results()):
        scores = [100 * result["accuracy"] for result in found]
        spread = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
        ticket = found[0]["name"] == "ticket"
        cells = [
            f"`{title.split(' · ')[0]}` {found[0]['name']}",
            str(len(scores)),
            f"{mean(scores):.2f}{spread}",
            found[0]["purity"],
            "-".join(map(str, found[0]["widths"].values())),
            f"{row['bytes']['packed']:,}" if ticket else "",
            f"{row['bytes']['int8']:,}",
            f"{row['total']['kept_macs']:,}" if ticket else "",
            f"{row['total']['macs']['after']:,}",
            f"{mean(result['cpu_seconds'] for result in found):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
