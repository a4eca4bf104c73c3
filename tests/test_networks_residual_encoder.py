"""The residual encoder: its blocks, its heads, any size."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.networks.residual_encoder import ResidualBlock, ResidualEncoderUNet, SupervisedResidualEncoderUNet


def build(kind: type[ResidualEncoderUNet] = ResidualEncoderUNet, dims: int = 2) -> ResidualEncoderUNet:
    torch.manual_seed(0)
    kernels, strides = ((3,) * dims,) * 4, ((1,) * dims, *((2,) * dims,) * 3)
    return kind(dims, 2, 3, (4, 8, 12, 16), kernels, strides, num_blocks=(1, 2, 3, 1), num_supervised_heads=2)


def test_residual_block_with_convolutions_of_zero_passes_its_input() -> None:
    block = ResidualBlock(2, 4, 4, (3, 3), (1, 1), "none")
    for weight in block.parameters():
        torch.nn.init.zeros_(weight)
    image = torch.rand(1, 4, 6, 6)
    assert torch.equal(block(image), image)


def test_residual_block_shortcut_of_a_stride_is_the_mean() -> None:
    block = ResidualBlock(2, 4, 4, (3, 3), (2, 2), "none")
    for weight in block.parameters():
        torch.nn.init.zeros_(weight)
    image = torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(block(image), torch.nn.functional.avg_pool2d(image, 2))


def test_residual_encoder_has_so_many_blocks_per_level() -> None:
    network = build()
    found = [sum(isinstance(part, ResidualBlock) for part in level) for level in network.encoder]
    assert found == [1, 2, 3, 1]


@pytest.mark.parametrize("dims", [2, 3])
def test_residual_encoder_training_gives_the_heads_at_their_own_levels(dims: int) -> None:
    heads = build(SupervisedResidualEncoderUNet, dims).train()(torch.rand((2, 2, *(16,) * dims)))
    assert [head.shape for head in heads] == [(2, 3, *(size,) * dims) for size in (16, 8, 4)]


def test_residual_encoder_every_parameter_gets_a_gradient() -> None:
    network = build(SupervisedResidualEncoderUNet).train()
    sum(head.square().mean() for head in network(torch.rand(2, 2, 32, 32))).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(("dims", "size"), [(2, (17, 40)), (3, (16, 9, 21))])
def test_residual_encoder_any_size_comes_back_and_torchscript_gives_the_same(dims: int, size: tuple) -> None:
    network = build(dims=dims).eval()
    image = torch.rand(1, 2, *size)
    logits = network(image)
    assert logits.shape == (1, 3, *size)
    assert torch.equal(torch.jit.script(network)(image), logits)
