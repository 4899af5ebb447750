"""The page of the browser demo around its answers, in a real Chromium: what it says, asks for, and can be used with."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from browser_site import DEMO, PINNED, answers
from tiny_c import need

from edgeticket.data import Data

if not os.environ.get("CI"):
    for package in ("torch", "playwright", "axe_playwright_python", "PIL"):
        pytest.importorskip(package)

from axe_playwright_python.sync_playwright import Axe
from browser_page import (
    CROSS,
    DESKTOP,
    PATIENCE_S,
    PHONE,
    SEVEN,
    Visit,
    measure,
    require_answers,
    require_own_host,
)
from playwright.sync_api import Page, Route

pytestmark = pytest.mark.slow


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
    require_own_host(visit, address)
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


def test_the_table_of_the_documents_is_measured(site: Path, digits: Data, both: tuple[Path, Path]) -> None:
    need("chromium")
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
