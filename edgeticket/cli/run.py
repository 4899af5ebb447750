"""Find, compact, export, verify and bench from one YAML file, into runs/NAME/."""

import json
from pathlib import Path

import click

from edgeticket.cli import format_option
from edgeticket.cli._bar import bar


@click.command("run")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--folder", default="runs", show_default=True, type=click.Path(path_type=Path), help="Where NAME/ is made."
)
@click.option("--dry-run", is_flag=True, help="Print the steps and stop.")
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier run.")
@format_option
def command(config: Path, folder: Path, dry_run: bool, overwrite: bool, output_format: str) -> None:
    """Do the whole job that CONFIG describes. An interrupted run goes on where it stopped when it is started again."""
    from edgeticket import chain
    from edgeticket.config import read_config
    from edgeticket.network import network_plan

    resolved = read_config(config)
    if dry_run:
        plan = network_plan(resolved.model, resolved.load())
        resolved.settings.densities(plan), resolved.settings.learned(plan)  # raise for layers that do not exist
        told = {"config": resolved.resolved(), "steps": list(chain.steps(resolved))}
        click.echo(json.dumps(told) if output_format == "json" else "\n".join(told["steps"]))
        return
    with bar() as report:
        say = click.echo if output_format == "text" else lambda text: None
        made = chain.run(resolved, folder, overwrite=overwrite, say=say, report=report)
    if output_format == "json":
        click.echo((made / "report.jsonl").read_text(encoding="utf-8"), nl=False)
    click.echo(f"wrote {made}", err=True)
