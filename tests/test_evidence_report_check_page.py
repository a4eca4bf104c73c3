"""check.html: every message leads to its picture, nothing overflows, is missing or hard to read, and its size is bounded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.evidence.report.check_page import build_check_page
from unet_pipeline.evidence.report.environment import read_part

from .conftest import build_png_folders, draw_picture, save_picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA

# what a reader would run into, told by the page itself
PROBE = """<script>
addEventListener("load", () => {
  const wide = document.documentElement.clientWidth;
  const outside = [...document.querySelectorAll("body *")].filter((part) => !part.closest("pre, svg, .drawing, dialog"))
    .filter((part) => part.getBoundingClientRect().right > wide + 1).map((part) => part.outerHTML.slice(0, 80));
  const told = { wide, scroll: document.documentElement.scrollWidth, outside,
    missing: [...document.images].filter((image) => !image.naturalWidth).length, images: document.images.length,
    silent: [...document.images].filter((image) => !image.alt).length };
  const visible = () => tiles.filter((tile) => !tile.hidden).map((tile) => tile.querySelector("h3").textContent);
  const choose = (name, value) => {
    form.elements[name].value = value; applyFilters();
    const names = visible();
    form.reset(); chooseBin(null); applyFilters();
    return names;
  };
  told.errors = choose("severity", "error"); told.none = choose("severity", "none"); told.kind = choose("kinds", "constant");
  told.without = choose("labels", "-0"); told.named = choose("name", "CASE_06");
  document.querySelector(".bin").dispatchEvent(new Event("click")); told.bin = visible().length;
  form.elements.severity.value = "none"; applyFilters();
  const link = document.querySelector('.messages a'); link.click(); reveal();
  told.revealed = !document.querySelector(link.hash).hidden;
  show(tiles.find((tile) => tile.querySelector(".drawing"))); const small = stage.firstElementChild.clientWidth; ACTIONS.in(); ACTIONS.in();
  told.zoom = stage.firstElementChild.clientWidth / small; const before = shown; ACTIONS.next(); told.moved = shown !== before;
  document.documentElement.dataset.told = JSON.stringify(told);
});
</script>"""


class Page(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> CheckReport:
    """Four cases with an error each of another kind, one with a warning, one without any message."""
    folder = build_png_folders(tmp_path_factory.mktemp("pages") / "<cells> & more")
    for number in (5, 6):
        image, label = draw_picture(number)
        save_picture(folder / "images" / f"case_0{number}.png", image)
        save_picture(folder / "labels" / f"case_0{number}.png", label)
    (folder / "labels" / "case_01.png").unlink()
    (folder / "images" / "case_02.png").write_bytes(b"no picture")
    (folder / "labels" / "case_03.png").write_bytes(b"no picture")
    save_picture(folder / "images" / "case_04.png", np.full_like(image, 9))
    save_picture(folder / "labels" / "case_05.png", np.zeros_like(label))
    return check_dataset(read_dataset(folder), with_tiles=True)


@pytest.fixture(scope="module")
def html(report: CheckReport) -> str:
    return build_check_page(report)


def test_page_needs_no_network(html: str) -> None:
    page = Page(html)
    addresses = [one[key] for _, one in page.tags for key in ("src", "href") if one.get(key)]
    assert all(str(address).startswith(("data:image/", "#")) for address in addresses)
    assert "default-src 'none'" in html
    assert not page.of("link")


def test_page_of_pictures_speaks_of_no_slice(html: str) -> None:
    assert "A picture is enlarged when it is chosen." in html
    assert "patient's right" not in html


def test_page_escapes_names(html: str) -> None:
    assert "<cells>" not in html
    assert "&lt;cells&gt; &amp; more: check" in html


def test_page_every_message_of_a_case_leads_to_it(report: CheckReport, html: str) -> None:
    page = Page(html)
    ids = {one["id"] for _, one in page.tags if one.get("id")}
    links = [str(one["href"]) for one in page.of("a") if str(one["href"]).startswith("#case-")]
    concerned = [problem for problem in report.problems if any(tile.is_about(problem) for tile in report.tiles)]
    assert len(links) == len(concerned) >= 5
    assert {link[1:] for link in links} <= ids
    for problem in report.problems:
        assert problem.file in html


def test_page_message_below_a_picture_names_its_file(report: CheckReport, html: str) -> None:
    told = re.sub(r"<[^>]+>", "", html)
    (constant,) = [problem for problem in report.problems if problem.code == "constant"]
    assert f"error {constant.file} {constant.cause}. " in told


def test_page_every_picture_has_its_text(html: str) -> None:
    images = Page(html).of("img")
    assert images
    assert all(one["alt"] for one in images)
    assert any(str(one["alt"]).startswith("case_06") for one in images)


def test_page_asks_for_names(html: str) -> None:
    told = re.sub(r"<[^>]+>", "", html)
    assert "unet-pipeline check DATASET --label background=0 --label NAME=255\n" in told


def test_page_marks_what_is_missing(html: str) -> None:
    for mark in ("no mask", "image cannot be read", "mask cannot be read", "mask is empty"):
        assert f"<span>{mark}</span>" in html


def test_page_pictures_are_bounded_and_what_is_left_out_is_said(report: CheckReport, html: str) -> None:
    small = build_check_page(report, max_picture_bytes=8000)
    embedded = sum(len(str(one["src"])) for one in Page(small).of("img"))
    assert embedded <= 8000 < sum(len(str(one["src"])) for one in Page(html).of("img"))
    assert "left out" in small
    assert small.count('class="tile ') == html.count('class="tile ')
    assert "left out, so that" not in html


def list_colours(scheme: str) -> dict[str, str]:
    """The variables of both style sheets, light ones overridden by dark ones."""
    values: dict[str, str] = {}
    for name in ("report.css", "check.css"):
        style = str(read_part(name)).partition("@media print")[0]
        light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
        values |= dict(re.findall(r"--(\w+): (#\w{6})", light))
        if scheme == "dark":
            values |= dict(re.findall(r"--(\w+): (#\w{6})", dark.partition("}")[0]))
    return values


def compute_contrast(first: str, second: str) -> float:
    """Contrast ratio of WCAG of two colours as #rrggbb; 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "soft", "link", "error", "warning", "note"])
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_style_texts_are_readable(scheme: str, text: str, ground: str) -> None:
    colours = list_colours(scheme)
    assert compute_contrast(colours[text], colours[ground]) >= LEAST_CONTRAST


def test_style_schemes_differ() -> None:
    assert list_colours("light")["error"] != list_colours("dark")["error"]
    assert compute_contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.fixture(scope="module", params=[(1280, 1), (400, 0)], ids=["1280 light", "400 dark"])
def told(request: pytest.FixtureRequest, html: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the page says about itself in a headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    (width, scheme), folder = request.param, tmp_path_factory.mktemp("chromium")
    page = folder / "check.html"
    page.write_text(html.replace('loading="lazy"', "").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    options = [
        f"--window-size={width},900",
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--user-data-dir={folder}",
    ]
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", *options]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    found = re.search(r'data-told="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def test_chromium_nothing_overflows_or_is_missing(told: dict) -> None:
    assert told["outside"] == []
    assert told["scroll"] <= told["wide"]
    assert (told["missing"], told["silent"]) == (0, 0)
    assert told["images"] >= 3


def test_chromium_filters_jumps_and_zoom(told: dict) -> None:
    assert sorted(told["errors"]) == ["case_02", "case_03", "case_04", "images/case_01.png"]
    assert (told["none"], told["kind"], told["named"]) == (["case_06"], ["case_04"], ["case_06"])
    assert "case_05" in told["without"]
    assert "case_06" not in told["without"]
    assert 1 <= told["bin"] <= 6
    assert told["revealed"]
    assert told["zoom"] == pytest.approx(2.25, rel=0.02)
    assert told["moved"]
