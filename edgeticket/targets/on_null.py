"""No device: no figure is found out, and the report says so. Lets a chain run where there is no hardware."""

from collections.abc import Sequence

from edgeticket.budget import Artifact, Cost, Report

FORMATS = ("onnx", "c")


def missing() -> str | None:
    return None


def measure(artifacts: Sequence[Artifact], **_: object) -> list[Report]:
    """One report without figures for each artifact; `how` is none."""
    return [_nothing(artifact) for artifact in artifacts]


def _nothing(artifact: Artifact) -> Report:
    return Report(
        str(artifact.path), artifact.sha256, "null", Cost("null", "none"), details={"note": "nothing was measured"}
    )
