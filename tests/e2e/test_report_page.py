"""A browser drives the page of a report: slider, zoom, sorting, colours, a phone, paper, and the keyboard alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from reports import run, write_versions

pytest.importorskip("jinja2", reason='to render pages, install: pip install "edgedenoise[report]"')
playwright = pytest.importorskip("playwright.sync_api", reason="to drive a browser, install: pip install playwright")

from browsers import chromium_or_skip

from edgedenoise.evaluation.report.crops import choose_crops
from edgedenoise.evaluation.report.layer_chart import Bar, PlanChart
from edgedenoise.evaluation.report.page import render
from edgedenoise.evaluation.results import ResultFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = chromium_or_skip()

PLAN = PlanChart("onnx-int8", "0.1 dB", "u8s7", 16, (Bar("head", "3%", "50.1", "-", "integers", 100.0),))
BLACK, WHITE = "rgb(18, 22, 27)", "rgb(255, 255, 255)"


@dataclass
class Opened:
    """A page in a browser, and what it must not do."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)

    def columns(self, canvas: int = 0) -> list[int]:
        """Return the sums of the columns of a pane: what is shown, in short."""
        return self.value(f"""(() => {{
            const canvas = document.querySelectorAll('.crop:not([hidden]) canvas')[{canvas}];
            const copy = new OffscreenCanvas(canvas.width, canvas.height)
                .getContext('2d', {{willReadFrequently: true}});
            copy.drawImage(canvas, 0, 0);
            const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
            const sums = new Array(canvas.width).fill(0);
            data.forEach((value, at) => {{ if (at % 4 < 3) sums[Math.floor(at / 4) % canvas.width] += value; }});
            return sums;
        }})()""")


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    crops = choose_crops([write_versions(folder)])
    page = folder / "report.html"
    runs = [run(label="desk"), run(label="a board with a long name")]
    page.write_text(render(runs, crops, [PLAN], file_name="mine"), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, report_file: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The page in a browser; every test also checks that it was silent and asked the network for nothing."""
    options = {"viewport": {"width": 1180, "height": 900}, **getattr(request, "param", {})}
    context = browser.new_context(**options)
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.messages.append(message.text))
    found.page.on("pageerror", lambda error: found.messages.append(str(error)))
    found.page.on("request", lambda asked: found.requests.append(asked.url))
    found.page.goto(report_file.as_uri())
    found.page.wait_for_function("document.querySelector('[data-difference]').textContent.includes('largest')")
    yield found
    assert found.messages == []
    assert [url for url in found.requests if not url.startswith(("data:", "blob:"))] == [report_file.as_uri()]
    context.close()


def test_the_slider_shows_before_float_and_int8_side_by_side(opened: Opened) -> None:
    divider = opened.page.locator('[role="slider"]').first
    before = opened.columns()
    divider.focus()
    opened.page.keyboard.press("PageUp")  # 10 % to the right
    wider = opened.columns()
    third = len(before) // 3
    changed = [column for column, (a, b) in enumerate(zip(before, wider, strict=True)) if a != b]
    assert third <= min(changed) <= third + 5, "the input is shown farther, and nothing else changes"
    assert third + 30 <= max(changed) <= third + 42
    assert divider.get_attribute("aria-valuenow") == "43"
    box = divider.bounding_box()
    opened.page.mouse.move(box["x"] + 13, box["y"] + 50)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] - 200, box["y"] + 60, steps=4)
    opened.page.mouse.up()
    assert int(divider.get_attribute("aria-valuenow")) < 20
    opened.page.keyboard.press("End")
    values = [
        each.get_attribute("aria-valuenow") for each in opened.page.locator('.crop:visible [role="slider"]').all()
    ]
    assert values == ["100", "100"], "a divider takes the other one along"


def test_all_panes_zoom_and_move_together(opened: Opened) -> None:
    whole = opened.columns(), opened.columns(1)
    opened.page.locator('.crop:not([hidden]) [data-zoom="4"]').click()
    zoomed = opened.columns(), opened.columns(1)
    assert all(a != b for a, b in zip(whole, zoomed, strict=True))
    assert zoomed[0][200] == zoomed[0][201] or zoomed[0][201] == zoomed[0][202], "a pixel is a square of four"
    opened.page.locator(".crop:not([hidden]) .stage").first.focus()
    opened.page.keyboard.press("ArrowRight")
    assert all(a != b for a, b in zip(zoomed, (opened.columns(), opened.columns(1)), strict=True))
    opened.page.keyboard.press("-")
    opened.page.keyboard.press("-")
    assert opened.columns(1) == whole[1]
    pressed = opened.page.locator('.crop:not([hidden]) [data-zoom][aria-pressed="true"]')
    assert pressed.all_inner_texts() == ["1:1"]


def test_the_difference_map_and_its_numbers_follow_the_choice(opened: Opened) -> None:
    caption = opened.page.locator(".crop:not([hidden]) [data-difference]")
    assert "openvino-int8 minus openvino-fp32, times 8" in caption.inner_text()
    assert "largest 2 of 255" in caption.inner_text()
    weak = opened.columns(1)
    opened.page.locator(".crop:not([hidden]) [data-gain]").select_option("32")
    assert max(opened.columns(1)) > max(weak)
    opened.page.locator(".crop:not([hidden]) [data-version]").nth(1).select_option(label="openvino-fp32")
    assert "largest 0 of 255" in caption.inner_text()
    assert len(set(opened.columns(1))) == 1, "equal images give one gray"


def test_crops_are_tabs_for_the_keyboard(opened: Opened) -> None:
    tabs = opened.page.locator('[role="tab"]')
    assert tabs.count() == 3
    tabs.first.focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.locator(".crop:visible").count() == 1
    assert opened.page.evaluate("document.activeElement.id") == "tab-2"
    assert tabs.nth(1).get_attribute("aria-selected") == "true"
    opened.page.locator(".crop:not([hidden]) [data-strip]").click()
    alts = [image.get_attribute("alt") for image in opened.page.locator(".crop:not([hidden]) .strip img").all()]
    assert len(alts) == 4
    assert all("waves & more.png" in alt for alt in alts)


def test_the_table_sorts_and_filters(opened: Opened) -> None:
    def shown(column: int) -> list[str]:
        return [
            row.locator("td, th").nth(column).inner_text() for row in opened.page.locator("#images tr:visible").all()
        ][1:]

    header = opened.page.locator("#images thead th", has_text="PSNR dB").first
    header.locator("button").click()
    values = [float(text) for text in shown(3)]
    assert values == sorted(values)
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").click()
    assert [float(text) for text in shown(3)] == sorted(values, reverse=True)
    opened.page.locator("#variant").select_option("openvino-int8")
    opened.page.locator("#search").fill("F.PNG")
    assert shown(1) == ["f.png", "f.png"]
    assert opened.page.locator("#count").inner_text() == "2 of 48 results"
    opened.page.locator("#search").fill("")
    opened.page.locator("#worse").check()
    assert shown(1) == ["f.png", "f.png"]


def test_results_can_be_downloaded(opened: Opened) -> None:
    for label, name in (("Download JSON", "mine.json"), ("Download Markdown", "mine.md")):
        with opened.page.expect_download() as waiting:
            opened.page.get_by_role("button", name=label).click()
        assert waiting.value.suggested_filename == name
        content = waiting.value.path().read_bytes()
        if name == "mine.json":
            assert len(msgspec.json.decode(content, type=ResultFile).runs) == 2
        else:
            assert b"Ship openvino-int8" in content


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True)
def test_colours_follow_the_system_and_the_button(opened: Opened, request: pytest.FixtureRequest) -> None:
    dark = request.node.callspec.params["opened"]["color_scheme"] == "dark"
    colour = "getComputedStyle(document.body).backgroundColor"
    assert opened.value(colour) == (BLACK if dark else WHITE)
    opened.page.locator("#theme").click()
    assert opened.value(colour) == (WHITE if dark else BLACK)
    assert opened.page.locator("#theme").inner_text() == ("Dark colours" if dark else "Light colours")


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True)
def test_all_texts_have_the_contrast_of_wcag_aa(opened: Opened) -> None:
    """Every text has at least 4.5:1 to the background behind it."""
    weak = opened.value("""(() => {
        const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
        const behind = (element) => {
            for (let at = element; at; at = at.parentElement) {
                const colour = parse(getComputedStyle(at).backgroundColor);
                if (colour.length === 3 || colour[3] > 0.5) return colour;
            }
            return [255, 255, 255];
        };
        const own = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        const seen = [...document.querySelectorAll('body *')].filter((one) => own(one) && one.checkVisibility());
        return seen.map((one) => {
            const style = getComputedStyle(one);
            const front = parse(one instanceof SVGElement ? style.fill : style.color);
            const pair = [light(front), light(behind(one))].sort((a, b) => b - a);
            return [one.textContent.slice(0, 40), (pair[0] + 0.05) / (pair[1] + 0.05)];
        }).filter(([, ratio]) => ratio < 4.5);
    })()""")
    assert weak == []


@pytest.mark.parametrize("opened", [{"viewport": {"width": 390, "height": 844}, "has_touch": True}], indirect=True)
def test_a_phone_shows_the_page_without_scrolling_sideways(opened: Opened) -> None:
    assert opened.value("document.documentElement.scrollWidth") == 390
    assert opened.value("document.querySelector('.crop canvas').width") == 358, "1:1 shows a part of the crop"
    sizes = opened.value("[...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().height)")
    assert min(size for size in sizes if size) >= 10


def test_paper_shows_all_crops_and_no_controls(opened: Opened) -> None:
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.value("getComputedStyle(document.body).backgroundColor") == WHITE
    assert opened.page.locator(".strip img:visible").count() == 12
    boxes = [image.bounding_box() for image in opened.page.locator(".strip img").all()]
    assert all(box["width"] == pytest.approx(box["height"], abs=1) for box in boxes), "the crops are squares"
    assert opened.page.locator("button:visible").count() == opened.page.locator("#images thead button").count()
    assert opened.page.pdf().startswith(b"%PDF")


def test_everything_is_reached_and_named_for_the_keyboard_and_screen_readers(opened: Opened) -> None:
    nameless = opened.value("""(() => {
        const named = (one) => one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.alt ||
            one.closest('label') || one.textContent.trim() || one.getAttribute('aria-hidden') === 'true';
        const all = document.querySelectorAll('button, select, input, [tabindex], img, svg, canvas');
        return [...all].filter((one) => one.checkVisibility() && !named(one)).map((one) => one.outerHTML.slice(0, 80));
    })()""")
    assert nameless == []
    assert opened.value("document.querySelectorAll('h1').length") == 1
    broken = opened.value("""[...document.querySelectorAll('[aria-labelledby], [aria-controls]')].flatMap((one) =>
        ['aria-labelledby', 'aria-controls'].map((name) => one.getAttribute(name)).filter(Boolean)
    ).filter((id) => !document.getElementById(id))""")
    assert broken == []
