"""Whether pictures lie one way round: drawn pictures with a known answer, and the real sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.orientation import compute_coarse_map, find_mirroring_that_matters, find_turning_that_matters


def draw_pictures(scene: np.ndarray, num_pictures: int = 12, noise: float = 1.0) -> list[np.ndarray]:
    """Coarse maps of noisy copies of a scene of shape (width, height)."""
    generator = np.random.default_rng(0)
    return [compute_coarse_map((scene + generator.normal(0, noise, scene.shape))[None]) for _ in range(num_pictures)]


def draw_gradient(direction: tuple[float, float]) -> np.ndarray:
    columns, rows = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 48), indexing="ij")
    return 3 * (direction[0] * columns + direction[1] * rows)


def test_compute_coarse_map_is_the_mean_of_each_cell() -> None:
    image = np.kron(np.arange(64.0).reshape(8, 8), np.ones((3, 5)))[None]
    expected = np.arange(64.0).reshape(8, 8)
    np.testing.assert_allclose(compute_coarse_map(image), (expected - expected.mean()) / expected.std())


@pytest.mark.parametrize("shape", [(1, 8, 9), (3, 100, 37), (1, 65, 8)])
def test_compute_coarse_map_any_size_has_mean_0_and_deviation_1(shape: tuple[int, ...]) -> None:
    found = compute_coarse_map(np.random.default_rng(0).random(shape))
    assert found.shape == (8, 8)
    assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


@pytest.mark.parametrize("image", [np.full((1, 20, 20), 7), np.zeros((1, 5, 200))])
def test_compute_coarse_map_without_differences_is_zero(image: np.ndarray) -> None:
    assert not compute_coarse_map(image).any()


@pytest.mark.parametrize(
    ("direction", "mirroring"), [((1, 0), (True, False)), ((0, 1), (False, True)), ((1, 1), (True, True))]
)
def test_mirroring_matters_along_the_axis_that_changes(direction: tuple, mirroring: tuple) -> None:
    maps = draw_pictures(draw_gradient(direction))
    assert find_mirroring_that_matters(maps) == mirroring
    assert find_turning_that_matters(maps)


def test_symmetric_scene_may_be_mirrored_and_not_turned() -> None:
    """A horizontal bar above the middle: its mirror image in the width is itself."""
    scene = np.zeros((64, 64))
    scene[8:56, 8:20] = 4
    maps = draw_pictures(scene)
    assert find_mirroring_that_matters(maps) == (False, True)
    assert find_turning_that_matters(maps)


def test_texture_without_a_place_may_be_turned_and_mirrored() -> None:
    generator = np.random.default_rng(1)
    maps = [compute_coarse_map(generator.random((1, 64, 64))) for _ in range(30)]
    assert find_mirroring_that_matters(maps) == (False, False)
    assert not find_turning_that_matters(maps)


def test_slices_of_one_specimen_say_nothing() -> None:
    """Each slice is like the one before it; in the mean they are like each other too."""
    generator = np.random.default_rng(3)
    scene, maps = generator.normal(size=(8, 8)), []
    for _ in range(24):
        scene = 0.8 * scene + 0.6 * generator.normal(size=(8, 8))
        maps.append(compute_coarse_map(scene[None]))
    assert find_mirroring_that_matters(maps) == (False, False)
    assert not find_turning_that_matters(maps)


def test_few_pictures_say_nothing() -> None:
    maps = draw_pictures(draw_gradient((1, 1)), num_pictures=4)
    assert find_mirroring_that_matters(maps) == (False, False)
    assert not find_turning_that_matters(maps)


def test_one_strange_picture_does_not_decide() -> None:
    generator = np.random.default_rng(2)
    maps = [compute_coarse_map(generator.random((1, 64, 64))) for _ in range(20)]
    assert find_mirroring_that_matters([*maps, *draw_pictures(draw_gradient((1, 0)), 1, 0.0)]) == (False, False)


# real data


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "mirroring", "turning"),
    [
        ("nuclei_histology", (False, False), False),
        ("fetal_head_ultrasound", (False, False), True),
        ("em_membrane", (False, False), False),
        ("Dataset101_LungXray", (False, True), True),
    ],
)
def test_real_pictures_lie_as_they_are_taken(pipeline_data: Path, name: str, mirroring: tuple, turning: bool) -> None:
    fingerprint = check_dataset(read_dataset(pipeline_data / name)).require_no_errors()
    assert (fingerprint.mirroring_matters, fingerprint.turning_matters) == (mirroring, turning)
