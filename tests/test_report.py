"""The page of a proof of concept: the same bytes for the same record, nothing from outside, and what it says is in the record."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from poc_records import LAYERS, record, sealed, without_tickets

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from edgeticket.cli import main
from edgeticket.errors import UsageError
from edgeticket.poc.record import canonical
from edgeticket.report import LANGUAGES, _words, render
from edgeticket.report._pictures import _front
from edgeticket.report._svg import Picture
from edgeticket.report._verdict import sentences

TASKS = {"classification": "accuracy", "regression": "relative RMSE", "anomaly": "AUC"}
MAX_BYTES = 500_000
HOSTILE = "<script>alert(1)</script>\"'><img src=https://example.org/x onerror=alert(2)> `$x^2$` {braces}"
PRICES = {
    "currency": "EUR",
    "devices": 1000,
    "updates_per_year": 12,
    "per_mb": 0.4,
    "flash_per_kb": 0.01,
    "cpu_hour": 0.05,
}


class Page(HTMLParser):
    """Elements with their attributes, and all text outside of style."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(content.decode())
        self.text = " ".join(" ".join(self.texts).replace("\u00a0", " ").replace("\u2060", "").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def attributes(self) -> Iterator[tuple[str, str, str]]:
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                yield tag, name, value


def variants() -> dict[str, dict[str, Any]]:
    """Records that together say everything that a page can say."""
    made = {task: record(task) for task in TASKS}
    made["undecided"] = record(failures=8, seeds=20)
    made["none"] = without_tickets(record(failures=59))
    made["tickets but no success"] = record(failures=59)
    made["prices"] = record(prices=PRICES | {"colour": "red"})
    made["few prices"] = record(prices={"per_kwh": 0.3})
    return made


VARIANTS = variants()
SHOWN_IN = [(name, "en") for name in VARIANTS] + [(name, "ja") for name in ("classification", "none")]


@pytest.fixture(scope="module")
def pages() -> Mapping[tuple[str, str], Page]:
    return {(name, language): Page(render(VARIANTS[name], language)) for name, language in SHOWN_IN}


# the page as such


@pytest.mark.parametrize(("name", "language"), SHOWN_IN)
def test_nothing_is_loaded_or_run(pages: Mapping[tuple[str, str], Page], name: str, language: str) -> None:
    page = pages[name, language]
    assert not page.of("script")
    (policy,) = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    for tag, attribute, value in page.attributes():
        assert not attribute.startswith("on"), (tag, attribute)
        if attribute in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert value.startswith("#") or (tag, value) == ("link", "data:,"), (tag, attribute, value)
        for address in re.findall(r"url\(([^)]*)\)", value):
            assert address.startswith("#")


@pytest.mark.parametrize(("name", "language"), SHOWN_IN)
def test_ids_are_unique_and_what_refers_to_one_finds_it(
    pages: Mapping[tuple[str, str], Page], name: str, language: str
) -> None:
    page = pages[name, language]
    ids = [value for _, attribute, value in page.attributes() if attribute == "id"]
    assert len(ids) == len(set(ids)) >= 18
    for tag, attribute, value in page.attributes():
        if attribute in ("href", "xlink:href") and value.startswith("#"):
            assert value[1:] in ids, (tag, value)
        if attribute in ("aria-labelledby", "aria-describedby"):
            assert value in ids
        assert set(re.findall(r"url\(#([^)]+)\)", value)) <= set(ids)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_screen_reader_needs(pages: Mapping[tuple[str, str], Page], language: str) -> None:
    page = pages["classification", language]
    assert page.of("html")[0]["lang"] == language
    assert len(page.of("table")) == len(page.of("caption")) >= 10
    assert all(cell.get("scope") in ("col", "row") for cell in page.of("th"))
    pictures = [svg for svg in page.of("svg") if "aria-hidden" not in svg]
    assert len(pictures) == len(page.of("figcaption")) == 5
    assert all(svg["role"] == "img" and svg["aria-labelledby"] and svg["aria-describedby"] for svg in pictures)
    assert [tag for tag, _ in page.elements if tag in ("h1", "h2")].count("h1") == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_same_record_same_bytes_and_small(pages: Mapping[tuple[str, str], Page], language: str) -> None:
    content = pages["classification", language].content
    assert content == render(record(), language)
    assert len(content) < MAX_BYTES


def test_many_seeds_are_still_small() -> None:
    made = record(seeds=1000)
    content = render(made, "ja")
    assert len(content) < MAX_BYTES
    assert "1,000回のうち最初の300回" in content.decode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_name_breaks_out(language: str) -> None:
    made = record()
    made["request"] |= {"name": HOSTILE, "command": HOSTILE, "model": HOSTILE, "success": HOSTILE, "budget": HOSTILE}
    made["data"] |= {"name": HOSTILE, "note": HOSTILE, "warnings": [HOSTILE], "digest": HOSTILE}
    made["chosen"]["labels"] = [f"{HOSTILE}{i}" for i in range(10)]
    made["environment"]["cpu"] = HOSTILE
    made["rows"][-1]["why"] = [HOSTILE]
    made["rivals"][0] |= {"name": HOSTILE, "onnx": HOSTILE}
    made["verdict"]["reasons"].append({"code": HOSTILE, "name": HOSTILE})
    chosen = made["chosen"]
    chosen |= {"purity": HOSTILE, "ticket": HOSTILE, "digest": HOSTILE}
    chosen["layers"][0] |= {"name": HOSTILE, "kind": HOSTILE}
    chosen["files"][0] |= {"path": HOSTILE, "sha256": HOSTILE}
    chosen["bench"][1]["name"] = HOSTILE
    chosen["chain"]["links"][0] |= {"what": HOSTILE, "against": HOSTILE, "note": HOSTILE, "unit": HOSTILE}
    chosen["cores"][0] |= {"target": HOSTILE, "how": HOSTILE}
    made["prices"] = {"currency": HOSTILE, HOSTILE: 1, "cpu_hour": 1}
    page = Page(render(made, language))
    assert not page.of("script")
    assert not page.of("img")
    assert not [name for _, name, _ in page.attributes() if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") > 30
    assert "$x^2$" in page.text


# texts


def test_languages_have_the_same_texts_with_the_same_placeholders() -> None:
    texts = {language: _words.load(language, "accuracy").texts for language in LANGUAGES}
    assert texts["en"].keys() == texts["ja"].keys()
    for key, english in texts["en"].items():
        japanese = texts["ja"][key]
        assert type(english) is type(japanese)
        pairs = [(english, japanese)] if isinstance(english, str) else list(zip(english, japanese, strict=True))
        for one, other in pairs:
            assert fields(one) == fields(other), key
            assert one.count("`") == other.count("`"), key


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_japanese_is_japanese() -> None:
    latin_only = re.compile(r"[\x00-\x7f\u00a0\u2060\u200b→]*")
    texts = _words.load("ja", "accuracy").texts
    told = {key for key, text in texts.items() if isinstance(text, str) and latin_only.fullmatch(text)}
    assert {key.partition(".")[0] for key in told} <= {"format", "headline", "compare", "appendix", "latency", "money"}
    assert len(told) < 30


def test_every_text_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()

    class Watched(dict):
        def __getitem__(self, key: str) -> Any:
            used.add(key)
            return super().__getitem__(key)

    load = _words.load

    def watched(language: str, headline: str) -> _words.Words:
        words = load(language, headline)
        return _words.Words(language, Watched(words.texts), headline)

    monkeypatch.setattr("edgeticket.report._page.load", watched)
    monkeypatch.setattr("edgeticket.report._pictures.inline", lambda figure, name, *told: Picture(*told, Markup()))
    for made in [*VARIANTS.values(), *others()]:
        render(made)
    for made in [*map(with_reason, REASONS), *map(with_change, CHANGES)]:
        sentences(made, watched("en", "accuracy"))
    assert load("en", "accuracy").texts.keys() == used


def others() -> Iterator[dict[str, Any]]:
    """What VARIANTS leave out."""
    yield sealed(
        VARIANTS["classification"], request=VARIANTS["classification"]["request"] | {"budget": "", "period_ms": None}
    )
    for purity in ("P0", "P1", "P2", "P3"):
        made = record()
        made["chosen"]["purity"] = purity
        yield made
    made = record()
    made["chosen"] |= {"confusion": [[36 * (i == j) for j in range(10)] for i in range(10)]}
    for channels in (made["chosen"]["total"]["channels"], *(layer["channels"] for layer in made["chosen"]["layers"])):
        channels["after"] = channels["before"]
    for row, kind in zip(made["chosen"]["layers"], ("int8", "signs", "signs+flips", "signs"), strict=True):
        row["kind"] = kind
    made["chosen"]["cores"] = [made["chosen"]["cores"][0] | {"how": how} for how in ("measured", "estimated")]
    made["chosen"]["device_seconds"] = None
    for link in made["chosen"]["chain"]["links"][:1]:
        link |= {"outcome": "failed", "what": "masked torch network"}
    made["chosen"]["chain"]["links"] += [
        made["chosen"]["chain"]["links"][0] | {"what": what, "against": against}
        for what, against in (
            ("integer network", "the specification"),
            ("x.onnx", "the ticket's int8 graph, bit for bit"),
        )
    ]
    for bench in made["chosen"]["bench"]:
        bench |= {"period_ms": None, "missed": None}
    for row in [*made["rows"], *made["rivals"], *made["sparser"]]:
        row["latency_ms"] = None
    made["indicators"]["cost"]["total_cpu_seconds"] = 90_000
    made["indicators"]["cost"] |= {
        "run_wall_seconds": None,
        "joules": {"searches_and_floats": 812.0, "source": "a meter"},
    }
    made["data"]["warnings"] = ["few examples"]
    yield made
    yield record(seeds=400)
    yield record(prices=PRICES | {"per_kwh": 0.3}, indicators=made["indicators"])
    yield record(prices={"devices": 10, "updates_per_year": 1})


# the verdict

SHOWN = {"successes": 57, "trials": 59, "confidence": 0.95, "probability": 0.95}
REASONS: dict[str, dict[str, Any]] = {
    "success": SHOWN | {"lower": 0.95049},
    "undecided": SHOWN | {"lower": 0.8966, "upper": 0.994},
    "unlikely": SHOWN | {"successes": 3, "lower": 0.01, "upper": 0.1251},
    "none": SHOWN | {"successes": 0, "upper": 0.0495},
    "rival": {
        "name": "pruned",
        "runs": 3,
        "rival_certify": 0.99,
        "rival_bytes": 3290,
        "certify": 0.98,
        "bytes": 3340.0,
    },
    "chain": {"link": "sample.onnx = the compacted network"},
    "unproven": {},
    "no rivals": {"runs": 3},
    "early": {"done": 20, "asked": 59, "max_cost_s": 600.0},
}
CHANGES: dict[str, dict[str, Any]] = {
    "new proof": {"seeds": 34, "first_seed": 59, "failures": 1, "confidence": 0.975, "cpu_seconds": 100.0},
    "proof": {},
    "accept": {"probability": 0.8966},
    "margin": {"margin": 0.0312, "asked": 0.02},
    "budget": {"term": "packet=4K", "factor": 1.31, "seeds": 12},
    "rival": {"name": "pruned"},
    "failures": {"failures": 2},
}


def with_reason(code: str) -> dict[str, Any]:
    return record(verdict={"word": "stop", "reasons": [{"code": code} | REASONS[code]], "change": []})


def with_change(code: str) -> dict[str, Any]:
    reasons = [{"code": "undecided"} | REASONS["undecided"]]
    return record(verdict={"word": "measure more", "reasons": reasons, "change": [{"code": code} | CHANGES[code]]})


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("success", ["57 of 59", "at least 95.0 %", "95 % was asked"]),
        ("undecided", ["57 of 59", "89.6 %", "95 % asked for"]),
        ("unlikely", ["3 of 59", "12.6 %"]),
        ("none", ["out of 59", "5.0 %"]),
        ("rival", ["channels pruned", "99.00 %", "3,290 bytes", "98.00 %", "3,340 bytes"]),
        ("chain", ["sample.onnx = the compacted network"]),
        ("unproven", ["No link"]),
        ("no rivals", ["3 times"]),
        ("early", ["20 of 59", "10.0 min"]),
    ],
)
def test_reasons_say_their_numbers(code: str, told: list[str]) -> None:
    for language in LANGUAGES:
        said = sentences(with_reason(code), _words.load(language, "accuracy"))["reason"].replace("\u00a0", " ")
        numbers = {number for part in told for number in re.findall(r"[\d,.]*\d", part)}
        assert all(number in said for number in numbers), (language, said)
        if language == "en":
            assert all(part in said for part in told), said


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("new proof", ["34", "59", "97.5", "100 s"]),
        ("proof", ["run the same request again"]),
        ("accept", ["89.6 %"]),
        ("margin", ["3.12 percentage points"]),
        ("budget", ["packet=4K", "12 searches", "1.31x"]),
        ("rival", ["channels pruned"]),
        ("failures", ["2 more"]),
    ],
)
def test_what_would_change_it_says_its_numbers(code: str, told: list[str]) -> None:
    for language in LANGUAGES:
        said = sentences(with_change(code), _words.load(language, "accuracy"))["change"].replace("\u00a0", " ")
        numbers = {number for part in told for number in re.findall(r"[\d,.]*\d", part)}
        assert all(number in said for number in numbers), (language, said)
        if language == "en":
            assert all(part in said for part in told), said


def test_a_code_without_words_is_shown_as_it_is() -> None:
    made = record(verdict={"word": "stop", "reasons": [{"code": "moon", "phase": "full"}], "change": []})
    said = sentences(made, _words.load("en", "accuracy"))
    assert said["reason"] == "moon: phase = full"
    assert "Nothing but other data" in said["change"]


def test_the_first_reason_and_change_lead_and_the_others_follow() -> None:
    page = sentences(VARIANTS["undecided"], _words.load("en", "accuracy"))
    assert page["word"] == "Measure more"
    assert "12 of 20 searches succeeded" in page["reason"]
    assert len(page["reasons"]) == 1
    assert len(page["changes"]) == 2
    none = sentences(VARIANTS["none"], _words.load("en", "accuracy"))
    assert none["word"] == "Stop"
    assert none["reasons"] == []  # "unlikely" would say the same again


# what the sections say


def test_every_probability_comes_with_its_count_and_confidence(pages: Mapping[tuple[str, str], Page]) -> None:
    text = pages["classification", "en"].text
    assert "At least so likely, with 95 % confidence (one-sided Clopper-Pearson), from 57 of 59 searches" in text
    assert "not for other data" in text
    assert "none of 59 searches succeeded" in pages["none", "en"].text
    assert "at most 5.0 %" in pages["none", "en"].text


def test_a_link_that_was_not_run_is_not_shown_as_passed(pages: Mapping[tuple[str, str], Page]) -> None:
    for language, outcomes in (("en", ("passed", "not run")), ("ja", ("合格", "未実施"))):
        content = pages["classification", language].content.decode()
        rows = [row for row in re.findall(r"<tr.*?</tr>", content) if "sample-c" in row and "install gcc" in row]
        assert len(rows) == 1
        assert outcomes[1] in rows[0]
        assert outcomes[0] not in rows[0]
        assert 'class="not-run"' in rows[0]
    assert "2.3e−7 of the largest output at most 1e−5 360" in pages["classification", "en"].text
    assert "4 passed, 0 failed, 1 not run" in pages["classification", "en"].text


def test_what_was_not_measured_says_so() -> None:
    made = record()
    for row in [*made["rows"], *made["rivals"], *made["sparser"]]:
        row["latency_ms"] = None
    made["indicators"]["quality"]["latency_ms"] = None
    page = Page(render(made))
    assert page.text.count("not measured") > len(made["rows"])
    assert re.search(r"narrower int8 network, trained [^a-z]* to [^a-z]* 120,000 not measured not measured", page.text)
    assert "there is no picture against latency" in page.text
    assert len([svg for svg in page.of("svg") if "aria-hidden" not in svg]) == 4


def test_a_rival_that_could_not_be_made_says_why(pages: Mapping[tuple[str, str], Page]) -> None:
    assert "channels pruned, int8: not made (no width fits 3,290 bytes)" in pages["classification", "en"].text


def test_figures_of_the_other_tasks(pages: Mapping[tuple[str, str], Page]) -> None:
    regression, anomaly = pages["regression", "en"].text, pages["anomaly", "en"].text
    assert "torque" in regression
    assert "lower is better" in regression
    assert "relative RMSE at most 0.2500" in regression
    assert "anomalies detected 95.00 % [90.70, 97.70] 171 of 180" in anomaly
    assert "score above 0.0123" in anomaly
    assert "AUC at least" in anomaly
    for text in (regression, anomaly):
        assert "Confusion matrix" not in text


def test_the_confusion_matrix_has_its_counts(pages: Mapping[tuple[str, str], Page]) -> None:
    text = pages["classification", "en"].text
    assert "Most frequent mistakes: 0 taken for 3 (1), 1 taken for 4 (1), 2 taken for 5 (1)" in text
    many = record()
    many["chosen"]["labels"] = [f"c{i}" for i in range(40)]
    many["chosen"]["confusion"] = [[int(j == (i + 1) % 40) * (i + 1) for j in range(40)] for i in range(40)]
    told = Page(render(many)).text
    assert "Most frequent mistakes: c39 taken for c0 (40), c38 taken for c39 (39)" in told
    assert "rows are what is true" not in told


def test_without_prices_there_is_no_money(pages: Mapping[tuple[str, str], Page]) -> None:
    text = pages["classification", "en"].text
    assert "No prices were given" in text
    assert "--prices FILE.yaml" in text
    assert "EUR" not in text
    assert "3.304 MB" in text.replace(
        f"{VARIANTS['classification']['chosen']['bytes']['packed'] / 1000:.4g} MB", "3.304 MB"
    )


def test_costs_are_the_users_prices_times_what_was_measured(pages: Mapping[tuple[str, str], Page]) -> None:
    text, made = pages["prices", "en"].text, VARIANTS["prices"]
    size = made["chosen"]["bytes"]["packed"]
    assert f"EUR {size * 1000 * 12 / 1e6 * 0.4:,.2f}" in text
    assert f"EUR {size * 1000 / 1024 * 0.01:,.2f}" in text
    hours = made["indicators"]["cost"]["search_cpu_seconds"] / 3600
    assert f"EUR {hours * 0.05:.3g}" in text
    assert f"{14_500 * 1000 / 1024:,.0f} KB" in text
    assert "Not computed, as no price or number was given: per_kwh" in text
    assert "Given but not used here: colour" in text
    few = pages["few prices", "en"].text
    assert "Energy has a price but was not measured" in few
    assert "Costs at the prices given" not in few


def test_energy_has_a_cost_only_where_it_was_measured() -> None:
    made = record(prices={"currency": "JPY", "per_kwh": 30})
    made["indicators"]["cost"]["joules"] = {"searches_and_floats": 7.2e6, "source": "a meter"}
    text = Page(render(made)).text
    assert "energy of all searches 2 kWh JPY 30.00 per kWh JPY 60.00" in text


def test_the_appendix_repeats_the_run(pages: Mapping[tuple[str, str], Page]) -> None:
    for language in LANGUAGES:
        text, made = pages["classification", language].text, VARIANTS["classification"]
        assert "seeds 0 to 58" in text or "乱数シード 0～58" in text
        for fact in (made["seal"], made["request"]["command"], "edgeticket verify --claims", made["data"]["digest"]):
            assert fact in text
        assert "Whole channels were removed" in text or language == "ja"
        for file in made["chosen"]["files"]:
            assert file["sha256"] in text
        assert all(name in text for name in LAYERS)


def test_channels_that_stay_are_said_to_stay() -> None:
    text = Page(render(list(others())[-4])).text
    assert "No channel was removed" in text
    assert "Whole channels were removed" not in text


# numbers


@given(st.floats(0, 1))
def test_bounds_are_rounded_to_the_safe_side(share: float) -> None:
    words = _words.load("en", "accuracy")
    low, high = (float(text.split("\u00a0")[0]) / 100 for text in (words.at_least(share), words.at_most(share)))
    assert low - 1e-9 <= share <= high + 1e-9
    assert high - low < 0.0011


@pytest.mark.parametrize(
    ("method", "value", "english", "japanese"),
    [
        ("percent", 0.9861, "98.6_%", "98.6%"),
        ("at_least", 0.95, "95.0_%", "95.0%"),
        ("level", 0.95, "95_%", "95%"),
        ("size", 3340, "3,340_bytes", "3,340バイト"),
        ("count", 12_000_000_000, "12_G", "12_G"),
        ("milliseconds", 0.021, "0.0210_ms", "0.0210_ms"),
        ("milliseconds", 1234.5, "1,234_ms", "1,234_ms"),
        ("milliseconds", None, "not measured", "未測定"),
        ("duration", 2.94, "2.9_s", "2.9秒"),
        ("duration", 171, "2.9_min", "2.9分"),
        ("duration", 90_000, "25.0_h", "25.0時間"),
        ("quality", 0.98611, "98.61_%", "98.61%"),
        ("difference", 0.02, "2_percentage points", "2ポイント"),
    ],
)
def test_numbers_are_written_as_is_usual(method: str, value: float, english: str, japanese: str) -> None:
    for language, text in (("en", english), ("ja", japanese)):
        assert getattr(_words.load(language, "accuracy"), method)(value).replace("\u00a0", "_") == text


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1), st.booleans())
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]], lower_is_better: bool) -> None:
    sign = -1 if lower_is_better else 1
    best = {
        (x, y) for x, y in points if not any((a <= x and sign * b >= sign * y) and (a, b) != (x, y) for a, b in points)
    }
    xs, ys = _front([(float(x), float(y)) for x, y in points], lower_is_better)
    assert len(xs) == len(ys)
    assert best == set(zip(xs[::2], ys[::2], strict=True))


# what cannot be shown


@pytest.mark.parametrize("key", ["bar", "verdict", "indicators", "sparser"])
def test_a_record_without_a_part_is_refused(key: str) -> None:
    made = record()
    del made[key]
    with pytest.raises(UsageError, match=key):
        render(made)
    with pytest.raises(UsageError, match="does not hold what its format says"):
        render(record(**{key: None if key != "sparser" else [{}]}))


def test_a_language_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="en, ja"):
        render(record(), "fr")


def test_sentences_need_neither_templates_nor_pictures() -> None:
    """`edgeticket poc` says its verdict with them."""
    code = "import sys, edgeticket.report._verdict; sys.exit(bool({'jinja2', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def run(*words: object) -> Any:
    return CliRunner().invoke(main, ["report", *map(str, words)])


def test_the_command_writes_what_the_library_makes(pages: Mapping[tuple[str, str], Page], tmp_path: Path) -> None:
    made = VARIANTS["classification"]
    (tmp_path / "poc.json").write_bytes(canonical(made))
    page = tmp_path / "page.html"
    told = run(tmp_path, "-o", page, "--lang", "ja", "--format", "json")
    assert told.exit_code == 0, told.output
    assert page.read_bytes() == pages["classification", "ja"].content  # whatever the order of keys
    assert json.loads(told.output)["bytes"] == page.stat().st_size
    again = run(tmp_path / "poc.json", "-o", page)
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    assert run(tmp_path / "poc.json", "-o", page, "--overwrite").exit_code == 0
    assert page.read_bytes() == pages["classification", "en"].content


def test_the_command_refuses_what_was_altered(tmp_path: Path) -> None:
    made = record()
    made["indicators"]["success"]["lower"] = 0.99
    (tmp_path / "poc.json").write_bytes(canonical(made))
    told = run(tmp_path, "-o", tmp_path / "page.html")
    assert told.exit_code == 4
    assert "seal" in told.output
    assert not (tmp_path / "page.html").exists()
    assert run(tmp_path / "none", "-o", tmp_path / "page.html").exit_code == 2


@pytest.mark.slow
def test_a_real_record_makes_a_page(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ["poc", "-d", "digits", "-m", "conv:4,8", "--epochs", "2", "--seeds", "2", "--success", "accuracy >= 0.1"]
    told = CliRunner().invoke(main, [*words, "-o", str(tmp_path / "real")])
    assert told.exit_code == 0, told.output
    made = json.loads((tmp_path / "real" / "poc.json").read_text(encoding="utf-8"))
    for language in LANGUAGES:
        assert run(tmp_path / "real", "-o", tmp_path / f"{language}.html", "--lang", language).exit_code == 0
        page = Page((tmp_path / f"{language}.html").read_bytes())
        assert made["seal"] in page.text
        assert all(file["sha256"] in page.text for file in made["chosen"]["files"])
        assert len([svg for svg in page.of("svg") if "aria-hidden" not in svg]) == 5


def test_a_record_with_words_that_nobody_knows_is_refused_by_name() -> None:
    for change in ({"verdict": {"word": "perhaps", "reasons": [], "change": []}}, {"bar": {"headline": "luck"}}):
        made = record()
        for section, fields in change.items():
            made[section] |= fields
        with pytest.raises(UsageError, match="does not hold what its format says"):
            render(made, "en")
