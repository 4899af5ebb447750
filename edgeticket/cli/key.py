"""Make a pair of keys to sign bundles and updates with."""

import json
import os
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.errors import EdgeTicketError, UsageError


@click.group("key")
def command() -> None:
    """Make a pair of keys to sign bundles and updates with."""


@command.command("new")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="NAME: writes NAME.key and NAME.pub."
)
@format_option
def new(output: Path, output_format: str) -> None:
    """Write NAME.key, for you alone and never replaced, and NAME.pub, for whoever checks; print what firmware needs."""
    from edgeticket.signing import fingerprint, new_key, public_key

    paths = [output.with_name(f"{output.name}.{end}") for end in ("key", "pub")]
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(f"{path} exists already, and a key is never replaced: choose another name")
    private, public = new_key()
    for path, content, mode in zip(paths, (private, public), (0o600, 0o644), strict=True):
        _write_new(path, content, mode)
    raw = public_key(public)
    if output_format == "json":
        told = {"private": str(paths[0]), "public": str(paths[1]), "fingerprint": fingerprint(raw), "bytes": raw.hex()}
        click.echo(json.dumps(told))
        return
    click.echo(f"{paths[0]}: the private key. Keep it off devices and out of version control; who has it can sign.")
    click.echo(f"{paths[1]}: the public key {fingerprint(raw)}, for `edgeticket verify --key`")
    click.echo(f"for firmware: {{{', '.join(f'0x{byte:02X}' for byte in raw)}}}")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """A file that nobody else can read at any moment, where `mode` says so. Raises EdgeTicketError where it cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise EdgeTicketError(f"cannot write {path} ({error.strerror or error}): choose another name") from error
