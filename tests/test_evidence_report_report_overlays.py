"""Pictures stand beside the numbers that they belong to, or are refused with the reason."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.evaluation.files import read_rows
from unet_pipeline.evidence.report.history import read_history
from unet_pipeline.evidence.report.report_overlays import CasePicture, choose_cases, draw_cases

from .evidence_bundles import PREDICTIONS, write_evaluated


@pytest.fixture(scope="module", params=[2, 3])
def evaluated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("overlays"), request.param)


@pytest.fixture
def bundle(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated.parent, tmp_path / "copy")
    return tmp_path / "copy" / evaluated.name


def draw(bundle: Path) -> tuple[list[CasePicture], list[str]]:
    history = read_history(open_bundle(bundle))
    (record,) = history.evaluations
    return draw_cases(history, record, read_rows(record.folder))


def test_choose_cases_are_worst_median_and_best() -> None:
    rows = pd.DataFrame({"case": list("abcdef"), "label": "x", "dice": [0.5, 0.1, 0.9, np.nan, 0.7, 0.3]})
    assert [(rank, case) for rank, case, _ in choose_cases(rows, ["x"])] == [
        ("worst", "b"),
        ("second worst", "f"),
        ("median", "a"),
        ("best", "c"),
    ]
    assert [rank for rank, _, _ in choose_cases(rows[:2], ["x"])] == ["worst", "best"]
    assert choose_cases(rows[3:4], ["x"]) == []


def test_draw_cases_panels_are_pictures_with_both_outlines(bundle: Path) -> None:
    pictures, notes = draw(bundle)
    assert [picture.rank for picture in pictures] == ["worst", "best"]
    assert not notes
    for picture in pictures:
        assert len(picture.panels) == (1 if "cell" in picture.case else 3)
        for panel in picture.panels:
            assert 'stroke="#56B4E9"/>' in panel.outlines
            assert 'stroke="#E69F00" stroke-dasharray="4 2"/>' in panel.outlines
            assert 'vector-effect="non-scaling-stroke"' in panel.outlines
            data = base64.b64decode(panel.errors.partition("data:image/png;base64,")[2].partition('"')[0])
            pixels = np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3)
            assert {tuple(pixel) for pixel in pixels.tolist()} & {(0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)}
            assert all(f'aria-label="{picture.case}' in svg for svg in (panel.outlines, panel.errors))


@pytest.mark.parametrize("gone", ["data", "predictions"])
def test_draw_cases_without_files_says_why(bundle: Path, gone: str) -> None:
    shutil.rmtree(
        next(bundle.parent.glob("*s")) if gone == "data" else bundle / "evidence/evaluations/validation" / PREDICTIONS
    )
    pictures, notes = draw(bundle)
    assert not pictures
    expected = "is not where the plan says" if gone == "data" else "that was evaluated is not in the bundle"
    (note,) = notes  # one cause is said once, whatever the number of cases
    assert expected in note
    assert ("(worst), " in note) == (gone == "predictions")


def test_draw_cases_other_predictions_are_not_shown(bundle: Path) -> None:
    """Label maps of another network, under the names of those that were evaluated."""
    made = bundle / "evidence/evaluations/validation" / PREDICTIONS
    for path in sorted(made.iterdir()):
        if path.suffix == ".png":
            PillowImage.fromarray(np.zeros_like(np.asarray(PillowImage.open(path)))).save(path)
        else:
            found = nib.load(path)
            nib.save(nib.Nifti1Image(np.zeros(found.shape, np.uint8), found.affine), path)
    pictures, notes = draw(bundle)
    assert not pictures
    assert len(notes) == 1  # both cases, one cause
