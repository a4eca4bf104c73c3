"""`view` as a user calls it: file, slides, two results, wrong words."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import unet_pipeline
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.metric_table import METRICS
from unet_pipeline.viewer.slides import write_slides

from .conftest import draw_picture, save_picture
from .viewer.evaluations import LABELS, SHAPE, draw_oblique, write_evaluation

INCH = 914400  # of the format of slides


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[Path, Path]:
    for seed in range(4):
        draw_oblique(tmp_path / "data", f"case_{seed}", seed)
    dataset = read_dataset(tmp_path / "data")
    return tmp_path / "data", write_evaluation(tmp_path / "out", dataset, dataset.cases, LABELS)


def test_view_writes_one_file_beside_the_folder(evaluated: tuple[Path, Path], call_main: Callable[..., Any]) -> None:
    data, out = evaluated
    status, printed, _ = call_main("view", out, "--dataset", data, "--cases", "worst:2", "--json", "v.json")
    assert status == 0
    assert "viewer   out_view.html  (" in printed
    assert (out.parent / "out_view.html").is_file()
    content = json.loads(Path("v.json").read_text())
    assert len(content["cases"]) == 2
    assert content["is_exact"]


def test_view_slides_have_table_and_three_cases(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    presentation = pytest.importorskip("pptx").Presentation
    data, out = evaluated
    result = unet_pipeline.view(out, dataset=data, slides=tmp_path / "talk.pptx")
    slides = presentation(result.slides).slides
    titles = [slide.shapes.title.text for slide in slides]
    assert titles[0] == "out: mean over 4 cases, 95 % interval"
    assert [title.partition(":")[0] for title in titles[1:]] == ["worst", "median", "best"]
    table = next(shape.table for shape in slides[0].shapes if shape.has_table)
    assert [table.cell(line, 0).text for line in range(3)] == ["label", "core", "rim"]
    summary = json.loads((out / "summary.json").read_text())["rows"]
    row = next(one for one in summary if (one["label"], one["metric"]) == ("core", "dice"))
    assert table.cell(1, 1).text == f"{row['mean']:.4f}\n{row['low']:.4f} to {row['high']:.4f}"
    rows = unet_pipeline.view(out, dataset=data).cases
    assert len(rows) == 4
    for slide in list(slides)[1:]:
        (picture,) = [shape for shape in slide.shapes if shape.shape_type == 13]
        assert picture.top + picture.height <= 7.5 * 914400
        assert picture.left >= 0
        assert picture._element.nvPicPr.cNvPr.get("descr")


def test_view_slides_show_only_label_maps_that_were_measured(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    presentation = pytest.importorskip("pptx").Presentation
    data, out = evaluated
    result = unet_pipeline.view(out, dataset=data, slides=tmp_path / "talk.pptx")
    worst, median, best = (
        slide.shapes.title.text.split(": ")[1].split(",")[0] for slide in list(presentation(result.slides).slides)[1:]
    )
    made = out / "predictions_0"
    for path in (made / f"{worst}.nii.gz", data / "labels" / f"{best}.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), nib.load(path).affine), path)
    (made / f"{median}.nii.gz").unlink()
    slides = list(presentation(unet_pipeline.view(out, dataset=data, slides=tmp_path / "talk.pptx").slides).slides)[1:]
    assert [slide.shapes.title.text.split(": ")[1].split(",")[0] for slide in slides] == [worst, median, best]
    for slide, expected in zip(
        slides,
        ("predicted label map is not the one", "is not there", "label map of the dataset is not the one"),
        strict=True,
    ):
        assert not [shape for shape in slide.shapes if shape.shape_type == 13]
        assert expected in " ".join(shape.text_frame.text for shape in slide.shapes)


def test_view_slides_of_many_labels_and_long_names_stay_inside(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing reaches over the edge, and no text is larger than its box: by PowerPoint's half an em per character."""
    presentation = pytest.importorskip("pptx").Presentation
    names = [f"left_cerebellum_white_matter_{number}" for number in range(20)]
    metrics = [name for name, metric in METRICS.items() if metric.shown]
    rows = pd.DataFrame([{"case": "a", "label": name, **dict.fromkeys(metrics, 12345.678)} for name in names])
    labels = SimpleNamespace(scored=tuple(names), table={})
    result = SimpleNamespace(name="a_long_name_of_a_bundle" * 4, rows=rows, labels=labels, predictions={}, sources={})
    of_all = [
        SimpleNamespace(label=name, metric=metric, n=9, low=12345.6, high=12345.7)
        for name in names
        for metric in metrics
    ]
    result.summary = SimpleNamespace(rows=of_all)
    result.find_unmeasured = lambda case: "it is not there"
    slides = presentation(write_slides(result, tmp_path / "talk.pptx")).slides  # type: ignore[arg-type]
    shown = set()
    for slide in slides:
        if not (tables := [shape.table for shape in slide.shapes if shape.has_table]):
            continue  # of the case
        (table,) = tables
        shown |= {(row.cells[0].text, cell.text) for row in list(table.rows)[1:] for cell in table.rows[0].cells}
        height = 0.0
        for row in table.rows:
            needed = [
                _measure_height(cell, column.width) for cell, column in zip(row.cells, table.columns, strict=True)
            ]
            height += max(row.height, *needed)
        assert 1.3 * INCH + height <= 7.5 * INCH
        assert sum(column.width for column in table.columns) <= 12.34 * INCH
        assert _measure_height(slide.shapes.title, slide.shapes.title.width) <= slide.shapes.title.height
    assert len(shown) == len(names) * (len(metrics) + 1)


def _measure_height(box: Any, width: int) -> float:
    """Of a text that is wrapped at words where it can be, with the margins of a cell."""
    height = 7.2
    for paragraph in box.text_frame.paragraphs:
        points = paragraph.font.size / 12700
        per_line = int((width / 12700 - 14.4) / (0.55 * points))
        height += 1.2 * points * len(textwrap.wrap(paragraph.text, per_line))
    return height * 12700


def test_view_of_pictures_speaks_of_areas_with_units(tmp_path: Path) -> None:
    presentation = pytest.importorskip("pptx").Presentation
    image, label = draw_picture(0)
    save_picture(tmp_path / "data" / "images" / "p0.png", image)
    save_picture(tmp_path / "data" / "labels" / "p0.png", label)
    dataset = read_dataset(tmp_path / "data")
    out = write_evaluation(tmp_path / "out", dataset, dataset.cases, {"background": 0, "disc": 255})
    result = unet_pipeline.view(out, dataset=tmp_path / "data", slides=tmp_path / "talk.pptx")
    table = next(shape.table for shape in presentation(result.slides).slides[0].shapes if shape.has_table)
    headings = [cell.text for cell in table.rows[0].cells]
    assert {"HD95, pixel", "Area error, pixel"} <= set(headings)
    assert '"relative_volume_error": "Relative area error, %"' in result.path.read_text(encoding="utf-8")


def test_view_server_ends(evaluated: tuple[Path, Path]) -> None:
    data, out = evaluated
    result = unet_pipeline.view(out, dataset=data, serve=True)
    assert result.server is not None
    assert result.server.url.startswith("http://127.0.0.1:")
    assert result.path is None
    result.server.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--out", "image.nii.gz"], "ends in .html"),
        (["--slides", "talk.pdf"], "ends in .pptx"),
        (["--cases", "worst:zero"], "expected worst:N"),
        (["--predictions", "nowhere"], "--predictions DIR"),
    ],
)
def test_view_wrong_words_are_one_message(
    evaluated: tuple[Path, Path], call_main: Callable[..., Any], options: list[str], expected: str
) -> None:
    data, out = evaluated
    status, _, error = call_main("view", out, "--dataset", data, *options)
    assert status == 1
    assert expected in error
    assert "Traceback" not in error


def test_view_out_and_serve_exclude_each_other(evaluated: tuple[Path, Path], call_main: Callable[..., Any]) -> None:
    assert call_main("view", evaluated[1], "--out", "a.html", "--serve")[0] == 2


def test_view_bundle_without_evaluation_says_what_to_run(tmp_path: Path, nifti_folders: Path) -> None:
    unet_pipeline.plan(nifti_folders, tmp_path / "bundle", "quick", folds=2)
    with pytest.raises(EvaluationError, match=r"unet-pipeline evaluate .*bundle"):
        unet_pipeline.view(tmp_path / "bundle")
