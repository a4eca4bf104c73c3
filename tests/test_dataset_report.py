"""What `check --json` writes has the documented form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.report import build_manifest, describe_report, write_report

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "check.schema.json").read_text(encoding="utf-8"))


def test_describe_report_usable_dataset_has_its_numbers(nifti_folders: Path) -> None:
    content = describe_report(check_dataset(read_dataset(nifti_folders))).model_dump(mode="json")
    jsonschema.validate(content, SCHEMA)
    assert (content["usable"], content["num_cases"], content["median_shape"]) == (True, 4, [12, 16, 10])
    assert content["spacing_mm"]["case_01"] == pytest.approx([0.8, 1.0, 1.5])


def test_describe_report_unusable_dataset_has_its_problems(nifti_folders: Path) -> None:
    (nifti_folders / "labels" / "case_02.nii.gz").unlink()
    content = describe_report(check_dataset(read_dataset(nifti_folders))).model_dump(mode="json")
    jsonschema.validate(content, SCHEMA)
    assert not content["usable"]
    (problem,) = content["problems"]
    assert (problem["code"], problem["file"]) == ("no-label", "images/case_02.nii.gz")


def test_describe_report_spacing_of_pictures_is_the_tables(png_folders: Path) -> None:
    dataset = read_dataset(png_folders)
    cases = tuple(replace(case, spacing_mm=(0.25,)) for case in dataset.cases)
    content = describe_report(check_dataset(replace(dataset, cases=cases)))
    assert content.spacing_mm == {f"case_0{number}": [0.25, 0.25] for number in range(1, 5)}


def test_write_report_with_tiles_draws_the_sheet_worst_first(png_folders: Path, tmp_path: Path) -> None:
    (png_folders / "labels" / "case_03.png").write_bytes(b"no picture")
    report = check_dataset(read_dataset(png_folders), with_tiles=True)
    assert [tile.title for tile in report.tiles] == ["case_03", "case_01", "case_02", "case_04"]
    assert report.tiles[0].marks
    written = write_report(report, tmp_path / "report")
    assert [path.name for path in written] == ["problems.json", "contact_sheet.png"]
    with PillowImage.open(written[1]) as sheet:
        assert sheet.width > 600


def test_build_manifest_names_the_files_of_every_case(png_folders: Path) -> None:
    manifest = build_manifest(check_dataset(read_dataset(png_folders)))
    assert manifest["cases"]["case_02"] == {"image": ["images/case_02.png"], "label": "labels/case_02.png"}
    assert manifest["prepared"] == []
    assert manifest["reading"]["copy_header"] is False
