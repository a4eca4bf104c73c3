"""Overlays: the window of the source, outlines in their colours on the border of each structure, and the source images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from unet_pipeline.clinical.overlay import build_overlay

from . import dicom_geometries as geometries
from . import dicom_phantoms as phantoms

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Two slices of 300 x 260 pixels; the first is 0, the second 100."""
    volume = np.zeros((300, 260, 2), np.int16)
    volume[..., 1] = 100
    geometry = geometries.Geometry(volume, phantoms.AXIAL, (0, 0, 2.0), (10, -20, 30), (0.5, 0.75), False, (1, 0), 0)
    return geometries.write_geometry(tmp_path / "series", geometry)


def build(path: Path, labels: np.ndarray) -> tuple[pydicom.Dataset, list[str], bool]:
    source, result = geometries.open_result(path, labels)
    image = geometries.read_image(path).array[0]
    return build_overlay(source, image, result, geometries.ALGORITHM, geometries.SEGMENTS)


def draw_labels() -> np.ndarray:
    labels = np.zeros((300, 260, 2), np.uint8)
    labels[100:120, 50:60, 0] = 1
    labels[200:203, 100:103, 1] = 2
    return labels


def test_outlines_are_the_border_and_grey_values_those_of_the_window(series: Path) -> None:
    for path in series.iterdir():
        phantoms.edit(path, WindowCenter=["50", "3"], WindowWidth=["201", "4"])
    overlay, empty, has_window = build(series, draw_labels())
    first, second = overlay.pixel_array
    assert has_window
    assert empty == ["liver tumour", "unheard of"]
    assert first.shape == (260, 300, 3)
    border = (first == ORANGE).all(-1)[45:65, 95:125]
    assert border.sum() == 20 * 10 - 18 * 8
    assert border[5, 5]
    assert not border[6, 6]
    # LINEAR (PS3.3, C.11.2.1.2): from 49.5 - 100 to 49.5 + 100
    assert (first[200, 200] == round(50.5 / 200 * 255)).all()
    assert (second[200, 10] == round(150.5 / 200 * 255)).all()
    assert (second == BLUE).all(-1)[100:103, 200:203].sum() == 8
    assert (first[-24:, :150] == 255).all(-1).any()  # the words


def test_overlay_refers_to_its_images_and_says_what_it_is(series: Path) -> None:
    overlay, _, has_window = build(series, draw_labels())
    assert not has_window
    levels = {path: pydicom.dcmread(path) for path in series.iterdir()}
    in_order = sorted(levels.values(), key=lambda header: header.ImagePositionPatient[2])
    assert [item.ReferencedSOPInstanceUID for item in overlay.SourceImageSequence] == [
        header.SOPInstanceUID for header in in_order
    ]
    assert (overlay.NumberOfFrames, overlay.BurnedInAnnotation, overlay.ConversionType) == (2, "NO", "WSD")
    assert overlay.PixelAspectRatio == [15000, 10000]
    assert overlay.SeriesDescription == "abdomen: research use only"
    assert str(overlay.PatientName) == phantoms.SECRETS[0]
    assert overlay.SeriesInstanceUID != in_order[0].SeriesInstanceUID


def test_overlay_of_pixels_that_name_the_patient_or_lost_something_says_so(series: Path) -> None:
    plain, _, _ = build(series, draw_labels())
    assert (plain.BurnedInAnnotation, "LossyImageCompression" in plain) == ("NO", False)
    paths = sorted(series.iterdir())
    phantoms.edit(paths[-1], BurnedInAnnotation="YES")
    for path in paths:
        lost = {"LossyImageCompressionRatio": "12.5", "LossyImageCompressionMethod": "ISO_15444_1"}
        phantoms.edit(path, LossyImageCompression="01", **lost)
    overlay, _, _ = build(series, draw_labels())
    assert (overlay.BurnedInAnnotation, overlay.LossyImageCompression) == ("YES", "01")
    assert (overlay.LossyImageCompressionRatio, overlay.LossyImageCompressionMethod) == (12.5, "ISO_15444_1")


def test_small_images_are_enlarged_for_words(tmp_path: Path) -> None:
    geometry = geometries.draw_geometry(2)
    source = geometries.write_geometry(tmp_path / "a", geometry)
    overlay, _, _ = build(source, np.ones(geometry.volume.shape, np.uint8))
    columns, rows, _ = geometry.volume.shape
    times = -(-256 // min(rows, columns))
    assert (overlay.Rows, overlay.Columns) == (rows * times, columns * times)


def test_radiograph_has_an_overlay_of_one_frame(tmp_path: Path) -> None:
    header = phantoms.build_header(np.arange(12, dtype=np.uint16).reshape(4, 3), None)
    header.Modality = "DX"
    source = phantoms.save(header, tmp_path / "chest.dcm")
    overlay, _, _ = build(source, np.full((3, 4), 7, np.uint8))
    assert (overlay.NumberOfFrames, overlay.Rows, overlay.Columns) == (1, 4 * 86, 3 * 86)
