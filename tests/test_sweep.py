"""sweep: resumable row by row, honest about what failed, and optimal where nothing is better."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edgeticket import sweep as sweeping  # noqa: E402
from edgeticket.cli import main  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.errors import EdgeTicketError, UsageError  # noqa: E402
from edgeticket.sweep import grid, picture, read_rows, seconds, summaries, sweep, table  # noqa: E402

QUICK = {"epochs": [1], "batch": [64]}


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


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


def test_a_cut_line_is_dropped_and_junk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": {}}\n{"key": {"se')
    assert read_rows(path) == [{"key": {}}]
    path.write_text('junk\n{"key": {}}\n')
    with pytest.raises(EdgeTicketError, match="line 1"):
        read_rows(path)


def test_a_budget_that_no_width_meets_is_a_row_that_says_so(digits: Data, tmp_path: Path) -> None:
    rows = sweep(grid(["conv:8,8"], ["macs=1"], [0], **QUICK), digits, tmp_path / "rows.jsonl")
    assert "cannot be met" in rows[0]["failed"]
    assert "cannot be met" in table(rows)


def row(name: str, seed: int, select: float, packed: int, latency: float | None = None) -> dict:
    cost = dict.fromkeys(sweeping.AXES) | {"packed_bytes": packed, "latency_ms": latency}
    key = {"network": name, "seed": seed, "method": "subset_sum"}
    return {"key": key, "select": select, "certify": select, "cpu_seconds": 10, "missed": [], "cost": cost}


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


def test_the_cost_is_that_of_rows_like_it_or_of_a_few_steps(digits: Data) -> None:
    (search,) = grid(["conv:16,16"], [""], [0], epochs=[20], batch=[64])
    timed = seconds(search, digits, [])
    assert 0.01 < timed < 300
    known = {"key": search.key(digits), "cpu_seconds": 77.0}
    assert seconds(search, digits, [known, {"key": search.key(digits) | {"epochs": 1}, "cpu_seconds": 1.0}]) == 77.0


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
