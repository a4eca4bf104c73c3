"""Pages as a reader sees them, and what is wrong with one in a window of some size."""

from __future__ import annotations

import base64
from pathlib import Path

from .chromium import Browser

LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA
# width, dark, medium; 680 px are an A4 page between margins of 15 mm
SIZES = (*((width, dark, "") for width in (1280, 400) for dark in (False, True)), (680, False, "print"))

# what sticks out of the window and cannot be scrolled to within its own box
_OVERFLOW = """(() => {
  const width = document.documentElement.clientWidth;
  return document.documentElement.scrollWidth <= width ? [] : [...document.body.querySelectorAll("*")]
    .filter((node) => node.getBoundingClientRect().right > width + 1 && !node.closest("pre, .scroll, .table-wrapper, svg svg"))
    .slice(0, 3).map((node) => `${node.tagName} ${node.className} ${(node.textContent || "").trim().slice(0, 40)}`).concat(["the page"]);
})()"""
_PICTURES = """Promise.all([...document.images].map(async (one) => {
  one.loading = "eager";
  const loaded = await one.decode().then(() => true, () => one.naturalWidth > 0);
  return (loaded ? [] : ["does not load: " + one.src.slice(0, 90)])
    .concat(one.hasAttribute("alt") ? [] : ["no alternative text: " + one.src.slice(0, 90)]);
})).then((lists) => lists.flat().concat([...document.querySelectorAll("svg[role=img]:not([aria-label]):not([aria-labelledby])")]
  .filter((one) => !one.querySelector("title")).map(() => "svg without a text")))"""

# words and numbers of tables that go on in the next line; names of files and options may break
_BROKEN_WORDS = """[...document.querySelectorAll("table :is(td, th)")].flatMap((cell) => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest("code, a, pre")) continue;
    for (const match of node.data.matchAll(/(?<!\\S)[^\\s/_.{}-]{2,14}(?!\\S)/g)) {
      const range = new Range();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const tops = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (tops.size > 1) broken.push(match[0]);
    }
  }
  return broken;
})"""


def find_faults(browser: Browser, contrasts: str) -> list[str]:
    """What is wrong with the page that is shown: overflow, missing pictures and texts, broken words in tables, weak contrast.

    Args:
        contrasts: script that gives pairs of contrast and text.
    """
    faults = [f"sticks out: {one}" for one in browser.run(_OVERFLOW)]
    faults += browser.run(_PICTURES)
    faults += [f"breaks within: {word}" for word in list(dict.fromkeys(browser.run(_BROKEN_WORDS)))[:8]]
    weak = [f"contrast {value:.1f}: {text}" for value, text in browser.run(contrasts) if value < LEAST_CONTRAST]
    return faults + list(dict.fromkeys(weak))[:8]


def print_page(browser: Browser) -> bytes:
    """The page as PDF."""
    return base64.b64decode(browser.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])


def sample_site(site: Path) -> list[Path]:
    """A page of each kind of the documentation site: all of docs' own folders, and the first of others that come in tens."""
    own = sorted((site / "docs").glob("*.html")) + [
        page
        for folder in ("tutorials", "howto", "explanation", "reference")
        for page in sorted((site / "docs" / folder).glob("*.html"))
    ]
    firsts = [
        next(iter(sorted(site.glob(pattern))), None)
        for pattern in (
            "docs/decisions/*.html",
            "docs/experiments/*.html",
            "benchmarks/results/*.html",
            "bundles/*/docs/README.html",
        )
    ]
    others = [site / name for name in ("README.html", "CHANGELOG.html", "search.html", "genindex.html")]
    return [
        *own,
        *(page for page in (*firsts, *others, *sorted(site.glob("notebooks/*.html"))) if page and page.is_file()),
    ]
