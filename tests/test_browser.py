"""Pictures on the page of the browser demo in a real Chromium: every answer must be that of ONNX Runtime in Python."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_site import FORMS, answers, blots, colours, softmax_model, written
from cases import CASES
from onnx import TensorProto

from edgeticket.compact import compact
from edgeticket.data import Data, load
from edgeticket.runtime import CODE, TOLERANCE
from exporters import qdq, to_onnx
from exporters.graph import to_bytes

if not os.environ.get("CI"):
    for package in ("torch", "playwright", "PIL"):
        pytest.importorskip(package)

from browser_page import CROSS, SEVEN, Visit, averaged, measure, png, require_answers, require_own_host, run_in

pytestmark = pytest.mark.slow

WHOLE = {"side": 1.0, "x": 0.5, "y": 0.5}  # how the digits lie in their frames


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


def test_no_picture_left_this_host(visit: Visit, address: str) -> None:
    """In what the tests before did on this page."""
    require_own_host(visit, address)
