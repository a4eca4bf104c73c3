"""Where a label map lies with respect to its image."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import geometry
from pipeline.dataset.geometry import compare_grids, resample_label, with_grid_of
from pipeline.dataset.medical_image import MedicalImage

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


@pytest.mark.parametrize("shape", [(6, 8, 4), (8, 6, 5), (6, 8)])
def test_compare_grids_other_shape_is_another_image(shape: tuple[int, ...]) -> None:
    comparison = compare_grids(build(), build(shape), "a")
    assert comparison.kind == geometry.OTHER_CONTENT
    assert not comparison.copy_header_helps
    assert not comparison.resampling_helps


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
