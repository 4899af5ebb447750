"""Microcontrollers, emulated: what a network costs on a core, in instructions and bytes. Never in ms: QEMU has no pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeticket.budget import Artifact, Cost, Report
from edgeticket.errors import EdgeTicketError
from edgeticket.targets import _build

GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
K, M = 1 << 10, 1 << 20
SPARE_S = 10  # a run ends itself so long after it should have been ended


@dataclass(frozen=True)
class Machine:
    """A machine of qemu-system-arm: its name there, and (address, bytes) of its flash and RAM."""

    name: str
    flash: tuple[int, int]
    ram: tuple[int, int]

    def words(self) -> str:
        """As the exported Makefile has it."""
        (flash, flash_bytes), (ram, ram_bytes) = self.flash, self.ram
        return f"0x{flash:08x} 0x{flash_bytes:x} 0x{ram:08x} 0x{ram_bytes:x}"

    @property
    def room(self) -> str:
        return f"{self.flash[1] // K} KB of flash and {self.ram[1] // K} KB of RAM"


class NoRoomError(EdgeTicketError):
    """A network is too large for a machine."""


@dataclass(frozen=True)
class Board:
    """A core: the target's name, the compiler's flags, and the machines that have it; the first runs the image that fits it."""

    name: str
    flags: str
    machines: tuple[Machine, ...]

    def missing(self) -> str | None:
        """What has to be installed before `measure` works, or None."""
        return _build.missing("make", GCC, QEMU)

    def measure(
        self, artifacts: Sequence[Artifact], *, threads: int, period_ms: float | None, timeout_s: float, **_: Any
    ) -> list[Report]:
        """One report for each folder of C, built and run alone.

        Raises UnsupportedError for a folder that is not an export, EquivalenceError when its self-test fails, EdgeTicketError
        when it does not build, does not fit, or a command takes longer than `timeout_s`.
        """
        _build.check_plain(self.name, threads, period_ms)
        return [self._report(artifact, timeout_s) for artifact in artifacts]

    def _report(self, artifact: Artifact, timeout_s: float) -> Report:
        with _build.workplace(artifact) as place:
            sizes = _build.numbers(self._make(place, "size", self.machines[-1], timeout_s))
            machine, output = self._run(place, timeout_s)
            model_bytes = place.model_bytes
        found = _build.numbers(output)
        details: dict[str, Any] = {name: values[0] for name, values in {**sizes, **found}.items()}
        details |= {"instructions": max(found["instructions"]), "vectors": len(found["instructions"])}
        details |= {"model_bytes": model_bytes, "selftest": "passed"}
        cost = Cost(
            self.name,
            "simulated",
            instructions=details["instructions"],
            flash_bytes=details["flash_bytes"],
            ram_bytes=details["static_ram_bytes"] + details["stack_bytes"],
        )
        samples = {"instructions": found["instructions"]}
        return Report(
            str(artifact.path), artifact.sha256, self.name, cost, samples, self._environment(machine), details
        )

    def _run(self, place: _build.Workplace, timeout_s: float) -> tuple[Machine, str]:
        """The first machine that has room for the self-test, and what that printed."""
        for machine in self.machines[:-1]:
            try:
                return machine, self._make(place, "run", machine, timeout_s)
            except NoRoomError:
                continue
        return self.machines[-1], self._make(place, "run", self.machines[-1], timeout_s)

    def _make(self, place: _build.Workplace, goal: str, machine: Machine, timeout_s: float) -> str:
        """Output of `make size` or `make run`. Raises NoRoomError, EquivalenceError for a self-test that failed, ToolError."""
        made = [f"CPU_own={self.flags}", f"MACHINE_own={machine.name}", f"MEMORY_own={machine.words()}"]
        # A folder for each machine: make builds nothing again when only a variable has changed.
        made += ["BOARD=own", f"OUT=build/{machine.name}", f"TIMEOUT={timeout_s + SPARE_S:g}"]
        where = f"{place.what} on {self.name} ({machine.name})"
        try:
            output = place.make(goal, *made, timeout_s=timeout_s)
        except _build.ToolError as error:
            if "overflowed by" in error.output or "stack overflow" in error.output:
                raise NoRoomError(f"{where}: no room in {machine.room}:\n{_build.tail(error.output)}") from error
            if "self-test:" in error.output:
                _build.check_passed(error.output, where)
            raise
        if goal == "run":
            _build.check_passed(output, where)
        return output

    def _environment(self, machine: Machine) -> dict[str, Any]:
        return {
            "core": self.name,
            "machine": machine.name,
            "compiler": _build.version(GCC),
            "flags": f"-std=c99 -O2 -mthumb {self.flags}",
            "emulator": _build.version(QEMU),
            "counting": "-icount shift=0",
        }
