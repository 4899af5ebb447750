"""The search, start to end: a ticket, proven and calibrated, and the controls that tell what it is worth."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

from edgeticket import tasks
from edgeticket.auto import choose, wanted
from edgeticket.budget import Budget
from edgeticket.cost import measure
from edgeticket.data import Data
from edgeticket.errors import DataError, UnsupportedError, UsageError
from edgeticket.found import Found, Result, Trial
from edgeticket.model import Model
from edgeticket.network import network_plan
from edgeticket.ops import Weighted
from edgeticket.plan import Plan
from edgeticket.plugins import load
from edgeticket.search._training import Progress
from edgeticket.session import Session
from edgeticket.settings import Settings
from edgeticket.spending import Latency, Spending, spending
from edgeticket.ticket import Ticket
from edgeticket.update import data_for


def find(
    plan: Plan,
    data: Data,
    settings: Settings,
    *,
    budget: Budget | None = None,
    latency: Latency | None = None,
    control: bool = True,
    uniform_control: bool = False,
    float_control: bool = False,
    checkpoint: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Found:
    """Search `plan` for a ticket, then train the controls. Resumes from `checkpoint` when that file exists.

    Under a `budget`, widths are narrowed to it, and density and edges chosen for it where `settings` leave them open;
    `latency` is what to ask of plans where it has a latency. `control` is a narrow network of the ticket's widths
    before dead channels leave, `uniform_control` one scaled alike everywhere, in whole multiples, until it fits.
    Raises UnsupportedError for a network that no search can teach, DataError where data and plan do not fit, BudgetError where
    no width is narrow enough, EquivalenceError when torch and the numpy reference disagree. A budget that the result misses
    raises nothing: `Found.verdicts` tell.
    """
    check_plan(plan, data)
    check_budget(settings, budget)
    if budget and budget.has("latency_ms") and latency is None:
        raise UsageError("a budget of latency needs a latency table: see edgeticket.latency")
    if uniform_control and not budget:
        raise UsageError("--uniform-control is for a --budget: leave it out")
    load("search", settings.method)  # before anything of it is read or trained
    teacher = network_plan(settings.teacher, data) if settings.teacher else None
    if teacher:
        check_plan(teacher, data)
    session = Session(plan, data, settings, budget, Path(checkpoint) if checkpoint else None, report)
    results: list[Result] = []
    controls: dict[str, Ticket | Model] = {}
    if teacher:
        results.append(session.teacher(teacher))
    spent: Spending | None = None
    trials: tuple[Trial, ...] = ()
    if budget:
        spend = partial(spending, plan, budget=budget, inputs=session.sensor(plan), latency=latency)
        if wanted(settings, budget):
            settings, trials = choose(plan, settings, spend, session.attempt, session.teaching.task.lower_is_better)
        spent = spend(settings)
    decided = spent.decided if spent else settings.final(plan)
    ticket, result, difference, left = session.ticket("ticket", plan, settings, decided, spent)
    results.insert(0, replace(result, seconds=result.seconds + sum(trial.seconds for trial in trials)))
    narrow = {"control": left} if control and left != plan else {}
    if spent and uniform_control:
        narrow["uniform"] = spent.uniform
    for name, own in narrow.items():
        controls[name], result, *_ = session.ticket(name, own, replace(settings, keep=1.0), decided)
        results.append(result)
    if float_control:
        controls["float"], result = session.floating("float", ticket.narrow)
        results.append(result)
    verdicts = budget.judge(measure(ticket, budget, threads=settings.threads)) if budget else ()
    expected = spent.judge(ticket.narrow) if spent else ()
    return Found(ticket, tuple(results), difference, controls, verdicts, expected, trials)


def check_budget(settings: Settings, budget: Budget | None) -> None:
    """Raise UsageError for settings that say what the budget is to say."""
    if budget and settings.keep < 1:
        raise UsageError("--keep and --budget both say how wide the result is: leave one of them out")


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


def update(
    old: Ticket,
    data: Data,
    settings: Settings,
    *,
    checkpoint: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Found:
    """Search on from `old`, with `settings` of update.settings_of, for new data: a ticket for the old one's firmware.

    Its results are the new ticket's and, as "before", the old one's. Raises DataError where data and network do not fit.
    """
    data = data_for(old, data)
    check_plan(old.plan, data)
    session = Session(old.plan, data, settings, None, Path(checkpoint) if checkpoint else None, report, old)
    ticket, result, difference, _ = session.ticket("update", old.plan, settings, old.narrow)
    return Found(ticket, (replace(result, name="ticket"), session.before(old)), difference, {})
