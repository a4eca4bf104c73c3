"""Where a label map lies with respect to its image."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.dataset import geometry
from unet_pipeline.dataset.geometry import compare_grids, put_on_grid, resample_label, with_grid_of
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import ImageFileError

SHAPE, SPACING = (6, 8, 5), (0.8, 1.0, 2.5)


def build(shape: tuple[int, ...] = SHAPE, affine: np.ndarray | None = None, seed: int = 0) -> MedicalImage:
    array = np.random.default_rng(seed).integers(0, 4, (1, *shape)).astype(np.uint8)
    if affine is None:
        affine = np.diag([*SPACING, 1.0])
        affine[:3, 3] = (-40, 20, 7)
    return MedicalImage(array, affine, tuple(np.linalg.norm(affine[:3, :3], axis=0)[: len(shape)]))


def turned(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return rotation @ build().affine


def reorient(image: MedicalImage, codes: str) -> MedicalImage:
    """The same voxels at the same places, stored in another order."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    array = nib.orientations.apply_orientation(image.array[0], turn)
    affine = image.affine @ nib.orientations.inv_ornt_aff(turn, image.spatial_shape)
    return MedicalImage(array[None], affine, tuple(np.linalg.norm(affine[:3, :3], axis=0)))


CODES = ["".join(code) for order in itertools.permutations(("LR", "AP", "SI")) for code in itertools.product(*order)]


def test_compare_grids_same_grid_is_no_problem() -> None:
    for image in (build(), build((6, 8))):
        comparison = compare_grids(image, image, "a")
        assert (comparison.kind, comparison.problem, comparison.max_distance_mm) == (geometry.SAME, None, 0)


def test_compare_grids_float32_is_the_same() -> None:
    image = build(affine=turned(17.3))
    stored = MedicalImage(image.array, image.affine.astype(np.float32).astype(float), image.spacing_mm)
    assert compare_grids(image, stored, "a").kind == geometry.SAME


def test_compare_grids_rounded_header_is_a_note() -> None:
    image = build(affine=turned(17.3))
    comparison = compare_grids(image, build(affine=image.affine.round(3)), "labels/a.nii.gz")
    assert comparison.kind == geometry.ROUNDING
    assert comparison.problem
    assert comparison.problem.severity == "note"
    assert "a rounding of the header; the image's header is used" in comparison.problem.cause


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda affine: affine + np.outer([1, 0, 0, 0], [0, 0, 0, 12.5]), "origin shifted by (12.5, 0, 0) mm"),
        (lambda affine: affine @ np.diag([1, 1, 2, 1]), "spacing 0.8x1x5 instead of 0.8x1x2.5 mm"),
        (lambda affine: np.diag([-1, 1, 1, 1]) @ affine, "flipped left-right"),
        (lambda affine: np.diag([1, -1, 1, 1]) @ affine, "flipped front-back"),
        (lambda affine: np.diag([-1, -1, 1, 1]) @ affine, "flipped left-right and front-back"),
        (lambda affine: np.diag([1, 1, -1, 1]) @ affine, "flipped head-foot"),
        (lambda affine: turned(10), "rotated by 10 degrees"),
    ],
)
def test_compare_grids_other_header_says_what_differs(change: object, words: str) -> None:
    comparison = compare_grids(build(), build(affine=change(build().affine)), "a")  # type: ignore[operator]
    assert comparison.kind == geometry.OTHER_HEADER
    assert comparison.copy_header_helps
    assert comparison.problem
    assert words in comparison.problem.cause
    assert "--copy-header" in comparison.problem.remedy


def test_compare_grids_permuted_axes_are_named() -> None:
    cube = build((5, 5, 5), np.diag([2.0, 2.0, 2.0, 1.0]))
    label = MedicalImage(cube.array, cube.affine[:, [1, 0, 2, 3]], cube.spacing_mm)
    problem = compare_grids(cube, label, "a").problem
    assert problem
    assert "axes permuted to j, i, k" in problem.cause


def test_compare_grids_label_without_a_place_is_named() -> None:
    problem = compare_grids(build(), build(affine=np.eye(4)), "a").problem
    assert problem
    assert problem.code == "label-without-geometry"


def test_compare_grids_finer_grid_of_the_same_box_can_be_resampled() -> None:
    image = build()
    affine = image.affine @ np.diag([0.5, 1, 1, 1])
    affine[:3, 3] -= affine[:3, 0] * 0.5
    comparison = compare_grids(image, build((12, 8, 5), affine), "a")
    assert comparison.resampling_helps
    assert comparison.problem
    assert "(12, 8, 5), its image (6, 8, 5), and both cover the same part of the world" in comparison.problem.cause


@pytest.mark.parametrize(
    ("shape", "affine"), [((6, 8), None), ((8, 6, 5), np.eye(4)), ((8, 6, 5), turned(90)), ((5, 7, 4), turned(3))]
)
def test_compare_grids_other_shape_is_another_image(shape: tuple[int, ...], affine: np.ndarray | None) -> None:
    comparison = compare_grids(build(), build(shape) if affine is None else build(shape, affine), "a")
    assert comparison.kind == geometry.OTHER_CONTENT
    assert not comparison.copy_header_helps
    assert not comparison.resampling_helps


def test_compare_grids_last_slices_lacking_may_be_a_crop_or_a_loss_and_needs_a_choice() -> None:
    comparison = compare_grids(build(), build((6, 8, 3)), "labels/a.nii.gz")
    assert comparison.resampling_helps
    assert comparison.problem
    assert comparison.problem.code == "label-lacks-slices"
    assert "lacks the last 2 along one axis" in comparison.problem.cause
    with pytest.raises(ImageFileError, match="--resample-labels"):
        put_on_grid(build((6, 8, 3)), build(), "labels/a.nii.gz")


def test_compare_grids_between_the_voxels_names_the_offset_in_voxels() -> None:
    image = build()
    comparison = compare_grids(image, build((3, 4, 2), shifted(image.affine, (1.5, 2, 1))), "a")
    assert comparison.resampling_helps
    assert comparison.problem
    assert "is (1.5, 2, 1) voxels from the image's" in comparison.problem.cause


def shifted(affine: np.ndarray, voxels: tuple[float, ...]) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array(voxels)
    return moved


@pytest.mark.parametrize("codes", CODES)
def test_resample_label_any_orientation_is_put_back_exactly(codes: str) -> None:
    image = build()
    label = reorient(build(seed=1), codes)
    np.testing.assert_array_equal(resample_label(label, image).array, build(seed=1).array)


@given(factor=st.integers(1, 4), axis=st.integers(0, 2))
def test_resample_label_repeated_voxels_come_back(factor: int, axis: int) -> None:
    image, label = build(), build(seed=2)
    scale = np.ones(4)
    scale[axis] = 1 / factor
    affine = image.affine @ np.diag(scale)
    affine[:3, 3] += affine[:3, axis] * (1 - factor) / 2
    fine = MedicalImage(label.array.repeat(factor, axis=axis + 1), affine, image.spacing_mm)
    np.testing.assert_array_equal(resample_label(fine, image).array, label.array)


def test_resample_label_outside_is_zero_and_2d_works() -> None:
    image = build((6, 8))
    moved = MedicalImage(np.ones((1, 6, 8), np.uint8), image.affine.copy(), image.spacing_mm)
    moved.affine[0, 3] += 2 * SPACING[0]
    expected = np.ones((6, 8), np.uint8)
    expected[:2] = 0
    np.testing.assert_array_equal(resample_label(moved, image).array[0], expected)


def test_with_grid_of_keeps_voxels_and_takes_the_place() -> None:
    image, label = build(), build(affine=np.eye(4), seed=3)
    taken = with_grid_of(label, image)
    assert taken.array is label.array
    np.testing.assert_array_equal(taken.affine, image.affine)
    assert taken.spacing_mm == image.spacing_mm


@pytest.mark.parametrize("shape", [(6, 8, 5), (6, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_put_on_grid_any_crop_comes_back_where_it_was(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = build(shape, turned(17.3))
    first, last = rng.integers(1, 3, len(shape)), rng.integers(3, 5, len(shape))
    box = tuple(slice(start, end) for start, end in zip(first, last, strict=True))
    expected = np.zeros_like(image.array)
    expected[(0, *box)] = image.array[(0, *box)]
    cropped = build(shape, shifted(image.affine, (*first, 0)[:3]))
    cropped = replace(cropped, array=image.array[(slice(None), *box)])
    placed = put_on_grid(cropped, image, "labels/a.nrrd")
    np.testing.assert_array_equal(placed.array, expected)
    np.testing.assert_array_equal(placed.affine, image.affine)
    assert [note.code for note in placed.notes] == ["label-placed"]
    assert f"lies {tuple(first.tolist())} whole voxels" in placed.notes[0].cause
    assert "padded to the image's grid" in placed.notes[0].cause


def test_put_on_grid_padded_label_is_cropped_and_lost_voxels_are_counted() -> None:
    image = build()
    array = np.zeros((1, 10, 12, 9), np.uint8)
    array[0, 2:8, 2:10, 2:7] = image.array[0] > 1
    affine = shifted(image.affine, (-2, -2, -2))
    placed = put_on_grid(MedicalImage(array, affine, image.spacing_mm), image, "a")
    np.testing.assert_array_equal(placed.array, image.array > 1)
    assert [note.code for note in placed.notes] == ["label-placed"]
    assert "cropped to the image's grid" in placed.notes[0].cause
    array[0, 0, 0, :4] = 1
    placed = put_on_grid(MedicalImage(array, affine, image.spacing_mm), image, "a")
    assert [(note.code, note.severity) for note in placed.notes] == [("label-placed", "note"), ("label-cut", "warning")]
    assert "has 4 labelled voxels outside" in placed.notes[1].cause


@pytest.mark.parametrize("rounding", [0.0004, -0.0004])
def test_put_on_grid_rounded_header_still_lies_on_the_lattice(rounding: float) -> None:
    image = build(affine=turned(17.3))
    cropped = build((3, 4, 2), shifted(image.affine, (2 + rounding * 10, 2, 1)).round(3))
    assert put_on_grid(cropped, image, "a").spatial_shape == image.spatial_shape


def test_put_on_grid_pictures_and_places_beside_the_image_are_never_placed() -> None:
    picture = MedicalImage(np.zeros((1, 6, 8), np.uint8), np.eye(4), (1.0, 1.0))
    with pytest.raises(ImageFileError, match=r"has shape \(4, 8\), its image \(6, 8\)\. Draw or export"):
        put_on_grid(MedicalImage(picture.array[:, :4], np.eye(4), (1.0, 1.0)), picture, "a")
    image = build()
    for voxels in ((6, 0, 0), (-3, 0, 0), (0, 0, 400)):
        with pytest.raises(ImageFileError, match="its image"):
            put_on_grid(build((3, 4, 2), shifted(image.affine, voxels)), image, "a")
