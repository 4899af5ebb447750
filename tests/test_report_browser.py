"""The page of a proof of concept in a real Chromium: desktop, phone, paper, without scripts, and to a screen reader (axe)."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_c
from poc_records import record, without_tickets

if not os.environ.get("CI"):
    for package in ("jinja2", "matplotlib", "playwright", "axe_playwright_python"):
        pytest.importorskip(package)

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from edgeticket.report import LANGUAGES, render

pytestmark = pytest.mark.slow

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PAPER = {"width": 680, "height": 990}  # A4 within its margins, in CSS pixels
RECORDS = {
    "classification": record(),
    "regression": record("regression"),
    "anomaly": record("anomaly", prices={"currency": "EUR", "devices": 1000, "per_mb": 0.4, "updates_per_year": 12}),
    "undecided": record(seeds=20, failures=8),
    "none": without_tickets(record(failures=59)),
}
# Boxes of the texts of each picture that overlap, as pairs.
OVERLAPS = """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  return texts.flatMap(([a, p], i) => texts.slice(i + 1)
    .filter(([b, q]) => p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2)
    .map(([b, q]) => a + " / " + b));
})"""
OUTSIDE = """width => [...document.querySelectorAll("body *")]
  .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > width + 1 && !e.closest(".skip"))
  .map(e => e.tagName + " " + e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Every record in both languages, as files."""
    folder, made = tmp_path_factory.mktemp("pages"), {}
    for name, told in RECORDS.items():
        for language in LANGUAGES:
            made[name, language] = folder / f"{name}-{language}.html"
            made[name, language].write_bytes(render(told, language))
    return made


@pytest.fixture
def shown(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A function that opens a file; what it opened is closed afterwards."""
    contexts = []

    def open_page(path: Path, viewport: dict[str, int] = DESKTOP, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport=viewport, **options))  # type: ignore[arg-type]
        page = contexts[-1].new_page()
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def findings(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    told = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in told if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(
    pages: dict[tuple[str, str], Path], shown: Any, name: str, language: str, viewport: dict[str, int], scheme: str
) -> None:
    assert findings(shown(pages[name, language], viewport, color_scheme=scheme)) == []


def test_axe_would_find_something(pages: dict[tuple[str, str], Path], shown: Any, tmp_path: Path) -> None:
    text = pages["classification", "en"].read_text(encoding="utf-8")
    worse = tmp_path / "worse.html"
    worse.write_text(text.replace('<html lang="en">', "<html>").replace("--soft: #5f5b54", "--soft: #c5c1b9"))
    told = " ".join(findings(shown(worse)))
    assert "html-has-lang" in told
    assert "color-contrast" in told


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_only_tables_scroll_sideways(
    pages: dict[tuple[str, str], Path], shown: Any, name: str, language: str, width: int
) -> None:
    page = shown(pages[name, language], {"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beside = page.evaluate(OUTSIDE, width)
    within = page.evaluate(
        "() => [...document.querySelectorAll('.scroll *')].map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"
    )
    assert set(beside) <= set(within)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_asked_for_from_outside(pages: dict[tuple[str, str], Path], browser: Browser, language: str) -> None:
    page, asked, said = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    path = pages["classification", language]
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_reads_the_same_without_scripts(pages: dict[tuple[str, str], Path], shown: Any, language: str) -> None:
    path = pages["undecided", language]
    with_scripts, without = (
        shown(path, PHONE, java_script_enabled=enabled).screenshot(full_page=True) for enabled in (True, False)
    )
    assert with_scripts == without


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["classification", "anomaly", "regression"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pictures_can_be_read(
    pages: dict[tuple[str, str], Path], shown: Any, name: str, language: str, viewport: dict[str, int]
) -> None:
    page = shown(pages[name, language], viewport)
    assert page.evaluate(OVERLAPS) == []
    heights = page.evaluate(
        "() => [...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert len(heights) > 20
    assert min(heights) >= 9


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", RECORDS)
def test_nothing_is_cut_on_paper(pages: dict[tuple[str, str], Path], shown: Any, name: str, language: str) -> None:
    page = shown(pages[name, language], PAPER)
    page.emulate_media(media="print")
    assert page.evaluate(OUTSIDE, PAPER["width"]) == []
    hidden = page.evaluate(
        "() => [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert hidden == 0
    assert not page.locator("nav").is_visible()
    sheets = len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True)))
    assert (3 if name == "none" else 6) <= sheets <= 14


def test_paper_is_white_whatever_the_screen_is(pages: dict[tuple[str, str], Path], shown: Any) -> None:
    page = shown(pages["classification", "en"], color_scheme="dark")
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(22, 23, 26)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_japanese_is_drawn_with_a_font_that_has_it(pages: dict[tuple[str, str], Path], shown: Any) -> None:
    tiny_c.need("fc-list")
    families = {name for line in fonts_of("ja") for name in line.split(",")}
    if not families:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Japanese font: install fonts-ipafont-gothic")
    page = shown(pages["classification", "ja"])
    client = page.context.new_cdp_session(page)
    client.send("DOM.enable")
    client.send("CSS.enable")
    root = client.send("DOM.getDocument")["root"]["nodeId"]
    node = client.send("DOM.querySelector", {"nodeId": root, "selector": ".verdict .word"})["nodeId"]
    used = {font["familyName"] for font in client.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]}
    assert used
    assert used <= families


def fonts_of(language: str) -> list[str]:
    told = subprocess.run(["fc-list", f":lang={language}", "family"], capture_output=True, text=True, check=True)
    return told.stdout.split("\n")[:-1]


def test_the_keyboard_reaches_tables_and_skips_to_the_text(pages: dict[tuple[str, str], Path], shown: Any) -> None:
    page = shown(pages["classification", "en"], PHONE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
    tables = page.evaluate(
        "() => [...document.querySelectorAll('.scroll')].map(e => e.getAttribute('aria-labelledby'))"
    )
    assert set(tables) <= reached
