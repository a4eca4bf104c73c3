"""U-Net 2015 and 3D U-Net 2016: the papers' numbers, and the same result however an image is cut."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.networks.blocks import crop_to, pad_to_multiple
from unet_pipeline.networks.overlap_tile import OverlapTileInferer
from unet_pipeline.networks.unet import UNet3D2016, UNet2015


def count(network: torch.nn.Module, without: str = "-") -> int:
    return sum(weight.numel() for name, weight in network.named_parameters() if without not in name)


def layout(dims: int, levels: int) -> dict:
    return {"kernel_size": ((3,) * dims,) * levels, "strides": ((1,) * dims, *((2,) * dims,) * (levels - 1))}


def build_2d(padded: bool = False, levels: int = 3, **options: object) -> UNet2015:
    torch.manual_seed(0)
    return UNet2015(2, 2, 3, (4, 8, 16, 32, 64)[:levels], padded=padded, **layout(2, levels), **options).double().eval()


# the papers


def test_unet2015_has_the_papers_parameters_and_output() -> None:
    with torch.device("meta"):
        network = UNet2015(2, 1, 2, (64, 128, 256, 512, 1024), **layout(2, 5))
        logits = network(torch.zeros(1, 1, 572, 572))
    assert count(network) == 31_030_658
    assert logits.shape == (1, 2, 388, 388)


def test_unet3d2016_has_the_papers_parameters_and_output() -> None:
    with torch.device("meta"):
        network = UNet3D2016(3, 3, 3, (64, 128, 256, 512), **layout(3, 4))
        logits = network(torch.zeros(1, 3, 132, 132, 116))
    assert count(network, without="normalisation") == 19_069_955
    assert logits.shape == (1, 3, 44, 44, 28)


def test_unet2015_initial_weights_have_the_variance_of_he() -> None:
    """Equation: variance 2 / N, where N is the number of a neuron's inputs."""
    torch.manual_seed(0)
    network = UNet2015(2, 1, 2, (64, 128, 256), **layout(2, 3))
    weights = [module.weight for module in network.modules() if isinstance(module, torch.nn.Conv2d)][1:-1]
    for weight in weights:
        fan_in = weight[0].numel()
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)


def test_unet2015_drops_at_the_end_of_the_contracting_path_only() -> None:
    network = build_2d(levels=4)
    levels = [
        index for index, block in enumerate(network.encoder) for part in block if isinstance(part, torch.nn.Dropout)
    ]
    assert levels == [2, 3]
    image = torch.rand(1, 2, 140, 140, dtype=torch.float64)
    assert torch.equal(network(image), network(image))
    assert not torch.equal(network.train()(image), network(image))


def test_unet3d2016_channels_double_before_each_pooling() -> None:
    network = UNet3D2016(3, 1, 2, (64, 128, 256, 512), **layout(3, 4))
    widths = [
        [module.out_channels for module in block.modules() if isinstance(module, torch.nn.Conv3d)]
        for block in network.encoder
    ]
    assert widths == [[32, 64], [64, 128], [128, 256], [256, 512]]


def test_unet3d2016_normalises_before_the_activation() -> None:
    network = UNet3D2016(3, 1, 2, (4, 8), **layout(3, 2))
    kinds = [type(layer).__name__ for layer in network.encoder[0][0][0].children()]
    assert kinds == ["Conv3d", "BatchNorm3d", "ReLU"]
    up = network.decoder[0].upsampling
    assert up.bias is None
    assert (up.in_channels, up.out_channels) == (8, 8)


# overlap-tile


@pytest.mark.parametrize("size", [(33, 47), (100, 52), (5, 90)])
@pytest.mark.parametrize("tile", [60, 76, 92])
def test_unet2015_tiles_give_the_prediction_of_the_whole_image(size: tuple[int, int], tile: int) -> None:
    network = build_2d()
    image = torch.rand(2, 2, *size, dtype=torch.float64)
    tiled = OverlapTileInferer((tile, tile), (20, 20), (4, 4), batch_size=3)(image, network)
    whole = OverlapTileInferer((140, 140), (20, 20), (4, 4))(image, network)
    assert tiled.shape == (2, 3, *size)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)
    assert torch.equal(tiled.argmax(1), whole.argmax(1))


def test_unet2015_away_from_the_border_the_mirrored_image_does_not_matter() -> None:
    network = build_2d()
    image = torch.rand(1, 2, 100, 100, dtype=torch.float64)
    tiled = OverlapTileInferer((60, 60), (20, 20), (4, 4))(image, network)
    torch.testing.assert_close(tiled[..., 20:-20, 20:-20], network(image), rtol=0, atol=1e-12)


def test_unet3d2016_tiles_give_the_prediction_of_the_whole_image() -> None:
    torch.manual_seed(0)
    network = UNet3D2016(3, 1, 2, (2, 4, 8), **layout(3, 3)).double()
    network(torch.rand(2, 1, 44, 44, 44, dtype=torch.float64))  # running statistics of its own
    network.eval()
    image = torch.rand(1, 1, 18, 9, 13, dtype=torch.float64)
    tiled = OverlapTileInferer((48, 48, 52), (20, 20, 20), (4, 4, 4))(image, network)
    whole = OverlapTileInferer((60, 60, 60), (20, 20, 20), (4, 4, 4))(image, network)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


# with padding


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (5, 90), (1, 1)])
def test_unet2015_padded_any_size_comes_back(size: tuple[int, int]) -> None:
    assert build_2d(padded=True)(torch.rand(1, 2, *size, dtype=torch.float64)).shape == (1, 3, *size)


def test_unet2015_padded_has_the_same_weights_as_published() -> None:
    published, padded = build_2d(), build_2d(padded=True)
    padded.load_state_dict(published.state_dict(), strict=True)
    image = torch.rand(1, 2, 140, 140, dtype=torch.float64)
    logits = published(image)  # the margin is 20 on each side
    # two pixels less, so that the second pooling falls on the same pixels: the unpadded one has lost 2 and 4 there
    same = padded(image[..., 2:, 2:])
    torch.testing.assert_close(same[..., 48:88, 48:88], logits[..., 30:70, 30:70], rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("classes", [2, 9])
def test_unet_any_number_of_channels_and_classes(channels: int, classes: int) -> None:
    network = UNet3D2016(3, channels, classes, (4, 8, 16), padded=True, **layout(3, 3)).eval()
    assert network(torch.rand(1, channels, 10, 12, 9)).shape == (1, classes, 10, 12, 9)


@pytest.mark.parametrize("padded", [True, False])
def test_unet_torchscript_gives_the_same(padded: bool) -> None:
    network = build_2d(padded)
    image = torch.rand(1, 2, 60, 76, dtype=torch.float64)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=0, atol=0)


# blocks


def test_crop_to_keeps_the_centre() -> None:
    line = torch.arange(9.0).view(1, 1, 9, 1)
    assert crop_to(line, torch.zeros(1, 1, 5, 1)).flatten().tolist() == [2, 3, 4, 5, 6]


def test_pad_to_multiple_repeats_the_last_voxels() -> None:
    rows = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(rows, [2, 4])
    assert padded[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5]]
