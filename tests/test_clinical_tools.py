"""DICOM results against validators that are no Python package of ours: dciodvfy of Debian's dicom3tools, and dicom-validator.

`make test-dicom` installs them. dciodvfy is older than LABELMAP. dicom-validator fetches the tables of the standard from its web site.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.clinical.segmentation import BINARY, FRACTIONAL, LABELMAP, build_segmentation
from unet_pipeline.clinical.volume_report import build_report

from . import dicom_geometries as geometries

pytestmark = pytest.mark.dicom_tools


def write_result(seed: int, kind: str, folder: Path) -> Path:
    """An object of a random series."""
    geometry = geometries.draw_geometry(seed)
    shape = geometry.volume.shape
    values = geometries.draw_labels(seed, shape)
    if kind == FRACTIONAL:
        values = np.random.default_rng(seed).random((5, *shape), np.float32)
    source, final = geometries.write_geometry(folder / "a", geometry), folder / "result.dcm"
    geometries.write_result(source, final, values, kind)
    return final


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of Debian's dicom3tools is not installed")
@pytest.mark.parametrize("kind", [BINARY, FRACTIONAL, "RTSTRUCT", "overlay", "SR"])
@pytest.mark.parametrize("seed", range(12))
def test_dciodvfy_reports_no_error(tmp_path: Path, seed: int, kind: str) -> None:
    assert geometries.list_violations(write_result(seed, kind, tmp_path)) == []


@pytest.mark.parametrize("kind", [BINARY, FRACTIONAL, LABELMAP, "RTSTRUCT", "overlay", "SR"])
def test_dicom_validator_reports_no_error(tmp_path: Path, kind: str) -> None:
    program = shutil.which("validate_iods", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("dicom-validator is not installed")
    command = [program, write_result(0, kind, tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = run.stdout + run.stderr
    if "Failed to get DICOM editions" in said or "aborting" in said:
        pytest.skip("dicom-validator cannot fetch the tables of the standard")
    assert run.returncode == 0, said[-2000:]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of Debian's dicom3tools is not installed")
def test_dciodvfy_reports_no_error_in_a_report_that_refers_to_a_segmentation(tmp_path: Path) -> None:
    geometry = geometries.draw_geometry(3)
    labels = geometries.draw_labels(3, geometry.volume.shape)
    series = geometries.write_geometry(tmp_path / "a", geometry)
    source, result = geometries.open_result(series, labels)
    arguments = source, result, geometries.ALGORITHM, geometries.SEGMENTS
    segmentation, _ = build_segmentation(*arguments, BINARY)
    report, _ = build_report(*arguments, segmentation)
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    assert geometries.list_violations(tmp_path / "report.dcm") == []
