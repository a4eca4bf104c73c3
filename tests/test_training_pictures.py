"""Pictures of a training: the right slice the right way round, outlines where the label ends, a few kilobytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.contact_sheet import COLOURS
from unet_pipeline.training.pictures import TILE_PIXELS, draw_cases, draw_patches, encode_jpeg, take_slice


def draw_square(first: int = 4, last: int = 8) -> np.ndarray:
    classes = np.zeros((1, 12, 12), np.float32)
    classes[0, first:last, first:last] = 1
    return classes


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=-1).sum())


def test_take_slice_of_a_volume_is_the_one_with_most_labels_in_radiological_orientation() -> None:
    image, reference = np.zeros((1, 6, 8, 5), np.float32), np.zeros((1, 6, 8, 5), np.float32)
    reference[0, 5, 7, 3] = 2  # right, front
    reference[0, 5, 6, 3] = 1
    prediction = np.zeros_like(reference)
    prediction[0, 0, 0, 3] = 1  # left, back
    image[0, 5, 7, 3] = 9
    shown = take_slice("case", image, reference, prediction, (2.0, 1.0, 4.0), "RAS")
    assert shown.reference.shape == (8, 6)  # rows from front to back, columns from the patient's right
    assert (shown.reference[0, 0], shown.reference[1, 0]) == (2, 1)
    assert np.count_nonzero(shown.reference) == 2
    assert shown.prediction is not None
    assert np.argwhere(shown.prediction).tolist() == [[7, 5]]
    assert shown.rows[0, 0] == shown.rows.max() > shown.rows[4, 4]
    assert shown.pixel_mm == (1.0, 2.0)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", None])
def test_take_slice_outlines_stay_on_the_image_whatever_the_axes(axcodes: str | None) -> None:
    generator = np.random.default_rng(0)
    reference = (generator.random((1, 5, 6, 7)) > 0.5).astype(np.float32)
    shown = take_slice("case", 100 * reference, reference, reference, (1.0, 1.0, 1.0), axcodes)
    assert ((shown.rows > 128) == (shown.reference == 1)).all()
    assert (shown.prediction == shown.reference).all()


def test_take_slice_image_with_a_border_is_cut_to_its_labels() -> None:
    reference = draw_square()
    image = np.pad(50 * reference, ((0, 0), (3, 3), (2, 2)))
    shown = take_slice("case", image, reference, None, (1.0, 1.0), None)
    assert shown.rows.shape == (12, 12)
    assert ((shown.rows > 128) == (shown.reference == 1)).all()


def test_take_slice_colour_picture_keeps_its_colours() -> None:
    image = np.stack([draw_square()[0], np.zeros((12, 12)), np.zeros((12, 12))])
    shown = take_slice("case", image.astype(np.float32), draw_square(), None, (1.0, 1.0), None)
    assert shown.rows.shape == (12, 12, 3)
    assert shown.rows[5, 5].tolist() == [255, 0, 0]


def test_draw_cases_reference_above_prediction_each_class_its_own_colour() -> None:
    reference, prediction = draw_square(), 2 * draw_square(2, 10)
    shown = take_slice("case_7", np.zeros((1, 12, 12), np.float32), reference, prediction, (1.0, 1.0), None)
    picture = draw_cases([shown, shown])
    above, below = picture[: picture.shape[0] // 2], picture[picture.shape[0] // 2 :]
    side = round(TILE_PIXELS / 12)
    assert count(above, COLOURS[0]) == 2 * (4 * 4 * side - 4)  # a square of four voxels, a line of one pixel
    assert count(below, COLOURS[1]) == 2 * (4 * 8 * side - 4)  # the second class alone is not drawn as the first
    assert count(above, COLOURS[1]) == count(below, COLOURS[0]) == 0


def test_draw_cases_pixels_that_are_not_square_keep_their_shape() -> None:
    flat = np.ones((1, 10, 10), np.float32)
    shown = take_slice("case", flat * np.linspace(1, 2, 10), draw_square()[:, 1:11, 1:11], None, (2.0, 1.0), None)
    tile = draw_patches([shown])
    assert tile.shape == (TILE_PIXELS, TILE_PIXELS, 3)
    assert (tile[: TILE_PIXELS // 4] == 0).all()  # twice as wide as it is high
    assert (tile[TILE_PIXELS // 2] > 0).any()


def test_draw_patches_fills_a_block() -> None:
    shown = take_slice("case", draw_square(), draw_square(), None, (1.0, 1.0), None)
    assert draw_patches([shown] * 9).shape == (3 * TILE_PIXELS + 8, 3 * TILE_PIXELS + 8, 3)
    assert draw_patches([shown] * 2).shape == (TILE_PIXELS, 2 * TILE_PIXELS + 4, 3)


def test_encode_jpeg_is_small_and_the_same_picture() -> None:
    smooth = np.repeat(np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[:, None, None], 310, 1), 3, 2).repeat(12, 0)
    content = encode_jpeg(smooth)
    read = np.asarray(PillowImage.open(io.BytesIO(content)).convert("RGB"))
    assert read.shape == smooth.shape
    assert abs(read.astype(int) - smooth).mean() < 2
    noise = np.random.default_rng(0).integers(0, 255, (310, 452, 3)).astype(np.uint8)
    assert len(encode_jpeg(noise)) < 60_000  # the worst that can be
    assert len(content) < 12_000
