"""Every kind of page in Chromium, wide and narrow, light and dark, and printed: the site, reports and cards, check.html, views of results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

import unet_pipeline
from tests.evidence_bundles import write_evaluated
from tests.phantom_bundles import write_pictures

from .chromium import Browser
from .pages import SIZES, find_faults, sample_site
from .test_report import CONTRASTS

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
REPORTS = sorted(ROOT.glob("bundles/*/evidence/report.html"))
NUM_SHARES = 4  # of the site's pages, which several processes look at side by side


@pytest.fixture(scope="module")
def own_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """check.html of pictures with errors, and what `check`, `report` and an evaluated bundle show of themselves."""
    root = tmp_path_factory.mktemp("pages")
    write_pictures(root / "cells", 6)
    (root / "cells" / "labels" / "cell_03.png").write_bytes(b"no picture")
    checked = unet_pipeline.check(root / "cells", root / "out")
    checked.save_as_html(root / "check_view.html")
    bundle = write_evaluated(root, 3)
    unet_pipeline.report(bundle).save_as_html(root / "report_view.html")
    unet_pipeline.describe(bundle).save_as_html(root / "describe_view.html")
    return {
        "check": root / "out" / "check.html",
        **{f"{name} view": root / f"{name}_view.html" for name in ("check", "report", "describe")},
    }


@pytest.fixture(scope="module")
def site() -> Path:
    """The documentation site, built where `make docs` builds it; where continuous integration says, test_docs_site.py has built it."""
    out = Path(os.environ.get("SITE_FOLDER") or ROOT / "build" / "site")
    if "SITE_FOLDER" in os.environ and (out / "index.html").is_file():
        return out
    pytest.importorskip("myst_nb", reason="the documentation's extra is not installed")
    out.parent.mkdir(exist_ok=True)
    with FileLock(f"{out}.lock"):  # another process wants it too
        subprocess.run([sys.executable, "-m", "sphinx", "-q", "-c", "docs", ".", str(out)], check=True, cwd=ROOT)
    return out


def list_faults(browser: Browser, page: Path) -> Iterator[str]:
    """Of one page in every size, and laid out for paper."""
    browser.load(page.as_uri())
    for width, dark, medium in SIZES:
        browser.resize(width, 900, dark, medium)
        where = f"{page.name}, {medium or 'screen'}, {width} px{', dark' * dark}"
        yield from (f"{where}: {fault}" for fault in find_faults(browser, CONTRASTS))
    browser.resize(1280)


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.parents[1].name)
def test_report_of_a_ready_bundle_can_be_read_everywhere(browser: Browser, report: Path) -> None:
    assert list(list_faults(browser, report)) == []


@pytest.mark.parametrize("name", ["check", "check view", "report view", "describe view"])
def test_own_page_can_be_read_everywhere(browser: Browser, own_pages: dict[str, Path], name: str) -> None:
    assert list(list_faults(browser, own_pages[name])) == []


def test_table_of_a_view_breaks_no_word(browser: Browser, own_pages: dict[str, Path]) -> None:
    browser.resize(400)
    browser.load(own_pages["check view"].as_uri())
    script = "const range = new Range(); range.selectNodeContents(one); return range.getClientRects().length;"
    lines = browser.run(f"[...document.querySelectorAll('th')].map((one) => {{ {script} }})")
    assert lines[:2] == [1, 1]  # "kind" and "file"


@pytest.mark.parametrize("share", range(NUM_SHARES))
def test_site_can_be_read_everywhere(browser: Browser, site: Path, share: int) -> None:
    pages = sample_site(site)
    assert len(pages) > 30
    assert [fault for page in pages[share::NUM_SHARES] for fault in list_faults(browser, page)] == []


def test_faults_are_found(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<body style='background:#fff'><p style='color:#aaa'>weak</p><img src='gone.png'><div style='width:5000px'>wide</div>"
        "<table style='width:60px;table-layout:fixed;overflow-wrap:anywhere'><tr><td>1,401,481</td></tr></table></body>"
    )
    browser.resize(400)
    browser.load(page.as_uri())
    faults = " ".join(find_faults(browser, CONTRASTS))
    assert all(
        words in faults
        for words in (
            "sticks out: DIV",
            "does not load",
            "no alternative text",
            "breaks within: 1,401,481",
            "contrast 2.3: weak",
        )
    )
