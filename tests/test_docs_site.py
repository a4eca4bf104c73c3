"""The documentation site: it builds without a warning, reaches every page, is searched, and asks no network for anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .documented_commands import ROOT

pytest.importorskip("sphinx", reason="the extra `docs` brings Sphinx")
pytestmark = pytest.mark.slow

FETCHED = {
    "img": "src",
    "script": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}
NOT_FETCHED = {
    "canonical",
    "next",
    "prev",
    "index",
    "search",
    "author",
    "license",
}  # relations of a page, which no browser follows


class Page(HTMLParser):
    """What a page fetches, links to, and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "img" and not found.get("alt"):
            self.without_text.append(found.get("src", ""))
        if FETCHED.get(tag) in found and found.get("rel") not in NOT_FETCHED:
            self.fetched.append(found[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does, and where continuous integration says, whose tests in a browser read it too."""
    out = Path(os.environ.get("SITE_FOLDER") or tmp_path_factory.mktemp("site"))
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-a", "-W", "--keep-going", "-c", "docs", ".", str(out)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["pipeline", os.environ["PYTHONPATH"]])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_downloads" not in path.parts
    }


def read_index(site: Path) -> dict:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    return json.loads(text[text.index("(") + 1 : text.rindex(")")])


def search(site: Path, word: str) -> set[str]:
    """Pages whose text or title has a word, as the site's own search finds them by its stem."""
    index = read_index(site)
    found = set()
    for table in (index["terms"], index["titleterms"]):
        for term, numbers in table.items():
            if word.startswith(term) and len(term) > len(word) - 3:
                found |= set([numbers] if isinstance(numbers, int) else numbers)
    return {index["docnames"][number] for number in found}


def test_nothing_is_fetched_from_a_network(site: Path, pages: dict[Path, Page]) -> None:
    elsewhere = {
        path.name: [address for address in page.fetched if urlsplit(address).netloc] for path, page in pages.items()
    }
    assert not {name: found for name, found in elsewhere.items() if found}
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        addresses = re.findall(r"(?:url\(|@import\s)\s*[\"']?((?:https?:)?//[^\"')]+)", text)
        assert not addresses, path.name
    for path in site.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?:fetch|import|importScripts)\(\s*[\"'](?:https?:)?//", text), path.name


def test_links_within_the_site_hold(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known.anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not dead


def test_notebooks_show_all_their_pictures(site: Path, pages: dict[Path, Page]) -> None:
    for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        expected = sum(any(kind.startswith("image/") for kind in data) for data in outputs)
        page = (site / notebook.relative_to(ROOT)).with_suffix(".html")
        shown = [address for address in pages[page].fetched if "_images/" in address]
        assert len(shown) == expected, notebook.name
        assert all((page.parent / address).is_file() for address in shown)


def test_every_page_of_the_documentation_is_in_the_site_and_its_contents(site: Path, pages: dict[Path, Page]) -> None:
    sources = {path.relative_to(ROOT).with_suffix(".html") for path in ROOT.glob("docs/**/*.md")}
    sources |= {path.relative_to(ROOT).with_suffix(".html") for path in ROOT.glob("notebooks/*.ipynb")}
    assert {source.as_posix() for source in sources if not (site / source).is_file()} == set()
    home = site / "docs" / "index.html"
    reached, left = {home}, [home]
    while left:
        path = left.pop()
        near = {(path.parent / unquote(urlsplit(link).path)).resolve() for link in pages[path].links}
        left += [other for other in near & pages.keys() if other not in reached]
        reached |= near & pages.keys()
    assert {source.as_posix() for source in sources if site / source not in reached} == set()


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("temperature", "docs/explanation/calibration"),
        ("hausdorff", "docs/reference/glossary"),
        ("bootstrap", "docs/explanation/intervals"),
        ("dicom", "docs/tutorials/ct_from_dicom"),
        ("nuclei", "docs/tutorials/fine_tune"),
    ],
)
def test_search_finds(site: Path, word: str, page: str) -> None:
    assert page in search(site, word)


def test_search_finds_nothing_for_a_word_that_is_nowhere(site: Path) -> None:
    assert search(site, "qwertzuiop") == set()


def test_python_page_has_every_public_name(site: Path, pages: dict[Path, Page]) -> None:
    import unet_pipeline

    anchors = pages[site / "docs" / "reference" / "python.html"].anchors
    assert {f"unet_pipeline.{name}" for name in unet_pipeline.__all__} <= anchors


def test_first_address_leads_to_the_first_page(site: Path) -> None:
    assert 'url=docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")


def test_pictures_have_a_text(pages: dict[Path, Page]) -> None:
    assert {path.name: page.without_text for path, page in pages.items() if page.without_text} == {}


def test_make_serves_on_the_loopback_address_only() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    serving = re.search(r"^docs-serve:.*\n\t(.*)$", makefile, re.MULTILINE)
    assert serving
    assert "--bind 127.0.0.1" in serving[1]
