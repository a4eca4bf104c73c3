"""`prediction/shape_facts.py`: known label maps."""

import numpy as np
import pytest

from unet_pipeline.prediction.shape_facts import describe_shapes


def test_shape_facts_known_answer() -> None:
    values = np.zeros((10, 10), np.uint8)
    values[2:4, 2:5] = 7  # six pixels in one part
    values[8, 8] = 7
    values[0, 5] = 3
    three, seven, absent = describe_shapes(values, (3, 7, 9))
    assert (seven.num_voxels, seven.num_parts) == (7, 2)
    assert seven.largest_share == pytest.approx(6 / 7)
    assert seven.filled_share == pytest.approx(7 / 49)
    assert seven.touches_border == 0
    assert (three.num_voxels, three.touches_border, three.filled_share) == (1, 1.0, 1.0)
    assert (absent.num_voxels, absent.num_parts) == (0, 0)
    assert np.isnan([absent.largest_share, absent.filled_share, absent.touches_border]).all()


def test_shape_facts_corners_connect_in_three_axes() -> None:
    values = np.zeros((4, 4, 4), np.uint8)
    values[1, 1, 1] = values[2, 2, 2] = 1
    assert describe_shapes(values, (1,))[0].num_parts == 1


def test_shape_facts_do_not_depend_on_the_other_labels() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 4, size=(6, 7, 8)).astype(np.uint8)
    for label in (1, 2, 3):
        alone = np.where(values == label, 255, 0).astype(np.uint8)
        assert describe_shapes(values, (label,)) == describe_shapes(alone, (255,))
