"""SEG -> masks: every kind, byte order and compression, frames at their places in any geometry."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from unet_pipeline.dataset.dicom_seg import list_segments, read_segments
from unet_pipeline.dataset.image import read_grid
from unet_pipeline.dataset.medical_image import ImageGrid
from unet_pipeline.errors import ImageFileError

from . import dicom_geometries as geometries
from . import dicom_label_phantoms as phantoms

AFFINE = np.array([[-0.8, 0, 0, 10], [0, -0.7, 0, 5], [0, 0, 3, -4], [0, 0, 0, 1.0]])
SHAPE = 13, 11, 6  # frames of 143 bits, which do not begin with a byte


def _draw_masks() -> dict[str, np.ndarray]:
    labels = np.random.default_rng(0).integers(0, 3, SHAPE)
    labels[:, :, [0, 3]] = 0
    return {"liver": labels == 1, "tumour": labels == 2}


def _grid(shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> ImageGrid:
    return ImageGrid(1, shape, affine, tuple(np.linalg.norm(affine[:3, :3], axis=0)), 2)


def _read(path: Path, number: int, grid: ImageGrid | None = None) -> tuple[np.ndarray, list[str]]:
    image = read_segments(path, path.name, "liver", (number,), grid or _grid())
    return image.array[0].astype(bool), [note.code for note in image.notes]


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("BINARY", ExplicitVRLittleEndian),
        ("BINARY", ExplicitVRBigEndian),
        ("LABELMAP", ExplicitVRLittleEndian),
        ("LABELMAP", ExplicitVRBigEndian),
        ("LABELMAP", RLELossless),
        ("FRACTIONAL", RLELossless),
    ],
)
def test_read_segments_of_every_kind_are_the_masks(tmp_path: Path, kind: str, syntax: str) -> None:
    headers = phantoms.write_image_series(tmp_path / "s", np.zeros(SHAPE), AFFINE, "P")
    masks = _draw_masks()
    drawn = {name: mask * 0.9 for name, mask in masks.items()} if kind == "FRACTIONAL" else masks
    path = phantoms.write_seg(tmp_path / "seg.dcm", headers, drawn, kind, syntax)
    assert list_segments(dcmread(path)) == {1: "liver", 2: "tumour"}
    for number, mask in enumerate(masks.values(), 1):
        array, codes = _read(path, number)
        assert np.array_equal(array, mask)
        assert codes == (["seg-fractional"] if kind == "FRACTIONAL" else [])


def test_read_segments_fractions_of_one_half_and_more_are_taken_and_said(tmp_path: Path) -> None:
    headers = phantoms.write_image_series(tmp_path / "s", np.zeros((4, 3, 2)), AFFINE, "P")
    fractions = np.zeros((4, 3, 2))
    fractions[0, :, 0] = 0.3, 0.6, 1.0
    path = phantoms.write_seg(tmp_path / "seg.dcm", headers, {"liver": fractions}, "FRACTIONAL")
    image = read_segments(path, "seg.dcm", "liver", (1,), _grid((4, 3, 2)))
    assert np.argwhere(image.array[0]).tolist() == [[0, 1, 0], [0, 2, 0]]
    (note,) = image.notes
    assert note.severity == "warning"
    assert "PROBABILITY" in note.cause
    assert "2 of 3 above 0" in note.cause


def test_read_segments_frames_lie_at_their_places_whatever_the_image_covers(tmp_path: Path) -> None:
    headers = phantoms.write_image_series(tmp_path / "s", np.zeros(SHAPE), AFFINE, "P")
    mask = _draw_masks()["liver"]
    path = phantoms.write_seg(tmp_path / "seg.dcm", headers, {"liver": mask})
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ (2, 1, 1)
    array, codes = _read(path, 1, _grid((11, 10, 7), moved))
    assert np.array_equal(array[..., :5], mask[2:, 1:, 1:])
    assert not array[..., 5:].any()
    assert codes == ["seg-outside"]
    permuted = AFFINE[:, [2, 0, 1, 3]]
    array, codes = _read(path, 1, _grid((6, 13, 11), permuted))
    assert np.array_equal(array, mask.transpose(2, 0, 1))
    assert codes == []


def test_read_segments_of_another_grid_keep_their_own(tmp_path: Path) -> None:
    headers = phantoms.write_image_series(tmp_path / "s", np.zeros(SHAPE), AFFINE, "P")
    mask = _draw_masks()["liver"]
    path = phantoms.write_seg(tmp_path / "seg.dcm", headers, {"liver": mask})
    image = read_segments(path, "seg.dcm", "liver", (1,), _grid((9, 8, 6), AFFINE @ np.diag([1.5, 1.5, 1, 1])))
    assert np.array_equal(image.array[0], mask[:, :, 1:])  # the first slice is empty
    assert np.allclose(image.affine[:3, 3], (AFFINE @ (0, 0, 1, 1))[:3])
    assert np.allclose(image.spacing_mm, (0.8, 0.7, 3.0))


def test_read_segments_says_what_a_frame_lacks(tmp_path: Path) -> None:
    headers = phantoms.write_image_series(tmp_path / "s", np.zeros(SHAPE), AFFINE, "P")
    path = phantoms.write_seg(tmp_path / "seg.dcm", headers, _draw_masks())
    header = dcmread(path)
    del header.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    header.save_as(path)
    with pytest.raises(ImageFileError, match="PlanePositionSequence") as error:
        _read(path, 1)
    assert error.value.code == "seg-without-place"
    path = phantoms.write_seg(tmp_path / "other.dcm", headers, _draw_masks())
    header = dcmread(path)
    del header.PixelData
    header.save_as(path)
    with pytest.raises(ImageFileError, match="no pixels"):
        _read(path, 1)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_read_segments_in_any_geometry_lie_on_the_series(seed: int) -> None:
    geometry = geometries.draw_geometry(seed)
    labels = geometry.as_read(geometries.draw_labels(seed, geometry.volume.shape))
    with tempfile.TemporaryDirectory() as folder:
        path = geometries.write_geometry(Path(folder) / "series", geometry)
        final = Path(folder) / "seg.dcm"
        geometries.write_result(path, final, labels)
        grid = read_grid(path)
        for number, segment in enumerate(geometries.SEGMENTS, 1):
            image = read_segments(final, "seg.dcm", segment.name, (number,), grid)
            assert np.array_equal(image.array[0], labels == segment.value)
            assert image.notes == ()
