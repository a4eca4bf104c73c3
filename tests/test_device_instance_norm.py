"""Instance normalisation through groups against PyTorch's own, and against the formula in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.device.instance_norm import InstanceNorm2d, InstanceNorm3d, speed_up_instance_norm

THEIRS = {2: torch.nn.InstanceNorm2d, 3: torch.nn.InstanceNorm3d}
OURS = {2: InstanceNorm2d, 3: InstanceNorm3d}


def normalise(images: torch.Tensor, eps: float) -> torch.Tensor:
    axes = list(range(2, images.dim()))
    centred = images.double() - images.double().mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()


@settings(deadline=None, max_examples=60)
@given(
    dims=st.sampled_from([2, 3]),
    count=st.integers(1, 3),
    num_channels=st.integers(1, 5),
    size=st.integers(1, 6),
    offset=st.sampled_from([0.0, 100.0]),
    affine=st.booleans(),
    channels_last=st.booleans(),
)
def test_instance_norm_is_the_formula(
    dims: int, count: int, num_channels: int, size: int, offset: float, affine: bool, channels_last: bool
) -> None:
    torch.manual_seed(count)
    images = torch.randn(count, num_channels, *([size] * (dims - 1)), 2) * 3 + offset
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d)
    found = OURS[dims](num_channels, affine=affine)(images)
    assert torch.allclose(found.double(), normalise(images, 1e-5), atol=1e-3 if offset else 1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_of_many_voxels_far_from_zero_is_exact(channels_last: bool) -> None:
    """Where a plain sum in float32 loses four digits."""
    images = torch.randn(1, 4, 64, 64, 64, generator=torch.Generator().manual_seed(0)) + 10
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last_3d)
    found = InstanceNorm3d(4)(images)
    assert torch.allclose(found.double(), normalise(images, 1e-5), rtol=0, atol=1e-5)


FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def differentiate(
    images: torch.Tensor, gradients: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> list[torch.Tensor]:
    """The formula in float64: output, and gradients of image, weight and bias."""
    leaves = [None if value is None else value.detach().double().requires_grad_(True) for value in (weight, bias)]
    inputs = images.detach().double().requires_grad_(True)
    output = normalise(inputs, 1e-5)
    across = (1, -1, *[1] * (images.dim() - 2))
    output = output if leaves[0] is None else output * leaves[0].view(across) + leaves[1].view(across)
    output.backward(gradients.double())
    return [output.detach(), inputs.grad, *(leaf.grad for leaf in leaves if leaf is not None)]


@pytest.mark.parametrize(
    "shape", [(1, 3, 5, 4, 6), (2, 3, 5, 4, 6), (1, 4, 9, 7), (3, 4, 9, 7), (1, 2, 30, 30, 30)], ids=str
)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("same_order", [True, False], ids=["gradient channels last", "gradient contiguous"])
def test_channels_last_output_and_gradients_are_the_formula(
    shape: tuple[int, ...], affine: bool, same_order: bool
) -> None:
    """A batch of one too, which PyTorch gets wrong from a gradient in channels last; and more voxels than one piece."""
    torch.manual_seed(0)
    images, gradients = torch.randn(shape) * 3 + 5, torch.randn(shape) + 1
    memory_format = FORMATS[len(shape) - 2]
    module = OURS[len(shape) - 2](shape[1], affine=affine)
    if affine:
        torch.nn.init.normal_(module.weight)
        torch.nn.init.normal_(module.bias)
    inputs = images.contiguous(memory_format=memory_format).requires_grad_(True)
    output = module(inputs)
    output.backward(gradients.contiguous(memory_format=memory_format) if same_order else gradients)
    assert output.is_contiguous(memory_format=memory_format)
    assert inputs.grad.is_contiguous(memory_format=memory_format)
    found = [output.detach(), inputs.grad, *(parameter.grad for parameter in module.parameters())]
    num_added = output.numel() / shape[1]  # for each entry of a parameter's gradient, where terms of both signs cancel
    for value, expected in zip(found, differentiate(images, gradients, module.weight, module.bias), strict=True):
        tolerance = 1e-4 * float(expected.abs().max()) if value.shape == shape else 2e-6 * num_added + 1e-5
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_channels_last_128_cubed_is_right(offset: float) -> None:
    """PyTorch's kernel of groups is off by 0.001 there; gradients are compared where their sum is large."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 2, 128, 128, 128, generator=generator) + offset
    gradients = torch.randn(1, 2, 128, 128, 128, generator=generator) + 1
    inputs = images.contiguous(memory_format=torch.channels_last_3d).requires_grad_(True)
    output = InstanceNorm3d(2)(inputs)
    output.backward(gradients)
    expected, expected_gradient = differentiate(images, gradients, None, None)
    assert float((output.detach() - expected).abs().max()) < (1e-5 if offset == 0 else 5e-5)
    assert float((inputs.grad - expected_gradient).abs().max()) < 1e-4


def test_channels_last_does_not_change_what_contiguous_arrays_give() -> None:
    torch.manual_seed(0)
    images, module = torch.randn(2, 3, 6, 6, 6), InstanceNorm3d(3, affine=True)
    expected = torch.nn.functional.group_norm(images, 3, module.weight, module.bias)
    assert torch.equal(module(images), expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_speed_up_instance_norm_same_output_and_gradients(dims: int, dtype: torch.dtype, channels_last: bool) -> None:
    theirs = THEIRS[dims](4, affine=True)
    torch.manual_seed(0)
    torch.nn.init.normal_(theirs.weight)
    ours = copy.deepcopy(torch.nn.Sequential(theirs))
    assert speed_up_instance_norm(ours) == 1
    images = torch.randn(3, 4, *[8] * dims).to(dtype)
    gradients = torch.randn_like(images)
    outputs = []
    for module in (theirs, ours):
        inputs = images.clone()
        if channels_last and module is ours:
            inputs = inputs.contiguous(memory_format=FORMATS[dims])
        inputs.requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = module(inputs)
        output.backward(gradients.to(output.dtype))
        outputs.append((output, inputs.grad, *(parameter.grad for parameter in module.parameters())))
    # bfloat16 keeps 8 bits: neighbours are 1 / 128 apart
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1 / 64, "atol": 1 / 128}
    for expected, found in zip(*outputs, strict=True):
        assert found.dtype == expected.dtype
        assert torch.allclose(found, expected, **tolerance)


def test_speed_up_instance_norm_leaves_names_values_and_other_modules() -> None:
    class Own(torch.nn.InstanceNorm2d):
        pass

    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.InstanceNorm2d(4, affine=True), torch.nn.BatchNorm2d(4), Own(4)
    )
    before = copy.deepcopy(network.state_dict())
    assert speed_up_instance_norm(network) == 1
    assert speed_up_instance_norm(network) == 0, "done already"
    assert [type(module) for module in network] == [torch.nn.Conv2d, InstanceNorm2d, torch.nn.BatchNorm2d, Own]
    assert isinstance(network[1], torch.nn.InstanceNorm2d)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_instance_norm_with_running_means_is_pytorch_s() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 5, 5)
    theirs = torch.nn.InstanceNorm2d(3, track_running_stats=True)
    ours = InstanceNorm2d(3, track_running_stats=True)
    for module in (theirs, ours):
        module(images)
        module.eval()
    assert torch.equal(ours(images), theirs(images))
    assert torch.equal(ours.running_mean, theirs.running_mean)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 4), (2, 5, 4, 4)], ids=["one pixel", "no batch", "channels"])
def test_instance_norm_input_that_pytorch_refuses_or_takes_otherwise(shape: tuple[int, ...]) -> None:
    """Messages, and an image without a batch, are PyTorch's."""
    results = []
    for module in (torch.nn.InstanceNorm2d(3, affine=True), InstanceNorm2d(3, affine=True)):
        try:
            results.append(module(torch.ones(shape)).tolist())
        except (ValueError, RuntimeError) as error:
            results.append(str(error))
    assert results[0] == results[1]
