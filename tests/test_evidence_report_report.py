"""The report: its numbers are those of the summary, it needs nothing from outside, and a missing part is said."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.report.environment import mark_code
from unet_pipeline.evidence.report.report import Report, link_case, show_value
from unet_pipeline.quality.claim import measure_claim, write_claim

from . import phantom_bundles as phantoms
from .evidence_bundles import RUN, write_evaluated
from .quality_cases import simulate_cases

MOST_BYTES = 15_000_000
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """What the tests ask of a page: numbers with their keys, links, ids, pictures, and tags that are left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: dict[str, tuple[float, str]] = {}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self._key = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        self.loads += [str(found[name]) for name in ("src", "srcset", "data", "poster", "xlink:href") if name in found]
        if tag == "image":
            self.loads.append(str(found["href"]))
        if tag == "link":
            self.loads.append(str(found.get("href")))
        if tag == "img" or found.get("role") == "img":
            self.pictures.append(found)
        if tag == "data":
            self._key = str(found["data-key"])
            self.numbers[self._key] = (float(str(found["value"])), "")

    def handle_data(self, data: str) -> None:
        if self._key:
            self.numbers[self._key] = (self.numbers[self._key][0], data)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag
        if tag == "data":
            self._key = ""


@pytest.fixture(scope="module", params=[2, 3])
def evaluated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("report"), request.param)


@pytest.fixture(scope="module")
def page(evaluated: Path) -> Page:
    return Page(unet_pipeline.report(evaluated).path.read_text(encoding="utf-8"))


@pytest.fixture
def bundle(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated.parent, tmp_path / "copy")
    return tmp_path / "copy" / evaluated.name


def test_report_numbers_are_those_of_the_summary(page: Page, evaluated: Path) -> None:
    summary = json.loads((evaluated / "evidence/evaluations/validation/summary.json").read_text())
    expected = {}
    for row in summary["rows"]:
        for name in (
            "n",
            "mean",
            "low",
            "median",
            "sd",
            "num_undefined",
        ):
            if row.get(name) is not None and (row[name] or name != "num_undefined"):
                expected[f"{row['label']}|{row['metric']}|{name}"] = row[name]
        if row["metric"] == "dice":
            for name in ("n", "num_missed", "num_false_alarms", "num_patients"):
                expected[f"{row['label']}|{name}"] = row[name]
    for number, failure in enumerate(summary["failures"]):
        if failure["values"]["dice"] is not None:
            expected[f"failures|{number}|dice"] = failure["values"]["dice"]
    expected |= {f"fold_0-001 {name}": RUN[name] for name in ("duration_s", "peak_memory_gib")}
    assert {key: value for key, (value, _) in page.numbers.items()} == expected
    assert len(expected) > 20


def test_report_shown_numbers_are_rounded_ones(page: Page) -> None:
    scales = {"duration_s": 1 / 60}
    for key, (value, text) in page.numbers.items():
        shown = text.split(" to ")[0].replace(",", "")  # an interval's value is its lower end
        digits = len(shown.partition(".")[2])
        scale = next((factor for name, factor in scales.items() if key.endswith(name)), 1)
        assert shown == f"{value * scale:.{digits}f}", key


def test_report_is_well_formed_and_loads_nothing(page: Page, evaluated: Path) -> None:
    text = (evaluated / "evidence/report.html").read_text(encoding="utf-8")
    assert page.open == []
    assert page.loads
    assert all(load.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for load in page.loads)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "video", "audio"}
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch"}
    assert len(text.encode()) < MOST_BYTES


def test_report_links_lead_somewhere(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    inner = [link for link in page.links if link.startswith("#")]
    assert inner
    assert all(link[1:] in page.ids for link in inner)


def test_report_every_case_leads_to_its_place_in_the_viewer(page: Page, evaluated: Path) -> None:
    shown = unet_pipeline.view(evaluated)
    links = [link.partition("#case=") for link in page.links if not link.startswith("#")]
    assert links
    assert {(evaluated / "evidence" / address).resolve() for address, _, _ in links} == {
        Path(str(shown.path)).resolve()
    }
    summary = json.loads((evaluated / "evidence/evaluations/validation/summary.json").read_text())
    named = {unquote(name) for _, _, name in links}
    assert {failure["case"] for failure in summary["failures"]} <= named <= set(shown.cases)


def test_link_case_names_are_quoted_and_every_evaluation_has_its_page(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path / "a b#c")
    for name in ("validation", "dataset_x"):
        (folder.evaluations / name).mkdir(parents=True)
        (folder.evaluations / name / "metrics.csv").touch()
    report = folder.evidence / "report.html"
    link = link_case(folder, report, folder.evaluations / "validation", "ü/1 2")
    assert link == "../../a%20b%23c_view.html#case=%C3%BC%2F1%202"
    other = link_case(folder, tmp_path / "r.html", folder.evaluations / "dataset_x", "k")
    assert other == "a%20b%23c_dataset_x_view.html#case=k"


def test_report_pictures_and_answer_come_before_the_rest(page: Page, evaluated: Path) -> None:
    text = (evaluated / "evidence/report.html").read_text(encoding="utf-8")
    places = [text.index(part) for part in ('class="headline"', 'class="cases"', "<nav", 'id="data"', 'id="plan"')]
    assert places == sorted(places)
    assert "<details open" not in text
    assert text.count("<details><summary>Every number and its reason") == 1


def test_report_pictures_have_areas_and_volumes_stay_volumes(page: Page, evaluated: Path) -> None:
    text = (evaluated / "evidence/report.html").read_text(encoding="utf-8")
    assert ("Area error" in text, "Agreement of areas" in text) == (
        (True, True) if "cell" in evaluated.name else (False, False)
    )
    assert ("Volume error" in text) == ("organ" in evaluated.name)


def test_report_data_elsewhere_are_named_by_the_caller(bundle: Path) -> None:
    data = next(bundle.parent.glob("*s"))
    moved = data.rename(bundle.parent / "moved")
    assert "the plan says" in " ".join(unet_pipeline.report(bundle).missing)
    named = unet_pipeline.report(bundle, dataset=moved)
    assert not [note for note in named.missing if "icture" in note]
    assert 'class="cases"' in named.path.read_text(encoding="utf-8")


def test_report_other_dataset_is_found_where_evaluate_recorded_it(bundle: Path) -> None:
    data = next(bundle.parent.glob("*s"))
    other = shutil.copytree(data, bundle.parent / "other")
    made = next((bundle / "evidence/evaluations/validation").glob("predictions*"))
    kept = {path.name.split(".")[0] for path in made.iterdir()}
    for path in [path for path in other.rglob("*") if path.is_file() and path.name.split(".")[0] not in kept]:
        path.unlink()
    target = bundle / "evidence/evaluations/dataset_other"
    evaluated = unet_pipeline.evaluate(bundle, other, predictions=made, out=target)
    assert evaluated.record.dataset.place == "../other"
    assert str(bundle.parent) not in (target / "summary.json").read_text(encoding="utf-8")
    shutil.copytree(made, target / made.name)
    result = unet_pipeline.report(bundle)
    assert result.path.read_text(encoding="utf-8").count('class="cases"') == 2
    assert f"../../{bundle.name}_dataset_other_view.html#case=" in result.path.read_text(encoding="utf-8")
    assert unet_pipeline.view(target).path == bundle.with_name(f"{bundle.name}_dataset_other_view.html")


def test_report_and_card_cite_the_data_as_their_licence_file_does(bundle: Path) -> None:
    reference = "Doe J (2020). Nuclei: a title. doi:10.1/2"
    (bundle / "docs/data_license.txt").write_text(
        f"Data set: cells\nLicence: CC BY-SA 4.0\nCite:\n- {reference}\n- B\n"
    )
    html = unet_pipeline.report(bundle).path.read_text(encoding="utf-8")
    card = (bundle / "docs/README.md").read_text(encoding="utf-8")
    for text in (html, card):
        assert f"licence: CC BY-SA 4.0; cite: {reference}; B." in text
        assert "doe j (2020)" not in text


def test_report_card_shows_pictures_only_where_asked_and_with_credit(bundle: Path) -> None:
    unet_pipeline.report(bundle)
    assert "cases.svg" not in (bundle / "docs/README.md").read_text(encoding="utf-8")
    (bundle / "docs/data_license.txt").write_text("Data set: cells\nLicence: CC BY 4.0\nCite:\n- Doe J (2020)\n")
    unet_pipeline.report(bundle, card_pictures=True)
    card, sheet = ((bundle / "docs" / name).read_text(encoding="utf-8") for name in ("README.md", "cases.svg"))
    assert "](cases.svg)" in card
    for text in (card, sheet, (bundle / "evidence/report.html").read_text(encoding="utf-8")):
        assert "Licence: CC BY 4.0" in text
        assert "Doe J (2020)" in text
    assert ElementTree.fromstring(sheet).tag.endswith("svg")


def test_report_and_card_say_how_well_expected_dice_was_kept(bundle: Path) -> None:
    evaluation = bundle / "evidence/evaluations/validation"
    rows = measure_claim({"organ": simulate_cases(60, 1), "few": simulate_cases(5, 1)})
    write_claim(evaluation, rows, True)
    html = unet_pipeline.report(bundle).path.read_text(encoding="utf-8")
    numbers = {key: value for key, (value, _) in Page(html).numbers.items() if key.startswith("claim|")}
    (row,) = rows
    assert numbers == {
        f"claim|organ|{name}": pytest.approx(getattr(row, name))
        for name in (
            "coverage",
            "mean_width",
            "mean_absolute_error",
            "aurc",
            "aurc_entropy",
            "aurc_random",
            "aurc_best",
            "auroc",
        )
    }
    assert html.count("Risk and coverage of organ") == 2  # its title, and its text for those who do not see it
    card = (bundle / "docs/README.md").read_text(encoding="utf-8")
    line = next(
        line for line in card.splitlines() if line.startswith(f"| organ | {row.n} | {100 * row.coverage:.1f} % (")
    )
    assert f"| {row.mean_width:.4f} | {row.mean_absolute_error:.4f} | {row.aurc:.4f} | {row.aurc_entropy:.4f} |" in line
    assert f"{row.auroc:.2f} ({row.auroc_low:.2f} to {row.auroc_high:.2f}) |" in line
    assert "90 % intervals, each case by the others" in card
    (evaluation / "metrics.csv").write_bytes((evaluation / "metrics.csv").read_bytes() + b"\n")
    html = unet_pipeline.report(bundle).path.read_text(encoding="utf-8")
    assert "quality.json is not of these numbers" in html
    assert "Risk and coverage" not in html


def test_report_every_picture_has_a_text(page: Page) -> None:
    assert len(page.pictures) >= 8
    assert all(picture.get("alt") or picture.get("aria-label") for picture in page.pictures)


def test_report_writes_the_documents_too(evaluated: Path, page: Page) -> None:
    assert {path.name for path in (evaluated / "docs").glob("*.md")} == {"README.md", "CLAIM_2024.md", "TRIPOD_AI.md"}


def test_report_twice_is_the_same_and_leaves_a_sealed_bundle_as_it_is(bundle: Path) -> None:
    first = unet_pipeline.report(bundle).path.read_bytes()
    (bundle / "evidence/manifest.sha256").write_text("")
    (bundle / "docs/README.md").unlink()
    again = unet_pipeline.report(bundle)
    assert again.path.read_bytes() == first
    assert again.documents == ()
    assert not (bundle / "docs/README.md").exists()


def test_report_out_of_the_bundle_leaves_none_in_it(bundle: Path, tmp_path: Path) -> None:
    (bundle / "evidence/report.html").unlink(missing_ok=True)
    assert unet_pipeline.report(bundle, tmp_path / "elsewhere.html").path == tmp_path / "elsewhere.html"
    assert not (bundle / "evidence/report.html").exists()


GONE = {
    "evidence/evaluations": "has not been evaluated",
    "evidence/runs": "no run record",
    "evidence/dataset_manifest.json": "dataset manifest",
    "evidence/fingerprint.json": "fingerprint",
    "evidence/splits": "record of the split",
    "evidence/evaluations/validation/metrics.csv": "No charts and pictures",
    "models/model.pt": "no weights",
    "docs/data_license.txt": "",
    "data": "is not where the plan says",
}


@pytest.mark.parametrize("gone", GONE)
def test_report_missing_part_is_said(bundle: Path, gone: str) -> None:
    path = next(bundle.parent.glob("*s")) if gone == "data" else bundle / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    result: Report = unet_pipeline.report(bundle)
    said = " ".join(result.missing)
    assert GONE[gone] in said
    assert Page(result.path.read_text(encoding="utf-8")).open == []


def test_report_of_a_plan_only_is_one(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells", num_cases=5)
    bundle = phantoms.plan_small(dataset, tmp_path / "bundle", {"background": 0, "cell": 255})
    result = unet_pipeline.report(bundle)
    assert "has not been evaluated" in " ".join(result.missing)
    assert Page(result.path.read_text(encoding="utf-8")).numbers == {}


def test_report_names_with_markup_are_text(bundle: Path) -> None:
    path = bundle / "evidence/evaluations/validation/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"title": "<script>alert(1)</script>"}))
    page = Page(unet_pipeline.report(bundle).path.read_text(encoding="utf-8"))
    assert "script" not in page.tags


def test_show_value_separates_thousands() -> None:
    assert [show_value("volume_error", value) for value in (-1234567.8912, -999.5, 1000.0)] == [
        "-1,234,568",
        "-999.5",
        "1,000",
    ]
    assert show_value("volume_error", 4.9841) == "4.984"
    assert show_value("dice", None) == "undefined"


def test_mark_code_escapes_and_marks() -> None:
    assert mark_code("run `a < b` now") == "run <code>a &lt; b</code> now"
    assert mark_code("one ` only") == "one ` only"
