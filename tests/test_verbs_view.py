"""`view` as a user calls it: file, slides, two results, wrong words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unet_pipeline
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import EvaluationError

from .conftest import draw_picture, save_picture
from .viewer.evaluations import LABELS, draw_oblique, write_evaluation


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
    assert titles[0] == "out: mean over 4 cases"
    assert [title.partition(":")[0] for title in titles[1:]] == ["worst", "median", "best"]
    table = next(shape.table for shape in slides[0].shapes if shape.has_table)
    assert [table.cell(line, 0).text for line in range(3)] == ["label", "core", "rim"]
    rows = unet_pipeline.view(out, dataset=data).cases
    assert len(rows) == 4
    for slide in list(slides)[1:]:
        (picture,) = [shape for shape in slide.shapes if shape.shape_type == 13]
        assert picture.top + picture.height <= 7.5 * 914400
        assert picture.left >= 0
        assert picture._element.nvPicPr.cNvPr.get("descr")


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
