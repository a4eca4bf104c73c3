"""Files, files per channel, and folders of DICOM series as inputs of a prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipeline.dataset.image import read_image
from pipeline.errors import PredictionError
from pipeline.prediction.inputs import PredictionInput, list_inputs


def test_list_inputs_single_file_is_named_by_its_stem(tmp_path: Path, write_nifti: Callable) -> None:
    path = write_nifti(tmp_path / "head.v2.nii.gz", np.zeros((3, 3, 3), np.uint8))
    assert list_inputs(path) == [PredictionInput("head.v2", (path,))]


def test_list_inputs_files_per_channel_are_one_image(tmp_path: Path, write_nifti: Callable) -> None:
    paths = [write_nifti(tmp_path / f"a_{channel:04d}.nii.gz", np.zeros((3, 3, 3), np.int16)) for channel in range(2)]
    assert list_inputs(tmp_path, num_channels=2) == [PredictionInput("a", tuple(paths))]
    assert [item.name for item in list_inputs(tmp_path, num_channels=1)] == ["a_0000", "a_0001"]


def test_list_inputs_missing_channel_is_named(tmp_path: Path, write_nifti: Callable) -> None:
    for channel in (0, 2):
        write_nifti(tmp_path / f"a_{channel:04d}.nii.gz", np.zeros((3, 3, 3), np.int16))
    with pytest.raises(PredictionError, match=r"a_0000\.nii\.gz, a_0002\.nii\.gz; the bundle expects 3"):
        list_inputs(tmp_path, num_channels=3)


def test_list_inputs_two_formats_of_one_name_are_refused(tmp_path: Path, write_nifti: Callable) -> None:
    for suffix in (".nii", ".nii.gz"):
        write_nifti(tmp_path / f"a{suffix}", np.zeros((3, 3, 3), np.int16))
    with pytest.raises(PredictionError, match="two images named a"):
        list_inputs(tmp_path)


def test_list_inputs_file_of_no_known_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(PredictionError, match=r"notes\.txt is not in a known format"):
        list_inputs(tmp_path / "notes.txt")
    with pytest.raises(PredictionError, match="has no image"):
        list_inputs(tmp_path)
    with pytest.raises(PredictionError, match="does not exist"):
        list_inputs(tmp_path / "nowhere")


@pytest.mark.real_data
def test_list_inputs_folder_of_series_gives_each(pipeline_data: Path) -> None:
    inputs = list_inputs(pipeline_data / "dicom")
    assert [item.name for item in inputs] == ["hippocampus_crop_mr", "t1_post_mr"]
    (series,) = list_inputs(pipeline_data / "dicom" / "t1_post_mr")
    assert series.name == "t1_post_mr"
    assert series.list_files() == tuple(sorted((pipeline_data / "dicom" / "t1_post_mr").iterdir()))


def test_read_files_per_channel_become_channels(tmp_path: Path, write_nifti: Callable) -> None:
    paths = [write_nifti(tmp_path / f"a_{c:04d}.nii.gz", np.full((2, 3, 4), c, np.int16)) for c in range(3)]
    image = PredictionInput("a", tuple(paths)).read()
    assert image.array.shape == (3, 2, 3, 4)
    np.testing.assert_array_equal(image.array[:, 0, 0, 0], [0, 1, 2])


def test_write_readable_plain_file_is_taken_as_it_is(tmp_path: Path, write_nifti: Callable) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.int16))
    source = PredictionInput("a", (path,))
    assert source.write_readable(source.read(), tmp_path / "copies", ".nii.gz") == path


def test_write_readable_tiff_becomes_the_same_picture(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 255, (5, 8)).astype(np.uint8)
    PillowImage.fromarray(rows).save(tmp_path / "a.tif")
    source = PredictionInput("a", (tmp_path / "a.tif",))
    written = source.write_readable(source.read(), tmp_path / "copies", ".png")
    assert written == tmp_path / "copies" / "a.png"
    np.testing.assert_array_equal(read_image(written).array[0], rows.T)
