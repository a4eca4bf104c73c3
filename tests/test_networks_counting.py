"""Networks counted from their modules: against the papers, PyTorch's own count on the very patch, and gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from unet_pipeline.bundle.configs import build_configs
from unet_pipeline.errors import PlanError
from unet_pipeline.networks.counting import (
    build_network,
    compute_forward_flop,
    compute_receptive_field,
    count_parameters,
    list_convolutions,
)
from unet_pipeline.networks.shape import Shape
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.networks.unpadded import compute_input_size, compute_output_size
from unet_pipeline.planning.planner import plan_from_fingerprint


def build_shape(network: str, dims: int, padded: bool = True, normalisation: str = "instance", **changes: Any) -> Shape:
    """Four levels, 2 channels, 3 classes; in 3D the first axis is coarse."""
    kernels, strides = ((3,) * dims,) * 4, ((1,) * dims, *((2,) * dims,) * 3)
    if dims == 3:
        kernels, strides = ((1, 3, 3), *kernels[1:]), (strides[0], (1, 2, 2), *strides[2:])
    shape = Shape(
        network,
        num_channels=2,
        num_classes=3,
        filters=(4, 8, 16, 32),
        kernel_size=kernels,
        strides=strides,
        padded=padded,
        normalisation=normalisation,
        num_supervised_heads=NETWORKS[network].bound_heads(4)[1],
        num_blocks=NETWORKS[network].num_blocks[:4],
    )
    return dataclasses.replace(shape, **changes)


SHAPES = [
    pytest.param(build_shape(network, dims, padded), id=f"{network} {dims}D {'padded' if padded else 'unpadded'}")
    for network in NETWORKS
    for dims in (2, 3)
    for padded in ((True, False) if NETWORKS[network].convolutions_per_level else (True,))
]


def patch_of(shape: Shape) -> tuple[int, ...]:
    dims = len(shape.strides[0])
    return (32, 48, 64)[:dims] if shape.padded else compute_input_size((10,) * dims, shape)


# against the networks themselves


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normalisation", ["instance", "none"])
def test_list_convolutions_hold_all_parameters(shape: Shape, normalisation: str) -> None:
    shape = dataclasses.replace(shape, normalisation=normalisation)
    with torch.device("meta"):
        network = build_network(shape, for_training=True)
    assert count_parameters(shape) == sum(weight.numel() for weight in network.parameters())
    held = sum(convolution.num_parameters for convolution in list_convolutions(shape, patch_of(shape)))
    assert held == count_parameters(shape)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("config", ["train", "inference"])
def test_build_network_is_that_of_the_configs(make_fingerprint: Callable, network: str, config: str) -> None:
    """The module that is counted and the one that is trained have the same weights."""
    fingerprint = make_fingerprint(shapes=[(64,) * NETWORKS[network].spatial_dims[0]] * 3)
    plan = plan_from_fingerprint(fingerprint, "data", "demo", network=network).plan
    parser = ConfigParser(build_configs(plan)[config])
    target = str(parser["network_def#_target_"])
    parser["network_def#_target_"] = target.replace("unet_networks.", "unet_pipeline.networks.")
    with torch.device("meta"):
        built = build_network(plan.shape, for_training=config == "train")
        configured = parser.get_parsed_content("network_def")
    assert type(built) is type(configured)
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (built, configured)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_compute_forward_flop_is_pytorchs_count(shape: Shape) -> None:
    patch = patch_of(shape)
    with torch.device("meta"):
        network = build_network(shape, for_training=True).train()
        image = torch.zeros(1, shape.num_channels, *patch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    assert compute_forward_flop(shape, patch) == counter.get_total_flops()


@pytest.mark.parametrize("network", NETWORKS)
def test_compute_receptive_field_is_where_the_gradient_reaches(network: str) -> None:
    """Equal weights make every path count; the pixels of the middle of the output look at the input."""
    shape = build_shape(network, 2, normalisation="none")
    shape = dataclasses.replace(
        shape, num_channels=1, filters=shape.filters[:3], kernel_size=shape.kernel_size[:3], strides=shape.strides[:3]
    )
    shape = dataclasses.replace(
        shape, num_supervised_heads=NETWORKS[network].bound_heads(3)[1], num_blocks=shape.num_blocks[:3]
    )
    field = compute_receptive_field(shape)[0]
    size = -(-(2 * field + 8) // 4) * 4
    module = build_network(shape).eval().double()
    for weight in module.parameters():
        torch.nn.init.constant_(weight, 0.01)
    for layer in module.modules():
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = lambda x: x  # it looks at the whole image
    reach = 0
    for offset in range(4):  # the phase of the output pixel decides which side the pooling leans to
        image = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        # sums instead of maxima, so that every pixel counts
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                torch.nn.MaxPool2d, "forward", lambda pool, x: torch.nn.functional.avg_pool2d(x, pool.kernel_size)
            )
            logits = module(image)
        logits[0, 0, size // 2 + offset, size // 2].backward()
        touched = image.grad[0, 0].abs().sum(dim=1).nonzero()
        reach = max(reach, int(touched.max() - touched.min()) + 1)
    assert abs(reach - field) <= 4  # the total stride


# against the papers


def published(network: str, channels: int, classes: int, filters: tuple, dims: int, heads: int = 0) -> Shape:
    levels = len(filters)
    kernels, strides = ((3,) * dims,) * levels, ((1,) * dims, *((2,) * dims,) * (levels - 1))
    return Shape(network, channels, classes, filters, kernels, strides, False, "none", heads)


def test_list_convolutions_unet2015_has_the_papers_parameters_and_sizes() -> None:
    shape = published("unet2015", 1, 2, (64, 128, 256, 512, 1024), 2)
    assert count_parameters(shape) == 31_030_658
    assert compute_output_size((572, 572), shape) == (388, 388)
    sizes = [convolution.size[0] for convolution in list_convolutions(shape, (572, 572)) if not convolution.transposed]
    # figure 1 of the paper
    assert sizes == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28, 54, 52, 102, 100, 198, 196, 390, 388, 388]


def test_list_convolutions_unet3d2016_has_the_papers_parameters_and_sizes() -> None:
    shape = published("unet3d2016", 3, 3, (64, 128, 256, 512), 3)
    assert count_parameters(shape) == 19_069_955
    assert compute_output_size((132, 132, 116), shape) == (44, 44, 28)


def test_count_parameters_unetplusplus_is_the_papers() -> None:
    shape = dataclasses.replace(published("unetplusplus", 3, 1, (32, 64, 128, 256, 512), 2), padded=True)
    assert count_parameters(dataclasses.replace(shape, num_supervised_heads=3)) == 9_042_177 + 3 * 33
    plain = published("unet2015", 3, 1, (32, 64, 128, 256, 512), 2)
    assert count_parameters(plain) == 7_760_097


def test_compute_forward_flop_nnunet_hippocampus_is_the_measured_number() -> None:
    shape = Shape(
        "dynunet", 1, 3, (32, 64, 128, 256), ((3, 3, 3),) * 4, ((1, 1, 1), *((2, 2, 2),) * 3), num_supervised_heads=2
    )
    assert compute_forward_flop(shape, (40, 56, 40)) / 1e9 == pytest.approx(38.3, rel=0.02)


def test_compute_forward_flop_smallest_network_is_counted_by_hand() -> None:
    # 4 x 4 pixels, 1 channel, widths 1 and 1, kernels of 1 tap, 2 classes
    shape = Shape("unet2015", 1, 2, (1, 1), ((1, 1), (1, 1)), ((1, 1), (2, 2)))
    down = 16 * (1 + 1) + 4 * (1 + 1)
    up = 16 * 1 + 16 * (2 + 1)
    assert compute_forward_flop(shape, (4, 4)) == 2 * (down + up + 16 * 2)


def test_list_convolutions_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(PlanError, match="Unknown network 'vnet'"):
        list_convolutions(dataclasses.replace(build_shape("dynunet", 2), network="vnet"), (32, 32))
