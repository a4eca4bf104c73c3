"""The encoder's features: which layer, and what is heard of windows and mirrored copies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.stopwatch import Stopwatch, TimedNetwork
from unet_pipeline.quality.encoder import EncoderListener, find_bottleneck


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


def test_bottleneck_is_the_last_layer_of_the_coarsest_grid() -> None:
    assert find_bottleneck(build_network(), torch.zeros(1, 1, 8, 8)) == "2"


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
