"""Masks that smoothing spoiled are told from label maps, which a threshold would ruin."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from scipy import ndimage

from unet_pipeline.dataset.fix_masks import (
    choose_value,
    choose_white,
    find_reason_against_threshold,
    find_white,
    read_grey_mask,
    threshold_mask,
)
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import ImageFileError


def draw_blobs(seed: int, size: int = 96, width: float = 6, num_levels: int = 2) -> np.ndarray:
    """Smooth random regions of the levels 0, 1, ...; the higher ones lie within the lower ones."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), width)
    edges = np.quantile(field, np.linspace(0.6, 1, num_levels)[:-1])
    return np.digitize(field, edges)


def store_as_jpeg(rows: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    PillowImage.fromarray(rows.astype(np.uint8)).save(stream, "JPEG", quality=quality)
    with PillowImage.open(stream) as picture:
        return np.asarray(picture)


def resize(rows: np.ndarray, factor: float, how: PillowImage.Resampling) -> np.ndarray:
    size = [round(side * factor) for side in rows.shape[::-1]]
    return np.asarray(PillowImage.fromarray(rows.astype(np.uint8)).resize(size, how))


@settings(max_examples=25)
@given(seed=st.integers(0, 500), quality=st.integers(30, 100), width=st.sampled_from([3, 6, 10]))
def test_find_reason_against_threshold_jpeg_of_any_quality_is_a_mask(seed: int, quality: int, width: float) -> None:
    mask = draw_blobs(seed, width=width) * 255
    stored = store_as_jpeg(mask, quality)[None]
    assert find_white(stored) == 255
    assert find_reason_against_threshold(stored, 255, is_lossy=True) == ""
    thresholded = threshold_mask(MedicalImage(stored, np.eye(4), (1.0, 1.0)), 255, 255)
    assert np.unique(thresholded.array).tolist() == [0, 255]
    assert np.mean(thresholded.array[0] != mask) < 0.01


@pytest.mark.parametrize("quality", [40, 70, 90, 97])
def test_find_reason_against_threshold_jpeg_saved_again_as_png_is_a_mask(quality: int) -> None:
    for seed in range(5):
        assert find_reason_against_threshold(store_as_jpeg(draw_blobs(seed) * 255, quality)[None], 255) == ""


@pytest.mark.parametrize(
    ("factor", "how"),
    [
        (2, PillowImage.Resampling.BILINEAR),
        (1.7, PillowImage.Resampling.BICUBIC),
        (0.6, PillowImage.Resampling.LANCZOS),
        (0.5, PillowImage.Resampling.BOX),
    ],
)
def test_find_reason_against_threshold_resized_mask_is_a_mask(factor: float, how: PillowImage.Resampling) -> None:
    for seed in range(5):
        assert find_reason_against_threshold(resize(draw_blobs(seed) * 255, factor, how)[None], 255) == ""


@pytest.mark.parametrize("values", [(0, 128, 255), (0, 60, 255), (0, 200, 255)])
@pytest.mark.parametrize("quality", [75, 95])
def test_find_reason_against_threshold_third_label_is_seen_through_jpeg(values: tuple[int, ...], quality: int) -> None:
    for seed in range(5):
        stored = store_as_jpeg(np.array(values)[draw_blobs(seed, 128, 8, 3)], quality)[None]
        assert "third value" in find_reason_against_threshold(stored, find_white(stored), is_lossy=True)


@pytest.mark.parametrize("values", [(0, 1, 2), (0, 1, 255), (0, 5, 255), (0, 2, 40)])
def test_find_reason_against_threshold_third_label_is_seen_through_resizing(values: tuple[int, ...]) -> None:
    for seed in range(5):
        rows = resize(np.array(values)[draw_blobs(seed, 128, 8, 3)], 1.6, PillowImage.Resampling.BILINEAR)[None]
        assert find_reason_against_threshold(rows, find_white(rows)) != ""


def test_find_reason_against_threshold_small_third_label_is_seen() -> None:
    rows = draw_blobs(1) * 255
    rows[:20, :20] = 0
    rows[6:12, 6:12] = 120
    assert "third value, about 12" in find_reason_against_threshold(store_as_jpeg(rows, 90)[None], 255, is_lossy=True)


@pytest.mark.parametrize("values", [(0, 1, 2, 3, 255), (0, 128, 255), (0, 1, 255)])
def test_find_reason_against_threshold_label_map_that_is_not_smoothed_is_left(values: tuple[int, ...]) -> None:
    rows = np.array(values)[draw_blobs(2, num_levels=len(values))]
    assert find_reason_against_threshold(rows[None].astype(np.uint8), 255) == (
        "its values do not lie along borders only, as smoothing leaves them"
    )


def test_find_reason_against_threshold_grey_image_is_no_mask() -> None:
    rows = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(64, 64)), 4)
    rows = ((rows - rows.min()) / np.ptp(rows) * 255).astype(np.uint8)
    assert find_reason_against_threshold(rows[None], find_white(rows[None])) != ""


def test_find_reason_against_threshold_ramp_is_no_mask() -> None:
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))[None]
    assert find_reason_against_threshold(ramp, find_white(ramp)) != ""


@pytest.mark.parametrize(
    ("array", "white", "said"),
    [
        (np.array([[[0.0, np.nan, 1.0]]]), 1.0, "no numbers"),
        (np.array([[[0, 3, 8]]]), 255.0, "its greatest value is 8, and the masks have 255"),
        (np.array([[[90, 90, 255]]]), 255.0, "its background is 90"),
        (np.array([[[0, 255, 255]]]), 255.0, ""),
        (np.array([[[1, 1, 1]]]), 255.0, ""),
        (np.array([[[254, 254, 254]]]), 255.0, ""),
        (np.array([[[0, 0.5, 0.5]]]), 0.5, ""),
    ],
)
def test_find_reason_against_threshold_says_what_is_in_the_way(array: np.ndarray, white: float, said: str) -> None:
    found = find_reason_against_threshold(array, white)
    assert (said in found) if said else (found == "")


def test_find_reason_against_threshold_interpolated_volume_is_a_mask_and_one_of_three_labels_is_not() -> None:
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(32, 28, 20)), 3)
    for levels, expected in (([0.7], ""), ([0.5, 0.8], "third value")):
        volume = np.digitize(field, np.quantile(field, levels)).astype(float)
        stored = ndimage.zoom(volume, 1.7, order=1)[None]
        found = find_reason_against_threshold(stored, find_white(stored))
        assert (expected in found) if expected else (found == "")


@pytest.mark.parametrize(
    ("values", "white"), [([0, 254, 254, 255], 255), ([0, 0.99, 1.0], 1), ([0, 7, 7], 7), ([3, 3], 3), ([0, 0], 0)]
)
def test_find_white_is_the_value_inside(values: list[float], white: float) -> None:
    assert find_white(np.array([[values]])) == white


def test_choose_white_is_what_most_masks_have() -> None:
    assert choose_white([255, 255, 180.5]) == 255
    assert choose_white([1, 255]) == 255
    assert choose_white([0, 0]) is None
    assert choose_white([]) is None


@pytest.mark.parametrize(
    ("found", "known", "white"), [(190, 255, 255), (254.6, 255, 255), (255, 1, 255), (90, 255, 90)]
)
def test_choose_white_thin_masks_have_the_known_value(found: float, known: int, white: float) -> None:
    assert choose_white([found], known) == white


@pytest.mark.parametrize(
    ("white", "declared", "value"),
    [
        (255, None, 255),
        (1, None, 1),
        (7, None, 7),
        (65535, None, 255),
        (0.5, None, 1),
        (300, None, None),
        (255, {"background": 0, "cell": 1}, 1),
        (1, {"background": 0, "cell": 255}, 255),
        (7, {"background": 0, "cell": 7}, 7),
        (7, {"background": 0, "cell": 1}, None),
    ],
)
def test_choose_value_is_the_declared_one_or_what_can_be_a_label(
    white: float, declared: dict[str, int] | None, value: int | None
) -> None:
    assert choose_value(white, declared) == value


def test_threshold_mask_half_of_white_is_outside() -> None:
    mask = MedicalImage(np.array([[[0, 127, 128, 255]]]), np.eye(4), (1.0, 1.0))
    assert threshold_mask(mask, 255, 7).array.tolist() == [[[0, 0, 7, 7]]]
    assert threshold_mask(mask, 256, 7).array.tolist() == [[[0, 0, 0, 7]]]


def test_read_grey_mask_colours_become_the_way_from_black(tmp_path: Path) -> None:
    blobs = draw_blobs(0)
    for name, colour, white in (("red", (200, 0, 0), 1), ("grey", (255, 255, 255), 255)):
        rows = (blobs[..., None] * np.array(colour)).astype(np.uint8)
        PillowImage.fromarray(rows).save(tmp_path / f"{name}.jpg", quality=85)
        mask = read_grey_mask(tmp_path / f"{name}.jpg", name)
        assert mask.array.shape == (1, 96, 96)
        assert find_white(mask.array) == white
        inside = threshold_mask(mask, white, 1).array[0].T
        assert np.mean(inside != blobs) < 0.02


def test_read_grey_mask_several_colours_are_refused(tmp_path: Path) -> None:
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 60, 0]], np.uint8)
    PillowImage.fromarray(table[draw_blobs(0, num_levels=3)]).save(tmp_path / "two.jpg", quality=85)
    with pytest.raises(ImageFileError, match="several colours"):
        read_grey_mask(tmp_path / "two.jpg", "two.jpg")


def test_read_grey_mask_palette_gives_its_colours(tmp_path: Path) -> None:
    picture = PillowImage.fromarray((draw_blobs(0) * 2).astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 9, 9, 9, 255, 255, 255])
    picture.save(tmp_path / "palette.png")
    assert np.unique(read_grey_mask(tmp_path / "palette.png", "palette.png").array).tolist() == [0, 255]
