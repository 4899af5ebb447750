"""A visit to the page of the browser demo by a real Chromium, and what must be seen there, computed in another way."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from browser_site import PATIENCE_S, answers, make, program
from PIL import Image
from playwright.sync_api import Browser, Page

from edgeticket.runtime import TOLERANCE

measure = program("measure")
SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]]
CROSS = [[(0.1, 0.1), (0.6, 0.4)], [(0.1, 0.4), (0.6, 0.1)]]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Runs a network of bytes in Base64 on feeds name -> [type, shape, bytes]; gives all outputs, or what ONNX Runtime says against it.
RUN = """async ([content, feeds]) => {
  const ort = await import("./runtime/ort.js");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const arrays = {uint8: Uint8Array, int16: Int16Array, float32: Float32Array};
  try {
    const session = await ort.InferenceSession.create(bytes(content));
    const made = await session.run(Object.fromEntries(Object.entries(feeds).map(
      ([name, [type, shape, text]]) => [name, new ort.Tensor(type, new arrays[type](bytes(text).buffer), shape)])));
    await session.release();
    return session.outputNames.map((name) => [...made[name].data]);
  } catch (error) { return String(error); }
}"""
GREYS = """id => {
  const canvas = document.getElementById(id);
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, ...data.filter((_, i) => i % 4 === 0)];
}"""
DROP = """async ([name, type, text]) => {
  const carried = new DataTransfer();
  if (name) carried.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, {type}));
  else carried.setData("text/plain", text);
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""


class Visit:
    """One page, with what it asked for and what it complained about."""

    def __init__(self, browser: Browser, url: str, before: str = "", **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        if before:
            self.page.add_init_script(before)
        self.page.goto(url)

    def ready(self) -> "Visit":
        self.page.wait_for_selector("#again:enabled", timeout=1000 * PATIENCE_S)
        return self

    def fresh(self) -> "Visit":
        """As it was before anything was drawn; the visit's count stays."""
        self.page.click("#clear")
        self.page.set_checked("#fit", True)
        return self

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def labels(self) -> tuple[str, str]:
        return self.text("#compact-word"), self.text("#float-word")

    def shares(self) -> np.ndarray:
        """[classes, 2], as they are shown."""
        rows = self.page.locator("#shares tr").all()
        cells = [[cell.inner_text() for cell in row.locator("td").all()] for row in rows]
        return np.array([[float(text.split()[0]) / 100 for text in row] for row in cells])

    def greys(self, canvas: str) -> np.ndarray:
        height, width, *values = self.page.evaluate(GREYS, canvas)
        return np.array(values).reshape(height, width)

    def seen(self) -> np.ndarray:
        """Raw values [1, 8, 8]: what is shown as what the networks see."""
        return np.round(self.greys("seen") / 255 * 16).astype(np.uint8)[None]

    def draw(self, lines: list[list[tuple[float, float]]]) -> None:
        self.page.locator("#pad").scroll_into_view_if_needed()
        box = self.page.locator("#pad").bounding_box()
        assert box is not None
        for line in lines:
            points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
            self.page.mouse.move(*points[0])
            self.page.mouse.down()
            for point in points[1:]:
                self.page.mouse.move(*point, steps=4)
            self.page.mouse.up()
        self.answered()

    def answered(self) -> None:
        self.page.wait_for_selector("#answers[aria-busy=false]:has(#compact-word:not(:text-is('–')))")

    def drop(self, name: str, content: bytes, kind: str = "image/png") -> None:
        self.page.evaluate(DROP, [name, kind, base64.b64encode(content).decode()])

    def close(self) -> None:
        self.context.close()


def png(grey: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(file, form)
    return file.getvalue()


def softmax(outputs: np.ndarray) -> np.ndarray:
    powers = np.exp(outputs - outputs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def require_answers(visit: Visit, raw: np.ndarray, both: tuple[Path, Path]) -> None:
    """The page shows what ONNX Runtime in Python makes of raw values."""
    shares = np.stack([softmax(answers(path, raw[None])[0]) for path in both], axis=1)
    assert visit.labels() == tuple(map(str, shares.argmax(0)))
    assert np.abs(visit.shares() - shares).max() <= 0.0005 + TOLERANCE
    word = "Both answer the same." if shares[:, 0].argmax() == shares[:, 1].argmax() else "They differ."
    assert word in visit.text("#together")


def require_own_host(visit: Visit, address: str) -> None:
    """Nothing was asked for from elsewhere, nor complained about, in all that was done on this page."""
    assert len(visit.asked) > 8
    assert [url for url in visit.asked if not url.startswith((address, "data:,"))] == []
    readback = "Multiple readback"  # Chromium, of how these tests read canvases
    assert [text for text in visit.said if readback not in text] == []


def averaged(
    grey: np.ndarray, background: float, fit: Mapping[str, float] | None, cells: tuple[int, int] = (8, 8)
) -> np.ndarray:
    """What the page makes of its canvas, in another way: the canvas is looked up at many points of each cell."""
    (height, width), (left, top), share = grey.shape, (0.0, 0.0), 1.0
    if fit:
        rows, columns = (np.flatnonzero((np.abs(grey - background) > make.INK).any(axis)) for axis in (1, 0))
        share = max((np.ptp(rows) + 1) / height, (np.ptp(columns) + 1) / width) / fit["side"]
        left = (columns[0] + columns[-1] + 1) / 2 - fit["x"] * share * width
        top = (rows[0] + rows[-1] + 1) / 2 - fit["y"] * share * height
    points = 400
    around = np.pad(grey, [(height, height), (width, width)], constant_values=float(background))
    at = []
    for start, side, count in ((top + height, share * height, cells[0]), (left + width, share * width, cells[1])):
        at.append(np.floor(start + side * (np.arange(count * points) + 0.5) / (count * points)).astype(int))
    down = around[at[0]].reshape(cells[0], points, -1).mean(1)
    return down[:, at[1]].reshape(cells[0], cells[1], points).mean(2)


def run_in(visit: Visit, content: bytes, feeds: Mapping[str, np.ndarray]) -> list[list[float]]:
    wire = {
        name: [x.dtype.name, list(x.shape), base64.b64encode(np.ascontiguousarray(x).tobytes()).decode()]
        for name, x in feeds.items()
    }
    told = visit.page.evaluate(RUN, [base64.b64encode(content).decode(), wire])
    assert isinstance(told, list), told
    return told
