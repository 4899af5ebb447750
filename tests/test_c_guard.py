"""The guard in C: the same status as Python for every frame, on this machine and on an emulated core."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_c
from cases import Case, chain
from click.testing import CliRunner
from test_guard import at_work, made
from test_watch import answers

from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.data import load
from edgeticket.drift import Limits
from edgeticket.errors import EquivalenceError, InsufficientDataError, UnsupportedError, UsageError
from edgeticket.export import export
from edgeticket.guard import Guard, Rules
from edgeticket.ops import Flatten, Linear
from edgeticket.ticket import read_ticket
from exporters import c_guard, to_onnx
from exporters.graph import to_bytes

TICKET = Path(__file__).parent.parent / "sample_models" / "digits.ticket"


def written(guard: Guard, folder: Path) -> Path:
    for name, text in c_guard.files(guard, "eye").items():
        (folder / name).write_text(text)
    return folder


def by_c(guard: Guard, folder: Path, frames: np.ndarray) -> list[int]:
    return list(c_guard.run(guard.rules, folder, "eye", frames, in_turn(guard, frames)))


def in_turn(guard: Guard, frames: np.ndarray) -> np.ndarray:
    """An answer for each frame, also some that are none."""
    return np.arange(len(frames)) * 7 % (len(guard.rules.limits.low) + 2) - 1


def said(guard: Guard, frames: np.ndarray) -> list[int]:
    """By a gateway's C and, the same, by numpy."""
    both = at_work(guard.rules, compiled=True), at_work(guard.rules, compiled=False)
    pairs = list(zip(frames, in_turn(guard, frames).tolist(), strict=True))
    found, plain = ([c_guard.STATUSES.index(own.judge(*pair)) for pair in pairs] for own in both)
    assert found == plain
    return found


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("uint8", (1, 8, 8)),
        ("uint8", (3, 5, 7)),
        ("int16", (2, 30)),
        ("int16", (1, 70_000)),
        ("int16", (5,)),
        ("uint8", (2, 1)),
    ],
)
@pytest.mark.parametrize("stuck", [0, 3])
def test_every_status_is_that_of_python(dtype: str, shape: tuple[int, ...], stuck: int, tmp_path: Path) -> None:
    tiny_c.need("cc")
    data = made(dtype, shape, 40 if np.prod(shape) > 1000 else 400)
    guard = Guard.fit(data, answers, rate=0.05, confidence=0.8, windows=20, stuck=stuck)
    x = data.certify[0][:40]
    ends = np.iinfo(dtype)
    extremes = np.stack([np.full(shape, ends.min), np.full(shape, ends.max), np.resize([ends.min, ends.max], shape)])
    slow = x.astype(int) + np.arange(len(x)).reshape(-1, *[1] * len(shape))
    stream = np.concatenate([x[:9], x[:5].repeat(4, 0), extremes.astype(dtype), x[9:20], slow.astype(dtype), x[:9]])
    made_by_c = by_c(guard, written(guard, tmp_path), stream)
    assert made_by_c == said(guard, stream)
    assert {0, 1, 4} <= set(made_by_c)
    assert (3 in made_by_c) == (stuck > 0)


@pytest.mark.parametrize("pattern", [[1, 1], [1, -1]], ids=["level", "alternating"])
def test_sums_that_need_more_than_32_bits(pattern: list[int], tmp_path: Path) -> None:
    tiny_c.need("cc")
    values = 70_000  # 32,000 times this is above 2^31, twice that above 2^32
    noise = np.random.default_rng(2).integers(-500, 500, (40, 1, values))
    x = (32_000 * np.resize(pattern, values) + noise).astype(np.int16)
    part = x, np.zeros(40, np.int64)
    guard = Guard.fit(replace(made("int16", (1, values), 2), train=part, select=part), rate=0.05, confidence=0.8)
    right = said(guard, x)
    assert right[:3] == [0, 0, 0]
    assert by_c(guard, written(guard, tmp_path), x) == right


def test_every_status_is_that_of_python_on_digits(tmp_path: Path) -> None:
    tiny_c.need("cc")
    digits = load("digits")
    guard = Guard.fit(digits)
    clean = digits.certify[0]
    bright = np.minimum(clean * 1.5, 16).astype(np.uint8)
    for stream in (clean, bright[:60], np.concatenate([clean[:10], clean[:10] * 0])):
        assert by_c(guard, written(guard, tmp_path), stream) == said(guard, stream)


def test_a_guard_that_differs_is_not_written(tmp_path: Path) -> None:
    tiny_c.need("cc")
    digits = load("digits")
    guard = Guard.fit(digits)
    frames = digits.certify[0][:20].repeat(3, 0)
    folder = written(guard, tmp_path)
    c_guard.prove(guard, folder, "eye", frames)
    text = (folder / "eye_guard.c").read_text()
    for old, new in (("#define ET_STUCK 3u", "#define ET_STUCK 4u"), ("int NAME", "nonsense"), ("#include", "#error")):
        (folder / "eye_guard.c").write_text(text.replace(old.replace("NAME", "eye_guard"), new))
        with pytest.raises(EquivalenceError):
            c_guard.prove(guard, folder, "eye", frames)


def test_what_has_no_guard_in_c(tmp_path: Path) -> None:
    ticket = read_ticket(TICKET)
    with pytest.raises(UnsupportedError, match="integer sensors"):
        export(ticket, "c", tmp_path / "a", guard=Guard.fit(made("float32")))
    with pytest.raises(UsageError, match="does not read"):
        export(ticket, "c", tmp_path / "a", guard=Guard.fit(made("uint8")))
    assert not (tmp_path / "a").exists()


def test_the_command_writes_both(tmp_path: Path) -> None:
    tiny_c.need("cc")
    words = ["export", str(TICKET), "--to", "c", "--guard", "digits", "-o", str(tmp_path / "eye"), "--format", "json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["format"] == "c"
    network = to_onnx.answers(to_bytes(to_onnx.build(compact(read_ticket(TICKET)))))
    guard, frames = Guard.fit(load("digits"), network), load("digits").certify[0][:50]
    assert len(guard.rules.limits.low) == 11
    assert by_c(guard, tmp_path / "eye", frames) == said(guard, frames)
    assert (
        CliRunner().invoke(main, ["export", str(TICKET), "--guard", "digits", "-o", str(tmp_path / "x.onnx")]).exit_code
        == 2
    )
    few = replace(load("digits"), select=(frames, np.zeros(50, int)))
    with pytest.raises(InsufficientDataError):
        Guard.fit(few)


def test_the_command_names_the_file_that_is_no_guard(tmp_path: Path) -> None:
    guard = tmp_path / "guard.json"
    for content in ("[]", "{}", "{"):
        guard.write_text(content)
        done = CliRunner().invoke(
            main, ["export", str(TICKET), "--to", "c", "--guard", str(guard), "-o", str(tmp_path / "x")]
        )
        assert done.exit_code == 2, done.output
        assert f"{guard}: no guard: give data, or the guard.json of a bundle (" in done.stderr


@pytest.mark.parametrize("task", ["anomaly", "classification"])
def test_the_command_reads_data_for_the_networks_task_and_counts_its_answers(task: str, tmp_path: Path) -> None:
    tiny_c.need("cc")
    case = Case(chain((1, 8, 8), Flatten(), Linear(64)), learned=False)
    ticket = replace(case.ticket(), task=task)
    ticket.write(tmp_path / "a.ticket")
    x, y = case.raw(2000), (np.arange(2000) % 40 == 0).astype(int)  # two classes, of which the network has more
    answers = to_onnx.answers(to_bytes(to_onnx.build(compact(ticket))))(x)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:400], y_test=y[:400])
    words = ["export", tmp_path / "a.ticket", "--to", "c", "--guard", tmp_path / "a.npz", "-o", tmp_path / "eye"]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    means = 2 + answers.max() if task == "classification" else 1
    assert f"#define ET_MEANS {means}\n" in (tmp_path / "eye" / "eye_guard.c").read_text()


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
def test_the_command_reads_data_in_the_layout_that_is_given(layout: str, tmp_path: Path) -> None:
    tiny_c.need("cc")
    ticket = Case(chain((3, 3, 3), Flatten(), Linear(2)), learned=False).ticket()
    ticket.write(tmp_path / "a.ticket")
    first = 80 * np.arange(3)[:, None, None] + np.random.default_rng(3).integers(0, 50, (2000, 3, 3, 3))
    x, y = (first if layout == "channels-first" else np.moveaxis(first, 1, -1)).astype(np.uint8), np.arange(2000) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:400], y_test=y[:400])
    words = ["export", tmp_path / "a.ticket", "--to", "c", "--guard", tmp_path / "a.npz", "-o", tmp_path / "eye"]
    assert (
        CliRunner().invoke(main, [*map(str, words)]).exit_code == 1
    )  # three axes of three: either may be the channels
    done = CliRunner().invoke(main, [*map(str, words), "--layout", layout])
    assert done.exit_code == 0, done.output
    right = Guard.fit(
        load(tmp_path / "a.npz", layout=layout), to_onnx.answers(to_bytes(to_onnx.build(compact(ticket))))
    )
    assert right.rules.least.tolist() == [0, 75, 155]
    assert (tmp_path / "eye" / "eye_guard.c").read_text() == c_guard.files(right, "eye")["eye_guard.c"]


def test_a_frame_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_c.need("cc")
    guard, once = Guard.fit(load("digits")), "NAME_guard_drift(&state, answer)"
    bright = np.minimum(load("digits").certify[0][:60] * 1.5, 16).astype(np.uint8)
    monkeypatch.setattr(c_guard, "_RUNNER", c_guard._RUNNER.replace(once, f"{once} | {once}"))
    found = by_c(guard, written(guard, tmp_path), bright)
    assert found == said(guard, bright)
    assert found.index(4) > 2


@pytest.mark.slow
def test_a_drift_that_is_never_reset_overflows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_c.need("gcc")
    far = np.array([2.0**53 - 1])
    limits = Limits(far, far, -far[None], -far[None], 0 * far, 0.9)  # 2^54 a frame
    guard = Guard(Rules((1,), "int16", far * 0, far * 0, far == 0, 0, 0.1, 1, 1, limits))
    monkeypatch.setattr(c_guard, "FLAGS", (*c_guard.FLAGS, "-fsanitize=undefined", "-fno-sanitize-recover=all"))
    assert by_c(guard, written(guard, tmp_path), np.zeros((1100, 1), np.int16)) == [4] * 1100


MAIN = """#include "NAME_guard.h"
void et_print(const char *text);
uint64_t et_cost(int (*run)(unsigned), unsigned i);
static const TYPE frames[COUNT][VALUES] = {FRAMES};
static NAME_guard_state state;
static int run(unsigned i) {
  const int status = NAME_guard(&state, frames[i]), drift = NAME_guard_drift(&state, 0);
  return status && status <= NAME_GUARD_STUCK ? status : drift ? drift : status;
}
int main(void) {
  for (unsigned i = 0; i < COUNT; i++) {
    const char text[] = {(char)('0' + run(i)), ' ', 0};
    et_print(text);
  }
  uint64_t cost = et_cost(run, 0);
  char text[22] = {0}, *digit = text + 21;
  do *--digit = (char)('0' + cost % 10); while (cost /= 10);
  et_print(digit);
  et_print("\\n");
  return 0;
}
"""


def emulated(guard: Guard, folder: Path, name: str, frames: np.ndarray, board: str) -> list[int]:
    """A status for each frame, then the instructions of one call, on an emulated core; `folder` is an export with the guard."""
    rows = ",".join("{" + ",".join(map(str, frame.reshape(-1).tolist())) + "}" for frame in frames)
    text = MAIN.replace("NAME", name).replace("TYPE", f"{guard.rules.dtype}_t").replace("COUNT", str(len(frames)))
    (folder / "watch.c").write_text(text.replace("VALUES", str(frames[0].size)).replace("FRAMES", rows))
    words = [
        "make",
        "-s",
        "-C",
        folder,
        "run",
        f"BOARD={board}",
        f"SOURCES=watch.c port.c {name}_guard.c",
        "BUILD=watch",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return list(map(int, done.stdout.split()))


@pytest.mark.slow
@pytest.mark.parametrize("board", ["m0", "m4"])
def test_the_same_on_an_emulated_core_for_a_twentieth_of_an_inference(board: str, tmp_path: Path) -> None:
    tiny_c.need("arm-none-eabi-gcc", "qemu-system-arm", "make", "cc")
    digits = load("digits")
    guard = Guard.fit(digits)
    export(read_ticket(TICKET), "c", tmp_path / "eye", guard=guard)
    frames = np.concatenate([digits.certify[0][:6], digits.certify[0][:1].repeat(3, 0), digits.certify[0][:1] * 0])
    *statuses, cost = emulated(guard, tmp_path / "eye", "eye", frames, board)
    assert statuses == said(guard, frames)
    words = ["make", "-s", "-C", tmp_path / "eye", "run", f"BOARD={board}"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    inference = int(next(line for line in told.splitlines() if line.startswith("instructions")).split()[1])
    assert cost < inference / 20
