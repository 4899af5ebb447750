"""Two watches, in C and with numpy: the same status of whatever arrives, and no crash."""

import os
import subprocess
import sys
import sysconfig
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_c
from test_guard import at_work, made

from edgeticket import drift, watch
from edgeticket.guard import Guard, Rules, Status

ROOT = Path(__file__).parent.parent
SHAPES = {"uint8": [(1, 8, 8), (3, 5, 7), (2, 1)], "int16": [(2, 30), (1, 5000), (5,)], "float32": [(2, 30), (4,)]}
CASES = [(dtype, shape) for dtype, shapes in SHAPES.items() for shape in shapes]


ANSWERS = 3


def answers(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(len(frames), -1)[:, 0].astype(int) % ANSWERS


def fitted(dtype: str, shape: tuple[int, ...], stuck: int = 3) -> Rules:
    return Guard.fit(made(dtype, shape, 400), answers, rate=0.05, confidence=0.8, windows=20, stuck=stuck).rules


def both(rules: Rules) -> tuple[Guard, Guard]:
    return at_work(rules, compiled=True), at_work(rules, compiled=False)


# the same status


def stream(dtype: str, shape: tuple[int, ...], random: np.random.Generator) -> Iterator[np.ndarray]:
    """Clean frames, shifted and scaled ones, the same again, constant ones, extremes."""
    for _ in range(300):
        x = 100 + 20 * random.normal(size=shape)
        kind = random.integers(8)
        if kind == 1:
            x = x * random.uniform(0.7, 1.4) + random.uniform(-9, 9)
        if kind == 2:
            x[random.integers(shape[0])] = random.choice([0.0, -0.0, 100, 1e9])
        if kind == 3:
            x = np.where(random.random(shape) < 0.3, -0.0, 0.0) * random.choice([-1, 1])
        if kind == 4 and dtype == "float32":
            x.flat[random.integers(x.size)] = random.choice([np.nan, np.inf, -np.inf, 3e38, 1e-45])
        if dtype != "float32":
            x = np.clip(x.round(), np.iinfo(dtype).min, np.iinfo(dtype).max)
        frame = x.astype(dtype)
        for _ in range(random.choice([1, 1, 1, 2, 5])):
            yield frame


@pytest.mark.parametrize(("dtype", "shape"), CASES)
def test_both_say_the_same_of_every_frame(dtype: str, shape: tuple[int, ...]) -> None:
    compiled, plain = both(replace(fitted(dtype, shape), flat=np.zeros(shape[0], bool)))
    random, seen = np.random.default_rng(len(shape)), set()
    for _ in range(5):
        for frame in stream(dtype, shape, random):
            answer = [*range(-2, ANSWERS + 2), False, True][random.integers(ANSWERS + 6)]
            found = compiled.judge(frame, answer)
            assert found is plain.judge(frame, answer)
            seen.add(found)
        compiled.reset()
        plain.reset()
    possible = {Status.OK, Status.RANGE, Status.STUCK, Status.DRIFT, Status.UNFAMILIAR}
    possible |= {Status.NOT_FINITE} if dtype == "float32" else set()
    assert seen == possible | ({Status.CONSTANT} if np.prod(shape[1:]) > 1 else set())


def only(frame: np.ndarray) -> Rules:
    """Rules that find `frame` ok, and nothing that has other statistics."""
    found = drift.statistics(frame.reshape(-1), len(frame))
    own = drift.Limits(found, found, found[None], found[None], np.zeros(len(found)), 0.9)
    least, most = watch.ends(found, frame.shape)
    flat = np.ones(len(frame), bool)
    return Rules(frame.shape, frame.dtype.name, least, most, flat, 0, 0.1, 1, 1, own)


@pytest.mark.parametrize("values", [2, 3, 64, 1024, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_statistics_are_the_same_to_the_last_bit(dtype: str, values: int) -> None:
    random = np.random.default_rng(values)
    for _ in range(20):
        if dtype == "float32":
            frame = (random.normal(size=(2, values)) * 10.0 ** random.integers(-20, 20)).astype(dtype)
        else:
            frame = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (2, values), dtype, endpoint=True)
        rules = only(frame)
        compiled, plain = both(rules)
        assert compiled.check(frame) == plain.check(frame) == Status.OK
        for one in range(len(rules.limits.lower)):
            other = rules.limits.lower.copy()
            other[one] = np.nextafter(other[one], np.inf)
            changed = replace(
                rules, limits=replace(rules.limits, lower=other, upper=np.maximum(other, rules.limits.upper))
            )
            assert {own.judge(frame) for own in both(changed)} == {Status.DRIFT}


@pytest.mark.parametrize("value", [-(1 << 15), (1 << 15) - 1])
def test_sums_stay_exact_at_the_largest_frame(value: int) -> None:
    frame = np.full((1, drift.MOST), value, np.int16)
    frame[0, ::2] = ~frame[0, ::2]
    frame[0, 5:9] = value
    assert [own.judge(frame) for own in both(only(frame))] == [Status.OK] * 2


@pytest.mark.parametrize("shape", [(2, 3), (2,)])
def test_two_kinds_of_zero_are_the_same_frame(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.float32)
    for guard in both(replace(only(frame), stuck=3)):
        assert [guard.check(x) for x in (frame, -frame, frame, -frame)] == ["ok", "ok", "stuck", "stuck"]


def test_a_count_that_no_sensor_reaches() -> None:
    frame = made("int16", (5,)).train[0][0]
    for guard in both(replace(only(frame), stuck=10**30)):
        assert {guard.check(frame) for _ in range(9)} == {Status.OK}


# whatever arrives


class Liar:
    """An object that is no array and says that it is one."""

    __class__ = np.ndarray  # type: ignore[assignment]
    dtype, shape = np.dtype("int16"), (2, 30)


class Broken:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no class")


def arrived(good: np.ndarray) -> Iterator[Any]:
    """What may come in place of a frame of int16 [2, 30], and what is one in another guise."""
    no_array = [None, 3, "frame", b"", bytes(120), bytearray(120), memoryview(good), good.tolist(), np.int16(3)]
    others = [good.astype(kind) for kind in (*"?bBHiIlLqQefdgFDGO", "S5", "U5", "M8[s]", "m8[us]", ">i2", "V2")]
    views = [good.view(kind) for kind in ("u1", "u2", "V2", [("a", "i2")], np.dtype("i2", metadata={"a": 1}))]
    fields = [np.zeros((2, 30), kind) for kind in ("i2,f4", "V0", "(2,)i2")]
    cut = [good[:, :29], good[:1], good.T, good[None], good[..., None], good[0], good.reshape(30, 2), good.reshape(-1)]
    empty = [np.zeros(shape, np.int16) for shape in ((), (0,), (2, 0), (0, 30), (1,) * 32, (2, 30, 0))]
    value = np.int16(100)
    broadcast = [np.broadcast_to(value, (1 << 40, 1 << 20)), np.broadcast_to(value, (2, 30))]
    strided = [np.broadcast_to(good[0], (2, 30)), good[::-1], good[:, ::-1], np.asfortranarray(good)]
    strided += [good.repeat(3, 1)[:, ::3], good.repeat(2, 0)[::2], np.stack([good, good + 9], -1)[..., 1]]
    odd = np.frombuffer(b"\0" + good.repeat(2).tobytes(), np.int16, offset=1).reshape(2, 60)
    frozen = good.copy()
    frozen.flags.writeable = False
    kinds = [np.ma.masked_array(good, good > 100), good.view(np.matrix), good.view(np.recarray), Liar, np.ndarray]
    for group in (no_array, others, views, fields, cut, empty, broadcast, strided, [odd[:, :30], odd[:, ::2], frozen]):
        yield from group
    yield from kinds


def test_whatever_arrives_has_the_same_status_and_leaves_no_trace() -> None:
    good = made("int16").train[0][0]
    rules = fitted("int16", (2, 30), stuck=0)
    compiled, plain = both(rules)
    seen = []
    for thing in arrived(good):
        before = sys.getrefcount(thing)
        found = compiled.check(thing)
        assert thing is None or sys.getrefcount(thing) == before
        assert found is plain.check(thing), repr(thing)[:99]
        seen.append(found)
        compiled.reset()
        plain.reset()
    assert {Status.DTYPE, Status.SHAPE, Status.OK, Status.CONSTANT} <= set(seen)
    assert seen.count(Status.OK) >= 12  # of those in another guise
    assert compiled.check(Liar()) == Status.DTYPE  # type: ignore[arg-type]
    assert compiled.check(Broken()) == Status.DTYPE  # type: ignore[arg-type]
    assert compiled.check(good) == plain.check(good)


def test_statuses_and_frames_are_not_kept() -> None:
    guard, x = at_work(fitted("int16", (2, 30), stuck=0), compiled=True), made("int16").train[0]
    kept = (*Status, type(guard.watch))
    before = [sys.getrefcount(one) for one in kept]
    for _ in range(20):
        for frame in (*x[:50], x[0].T, x[0].astype(float), x[:, ::-1][0], None):
            guard.judge(frame)
            guard.reset()
    assert [sys.getrefcount(one) for one in kept] == before
    for _ in range(50):
        at_work(guard.rules, compiled=True).check(x[0])
        with pytest.raises(ValueError, match="bytes"):
            watch.Compiled(tuple(Status), (2, 30), "h", 3, b"")
    assert [sys.getrefcount(one) for one in kept] == before


def test_a_copy_of_a_frame_is_not_kept() -> None:
    guard = at_work(fitted("int16", (2, 30)), compiled=True)
    strided = made("int16").train[0][0].repeat(3, 1)[:, ::3]
    guard.check(strided)
    tracemalloc.start()
    try:
        for _ in range(200):
            guard.check(strided)
        assert tracemalloc.get_traced_memory()[0] < 100 * strided.nbytes
    finally:
        tracemalloc.stop()


def test_what_makes_no_watch_is_refused() -> None:
    at_work(fitted("int16", (5,)), compiled=True)
    right = (tuple(Status), (2, 30), "h", 3, bytes(8 * (5 * 12 + 3 * 2)))
    watch.Compiled(*right)
    wrong = [right[:4], (), (*right, 1)]
    sizes = [(0, 30), (2, 0), (2, -30), (-1,), (11_000, 2), (65_537,), (2, (1 << 22) + 1), (2, 1 << 22, 1 << 22)]
    sizes += [(1 << 62, 4), (1, 1 << 62, 4), (2, 29, 1 << 61)]  # whose products are too large for 64 bits
    changes: dict[int, list[Any]] = {
        0: [None, list(Status), tuple(Status)[1:], ()],
        1: [None, [2, 30], (), (2, 30, 1, 1, 1), ("2", 30), (2.0, 30), (1 << 70, 30), *sizes],
        2: [None, "", "hh", b"h", 3, "i", "\0", "é", "\U0001f600"],
        3: [None, "3", 1 << 63, 0.5],
        4: [
            None,
            b"",
            bytes(8),
            right[4][:-1],
            right[4] + b"\0",
            right[4] + bytes(8),
            3,
            "text",
            np.zeros((66, 2))[:, 0],
        ],
    }
    wrong += [(*right[:at], value, *right[at + 1 :]) for at, values in changes.items() for value in values]
    wrong += [(right[0], (11_000, 2), *right[2:4], bytes(8 * (5 * 66_000 + 3 * 11_000)))]
    wrong += [(right[0], (65_537,), *right[2:4], bytes(8 * 8 * 65_537))]
    for arguments in wrong:
        with pytest.raises((TypeError, ValueError, OverflowError, BufferError)):
            watch.Compiled(*arguments)
    watch.Compiled(right[0], (2, 29 + 1), *right[2:]).check(np.zeros((2, 30), np.int16))


def test_rules_of_any_bits_crash_nothing() -> None:
    at_work(fitted("int16", (5,)), compiled=True)
    random, frame = np.random.default_rng(3), made("float32").train[0][0]
    for _ in range(300):
        own = watch.Compiled(tuple(Status), (2, 30), "f", int(random.integers(-5, 5)), random.bytes(8 * 66))
        assert {own.check(frame.view(np.int32).astype(np.float32)), own.check(frame)} <= set(Status)


SANITISED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("edgeticket._watch", sys.argv[1])
sys.modules["edgeticket._watch"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import pytest
sys.exit(pytest.main(["-qs", "-p", "no:cacheprovider", "-m", "not slow and not soak", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_no_sanitiser_has_a_word_to_say(tmp_path: Path) -> None:
    tiny_c.need("gcc")
    core = tmp_path / "_watch.so"
    flags = "-std=c11 -Wall -Wextra -Werror -Wconversion -Wshadow -O1 -g -shared -fPIC -DPy_LIMITED_API=0x030B0000"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    headers = ["-isystem", sysconfig.get_path("include"), "-isystem", np.get_include()]
    subprocess.run(["gcc", *flags.split(), *checks, *headers, ROOT / "edgeticket" / "_watch.c", "-o", core], check=True)
    preload = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = {
        **os.environ,
        "LD_PRELOAD": preload.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "CI": "1",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-c", SANITISED, core, __file__]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
