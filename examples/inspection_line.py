"""An inspection line: frames in, one verdict each out, with a log of latencies and missed deadlines.

    python examples/inspection_line.py line.bundle frames/ --good ok --period-ms 40 --key maker.pub -o verdicts.jsonl

FRAMES is a folder of images, taken in the order of their names, or an .npz with an array `x` [n, ...] of raw sensor values. A verdict
is `pass` for a label that is good, `reject` for another, and `check` where a human must look: the guard found a fault of the sensor or a
frame unlike those that were learned from, the file is no image, or the score is too low. Needs `pip install edgeticket[images]` for images.
"""

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgeticket.errors import EdgeTicketError
from edgeticket.runtime import Predictor, Status
from edgeticket.signing import key_file, public_key

FIELDS = ("frame", "verdict", "label", "score", "status", "ms", "late")
Frame = tuple[str, np.ndarray | None]
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        predictor = Predictor(
            options.bundle, [key_file(key, public_key) for key in options.key], target_class=options.target_class
        )
        unknown = set(options.good) - set(predictor.manifest["labels"])
        if unknown:
            raise EdgeTicketError(f"--good {unknown.pop()}: the labels are {', '.join(predictor.manifest['labels'])}")
        source = frames(options.frames)
        with options.output.open("x", newline="") if options.output else sys.stdout as file:
            rows = list(written(inspected(predictor, source, options), file, options.format))
    except (EdgeTicketError, OSError) as error:
        print(f"inspection_line: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(summary(rows, options.period_ms), file=sys.stderr)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument(
        "--good", action="append", required=True, help="a label that passes; may be given several times"
    )
    parser.add_argument("--least-score", type=number, default=0.0, help="below it: check")
    parser.add_argument(
        "--period-ms", type=number, help="a frame comes every so many ms, and must be judged before the next"
    )
    parser.add_argument(
        "--key", type=Path, action="append", default=[], help="public key that must have signed the bundle"
    )
    parser.add_argument("--class", dest="target_class", help="class of devices that the bundle must be for")
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument("-o", "--output", type=Path, help="new file for the verdicts (default: standard output)")
    options = parser.parse_args(arguments)
    if options.period_ms is not None and not options.period_ms > 0:
        parser.error("--period-ms: give milliseconds above 0")
    return options


def number(text: str) -> float:
    """Finite, and not beyond what a clock takes."""
    value = float(text)
    if not abs(value) <= 1e9:
        raise ValueError(text)
    return value


def frames(source: Path) -> Iterator[Frame]:
    """Name and raw values, None for a file that is no image. Raises OSError or EdgeTicketError at once."""
    if source.suffix != ".npz":
        paths = sorted(path for path in source.iterdir() if path.is_file())
        if paths:
            try:
                import PIL.Image  # noqa: F401
            except ImportError as error:
                raise EdgeTicketError(f"images need Pillow ({error}): pip install edgeticket[images]") from error
        return ((path.name, image(path)) for path in paths)
    try:
        with np.load(source) as arrays:
            return iter([(str(i), frame) for i, frame in enumerate(arrays["x"])])
    except OSError:
        raise
    except Exception as error:  # numpy names no list of them
        raise EdgeTicketError(
            f"{source}: no array x of frames in it: save one with numpy.savez(file, x=frames)"
        ) from error


def image(path: Path) -> np.ndarray | None:
    """uint8 [channels, height, width] as the camera wrote it: nothing is scaled or cut.

    A palette gives its colours: one channel where all of the image are grey, else three; None where some are transparent.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            if opened.mode not in ("P", "PA"):
                values = np.asarray(opened)
            elif opened.mode == "PA" or "transparency" in opened.info:
                return None
            else:
                values = np.asarray(opened.convert("RGB"))
                values = values[..., 0] if (values == values[..., :1]).all() else values
    except Exception:  # of a broken file: OSError, ValueError, SyntaxError, RuntimeError and more
        return None
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def inspected(predictor: Predictor, source: Iterator[Frame], options: argparse.Namespace) -> Iterator[Row]:
    """One row a frame. With a period, frame i is taken at i periods and is late where it is not judged one period later."""
    period = options.period_ms and options.period_ms / 1000
    start = None
    for i, (name, values) in enumerate(source):
        start = start or time.perf_counter()  # reading the first frame is no delay of the line
        if period:
            time.sleep(max(0.0, start + i * period - time.perf_counter()))
        before = time.perf_counter()
        row = judged(predictor, values, options)
        after = time.perf_counter()
        late = bool(period) and after > start + (i + 1) * period
        yield {"frame": name, **row, "ms": round(1000 * (after - before), 4), "late": late}


def judged(predictor: Predictor, values: np.ndarray | None, options: argparse.Namespace) -> Row:
    if values is None:
        return {"verdict": "check", "label": None, "score": None, "status": "unreadable"}
    found = predictor.predict(values)
    verdict = "pass" if found.label in options.good else "reject"
    if found.score is None or found.status == Status.UNFAMILIAR or found.score < options.least_score:
        verdict = "check"
    return {"verdict": verdict, "label": found.label, "score": found.score, "status": str(found.status)}


def written(rows: Iterator[Row], file: TextIO, form: str) -> Iterator[Row]:
    """Every row is out before the next frame is taken."""
    write: Callable[[Row], Any]
    if form == "csv":
        table = csv.DictWriter(file, FIELDS)
        table.writeheader()
        write = table.writerow
    else:
        write = lambda row: file.write(json.dumps(row) + "\n")  # noqa: E731
    for row in rows:
        write(row)
        file.flush()
        yield row


def summary(rows: list[Row], period_ms: float | None) -> str:
    if not rows:
        return "0 frames"
    verdicts = Counter(row["verdict"] for row in rows)
    statuses = Counter(row["status"] for row in rows if row["status"] != "ok")
    p50, p99, most = np.percentile([row["ms"] for row in rows], [50, 99, 100])
    parts = [f"{len(rows)} frames", *(f"{verdicts[word]} {word}" for word in ("pass", "reject", "check"))]
    parts += [f"{count} {status}" for status, count in sorted(statuses.items())]
    parts += [f"p50 {p50:.3f} ms, p99 {p99:.3f} ms, max {most:.3f} ms"]
    if period_ms:
        parts += [f"{sum(row['late'] for row in rows)} late of a period of {period_ms:g} ms"]
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
