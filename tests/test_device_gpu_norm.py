"""Norms for channels side by side: the table of each sample, and the formula, with PyTorch's kernels for a GPU replaced by their own."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.device.gpu_norm import SideBySideNorm3d, as_tables, normalise_samples, replace_norms


def draw(shape: tuple[int, ...]) -> torch.Tensor:
    images = 3 + 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return images.contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)


def test_as_tables_voxels_by_channels_as_they_lie() -> None:
    images = draw((2, 3, 4, 5, 6))
    tables = as_tables(images)
    assert [table.shape for table in tables] == [(120, 3)] * 2
    assert all(table.is_contiguous() for table in tables)
    assert torch.equal(tables[1][0], images[1, :, 0, 0, 0])
    tables[1][7].zero_()
    assert not images[1, :, 0, 1, 1].any(), "a view"


@pytest.fixture
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch documents of both kernels, which a CPU does not have."""

    def measure(table: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        return table.mean(dim=0), (table.var(dim=0, correction=0) + eps).rsqrt()

    def apply(table, weight, bias, mean, inverse_deviation, eps, out):  # type: ignore[no-untyped-def]
        found = (table - mean) * inverse_deviation
        out.copy_(found if weight is None else found * weight + bias)

    monkeypatch.setattr(torch, "batch_norm_stats", measure)
    monkeypatch.setattr(torch, "batch_norm_elemt", apply)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("shape", [(3, 4, 6, 5, 7), (2, 3, 8, 9)])
@pytest.mark.parametrize("affine", [True, False])
def test_normalise_samples_is_pytorch_s_instance_norm(shape: tuple[int, ...], affine: bool) -> None:
    kind = torch.nn.InstanceNorm2d if len(shape) == 4 else torch.nn.InstanceNorm3d
    norm = kind(shape[1], affine=affine).eval()
    if affine:
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    images = draw(shape)
    with torch.inference_mode():
        found = normalise_samples(images, norm.weight, norm.bias, norm.eps)
        torch.testing.assert_close(found, norm(images), rtol=1e-4, atol=1e-5)
    assert found.stride() == images.stride()


def test_replace_norms_keeps_names_and_results_on_a_cpu() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.InstanceNorm3d(2, affine=True)).eval()
    images = draw((2, 1, 3, 4, 5))
    expected, names = network(images), list(network.state_dict())
    assert replace_norms(network) == 1
    assert isinstance(network[1], SideBySideNorm3d)
    assert list(network.state_dict()) == names
    assert torch.equal(network(images), expected)
