"""The networks as lists of convolutions, against the papers and against the networks themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import DynUNet
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import PlanError
from pipeline.planning.architecture import (
    NETWORKS,
    Shape,
    compute_forward_flop,
    compute_input_size,
    compute_output_size,
    compute_receptive_field,
    count_parameters,
    list_convolutions,
)
from pipeline.training.networks.attention_unet import SupervisedAttentionUNet
from pipeline.training.networks.residual_encoder import SupervisedResidualEncoderUNet
from pipeline.training.networks.unet import UNet3D2016, UNet2015
from pipeline.training.networks.unetplusplus import SupervisedUNetPlusPlus

HEADS = {"dynunet": 2, "resenc": 2, "attention_unet": 1, "unetplusplus": 2, "unet2015": 0, "unet3d2016": 0}


def build_shape(network: str, dims: int, padded: bool = True, normalised: bool = True, **changes: Any) -> Shape:
    """Four levels, 2 channels, 3 classes; in 3D the first axis is coarse."""
    kernels, strides = ((3,) * dims,) * 4, ((1,) * dims, *((2,) * dims,) * 3)
    if dims == 3:
        kernels, strides = ((1, 3, 3), *kernels[1:]), (strides[0], (1, 2, 2), *strides[2:])
    shape = Shape(
        network,
        in_channels=2,
        num_classes=3,
        filters=(4, 8, 16, 32),
        kernel_size=kernels,
        strides=strides,
        padded=padded,
        normalised=normalised,
        num_supervised_heads=HEADS[network],
        num_blocks=(1, 2, 3, 1) if network == "resenc" else (),
    )
    return dataclasses.replace(shape, **changes)


def build_network(shape: Shape) -> torch.nn.Module:
    """The network that the bundle's config would build for training."""
    dims, normalisation = len(shape.strides[0]), "instance" if shape.normalised else "none"
    layout = (dims, shape.in_channels, shape.num_classes, shape.filters, shape.kernel_size, shape.strides)
    if shape.network == "unet2015":
        return UNet2015(*layout, padded=shape.padded, normalisation=normalisation)
    if shape.network == "unet3d2016":
        return UNet3D2016(*layout, padded=shape.padded, normalisation=normalisation)
    if shape.network == "unetplusplus":
        return SupervisedUNetPlusPlus(*layout, normalisation=normalisation)
    if shape.network == "attention_unet":
        return SupervisedAttentionUNet(*layout, shape.num_supervised_heads, normalisation)
    if shape.network == "resenc":
        return SupervisedResidualEncoderUNet(*layout, shape.num_blocks, shape.num_supervised_heads, normalisation)
    return DynUNet(
        dims,
        shape.in_channels,
        shape.num_classes,
        shape.kernel_size,
        shape.strides,
        shape.strides[1:],
        list(shape.filters),
        deep_supervision=True,
        deep_supr_num=shape.num_supervised_heads,
    )


SHAPES = [
    pytest.param(build_shape(network, dims, padded), id=f"{network} {dims}D {'padded' if padded else 'unpadded'}")
    for network in NETWORKS
    for dims in (2, 3)
    for padded in ((True, False) if network in ("unet2015", "unet3d2016") else (True,))
]


def patch_of(shape: Shape) -> tuple[int, ...]:
    dims = len(shape.strides[0])
    return (32, 48, 64)[:dims] if shape.padded else compute_input_size((10,) * dims, shape)


# against the networks themselves


@pytest.mark.parametrize("shape", SHAPES)
def test_count_parameters_is_that_of_the_network(shape: Shape) -> None:
    with torch.device("meta"):
        network = build_network(shape)
    assert count_parameters(shape) == sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "dynunet" not in str(shape.id)])
def test_count_parameters_without_normalisation_is_that_of_the_network(shape: Shape) -> None:
    plain = dataclasses.replace(shape, normalised=False)
    with torch.device("meta"):
        network = build_network(plain)
    assert count_parameters(plain) == sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_compute_forward_flop_is_pytorchs_count(shape: Shape) -> None:
    patch = patch_of(shape)
    with torch.device("meta"):
        network = build_network(shape).train()
        image = torch.zeros(1, shape.in_channels, *patch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    assert compute_forward_flop(shape, patch) == counter.get_total_flops()


@pytest.mark.parametrize("network", NETWORKS)
def test_compute_receptive_field_is_where_the_gradient_reaches(network: str) -> None:
    """Equal weights make every path count; the pixels of the middle of the output look at the input."""
    shape = build_shape(network, 2, normalised=False, num_supervised_heads=HEADS[network])
    shape = dataclasses.replace(
        shape, in_channels=1, filters=shape.filters[:3], kernel_size=shape.kernel_size[:3], strides=shape.strides[:3]
    )
    shape = dataclasses.replace(shape, num_supervised_heads=1, num_blocks=shape.num_blocks[:3])
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
    return Shape(network, channels, classes, filters, kernels, strides, False, False, heads)


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
    assert count_parameters(shape) == 9_042_177
    plain = published("unet2015", 3, 1, (32, 64, 128, 256, 512), 2)
    assert count_parameters(plain) == 7_760_097


def test_compute_forward_flop_nnunet_hippocampus_is_the_measured_number() -> None:
    shape = Shape(
        "dynunet", 1, 3, (32, 64, 128, 256), ((3, 3, 3),) * 4, ((1, 1, 1), *((2, 2, 2),) * 3), num_supervised_heads=2
    )
    assert compute_forward_flop(shape, (40, 56, 40)) / 1e9 == pytest.approx(38.3, rel=0.02)


def test_compute_forward_flop_smallest_network_is_counted_by_hand() -> None:
    # 4 x 4 pixels, 1 channel, widths 1 and 1, kernels of 1 tap, 2 classes
    shape = Shape("dynunet", 1, 2, (1, 1), ((1, 1), (1, 1)), ((1, 1), (2, 2)))
    down = 16 * (1 + 1) + 4 * (1 + 1)
    up = 16 * 1 + 16 * (2 + 1)
    assert compute_forward_flop(shape, (4, 4)) == 2 * (down + up + 16 * 2)


# sizes without padding


@given(size=st.integers(100, 700))
def test_compute_output_size_odd_levels_are_refused_with_a_size_that_fits(size: int) -> None:
    shape = published("unet2015", 1, 2, (1, 1, 1, 1), 2)
    if (size - 92) % 8 == 0:
        assert compute_output_size((size, size), shape) == (size - 88, size - 88)
    else:
        with pytest.raises(PlanError, match="expected a size such as"):
            compute_output_size((size, size), shape)


def test_compute_output_size_too_small_an_input_is_refused() -> None:
    shape = published("unet2015", 1, 2, (1, 1, 1, 1), 2)
    with pytest.raises(
        PlanError, match="An input of 44x44 is too small for 4 levels without padding; expected at least 92x92"
    ):
        compute_output_size((44, 44), shape)
    with pytest.raises(PlanError, match="leaves no output"):
        compute_output_size((76, 76), shape)


@given(wanted=st.integers(1, 500), levels=st.integers(2, 5))
def test_compute_input_size_is_the_least_that_gives_the_output(wanted: int, levels: int) -> None:
    shape = published("unet2015", 1, 2, (1,) * levels, 2)
    size = compute_input_size((wanted, wanted), shape)
    factor = shape.total_stride[0]
    assert compute_output_size(size, shape)[0] >= wanted
    smaller = size[0] - factor
    if smaller > compute_input_size((1, 1), shape)[0]:
        assert compute_output_size((smaller, smaller), shape)[0] < wanted


def test_list_convolutions_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(PlanError, match="expected one of dynunet"):
        list_convolutions(dataclasses.replace(build_shape("dynunet", 2), network="vnet"), (32, 32))
