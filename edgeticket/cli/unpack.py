"""Write the plain fp32 form of an exported ONNX file, for a runtime or device that should not compute weights at load."""

from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.cli.export import show
from edgeticket.export import unpack


@click.command("unpack")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@format_option
def command(file: Path, output: Path, overwrite: bool, output_format: str) -> None:
    """Write FILE, an ONNX file of edgeticket export, with its weights as plain float32: same outputs, bit for bit."""
    show(unpack(file, output, overwrite), output_format)
