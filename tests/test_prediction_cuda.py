"""On a GPU, where there is one: every form of a network, its graph, and an image from end to end give what the plain way gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet

from unet_pipeline.device.gpu_norm import normalise_samples
from unet_pipeline.prediction.device_network import DeviceForm, DeviceNetwork, record_on
from unet_pipeline.prediction.grids import map_grid
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.stopwatch import Stopwatch
from unet_pipeline.prediction.volumes import (
    copy_to_device,
    iterate_probabilities,
    stream_classes,
    stream_classes_on_device,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
WINDOW = (48, 64, 48)


def build_network() -> DynUNet:
    torch.manual_seed(0)
    return DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], [16, 32, 64]).eval().cuda()


def wrap(network: torch.nn.Module, batch_size: int = 4, **form: Any) -> DeviceNetwork:
    device = torch.device("cuda", 0)
    return DeviceNetwork(network, Stopwatch(), device, DeviceForm(**form), batch_size, record_on(device))


def draw(count: int) -> torch.Tensor:
    return torch.rand(count, 1, *WINDOW, generator=torch.Generator().manual_seed(0)).cuda()


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 16, 8, 9, 10), (2, 16, 32, 17)])
def test_normalise_samples_is_pytorch_s_instance_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = (3 + 2 * torch.rand(shape)).cuda().to(dtype)
    images = images.contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
    weight, bias = torch.rand(16).cuda(), torch.rand(16).cuda()
    found = normalise_samples(images, weight, bias, 1e-5)
    expected = torch.nn.functional.instance_norm(images.float(), weight=weight, bias=bias)
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    assert found.stride() == images.stride()
    assert found.dtype == dtype


@torch.inference_mode()
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("tries_kernels", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
def test_call_recorded_or_not_gives_the_network_s_logits(
    channels_last: bool, bfloat16: bool, tries_kernels: bool, mirror: bool
) -> None:
    network, windows = build_network(), draw(11)
    expected = Mirrored(network, (0, 2))(windows) if mirror else network(windows)
    wrapped = wrap(
        Mirrored(network, (0, 2), at_once=True) if mirror else network,
        channels_last=channels_last,
        bfloat16=bfloat16,
        tries_kernels=tries_kernels,
        batches_before_graph=2,
    )
    tolerance = 0.1 if bfloat16 else 0.01  # convolutions in TF32
    for _ in range(4):
        torch.testing.assert_close(wrapped(windows), expected, rtol=tolerance, atol=tolerance)
    assert wrapped.notes == []
    assert sorted(wrapped._recorded) == [4]
    wrapped.settle()
    assert wrapped.stopwatch.seconds["network"] > 0


@torch.inference_mode()
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_image_from_end_to_end_is_that_of_the_cpu(whole: bool, scale: float) -> None:
    network = build_network()
    image = torch.rand(1, 90, 100, 70, generator=torch.Generator().manual_seed(1))
    inferer = SlidingWindowInferer(WINDOW, 4, 0.5, mode="gaussian")
    affine = torch.eye(4, dtype=torch.float64).numpy()
    target = affine.copy()
    target[:3, :3] *= scale
    shape = tuple(round(size / scale) for size in image.shape[1:])
    grid = map_grid(affine, image.shape[1:], target, shape)
    assert grid is not None
    joint = wrap(network)

    def finish(logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits, dim=0)

    blocks = iterate_probabilities(image.cuda(), [joint], inferer, 4, finish, (), joint, whole)
    found = stream_classes_on_device(blocks, grid, (0, 4, 9))
    plain = iterate_probabilities(image, [network.cpu()], inferer, 1, finish)
    expected = stream_classes(plain, grid)
    assert found.flags.f_contiguous
    assert found.shape == expected.shape == shape
    named = torch.tensor([0, 4, 9])[torch.from_numpy(expected).long()].numpy()
    assert (found != named).mean() < 0.02


@torch.inference_mode()
def test_call_out_of_memory_on_the_card_takes_fewer_windows() -> None:
    free = torch.cuda.mem_get_info()[0]

    class Greedy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.empty(int(free * 0.4) * len(x), dtype=torch.uint8, device=x.device)
            return x

    wrapped = wrap(Greedy(), 8)
    windows = draw(8)
    assert torch.equal(wrapped(windows), windows)
    assert wrapped.batch_size == 2


def test_copy_to_device_is_the_array() -> None:
    for order in "CF":
        for dtype in ("int16", "uint16", "float32", "float64", ">i2"):
            array = torch.arange(120).reshape(1, 4, 5, 6).numpy().astype(dtype, order=order)
            found = copy_to_device(array, torch.device("cuda", 0))
            assert found.dtype == torch.float32
            assert found.is_contiguous()
            assert (found.cpu().numpy() == array).all()
