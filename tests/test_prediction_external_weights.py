"""Weights of external bundles: read without running code, and sure to be the network's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.prediction.external_weights import find_weights, load_state, read_state


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    (tmp_path / "zoo" / "models").mkdir(parents=True)
    return BundleFolder(tmp_path / "zoo")


def build_network() -> torch.nn.Module:
    return torch.nn.Conv3d(1, 2, 1)


def save(folder: BundleFolder, content: Any) -> Path:
    torch.save(content, folder.weights)
    return folder.weights


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}])
def test_read_state_alone_or_under_its_key(folder: BundleFolder, wrap: Any) -> None:
    state = build_network().state_dict()
    found = read_state(save(folder, wrap(state)), "model", folder)
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), 3, "text", None, {}, {"model": None}, {"optimizer": {}}])
def test_read_state_something_else_is_named(folder: BundleFolder, content: Any) -> None:
    with pytest.raises(
        BundleError, match=r"model\.pt of zoo holds no weights; expected a state_dict, or one under 'model'"
    ):
        read_state(save(folder, content), "model", folder)


def test_read_state_program_is_refused_without_advice_to_run_it(folder: BundleFolder) -> None:
    save(folder, build_network())
    with pytest.raises(BundleError, match="it holds more than numbers") as caught:
        read_state(folder.weights, "model", folder)
    torch.jit.script(build_network()).save(str(folder.weights))
    with pytest.raises(BundleError, match="it is TorchScript") as of_script:
        read_state(folder.weights, "model", folder)
    for one in (caught, of_script):
        assert "weights_only" not in str(one.value)
        assert "Get the bundle again." in str(one.value)


def test_read_state_infinite_weights_are_counted(folder: BundleFolder) -> None:
    state = build_network().state_dict()
    state["bias"][0] = float("inf")
    with pytest.raises(BundleError, match="has 1 weights that are NaN or infinite, the first in bias"):
        read_state(save(folder, state), "model", folder)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.int32])
def test_load_state_numbers_of_another_kind_are_refused(folder: BundleFolder, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) for name, value in build_network().state_dict().items()}
    with pytest.raises(BundleError, match=f"weight holds {str(dtype).removeprefix('torch.')}; expected real numbers"):
        load_state(build_network(), state, folder.weights, True, folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_load_state_real_numbers_of_any_size_are_taken(folder: BundleFolder, dtype: torch.dtype) -> None:
    network, other = build_network(), build_network()
    state = {name: value.to(dtype) for name, value in other.state_dict().items()}
    load_state(network, state, folder.weights, True, folder)
    assert torch.allclose(network.weight, other.weight, atol=1e-3)


def test_load_state_never_leaves_parameters_as_they_were_drawn(folder: BundleFolder) -> None:
    state = build_network().state_dict()
    renamed = {f"module.{name}": value for name, value in state.items()}
    with pytest.raises(BundleError, match=r"does not fit its network: .*Missing key"):
        load_state(build_network(), renamed, folder.weights, True, folder)
    with pytest.raises(
        BundleError, match="has no weights for 2 of its parameters, the first is weight, and strict is false"
    ):
        load_state(build_network(), renamed, folder.weights, False, folder)
    load_state(build_network(), state | {"more": torch.zeros(1)}, folder.weights, False, folder)


@pytest.mark.parametrize(
    ("loader", "key", "strict"),
    [
        ({"load_dict": {"net": "@network"}, "strict": False}, "net", False),
        ({"load_dict": {}}, "model", True),
        ({"load_dict": ["a"]}, "model", True),
    ],
)
def test_find_weights_takes_key_and_strictness_of_the_loader(
    folder: BundleFolder, loader: dict, key: str, strict: bool
) -> None:
    save(folder, build_network().state_dict())
    item = {"_target_": "CheckpointLoader", "load_path": str(folder.weights), **loader}
    assert find_weights(ConfigParser({"checkpointloader": item}), folder) == (folder.weights, key, strict)


@pytest.mark.parametrize("path", [{}, {"load_path": "$1 / 0"}, {"load_path": "nowhere.pt"}])
def test_find_weights_that_are_nowhere_are_named(folder: BundleFolder, path: dict) -> None:
    item = {"_target_": "CheckpointLoader", "load_dict": {"model": 1}, **path}
    with pytest.raises(BundleError, match=r"load_path|nowhere\.pt is missing"):
        find_weights(ConfigParser({"handlers": [item]}), folder)
