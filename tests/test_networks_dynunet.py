"""The network with heads at their own resolutions is MONAI's DynUNet in everything else."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet

from unet_pipeline.networks.dynunet import DeepSupervisionDynUNet

SHAPES = {2: (2, 3, 32, 16), 3: (1, 3, 16, 16, 8)}


def build(kind: type[DynUNet], dims: int) -> DynUNet:
    torch.manual_seed(0)
    return kind(
        dims, 3, 4, [3] * 4, [1, 2, 2, 2], [2, 2, 2], filters=[4, 8, 8, 8], deep_supervision=True, deep_supr_num=2
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_deep_supervision_dynunet_evaluation_gives_what_monai_gives(dims: int) -> None:
    ours, theirs = build(DeepSupervisionDynUNet, dims).eval(), build(DynUNet, dims).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(SHAPES[dims])
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_deep_supervision_dynunet_training_gives_heads_at_their_resolutions(dims: int) -> None:
    heads = build(DeepSupervisionDynUNet, dims).train()(torch.randn(SHAPES[dims]))
    batch, _, *spatial = SHAPES[dims]
    assert [tuple(head.shape) for head in heads] == [
        (batch, 4, *(size // 2**level for size in spatial)) for level in range(3)
    ]


def test_deep_supervision_dynunet_every_parameter_gets_a_gradient() -> None:
    network = build(DeepSupervisionDynUNet, 2).train()
    sum(head.square().mean() for head in network(torch.randn(SHAPES[2]))).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
