"""No device: every figure is zero and says so. Lets a chain run where there is no hardware."""

from collections.abc import Sequence

from edgeticket.budget import Artifact, Cost, Report

FORMATS = ("onnx", "c")


def missing() -> str | None:
    return None


def measure(artifacts: Sequence[Artifact], **_: object) -> list[Report]:
    """One report of zeros for each artifact; `how` is none."""
    return [_nothing(artifact) for artifact in artifacts]


def _nothing(artifact: Artifact) -> Report:
    cost = Cost("null", "none", latency_ms=0.0, instructions=0, flash_bytes=0, ram_bytes=0)
    return Report(str(artifact.path), artifact.sha256, "null", cost, details={"note": "nothing was measured"})
