"""DICOM SEG: the label map's voxels at the same places, by independent readers; linked to its source, coded, and nothing else of it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.clinical.segmentation import BINARY, LABELMAP
from unet_pipeline.dataset.image import read_image

from . import dicom_geometries as geometries

NUMBERS = {number: segment.value for number, segment in enumerate(geometries.SEGMENTS, 1)}
needs_dcmqi = pytest.mark.skipif(geometries.find_dcmqi() is None, reason="dcmqi's segimage2itkimage is not installed")


def check_geometry(seed: int, kind: str, folder: Path, with_dcmqi: bool = False) -> None:
    """Write a random series and the SEG of a label map on it, and hold what is decoded against the label map."""
    geometry = geometries.draw_geometry(seed)
    labels = geometries.draw_labels(seed, geometry.volume.shape)
    source, final = geometries.write_geometry(folder / "a", geometry), folder / "seg.dcm"
    np.testing.assert_array_equal(read_image(source).array[0], geometry.as_read(geometry.volume))
    empty = geometries.write_result(source, final, geometry.as_read(labels), kind)
    assert empty == [segment.name for segment in geometries.SEGMENTS if segment.value not in labels]
    numbers = {value: value for value in NUMBERS.values()} if kind == LABELMAP else NUMBERS
    readers = [geometries.read_by_highdicom(final, numbers)]
    if with_dcmqi:
        readers.append(geometries.read_by_dcmqi(final, numbers, folder / "dcmqi"))
    for decoded in readers:
        np.testing.assert_array_equal(geometries.place_voxels(decoded, labels.shape, geometry.affine), labels)


@given(seed=st.integers(0, 1 << 30), kind=st.sampled_from([BINARY, LABELMAP]))
@settings(max_examples=24, deadline=None)
def test_segments_of_any_geometry_have_every_voxel_in_its_place(seed: int, kind: str) -> None:
    with TemporaryDirectory() as folder:
        check_geometry(seed, kind, Path(folder))


@needs_dcmqi
@pytest.mark.parametrize("seed", range(12))
def test_dcmqi_has_every_voxel_in_its_place(tmp_path: Path, seed: int) -> None:
    check_geometry(seed, BINARY, tmp_path, with_dcmqi=True)
