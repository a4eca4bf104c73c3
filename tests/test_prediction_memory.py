"""Memory of a prediction: a window's from the network's tensors, a case's from its sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unet_pipeline.prediction import memory
from unet_pipeline.prediction.memory import PIECE_VALUES, CaseSize, measure_window
from unet_pipeline.prediction.windows import place_windows

MIB = 2**20
SIZE = CaseSize(1, 3, 3, (160, 160, 160), 2, (128, 128, 192), True)
WINDOWS = place_windows(SIZE.network_shape, (64, 64, 64), (0.5, 0.5, 0.5))


def test_measure_window_two_convolutions_count_their_tensors() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 1))
    window = 64 * 32 * 4  # bytes of one channel
    # with the input (1): after the last convolution its input (8) and output (2), and both once more rearranged
    assert measure_window(network, 1, (64, 32)) == window * (1 + 2 * 8 + 2 * 2)


def test_measure_window_skip_connection_is_held() -> None:
    class Skip(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = torch.nn.MaxPool3d(2), torch.nn.Upsample(scale_factor=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, self.up(self.down(x))], dim=1)

    window = 16**3 * 4
    assert measure_window(Skip(), 1, (16, 16, 16)) == window * (1 + 1 + 2)


def test_measure_window_leaves_the_network_as_it_is() -> None:
    network = torch.nn.Conv2d(1, 2, 3)
    before = network.weight.clone()
    measure_window(network, 1, (8, 8))
    assert torch.equal(network.weight, before)


def test_estimate_blending_rows_do_not_grow_with_the_depth() -> None:
    flat = replace(SIZE, interpolates=False)
    deep = replace(flat, network_shape=(1280, 128, 192), native_shape=(1600, 160, 160))
    windows = place_windows(deep.network_shape, (64, 64, 64), (0.5, 0.5, 0.5))
    grown = memory.estimate_blending(deep, windows, 0, 1) - memory.estimate_blending(flat, WINDOWS, 0, 1)
    image = (1280 - 128) * 128 * 192 * 4
    assert grown == image
    assert memory.estimate_whole(deep, 0, 1) > 9 * memory.estimate_whole(flat, 0, 1)


def test_estimate_blending_known_parts() -> None:
    plane = 128 * 192 * 4
    rows = (3 + 1) * 64 * plane
    assert memory.estimate_blending(SIZE, WINDOWS, 500 * MIB, 2) == 128 * plane + rows + 1000 * MIB
    one_window_a_row = place_windows((128, 64, 64), (64, 64, 64), (0.5, 0.5, 0.5))
    small = replace(SIZE, network_shape=(128, 64, 64))
    assert memory.estimate_blending(small, one_window_a_row, 500 * MIB, 8) < 600 * MIB, "no batch over two rows"


@pytest.mark.parametrize("estimate", [memory.estimate_reading, memory.estimate_writing, memory.estimate_held])
def test_estimates_grow_with_the_image(estimate: object) -> None:
    larger = replace(SIZE, native_shape=(320, 160, 160), network_shape=(256, 128, 192))
    assert estimate(larger) > 1.5 * estimate(SIZE)  # type: ignore[operator]


@pytest.mark.parametrize("interpolates", [True, False])
def test_estimate_blending_few_features_hold_less_and_their_classes_are_made_by_a_convolution(
    interpolates: bool,
) -> None:
    many = replace(SIZE, num_classes=60, num_blended=60, interpolates=interpolates)
    few = replace(many, num_blended=16)
    voxels = 64 * 128 * 192  # of one window's depth
    piece = 60 * 128 * 192 * max(1, PIECE_VALUES // (60 * 128 * 192))
    less, more = (memory.estimate_blending(size, WINDOWS, 0, 1) for size in (few, many))
    assert more - less == pytest.approx(4 * ((60 - 16) * voxels - 2 * piece), rel=0.05)


def test_estimate_writing_probabilities_are_held_twice() -> None:
    more = memory.estimate_writing(replace(SIZE, writes_probabilities=True)) - memory.estimate_writing(SIZE)
    assert more == 2 * 3 * 160**3 * 4
