"""`edgeticket run`: the whole job into one folder, which appears whole, or can be gone on with."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from edgeticket import chain
from edgeticket.cli import main
from edgeticket.config import KEYS, read_config
from edgeticket.errors import EquivalenceError
from edgeticket.ticket import Ticket, read_ticket

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "model": "conv:16,16,16",
    "data": "digits",
    "find": {"keep": 0.5, "epochs": 2, "batch": 32, "seed": 3},
    "export": {"tiny.onnx": {}, "tiny-int8.onnx": {"precision": "int8"}},
    "bench": {"runs": 5, "warmup": 1},
}
STEPS = ["find", "show", "compact", "verify", "bench"]
FILES = {"tiny.ticket", "tiny.onnx", "tiny-int8.onnx", "unremoved.onnx", "control.onnx"}
NOTES = {"config.yaml", "report.jsonl", "log.txt"}


def write_config(folder: Path, **changes: Any) -> Path:
    """`find`, `export` and `bench` given as changes are merged into those of CONFIG."""
    config = dict(CONFIG)
    for key, value in changes.items():
        merge = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = {**config[key], **value} if merge else value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def invoke(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", str(config), "--folder", str(config.parent / "runs"), *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of an uninterrupted run, and what the command printed."""
    config = write_config(tmp_path_factory.mktemp("chain"))
    done = invoke(config)
    assert done.exit_code == 0, done.output
    return config.parent / "runs" / "tiny", done


def test_the_folder_holds_everything(whole: tuple[Path, Result]) -> None:
    folder, done = whole
    assert set(contents(folder)) == FILES | NOTES
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert done.stderr == f"wrote {folder}\n"
    assert [line[3:] for line in done.stdout.splitlines() if line.startswith("== ")] == STEPS
    assert (folder / "log.txt").read_text() == done.stdout
    narrow = read_ticket(folder / "tiny.ticket").narrow
    assert narrow.widths() == {"conv1": 8, "conv2": 8, "conv3": 8, "head": 10}


def test_the_report_is_a_line_a_step(whole: tuple[Path, Result]) -> None:
    folder, _ = whole
    rows = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == STEPS
    told = {row["step"]: row["result"] for row in rows}
    digest = read_ticket(folder / "tiny.ticket").digest
    assert told["find"]["digest"] == told["show"]["digest"] == told["verify"]["digest"] == digest
    assert [row["name"] for row in told["find"]["results"]] == ["ticket", "control"]
    assert told["verify"]["passed"]
    assert told["verify"]["same_data"]
    checked = {link["what"] for link in told["verify"]["links"] if link["outcome"] == "passed"}
    assert {"compacted network", "tiny.onnx", "tiny-int8.onnx"} <= checked
    measured = [Path(row["artifact"]).name for row in told["bench"]]
    assert measured == ["unremoved.onnx", "tiny.onnx", "tiny-int8.onnx", "control.onnx"]
    assert told["find"]["results"][0]["correct"] == told["verify"]["accuracy"][0]["figures"]["correct"]


def test_the_resolved_config_has_every_choice_and_is_a_config(whole: tuple[Path, Result]) -> None:
    folder, _ = whole
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["find"]["keep"] == 0.5
    assert resolved["find"]["density"] == "auto"  # a default
    assert resolved["find"]["control"] is True
    assert set(resolved) == KEYS
    assert read_config(folder / "config.yaml").resolved() == resolved


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench that measures nothing: the fixture `whole` has a real one, in a process for each network."""
    bench = chain.bench
    monkeypatch.setattr(chain, "bench", wraps(bench)(lambda paths, **more: bench(paths, **{**more, "on": "null"})))


def test_json(tmp_path: Path, whole: tuple[Path, Result]) -> None:
    done = invoke(write_config(tmp_path, find={"control": False, "epochs": 1}), "--format", "json")
    assert done.exit_code == 0, done.output
    assert done.stdout == (tmp_path / "runs" / "tiny" / "report.jsonl").read_text()
    assert "control.onnx" not in contents(tmp_path / "runs" / "tiny")


def test_dry_run_says_the_steps_and_writes_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path, find={"float_control": True})
    done = invoke(config, "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "find",
        "show",
        "compact",
        *["export"] * 3,
        "verify",
        "bench",
    ]
    for word in ("conv:16,16,16", "digits", "2 epochs", "tiny-int8.onnx", "control.onnx, float.onnx"):
        assert word in done.stdout
    told = json.loads(invoke(config, "--dry-run", "--format", "json").stdout)
    assert told["config"]["find"]["batch"] == 32
    assert len(told["steps"]) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


WRONG = {
    "a key": ({"modle": "conv"}, "modle"),
    "a find option": ({"find": {"epoch": 3}}, "find has no option 'epoch'"),
    "a find option that is for Python": ({"find": {"layer_density": 0.1}}, "layer_density"),
    "a bench option": ({"bench": {"paths": "x"}}, "bench has no option 'paths'"),
    "an export option": ({"export": {"tiny.onnx": {"weight": "trit5"}}}, "export tiny.onnx has no option 'weight'"),
    "find is no mapping": ({"find": [1]}, "find is not a mapping"),
    "export is no mapping": ({"export": "a.onnx"}, "export is not a mapping"),
    "an export is no mapping": ({"export": {"a.onnx": 3}}, "export a.onnx is not a mapping"),
    "a value of another kind": ({"find": {"epochs": "many"}}, "find: epochs cannot be 'many'"),
    "half an epoch": ({"find": {"epochs": 2.5}}, "find: epochs cannot be 2.5"),
    "a word for a flag": ({"find": {"control": "no"}}, "find: control cannot be 'no'"),
    "a flag for a number": ({"find": {"seed": True}}, "find: seed cannot be True"),
    "a bench value": ({"bench": {"runs": "x"}}, "bench: runs cannot be 'x'"),
    "images": ({"images": "all"}, "images cannot be 'all'"),
    "half an image": ({"images": 2.5}, "images cannot be 2.5"),
    "a value out of range": ({"find": {"keep": 0}}, "--keep"),
    "a density": ({"find": {"density": "much"}}, "--density much"),
    "a name that leaves the folder": ({"name": "../tiny"}, "'../tiny' cannot be the name"),
    "an absolute name": ({"name": "/srv/tiny"}, "cannot be the name"),
    "a name of dots": ({"name": ".."}, "'..' cannot be the name"),
    "an empty name": ({"name": ""}, "'' cannot be the name"),
    "a hidden name": ({"name": ".tiny.old"}, "cannot be the name"),
    "the name of another's partial folder": ({"name": "other.partial"}, "cannot be the name"),
    "a name with a line end": ({"name": "a\nb"}, "cannot be the name"),
    "an output that leaves the folder": ({"export": {"../a.onnx": {}}}, "cannot be the name"),
    "an output over the control": ({"export": {"control.onnx": {}}}, "cannot be the name"),
    "an output over the ticket": ({"export": {"tiny.ticket": {}}}, "cannot be the name"),
    "an output over the report": ({"export": {"report.jsonl": {}}}, "cannot be the name"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_wrong_config_is_refused_before_any_work(wrong: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    changes, told = WRONG[wrong]
    done = invoke(write_config(tmp_path, **changes), *arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("text", ["", "- a\n", "just words", "name: [", "a: &a [*a]\n? {b: c}\n: d\n", "\x00"])
def test_a_file_that_is_no_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    done = invoke(tmp_path / "config.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Error: {tmp_path / 'config.yaml'}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_no_file_at_all(tmp_path: Path) -> None:
    done = invoke(tmp_path / "none.yaml")
    assert done.exit_code == 2
    assert "none.yaml" in done.stderr


def test_an_existing_folder_is_left_alone_without_overwrite(tmp_path: Path) -> None:
    old = tmp_path / "runs" / "tiny"
    old.mkdir(parents=True)
    (old / "mine").write_text("mine")
    done = invoke(write_config(tmp_path))
    assert done.exit_code == 2
    assert "--overwrite" in done.stderr
    assert contents(tmp_path / "runs") == {"tiny/mine": b"mine"}


def test_a_file_in_the_way_is_not_a_run_and_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").write_text("mine")
    assert invoke(write_config(tmp_path), "--overwrite").exit_code == 2
    assert contents(tmp_path / "runs") == {"tiny": b"mine"}


@pytest.mark.usefixtures("quick")
def test_overwrite_replaces_the_folder_whole(tmp_path: Path) -> None:
    old = tmp_path / "runs" / "tiny"
    old.mkdir(parents=True)
    (old / "mine").write_text("mine")
    quick = write_config(tmp_path, find={"control": False, "epochs": 1}, export={"tiny.onnx": {}})
    done = invoke(quick, "--overwrite")
    assert done.exit_code == 0, done.output
    assert set(contents(old)) == (FILES | NOTES) - {"control.onnx"}
    assert [path.name for path in old.parent.iterdir()] == ["tiny"]


def failing(step: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """A step, with its signature, that raises."""

    @wraps(step)
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def stop_at(phase: str, step: int) -> Callable[[Any], None]:
    def report(progress: Any) -> None:
        if (progress.phase, progress.step) == (phase, step):
            raise KeyboardInterrupt

    return report


@pytest.mark.usefixtures("quick")
def test_interrupted_and_started_again_gives_the_same_ticket(
    tmp_path: Path, whole: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = read_config(write_config(tmp_path)), tmp_path / "runs"
    for phase in ("ticket", "control"):
        with pytest.raises(KeyboardInterrupt):
            chain.run(config, folder, report=stop_at(phase, 40))
        assert [path.name for path in folder.iterdir()] == ["tiny.partial"]

    with monkeypatch.context() as patch:
        patch.setattr(chain, "bench", failing(chain.bench, KeyboardInterrupt()))
        done = invoke(tmp_path / "config.yaml")
    assert done.exit_code == 130
    assert [path.name for path in folder.iterdir()] == ["tiny.partial"]

    steps: list[Any] = []
    chain.run(config, folder, report=steps.append)
    assert not steps  # the search was done: nothing of it is done again
    made = contents(folder / "tiny")
    assert [path.name for path in folder.iterdir()] == ["tiny"]
    assert set(made) == FILES | NOTES
    expected = contents(whole[0])
    for name in FILES | {"config.yaml"}:
        assert made[name] == expected[name], name
    rows = made["report.jsonl"].decode().splitlines()
    assert [json.loads(row)["step"] for row in rows] == STEPS  # once each


@pytest.mark.usefixtures("quick")
def test_another_config_does_not_go_on_with_the_partial_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    first = read_config(write_config(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        chain.run(first, folder, report=stop_at("ticket", 40))
    left = folder / "tiny.partial" / "left-over"
    left.write_text("of the first config")
    steps: list[int] = []
    other = read_config(write_config(tmp_path, find={"seed": 4, "control": False}))
    chain.run(other, folder, report=lambda progress: steps.append(progress.step))
    assert steps[0] == 1  # from the start, not from step 40
    assert "left-over" not in contents(folder / "tiny")
    assert read_ticket(folder / "tiny" / "tiny.ticket").seed == 4


@pytest.mark.usefixtures("quick")
def test_nothing_appears_when_a_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "runs" / "tiny"
    old.mkdir(parents=True)
    (old / "mine").write_text("mine")
    config = write_config(tmp_path, find={"control": False, "epochs": 1})

    different = EquivalenceError("compact against the masked wide network: outputs differ")
    full = OSError(28, "No space left on device", "somewhere")
    for name, error, code in [
        ("prove_compact", different, 4),
        ("export", different, 4),
        ("put_in_place", full, 1),
        ("bench", full, 1),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(chain, name, failing(getattr(chain, name), error))
            done = invoke(config, "--overwrite")
        assert done.exit_code == code, (name, done.output)
        assert done.stderr.count("\n") == 1
        assert contents(old) == {"mine": b"mine"}
        assert {path.name for path in old.parent.iterdir()} == {"tiny", "tiny.partial"}
    done = invoke(config, "--overwrite")
    assert done.exit_code == 0, done.output
    assert "mine" not in contents(old)


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, partial, rename = tmp_path / "tiny", tmp_path / "tiny.partial", Path.rename
    for folder in (target, partial):
        folder.mkdir()
        (folder / "of").write_text(folder.name)

    def refuse(path: Path, to: Path) -> Path:
        if path == partial:
            raise OSError(5, "Input/output error")
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="Input/output"):
            chain.put_in_place(partial, target)
    assert contents(tmp_path) == {"tiny/of": b"tiny", "tiny.partial/of": b"tiny.partial"}
    chain.put_in_place(partial, target)
    assert contents(tmp_path) == {"tiny/of": b"tiny.partial"}


def test_an_artifact_that_is_not_the_tickets_stops_the_run_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = chain.export

    def altered(source: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(source, Ticket):
            source = replace(source, bias={k: b + np.float32(0.01) for k, b in source.bias.items()})
        return real(source, *arguments, **options)

    monkeypatch.setattr(chain, "export", altered)
    done = invoke(write_config(tmp_path, find={"control": False, "epochs": 1}))
    assert done.exit_code == 4
    assert "Error: tiny.onnx is not the compacted network" in done.stderr
    assert "  failed   tiny.onnx" in done.stdout
    assert not (tmp_path / "runs" / "tiny").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("task", "model", "word"), [("regression", "wave:16,16", "rmse"), ("anomaly", "autoencoder:32,8", "auc")]
)
def test_a_run_of_another_task_says_its_figures(task: str, model: str, word: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(size=(300, 1, 1))
    x = (level + rng.normal(0, 0.3, (300, 1, 32))).astype(np.float32)
    kind = np.arange(300) % 3 == 0
    x[kind] *= 3 if task == "anomaly" else 1
    y = kind.astype(np.int64) if task == "anomaly" else (100 + 5 * level[:, 0, 0]).astype(np.float32)
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y)
    find = {"keep": 0.5, "epochs": 3, "batch": 16}
    config = write_config(tmp_path, model=model, data=str(tmp_path / "own.npz"), layout="series", task=task, find=find)
    done = invoke(config)
    assert done.exit_code == 0, done.output
    rows = (tmp_path / "runs" / "tiny" / "report.jsonl").read_text().splitlines()
    told = {row["step"]: row["result"] for row in map(json.loads, rows)}
    found, checked = told["find"]["results"], told["verify"][word]
    assert [row["name"] for row in found] == ["ticket", "control"]
    assert [row["what"] for row in checked] == ["tiny.ticket", "tiny.onnx", "tiny-int8.onnx", "integer network"]
    assert checked[0]["figures"][word] == pytest.approx(found[0][word], rel=1e-3)
    assert checked[1]["figures"][word] == pytest.approx(found[0][word], rel=1e-3)
    assert told["verify"]["passed"]
    assert read_ticket(tmp_path / "runs" / "tiny" / "tiny.ticket").task == task
    assert f"\n{word.upper()} on the certify part of own.npz" in done.stdout
