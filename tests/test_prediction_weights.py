"""Weights that a network takes, and why it does not take others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unet_pipeline.errors import BundleError
from unet_pipeline.prediction.weights import load_weights, require_finite

CPU = torch.device("cpu")


def save(path: Path, **changes: torch.Tensor) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save({**torch.nn.Linear(2, 1).state_dict(), **changes}, path)
    return path


def test_load_weights_that_fit_are_taken(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 1)
    load_weights(network, save(tmp_path / "models" / "model.pt", bias=torch.tensor([7.0])), CPU)
    assert network.bias.item() == 7


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_load_weights_that_are_no_numbers_are_refused_and_counted(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "models" / "model.pt", bias=torch.tensor([value]))
    with pytest.raises(
        BundleError, match=r"models/model\.pt has 1 weights that are NaN or infinite, the first in bias"
    ):
        load_weights(torch.nn.Linear(2, 1), path, CPU)


def test_load_weights_of_another_network_or_damaged_do_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "models" / "model.pt", bias=torch.zeros(2))
    with pytest.raises(BundleError, match=r"does not fit the network of the bundle: .*size mismatch for bias"):
        load_weights(torch.nn.Linear(2, 1), path, CPU)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match="does not fit"):
        load_weights(torch.nn.Linear(2, 1), path, CPU)


def test_require_finite_whole_numbers_are_none_to_judge() -> None:
    require_finite({"num_batches_tracked": torch.tensor(3), "note": "text"}, "a", "")
