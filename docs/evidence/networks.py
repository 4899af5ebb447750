"""Figures of docs/networks.md: each named network on data of its kind, with the float network of the same shape beside it.

python docs/evidence/networks.py            run what is missing, then write docs/networks.md
python docs/evidence/networks.py ROW ...    the same for these rows alone (two processes may share the work)
"""

import sys
from statistics import mean
from typing import Any

from _runs import HERE, results, run

RESULTS = HERE / "networks.jsonl"
TABLE = HERE.parent / "networks.md"
SEEDS = (0, 1, 2)
FLOAT_STEPS = (0.5, 0.1)  # the better one on the select part is the float network
SMALL = "-d fashion-mnist --images 10000 --epochs 10"
ROWS = {
    "wave": "-m wave -d synthetic-bearing --epochs 30 --batch 64",
    "wave-plaid": "-m wave -d plaid --epochs 60 --batch 32",
    "autoencoder": "-m autoencoder -d shuttle --epochs 10",
    "autoencoder-signs": "-m autoencoder -d shuttle --epochs 10 --signs learned",
    "mobilenet": f"-m mobilenet-v1-025 {SMALL}",
    "mobilenet-signs": f"-m mobilenet-v1-025 {SMALL} --signs learned",
    "mobilenet-depthwise": f"-m mobilenet-v1-025 {SMALL} --learn stem,head,depthwise",
    "ds-cnn": f"-m ds-cnn {SMALL}",
    "ds-cnn-signs": f"-m ds-cnn {SMALL} --signs learned",
    "ds-cnn-depthwise": f"-m ds-cnn {SMALL} --learn stem,head,depthwise",
    "resnet8": f"-m resnet8 {SMALL}",
}


def main() -> None:
    for seed in SEEDS:
        for name in sys.argv[1:] or ROWS:
            for step in FLOAT_STEPS:
                run(RESULTS, f"{name}-{step}", arguments(name, step), seed)
    TABLE.write_text(table())


def arguments(name: str, step: float) -> str:
    return f"{ROWS[name]} --float-control --float-step {step}"


def table() -> str:
    lines = [
        "# Named networks",
        "",
        "Made by `python docs/evidence/networks.py`: `edgeticket find ARGUMENTS --float-control` with float step 0.5, and again",
        "with 0.1; the float network is the better of the two on the select part. Means over the seeds; the certify part chose",
        "nothing. Rows of mobilenet, ds-cnn and resnet8 were made before norm statistics were taken from all over the data (the",
        "fashion sample moved by 6 of 10,000 answers). Learned: share of weights, and of packed bytes, that are int8. `of int8`: packed bytes of the ticket to those of",
        "the same network as plain int8. The figure is accuracy in %, or AUC for shuttle.",
        "",
        "| arguments | reads | seeds | ticket | float | purity | learned | packed bytes | of int8 | kept MACs of MACs |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return (
        "\n".join([*lines, *(line(name) for name in ROWS if results(RESULTS, arguments(name, FLOAT_STEPS[0])))]) + "\n"
    )


def line(name: str) -> str:
    by_step = [results(RESULTS, arguments(name, step)) for step in FLOAT_STEPS]
    rows = by_step[0]
    word = "auc" if "auc" in rows[0]["results"][0] else "accuracy"
    floats = max((found for found in by_step if found), key=lambda found: mean_of(found, 1, f"select_{word}"))
    (shape,), total, sizes = (one["shape"] for one in rows[0]["inputs"].values()), rows[0]["total"], rows[0]["bytes"]
    score = (lambda value: f"{value:.4f}") if word == "auc" else (lambda value: f"{100 * value:.2f}")
    cells = [
        f"`{ROWS[name]}`",
        "x".join(map(str, shape)),
        str(len(rows)),
        score(mean_of(rows, 0, word)),
        score(mean_of(floats, 1, word)),
        rows[0]["results"][0]["purity"],
        f"{total['learned_share_of_weights']:.1%}, {total['learned_share_of_bytes']:.1%}",
        f"{sizes['packed']:,}",
        f"{sizes['packed'] / sizes['int8']:.2f}x",
        f"{total['kept_macs'] / total['macs']['after']:.2f}x",
    ]
    return "| " + " | ".join(cells) + " |"


def mean_of(rows: list[dict[str, Any]], i: int, key: str) -> float:
    return mean(row["results"][i][key] for row in rows)


if __name__ == "__main__":
    main()
