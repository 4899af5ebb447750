"""sweep: resumable row by row, honest about what failed, and optimal where nothing is better."""

import hashlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_pool import runs, wait_until

torch = pytest.importorskip("torch")

from edgeticket import __version__  # noqa: E402
from edgeticket.auto import effort  # noqa: E402
from edgeticket.cli import main  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.errors import EdgeTicketError, PluginError, UsageError  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.pareto import AXES, check_picture, picture, read_rows, summaries, table  # noqa: E402
from edgeticket.session import Session  # noqa: E402
from edgeticket.sweep import done, grid, seconds, sweep, tried  # noqa: E402

QUICK = {"epochs": [1], "batch": [64]}


def test_every_combination_once_one_seed_of_all_first() -> None:
    searches = grid(["conv:8,8", "conv:16,16"], ["", "packet=2K"], [3, 4], density=["auto", "0.1"], edges=["1,conv1=2"])
    assert len(searches) == 2 * 2 * 2 * 2
    assert [search.settings.seed for search in searches] == [3] * 8 + [4] * 8
    assert {search.settings.density for search in searches} == {None, 0.1}
    assert all(search.settings.layer_edges == {"conv1": 2} for search in searches)
    for wrong in ({"density": ["2"]}, {"signs": ["mine"]}):
        with pytest.raises(UsageError):
            grid(["conv"], [""], [0], **wrong)
    with pytest.raises(UsageError, match="no resource"):
        grid(["conv"], ["speed=1"], [0])


def test_what_is_written_in_two_ways_is_one_search() -> None:
    assert len(grid(["conv", "conv"], ["packet=2K", "packet=2048"], [0, 0], density=["0.5", "0.50"])) == 1
    assert len(grid(["conv"], [""], [0], density=["0.5", "0.51"])) == 2


def test_keep_and_budget_contradict_each_other_before_anything_runs() -> None:
    assert len(grid(["conv"], ["packet=2K"], [0], keep=[1.0])) == 1
    with pytest.raises(UsageError, match="--keep and --budget"):
        grid(["conv"], ["", "packet=2K"], [0], keep=[1.0, 0.5])


def test_finished_rows_are_not_run_again_and_others_are(digits: Data, tmp_path: Path) -> None:
    path, ran = tmp_path / "rows.jsonl", []
    first = sweep(grid(["conv:8,8"], [""], [0], density=["0.5"], **QUICK), digits, path)
    both = grid(["conv:8,8"], [""], [0, 1], density=["0.5"], **QUICK)
    rows = sweep(both, digits, path, report=lambda row, of, progress: ran.append((row, of)))
    assert rows[0] == first[0]
    assert set(ran) == {(1, 1)}  # one of two was missing
    assert [row["key"]["seed"] for row in read_rows(path)] == [0, 1]
    assert list(tmp_path.iterdir()) == [path]
    assert rows[1]["cost"]["packed_bytes"] > 100
    assert rows[1]["cost"]["latency_ms"] is None
    assert 0 < rows[1]["select"] <= 1


def test_an_interrupted_search_goes_on(digits: Data, tmp_path: Path) -> None:
    searches, path = grid(["conv:8,8"], [""], [0], density=["0.5"], epochs=[3], batch=[64]), tmp_path / "rows.jsonl"
    (whole,) = sweep(searches, digits, tmp_path / "whole.jsonl")
    steps: list[int] = []

    def interrupt(row: int, of: int, progress) -> None:
        steps.append(progress.step)
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(searches, digits, path, report=interrupt)
    assert not path.exists()
    (resumed,) = sweep(searches, digits, path, report=lambda row, of, progress: steps.append(progress.step))
    assert steps[20] == 21
    assert resumed["certify"] == whole["certify"]


def test_a_checkpoint_of_another_row_is_no_obstacle(digits: Data, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        sweep(grid(["conv:8,8"], [""], [0], **QUICK), digits, path, report=stop)
    assert len(sweep(grid(["conv:8,8"], [""], [1], **QUICK), digits, path)) == 1


def stop(row: int, of: int, progress) -> None:
    raise KeyboardInterrupt


def test_a_second_sweep_on_a_file_is_refused(digits: Data, tmp_path: Path) -> None:
    path, refused = tmp_path / "rows.jsonl", []
    one, other = (grid(["conv:8,8"], [""], [seed], density=["0.5"], **QUICK) for seed in (0, 1))

    def meanwhile(row: int, of: int, progress) -> None:
        if not refused:
            with pytest.raises(UsageError, match="another run is at work on it") as error:
                sweep(other, digits, path)
            refused.append(error)

    sweep(one, digits, path, report=meanwhile)
    assert refused
    sweep(other, digits, path)
    assert [row["key"]["seed"] for row in read_rows(path)] == [0, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_killed_just_after_its_row_was_written_leaves_no_checkpoint(digits: Data, tmp_path: Path) -> None:
    path, searches = tmp_path / "rows.jsonl", grid(["conv:8,8"], [""], [0, 1], density=["0.5"], **QUICK)
    with pytest.raises(KeyboardInterrupt):
        sweep(searches, digits, path, report=stop)
    (left,) = tmp_path.glob("*.checkpoint")
    content = left.read_bytes()
    sweep(searches[:1], digits, path)
    left.write_bytes(content)
    sweep(searches, digits, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_plug_in_that_changed_is_another_search(digits: Data, tmp_path: Path) -> None:
    method, net = tmp_path / "mine.py", tmp_path / "net.py"
    for file in (method, net):
        file.write_text("ONE = 1\n")
    (search,) = grid([f"{net}:Net"], [""], [0], method=[str(method)], teacher=[f"{net}:8,8"])
    key, rows = search.key(digits), [{"key": search.key(digits)}]
    digest = hashlib.sha256(b"ONE = 1\n").hexdigest()
    assert key["method"] == f"mine.py sha256 {digest}"
    assert key["network"] == f"net.py:Net sha256 {digest}"
    assert key["teacher"] == f"net.py:8,8 sha256 {digest}"
    assert key["edgeticket"] == __version__
    assert done(search, digits, rows)
    for file in (method, net):
        file.write_text("TWO = 2\n")
        assert not done(search, digits, rows)
        file.write_text("ONE = 1\n")
    method.unlink()
    with pytest.raises(PluginError, match="no such file"):
        search.key(digits)


def test_a_cut_line_is_dropped_and_junk_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "rows.jsonl", json.dumps(row("cheap", 0, 0.7, 100)) + "\n"
    for cut in ('{"key": {"se', '{"k', whole[:-5]):
        path.write_text(whole + cut)
        assert read_rows(path) == [json.loads(whole)]
    for junk in ("junk", "5", '{"a":1}', '{"key": {}}', '{"key": 5}', "\0", '{"failed": "x"}', "[]"):
        for text in (junk + "\n" + whole, whole + junk, junk):
            path.write_text(text)
            with pytest.raises(EdgeTicketError, match=rf"line {2 if text == whole + junk else 1}: not a row"):
                read_rows(path)


def test_a_budget_that_no_width_meets_is_a_row_that_says_so(digits: Data, tmp_path: Path) -> None:
    rows = sweep(grid(["conv:8,8"], ["macs=1"], [0], **QUICK), digits, tmp_path / "rows.jsonl")
    assert "cannot be met" in rows[0]["failed"]
    assert "cannot be met" in table(rows)


def row(name: str, seed: int, select: float, packed: int, latency: float | None = None, lower: bool = False) -> dict:
    cost = dict.fromkeys(AXES) | {"packed_bytes": packed, "latency_ms": latency}
    key = {"network": name, "seed": seed, "method": "subset_sum"}
    key |= {"budget": "", "examples": 9, "density": 0.5, "epochs": 1}
    return {
        "key": key,
        "select": select,
        "certify": select,
        "lower_is_better": lower,
        "cpu_seconds": 10,
        "missed": [],
        "cost": cost,
    }


def test_optimal_is_what_nothing_beats_in_both() -> None:
    rows = [
        row("cheap", 0, 0.7, 100),
        row("good", 0, 0.9, 300, 2.0),
        row("good", 1, 0.8, 320, 4.0),
        row("worse", 0, 0.84, 400, 1.0),
        row("alike", 0, 0.7, 100),
    ]
    found = {one.label.removeprefix("network="): one for one in summaries(rows)}
    assert {name: "packed_bytes" in one.best for name, one in found.items()} == {
        "cheap": True, "good": True, "worse": False, "alike": True}  # fmt: skip
    assert "latency_ms" in found["worse"].best
    assert "latency_ms" not in found["cheap"].best
    good = found["good"]
    assert (good.seeds, good.select, good.costs["packed_bytes"], good.costs["latency_ms"]) == (
        2,
        pytest.approx(0.85),
        310,
        3.0,
    )
    assert good.spread == pytest.approx(math.sqrt(0.005))
    assert "310*" in table(rows)
    assert "400 " in table(rows)


def test_of_errors_the_lower_is_optimal() -> None:
    rows = [row(*one, lower=True) for one in (("cheap", 0, 0.7, 100), ("good", 0, 0.2, 300), ("worse", 0, 0.9, 400))]
    assert ["packed_bytes" in one.best for one in summaries(rows)] == [True, True, False]
    assert "lower is better" in table(rows)
    assert "lower is better" not in table([row("cheap", 0, 0.7, 100)])


def test_rows_of_a_regression_say_that_lower_is_better(tmp_path: Path) -> None:
    rows = sweep(grid(["mlp:8"], [""], [0], density=["0.5"], **QUICK), regression(tmp_path), tmp_path / "rows.jsonl")
    assert rows[0]["headline"] == "relative RMSE"
    assert rows[0]["lower_is_better"] is True


def regression(folder: Path) -> Data:
    x = np.random.default_rng(0).normal(size=(480, 1, 6, 6)).astype(np.float32)
    np.savez(folder / "made.npz", x_train=x, y_train=x[:, 0, :2, 0] + 3)
    return load(folder / "made.npz")


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [row("cheap", 0, 0.7, 100), row("good", 0, 0.9, 300, 2.0)]
    for name in ("a.svg", "b.svg"):
        picture(rows, tmp_path / name)
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert first.count(b'<g id="axes_') == 2
    with pytest.raises(UsageError, match="no row"):
        picture([{"key": {}, "failed": "x"}], tmp_path / "c.svg")
    for name in ("a.png", "a.pdf"):
        picture(rows, tmp_path / name)
        first = (tmp_path / name).read_bytes()
        picture(rows, tmp_path / name)
        assert first == (tmp_path / name).read_bytes()


def test_a_picture_that_cannot_be_drawn_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.svg").write_text("old")
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0", "--epochs", "1", "-o", str(tmp_path / "r.jsonl"), "--picture"]
    wrong = {"p.doc": "ends in", "p": "ends in", "no/p.svg": "not a folder", "old.svg": "--overwrite"}
    for name, told in wrong.items():
        done = CliRunner().invoke(main, [*words, str(tmp_path / name)])
        assert done.exit_code == 2, done.output
        assert told in done.output
    done = CliRunner().invoke(main, [*words, str(tmp_path / "p.svg"), "-o", str(tmp_path / "p.svg")])
    assert "where the rows go" in done.output
    check_picture(tmp_path / "old.svg", overwrite=True)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(main, [*words, str(tmp_path / "p.svg")])
    assert done.exit_code == 2
    assert "pip install" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["old.svg"]


def test_a_folder_of_the_rows_that_is_missing_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["sweep", "-m", "conv:8,8", "-o", str(tmp_path / "no" / "r.jsonl")])
    assert done.exit_code == 2
    assert "not a folder" in done.output


def test_the_cost_is_that_of_rows_like_it_or_of_a_few_steps(digits: Data) -> None:
    (search,) = grid(["conv:16,16"], [""], [0], epochs=[20], batch=[64])
    timed = seconds(search, digits, [])
    assert 0.01 < timed < 300
    known = {"key": search.key(digits), "cpu_seconds": 77.0}
    assert seconds(search, digits, [known, {"key": search.key(digits) | {"epochs": 1}, "cpu_seconds": 1.0}]) == 77.0


def test_trials_are_in_the_estimate(digits: Data, tmp_path: Path) -> None:
    own = {seed: grid(["conv:8,8"], ["packet=2K"], [seed], density=["auto", "0.5"], **QUICK) for seed in (0, 1)}
    chosen, given = own[0]
    assert tried(chosen)
    assert not tried(given)
    assert effort(network_plan("conv:8,8", digits), chosen.settings) == pytest.approx(6 * 0.1 + 2 * 0.25)
    rows = [{"key": one.key(digits), "cpu_seconds": cost} for one, cost in ((chosen, 50.0), (given, 20.0))]
    assert [seconds(one, digits, rows) for one in own[1]] == [50.0, 20.0]
    words = ["sweep", "-m", "conv:8,8", "--budget", "packet=2K", "--density", "auto,0.5", "--seeds", "0-1"]
    told = CliRunner().invoke(main, [*words, "--epochs", "1", "-o", str(tmp_path / "r.jsonl"), "--list"]).output
    assert "2 of conv:8,8 with the trials of --density auto, about" in told
    assert "2 of conv:8,8, about" in told


def test_what_every_search_takes_once_is_not_multiplied(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "attempt", lambda self, phase, plan, settings, share: (0.5, 3 + 10 * share))
    (search,) = grid(["conv:8,8"], [""], [0], epochs=[20], batch=[64])
    assert seconds(search, digits, []) == pytest.approx(13)


def test_trials_are_added_to_what_was_timed(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "attempt", lambda self, phase, plan, settings, share: (0.5, 10 * share))
    chosen, given = grid(["conv:8,8"], ["packet=2K"], [0], density=["auto", "0.5"], **QUICK)
    assert [seconds(one, digits, []) for one in (chosen, given)] == pytest.approx([10 * 2.1, 10])


def test_the_overview_knows_of_sweep() -> None:
    told = CliRunner().invoke(main, ["--help"]).output
    assert told.index("\n  find ") < told.index("\n  sweep ") < told.index("\n  show ")
    assert "3 budget not met" in " ".join(told.split())


def test_an_interrupted_sweep_is_told_to_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeticket.sweep.sweep", stop_all)
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0", "--epochs", "1", "-o", str(tmp_path / "r.jsonl")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 130
    assert "a sweep or a run when started again" in done.output


def stop_all(*given, **options) -> None:
    raise KeyboardInterrupt


class Here:
    """A pool that keeps what it was given and works in this process, last item first."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, str]] = []
        self.tasks: list[Any] = []

    @contextmanager
    def open(self, workers: int, cluster: str) -> Iterator["Here"]:
        self.opened.append((workers, cluster))
        yield self

    def run(self, function: Any, shared: Any, items: Any) -> Iterator[Any]:
        self.tasks = pickle.loads(pickle.dumps(list(items)))
        for task in reversed(self.tasks):
            yield task, function(shared, task)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    pool = Here()
    monkeypatch.setattr("edgeticket.sweep.open_pool", pool.open)
    return pool


def test_rows_of_a_pool_are_those_of_one_process_in_their_order(digits: Data, tmp_path: Path, here: Here) -> None:
    searches, counted = grid(["conv:8,8"], [""], [0, 1, 2], density=["0.5"], **QUICK), []
    alone = sweep(searches, digits, tmp_path / "alone.jsonl")
    assert here.opened == []
    sweep(searches[1:2], digits, tmp_path / "rows.jsonl")
    finished = lambda row, of: counted.append((row, of))  # noqa: E731
    rows = sweep(searches, digits, tmp_path / "rows.jsonl", workers=2, finished=finished)
    for row in (*alone, *rows):
        del row["cpu_seconds"]
    assert rows == alone
    assert [row["key"]["seed"] for row in read_rows(tmp_path / "rows.jsonl")] == [1, 2, 0]
    assert counted == [(0, 2), (1, 2), (2, 2)]
    assert here.opened == [(2, "")]
    assert [str(task) for task in here.tasks] == ["conv:8,8, seed 0", "conv:8,8, seed 2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.jsonl", "rows.jsonl"]


def test_only_what_runs_here_has_a_checkpoint(digits: Data, tmp_path: Path, here: Here) -> None:
    search = grid(["conv:8,8"], ["packet=2K"], [0], density=["0.5"], **QUICK)
    for name, cluster in (("one", ""), ("two", "tcp://there:1")):
        sweep(search, digits, tmp_path / name, workers=1 if cluster else 2, cluster=cluster)
        (task,) = here.tasks
        assert (task.checkpoint is None) == bool(cluster)
        assert str(task) == "conv:8,8 under packet=2K, seed 0"
    assert here.opened == [(2, ""), (1, "tcp://there:1")]


def test_latency_is_not_measured_beside_other_searches(digits: Data, tmp_path: Path, here: Here) -> None:
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0", "--epochs", "1", "-o", str(tmp_path / "r.jsonl")]
    for more in (["--latency", "--workers", "2"], ["--budget", "latency=1ms@cpu", "--cluster", "tcp://there:1"]):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 2
        assert "while nothing else runs" in done.output
    assert here.opened == []


def test_the_command_takes_workers(tmp_path: Path, here: Here) -> None:
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0", "--epochs", "1", "-o", str(tmp_path / "r.jsonl")]
    for wrong in ("0", "two"):
        assert CliRunner().invoke(main, [*words, "--workers", wrong]).exit_code == 2
    done = CliRunner().invoke(main, [*words, "--workers", "3", "--format", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["key"]["seed"] == 0
    assert here.opened == [(3, "")]


@pytest.mark.slow
def test_ctrl_c_keeps_the_rows_that_are_done(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    words = ["sweep", "-m", "conv:8,8", "--seeds", "0-1", "--batch", "64", "--workers", "2", "-o", str(path)]
    first = [sys.executable, "-m", "edgeticket", *words, "--epochs", "1"]
    endless = [sys.executable, "-m", "edgeticket", *words, "--epochs", "100000", "--seeds", "5"]
    subprocess.run(first, check=True, stdout=subprocess.DEVNULL)
    before = path.read_bytes()
    assert before.count(b"\n") == 2
    running = subprocess.Popen(endless, stderr=subprocess.PIPE, text=True, start_new_session=True)
    own = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    wait_until(lambda: any(spawned(child) for child in own.read_text().split()))
    children = list(map(int, own.read_text().split()))
    os.killpg(running.pid, signal.SIGINT)
    assert "started again" in running.communicate(timeout=60)[1]
    assert running.returncode == 130
    wait_until(lambda: not any(map(runs, children)))
    assert path.read_bytes() == before


def spawned(pid: str) -> bool:
    """Whether it is a worker in mid-search: it has read torch."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_the_command(tmp_path: Path) -> None:
    words = [
        "sweep",
        "-m",
        "conv:8,8",
        "--density",
        "0.5,0.1",
        "--seeds",
        "0",
        "--epochs",
        "1",
        "-o",
        str(tmp_path / "r.jsonl"),
    ]
    listed = CliRunner().invoke(main, [*words, "--list"])
    assert listed.exit_code == 0, listed.output
    assert "2 searches, 0 of them done" in listed.output
    assert not (tmp_path / "r.jsonl").exists()
    done = CliRunner().invoke(main, [*words, "--format", "json", "--picture", str(tmp_path / "p.svg")])
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["key"]["density"] for line in done.stdout.splitlines()] == [0.5, 0.1]
    assert (tmp_path / "p.svg").exists()
    for wrong in ("2-1", "x"):
        assert CliRunner().invoke(main, [*words, "--seeds", wrong]).exit_code == 2
