"""Searches whose results are kept: one line of JSON each, not run again while their arguments stay the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgeticket.describe import describe
from edgeticket.ticket import read_ticket

HERE = Path(__file__).parent
BUDGET_MISSED = 3
RUNS = HERE.parent.parent / "runs" / "evidence"


def results(file: Path, arguments: str) -> list[dict[str, Any]]:
    """What was found with these arguments, of every seed."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [row for row in rows if row["arguments"] == arguments]


def run(file: Path, name: str, arguments: str, seed: int) -> None:
    """`edgeticket find ARGUMENTS --seed SEED`, unless `file` has it; an interrupted one goes on where it stopped."""
    if any(row["seed"] == seed for row in results(file, arguments)):
        return
    RUNS.mkdir(parents=True, exist_ok=True)
    ticket = RUNS / f"{name}-{seed}.ticket"
    resume = ["--resume"] if ticket.with_name(ticket.name + ".checkpoint").exists() else []
    words = f"find {arguments} --seed {seed} -o {ticket} --overwrite --format json"
    command = [sys.executable, "-m", "edgeticket", *words.split(), *resume]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode not in (0, BUDGET_MISSED):  # a row that misses its budget says so
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    found = json.loads(done.stdout)
    row = {"arguments": arguments, "seed": seed} | sizes(ticket)
    row |= {key: found[key] for key in ("results", "verdict", "budget", "trials")}
    with file.open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def sizes(ticket: Path) -> dict[str, Any]:
    """What a ticket weighs, as packet.py counts today."""
    about = describe(read_ticket(ticket))
    learned = sum(layer["kept_macs"] for layer in about["layers"] if layer["kind"] == "int8")
    return {key: about[key] for key in ("inputs", "bytes", "total")} | {"learned_macs": learned}
