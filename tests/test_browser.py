"""The page of the browser demo in a real Chromium: every answer must be that of ONNX Runtime in Python."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import browser_site
import numpy as np
import pytest
import tiny_c
from browser_site import DEMO, FORMS, PINNED, ROOT, answers, blots, colours, make, softmax_model, written
from cases import CASES
from onnx import TensorProto

from edgeticket.compact import compact
from edgeticket.data import Data, load
from edgeticket.runtime import CODE, TOLERANCE
from exporters import qdq, to_onnx
from exporters.graph import to_bytes

if not os.environ.get("CI"):
    for package in ("torch", "playwright", "axe_playwright_python", "PIL"):
        pytest.importorskip(package)

from axe_playwright_python.sync_playwright import Axe
from browser_page import DESKTOP, PATIENCE_S, PHONE, Visit, averaged, measure, png, require_answers, run_in
from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.slow

WHOLE = {"side": 1.0, "x": 0.5, "y": 0.5}  # how the digits lie in their frames
SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]]
CROSS = [[(0.1, 0.1), (0.6, 0.4)], [(0.1, 0.4), (0.6, 0.1)]]


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return browser_site.models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where onnxruntime-web is: beside the demo, or fetched by npm for this session."""
    beside = DEMO / "node_modules"
    try:
        make.runtime_files(beside)
        return beside
    except make.DataError:
        tiny_c.need("npm", "node")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", ".npmrc"):
        shutil.copy(DEMO / name, folder)
    done = subprocess.run(["npm", "install"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm install: {done.stderr}")
    assert not (folder / "package-lock.json").exists()
    return folder / "node_modules"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float network of a few epochs, by the program that the documents name."""
    path = tmp_path_factory.mktemp("trained") / "float.onnx"
    words = ["-m", "conv:16,32,32", "-d", "digits", "--epochs", "6", "--seed", "7", "-o", str(path)]
    command = [sys.executable, str(DEMO / "train_float.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert done.returncode == 0, done.stderr
    x, y = load("digits").certify
    right = int((answers(path, x).argmax(1) == y).sum())
    assert f"{path.stat().st_size:,} bytes, {right} of 377 right" in done.stdout
    return path


@pytest.fixture(scope="module")
def site(models: dict[str, Path], trained: Path, node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites") / "digits"
    assert written(folder, models["cast8"], trained, "digits", node_modules) == 0
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with measure.served(site) as url:
        yield url


@pytest.fixture(scope="module")
def opened(browser: Browser, address: str) -> Iterator[Visit]:
    visit = Visit(browser, address).ready()
    yield visit
    visit.close()


@pytest.fixture
def visit(opened: Visit) -> Visit:
    return opened.fresh()


@pytest.fixture
def new(browser: Browser, address: str) -> Iterator[Any]:
    """A function that makes a visit of its own."""
    made: list[Visit] = []

    def start(url: str = address, **options: Any) -> Visit:
        made.append(Visit(browser, url, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def both(models: dict[str, Path], trained: Path) -> tuple[Path, Path]:
    return models["cast8"], trained


def test_the_whole_sample_is_answered_as_in_python(visit: Visit, digits: Data, both: tuple[Path, Path]) -> None:
    page, (x, y) = visit.page, digits.certify
    page.click("#run")
    page.locator("#examples button").nth(2).click()  # what is drawn meanwhile disturbs nothing
    page.wait_for_selector("#outcome table")
    made = [answers(path, x).argmax(1) for path in both]
    right = [labels == y for labels in made]
    cells = [[cell.inner_text() for cell in row.locator("td").all()] for row in page.locator("#outcome tbody tr").all()]
    assert cells[0] == [f"{one.sum()} of 377 = {one.mean():.2%}".replace("%", " %") for one in right]
    assert cells[1] == [str((right[0] & ~right[1]).sum()), str((right[1] & ~right[0]).sum())]
    assert all(re.fullmatch(r"[\d.]+ ms", text) and float(text.split()[0]) > 0 for text in cells[2])
    alike = int((made[0] == made[1]).sum())
    assert f"the same answer for {alike} of 377" in visit.text("#outcome")
    differ = np.flatnonzero(made[0] != made[1])[:20]
    assert len(differ)
    shown = page.locator("#differences button")
    assert [int(one.get_attribute("data-index") or -1) for one in shown.all()] == list(differ)
    shown.first.click()
    page.wait_for_selector(f"#compact-word:text-is('{made[0][differ[0]]}')")
    assert visit.labels() == (str(made[0][differ[0]]), str(made[1][differ[0]]))
    assert "They differ." in visit.text("#together")
    first = page.locator("#differences li").first.inner_text().split("\n")
    assert first == [f"data: {y[differ[0]]}", f"compact: {made[0][differ[0]]}", f"float: {made[1][differ[0]]}"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_ticket_gives_the_outputs_of_python(
    form: str, visit: Visit, models: dict[str, Path], digits: Data
) -> None:
    x, content = digits.certify[0], models[form].read_bytes()
    made = np.array(run_in(visit, content, {"input": x})[0]).reshape(-1, 10)
    right = answers(content, x)
    assert np.abs(made - right).max() <= (CODE if form == "int8" else TOLERANCE) * np.abs(right).max()
    assert (made.argmax(1) == right.argmax(1)).all()


def test_every_operation_in_every_form_runs_in_the_browser(visit: Visit) -> None:
    worst = 0.0
    for case in CASES.values():
        model, raw = compact(case.ticket()), case.raw()
        feeds = raw if isinstance(raw, dict) else {next(iter(case.plan.inputs)): raw}
        for form in ("trit5", "seed", "int8"):
            content = to_bytes(qdq.build(model) if form == "int8" else to_onnx.build(model, form))
            right = to_onnx.run_outputs(content, raw)
            for made, expected in zip(run_in(visit, content, feeds), right, strict=True):
                allowed = (CODE if form == "int8" else TOLERANCE) * np.abs(expected).max()
                off = float(np.abs(np.reshape(made, expected.shape) - expected).max())
                assert off <= allowed, (case, form)
                worst = max(worst, off)
    assert worst > 0  # it is another program that computed them


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("lines", [SEVEN, CROSS], ids=["seven", "cross"])
def test_a_drawing(visit: Visit, both: tuple[Path, Path], lines: Any, fit: bool) -> None:
    visit.page.set_checked("#fit", fit)
    visit.draw(lines)
    raw = visit.seen()
    grey = visit.greys("pad") / 255
    assert np.abs(raw[0] - 16 * averaged(grey, 0, WHOLE if fit else None)).max() <= 0.5 + 1e-3
    assert (raw[0].any(1).all() or raw[0].any(0).all()) == fit  # eight rows or columns of ink, as in training
    require_answers(visit, raw, both)
    if lines is SEVEN and fit:
        assert visit.labels() == ("7", "7")


def test_a_drawing_counts_once_and_nothing_drawn_is_no_answer(new: Any) -> None:
    visit = new().ready()
    assert visit.labels() == ("–", "–")
    assert visit.text("#visit") == ""
    visit.draw(CROSS)  # two strokes, one picture
    assert "of 1 pictures" in visit.text("#visit")
    visit.page.click("#clear")
    visit.page.wait_for_selector("#compact-word:text-is('–')")
    assert not visit.greys("pad").any()
    assert not visit.seen().any()
    for index in (3, 4, 3):
        visit.page.locator("#examples button").nth(index).click()
        visit.page.wait_for_selector(f"#together:has-text('The data call it: {index}')")
    visit.page.wait_for_selector("#visit:has-text('of 3 pictures')")
    visit.draw([[(0.5, 0.5)]])  # over an example: another picture, of which the data say nothing
    assert "of 4 pictures" in visit.text("#visit")
    assert "The data" not in visit.text("#together")
    assert visit.page.locator("[aria-pressed=true]").count() == 0


def test_examples_are_taken_as_they_are(new: Any, digits: Data, both: tuple[Path, Path], site: Path) -> None:
    visit, shown = new().ready(), json.loads((site / "demo.json").read_text())["sample"]["shown"]
    for place in (0, 8):
        visit.page.locator("#examples button").nth(place).click()
        visit.page.wait_for_selector(f"#together:has-text('The data call it: {place}')")
        assert (visit.seen() == digits.certify[0][shown[place]]).all()
        require_answers(visit, digits.certify[0][shown[place]], both)
    spoken = visit.page.wait_for_selector("#spoken:has-text('The data call it: 8')", state="attached").inner_text()
    assert spoken.startswith(f"Compact: {visit.labels()[0]}, ")
    at_once = "[3, 5, 7].forEach((i) => document.querySelectorAll('#examples button')[i].click())"
    visit.page.evaluate(at_once)  # while the first is answered, only the newest waits
    visit.page.wait_for_selector("#answers[aria-busy=false] #together:has-text('The data call it: 7')")
    require_answers(visit, digits.certify[0][shown[7]], both)
    visit.page.click("#others")
    assert visit.text("#examples-note") == "Drawn by chance."
    others = [one.get_attribute("data-index") for one in visit.page.locator("#examples button").all()]
    assert len(set(others)) == 10
    visit.page.locator("#examples button").last.click()
    visit.page.wait_for_selector(f"#together:has-text('The data call it: {digits.certify[1][int(others[-1])]}')")


def test_a_file_of_the_networks_size_is_taken_as_it_is(visit: Visit, digits: Data, both: tuple[Path, Path]) -> None:
    for i in (5, 6):
        raw = digits.certify[0][i]
        visit.fresh().page.wait_for_selector("#compact-word:text-is('–')")
        content = png(np.round(raw[0] / 16 * 255))
        if i == 5:
            visit.drop("digit.png", content)
        else:
            visit.page.set_input_files("#file", {"name": "digit.png", "mimeType": "image/png", "buffer": content})
        visit.answered()
        assert (visit.seen() == raw).all()
        require_answers(visit, raw, both)


def test_of_colours_the_luma_is_taken(visit: Visit, both: tuple[Path, Path]) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (8, 8, 3))
    visit.drop("colours.png", png(picture))
    visit.answered()
    visit.page.uncheck("#invert")
    visit.answered()
    luma = picture @ (0.299, 0.587, 0.114)
    assert np.abs(visit.seen()[0] - luma / 255 * 16).max() <= 0.5 + 1e-3
    require_answers(visit, visit.seen(), both)


def test_dark_on_light_and_not_square(new: Any, node_modules: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "blots.npz", **blots())
    model = softmax_model(tmp_path / "blots.onnx", (1, 12, 10), 2, kind=TensorProto.UINT8)
    site = tmp_path / "site"
    assert written(site, model, model, tmp_path / "blots.npz", node_modules) == 0
    read = json.loads((site / "demo.json").read_text())["input"]
    assert (read["background"], read["low"], read["high"]) == (250, 0, 250)
    assert read["fit"] == {"side": 0.5, "x": 0.45, "y": 7 / 12}
    with measure.served(site) as url:
        visit = new(url).ready()
        assert (visit.greys("pad") == 255).all()
        visit.draw([[(0.1, 0.1), (0.1, 0.9)], [(0.1, 0.9), (0.3, 0.9)]])
        grey, raw = visit.greys("pad") / 255, visit.greys("seen") / 255 * 250
        assert grey.min() == 0
        assert np.abs(raw - 250 * averaged(grey, 1, read["fit"], (12, 10))).max() <= 1
        rows, columns = np.flatnonzero((raw < 200).any(1)), np.flatnonzero((raw < 200).any(0))
        assert (rows[0], rows[-1]) == (4, 9)
        assert columns.mean() == pytest.approx(4, abs=0.5)
        shares = answers(model, np.round(raw).astype(np.uint8)[None, None])[0]
        assert np.abs(visit.shares() - shares[:, None]).max() <= 0.0005 + 0.01  # levels are seen to 1 of 250


def test_a_photograph_of_dark_ink_is_inverted_scaled_and_centred(visit: Visit, both: tuple[Path, Path]) -> None:
    photo = np.full((300, 500), 235)
    photo[40:60, 60:160] = photo[60:200, 140:160] = 20  # a seven at the upper left
    visit.drop("seven.jpg", png(photo, "JPEG"), "image/jpeg")
    visit.page.wait_for_selector("#invert:enabled")
    visit.answered()
    assert visit.page.is_checked("#invert")
    raw, grey = visit.seen(), visit.greys("pad") / 255
    assert np.abs(raw[0] - 16 * averaged(grey, 0, WHOLE)).max() <= 0.5 + 1e-3
    assert raw[0, 0].sum() > 5 * 12  # its bar is the first row
    assert raw[0, :, 0].max() <= 12
    require_answers(visit, raw, both)
    visit.page.uncheck("#invert")
    visit.answered()
    grey = visit.greys("pad")
    assert grey[0, 0] > 225  # what is around a picture is as its rim
    assert grey[-1, -1] > 225
    require_answers(visit, visit.seen(), both)
    visit.page.click("#clear")
    assert visit.page.is_disabled("#invert")


def test_sizes_are_those_of_the_files_and_times_say_how(visit: Visit, both: tuple[Path, Path], site: Path) -> None:
    rows = {
        row.locator("th").inner_text(): [cell.inner_text() for cell in row.locator("td").all()]
        for row in visit.page.locator("#costs tr").all()
    }
    sizes = [path.stat().st_size for path in both]
    assert rows["File"] == [*(f"{size:,} bytes" for size in sizes), f"{float(f'{sizes[0] / sizes[1]:.2g}'):g}×"]
    for text, path in zip(rows["The same through gzip"], both, strict=False):
        assert int(text.split()[0].replace(",", "")) == pytest.approx(len(gzip.compress(path.read_bytes())), rel=0.02)
    for name in ("Fetched in", "Ready in", "One answer, median"):
        assert all(0 < float(text.split()[0].replace(",", "")) < 60_000 for text in rows[name][:2])
    note = visit.text("#costs-note")
    assert re.search(r"median of \d{3} timings of \d+ answers? each, after a warm-up.* WebAssembly, 1 thread\.", note)
    assert f"{(site / 'runtime' / 'ort.wasm').stat().st_size:,} bytes" in note
    assert PINNED in note
    visit.page.click("#again")
    assert visit.text("#costs-note") == "Measuring …"
    visit.ready()
    assert "median of" in visit.text("#costs-note")


def test_nothing_is_asked_for_from_another_host(visit: Visit, address: str) -> None:
    """Neither here nor in what the tests before did on this page; and the page's policy would not let it."""
    visit.draw(SEVEN)
    visit.page.click("#run")
    visit.page.wait_for_selector("#outcome table")
    assert len(visit.asked) > 8
    assert [url for url in visit.asked if not url.startswith((address, "data:,"))] == []
    assert [
        text for text in visit.said if "Multiple readback" not in text
    ] == []  # Chromium, of how this test reads canvases
    visit.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.inline = 1'}))"
    )
    assert visit.page.evaluate("window.inline") is None
    refused = "fetch('http://localhost:9/').then(() => '', (error) => String(error))"
    assert "Failed to fetch" in visit.page.evaluate(refused)
    assert any("connect-src" in text for text in visit.said)


@pytest.mark.parametrize(
    ("broken", "said"),
    {
        "a model that is none": ({"compact.onnx": b"no network"}, "The compact network does not run: "),
        "a model that is missing": ({"float.onnx": None}, "The float network does not run: float.onnx did not arrive: the server says 404"),
        "no runtime": ({"runtime/ort.wasm": None}, "runtime/ort.wasm did not arrive: the server says 404"),
        "a runtime that is none": ({"runtime/ort.wasm": b"\0asm"}, "The compact network does not run: "),
        "no description": ({"demo.json": None}, "demo.json did not arrive: the server says 404"),
        "a cut sample": ({"sample.bin": bytes(99)}, "99 values for 377 pictures of 64"),
    }.values(),
)  # fmt: skip
def test_what_is_missing_is_said(new: Any, site: Path, tmp_path: Path, broken: Mapping[str, Any], said: str) -> None:
    shutil.copytree(site, tmp_path / "site")
    for name, content in broken.items():
        (tmp_path / "site" / name).unlink()
        if content is not None:
            (tmp_path / "site" / name).write_bytes(content)
    with measure.served(tmp_path / "site") as url:
        visit = new(url)
        visit.page.wait_for_selector("#problem:not([hidden])", timeout=1000 * PATIENCE_S)
        visit.page.wait_for_selector("#state[hidden]", state="attached")
        assert said in visit.text("#problem")
        assert visit.page.is_disabled("#run")
        if said.endswith("404") and "float.onnx" in said:  # the other one still answers
            visit.ready().draw(SEVEN)
            assert visit.labels() == ("7", "–")
            assert visit.text("#visit") == ""


def test_a_server_that_goes_away_is_said(new: Any, address: str) -> None:
    visit = new("about:blank")
    visit.page.route("**/float.onnx", lambda route: Route.abort(route))
    visit.page.goto(address)
    visit.page.wait_for_selector("#problem:has-text('float.onnx did not arrive: is the server still there?')")


def test_without_webassembly(new: Any) -> None:
    visit = new(before="delete window.WebAssembly")
    visit.page.wait_for_selector("#problem:has-text('This browser has no WebAssembly')")
    assert visit.page.is_disabled("#run")
    assert visit.page.is_disabled("#again")


def test_a_file_that_is_no_picture_changes_nothing(visit: Visit) -> None:
    visit.page.locator("#examples button").nth(1).click()
    visit.page.wait_for_selector("#together:has-text('The data call it: 1')")
    visit.drop("notes.txt", b"no picture", "text/plain")
    visit.page.wait_for_selector("#notice:has-text('notes.txt is not a picture that this browser can read')")
    assert "The data call it: 1" in visit.text("#together")
    visit.drop("", b"a text")
    visit.page.wait_for_selector("#notice:has-text('no file')")
    visit.draw(SEVEN)
    assert visit.page.is_hidden("#notice")


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(new: Any, viewport: dict[str, int], scheme: str) -> None:
    visit = new(viewport=viewport, color_scheme=scheme).ready()
    visit.drop("notes.txt", b"no picture", "text/plain")
    visit.page.click("#run")
    visit.page.wait_for_selector("#outcome table")
    visit.page.locator("#differences button").first.click()
    visit.page.wait_for_selector("#together.different")
    assert findings(visit.page) == []
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert visit.page.evaluate(background) == {"light": "rgb(253, 252, 249)", "dark": "rgb(22, 23, 26)"}[scheme]
    for width in (320, 390, 768, 900, 1280):
        visit.page.set_viewport_size({"width": width, "height": 844})
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        box = visit.page.locator("#pad").bounding_box()
        assert box is not None
        assert box["width"] == pytest.approx(box["height"], rel=0.02)
    visit.page.evaluate(
        "() => { document.documentElement.lang = ''; document.querySelector('#clear').textContent = ''; }"
    )
    assert [told.split(":")[0] for told in findings(visit.page)] == ["button-name", "html-has-lang"]


def findings(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    told = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in told if one["impact"] in ("serious", "critical")]


def test_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    page.reload()
    visit.ready()
    reached = []
    for _ in range(17):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.title"
            )
        )
        if len(reached) == 1:
            assert page.locator(".skip").bounding_box()["x"] >= 0
        visible = "() => getComputedStyle(document.activeElement.matches('#file') ? document.activeElement.nextElementSibling : document.activeElement).outlineStyle"
        assert page.evaluate(visible) == "solid", reached[-1]
        if reached[-1] == "4":
            page.keyboard.press("Enter")
            page.wait_for_selector("#together:has-text('The data call it: 4')")
    assert reached == ["skip", "clear", "file", *map(str, range(10)), "others", "fit", "again", "run"]
    page.keyboard.press("Enter")
    page.wait_for_selector("#outcome table")


def test_a_finger_draws_and_motion_can_be_reduced(new: Any, both: tuple[Path, Path]) -> None:
    visit = new(viewport=PHONE, has_touch=True, reduced_motion="reduce").ready()
    box = visit.page.locator("#pad").bounding_box()
    visit.page.touchscreen.tap(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    visit.answered()
    assert visit.seen().any()
    require_answers(visit, visit.seen(), both)
    duration = "() => getComputedStyle(document.querySelector('.bar')).transitionDuration"
    assert visit.page.evaluate(duration) == "0s"
    visit.page.emulate_media(reduced_motion="no-preference")
    assert visit.page.evaluate(duration) != "0s"


def test_colours_floats_and_shares_as_given(
    new: Any, models: dict[str, Path], node_modules: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "noise.npz", **colours())
    one, other = (softmax_model(tmp_path / f"{name}.onnx") for name in ("one", "other"))
    assert written(tmp_path / "site", one, other, tmp_path / "noise.npz", node_modules) == 0
    data = load(tmp_path / "noise.npz")
    demo = json.loads((tmp_path / "site" / "demo.json").read_text())
    with measure.served(tmp_path / "site") as url:
        visit = new(url).ready()
        visit.page.locator("#examples button").nth(3).click()
        visit.page.wait_for_selector("#together:has-text('The data call it: 3')")
        right = answers(one, data.certify[0][demo["sample"]["shown"][3]][None])[0]
        assert visit.labels() == (str(right.argmax()),) * 2
        assert visit.text("#shares-note") == "The 12 largest of 13 classes."
        assert np.abs(visit.shares()[:, 0] - np.sort(right)[:0:-1]).max() <= 0.0005 + TOLERANCE
        low, high = demo["input"]["low"], demo["input"]["high"]
        picture = np.random.default_rng(1).integers(0, 256, (6, 9, 3))
        visit.drop("colours.png", png(picture))
        visit.page.wait_for_selector("#together:not(:has-text('The data'))")
        visit.answered()
        raw = (low + picture.transpose(2, 0, 1) / 255 * (high - low)).astype(np.float32)
        right = np.sort(answers(one, raw[None])[0])[:0:-1]
        assert np.abs(visit.shares()[:, 0] - right).max() <= 0.0005 + TOLERANCE


def test_the_table_of_the_documents_is_measured(site: Path, digits: Data, both: tuple[Path, Path]) -> None:
    tiny_c.need("chromium")
    command = [sys.executable, str(DEMO / "measure.py"), str(site), "--visits", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| digits")]
    x, y = digits.certify
    for row, path in zip(rows, both, strict=True):
        right = answers(path, x).argmax(1) == y
        assert row[2] == f"{path.stat().st_size:,} bytes"
        assert row[6] == f"{right.sum()} of 377 = {right.mean():.2%}".replace("%", " %")
        assert all(re.fullmatch(r"[\d.,]+ ms", row[column]) for column in (4, 5))
