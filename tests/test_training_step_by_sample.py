"""The gradient of a step sample by sample is that of the batch."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.training.step_by_sample import compute_by_sample, is_by_sample


class TwoHeads(torch.nn.Module):
    """With a parameter that nothing needs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 3, 3), torch.nn.Conv2d(1, 2, 1)
        self.unused = torch.nn.Parameter(torch.ones(2))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.first(images), self.second(images)]


def pool(heads: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """A ratio over the whole batch: no mean of samples gives it."""
    shared = sum((head.sigmoid().sum() for head in heads), torch.zeros(()))
    return 1 - shared / (shared.detach() ** 0.5 + labels.sum())


def test_compute_by_sample_pooled_loss_has_the_gradient_of_the_batch() -> None:
    torch.manual_seed(0)
    network, images, labels = TwoHeads(), torch.randn(5, 1, 8, 8), torch.rand(5, 1, 8, 8)
    wanted_loss = pool(network(images), labels)
    wanted_loss.backward()
    wanted = [parameter.grad for parameter in network.parameters()]
    network.zero_grad(set_to_none=True)
    heads, loss = compute_by_sample(network, network, pool, (images, labels), [5], seed=1)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, wanted_loss)
    assert [head.shape for head in heads] == [(5, 3, 6, 6), (5, 2, 8, 8)]
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert network.unused.grad is None


def test_compute_by_sample_dropout_depends_on_seed_and_place_only() -> None:
    network, images = torch.nn.Dropout(0.5), torch.ones(4, 1, 8, 8)
    weight = torch.nn.Conv2d(1, 1, 1)
    model = torch.nn.Sequential(weight, network)

    def run(batch: torch.Tensor, seed: int) -> torch.Tensor:
        heads, _ = compute_by_sample(
            model,
            model,
            lambda heads, _: heads.sum(),  # type: ignore[union-attr]
            (batch, batch),
            [len(batch)],
            seed,
        )
        assert isinstance(heads, torch.Tensor)
        return heads.detach() != 0

    torch.manual_seed(3)
    first = run(images, 1)
    torch.manual_seed(4)
    assert torch.equal(run(images[:2], 1), first[:2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(run(images, 2), first)


@pytest.mark.parametrize(
    ("deterministic", "device", "with_batch_norm", "expected"),
    [
        (True, "cpu", False, True),
        (False, "cpu", False, False),
        (True, "cpu", True, False),
        (True, "cuda", False, False),
    ],
)
def test_is_by_sample_only_where_it_is_right(
    deterministic: bool, device: str, with_batch_norm: bool, expected: bool
) -> None:
    network = torch.nn.BatchNorm2d(1) if with_batch_norm else torch.nn.InstanceNorm2d(1)
    assert is_by_sample(network, torch.device(device), deterministic) is expected
