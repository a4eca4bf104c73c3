"""DICOM SEG decoded by Cornerstone3D, the library with which OHIF shows it: every voxel in its place.

`make test-dicom` installs it with npm. What is on the screen of a viewer is not looked at.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pydicom
import pytest

from unet_pipeline.clinical.segmentation import BINARY, LABELMAP, is_misread_as_bits
from unet_pipeline.dataset.dicom import order_series

from . import dicom_geometries as geometries

pytestmark = pytest.mark.dicom_tools
PROGRAM = Path(__file__).parent / "cornerstone" / "node_modules" / "decode.mjs"
NUM_SERIES = 6


@pytest.mark.skipif(
    which("node") is None or not PROGRAM.is_file(), reason="Node.js and Cornerstone3D are not installed"
)
@pytest.mark.parametrize("kind", [BINARY, LABELMAP])
def test_cornerstone_decodes_the_voxels_of_the_label_map(tmp_path: Path, kind: str) -> None:
    jobs, expected = [], []
    seed = 0
    while len(jobs) < NUM_SERIES:
        geometry, folder, seed = geometries.draw_geometry(seed), tmp_path / str(seed), seed + 1
        series, labels = (
            geometries.write_geometry(folder / "a", geometry),
            geometries.draw_labels(seed, geometry.volume.shape),
        )
        ordered = order_series(series, "a")
        if ordered.frame_numbers or not labels.any():  # frames of one file have ids of their own in a viewer
            continue
        geometries.write_result(series, folder / "result.dcm", labels, kind)
        header = pydicom.dcmread(folder / "result.dcm", stop_before_pixels=True)
        if kind == BINARY and is_misread_as_bits(header.Rows, header.Columns, header.NumberOfFrames):
            continue
        slices = [str(plane.path) for plane in ordered.planes]
        jobs.append({"segmentation": str(folder / "result.dcm"), "slices": slices, "out": str(folder / "out")})
        expected.append(labels)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run = subprocess.run(["node", PROGRAM, tmp_path / "jobs.json"], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    for job, labels in zip(jobs, expected, strict=True):
        numbers = np.fromfile(job["out"], np.uint16).reshape(labels.shape[::-1]).transpose(2, 1, 0)
        values = np.array([0, *(segment.value for segment in geometries.SEGMENTS)])
        assert np.array_equal(numbers if kind == LABELMAP else values[numbers], labels)
