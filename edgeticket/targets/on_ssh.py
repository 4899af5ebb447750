"""A computer at the other end of ssh: ONNX by its ONNX Runtime, C by its compiler. Whoever logs in there needs no password.

Everything goes into a temporary folder over there, which is removed at the end. C is compiled there: nothing is cross-compiled.
"""

import json
import logging
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.budget import Artifact, Cost, Report
from edgeticket.errors import EdgeTicketError, UnsupportedError, UsageError
from edgeticket.targets import _build
from edgeticket.targets._confined import Limits, check

FORMATS = ("onnx", "c")
ADDRESS = "ssh://[user@]host[:port][/path/of/python3]"
BURST = 25
PACED_BURST = 10
WORKER = "ort_worker.py"
OPTIONS = ("-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15")
SPARE_S = 20  # for the connection, on top of what a command may take over there
FACTS = """echo "kernel $(uname -srm)"
echo "cpu $(sed -n 's/^\\(model name\\|Model\\|Hardware\\)[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)"
echo "cores $(getconf _NPROCESSORS_ONLN)"
echo "governor $(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
echo "load_average_before $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null)"
echo "compiler $(cc --version 2>/dev/null | head -n 1)"
"""
LOG = logging.getLogger("edgeticket.ssh")


def missing() -> str | None:
    """What has to be installed here before `measure` works, or None."""
    return _build.missing("ssh", "scp")


@dataclass(frozen=True)
class Remote:
    """`host` may hold a user; `port` None: what ssh's own configuration says; `python`: the one that has ONNX Runtime."""

    host: str
    port: int | None
    python: str
    timeout_s: float

    @staticmethod
    def parse(address: str, timeout_s: float) -> "Remote":
        """Raises UsageError. No part may begin with a hyphen: ssh would take it for an option."""
        match = re.fullmatch(r"((?:\w[\w.-]*@)?(?:\w[\w.-]*|\[[0-9A-Fa-f:.]+\]))(?::(\d{1,5}))?(/[\w./-]+)?", address)
        if match is None:
            raise UsageError(f"ssh://{address}: not an address: write {ADDRESS}")
        return Remote(match[1], int(match[2]) if match[2] else None, match[3] or "python3", timeout_s)

    def run(self, command: str, stdin: str = "") -> str:
        """What a command of the shell over there prints. Raises ToolError."""
        port = ("-p", str(self.port)) if self.port else ()
        limited = f"timeout {self.timeout_s:g} sh -c {shlex.quote(command)}"
        host = self.host.replace("[", "").replace("]", "")
        return self._tool("ssh", *OPTIONS, *port, "--", host, limited, stdin=stdin)

    def copy(self, folder: Path, place: str) -> None:
        """What is in a folder here, into a folder over there."""
        port = ("-P", str(self.port)) if self.port else ()
        self._tool("scp", *OPTIONS, "-r", *port, "--", *map(str, sorted(folder.iterdir())), f"{self.host}:{place}")

    def _tool(self, *command: str, stdin: str = "") -> str:
        return _build.run(command, f"ssh://{self.host}", self.timeout_s + SPARE_S, stdin=stdin)

    @contextmanager
    def folder(self) -> Iterator[str]:
        """A temporary folder over there, gone afterwards."""
        said = self.run("mktemp -d /tmp/edgeticket.XXXXXX")
        match = re.search(r"^/tmp/edgeticket\.\w{6}$", said, re.MULTILINE)
        if match is None:
            raise EdgeTicketError(f"ssh://{self.host}: made no temporary folder, but said:\n{_build.tail(said)}")
        try:
            yield match[0]
        finally:
            try:
                self.run(f"rm -rf {match[0]}")
            except EdgeTicketError as error:  # what happened before it matters more
                LOG.warning("ssh://%s: %s is left there: %s", self.host, match[0], error)


def measure(
    artifacts: Sequence[Artifact], *, address: str, timeout_s: float, memory_mb: int, **asked: Any
) -> list[Report]:
    """All of them in turns over there, as on_cpu and on_host_c do it here.

    ONNX files are looked at here first, as on_cpu does; over there nothing limits their memory. Raises UsageError for an address
    that is none, UnsupportedError for a mixture of ONNX and C, a folder that is no export or a file that is refused, EquivalenceError for a failed self-test, EdgeTicketError when ssh or what is run there fails or takes over `timeout_s`.
    """
    remote = Remote.parse(address, timeout_s)
    formats = {artifact.format for artifact in artifacts}
    if len(formats) > 1:
        raise UnsupportedError("ssh: ONNX and C do not run in one process: measure them in two runs")
    work = _measure_c if formats == {"c"} else _measure_onnx
    if work is _measure_onnx:
        check([artifact.path for artifact in artifacts], Limits(memory_mb, timeout_s), sized=True)
    with remote.folder() as place:
        environment = _facts(remote.run(FACTS))
        return work(remote, place, artifacts, environment, asked)


def _facts(said: str) -> dict[str, Any]:
    rows = (line.partition(" ") for line in said.splitlines())
    return {key: value for key, _, value in rows if value and f'echo "{key} ' in FACTS}


# C


def _measure_c(
    remote: Remote, place: str, artifacts: Sequence[Artifact], environment: dict[str, Any], asked: dict[str, Any]
) -> list[Report]:
    _build.check_plain("ssh, with C,", asked["threads"], asked["period_ms"])
    if "compiler" not in environment:
        raise EdgeTicketError(
            f"ssh://{remote.host}: there is no cc, and nothing is cross-compiled: install gcc there, or measure the network's ONNX file"
        )
    for i, artifact in enumerate(artifacts):
        _build_there(remote, artifact, f"{place}/{i}")
    turns, warmup = -(-asked["runs"] // BURST), asked["warmup"]
    said = remote.run(_turns(place, len(artifacts), turns, warmup))
    environment |= {"flags": "-std=c99 -O2", "threads": 1}
    details = {"burst": BURST, "warmup": warmup, "selftest": "passed"}
    return [
        _report(artifact, remote, {"wall_ms": wall}, environment, details)
        for artifact, wall in zip(artifacts, _walls(said, len(artifacts)), strict=True)
    ]


def _build_there(remote: Remote, artifact: Artifact, place: str) -> None:
    """Compiled and proven by its self-test. Raises EquivalenceError."""
    name = _build.network_name(artifact)
    remote.run(f"mkdir {place}")
    with _build.workplace(artifact) as staged:
        remote.copy(staged.folder, place)
    files = f"{name}.c {name}{_build.SELFTEST} port.c"
    said = remote.run(f"cd {place} && cc -std=c99 -O2 {files} -o selftest && {{ ./selftest || true; }}")
    _build.check_passed(said, f"{artifact.path.name} on ssh://{remote.host}")


def _turns(place: str, count: int, turns: int, warmup: int) -> str:
    """A shell script: A B A B ..., a line `model i` before the nanoseconds of a turn."""
    models = " ".join(map(str, range(count)))
    return (
        f"turn=0; warmup={warmup}\n"
        f"while [ $turn -lt {turns} ]; do\n"
        f"for i in {models}; do echo model $i; {place}/$i/selftest $warmup {BURST} || exit 1; done\n"
        "turn=$((turn + 1)); warmup=1\n"
        "done"
    )


def _walls(said: str, count: int) -> list[list[float]]:
    """Milliseconds of each model, in the order of measuring."""
    walls: list[list[float]] = [[] for _ in range(count)]
    model = 0
    for line in said.splitlines():
        if line.startswith("model "):
            model = int(line.removeprefix("model "))
        elif line.isdigit():
            walls[model].append(int(line) / 1e6)
    return walls


# ONNX


def _measure_onnx(
    remote: Remote, place: str, artifacts: Sequence[Artifact], environment: dict[str, Any], asked: dict[str, Any]
) -> list[Report]:
    _send_onnx(remote, artifacts, place)
    paths = [f"{place}/{i}.onnx" for i in range(len(artifacts))]
    common = {"threads": asked["threads"], "seed": asked["seed"]}
    starts = [_ask(remote, place, {"do": "start", "path": path, **common}) for path in paths]
    turns = {"rounds": -(-asked["runs"] // BURST), "burst": BURST, "warmup": asked["warmup"]}
    paced = {
        "period_ms": asked["period_ms"],
        "paced_rounds": -(-asked["paced_runs"] // PACED_BURST),
        "paced_burst": PACED_BURST,
    }
    steady = _ask(remote, place, {"do": "steady", "paths": paths, **common, **turns, **paced})
    environment |= steady["facts"] | common
    environment.pop("compiler", None)
    shared = turns | {"period_ms": asked["period_ms"]}
    reports = []
    for artifact, start, samples, missed in zip(artifacts, starts, steady["samples"], steady["missed"], strict=True):
        if common["threads"] > 1:  # the calling thread's share of the work says nothing then
            del samples["cpu_ms"]
        late = {"missed_deadlines": missed} if "paced_ms" in samples else {}
        reports.append(_report(artifact, remote, samples, environment, start | shared | late))
    return reports


def _send_onnx(remote: Remote, artifacts: Sequence[Artifact], place: str) -> None:
    """The files as they were hashed, as 0.onnx, 1.onnx ..., and the worker."""
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as staged:
        Path(staged, WORKER).write_bytes(Path(__file__).with_name(WORKER).read_bytes())
        for i, artifact in enumerate(artifacts):
            Path(staged, f"{i}.onnx").write_bytes(artifact.contents[0][1])
        remote.copy(Path(staged), place)


def _ask(remote: Remote, place: str, request: dict[str, Any]) -> dict[str, Any]:
    """The worker's answer: the last line that is JSON."""
    try:
        said = remote.run(f"cd {place} && {remote.python} {WORKER}", json.dumps(request))
    except _build.ToolError as error:
        need = f"{remote.python}, 3.10 or later, needs numpy and onnxruntime there (another one: {ADDRESS})"
        raise EdgeTicketError(
            f"ssh://{remote.host}: ONNX Runtime did not run: {need}:\n{_build.tail(error.output)}"
        ) from error
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if not lines:
        raise EdgeTicketError(f"ssh://{remote.host}: no answer, but:\n{_build.tail(said)}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer if request["do"] == "steady" else {key: value for key, value in answer.items() if key != "facts"}


def _report(
    artifact: Artifact,
    remote: Remote,
    samples: dict[str, list[float]],
    environment: dict[str, Any],
    details: dict[str, Any],
) -> Report:
    target = f"ssh://{remote.host}" + (f":{remote.port}" if remote.port else "")
    latency = float(np.median(samples["wall_ms"]))
    cost = Cost(target, "measured", latency_ms=latency, ram_bytes=details.get("peak_rss_bytes"))
    return Report(str(artifact.path), artifact.sha256, target, cost, samples, environment, details)
