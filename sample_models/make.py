"""Make the sample tickets again, each by the command beside it: `python -m sample_models.make [NAME ...]`.

Beside NAME.ticket lies NAME.npz, its golden vectors: `raw` [16, *input shape], the first examples of the certify part;
`outputs` float64, what the compacted network gives for them; `codes`, what the integer network gives; `correct` and `of`: right
answers of the compacted network on the whole certify part. Same machine, same versions: same bytes. README.md is made of both.
"""

import io
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeticket import integer, reference
from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.data import Data, load
from edgeticket.errors import DataError
from edgeticket.files import write_atomic
from edgeticket.ticket import Ticket, read_ticket

FOLDER = Path(__file__).parent
GOLDEN = 16
SAMPLES = {
    "digits": "find -m conv:16,32,32 -d digits --seed 7 --epochs 40 --threads 1",
    "fashion": "find -m conv:16,32,32 -d fashion-mnist --images 30000 --epochs 10 --seed 0 --threads 1",
}
HEAD = """# Sample tickets

Small real tickets, made by `make sample` (`python -m sample_models.make NAME` makes one alone). `NAME.npz` holds golden
vectors: 16 raw inputs of the certify part, the float64 outputs of the compacted network and the codes of the integer network,
and how many of the certify part the network answers right. The digits data have a licence note of their own, DIGITS-LICENCE.txt.

| ticket | command | bytes | purity | certify part |
| --- | --- | --- | --- | --- |
"""


def make(name: str, command: str, folder: Path = FOLDER) -> None:
    """Write NAME.ticket and NAME.npz to `folder`. Raises DataError, before any work, where the data are missing."""
    words = shlex.split(command)
    data = load(words[words.index("-d") + 1])
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as aside:
        made = Path(aside) / f"{name}.ticket"
        code = main([*words, "-o", str(made)], standalone_mode=False)
        if code:
            raise SystemExit(code)
        ticket = read_ticket(made)
    ticket.write(folder / f"{name}.ticket")
    write_atomic(folder / f"{name}.npz", packed(golden(ticket, data)))


def golden(ticket: Ticket, data: Data) -> Mapping[str, np.ndarray]:
    model = compact(ticket)
    raw, labels = data.certify
    few = raw[:GOLDEN]
    correct = int((reference.run(model, raw).argmax(1) == labels).sum())
    return {
        "raw": few,
        "outputs": reference.run(model, few),
        "codes": integer.run(integer.integerise(model), few),
        "correct": np.array(correct),
        "of": np.array(len(labels)),
    }


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz without the time of day in it."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def readme(folder: Path = FOLDER) -> str:
    """README.md for the tickets that are there."""
    return HEAD + "".join(_row(folder, name) for name in SAMPLES if (folder / f"{name}.ticket").exists())


def _row(folder: Path, name: str) -> str:
    path = folder / f"{name}.ticket"
    ticket = read_ticket(path)
    with np.load(folder / f"{name}.npz") as vectors:
        correct, of = int(vectors["correct"]), int(vectors["of"])
    command = f"edgeticket {SAMPLES[name]} -o {name}.ticket"
    share = f"{correct:,} of {of:,} = {100 * correct / of:.2f} %"
    return f"| {name}.ticket | `{command}` | {path.stat().st_size:,} | {ticket.purity} | {share} |\n"


def make_all(names: list[str]) -> None:
    for name in names or SAMPLES:
        if name not in SAMPLES:
            raise SystemExit(f"no sample is named {name}: the names are {', '.join(SAMPLES)}")
        print(f"== {name}: edgeticket {SAMPLES[name]}", flush=True)
        try:
            make(name, SAMPLES[name])
        except DataError as error:
            print(f"{name}.ticket stays as it was: {error}", file=sys.stderr)
    write_atomic(FOLDER / "README.md", readme().encode())


if __name__ == "__main__":
    make_all(sys.argv[1:])
