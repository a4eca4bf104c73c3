"""Tiles with mirrored borders, with a network whose answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from unet_pipeline.networks.overlap_tile import OverlapTileInferer, mirror_indices


def mean_of_neighbours(tile: torch.Tensor) -> torch.Tensor:
    """An unpadded network with a margin of 1: the mean of 3 x 3 pixels."""
    return torch.nn.functional.avg_pool2d(tile, 3, stride=1)


@given(height=st.integers(1, 40), width=st.integers(1, 40), tile=st.integers(4, 20), batch=st.integers(1, 5))
def test_overlap_tile_any_size_is_the_whole_image_with_a_mirrored_border(
    height: int, width: int, tile: int, batch: int
) -> None:
    image = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    rows, columns = mirror_indices(height, 1, height + 2), mirror_indices(width, 1, width + 2)
    expected = mean_of_neighbours(image[:, :, rows][..., columns])
    found = OverlapTileInferer((tile, tile), (1, 1), (2, 2), batch)(image, mean_of_neighbours)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_overlap_tile_begins_at_multiples_of_the_total_stride() -> None:
    seen = []

    def watch(tile: torch.Tensor) -> torch.Tensor:
        seen.append(int(tile[0, 0, 1, 0]))
        return tile[..., 1:-1, 1:-1]

    image = torch.arange(30.0).view(1, 1, 1, 30).transpose(2, 3)
    OverlapTileInferer((9, 3), (1, 1), (4, 1))(image, watch)  # 7 rows of output, so 4 a step
    assert seen == [0, 4, 8, 12, 16, 20, 24]


def test_overlap_tile_keeps_what_monai_knows_of_the_image() -> None:
    image = MetaTensor(torch.rand(1, 1, 8, 8), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    found = OverlapTileInferer((6, 6), (1, 1), (1, 1))(image, mean_of_neighbours)
    assert isinstance(found, MetaTensor)
    torch.testing.assert_close(found.affine, image.affine)


def test_overlap_tile_output_shorter_than_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a tile of \(20, 20\) gives \(12, 12\); expected at least \(16, 16\)"):
        OverlapTileInferer((20, 20), (4, 4), (16, 16))


@pytest.mark.parametrize(
    ("size", "before", "length", "expected"),
    [
        (3, 2, 7, [2, 1, 0, 1, 2, 1, 0]),
        (1, 2, 5, [0] * 5),
        (2, 3, 8, [1, 0, 1, 0, 1, 0, 1, 0]),
        (4, 0, 4, [0, 1, 2, 3]),
    ],
)
def test_mirror_indices_reflect_without_repeating_the_border(
    size: int, before: int, length: int, expected: list[int]
) -> None:
    assert mirror_indices(size, before, length).tolist() == expected
