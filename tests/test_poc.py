"""A proof of concept from start to end on real digits: what lies in the folder, what a stop and a second run do."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from edgeticket import data, verify
from edgeticket.cli import main
from edgeticket.errors import InsufficientDataError, UsageError
from edgeticket.network import network_plan
from edgeticket.poc import Request, Stage, _Run, energy, judge, poc, record, show, suite
from edgeticket.poc.folder import KEY, ROWS, opened
from edgeticket.poc.jobs import Curve, Job, Shared, work
from edgeticket.poc.success import Criterion
from edgeticket.settings import Settings
from edgeticket.ticket import read_ticket

DIGITS = data.load("digits")
REQUEST = Request("conv:4,8,8", "accuracy >= float - 0.2", Settings(epochs=2, batch=64), seeds=3)
ORIGIN = {
    "command": "edgeticket poc",
    "name": "digits",
    "data": "digits",
    "layout": "auto",
    "task": "auto",
    "images": None,
}


class Here:
    """A pool without processes. `stop_at`: the job before which a KeyboardInterrupt comes."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.jobs: list[str] = []
        self.stop_at = stop_at

    def run(
        self, function: Callable[..., Any], shared: Any, items: Any, go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[Any, Any]]:
        assert function is work
        for item in items:
            if not go_on():
                return
            if len(self.jobs) == self.stop_at:
                raise KeyboardInterrupt
            self.jobs.append(str(item))
            yield item, function(shared, item)


def run(folder: Path, pool: Here, request: Request = REQUEST, **more: Any) -> dict[str, Any]:
    return poc(request, DIGITS, folder, pool, origin=ORIGIN, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A finished proof: its folder, its record, and the jobs that it took."""
    folder, pool = tmp_path_factory.mktemp("poc") / "digits", Here()
    return folder, run(folder, pool), pool.jobs


def stable(found: dict[str, Any]) -> Any:
    """A record without what is measured with a clock."""
    clocks = {
        "cpu_seconds",
        "wall_seconds",
        "latency_ms",
        "bench",
        "device_seconds",
        "cost",
        "seal",
        "verdict",
        "load_average",
    }

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key not in clocks}
        return [strip(each) for each in value] if isinstance(value, list) else value

    return strip(found)


def test_the_folder_holds_what_the_record_says(made: Any) -> None:
    folder, found, _ = made
    assert record.read(folder) == found
    assert [row["seed"] for row in found["rows"]] == [0, 1, 2]
    for row in [*found["rows"], *found["sparser"]]:
        ticket = read_ticket(folder / row["ticket"])
        assert (ticket.digest, ticket.seed) == (row["digest"], row["seed"])
    assert len({row["digest"] for row in found["rows"]}) == 3
    for rival in found["rivals"]:
        assert (folder / rival["onnx"]).is_file()
    assert {rival["name"] for rival in found["rivals"]} == {"float", "float-int8", "int8-narrow", "pruned"}
    chosen = found["chosen"]
    assert read_ticket(folder / chosen["ticket"]).digest == chosen["digest"]
    assert chosen["seed"] == judge.chosen_seed(found["rows"], False)
    assert chosen["chain"]["passed"]
    assert sum(map(sum, chosen["confusion"])) == len(DIGITS.certify[1])
    assert sum(chosen["confusion"][i][i] for i in range(10)) == chosen["figures"]["correct"]
    assert not (folder / "checkpoints").exists()
    assert not folder.with_name("digits.partial").exists()


def test_seeds_are_judged_on_the_certify_part_against_floats_on_the_select_part(made: Any) -> None:
    _, found, _ = made
    floats = [row for row in found["rivals"] if row["name"] == "float"]
    assert found["bar"]["float"] == pytest.approx(sum(row["select"] for row in floats) / 3)
    assert found["bar"]["value"] == pytest.approx(found["bar"]["float"] - 0.2)
    assert all(row["success"] == (row["certify"] >= found["bar"]["value"]) for row in found["rows"])
    assert found["rows"][0]["certify"] == found["rows"][0]["figures"]["accuracy"]
    assert found["rows"][0]["figures"]["of"] == len(DIGITS.certify[1])


def test_a_ticket_is_the_one_that_find_gives(made: Any) -> None:
    from edgeticket.find import find

    folder, found, _ = made
    alone = find(network_plan("conv:4,8,8", DIGITS), DIGITS, replace(REQUEST.settings, seed=1), control=False)
    assert (folder / found["rows"][1]["ticket"]).read_bytes() == alone.ticket.to_bytes()


def test_sparser_searches_are_sparser(made: Any) -> None:
    _, found, _ = made
    densities = [step["density"] for step in found["indicators"]["sparsity"]["ladder"]]
    assert len(densities) == 4
    assert densities == sorted(densities, reverse=True)
    assert [step["trials"] for step in found["indicators"]["sparsity"]["ladder"]] == [3, 3, 3, 3]


def test_what_is_compared_with_has_no_more_bytes(made: Any) -> None:
    _, found, _ = made
    limit = sorted(row["bytes"] for row in found["rows"])[1]
    small = [rival["bytes"] for rival in found["rivals"] if rival["name"] in ("int8-narrow", "pruned")]
    assert len(small) == 6
    assert max(small) <= limit
    assert all(rival["latency_ms"]["p50"] > 0 for rival in found["rivals"])


@pytest.mark.slow
def test_a_stop_at_any_job_loses_at_most_that_job(made: Any, tmp_path: Path) -> None:
    _, found, jobs = made
    target, done = tmp_path / "digits", 0
    for stop_at in (1, 3, 4, 20):
        pool = Here(stop_at)
        try:
            run(target, pool)
        except KeyboardInterrupt:
            assert not target.exists()
            assert (tmp_path / "digits.partial" / KEY).exists()
        done += len(pool.jobs)
    assert done == len(jobs)
    assert stable(record.read(target)) == stable(found)
    assert record.read(target)["indicators"]["cost"]["run_wall_seconds"] is None
    assert found["indicators"]["cost"]["run_wall_seconds"] > 0


def test_another_number_of_seeds_is_another_proof(made: Any, tmp_path: Path) -> None:
    """Whoever looks, and then adds seeds or asks for less, has no bound."""
    folder, found, _ = made
    for other in ({"seeds": 4}, {"probability": 0.2}, {"confidence": 0.5}, {"first_seed": 1}):
        target, pool = tmp_path / next(iter(other)), Here(1)
        shutil.copytree(folder, target)
        with pytest.raises(UsageError, match="--overwrite"):
            run(target, pool, replace(REQUEST, **other))
        with pytest.raises(KeyboardInterrupt):
            run(target, pool, replace(REQUEST, **other), overwrite=True)
        assert pool.jobs == ["float 0"]
        assert record.read(target) == found


@pytest.mark.slow
def test_a_finished_proof_is_measured_again_without_a_search(made: Any, tmp_path: Path) -> None:
    folder, found, _ = made
    target, pool = tmp_path / "digits", Here()
    shutil.copytree(folder, target)
    again = run(target, pool, replace(REQUEST, period_ms=5.0), overwrite=True)
    assert pool.jobs == []
    assert stable(again["rows"]) == stable(found["rows"])
    assert again["chosen"]["bench"][0]["missed"]["of"] == 100


def test_an_unfinished_proof_of_another_request_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "digits", Here(1))
    rows = (tmp_path / "digits.partial" / ROWS).read_bytes()
    other = replace(REQUEST, settings=Settings(epochs=1, batch=64))
    with pytest.raises(UsageError, match="another request"):
        run(tmp_path / "digits", Here(), other)
    assert (tmp_path / "digits.partial" / ROWS).read_bytes() == rows
    pool = Here(1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "digits", pool, other, overwrite=True)
    assert pool.jobs == ["float 0"]  # what lay there was of two epochs
    lost = tmp_path / "digits.partial" / KEY
    lost.unlink()  # killed while it was emptied
    pool = Here(1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "digits", pool, other)
    assert pool.jobs == ["float 0"]


def test_a_network_that_was_edited_is_another_request(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("from edgeticket.architectures.conv import plan\n")
    request = replace(REQUEST, model=f"{net}:4,8,8")
    before = request.key(DIGITS)
    net.write_text(net.read_text() + "\n# edited\n")
    assert request.key(DIGITS) != before


@pytest.mark.slow
def test_an_altered_file_is_searched_again(made: Any, tmp_path: Path) -> None:
    folder, found, _ = made
    target, pool = tmp_path / "digits", Here()
    shutil.copytree(folder, target)
    ticket = target / found["rows"][2]["ticket"]
    ticket.write_bytes(ticket.read_bytes()[:-1])
    again = run(target, pool, overwrite=True)
    assert pool.jobs == ["search 2"]
    assert stable(again) == stable(found)


def test_another_request_starts_anew(made: Any, tmp_path: Path) -> None:
    folder, _, _ = made
    target, pool = tmp_path / "digits", Here(1)
    shutil.copytree(folder, target)
    with pytest.raises(KeyboardInterrupt):
        run(target, pool, replace(REQUEST, success="accuracy >= float - 0.3"), overwrite=True)
    assert pool.jobs == ["float 0"]
    assert record.read(target)["request"]["success"] == REQUEST.success  # the finished one is whole


def test_max_cost_counts_what_runs_already() -> None:
    """Two searches of 10 s that run beside one another are 20 s of cost, though none has ended."""
    folder = SimpleNamespace(rows=[{"kind": "search", "seed": 0, "cpu_seconds": 10.0}], of=lambda job: job.seed == 0)
    stages = _Run(replace(REQUEST, max_cost_s=35.0), folder, None, None, None)  # type: ignore[arg-type]
    go_on = stages._affordable([Job("search", seed) for seed in range(9)])
    assert [go_on() for _ in range(4)] == [True, True, False, False]


@pytest.mark.slow
def test_max_cost_begins_no_search_beyond_it(tmp_path: Path) -> None:
    pool = Here()
    found = run(tmp_path / "digits", pool, replace(REQUEST, seeds=50, max_cost_s=1e-6))
    assert found["indicators"]["success"]["trials"] == 1  # the first, whose cost nobody knew
    assert found["verdict"]["reasons"][-1] == {"code": "early", "done": 1, "asked": 50, "max_cost_s": 1e-6}
    assert "1 of 1 seeds" in show.text(found)


@pytest.mark.slow
def test_energy_is_only_that_of_a_run_which_was_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(energy, "read", lambda: {"intel-rapl:0": (next(counts), 10**12)})
    request = replace(REQUEST, seeds=1)
    assert run(tmp_path / "whole", Here(), request)["indicators"]["cost"]["joules"]["searches_and_floats"] == 1.0
    assert run(tmp_path / "remote", Here(), request, remote=True)["indicators"]["cost"]["joules"] is None
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Here(1), request)
    assert run(tmp_path / "stopped", Here(), request)["indicators"]["cost"]["joules"] is None


def test_too_few_data_are_refused_before_a_search_is_paid_for(tmp_path: Path) -> None:
    pool = Here()
    with pytest.raises(InsufficientDataError, match="need n = "):
        run(tmp_path / "digits", pool, replace(REQUEST, success="accuracy >= float - 0.001"))
    assert pool.jobs == ["float 0", "float 1", "float 2"]


def test_a_budget_that_no_width_meets_is_a_failed_search(tmp_path: Path) -> None:
    found = run(tmp_path / "digits", Here(), replace(REQUEST, budget="packet=40", seeds=2))
    assert [row["success"] for row in found["rows"]] == [False, False]
    assert found["chosen"] is None
    assert found["sparser"] == []
    assert found["verdict"]["reasons"][0]["code"] == "none"
    assert show.text(found)


@pytest.mark.slow
def test_a_budget_is_part_of_success_and_has_a_control(tmp_path: Path) -> None:
    request = replace(REQUEST, model="conv:16,16,16", budget="macs=40K", seeds=2)
    found = run(tmp_path / "digits", Here(), request)
    assert all(term["met"] and term["value"] <= 40_000 for row in found["rows"] for term in row["terms"])
    controls = [row for row in found["rivals"] if row["name"] == "control"]
    assert [row["widths"] for row in controls] == [row["widths"] for row in found["rows"]]


def test_what_a_killed_run_was_writing_is_gone(tmp_path: Path) -> None:
    left = tmp_path / "digits.partial" / "half" / ".c.aBcd1234.aside"
    left.mkdir(parents=True)
    (left / ".inner.aBcd1234.aside").write_text("half a file")
    (tmp_path / "digits.partial" / "request.json").write_text("{}")
    with opened(tmp_path / "digits", {}):
        assert list(left.parent.iterdir()) == []


def test_two_runs_on_one_folder_refuse_each_other(tmp_path: Path) -> None:
    with opened(tmp_path / "digits", {}) as first:
        assert first.rows == []
        with pytest.raises(UsageError, match="another run is at work"), opened(tmp_path / "digits", {}):
            pass


def test_a_search_that_was_stopped_goes_on_and_does_not_know_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Shared(network_plan("conv:4,8,8", DIGITS), DIGITS, REQUEST.settings, "", tmp_path, None)

    def stop(self: Curve, progress: Any) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Curve, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            work(shared, Job("search", 0))
    (row,) = work(shared, Job("search", 0)).rows
    (whole,) = work(replace(shared, checkpoints=None), Job("search", 0)).rows
    assert row["digest"] == whole["digest"]
    assert row["wall_seconds"] is None
    assert whole["wall_seconds"] > 0


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        run(tmp_path / "digits", Here(), overwrite=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 0},
        {"period_ms": -3.0},
        {"probability": 1.0},
        {"confidence": 0.0},
        {"max_cost_s": 0.0},
        {"first_seed": 2**64 - 1},
    ],
)
def test_impossible_requests_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(REQUEST, **wrong)


def test_rows_that_were_cut_short_are_said(tmp_path: Path) -> None:
    (tmp_path / "digits.partial").mkdir()
    (tmp_path / "digits.partial" / KEY).write_text(json.dumps({}))
    (tmp_path / "digits.partial" / ROWS).write_text('{"kind": ')
    with pytest.raises(Exception, match=r"damaged.*delete the folder"), opened(tmp_path / "digits", {}):
        pass


def test_the_delivered_files_prove_themselves(made: Any) -> None:
    folder, found, _ = made
    files = [folder / one["path"] for one in found["chosen"]["files"]]
    assert [path.name for path in files] == ["digits.onnx", "digits-int8.onnx", "digits-c"]
    assert verify.verify(folder / found["chosen"]["ticket"], files, DIGITS).passed


def test_the_text_says_n_and_confidence_beside_every_probability(made: Any) -> None:
    text = show.text(made[1])
    assert "3 of 3 seeds: at least 0.368 with 95% confidence" in text
    assert "measure more" in text


@pytest.mark.slow
def test_stages_count_up_to_all(tmp_path: Path) -> None:
    seen: list[Stage] = []
    run(tmp_path / "digits", Here(), replace(REQUEST, seeds=1), report=seen.append)
    for name in {stage.name for stage in seen}:
        own = [stage for stage in seen if stage.name == name]
        assert [stage.done for stage in own] == list(range(own[0].of + 1))


@pytest.mark.slow
def test_benchmarks_compare_by_test_and_refuse_what_is_not_comparable(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = suite.Task("digits", REQUEST.model, REQUEST.success, 2, 64)
    monkeypatch.setattr(suite, "SUITE", {"digits": task})
    monkeypatch.setattr(suite, "SEEDS", 3)
    pool = Here()
    one = suite.benchmark(tmp_path / "runs", tmp_path / "a.json", pool)  # type: ignore[arg-type]
    jobs = len(pool.jobs)
    again = suite.benchmark(tmp_path / "runs", tmp_path / "b.json", pool)  # type: ignore[arg-type]
    assert len(pool.jobs) == jobs  # what is finished is not run again
    assert suite.read_benchmark(tmp_path / "a.json") == one == again
    rows = suite.compare(one, again)
    assert rows[0].told.startswith("not distinguishable")
    assert rows[0].told.endswith("p = 1)")
    worse = json.loads(json.dumps(one))
    success = worse["results"]["digits"]["indicators"]["success"]
    success["successes"], success["trials"] = 0, 30
    assert suite.compare(one, worse)[0].told.startswith("differ")
    other = json.loads(json.dumps(one))
    other["results"]["digits"]["data"]["digest"] = "0" * 64
    with pytest.raises(UsageError, match="data differ"):
        suite.compare(one, other)
    with pytest.raises(UsageError, match="protocol"):
        suite.compare(one, {**one, "protocol": 2})
    asked = json.loads(json.dumps(one))
    asked["results"]["digits"]["request"]["model"] = "conv"
    with pytest.raises(UsageError, match="model differ"):
        suite.compare(one, asked)
    monkeypatch.setattr(suite, "SEEDS", 4)
    with pytest.raises(UsageError, match="something else"):
        suite.benchmark(tmp_path / "runs", tmp_path / "c.json", pool)  # type: ignore[arg-type]


def test_the_deviation_is_that_at_the_bar(made: Any) -> None:
    bar = made[1]["bar"]
    assert bar["deviation"] == pytest.approx((bar["value"] * (1 - bar["value"])) ** 0.5)


def test_the_protocol_page_lists_the_suite() -> None:
    page = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
    assert page.startswith(f"# Protocol {record.PROTOCOL}:")
    for task in suite.SUITE.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| {task.data}"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:] == [f"`{task.model}`", task.success, f"{task.epochs}, {task.batch}", str(suite.SEEDS)]
        Criterion.parse(task.success, "classification", False)


def test_latency_is_not_measured_beside_other_searches(tmp_path: Path) -> None:
    request = replace(REQUEST, budget="latency=1ms@cpu")
    request.check(DIGITS, tmp_path / "a")
    for beside in ({"workers": 2}, {"remote": True}):
        with pytest.raises(UsageError, match="disturb"):
            request.check(DIGITS, tmp_path / "a", **beside)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_line_is_kept_so_that_it_runs_again(tmp_path: Path) -> None:
    words = ["--epochs", "2", "--seeds", "1", "--pure", "--success", "accuracy >= float - 0.4", "-m", "conv:4,8,8"]
    done = CliRunner().invoke(main, ["poc", "-d", "digits", *words, "-o", str(tmp_path / "one"), "--overwrite"])
    assert done.exit_code == 0, done.output
    first = record.read(tmp_path / "one")
    _, *again = shlex.split(first["request"]["command"])
    assert sorted(again) == sorted(
        [
            "poc",
            "--data",
            "digits",
            *["--model" if word == "-m" else word for word in words],
            "--output",
            str(tmp_path / "one"),
        ]
    )
    assert CliRunner().invoke(main, [*again, "--overwrite"]).exit_code == 0
    assert stable(record.read(tmp_path / "one")) == stable(first)
