"""What a model aside costs the line: `trial.py` prints the table of docs/rollout.md, of the sample tickets."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

import small_bundle  # noqa: E402

from edgeticket.bundle_file import canonical, golden  # noqa: E402
from edgeticket.compact import compact  # noqa: E402
from edgeticket.data import load  # noqa: E402
from edgeticket.guard import Guard  # noqa: E402
from edgeticket.runtime import Prediction, Predictor  # noqa: E402
from edgeticket.ticket import parse_ticket  # noqa: E402
from edgeticket.trial import Trial  # noqa: E402
from exporters.to_onnx import build, run_bytes  # noqa: E402

SAMPLES = {"digits": "digits", "fashion": "fashion-mnist"}
ROUNDS, FRAMES, PERIOD_S = 7, 200, 0.005


class Slow:
    """A model that takes 100 times as long."""

    def __init__(self, model: Predictor) -> None:
        self._model, self.manifest = model, model.manifest

    def predict(self, frame: np.ndarray) -> Prediction:
        return [self._model.predict(frame) for _ in range(100)][-1]


def bundle(folder: Path, sample: str) -> tuple[Path, np.ndarray]:
    """A bundle of a sample ticket, and frames for it."""
    content, data = (ROOT / "sample_models" / f"{sample}.ticket").read_bytes(), load(SAMPLES[sample])
    model, raw = build(compact(parse_ticket(content))).SerializeToString(), data.certify[0]
    files = {
        "a.onnx": ("onnx", model),
        "a.ticket": ("ticket", content),
        "golden": ("golden", golden(raw[:8], run_bytes(model, raw[:8]))),
        "guard.json": ("guard", canonical(Guard.fit(data).to_json())),
    }
    told = {"shape": list(raw.shape[1:]), "dtype": raw.dtype.name}
    path = small_bundle.write(folder / f"{sample}.bundle", files, model="a.onnx", labels=list(data.classes), input=told)
    return path, raw


def microseconds(trial: Trial, frames: np.ndarray) -> list[float]:
    """From when a frame is due to its answer; one is due every PERIOD_S."""
    found, start = [], time.perf_counter()
    for i in range(FRAMES):
        due = start + i * PERIOD_S
        time.sleep(max(0.0, due - time.perf_counter()))
        trial.predict(frames[i])
        found.append(1e6 * (time.perf_counter() - due))
    return found


@contextmanager
def on(cores: set[int], busy: bool) -> Iterator[None]:
    """This process on `cores`, where another one is `busy` all the time."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if other:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, before)


def cells(path: Path, frames: np.ndarray) -> list[str]:
    """p50 / p99, the medians of all rounds, with nothing, an equal model and a slow one aside, in turns."""
    models = [Predictor(path) for _ in range(5)]
    trials = [
        Trial(models[0]),
        Trial(models[2], models[1], shadow=True),
        Trial(Slow(models[4]), models[3], shadow=True),  # type: ignore[arg-type]
    ]
    rounds = np.array(
        [[np.percentile(microseconds(trial, frames), (50, 99)) for trial in trials] for _ in range(ROUNDS)]
    )
    for trial in trials:
        trial.close()
    return [f"{p50 / 1000:.2f} / {p99 / 1000:.2f}" for p50, p99 in np.median(rounds, 0)]


def main() -> None:
    cores = os.sched_getaffinity(0)
    places = {"one core": ({min(cores)}, False), "one core, shared with a busy process": ({min(cores)}, True)}
    places[f"{len(cores)} cores"] = cores, False
    print("| network, ms p50 / p99 | alone | an equal one aside | one of 100 times its time aside |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for sample in SAMPLES:
            path, frames = bundle(Path(folder), sample)
            for name, place in places.items():
                with on(*place):
                    print(f"| {sample}, {name} | {' | '.join(cells(path, frames))} |", flush=True)


if __name__ == "__main__":
    main()
