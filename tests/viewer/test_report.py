"""The report in Chromium: it fits wide and narrow windows, its texts can be read, its figures grow, and it prints on few pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import unet_pipeline
from tests.evidence_bundles import write_evaluated

from .chromium import Browser

pytestmark = pytest.mark.browser
MOST_PAGES = 6
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA

# contrast of every text with the background behind it, as WCAG computes it
CONTRASTS = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const known = new Map();
  const behind = (node) => {
    if (!node) return parse(getComputedStyle(document.body).backgroundColor);
    if (!known.has(node)) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      known.set(node, colour.length === 3 || colour[3] > 0 ? colour : behind(node.parentElement));
    }
    return known.get(node);
  };
  const under = (text) => { // the last filled shape of a drawing that lies under the middle of its text
    const box = text.getBoundingClientRect(), x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    const shapes = [...text.closest("svg").querySelectorAll("rect, ellipse, circle, path, polygon")].filter((shape) => {
      const style = getComputedStyle(shape), one = shape.getBoundingClientRect();
      return shape.compareDocumentPosition(text) & 4 && style.fill.startsWith("rgb") && style.fillOpacity * style.opacity > 0.9
        && one.left <= x && x <= one.right && one.top <= y && y <= one.bottom;
    });
    return shapes.length ? parse(getComputedStyle(shapes.at(-1)).fill) : behind(text);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.getClientRects().length || node.closest("title")) continue;
    const style = getComputedStyle(node);
    const drawn = node.closest("svg");
    const [a, b] = [parse(drawn ? style.fill : style.color), drawn ? under(node) : behind(node)].map(light);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), walker.currentNode.textContent.trim().slice(0, 40)]);
  }
  return found;
})()"""

# axis titles and ticks whose boxes meet
COLLISIONS = """[...document.querySelectorAll("svg.chart")].flatMap((svg) => {
  const boxes = (choice) => [...svg.querySelectorAll(choice)].map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes("text.name").flatMap(([name, one]) => boxes("text:not(.name)")
    .filter(([, other]) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom)
    .map(([tick]) => `${name} meets ${tick}`));
})"""


@pytest.fixture(scope="module", params=[2, 3])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = write_evaluated(tmp_path_factory.mktemp("report"), request.param)
    unet_pipeline.view(bundle)
    return unet_pipeline.report(bundle).path


@pytest.fixture(autouse=True)
def _quiet_page(browser: Browser, page: Path) -> Iterator[None]:
    browser.errors.clear()
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.load(f"file://{page}")
    yield
    assert browser.errors == []
    assert browser.requests == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_report_fits_the_window_and_can_be_read(browser: Browser, width: int, dark: bool) -> None:
    browser.resize(width, 900, dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 100
    assert [text for contrast, text in contrasts if contrast < LEAST_CONTRAST] == []
    assert browser.run(COLLISIONS) == []


def test_report_first_screen_has_the_answer_and_pictures(browser: Browser) -> None:
    bottom = "document.querySelector({!r}).getBoundingClientRect().bottom"
    assert browser.run(bottom.format(".headline")) < 450
    assert browser.run(bottom.format(".cases .pair")) <= 900


def test_report_every_picture_is_there_and_has_a_text(browser: Browser) -> None:
    script = "Promise.all([...document.querySelectorAll('image')].map(async (one) => { const i = new Image(); i.src = one.href.baseVal;"
    sizes = browser.run(f"{script} await i.decode(); return i.naturalWidth; }}))")
    assert len(sizes) >= 4
    assert min(sizes) > 0
    texts = browser.run("[...document.querySelectorAll('svg')].map((one) => one.getAttribute('aria-label') || '')")
    assert min(map(len, texts)) > 10


def test_report_every_figure_grows_by_a_click_and_by_the_keyboard(browser: Browser) -> None:
    figures = browser.run(
        "[document.querySelectorAll('svg').length, document.querySelectorAll('.zoom > summary > svg').length]"
    )
    assert figures[0] == figures[1]
    width = "document.querySelector('.zoom svg').getBoundingClientRect().width"
    before = browser.run(width)
    browser.run("document.querySelector('.zoom summary').click()")
    assert browser.run(width) > 3 * before
    assert browser.run("getComputedStyle(document.querySelector('.zoom path')).vectorEffect") == "non-scaling-stroke"
    browser.run("document.querySelector('.zoom summary').click()")
    assert browser.run(width) == before
    browser.run("document.querySelector('.zoom summary').focus()")
    browser.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13)
    assert browser.run(width) > 3 * before


def test_report_case_opens_in_the_viewer(browser: Browser) -> None:
    name = browser.run("document.querySelector('.rank a').textContent")
    browser.run("document.querySelector('.rank a').click()")
    browser.wait("document.querySelector('#case') && document.querySelector('#numbers tr')")
    assert browser.run("document.querySelector('#case').textContent") == name
    assert browser.run("location.hash") == f"#case={quote(name)}"


def test_report_prints_on_few_pages(browser: Browser) -> None:
    printed = base64.b64decode(browser.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= MOST_PAGES
