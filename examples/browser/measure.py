"""Visit sites of make.py with Chromium, as a user would, and print what their pages measure as a table in Markdown.

    python measure.py site other-site --visits 5

Each visit is a browser without a cache. Times are medians over the visits; sizes and counts must be the same in all of them.
Needs playwright (the extra `dev`) and Chromium.
"""

import argparse
import functools
import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright

ROLES = ("compact", "float")
ROWS = {"File": "bytes", "The same through gzip": "gzip", "Ready in": "ready", "One answer, median": "ms"}
HEAD = (
    "| data | network | bytes | through gzip | ready in | one answer | right answers |\n|---|---|--:|--:|--:|--:|--:|"
)
WAIT_MS = 60_000


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server on loopback for the files of a folder."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def figures(page: Page) -> dict[str, dict[str, str]]:
    """What a loaded page says of each role, after the whole sample was run. Texts as they are shown, numbers first."""
    page.wait_for_selector("#again:enabled", timeout=WAIT_MS)
    found: dict[str, dict[str, str]] = {role: {} for role in ROLES}
    for row in page.locator("#costs tr").all():
        if name := ROWS.get(row.locator("th").inner_text()):
            for role, cell in zip(ROLES, row.locator("td").all(), strict=False):
                found[role][name] = cell.inner_text()
    page.click("#run")
    page.wait_for_selector("#outcome table", timeout=WAIT_MS)
    for role, cell in zip(ROLES, page.locator("#outcome tbody tr").first.locator("td").all(), strict=True):
        found[role]["right"] = cell.inner_text()
    return found


def visits(browser: Browser, address: str, count: int) -> dict[str, dict[str, str]]:
    """The figures of `count` visits as one. Raises SystemExit where they disagree on anything but times."""
    every = []
    for _ in range(count):
        page = browser.new_context().new_page()
        page.goto(address)
        every.append(figures(page))
        page.context.close()
    return {role: {name: _one([one[role][name] for one in every]) for name in every[0][role]} for role in ROLES}


def _one(texts: list[str]) -> str:
    if texts[0].endswith(" ms"):
        middle = median(float(text.split()[0].replace(",", "")) for text in texts)
        return f"{middle:,.0f} ms" if middle >= 10 else f"{middle:#.2g} ms"
    if len(set(texts)) != 1:
        raise SystemExit(f"measure: visits disagree: {', '.join(sorted(set(texts)))}")
    return texts[0]


def lines(site: Path, told: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    demo = json.loads((site / "demo.json").read_text())
    for role in ROLES:
        name = f"{role}: {demo['models'][role]['name']}"
        cells = [told[role][key] for key in (*ROWS.values(), "right")]
        yield "| " + " | ".join([demo["data"], name, *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", type=Path, nargs="+", metavar="SITE")
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        print(f"Chromium {browser.version}, medians of {options.visits} visits\n\n{HEAD}")
        for site in options.sites:
            with served(site) as address:
                print("\n".join(lines(site, visits(browser, address, options.visits))), flush=True)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
