"""The documents say what the program does: every command is in the README, and every command line there parses."""

import re
import shlex
from pathlib import Path

import click
import pytest

from edgeticket.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTEXT = click.Context(main)
LINES = sorted(
    {
        line.strip().removeprefix(".venv/bin/")
        for file in ("README.md", "docs/evidence.md")
        if (ROOT / file).exists()
        for line in re.findall(r"^ {4}(?:\.venv/bin/)?edgeticket .*", (ROOT / file).read_text(), re.MULTILINE)
    }
)


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


def test_the_readme_has_commands_and_nothing_is_left_to_fill_in() -> None:
    assert len(LINES) >= 4
    assert not re.search(r"@[A-Z]+@", README)
    for table in ("docs/evidence.md", "docs/bench.md"):
        assert (ROOT / table).read_text().count("\n|") > 6


@pytest.mark.parametrize("line", LINES)
def test_command_lines_parse(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = main.get_command(CONTEXT, name)
    assert command is not None, line
    command.make_context(name, arguments)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("torch")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 (our own README)
    assert "digits.onnx" in capsys.readouterr().out


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_files_that_the_readme_links_exist(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", re.findall(r"`make (\w+)`", README))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
