"""The search, start to end: a ticket, proven and calibrated, and the controls that tell what it is worth."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

from edgeticket import tasks
from edgeticket.data import Data
from edgeticket.errors import DataError, UnsupportedError
from edgeticket.found import Found, Result
from edgeticket.model import Model
from edgeticket.network import network_plan
from edgeticket.ops import Weighted
from edgeticket.plan import Plan
from edgeticket.search._training import Progress
from edgeticket.session import Session
from edgeticket.settings import Settings
from edgeticket.ticket import Ticket


def find(
    plan: Plan,
    data: Data,
    settings: Settings,
    *,
    control: bool = True,
    float_control: bool = False,
    checkpoint: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Found:
    """Search `plan` for a ticket, then train the controls. Resumes from `checkpoint` when that file exists.

    Raises UnsupportedError for a network that no search can teach, DataError where data and plan do not fit,
    EquivalenceError when torch and the numpy reference disagree.
    """
    check_plan(plan, data)
    session = Session(plan, data, settings, Path(checkpoint) if checkpoint else None, report)
    results: list[Result] = []
    controls: dict[str, Ticket | Model] = {}
    if settings.teacher:
        teacher = network_plan(settings.teacher, data)
        check_plan(teacher, data)
        results.append(session.teacher(teacher))
    ticket, result, difference = session.ticket("ticket", plan, settings)
    results.insert(0, result)
    if control and settings.keep < 1:
        controls["control"], result, _ = session.ticket("control", ticket.narrow, replace(settings, keep=1.0))
        results.append(result)
    if float_control:
        controls["float"], result = session.floating("float", ticket.narrow)
        results.append(result)
    return Found(ticket, tuple(results), difference, controls)


def check_plan(plan: Plan, data: Data) -> None:
    """Raise UnsupportedError or DataError unless a search can teach `plan` the task of `data`."""
    for word, names in (("input", plan.inputs), ("output", plan.outputs)):
        if len(names) != 1:
            raise UnsupportedError(
                f"the network has {len(names)} {word}s ({', '.join(names)}): a search teaches one with one {word}; "
                "inspect and export take it as it is"
            )
    if not plan.weights():
        raise UnsupportedError("the network has no layer with weights: there is nothing to search")
    (shape,), output = plan.inputs.values(), plan.shapes[plan.outputs[0]]
    if tuple(data.train[0].shape[1:]) != tuple(shape):
        raise DataError(
            f"{data.name} has examples of shape {data.train[0].shape[1:]}, the network reads {tuple(shape)}"
        )
    wanted = tasks.of(data).outputs(data)
    if prod(output) != wanted or (data.task != "anomaly" and len(output) != 1):
        raise DataError(f"{data.name} ({data.task}) needs {wanted} outputs, the network's output is {output}")
    last = plan[plan.outputs[0]]
    if data.task == "regression" and not (isinstance(last.op, Weighted) and last.op.activation == "none"):
        raise UnsupportedError(
            f"layer {last.name} ({type(last.op).__name__}): targets have units, so the last layer must be a Linear or Conv "
            "without activation"
        )
