"""Which order in memory is chosen, by times that the tests give; and which layers are timed."""

from __future__ import annotations

import copy
from math import prod

import pytest
import torch
from monai.networks.nets import DynUNet

from unet_pipeline.device import memory_format
from unet_pipeline.device.memory_format import FORMATS, Layer, OrderChoice, choose_memory_format, list_layers

CONTIGUOUS = torch.contiguous_format


def build_network(dims: int = 3) -> torch.nn.Module:
    return DynUNet(dims, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16], norm_name="instance")


@pytest.fixture
def give_times(monkeypatch: pytest.MonkeyPatch) -> object:
    """Lets every layer take one second contiguous and `last_s` in the other order; returns the layers that were timed."""

    def give(last_s: float) -> list[Layer]:
        timed = []

        def time_layer(layer: Layer, batch_size: int, dtype: torch.dtype, formats: tuple) -> dict:
            timed.append((layer, batch_size, dtype))
            return {order: 1.0 if order == CONTIGUOUS else last_s for order in formats}

        memory_format._measure.cache_clear()
        monkeypatch.setattr(memory_format, "_time_layer", time_layer)
        return timed

    yield give
    memory_format._measure.cache_clear()


@pytest.mark.parametrize(("last_s", "expected"), [(0.6, "last"), (0.95, "contiguous"), (1.8, "contiguous")])
@pytest.mark.parametrize("dims", [2, 3])
def test_choose_memory_format_takes_what_is_clearly_faster(
    give_times: object, dims: int, last_s: float, expected: str
) -> None:
    give_times(last_s)
    chosen = choose_memory_format(build_network(dims), torch.zeros(2, 1, *[16] * dims))
    assert chosen.memory_format == (FORMATS[dims + 2] if expected == "last" else CONTIGUOUS)
    assert chosen.name == ("channels_last" if expected == "last" else "contiguous")
    assert f"took {last_s:.2f} of the time" in chosen.reason


def test_choose_memory_format_times_the_layers_that_matter_once_in_a_process(give_times: object) -> None:
    timed = give_times(0.5)
    network, images = build_network(), torch.zeros(3, 1, 16, 16, 16)
    choose_memory_format(network, images)
    first = len(timed)
    assert 0 < first < len(list_layers(network, images))
    assert {(batch, dtype) for _, batch, dtype in timed} == {(2, torch.float32)}
    choose_memory_format(build_network(), images)
    assert len(timed) == first
    choose_memory_format(network, images, autocast=True)
    assert timed[-1][2] == torch.bfloat16


def test_list_layers_has_every_convolution_at_the_size_of_the_whole_image() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1),
        torch.nn.Conv3d(4, 4, 3, padding=1),
        torch.nn.Conv3d(4, 4, 3, padding=1),
        torch.nn.Conv3d(4, 8, 3, stride=2, padding=1),
        torch.nn.Conv3d(8, 8, 3, padding=1, groups=8),
        torch.nn.ConvTranspose3d(8, 4, 2, stride=2),
    )
    kernel, one = (3, 3, 3), (1, 1, 1)
    assert list_layers(network, torch.zeros(2, 1, 64, 48, 16)) == {
        Layer(1, 4, kernel, one, (64, 48, 16), needs_input_gradient=False): 1,
        Layer(4, 4, kernel, one, (64, 48, 16)): 2,
        Layer(4, 8, kernel, (2, 2, 2), (32, 24, 8)): 1,
    }


def test_list_layers_takes_the_corner_that_a_deep_network_needs() -> None:
    """Five halvings of 16 or 32 voxels leave one voxel, which no instance norm takes."""
    network = DynUNet(2, 1, 2, [3] * 6, [1, 2, 2, 2, 2, 2], [2] * 5, filters=[4] * 6, norm_name="instance")
    found = list_layers(network, torch.zeros(1, 1, 128, 96))
    assert {layer.out_size for layer in found} == {(128 >> level, 96 >> level) for level in range(6)}


def test_choose_memory_format_leaves_network_and_random_numbers(give_times: object) -> None:
    give_times(0.5)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    network.train()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert choose_memory_format(network, torch.randn(2, 1, 16, 16).fill_(1)).memory_format == torch.channels_last
    assert network.training
    assert not network[0]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    torch.randn(2, 1, 16, 16)  # the images above
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    "network",
    [torch.nn.Linear(16, 2), torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))],
    ids=["no convolution", "other channels"],
)
def test_choose_memory_format_without_layers_is_contiguous(give_times: object, network: torch.nn.Module) -> None:
    timed = give_times(0.1)
    assert choose_memory_format(network, torch.zeros(1, 1, 16, 16)) == OrderChoice(CONTIGUOUS)
    assert not timed


def test_choose_memory_format_elsewhere_than_on_a_cpu_is_contiguous(give_times: object) -> None:
    timed = give_times(0.1)
    assert choose_memory_format(build_network(), torch.zeros(1, 1, 16, 16, 16, device="meta")) == OrderChoice(
        CONTIGUOUS
    )
    assert not timed


@pytest.mark.parametrize(
    "layer",
    [
        Layer(1, 16, (3, 3, 3), (1, 1, 1), (48, 48, 48), False),
        Layer(32, 32, (3, 3, 3), (1, 1, 1), (128, 128, 128)),
        Layer(16, 32, (3, 3, 1), (2, 2, 1), (64, 64, 40)),
        Layer(256, 320, (3, 3), (2, 2), (8, 8)),
    ],
    ids=str,
)
def test_shrink_keeps_enough_values_and_is_no_larger_than_the_layer(layer: Layer) -> None:
    small = layer.shrink()
    assert small.flop <= layer.flop
    assert all(part <= whole for part, whole in zip(small.out_size, layer.out_size, strict=True))
    values = small.in_channels * prod(small.out_size) * prod(small.stride)
    assert values >= 24_000 or small == layer
    assert small.flop >= 60e6 or small == layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_time_layer_runs_both_orders_forward_and_backward(dtype: torch.dtype) -> None:
    layer = Layer(2, 3, (3, 3), (2, 2), (5, 4))
    found = memory_format._time_layer(layer, 2, dtype, (CONTIGUOUS, torch.channels_last))
    assert set(found) == {CONTIGUOUS, torch.channels_last}
    assert min(found.values()) > 0
