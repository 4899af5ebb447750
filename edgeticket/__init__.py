"""Find, compact, export, prove and measure sparse subnetworks of random networks.

Each command is one call of the module of its name: `edgeticket.compact.compact`, `edgeticket.bench.bench`. The types are names
of this package. Nothing is loaded before it is asked for.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Artifact": "budget",
    "Cost": "budget",
    "EdgeTicketError": "errors",
    "Input": "ticket",
    "Layer": "plan",
    "Model": "model",
    "Plan": "plan",
    "Quant": "ticket",
    "Report": "budget",
    "Ticket": "ticket",
    "read_ticket": "ticket",
}


def __getattr__(name: str) -> Any:
    """A public name, or a module of this package."""
    if name in _HOME:
        return getattr(import_module(f"edgeticket.{_HOME[name]}"), name)
    if not name.startswith("_") and (Path(__file__).parent / f"{name}.py").is_file():
        return import_module(f"edgeticket.{name}")
    raise AttributeError(f"edgeticket has no {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
