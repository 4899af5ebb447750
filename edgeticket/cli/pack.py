"""Write a ticket as an update for a device: a packet, or what differs from an older one."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.packing import FORMS, Packed, pack_ticket
from edgeticket.ticket import read_ticket


@click.command("pack")
@click.argument("ticket")
@click.option(
    "--form", default="seed", show_default=True, help=f"{', '.join(FORMS)}: as the firmware was exported with."
)
@click.option(
    "--align", default=1, show_default=True, help="Round channel counts up to a multiple, as the firmware does."
)
@click.option("--against", type=click.Path(path_type=Path), help="An older packet: write what differs from it.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@format_option
def command(
    ticket: str, form: str, align: int, against: Path | None, output: Path, overwrite: bool, output_format: str
) -> None:
    """Write TICKET as an update for a device: a packet, or what differs from an older one.

    The firmware is what `export --to c` made of any ticket of the same narrow plan, compiled with -DNAME_UPDATABLE or
    -DNAME_NO_MODEL; its NAME_load takes the packet, its NAME_patch a difference.
    """
    done = pack_ticket(read_ticket(ticket), output, form=form, align=align, against=against, overwrite=overwrite)
    show(done, output_format)


def show(done: Packed, output_format: str) -> None:
    """Bytes by part, beside the entropy of what they hold, and the count of the ticket."""
    total, least = sum(done.parts.values()), sum(done.entropy.values())
    if output_format == "json":
        fields = {"path": str(done.path), "bytes": done.written, "packet_bytes": total, "firmware": done.firmware}
        fields |= {"parts": dict(done.parts), "entropy": dict(done.entropy), "ticket_bytes": done.counted}
        click.echo(json.dumps(fields))
        return
    click.echo(f"{done.path}: {done.written:,} bytes for firmware {done.firmware}")
    click.echo(f"{'packet':<26}{'bytes':>9}{'entropy':>11}")
    for part, count in done.parts.items():
        click.echo(f"  {part:<24}{count:>9,}{done.entropy[part]:>11,.1f}")
    click.echo(f"  {'all':<24}{total:>9,}{least:>11,.1f}  {total / least - 1:+.1%}")
    click.echo(f"the ticket, counted with codes that a device does not read: {done.counted:,} bytes")
