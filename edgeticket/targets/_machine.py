"""What a reader of figures needs to know of the machine here, for every target that runs on it."""

from edgeticket.targets.on_cpu import describe_machine

__all__ = ["describe_machine"]
