"""Processes of examples/gateway.py, for tests."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fleet_bundles
import numpy as np
from fleet_bundles import Made

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "examples" / "gateway.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
QUICK = ["--report-s", "0.2", "--period-ms", "5", "--loop"]


def bundles(folder: Path) -> Made:
    """Those of a fleet, with the files that a gateway is given beside them: key.pub and frames.npz."""
    found = fleet_bundles.make(folder)
    (found.folder / "key.pub").write_bytes(found.key)
    np.savez(found.folder / "frames.npz", x=found.frames)
    return found


class Gateway:
    """A process of it, with `devices`, that begins with the bundle `old`."""

    def __init__(self, made: Made, url: str, folder: Path, *devices: str, more: list[str] = QUICK) -> None:
        folder.mkdir(exist_ok=True)
        self.out, self.err, self.state = folder / "out", folder / "err", folder / "state"
        frames = [f"{device}={made.folder / 'frames.npz'}" for device in devices]
        places = ["--bundles", made.folder, "--state", self.state, "--key", made.folder / "key.pub"]
        words = [sys.executable, PROGRAM, url, *frames, *places, "--run", made.digests["old"], *more]
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=err, env=ENVIRONMENT)

    def rows(self, last: int = 1 << 40) -> list[dict[str, Any]]:
        """Of its output, or of the whole lines in so many of its last bytes."""
        with self.out.open("rb") as file:
            begin = max(0, file.seek(0, os.SEEK_END) - last)
            file.seek(begin)
            first, *lines = file.read().split(b"\n")
        return [json.loads(line) for line in ([] if begin else [first]) + lines[:-1]] if lines else []

    def made(self) -> list[bytes]:
        """The lines of all reports, by the log."""
        return [line.partition(b" report ")[2] for line in self.err.read_bytes().splitlines() if b" report {" in line]

    def ended(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def gateway(*arguments: Any, **options: Any) -> Iterator[Gateway]:
    own = Gateway(*arguments, **options)
    try:
        yield own
    finally:
        own.process.kill()
        own.process.wait()
        sys.stdout.write(own.err.read_text()[-3000:])


def module() -> Any:
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        spec = importlib.util.spec_from_file_location("gateway", PROGRAM)
        assert spec
        assert spec.loader
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found
    finally:
        sys.path.remove(str(PROGRAM.parent))
