"""U-Net++: the paper's number, its heads, and pruning."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.networks.unetplusplus import SupervisedUNetPlusPlus, UNetPlusPlus

PAPER = {"kernel_size": ((3, 3),) * 5, "strides": ((1, 1), *((2, 2),) * 4)}


def build(kind: type[UNetPlusPlus] = UNetPlusPlus, dims: int = 2, **options: object) -> UNetPlusPlus:
    torch.manual_seed(0)
    layout = {"kernel_size": ((3,) * dims,) * 4, "strides": ((1,) * dims, *((2,) * dims,) * 3)}
    return kind(dims, 1, 3, (4, 8, 12, 16), **layout, **options)


def test_unetplusplus_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        network = UNetPlusPlus(2, 3, 1, (32, 64, 128, 256, 512), supervised=False, **PAPER)
        supervised = UNetPlusPlus(2, 3, 1, (32, 64, 128, 256, 512), **PAPER)
    assert sum(weight.numel() for weight in network.parameters()) == 9_042_177
    assert sum(weight.numel() for weight in supervised.parameters()) == 9_042_177 + 3 * 33


@pytest.mark.parametrize("dims", [2, 3])
def test_unetplusplus_training_gives_every_head_at_full_resolution(dims: int) -> None:
    network = build(SupervisedUNetPlusPlus, dims).train()
    heads = network(torch.rand((2, 1, *(16,) * dims)))
    assert [head.shape for head in heads] == [(2, 3, *(16,) * dims)] * 3


def test_unetplusplus_every_parameter_gets_a_gradient() -> None:
    """What several processes need; MONAI's class leaves three heads without."""
    network = build(SupervisedUNetPlusPlus).train()
    sum(head.square().mean() for head in network(torch.rand(1, 1, 16, 16))).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_unetplusplus_prediction_is_one_tensor_with_the_mean_probability_of_the_heads() -> None:
    network = build(SupervisedUNetPlusPlus).eval()
    image = torch.rand(1, 1, 16, 24)
    heads = network.train()(image)
    expected = torch.stack([head.softmax(1) for head in heads]).mean(0)
    torch.testing.assert_close(network.eval()(image).softmax(1), expected)


@pytest.mark.parametrize("head", [1, 2, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_unetplusplus_pruned_network_equals_its_head(head: int, dims: int) -> None:
    full, pruned = build(SupervisedUNetPlusPlus, dims).train(), build(dims=dims, pruned_to=head).eval()
    pruned.load_state_dict(full.state_dict(), strict=True)
    image = torch.rand((1, 1, *(24,) * dims))
    last_first = full(image)
    assert torch.equal(pruned(image), last_first[3 - head])


def test_unetplusplus_pruned_network_computes_less() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for head in (1, 2, 3):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            build(pruned_to=head).eval()(torch.rand(1, 1, 32, 32))
        counts.append(counter.get_total_flops())
    assert counts[0] < 0.5 * counts[1] < 0.5 * counts[2]


@pytest.mark.parametrize("size", [(7, 9), (33, 8)])
@pytest.mark.parametrize("pruned_to", [None, 1, 3])
def test_unetplusplus_any_size_comes_back_and_torchscript_gives_the_same(size: tuple, pruned_to: int | None) -> None:
    network = build(pruned_to=pruned_to).eval()
    image = torch.rand(1, 1, *size)
    logits = network(image)
    assert logits.shape == (1, 3, *size)
    assert torch.equal(torch.jit.script(network)(image), logits)


@pytest.mark.parametrize("head", [0, 4])
def test_unetplusplus_head_that_does_not_exist_is_refused(head: int) -> None:
    with pytest.raises(ValueError, match=f"pruned_to is {head}; expected a head from 1 to 3"):
        build(pruned_to=head)
