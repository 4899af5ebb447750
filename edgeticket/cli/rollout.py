"""Roll a model out to a fleet in stages, with gates that halt it and take it back by themselves."""

import hashlib
import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import click

from edgeticket.cli import format_option
from edgeticket.errors import EdgeTicketError, UsageError

FLEET = "FLEET is a SQLite file, or postgresql://USER@HOST/DATABASE."
fleet_argument = click.argument("fleet")
hook_option = click.option("--hook", help="Command that tells your updater; see docs/rollout.md.")
PEM = click.Path(exists=True, dir_okay=False)
PAIR: dict[str, Any] = {"nargs": 2, "type": PEM, "metavar": "CERT KEY"}
timeout_option = click.option(
    "--hook-timeout-s", default=60.0, show_default=True, help="End the hook after so many seconds."
)


@click.group("rollout")
def command() -> None:
    """Roll a model out to a fleet in stages: it decides and records, and your own updater moves the bytes (docs/rollout.md)."""


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a plan is made of, as `stages`, `gate`, `alpha`, `beta` and `quorum`."""
    options = [
        click.option("--stages", default="shadow:5,1,5,25,100", show_default=True, help="Percentages of the devices."),
        click.option("--gate", multiple=True, help="NAME=GOOD:BAD[,unit=...][,stages=...] or NAME=off; NAME: disagreement, self_test, guard, latency."),
        click.option("--alpha", default=0.01, show_default=True, help="Probability that a bad model gets past a stage."),
        click.option("--beta", default=0.05, show_default=True, help="Probability that a good model is ever stopped."),
        click.option("--quorum", default=0.9, show_default=True, help="Share of a stage's devices that must have reported."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _plan(stages: str, gate: tuple[str, ...], alpha: float, beta: float, quorum: float) -> Any:
    from edgeticket.rollout import plan

    return plan.Plan(plan.stages(stages), plan.gates(gate), alpha, beta, quorum)


def _store(fleet: str, create: bool = False) -> Any:
    from edgeticket.rollout.store import Store

    return Store(fleet, create)


def _digest(text: str) -> str:
    """Of a file, or itself."""
    from edgeticket.rollout.plan import DIGEST

    try:
        return text if DIGEST.fullmatch(text) else hashlib.sha256(Path(text).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"{text}: no digest of 64 digits 0-9a-f, and no file ({error.strerror}): check the path"
        ) from None


def _echo(output_format: str, found: Any, lines: Iterable[str]) -> None:
    click.echo(json.dumps(found) if output_format == "json" else "\n".join(lines))


@command.command("devices")
@fleet_argument
@click.option("--add", type=click.File("r"), help="File of names, one a line; - for stdin.")
@click.option("--remove", type=click.File("r"), help="The same, of devices that are gone.")
@click.option("--silent", is_flag=True, help="Only devices of the stage that have not reported in it.")
@format_option
def devices(fleet: str, add: IO[str] | None, remove: IO[str] | None, silent: bool, output_format: str) -> None:
    """Add devices to FLEET or take them out; without either, list them and what each should run."""
    from edgeticket.rollout import controller, status

    store = _store(fleet, create=add is not None)
    if add or remove:
        found = {"added": controller.register(store, _names(add))} if add else {}
        found |= {"removed": controller.remove(store, _names(remove))} if remove else {}
        _echo(output_format, found, [f"{count} {word}" for word, count in found.items()])
    elif silent:
        for name in status.silent(store):
            _echo(output_format, name, [name])
    else:
        for each in status.assignments(store):
            _echo(output_format, each, [f"{each['device']}  {each['run'] or '-'}  {each['aside'] or '-'}"])


def _names(file: IO[str]) -> list[str]:
    return [line.strip() for line in file if line.strip()]


@command.command("new")
@fleet_argument
@click.argument("name")
@click.option("--model", required=True, help="Digest of the new model, or the file to take it of.")
@click.option("--previous", help="The same of the model that devices run now.  [default: that of the last roll-out]")
@plan_options
@click.option("--dry-run", is_flag=True, help="Start nothing: say what each stage needs.")
@format_option
def new(
    fleet: str, name: str, model: str, previous: str | None, dry_run: bool, output_format: str, **options: Any
) -> None:
    """Start the roll-out NAME with its first stage.

    NAME and the devices' names decide which devices are in which stage.
    """
    from edgeticket.rollout import controller, show, status

    plan, store = _plan(**options), _store(fleet)
    count = status.count(store)
    controller.check_reachable(plan, count)
    if not dry_run:
        controller.start(store, name, plan, _digest(model), previous and _digest(previous))
    found = {"started": not dry_run, "devices": count, "plan": json.loads(plan.to_json())}
    _echo(output_format, found, show.outlook(plan, count))


@command.command("report")
@fleet_argument
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@format_option
def report(fleet: str, files: tuple[IO[bytes], ...], output_format: str) -> None:
    """Take device reports from FILES of JSON lines, - for stdin. What was there before counts once."""
    from edgeticket.rollout.intake import ingest
    from edgeticket.rollout.reports import lines

    found = ingest(_store(fleet), (line for file in files for line in lines(file))).to_json()
    refused = "".join(f", {count} {reason}" for reason, count in found["refused"].items())  # type: ignore[attr-defined]
    _echo(
        output_format,
        found,
        [f"{found['counted']} counted, {found['other']} other, {found['replayed']} there before{refused}"],
    )
    if refused and not (found["counted"] or found["other"] or found["replayed"]):
        raise EdgeTicketError("no line is a report of this fleet: check the files, and the names of `rollout devices`")


@command.command("status")
@fleet_argument
@format_option
def status_command(fleet: str, output_format: str) -> None:
    """Say where the newest roll-out stands, and by what evidence."""
    from edgeticket.rollout import show, status

    found = status.status(_store(fleet))
    _echo(output_format, found, show.status(found))


@command.command("step")
@fleet_argument
@hook_option
@timeout_option
@format_option
def step(fleet: str, hook: str | None, hook_timeout_s: float, output_format: str) -> None:
    """Decide if anything is due, and run the hook of the newest decision unless it has succeeded.

    Exit code 1 where the hook failed: run it again, for example by cron.
    """
    from edgeticket.rollout import controller, hooks, show, status

    store = _store(fleet)
    controller.step(store)
    run = hooks.run_hook(store, hook, hook_timeout_s) if hook else None
    found = status.status(store)
    _echo(output_format, found, show.status(found))
    if run and run.code:
        raise EdgeTicketError(
            f"the hook exited with {run.code}: {run.output.strip() or 'no output'}; `step` runs it again"
        )


@command.command("revert")
@fleet_argument
@click.option("--reason", required=True, help="For the log.")
@format_option
def revert(fleet: str, reason: str, output_format: str) -> None:
    """Take the newest model back from every device, by hand."""
    from edgeticket.rollout import controller

    found = controller.revert(_store(fleet), reason)
    _echo(output_format, {"rollout": found.name, "state": found.state}, [f"roll-out {found.name} is {found.state}"])


@command.command("log")
@fleet_argument
@format_option
def log(fleet: str, output_format: str) -> None:
    """Print every decision with the numbers behind it."""
    from edgeticket.rollout import show, status

    for found in status.log(_store(fleet)):
        _echo(output_format, found, show.decision(found))


@command.command("serve")
@fleet_argument
@click.option("--http", help="HOST:PORT to take reports at.")
@click.option("--http-cert", **PAIR, help="PEM files of the server's certificate and its key: HTTPS.")
@click.option(
    "--http-ca",
    type=PEM,
    help="PEM file of the CA of the devices: each speaks only for those that its certificate names. Without it anyone is believed: use 127.0.0.1.",
)
@click.option(
    "--mqtt",
    help="mqtt[s]://[USER@]HOST[:PORT]/TOPIC to take reports from; where its last level is {device}, only those of the device named there.",
)
@click.option("--mqtt-password", type=click.File("r"), help="File that holds it.")
@click.option("--mqtt-cert", **PAIR, help="PEM files of a certificate to show the broker, and its key.")
@click.option("--mqtt-ca", type=PEM, help="PEM file of the CA of the broker.  [default: the system's]")
@hook_option
@timeout_option
@format_option
def serve(
    fleet: str,
    http: str | None,
    http_cert: tuple[str, str] | None,
    http_ca: str | None,
    mqtt: str | None,
    mqtt_password: IO[str] | None,
    mqtt_cert: tuple[str, str] | None,
    mqtt_ca: str | None,
    hook: str | None,
    hook_timeout_s: float,
    output_format: str,
) -> None:
    """Take reports by HTTP or MQTT and run the hook, until interrupted; print each decision. Certificates: docs/rollout.md."""
    from edgeticket.rollout import http as web
    from edgeticket.rollout import service, show
    from edgeticket.rollout.mqtt import Listener, broker
    from edgeticket.tls import Tls

    if not http and not mqtt:
        raise UsageError("nothing to serve: name --http HOST:PORT, --mqtt URL, or both")
    if (http_cert and not http) or (http_ca and not http_cert):
        raise UsageError("--http-ca needs --http-cert, and that --http HOST:PORT")
    if (mqtt_cert or mqtt_ca) and not (mqtt or "").startswith("mqtts:"):
        raise UsageError("--mqtt-cert and --mqtt-ca need --mqtt mqtts://HOST/TOPIC")
    store, stopped = _store(fleet), threading.Event()
    server = web.Server(store, service.address(http), Tls(http_cert, http_ca) if http_cert else None) if http else None
    password = mqtt_password.read().strip() if mqtt_password else None
    listener = Listener(store, broker(mqtt), password, Tls(mqtt_cert, mqtt_ca)) if mqtt else None
    signals = SimpleQueue[int]()  # this thread may hold the lock of `stopped` that a handler would wait for

    def wait() -> None:
        signals.get()
        stopped.set()

    threading.Thread(target=wait, daemon=True).start()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: signals.put(number))
    if server:
        scheme = "https" if http_cert else "http"
        click.echo(f"listening at {scheme}://{server.server_address[0]!s}:{server.server_address[1]}/reports", err=True)
    called = service.Hook(hook, hook_timeout_s) if hook else None
    service.serve(
        store, server, listener, called, stopped, lambda found: _echo(output_format, found, show.decision(found))
    )


@command.command("simulate")
@click.option("--devices", default=10000, show_default=True, help="Of a fleet that is made up.")
@click.option("--rate", multiple=True, help="NAME=RATE of the new model at a gate.  [default: the good rate of each]")
@click.option("--reports", default=20, show_default=True, help="Of a device, a day.")
@click.option("--inferences", default=200, show_default=True, help="Of a report.")
@click.option("--within", default=0.0, show_default=True, help="Correlation of inferences of one report.")
@click.option("--between", default=0.0, show_default=True, help="Correlation of reports of one device.")
@click.option("--days", type=click.IntRange(min=1), default=365, show_default=True, help="Give up after so many.")
@click.option("--fleets", type=click.IntRange(min=1), default=100, show_default=True, help="How often to simulate.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the first fleet.")
@plan_options
@format_option
def simulate(
    devices: int,
    rate: tuple[str, ...],
    reports: int,
    inferences: int,
    within: float,
    between: float,
    days: int,
    fleets: int,
    seed: int,
    output_format: str,
    **options: Any,
) -> None:
    """Say what a plan would do with fleets that are made up: the same code decides."""
    from edgeticket.rollout import controller, show
    from edgeticket.rollout.plan import rates
    from edgeticket.rollout.simulate import Fleet
    from edgeticket.rollout.simulate import simulate as run

    plan = _plan(**options)
    controller.check_reachable(plan, devices)
    fleet = Fleet(devices, rates(plan, rate), reports, inferences, within, between)
    found = [run(plan, fleet, seed + index, days) for index in range(fleets)]
    counted = Counter((each.state, each.stage) for each in found)
    rows = [{"state": state, "stage": stage, "fleets": count} for (state, stage), count in sorted(counted.items())]
    largest = max(each.got for each in found)
    _echo(output_format, {"outcomes": rows, "largest_share": largest}, show.outcomes(found))
