"""A last convolution behind the blending gives the logits of one in front of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet

from unet_pipeline.networks.residual_encoder import SupervisedResidualEncoderUNet
from unet_pipeline.networks.unet import UNet2015
from unet_pipeline.prediction.deferred_head import DeferredHead, build_deferred_head, find_head, take_head_off
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.stopwatch import Stopwatch, TimedNetwork
from unet_pipeline.prediction.volumes import iterate_probabilities
from unet_pipeline.prediction.windows import Network

HEAD = "output_block.conv.conv"


def build_network(num_classes: int = 7, dims: int = 3, supervised: bool = True) -> DynUNet:
    torch.manual_seed(0)
    kernels, strides = [3] * 3, [1, 2, 2]
    return DynUNet(
        dims, 1, num_classes, kernels, strides, [2, 2], filters=[4, 8, 8], deep_supervision=supervised, deep_supr_num=1
    ).eval()


def split(network: torch.nn.Module, mirrored_axes: tuple[int, ...] = ()) -> DeferredHead:
    body, convolution = take_head_off(network, HEAD)
    return build_deferred_head(TimedNetwork(Mirrored(body, mirrored_axes), Stopwatch()), convolution)


class Twice(torch.nn.Module):
    """One convolution of one voxel that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv3d(2, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.convolution(self.convolution(x)[:, :2])
        return found


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_find_head_network_of_many_classes_ends_with_it(dims: int, supervised: bool) -> None:
    assert find_head(build_network(dims=dims, supervised=supervised), torch.rand(1, 1, *[8] * dims), 7) == HEAD


@pytest.mark.parametrize(
    ("network", "num_channels"),
    [
        (build_network(num_classes=4), 1),
        (build_network(num_classes=3), 1),
        (torch.nn.Sequential(torch.nn.Conv3d(1, 7, 1), torch.nn.Softmax(dim=1)), 1),
        (torch.nn.Sequential(torch.nn.Conv3d(1, 7, 1), torch.nn.ReLU(inplace=True)), 1),
        (torch.nn.Conv3d(1, 7, 3, padding=1), 1),
        (torch.nn.Conv3d(1, 7, 1, padding=1), 1),
        (torch.nn.Conv3d(7, 7, 1, groups=7), 7),
        (Twice(), 2),
    ],
    ids=["as many", "fewer", "not the last", "changed in place", "larger kernel", "padded", "in groups", "used twice"],
)
def test_find_head_without_gain_or_not_the_last_is_none(network: torch.nn.Module, num_channels: int) -> None:
    num_classes = {Twice: 4, DynUNet: getattr(network, "out_channels", 0)}.get(type(network), 7)
    assert find_head(network.eval(), torch.rand(1, num_channels, 8, 8, 8), num_classes) is None


@pytest.mark.parametrize(
    "build",
    [
        lambda: UNet2015(2, 1, 70, [4, 8], [[3, 3]] * 2, [[1, 1], [2, 2]], padded=True),
        lambda: SupervisedResidualEncoderUNet(
            2, 1, 70, [4, 8, 8], [[3, 3]] * 3, [[1, 1], [2, 2], [2, 2]], [1, 1, 1], num_supervised_heads=1
        ),
    ],
    ids=["unet2015", "resenc"],
)
def test_find_head_is_found_in_our_own_networks(build: Callable[[], torch.nn.Module]) -> None:
    network, images = build().eval(), torch.rand(1, 1, 16, 16)
    name = find_head(network, images, 70)
    assert name is not None
    body, convolution = take_head_off(network, name)
    torch.testing.assert_close(convolution(body(images)), network(images), rtol=0, atol=0)


def test_take_head_off_leaves_the_network_and_shares_its_weights() -> None:
    network, images = build_network(), torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = network(images)
        body, convolution = take_head_off(network, HEAD)
        assert body(images).shape == (1, 4, 16, 16, 16)
        torch.testing.assert_close(network(images), expected, rtol=0, atol=0)
        torch.testing.assert_close(convolution(body(images)), expected, rtol=0, atol=0)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        torch.testing.assert_close(convolution(body(images)), network(images), rtol=0, atol=0)


def blend(
    network: Network, deferred_heads: tuple[DeferredHead, ...], finish: Callable = lambda logits: logits
) -> torch.Tensor:
    image = torch.rand(1, 20, 18, 14, generator=torch.Generator().manual_seed(0))
    inferer = SlidingWindowInferer((16, 8, 8), 2, 0.5, mode="gaussian")
    networks = [network] * max(1, len(deferred_heads))
    with torch.inference_mode():
        blocks = iterate_probabilities(image, networks, inferer, 2, finish, deferred_heads)
        return torch.cat([block.clone() for block in blocks], dim=1)


@pytest.mark.parametrize("mirrored_axes", [(), (0, 2)])
@pytest.mark.parametrize("piece", [1, 1 << 24], ids=["row by row", "at once"])
def test_iterate_probabilities_deferred_head_gives_the_same_logits(
    monkeypatch: pytest.MonkeyPatch, mirrored_axes: tuple[int, ...], piece: int
) -> None:
    monkeypatch.setattr("unet_pipeline.prediction.volumes.PIECE_VALUES", piece)
    network = build_network()
    expected = blend(Mirrored(network, mirrored_axes), ())
    found = blend(network, (split(network, mirrored_axes),))
    assert found.shape == expected.shape == (7, 20, 18, 14)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_iterate_probabilities_deferred_heads_of_an_ensemble_are_averaged_behind_the_softmax() -> None:
    first, second = build_network(), build_network()
    with torch.no_grad():
        second.get_submodule(HEAD).weight.mul_(-3)  # type: ignore[operator, union-attr]
    found = blend(first, (split(first), split(second)), lambda logits: torch.softmax(logits, dim=0))
    expected = sum(torch.softmax(blend(network, ()), dim=0) for network in (first, second)) / 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_deferred_head_counts_as_the_network() -> None:
    network = build_network()
    body, convolution = take_head_off(network, HEAD)
    stopwatch = Stopwatch()
    head = build_deferred_head(TimedNetwork(body, stopwatch), convolution)
    assert (head.num_features, head.num_classes) == (4, 7)
    assert head(torch.rand(4, 2, 5, 6)).shape == (7, 2, 5, 6)
    assert stopwatch.seconds["network"] > 0
