"""Attention U-Net: its gates, its heads, any size."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.networks.attention_unet import AttentionUNet, GridAttentionGate, SupervisedAttentionUNet


def build(kind: type[AttentionUNet] = AttentionUNet, dims: int = 2, heads: int = 1) -> AttentionUNet:
    torch.manual_seed(0)
    kernels, strides = ((3,) * dims,) * 4, ((1,) * dims, *((2,) * dims,) * 3)
    return kind(dims, 2, 3, (4, 8, 12, 16), kernels, strides, num_supervised_heads=heads, normalisation="instance")


@pytest.mark.parametrize("dims", [2, 3])
def test_gate_coefficients_are_shares_on_the_grid_of_the_skip(dims: int) -> None:
    torch.manual_seed(0)
    gate = GridAttentionGate(dims, 4, 8, (2,) * dims, "none")
    skip, signal = torch.randn(2, 4, *(12,) * dims), torch.randn(2, 8, *(6,) * dims)
    coefficients = gate.compute_coefficients(skip, signal)
    assert coefficients.shape == (2, 1, *(12,) * dims)
    assert 0 <= coefficients.min() < coefficients.max() <= 1


def test_gate_coefficients_are_those_of_the_equation() -> None:
    """sigmoid(psi . relu(W_x x + W_g g + b_g) + b_psi), equation 1 of the paper, on the coarse grid."""
    gate = GridAttentionGate(2, 1, 1, (2, 2), "none")
    with torch.no_grad():
        gate.skip_projection.weight.fill_(0.25)  # the mean of 2 x 2
        gate.signal_projection.weight.fill_(2.0)
        gate.signal_projection.bias.fill_(-1.0)
        gate.coefficient.weight.fill_(1.0)
        gate.coefficient.bias.fill_(0.5)
    skip, signal = torch.full((1, 1, 4, 4), 3.0), torch.full((1, 1, 2, 2), 1.0)
    expected = torch.sigmoid(torch.tensor(3.0 + 2.0 - 1.0 + 0.5))
    torch.testing.assert_close(gate.compute_coefficients(skip, signal), expected.expand(1, 1, 4, 4))


def test_gate_that_is_closed_lets_nothing_pass() -> None:
    gate = GridAttentionGate(2, 4, 8, (2, 2), "none")
    with torch.no_grad():
        gate.coefficient.bias.fill_(-200.0)
        gate.output[0].bias.zero_()
    assert gate(torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)).abs().max() == 0


def test_attention_unet_every_skip_but_the_first_has_a_gate() -> None:
    network = build()
    assert [isinstance(level.gate, GridAttentionGate) for level in network.decoder] == [True, True, False]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("heads", [0, 2])
def test_attention_unet_training_gives_the_heads_at_their_own_levels(dims: int, heads: int) -> None:
    network = build(SupervisedAttentionUNet, dims, heads).train()
    found = network(torch.rand((1, 2, *(16,) * dims)))
    assert [head.shape[2] for head in found] == [16, 8, 4][: heads + 1]
    assert torch.equal(
        network.eval()(torch.ones((1, 2, *(16,) * dims))),
        build(dims=dims, heads=heads).eval()(torch.ones((1, 2, *(16,) * dims))),
    )


def test_attention_unet_every_parameter_gets_a_gradient() -> None:
    network = build(SupervisedAttentionUNet).train()
    sum(head.square().mean() for head in network(torch.rand(2, 2, 32, 32))).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(("dims", "size"), [(2, (17, 40)), (3, (16, 9, 21))])
def test_attention_unet_any_size_comes_back_and_torchscript_gives_the_same(dims: int, size: tuple) -> None:
    network = build(dims=dims).eval()
    image = torch.rand(1, 2, *size)
    logits = network(image)
    assert logits.shape == (1, 3, *size)
    assert torch.equal(torch.jit.script(network)(image), logits)
