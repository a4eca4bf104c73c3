"""The border weights of Ronneberger et al. 2015, against the equation written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unet_pipeline.training.border_weights import BorderWeightd, compute_border_weights


def compute_by_the_equation(label_map: np.ndarray, class_weights: tuple, w0: float, sigma: float) -> np.ndarray:
    """Equation 2 with the distance to every object at every pixel."""
    weights = np.take(class_weights, label_map).astype(float)
    distances = []
    for value in range(1, len(class_weights)):
        objects, count = ndimage.label(label_map == value)
        distances += [ndimage.distance_transform_edt(objects != number) for number in range(1, count + 1)]
    if len(distances) > 1:
        nearest, second = np.sort(distances, axis=0)[:2]
        weights += (label_map == 0) * w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return weights


def test_compute_border_weights_gap_of_one_pixel_weighs_most() -> None:
    row = np.array([[1, 1, 0, 1, 1, 0, 0, 0, 0, 0]])
    weights = compute_border_weights(row, (1.0, 1.0), border_weight=10, border_sigma_voxel=5)[0]
    # the pixel between both: one pixel from each
    assert weights[2] == pytest.approx(1 + 10 * np.exp(-(2**2) / 50))
    # beside the second object: 1 from it and 4 from the first
    assert weights[5] == pytest.approx(1 + 10 * np.exp(-(5**2) / 50))
    assert weights[[0, 1, 3, 4]].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("label_map", [np.zeros((6, 6), int), np.pad(np.ones((3, 3), int), 2)])
def test_compute_border_weights_fewer_than_two_objects_have_the_class_weights(label_map: np.ndarray) -> None:
    assert np.array_equal(
        compute_border_weights(label_map, (0.5, 2.0), 10, 5), np.where(label_map, 2.0, 0.5).astype(np.float32)
    )


def test_compute_border_weights_objects_of_two_classes_count_too() -> None:
    row = np.array([[1, 0, 2]])
    assert compute_border_weights(row, (1.0, 1.0, 1.0), 10, 5)[0, 1] == pytest.approx(1 + 10 * np.exp(-4 / 50))


def test_compute_border_weights_voxels_without_annotation_weigh_nothing() -> None:
    row = np.array([[1, 0, 1, 2]])  # 2 is behind the last class
    assert compute_border_weights(row, (1.0, 1.0), 10, 5)[0, 3] == 0


@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.6), dims=st.integers(2, 3))
def test_compute_border_weights_any_map_is_the_equation(seed: int, share: float, dims: int) -> None:
    generator = np.random.default_rng(seed)
    label_map = (generator.random((14, 17, 9)[:dims]) < share).astype(int) * generator.integers(
        1, 3, (14, 17, 9)[:dims]
    )
    found = compute_border_weights(label_map, (0.7, 1.3, 2.0), 10, 2)
    np.testing.assert_allclose(found, compute_by_the_equation(label_map, (0.7, 1.3, 2.0), 10, 2), atol=2e-3)


def test_border_weightd_adds_the_weights_beside_the_label() -> None:
    label = torch.tensor([[[1, 0, 1]]])
    found = BorderWeightd("label", "weight", (1.0, 1.0), 10.0, 5.0)({"label": label})
    assert found["weight"].shape == (1, 1, 3)
    assert torch.equal(found["label"], label)
    assert found["weight"][0, 0, 1] > 10
