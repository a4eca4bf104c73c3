"""Files, files per channel, and folders of DICOM series as inputs of a prediction."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import ImageFileError, PredictionError
from unet_pipeline.prediction.inputs import PredictionInput, list_inputs

from . import dicom_phantoms as dicom


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


@pytest.mark.parametrize("names", [("A", "a"), ("\u00fc", "u\u0308"), ("Stra\u00dfe", "strasse")])
def test_list_inputs_names_that_file_systems_take_for_one_are_refused(
    tmp_path: Path, write_nifti: Callable, names: tuple[str, str]
) -> None:
    for name in names:
        write_nifti(tmp_path / "images" / f"{name}.nii.gz", np.zeros((3, 3, 3), np.int16))
    if len(list((tmp_path / "images").iterdir())) < 2:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(PredictionError, match="which many file systems take for one name") as caught:
        list_inputs(tmp_path / "images")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("kind", ["pipe", "loop", "broken link", "missing"])
def test_list_inputs_what_is_no_file_is_named_for_what_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nii.gz"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to("a.nii.gz" if kind == "loop" else "gone.nii.gz")
    expected = {
        "pipe": "is a device or a pipe",
        "loop": "is a link that leads back to itself",
        "broken link": "is a link to gone.nii.gz, which does not exist",
        "missing": "does not exist",
    }
    with pytest.raises(PredictionError, match=expected[kind]):
        list_inputs(path)


def test_list_inputs_dicom_beside_other_images_is_not_left_out(tmp_path: Path, write_nifti: Callable) -> None:
    folder = dicom.write_series(tmp_path / "visit", np.zeros((5, 4, 3), np.int16))
    write_nifti(folder / "volume.nii.gz", np.zeros((3, 3, 3), np.int16))
    found = {item.name: item.files for item in list_inputs(folder)}
    assert found == {"volume": (folder / "volume.nii.gz",), "visit": (folder,)}


def test_list_inputs_screenshot_in_a_series_is_no_image(tmp_path: Path) -> None:
    folder = dicom.write_series(tmp_path / "visit", np.zeros((5, 4, 3), np.int16))
    PillowImage.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "screen.png")
    (item,) = list_inputs(folder)
    assert (item.name, item.files) == ("visit", (folder,))
    (note,) = item.read().notes
    assert "screen.png" in note.cause


def test_list_inputs_single_dicom_file_among_pictures_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "chests").mkdir()
    series = dicom.write_series(tmp_path / "one", np.zeros((5, 4, 1), np.int16))
    next(series.iterdir()).rename(tmp_path / "chests" / "a.dcm")
    PillowImage.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "chests" / "b.png")
    assert sorted(item.name for item in list_inputs(tmp_path / "chests")) == ["a", "b"]


def test_read_untagged_pages_are_slices_where_a_volume_is_expected(tmp_path: Path) -> None:
    pages = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    (item,) = list_inputs(tmp_path / "a.tif")
    image = item.read(3)
    np.testing.assert_array_equal(image.array[0], pages.transpose(2, 1, 0))
    assert item.read_grid(3).spatial_shape == image.spatial_shape == (5, 4, 3)
    for expected, remedy in ((2, "Save each page as a picture of its own"), (None, "Save one page. If")):
        with pytest.raises(ImageFileError, match="has 3 pages") as caught:
            item.read(expected)
        assert remedy in caught.value.remedy


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


# a folder per case, and files named by their channels


def save_all(root: Path, write_nifti: Callable, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_nifti(root / path, np.zeros((3, 3, 3), np.uint8))


def test_list_inputs_folder_per_case_has_the_networks_channels(tmp_path: Path, write_nifti: Callable) -> None:
    paths = [f"B-{n}/B-{n}-{part}.nii.gz" for n in (1, 2) for part in ("t1n", "t2w", "seg")]
    save_all(tmp_path, write_nifti, *paths)
    for names in (("t2w", "t1n"), ("T1N", "T2W")):
        expected = [
            PredictionInput(f"B-{n}", tuple(tmp_path / f"B-{n}/B-{n}-{name.lower()}.nii.gz" for name in names))
            for n in (1, 2)
        ]
        assert list_inputs(tmp_path, 2, names) == expected


def test_list_inputs_folder_per_case_without_names_takes_them_in_order(tmp_path: Path, write_nifti: Callable) -> None:
    save_all(tmp_path, write_nifti, "a/t2.nii.gz", "a/t1.nii.gz")
    (item,) = list_inputs(tmp_path, 2, ("channel_0", "channel_1"))
    assert [path.name for path in item.files] == ["t1.nii.gz", "t2.nii.gz"]


def test_list_inputs_folder_per_case_with_masks_gives_the_image(tmp_path: Path, write_nifti: Callable) -> None:
    save_all(tmp_path, write_nifti, "s0/ct.nii.gz", "s0/segmentations/liver.nii.gz", "s1/ct.nii.gz")
    assert [item.files for item in list_inputs(tmp_path, 1, ("ct",))] == [
        (tmp_path / "s0/ct.nii.gz",),
        (tmp_path / "s1/ct.nii.gz",),
    ]


def test_list_inputs_folder_per_case_lacking_a_channel_is_named(tmp_path: Path, write_nifti: Callable) -> None:
    save_all(tmp_path, write_nifti, "a/t1.nii.gz", "a/adc.nii.gz", "a/dwi.nii.gz")
    with pytest.raises(
        PredictionError, match=r"Case a has the images adc.nii.gz, dwi.nii.gz, t1.nii.gz; the bundle expects 2"
    ):
        list_inputs(tmp_path, 2, ("t1", "t2"))


def test_list_inputs_files_named_by_channel_are_one_image(tmp_path: Path, write_nifti: Callable) -> None:
    save_all(tmp_path, write_nifti, "p1_T2.nii.gz", "p1_T1.nii.gz", "p2_T1.nii.gz", "p2_T2.nii.gz")
    inputs = list_inputs(tmp_path, 2, ("t1", "t2"))
    assert [(item.name, [path.name for path in item.files]) for item in inputs] == [
        ("p1", ["p1_T1.nii.gz", "p1_T2.nii.gz"]),
        ("p2", ["p2_T1.nii.gz", "p2_T2.nii.gz"]),
    ]
    (tmp_path / "p2_T2.nii.gz").unlink()
    with pytest.raises(PredictionError, match="Case p2 has the images"):
        list_inputs(tmp_path, 2, ("t1", "t2"))


def test_read_channels_in_different_folders(tmp_path: Path, write_nifti: Callable) -> None:
    save_all(tmp_path, write_nifti, "t1/a.nii.gz", "t2/a.nii.gz")
    item = PredictionInput("a", (tmp_path / "t1/a.nii.gz", tmp_path / "t2/a.nii.gz"))
    assert item.read().array.shape == (2, 3, 3, 3)
