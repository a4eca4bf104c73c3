"""Reference and prediction of a case on one grid: rounded, padded and cropped where that is exact, and refused elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from unet_pipeline.errors import EvaluationError, ImageFileError
from unet_pipeline.evaluation.cases import evaluate_pairs
from unet_pipeline.evaluation.pairs import Pair, list_changes, read_pair, sum_up_changes
from unet_pipeline.evidence.records.evaluation_record import hash_label_map
from unet_pipeline.prediction.inputs import PredictionInput

SHAPE, SPACING_MM = (8, 9, 10), (1.0, 2.0, 3.0)
LABELS = {"background": 0, "organ": 1, "tumour": 2}
REFERENCE = np.zeros(SHAPE, np.uint8)
REFERENCE[2:6, 2:6, 2:6], REFERENCE[3:5, 3:5, 3:5] = 1, 2
PREDICTION = np.roll(REFERENCE, 1, axis=0)


def place_at(*voxels: float) -> np.ndarray:
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = np.array([-30, 20, 5]) + np.array(voxels) * SPACING_MM
    return affine


@pytest.fixture
def whole(tmp_path: Path, write_nifti: Callable[..., Path]) -> Pair:
    """A case on the grid of its image, which lies beside it."""
    image = write_nifti(tmp_path / "images" / "a.nii.gz", REFERENCE.astype(np.int16), affine=place_at(0, 0, 0))
    paths = (
        write_nifti(tmp_path / side / "a.nii.gz", array, affine=place_at(0, 0, 0))
        for side, array in (("labels", REFERENCE), ("predictions", PREDICTION))
    )
    return Pair("a", *paths, source=PredictionInput("a", (image,)))


@pytest.fixture
def crop(whole: Pair, write_nifti: Callable[..., Path]) -> Callable[[str], Pair]:
    """The case with one file or both cropped to a box of their own."""

    def write(which: str) -> Pair:
        changed = whole
        if "reference" in which:
            path = whole.reference.with_name("cropped.nii.gz")
            write_nifti(path, REFERENCE[1:7, 2:7, 2:8], affine=place_at(1, 2, 2))
            changed = replace(changed, reference=path)
        if "prediction" in which:
            path = whole.prediction.with_name("cropped.nii.gz")
            write_nifti(path, PREDICTION[2:8, 1:6, 1:7], affine=place_at(2, 1, 1))
            changed = replace(changed, prediction=path)
        return changed

    return write


@pytest.mark.parametrize("which", ["reference", "prediction", "reference and prediction"])
def test_read_pair_cropped_files_are_put_on_the_grid_of_the_image(crop: Callable[[str], Pair], which: str) -> None:
    reference, prediction = read_pair(crop(which))
    np.testing.assert_array_equal(reference.array[0], REFERENCE)
    np.testing.assert_array_equal(prediction.array[0], PREDICTION)
    assert [note.code for note in list_changes(reference, prediction)] == ["label-placed"] * (1 + which.count("and"))


@pytest.mark.parametrize("which", ["reference", "prediction", "reference and prediction"])
def test_evaluate_pairs_cropped_files_give_the_same_numbers(
    whole: Pair, crop: Callable[[str], Pair], which: str
) -> None:
    notes: list = []
    expected, found = (evaluate_pairs([pair], LABELS, notes=notes) for pair in (whole, crop(which)))
    assert found.equals(expected)
    assert expected["dice"].iloc[1] < 1
    (sentence,) = sum_up_changes(notes)
    assert "padded to the image's grid, nothing was interpolated." in sentence


def test_read_pair_without_an_image_the_larger_grid_counts(crop: Callable[[str], Pair]) -> None:
    for which in ("reference", "prediction"):
        reference, prediction = read_pair(replace(crop(which), source=None))
        np.testing.assert_array_equal(reference.array[0], REFERENCE)
        np.testing.assert_array_equal(prediction.array[0], PREDICTION)


def test_read_pair_values_beside_whole_numbers_are_rounded_on_both_sides(whole: Pair, write_nifti) -> None:
    for path, array in ((whole.reference, REFERENCE), (whole.prediction, PREDICTION)):
        write_nifti(path, (array * 0.99).astype(np.float32), affine=place_at(0, 0, 0))
    reference, prediction = read_pair(whole)
    np.testing.assert_array_equal(reference.array[0], REFERENCE)
    np.testing.assert_array_equal(prediction.array[0], PREDICTION)
    (sentence,) = sum_up_changes(list_changes(reference, prediction))
    assert sentence.startswith("a.nii.gz has values up to 0.02 beside whole numbers")
    assert sentence.endswith("The same kind of change was made to 1 more.")


def test_read_pair_slicers_nrrd_beside_a_nifti_image_is_padded(whole: Pair) -> None:
    box = SimpleITK.ReadImage(str(whole.prediction))[2:8, 1:6, 1:7]
    path = whole.prediction.with_name("a.nrrd")
    SimpleITK.WriteImage(box, str(path))
    _, prediction = read_pair(replace(whole, prediction=path))
    np.testing.assert_array_equal(prediction.array[0], PREDICTION)


def test_read_pair_header_rounded_as_check_takes_it_is_the_same_grid(whole: Pair, write_nifti) -> None:
    write_nifti(whole.prediction, PREDICTION, affine=place_at(0.01, 0, 0))
    _, prediction = read_pair(whole)
    np.testing.assert_array_equal(prediction.array[0], PREDICTION)


@pytest.mark.parametrize(
    ("box", "where", "words"),
    [
        ((slice(2, 8), slice(1, 6)), (2.5, 1, 0), r"lie between them: its first voxel is \(2\.5, 1, 0\)"),
        (
            (slice(None), slice(None)),
            (1, 0, 0),
            r"lies up to 1 mm beside its reference a\.nii\.gz \(origin shifted by \(1, 0, 0\) mm\)",
        ),
        ((slice(0, 3), slice(0, 3)), (40, 0, 0), "its image"),
    ],
    ids=["between voxels", "same shape elsewhere", "far away"],
)
def test_read_pair_other_places_are_refused(whole: Pair, write_nifti, box: tuple, where: tuple, words: str) -> None:
    write_nifti(whole.prediction, PREDICTION[box], affine=place_at(*where))
    with pytest.raises(EvaluationError, match=words):
        read_pair(whole)


def write_pages(path: Path, array: np.ndarray, **tags: object) -> Path:
    tifffile.imwrite(path, np.ascontiguousarray(array.transpose(2, 1, 0)), photometric="minisblack", **tags)
    return path


def test_read_pair_untagged_pages_are_slices_to_a_network_of_volumes(tmp_path: Path) -> None:
    paths = [
        write_pages(tmp_path / f"{n}.tif", array, metadata=None) for n, array in enumerate((REFERENCE, PREDICTION))
    ]
    for label_map, array in zip(read_pair(Pair("a", *paths, spatial_dims=3)), (REFERENCE, PREDICTION), strict=True):
        np.testing.assert_array_equal(label_map.array[0], array)


@pytest.mark.parametrize(
    ("spatial_dims", "remedy"), [(2, "Save each page as a picture of its own."), (None, "Save one page. ")]
)
def test_read_pair_untagged_pages_to_another_network_name_no_option(
    tmp_path: Path, spatial_dims: int | None, remedy: str
) -> None:
    path = write_pages(tmp_path / "a.tif", REFERENCE, metadata=None)
    with pytest.raises(ImageFileError, match=r"a\.tif has 10 pages; expected one") as caught:
        read_pair(Pair("a", path, path, spatial_dims=spatial_dims))
    assert caught.value.remedy.startswith(remedy)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("spatial_dims", [2, 3, None])
def test_read_pair_time_series_names_no_option(tmp_path: Path, spatial_dims: int | None) -> None:
    path = write_pages(tmp_path / "a.tif", REFERENCE, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(ImageFileError, match="is a time series of 10 frames by its ImageJ tags") as caught:
        read_pair(Pair("a", path, path, spatial_dims=spatial_dims))
    assert "Save one frame per case. If the pages are slices" in caught.value.remedy
    assert "--" not in str(caught.value)


def test_read_pair_a_prediction_may_scatter_known_labels(tmp_path: Path) -> None:
    scattered = np.random.default_rng(0).integers(0, 7, (64, 64)).astype(np.uint8)
    for name, array in (("reference", np.zeros_like(scattered)), ("prediction", scattered)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    pair = Pair("a", tmp_path / "reference.png", tmp_path / "prediction.png")
    np.testing.assert_array_equal(read_pair(pair, known_values=range(7))[1].array[0], scattered.T)
    with pytest.raises(ImageFileError, match="in-between values"):
        read_pair(pair, known_values=(0, 6))  # three and more that are no labels
    with pytest.raises(ImageFileError, match="in-between values"):
        read_pair(replace(pair, reference=pair.prediction), known_values=range(7))
    assert hash_label_map(pair.prediction)  # as are the record, the pictures and the viewer of what was evaluated


def test_evaluate_pairs_measures_scattered_labels_and_refuses_traces_of_smoothing(tmp_path: Path) -> None:
    scattered = np.random.default_rng(0).integers(0, 7, (64, 64)).astype(np.uint8)
    stripes = np.repeat(np.arange(8, dtype=np.uint8) % 7, 8)[:, None] * np.ones((1, 64), np.uint8)
    pair = Pair("a", tmp_path / "reference.png", tmp_path / "prediction.png")
    Image.fromarray(stripes).save(pair.reference)
    Image.fromarray(scattered).save(pair.prediction)
    rows = evaluate_pairs([pair], {f"label_{value}": value for value in range(7)})
    assert rows["num_voxels_prediction"].sum() == scattered.size
    with pytest.raises(ImageFileError, match="in-between values"):
        evaluate_pairs([pair], {"background": 0, "label_6": 6})
