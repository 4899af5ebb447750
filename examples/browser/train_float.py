"""Train the ordinary float network that a ticket stands beside, and write it as ONNX, as it would be deployed.

    python train_float.py -m conv:16,32,32 -d digits --epochs 40 -o float.onnx

Same network, examples, order and epochs as `edgeticket find` with these options, but all weights are trained in float32
(`edgeticket.rivals.floating`). `--int8 FILE` also writes the same weights rounded to int8 after training. Prints one line a file:
bytes, and how many examples of the certify part ONNX Runtime answers right with it.
"""

import argparse
import sys
from pathlib import Path

from edgeticket.data import load
from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.files import check_free, write_atomic
from edgeticket.network import network_plan
from edgeticket.rivals import Rival, floating
from edgeticket.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        settings = Settings(seed=options.seed, epochs=options.epochs)
        files = [path for path in (options.output, options.int8) if path]
        for path in files:
            check_free(path, options.overwrite)
        data = load(options.data, images=options.images)
        if data.task != "classification":
            raise UsageError(f"data {options.data}: {data.task}; the page is for classes: take other data")
        for path, rival in zip(files, floating(network_plan(options.model, data), data, settings), strict=False):
            write_atomic(path, rival.onnx)
            print(line(path, rival, len(data.certify[1])))
    except EdgeTicketError as error:
        print(f"train_float: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="conv", help="as for `edgeticket find`")
    parser.add_argument("-d", "--data", default="digits", help="as for `edgeticket find`")
    parser.add_argument("--images", type=int, help="learn from the first so many training examples")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the float32 file")
    parser.add_argument("--int8", type=Path, metavar="FILE", help="also the int8 file")
    parser.add_argument("--overwrite", action="store_true")
    return parser.parse_args(arguments)


def line(path: Path, rival: Rival, count: int) -> str:
    right = round(rival.certify * count)
    return f"{path}: {len(rival.onnx):,} bytes, {right:,} of {count:,} right = {rival.certify:.2%}, {rival.what}"


if __name__ == "__main__":
    sys.exit(main())
