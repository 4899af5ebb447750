import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

import edgeticket
from edgeticket import cli, errors
from edgeticket.cli import main

FOLDER = Path(cli.__file__).parent
COMMANDS = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "yaml", "safetensors")


def python(code):
    """Run code in a fresh interpreter; its stdout."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def leaves(command, name):
    if isinstance(command, click.Group):
        return [leaf for key, child in command.commands.items() for leaf in leaves(child, f"{name} {key}")]
    return [(name, command)]


def test_the_overview_lists_every_file_in_the_order_of_work():
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    listed = re.findall(r"^  (\w+)  ", done.output.partition("Commands:")[2], re.MULTILINE)
    assert sorted(listed) == COMMANDS
    known = [name for name in cli.ORDER if name in COMMANDS]
    assert listed[: len(known)] == known


def test_the_overview_loads_no_heavy_package_and_no_command():
    code = "import sys; from edgeticket.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = set(python(code).splitlines()[-1].split())
    assert not loaded & set(HEAVY)
    assert not [name for name in loaded if name.startswith("edgeticket.cli.")]


def test_importing_the_package_loads_nothing():
    loaded = set(python("import sys, edgeticket; edgeticket.__version__; print(*sys.modules)").split())
    assert not loaded & {*HEAVY, "click"}
    assert [name for name in loaded if name.startswith("edgeticket")] == ["edgeticket"]


def test_public_names_are_lazy_and_all_there():
    for name in edgeticket._HOME:
        assert getattr(edgeticket, name).__name__ == name
        assert name in dir(edgeticket)
    assert edgeticket.bench.bench
    with pytest.raises(AttributeError, match="nonsense"):
        _ = edgeticket.nonsense


def test_the_version_is_the_one_that_is_installed():
    setup = (FOLDER.parent.parent / "setup.cfg").read_text()
    assert f"version = {edgeticket.__version__}\n" in setup
    assert edgeticket.__version__ in CliRunner().invoke(main, ["--version"]).output


def test_export_bench_and_verify_work_without_torch():
    modules = [f"edgeticket.cli.{name}" for name in ("export", "bench", "verify", "unpack", "show", "inspect")]
    root = FOLDER.parent.parent
    modules += [f"exporters.{path.stem}" for path in (root / "exporters").glob("*.py") if path.stem != "__init__"]
    modules += [f"edgeticket.targets.{path.stem}" for path in (FOLDER.parent / "targets").glob("*.py")]
    code = f"import sys; sys.modules['torch'] = None\nfrom importlib import import_module\nfor m in {modules}: import_module(m)"
    python(code)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_format(name):
    assert cli._summary(name).endswith(".")
    command = main.get_command(click.Context(main), name)
    for whole, leaf in leaves(command, name):
        assert leaf.help, whole
        options = {flag: option for option in leaf.params for flag in option.opts}
        assert {"--format", "--debug", "-v"} <= set(options), whole
        assert set(options["--format"].type.choices) == {"text", "json"}, whole
        silent = [option.name for option in leaf.params if isinstance(option, click.Option) and not option.help]
        assert not silent, f"{whole}: no help for {silent}"
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output


def raising(monkeypatch, error):
    """Make `edgeticket bench` raise."""

    @click.command("bench")
    def command():
        raise error

    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(command=command))


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.EdgeTicketError, 1),
        (errors.TicketError, 1),
        (errors.DataError, 1),
        (errors.PluginError, 1),
        (errors.UsageError, 2),
        (errors.BudgetError, 3),
        (errors.EquivalenceError, 4),
        (errors.UnsupportedError, 5),
        (errors.InsufficientDataError, 6),
    ],
)
def test_a_library_error_is_a_line_and_an_exit_code(monkeypatch, kind, code):
    raising(monkeypatch, kind("layer c1: what, where, what next"))
    done = CliRunner().invoke(main, ["bench"])
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "Error: layer c1: what, where, what next\n")


def test_every_error_class_has_its_exit_code_tested():
    assert {cls.exit_code for cls in errors.EdgeTicketError.__subclasses__()} == {1, 2, 3, 4, 5, 6}


def test_interrupted_is_130_and_says_how_to_go_on(monkeypatch):
    raising(monkeypatch, KeyboardInterrupt())
    done = CliRunner().invoke(main, ["bench"])
    assert done.exit_code == 130
    assert "--resume" in done.stderr


@pytest.mark.parametrize("arguments", [["bench", "--debug"], ["--debug", "bench"]])
def test_an_unexpected_error_keeps_its_traceback_with_debug_only(monkeypatch, arguments):
    raising(monkeypatch, ZeroDivisionError("by zero"))
    done = CliRunner().invoke(main, ["bench"])
    assert done.exit_code == 1
    assert re.fullmatch(r"Error: unexpected ZeroDivisionError: by zero: .*--debug.*\n", done.stderr)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "test_cli.py" in done.stderr


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    raising(monkeypatch, ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    done = CliRunner().invoke(main, ["bench"])
    assert done.exit_code == 1
    assert "pip install 'edgeticket[search]'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["bench", "--nonsense"], ["bench", "--format", "xml", "a"], ["bench"]]
)
def test_wrong_usage_is_2(arguments):
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [(["bench"], []), (["-v", "bench"], ["step"]), (["bench", "-v"], ["step"]), (["bench", "-vv"], ["step", "detail"])],
)
def test_logs_go_to_stderr_when_asked_for(monkeypatch, arguments, lines):
    import logging

    @click.command("bench")
    def command():
        logging.getLogger("edgeticket.x").info("step")
        logging.getLogger("edgeticket.x").debug("detail")

    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(command=command))
    done = CliRunner().invoke(main, arguments)
    assert (done.stdout, done.stderr.split()) == ("", lines)


def test_python_m_edgeticket():
    done = subprocess.run(
        [sys.executable, "-m", "edgeticket", "bench", "no.onnx"],
        capture_output=True,
        text=True,
        cwd=FOLDER.parent.parent,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: no.onnx: there is no such file or folder\n"
