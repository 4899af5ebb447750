"""Make a pair of keys to sign bundles and updates with."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    from edgeticket.signing import new_key

    paths = [output.with_name(f"{output.name}.{end}") for end in ("key", "pub")]
    private, public = new_key()
    with _written(paths[0], private, 0o600), _written(paths[1], public, 0o644):
        pass
    if output_format == "text":
        click.echo(f"{paths[0]}: the private key. Keep it off devices and out of version control; who has it can sign.")
    _tell(public, paths[1], output_format, private=str(paths[0]))


@command.command("public")
@click.argument("key", metavar="FILE.key", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@format_option
def public(key: Path, output: Path | None, output_format: str) -> None:
    """Write the public key of a private one, where its .pub is lost."""
    from edgeticket.signing import key_file, public_of, public_pem

    found = public_pem(key_file(key, public_of))
    if output is None and output_format == "text":
        click.echo(found, nl=False)
        return
    if output is not None:
        with _written(output, found, 0o644):
            pass
    _tell(found, output, output_format)


def _tell(public: bytes, path: Path | None, output_format: str, **more: str) -> None:
    from edgeticket.signing import fingerprint, public_key

    raw = public_key(public)
    if output_format == "json":
        told = {"public": str(path) if path else public.decode(), "fingerprint": fingerprint(raw), "bytes": raw.hex()}
        click.echo(json.dumps(more | told))
        return
    click.echo(f"{path}: the public key {fingerprint(raw)}, for `edgeticket verify --key`")
    click.echo(f"for firmware: {{{', '.join(f'0x{byte:02X}' for byte in raw)}}}")


@contextmanager
def _written(path: Path, content: bytes, mode: int) -> Iterator[None]:
    """A new file that nobody else can read at any moment, where `mode` says so; gone again where the block, or writing it, fails.

    Raises UsageError where there is one, EdgeTicketError where it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already, and a key is never replaced: choose another name") from error
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unwritten(path, error) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _unwritten(path: Path, error: OSError) -> EdgeTicketError:
    return EdgeTicketError(f"cannot write {path} ({error.strerror or error}): choose another name, or free some space")
