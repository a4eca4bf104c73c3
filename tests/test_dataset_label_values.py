"""Label values a little beside whole numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from unet_pipeline.dataset.label_values import MAX_VALUES, is_rounded, round_values
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import ImageFileError


def build(array: np.ndarray) -> MedicalImage:
    return MedicalImage(array[None], np.eye(4), (1.0,) * array.ndim)


def draw(values: tuple[float, ...], shape: tuple[int, ...] = (6, 7, 8)) -> np.ndarray:
    array = np.random.default_rng(0).choice(values, shape)
    array.reshape(-1)[: len(values)] = values  # each at least once
    return array


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32])
def test_round_values_whole_types_stay_as_they_are(dtype: type) -> None:
    label = build(draw((0, 1, 7)).astype(dtype))
    assert round_values(label, "a") is label


@pytest.mark.parametrize("order", ["C", "F"])
def test_round_values_whole_reals_become_int32_without_a_note(order: str) -> None:
    array = np.asarray(draw((0.0, 1.0, 200.0)), order=order)  # type: ignore[call-overload]
    rounded = round_values(build(array), "a")
    assert rounded.array.dtype == np.int32
    np.testing.assert_array_equal(rounded.array[0], array)
    assert not rounded.notes
    assert not is_rounded(rounded)


@pytest.mark.parametrize("factor", [0.99, 0.9999, 1.00002, 1.0124])
@pytest.mark.parametrize("order", ["C", "F"])
def test_round_values_near_whole_numbers_are_rounded_with_a_note(factor: float, order: str) -> None:
    whole = draw((0, 1, 2, 4))
    array = np.asarray(whole * factor, dtype=np.float32, order=order)  # type: ignore[call-overload]
    rounded = round_values(build(array), "labels/a.nii.gz")
    np.testing.assert_array_equal(rounded.array[0], whole)
    (note,) = rounded.notes
    assert (note.code, note.severity, note.file) == ("label-rounded", "note", "labels/a.nii.gz")
    assert f"such as {4 * factor:.6g}" in note.cause
    assert note.cause.endswith("rounded to 0, 1, 2, 4")
    assert is_rounded(rounded)


def test_round_values_noise_of_arithmetic_in_every_voxel_is_rounded() -> None:
    whole = draw((0, 1, 2))
    rounded = round_values(build(whole + np.random.default_rng(1).uniform(-0.01, 0.01, whole.shape)), "a")
    np.testing.assert_array_equal(rounded.array[0], whole)


@pytest.mark.parametrize(("values", "shown"), [((0, 1.06), "1.06"), ((0, 0.5, 1), "0.5"), ((0, 0.9, 1.8), "1.8")])
def test_round_values_few_values_far_from_whole_numbers_are_scaled(values: tuple[float, ...], shown: str) -> None:
    with pytest.raises(ImageFileError) as caught:
        round_values(build(draw(values)), "a")
    assert caught.value.code == "label-scaled"
    assert f"has the value {shown}, more than 0.05 beside" in caught.value.cause
    assert f"Its {len(values)} distinct values come from a header that scales" in caught.value.cause


def test_round_values_many_values_are_interpolated() -> None:
    with pytest.raises(ImageFileError) as caught:
        round_values(build(np.linspace(0, 3, 343).reshape(7, 7, 7)), "a")
    assert caught.value.code == "label-not-whole"
    assert "without interpolation" in caught.value.remedy
    image = np.arange(MAX_VALUES + 1) * 1.0001
    with pytest.raises(ImageFileError, match="expected whole numbers"):
        round_values(build(image.reshape(1, 5, -1)), "a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e9])
def test_round_values_no_number_or_a_huge_one_is_named(value: float) -> None:
    with pytest.raises(ImageFileError, match=re.escape(f"has the value {value:g}; expected whole numbers")):
        round_values(build(draw((0, 1, value))), "a")
