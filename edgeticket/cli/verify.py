"""Prove that artifacts compute what their ticket computes, and certify its accuracy; or check a bundle, or a report's claims."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import click

from edgeticket.cli import format_option
from edgeticket.cli._options import data_options

FILE, BUNDLE = click.Path(path_type=Path), ".bundle"


@click.command("verify")
@click.argument("ticket", type=click.Path(path_type=Path), required=False)
@click.argument("artifacts", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--claims",
    type=click.Path(path_type=Path),
    help="Check a record, runs/NAME/poc.json, instead: its seal, then all that can be derived anew from its folder and the data.",
)
@data_options(required=False)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=FILE,
    help="Of a bundle: public key that must have signed it; several: any of them.",
)
@click.option("--class", "target_class", help="Of a bundle: the class of devices that it must be for.")
@click.option("--after", type=click.IntRange(min=0), help="Of a bundle: the sequence in use, which it must be above.")
@click.option(
    "--jump",
    default=1000,
    show_default=True,
    type=click.IntRange(min=0),
    help="Of a bundle: by how much it may be above --after; 0: by any.",
)
@click.option("--now", help="Of a bundle: the day for which to ask whether it has expired.  [default: today]")
@click.option("--against", type=FILE, help="Of a bundle: the packet in use, which its difference must be of.")
@click.option("--extract", type=FILE, help="Of a bundle: write its files to this new folder, if all is right.")
@format_option
def command(
    ticket: Path | None,
    artifacts: tuple[Path, ...],
    claims: Path | None,
    source: str | None,
    layout: str,
    output_format: str,
    **options: Any,
) -> None:
    """Compare each of ARTIFACTS with TICKET on the certify part of the data -d; any difference exits with 4.

    TICKET may be a bundle of `edgeticket ship` instead, FILE.bundle, alone: it is checked offline, and refused with a word for
    why. With --claims the data are those that the record names, unless -d says where they lie here.
    """
    _check_options(ticket, artifacts, claims, source, options)
    if ticket is not None and ticket.suffix == BUNDLE:
        checked = _bundle(ticket, **options)
        click.echo(json.dumps(checked.to_json()) if output_format == "json" else checked.text())
        return
    if claims is not None:
        if ticket is not None:
            raise click.UsageError("--claims checks a record alone: leave TICKET out")
        found: Any = _claims(claims, source, layout)
        click.echo(json.dumps(found.to_json()) if output_format == "json" else found.text())
        return
    if ticket is None or source is None:
        missing = "argument 'TICKET'" if ticket is None else "option '-d' / '--data'"
        raise click.UsageError(f"Missing {missing}.")
    from edgeticket.data import load
    from edgeticket.ticket import read_ticket
    from edgeticket.verify import verify

    found = verify(ticket, artifacts, load(source, layout=layout, task=read_ticket(ticket).task))
    click.echo(json.dumps(found.to_json()) if output_format == "json" else found.text())
    found.require()


def _check_options(
    ticket: Path | None, artifacts: tuple[Path, ...], claims: Path | None, source: str | None, options: dict[str, Any]
) -> None:
    """Raise where options are given that would be ignored: what was not checked must not look checked."""
    bundle = ticket is not None and ticket.suffix == BUNDLE
    if bundle and (artifacts or claims is not None or source is not None):
        raise click.UsageError(f"{ticket} is checked alone and offline: leave ARTIFACTS, --claims and -d out")
    for name, value in options.items():
        if not bundle and value and name != "jump":
            option = {"keys": "key", "target_class": "class"}.get(name, name)
            raise click.UsageError(f"--{option} is for a bundle, FILE{BUNDLE}")


def _bundle(
    path: Path, keys: tuple[Path, ...], now: str | None, against: Path | None, extract: Path | None, **asked: Any
) -> Any:
    from edgeticket import bundle_check
    from edgeticket.signing import key_file, public_key

    try:
        asked["today"] = date.today() if now is None else date.fromisoformat(now)
    except ValueError as error:
        raise click.UsageError(f"--now {now!r}: give a day as 2027-12-31") from error
    if extract is not None:
        bundle_check.require_new(extract)
    base = None if against is None else _packet(against)
    checked = bundle_check.check(path, [key_file(key, public_key) for key in keys], against=base, **asked)
    if extract is not None:
        bundle_check.extract(checked.bundle, extract)
    return checked


def _packet(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.UsageError(
            f"--against {path}: cannot be read ({error.strerror or error}): give the packet in use"
        ) from error


def _claims(path: Path, source: str | None, layout: str) -> Any:
    from edgeticket import claims
    from edgeticket.data import load
    from edgeticket.poc.record import read

    if source is None:
        return claims.check(path)
    asked = read(path)["request"]
    layout = asked["layout"] if layout == "auto" else layout
    return claims.check(path, load(source, layout=layout, images=asked["images"], task=asked["task"]))
