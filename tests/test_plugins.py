import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeticket import plugins
from edgeticket.cli import main
from edgeticket.errors import PluginError, UsageError

TICKET = Path(__file__).parent.parent / "sample_models" / "digits.ticket"
TARGET = "FORMATS = ('onnx',)\ndef missing(): return None\ndef measure(artifacts, **options): return []\n"


def test_the_folder_is_the_registry():
    for kind, wanted in plugins.KINDS.items():
        folder = plugins.ROOT.joinpath(*wanted.package.split("."))
        files = [path.name for path in folder.glob("*.py") if not path.name.startswith("_")]
        assert plugins.names(kind) == sorted(
            name.removeprefix(wanted.prefix).removesuffix(".py") for name in files if name.startswith(wanted.prefix)
        )


def test_helpers_are_not_plugins():
    assert "null" in plugins.names("targets")
    assert "cpu" in plugins.names("targets")
    assert not [name for name in plugins.names("targets") if "worker" in name]
    assert not [name for kind in plugins.KINDS for name in plugins.names(kind) if name.startswith("_")]


@pytest.mark.parametrize("name", plugins.names("targets"))
def test_built_in_targets_load(name):
    target = plugins.load("targets", name)
    assert target.FORMATS
    assert target.missing() is None or isinstance(target.missing(), str)


@pytest.mark.parametrize("kind", ["architectures", "exporters"])
def test_built_in_plugins_are_complete(kind):
    for name in plugins.names(kind):
        plugins.load(kind, name)


def test_a_path_works_like_a_name(tmp_path):
    path = tmp_path / "on_board.py"
    path.write_text("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\n" + TARGET)
    assert plugins.load("targets", str(path)).FORMATS == ("onnx",)


def test_two_files_of_one_name_stay_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "on_x.py").write_text(TARGET + f"NAME = {folder!r}\n")
    loaded = [plugins.load("targets", str(tmp_path / folder / "on_x.py")) for folder in ("a", "b")]
    assert [module.NAME for module in loaded] == ["a", "b"]
    assert sys.modules[loaded[0].__name__] is loaded[0]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PluginError, match=r"'cortex-x'.*cpu, .*null"):
        plugins.load("targets", "cortex-x")
    with pytest.raises(PluginError, match="architectures, exporters, targets, search"):
        plugins.load("colours", "red")


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "x.onnx", "--on"],
        ["export", TICKET, "-o", "x", "--to"],
        ["inspect", "-m"],
        ["find", "-m", "conv:8", "-d", "digits", "-o", "x.ticket", "--method"],
    ],
)
def test_an_unknown_name_is_a_usage_error_and_a_broken_file_is_none(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    for name, code, says in (("nosuch", 2, "'nosuch' is unknown"), ("bad.py", 1, "ZeroDivisionError")):
        done = CliRunner().invoke(main, [*map(str, words), name])
        assert (done.exit_code, says in done.stderr) == (code, True), done.stderr


def test_a_name_cannot_leave_the_folder():
    with pytest.raises(PluginError, match="unknown"):
        plugins.load("targets", "../on_cpu")


def test_hyphens_of_a_name_are_underscores_of_its_file():
    assert plugins.load("architectures", "ds-cnn") is plugins.load("architectures", "ds_cnn")
    with pytest.raises(PluginError, match="'ds--cnn' is unknown"):
        plugins.load("architectures", "ds--cnn")
    with pytest.raises(PluginError, match="'-layers' is unknown"):
        plugins.load("architectures", "-layers")


def test_missing_names_are_named(tmp_path):
    path = tmp_path / "to_x.py"
    path.write_text("SUFFIX = '.x'\n")
    with pytest.raises(PluginError, match=rf"exporter {path} defines no function export\(...\) at module level"):
        plugins.load("exporters", str(path))
    path.write_text("")
    with pytest.raises(PluginError, match=r"defines no constant SUFFIX and no function export"):
        plugins.load("exporters", str(path))
    path.write_text("SUFFIX = '.x'\nexport = 1\n")
    with pytest.raises(PluginError, match=r"no function export"):
        plugins.load("exporters", str(path))


INSIDE = """
import json
def plan(width=0):
    return inner(width)
def inner(width):
    return json.loads("{") if width else 1 / width
def own(error):
    raise error
"""


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda module: module.plan(0), ", line 6: ZeroDivisionError: division by zero"),
        (lambda module: module.plan(3), ", line 6: JSONDecodeError: Expecting"),
        (lambda module: module.own(SyntaxError("odd")), ", line 8: SyntaxError: odd"),
        (lambda module: module.plan(1, 2), ": TypeError: plan() takes"),
    ],
)
def test_what_a_plugin_raises_is_blamed_on_it(tmp_path, monkeypatch, call, says):
    (tmp_path / "mine.py").write_text(INSIDE)
    monkeypatch.chdir(tmp_path)
    for path in ("mine.py", str(tmp_path / "mine.py")):
        module = plugins.load("architectures", path)
        with pytest.raises(PluginError) as caught, plugins.blame("architectures", path):
            call(module)
        assert str(caught.value).startswith(f"architecture {path}{says}")
        assert caught.value.__cause__ is not None


def test_what_is_not_a_plugins_fault_passes(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(INSIDE)
    module = plugins.load("architectures", str(path))
    for error in (UsageError("ours"), PluginError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, plugins.blame("architectures", str(path)):
            module.own(error)
        assert caught.value is error
    with pytest.raises(ZeroDivisionError), plugins.blame("architectures", "conv"):
        module.plan(0)
    with plugins.blame("architectures", str(path)):
        pass
    with pytest.raises(PluginError, match="no plug-ins of the kind"), plugins.blame("colours", "red"):
        pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nimport no_such_module\n", "line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n\ndef f(:\n", "line 3: SyntaxError"),
        ("import json\n\n\njson.loads('{')\n", "line 4: JSONDecodeError"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    ],
)
def test_an_error_inside_names_file_and_line(tmp_path, text, says):
    path = tmp_path / "broken.py"
    path.write_text(text)
    before = set(sys.modules)
    with pytest.raises(PluginError) as caught:
        plugins.load("architectures", str(path))
    assert f"{path}, {says}" in str(caught.value)
    assert not [name for name in set(sys.modules) - before if "broken" in name]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PluginError, match="no such file"):
        plugins.load("targets", str(tmp_path / "on_x.py"))
