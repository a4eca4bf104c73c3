"""The encoder's features: which layer, and what is heard of windows and mirrored copies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unet_pipeline.networks.counting import build_network as build_from_shape
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.stopwatch import Stopwatch, TimedNetwork
from unet_pipeline.quality.encoder import EncoderListener, find_bottleneck

from .conftest import build_fingerprint


def build_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.Conv2d(4, 6, 2, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(6, 2, 2, stride=2),
    ).eval()


def wrap(network: torch.nn.Module) -> Any:
    return SimpleNamespace(parts=SimpleNamespace(networks=(TimedNetwork(network, Stopwatch()),)), volumes=None)


def test_bottleneck_is_the_last_convolution_of_the_coarsest_grid() -> None:
    assert find_bottleneck(build_network(), torch.zeros(1, 1, 8, 8)) == "1"


@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_every_network_tell_images_apart(name: str) -> None:
    """Behind an instance normalisation they would not."""
    dims = NETWORKS[name].spatial_dims[0]
    plan = plan_from_fingerprint(
        build_fingerprint(shapes=((64,) * dims,) * 4), "data", "quick", network=name, padded=True
    ).plan
    network = build_from_shape(plan.shape).eval()
    windows = torch.rand(2, 1, *plan.patch_size) ** torch.tensor([1.0, 4.0]).reshape(2, *[1] * (dims + 1))
    layer = find_bottleneck(network, windows[:1])
    assert layer is not None
    engines, features = wrap(network), []
    listener = EncoderListener(layer)
    assert listener.attach(engines)
    for window in windows:
        with listener.listen() as heard, torch.inference_mode():
            engines.parts.networks[0](window[None])
        features.append(heard[0])
    assert np.abs(features[0] - features[1]).max() > 1e-3


@torch.inference_mode()
def test_features_are_means_and_spreads_over_all_windows() -> None:
    network, windows = build_network(), torch.rand(3, 1, 8, 8)
    listener, engines = EncoderListener("2"), wrap(network)
    assert listener.attach(engines)
    with listener.listen() as heard:
        engines.parts.networks[0](windows[:2])
        engines.parts.networks[0](windows[2:])
    features = network[:3](windows).flatten(2)  # type: ignore[index]
    expected = torch.cat([features.mean(2), features.std(2, correction=0)], 1).mean(0)
    np.testing.assert_allclose(heard[0], expected.numpy(), rtol=1e-5)


@torch.inference_mode()
def test_mirrored_copies_do_not_count() -> None:
    network, window = build_network(), torch.rand(1, 1, 8, 8)
    plain, mirrored = EncoderListener("2"), EncoderListener("2")
    engines, mirroring = wrap(network), wrap(Mirrored(build_network(), (0, 1)))
    assert plain.attach(engines)
    assert mirrored.attach(mirroring)
    with plain.listen() as first:
        engines.parts.networks[0](window)
    with mirrored.listen() as second:
        mirroring.parts.networks[0](window)
    np.testing.assert_allclose(first[0], second[0])


def test_nothing_is_heard_outside_of_the_block_or_of_another_layer() -> None:
    listener, engines = EncoderListener("2"), wrap(build_network())
    assert not EncoderListener("missing").attach(engines)
    assert listener.attach(engines)
    engines.parts.networks[0](torch.rand(1, 1, 8, 8))
    with listener.listen() as heard:
        pass
    assert heard == []
