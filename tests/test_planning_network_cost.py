"""Operations of the planned network, against published and independent counts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from monai.networks.nets import DynUNet
from torch.utils.flop_counter import FlopCounterMode

from pipeline.planning.network_cost import compute_forward_flop


@dataclass(frozen=True)
class Shape:
    """One network and patch."""

    patch_size: tuple[int, ...]
    filters: tuple[int, ...]
    kernel_size: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    in_channels: int
    num_classes: int

    def compute(self) -> float:
        return compute_forward_flop(
            self.patch_size, self.filters, self.kernel_size, self.strides, self.in_channels, self.num_classes
        )


HIPPOCAMPUS = Shape((40, 56, 40), (32, 64, 128, 256), ((3, 3, 3),) * 4, ((1, 1, 1), *[(2, 2, 2)] * 3), 1, 3)
PICTURE = Shape((96, 64), (8, 16, 32, 64), ((3, 3),) * 4, ((1, 1), (2, 2), (2, 1), (2, 2)), 3, 2)
THICK_SLICES = Shape(
    (32, 32, 8), (8, 16, 32), ((3, 3, 1), (3, 3, 1), (3, 3, 3)), ((1, 1, 1), (2, 2, 1), (2, 2, 2)), 1, 2
)


def count_forward_flop(shape: Shape) -> int:
    """PyTorch's count for MONAI's network; on the meta device nothing is computed."""
    with torch.device("meta"):
        network = DynUNet(
            spatial_dims=len(shape.patch_size),
            in_channels=shape.in_channels,
            out_channels=shape.num_classes,
            kernel_size=shape.kernel_size,
            strides=shape.strides,
            upsample_kernel_size=shape.strides[1:],
            filters=shape.filters,
        ).eval()
        patch = torch.zeros(1, shape.in_channels, *shape.patch_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(patch)
    return counter.get_total_flops()


def test_compute_forward_flop_nnunet_hippocampus_is_the_published_number() -> None:
    assert HIPPOCAMPUS.compute() / 1e9 == pytest.approx(38.3, rel=0.02)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(HIPPOCAMPUS, id="hippocampus"),
        pytest.param(PICTURE, id="picture"),
        pytest.param(THICK_SLICES, id="thick slices"),
    ],
)
def test_compute_forward_flop_equals_an_independent_count(shape: Shape) -> None:
    assert shape.compute() == pytest.approx(count_forward_flop(shape), rel=0.02)


def test_compute_forward_flop_smallest_network_is_counted_by_hand() -> None:
    # 4 x 4 pixels, 1 channel, widths 1 and 1, kernels of 1 tap, 2 classes
    down = 16 * (1 + 1) + 4 * (1 + 1)
    up = 16 * 1 + 16 * (2 + 1)
    output = 16 * 2
    flop = compute_forward_flop((4, 4), (1, 1), ((1, 1), (1, 1)), ((1, 1), (2, 2)), in_channels=1, num_classes=2)
    assert flop == 2 * (down + up + output)


def test_compute_forward_flop_doubled_patch_axis_doubles_it() -> None:
    doubled = Shape((80, 56, 40), *list(vars(HIPPOCAMPUS).values())[1:])
    assert doubled.compute() == pytest.approx(2 * HIPPOCAMPUS.compute())


def test_compute_forward_flop_more_classes_cost_the_output_layer_only() -> None:
    more = Shape(*list(vars(HIPPOCAMPUS).values())[:-1], num_classes=5)
    assert more.compute() - HIPPOCAMPUS.compute() == 2 * 40 * 56 * 40 * 32 * 2
