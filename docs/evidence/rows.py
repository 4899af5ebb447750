"""Which searches docs/evidence.md shows: every row is a command that anyone can type.

A section's rows share the data; `seeds` of a row that decides are 0 to 4, of others fewer. Sizes of rivals were searched on seeds
3 and 4, on the select part (docs/notes.md).
"""

from dataclasses import dataclass

FIVE, THREE, ONE = (0, 1, 2, 3, 4), (0, 1, 2), (0,)
INT8 = "--learn all"  # every layer learned under int8 rounding: the usual network, quantisation-aware


SEED_METHODS = (
    "subset_sum",
    "edge_popup",
    "biprop",
    "gem_miner",
    "n_m_groups",
    "concrete_gates",
    "gradient_free",
    "random_mask",
)
SIGNED = ("iterand", "signed_supermask")
SMALL = "-d fashion-mnist --images 10000 --epochs 10"


@dataclass(frozen=True)
class Section:
    title: str
    common: str
    seeds: tuple[int, ...]
    rows: dict[str, str]  # name -> arguments of `edgeticket find`

    def arguments(self, row: str) -> str:
        return f"{self.rows[row]} {self.common}".strip()


SECTIONS = {
    "masks": Section(
        "Masks against a float network of the same shape",
        "-d fashion-mnist --images 30000 --epochs 10",
        FIVE,
        {
            "default": "-m conv:16,32,32 --float-control",
            "pure": "-m conv:16,32,32 --pure",
            "quarter": "-m conv:16,32,32 --density 0.083333",
            "rich": "-m conv:16,32,32 --pure --edges 8 --density 0.25",
            "signs": "-m conv:16,32,32 --signs learned",
            "signs-quarter": "-m conv:16,32,32 --signs learned --density 0.25",
        },
    ),
    "networks": Section(
        "Other networks and tasks",
        "",
        THREE,
        {
            "bearing": "-m wave -d synthetic-bearing --epochs 30 --batch 64 --float-control",
            "bearing-pure": "-m wave -d synthetic-bearing --epochs 30 --batch 64 --pure",
            "plaid": "-m wave -d plaid --epochs 60 --batch 32 --float-control",
            "plaid-pure": "-m wave -d plaid --epochs 60 --batch 32 --pure",
            "shuttle": "-m autoencoder -d shuttle --epochs 10 --float-control",
            "ds-cnn": f"-m ds-cnn {SMALL} --float-control",
            "mobilenet": f"-m mobilenet-v1-025 {SMALL} --float-control",
            "resnet8": f"-m resnet8 {SMALL} --float-control",
            "resnet8-pure": f"-m resnet8 {SMALL} --pure",
        },
    ),
    "bytes": Section(
        "At equal bytes",
        "-d fashion-mnist --images 30000 --epochs 10",
        THREE,
        {
            "ticket-1500": "-m conv:8,16,16 --edges 8 --density 0.1875",
            "signs-1500": "-m conv:12,24,24 --signs learned --density 0.5",
            "binary-1500": "-m conv:12,24,24 --signs learned --density 1",
            "int8-1500": f"-m conv:5,9,9 {INT8}",
            "ticket-2500": "-m conv:12,24,24 --edges 6 --density 0.125",
            "binary-2500": "-m conv:16,32,32 --signs learned --density 1",
            "int8-2500": f"-m conv:7,12,12 {INT8}",
        },
    ),
    "bytes-bearing": Section(
        "At equal bytes, vibration",
        "-d synthetic-bearing --epochs 30 --batch 64",
        FIVE,
        {
            "ticket": "-m wave:8,16,24,24 --edges 6 --density 0.125",
            "ticket-pure": "-m wave:8,16,24,24 --edges 6 --density 0.125 --pure",
            "binary": "-m wave:10,18,34,34 --signs learned --density 1",
            "int8": f"-m wave:5,8,14,14 {INT8}",
        },
    ),
    "work": Section(
        "At equal accuracy: less work, fewer bytes",
        "-d fashion-mnist --images 30000 --epochs 10",
        THREE,
        {
            "narrow-stem": "-m conv:8,48,48 --density 0.083333",
            "narrow-stem-sparse": "-m conv:8,48,48 --density 0.05",
            "narrow-stem-signs": "-m conv:8,48,48 --signs learned --density 0.15",
            "four-edges": "-m conv:16,32,32 --edges 4 --density 0.0875",
        },
    ),
    "work-bearing": Section(
        "At equal accuracy, vibration",
        "-d synthetic-bearing --epochs 30 --batch 64",
        FIVE,
        {
            "float": "-m wave --float-control",
            "quarter": "-m wave --density 0.083333",
            "sparse": "-m wave --density 0.05",
            "signs-quarter": "-m wave --signs learned --density 0.25",
            "signs-sparse": "-m wave --signs learned --density 0.15",
        },
    ),
    "methods": Section(
        "Search methods, one edge, density 0.5",
        "-m conv:16,32,32 -d fashion-mnist --images 15000 --epochs 10 --edges 1 --density 0.5",
        THREE,
        {name: f"--method {name}" for name in SEED_METHODS}
        | {name: f"--method {name} --signs learned" for name in SIGNED},
    ),
    "methods-sparse": Section(
        "Search methods, one edge, density 0.1",
        "-m conv:32,64,64 -d fashion-mnist --images 6000 --epochs 5 --edges 1 --density 0.1",
        ONE,
        {name: f"--method {name}" for name in SEED_METHODS}
        | {name: f"--method {name} --signs learned" for name in SIGNED},
    ),
    "budget": Section(
        "A latency budget: widths by worth per cost, against the same network scaled alike, and against its own widths from the start",
        "--uniform-control",
        THREE,
        {
            "conv": "-m conv:64,128,128 -d fashion-mnist --images 15000 --epochs 6 --budget latency=0.03ms@cpu",
            "resnet8": "-m resnet8:32,64,128 -d fashion-mnist --images 5000 --epochs 6 --budget latency=0.06ms@cpu",
            "bearing": "-m wave:32,64,128,128 -d synthetic-bearing --epochs 30 --batch 64 --budget latency=0.015ms@cpu",
            "plaid": "-m wave:32,64,128,128 -d plaid --epochs 60 --batch 32 --budget latency=0.012ms@cpu",
        },
    ),
    "curve": Section(
        "Bits of a weight against accuracy",
        "-m conv:16,32,32 -d fashion-mnist --images 15000 --epochs 6 --pure",
        THREE,
        {
            **{f"one-{kept}": f"--edges 1 --density {kept}" for kept in (0.1, 0.25, 0.5)},
            **{f"two-{kept}": f"--edges 2 --density {kept / 2}" for kept in (0.5, 1)},
            **{f"three-{kept}": f"--edges 3 --density {kept / 3:.6f}" for kept in (0.25, 0.5, 1)},
            **{f"eight-{kept}": f"--edges 8 --density {kept / 8}" for kept in (0.5, 1, 2)},
            "sixteen-4": "--edges 16 --density 0.25",
        },
    ),
}
