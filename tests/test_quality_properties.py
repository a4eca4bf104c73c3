"""Properties of images: known answers of drawn pictures, and what each planted change moves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.quality.layout import measure_layout
from unet_pipeline.quality.properties import find_group, measure_image, orient, show_number

EYE = np.eye(4)


def picture(array: np.ndarray) -> MedicalImage:
    return MedicalImage(array if array.ndim == 3 else array[None], EYE, (1.0, 1.0))


def draw(seed: int = 0, shape: tuple[int, ...] = (64, 48)) -> np.ndarray:
    """Smooth blobs on noise, bright in the first half of the first axis."""
    generator = np.random.default_rng(seed)
    values = generator.normal(100, 8, shape)
    values[: shape[0] // 2] += 60
    return np.clip(values, 0, 255).astype(np.uint8)


def test_extent_is_the_logarithm_of_the_size() -> None:
    numbers = measure_image(picture(draw()), True).numbers
    assert numbers["extent_width_pixels"] == pytest.approx(np.log(64))
    assert numbers["extent_height_pixels"] == pytest.approx(np.log(48))
    assert "spacing_left_right_mm" not in numbers


def test_extent_of_a_volume_is_in_mm_along_the_axes_of_the_world() -> None:
    affine = np.array([[0, 2.0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 5.0, 0], [0, 0, 0, 1]])
    volume = MedicalImage(draw(0, (10, 20, 8)).astype(np.float32)[None], affine, (3.0, 2.0, 5.0))
    measured = measure_image(volume, False)
    assert np.exp(measured.numbers["extent_left_right_mm"]) == pytest.approx(40)
    assert np.exp(measured.numbers["extent_posterior_anterior_mm"]) == pytest.approx(30)
    assert np.exp(measured.numbers["spacing_inferior_superior_mm"]) == pytest.approx(5)
    assert measured.words == {"channels": "1", "dimensions": "3", "orientation": "PRS"}


def test_turned_volume_with_a_right_header_has_the_same_properties() -> None:
    array = draw(0, (10, 20, 8)).astype(np.float32)[None]
    flipped = EYE.copy()
    flipped[0, 0], flipped[0, 3] = -1, 9
    turned = MedicalImage(np.ascontiguousarray(array[:, ::-1]), flipped, (1.0, 1.0, 1.0))
    expected = measure_image(MedicalImage(array, EYE, (1.0, 1.0, 1.0)), False)
    assert measure_image(turned, False).numbers == pytest.approx(expected.numbers)
    np.testing.assert_array_equal(orient(turned.array, flipped)[0], array)


def test_inverted_intensities_have_the_opposite_skewness() -> None:
    array = np.clip(np.random.default_rng(0).exponential(20, (64, 48)), 0, 255).astype(np.uint8)
    plain, inverted = (measure_image(picture(one), True).numbers for one in (array, 255 - array))
    assert plain["channel_0_skewness"] > 1
    assert inverted["channel_0_skewness"] == pytest.approx(-plain["channel_0_skewness"], rel=1e-3)


def test_clipped_intensities_pile_up_at_the_ends() -> None:
    array = np.random.default_rng(0).normal(100, 20, (64, 64))
    clipped = np.clip(array, *np.quantile(array, (0.05, 0.9)))
    numbers = measure_image(picture(clipped), True).numbers
    assert np.exp(numbers["channel_0_share_at_highest"]) == pytest.approx(0.1, abs=0.01)
    assert np.exp(numbers["channel_0_share_at_lowest"]) == pytest.approx(0.05, abs=0.01)
    assert np.exp(numbers["channel_0_cut_at_highest"]) == pytest.approx(0.11, abs=0.01)
    assert (
        numbers["channel_0_edge_at_highest"] > measure_image(picture(array), True).numbers["channel_0_edge_at_highest"]
    )


def test_a_few_bright_voxels_more_are_no_cut() -> None:
    array = np.random.default_rng(0).normal(100, 20, (100, 100))
    one, ten, many = array.copy(), array.copy(), array.copy()
    one.flat[0] = ten.flat[:10] = many.flat[:1000] = 255
    cut = [measure_image(picture(each), True).numbers["channel_0_cut_at_highest"] for each in (one, ten, many)]
    assert cut[1] - cut[0] < 0.1  # 0.15 is the least spread of this property
    assert cut[2] - cut[0] > 2


def test_jpeg_of_low_quality_shows_its_blocks() -> None:
    slopes = 1.3 * np.add.outer(np.arange(128), 0.5 * np.arange(128)) % 200
    array, file = (
        np.clip(slopes + np.random.default_rng(0).normal(30, 12, (128, 128)), 0, 255).astype(np.uint8),
        io.BytesIO(),
    )
    PillowImage.fromarray(array).save(file, "JPEG", quality=10)
    compressed = np.asarray(PillowImage.open(file))
    plain, blocky = (measure_image(picture(one), True).numbers for one in (array, compressed))
    for axis in ("width", "height"):
        assert abs(plain[f"blocks_{axis}"]) < 0.3 < blocky[f"blocks_{axis}"]


def test_another_stain_moves_colours_and_not_the_size() -> None:
    generator = np.random.default_rng(0)
    stains = generator.uniform(0, 1, (2, 32, 32))
    array = np.stack(
        [255 - 90 * stains[0] - 20 * stains[1], 255 - 120 * stains[0] - 80 * stains[1], 240 - 40 * stains[0]]
    )
    other = np.tensordot(np.array([[0.8, 0.3, -0.1], [0.1, 0.7, 0.2], [0.2, -0.1, 0.9]]), array, 1)
    before, after = (measure_image(picture(one), True).numbers for one in (array, other))
    assert before["extent_width_pixels"] == after["extent_width_pixels"]
    assert abs(before["channels_0_2_correlation"] - after["channels_0_2_correlation"]) > 0.05


def test_layout_is_better_than_mirrored_for_an_image_that_lies_as_the_others() -> None:
    thumbnail = measure_image(picture(draw(0)), True).thumbnail
    template = measure_image(picture(draw(1)), True).thumbnail
    upright, mirrored = measure_layout(thumbnail, template), measure_layout(np.flip(thumbnail, 0), template)
    assert upright["layout_match"] > 0.9
    assert upright["layout_match_over_mirrored_0"] > 1.5
    assert mirrored["layout_match_over_mirrored_0"] == pytest.approx(-upright["layout_match_over_mirrored_0"], abs=1e-6)


def test_constant_image_has_finite_numbers() -> None:
    numbers = measure_image(picture(np.full((3, 9, 7), 5.0)), True).numbers
    assert np.isfinite(list(numbers.values())).all()


def test_groups_and_shown_numbers() -> None:
    names = ("extent_width_pixels", "channels_0_1_correlation", "channel_2_mean", "step_1_width", "layout_match")
    assert [find_group(name) for name in names] == ["grid", "colour", "intensity", "texture", "layout"]
    assert show_number("extent_width_pixels", float(np.log(512))) == "512"
    assert show_number("channel_0_lowest", float(-np.log1p(1024))) == "-1024"
    assert show_number("channel_0_share_at_lowest", float(np.log(0.25))) == "0.25"
    assert show_number("channel_0_skewness", -1.5) == "-1.5"
