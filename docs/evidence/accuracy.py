"""Accuracy figures of docs/evidence.md: every row is a command that anyone can type. Resumable, row by row.

python docs/evidence/accuracy.py            run what is missing, then write docs/evidence.md
python docs/evidence/accuracy.py ROW ...    the same for these rows alone (two processes may share the work)
"""

import sys
from statistics import mean, stdev
from typing import Any

from _runs import HERE, results, run

RESULTS = HERE / "accuracy.jsonl"
TABLE = HERE.parent / "evidence.md"
COMMON = "-d fashion-mnist --images 30000 --epochs 10"
SEEDS = (0, 1, 2)
ROWS = {
    "one": "-m conv:16,32,32 --density 0.5 --float-control --float-step 1",
    "wide": "-m conv:32,64,64 --density 0.1",
    "signs": "-m conv:16,32,32 --density 0.5 --signs learned --float-control --float-step 0.5",
    "pure": "-m conv:16,32,32 --density 0.5 --pure --float-control --float-step 0.2",
    "edges": "-m conv:16,32,32 --density 0.166667 --edges 3 --float-control --float-step 0.1",
    "keep": "-m conv:64,128,128 --keep 0.25 --density 0.5",
}


def main() -> None:
    for seed in SEEDS:
        for name in sys.argv[1:] or ROWS:
            run(RESULTS, name, f"{ROWS[name]} {COMMON}", seed)
    TABLE.write_text(table())


def table() -> str:
    found = {name: results(RESULTS, f"{arguments} {COMMON}") for name, arguments in ROWS.items()}
    floats = [
        (mean_of(rows, -1, "select_accuracy"), name) for name, rows in found.items() if "float" in ROWS[name] and rows
    ]
    best = max(floats)[1] if floats else ""
    bar = mean_of(found[best], -1, "accuracy") if best else 0.0
    lines = [
        "# Evidence",
        "",
        f"Made by `make evidence`: `edgeticket find ARGUMENTS {COMMON} --seed 0`, then 1, then 2. Means, with the standard",
        "deviation over seeds; all 10,000 test images certify and none chose. Bytes count every parameter (`edgeticket show`).",
        "Float networks of the same shape are trained for the same steps at four step sizes; the select part, not the test",
        f"images, says which is best: {ROWS[best].split()[-1] if best else 'none yet'}. The last column is the distance to that.",
        "",
        "| arguments | network | seeds | accuracy | purity | widths | packed bytes | of int8 | kept MACs | of MACs | CPU s | to float |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        for i in range(len(rows[0]["results"]) if rows else 0):
            lines.append(line(name, rows, i, bar, found["one"][0] if found["one"] else rows[0]))
    return "\n".join([*lines, "", *verdicts(found)]) + "\n"


def mean_of(rows: list[dict[str, Any]], i: int, key: str) -> float:
    return mean(row["results"][i][key] for row in rows)


def line(name: str, rows: list[dict[str, Any]], i: int, bar: float, peer: dict[str, Any]) -> str:
    scores = [100 * row["results"][i]["accuracy"] for row in rows]
    spread = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
    result, sizes, total = rows[0]["results"][i], rows[0]["bytes"], rows[0]["total"]
    ticket = result["name"] == "ticket"
    cells = [
        f"`{ROWS[name]}`",
        result["name"],
        str(len(scores)),
        f"{mean(scores):.2f}{spread}",
        result["purity"],
        "-".join(map(str, result["widths"].values())),
        f"{sizes['packed']:,}" if ticket else "",
        f"{sizes['packed'] / peer['bytes']['int8']:.2f}x" if ticket else "",
        f"{total['kept_macs']:,}" if ticket else "",
        f"{total['kept_macs'] / peer['total']['macs']['after']:.2f}x" if ticket else "",
        f"{mean_of(rows, i, 'cpu_seconds'):.0f}",
        f"{mean(scores) - 100 * bar:+.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def verdicts(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    peer = [
        f"`of int8` and `of MACs` are ratios to the float 16-32-32 network: {row['bytes']['int8']:,} bytes as int8, "
        f"{row['total']['macs']['after']:,} MACs."
        for row in found["one"][:1]
    ]
    return peer + [
        f"Channel search against the narrow control, seed {row['seed']}: {row['verdict']}."
        for rows in found.values()
        for row in rows
        if row["verdict"]
    ]


if __name__ == "__main__":
    main()
