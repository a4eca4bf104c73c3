"""What changes the values of a patch, drawn for one sample and applied to a whole batch, each sample with its own numbers.

On a CPU only the channels that a change falls on are touched. On a GPU every change is computed for all and kept where it is wanted: that
launches the same kernels for any batch and waits for nothing, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from unet_pipeline.training.row_layout import Shape, Values
from unet_pipeline.training.spatial import Range

_MASK = 0xFFFFFFFF  # of 32 bits


@dataclass(frozen=True)
class IntensityAugmentation:
    """Noise, blur, brightness, contrast, low resolution and gamma, each drawn for every sample and channel.

    Args:
        noise_probability: of Gaussian noise.
        noise_std: its largest standard deviation, in units of the normalised image.
        blur_probability: of a Gaussian blur.
        blur_sigma_voxel: its range.
        brightness_probability: of all values being multiplied by a factor.
        brightness_range: the factor is at most this far from 1.
        contrast_probability: of the distances from the mean being multiplied, without leaving the range of values.
        contrast_range: the factor is at most this far from 1.
        low_resolution_probability: of a smaller image enlarged again.
        low_resolution_zoom: range of its size by the original's.
        gamma_probability: of a power of the values scaled to 0 to 1, mean and standard deviation restored; half of them on the
            inverted image.
        gamma_range: of the power.
    """

    noise_probability: float
    noise_std: float
    blur_probability: float
    blur_sigma_voxel: Range
    brightness_probability: float
    brightness_range: float
    contrast_probability: float
    contrast_range: float
    low_resolution_probability: float
    low_resolution_zoom: Range
    gamma_probability: float
    gamma_range: Range

    @property
    def blur_reach(self) -> int:
        """Voxels to either side of the widest kernel; a kernel ends at three sigma."""
        return _find_reach(self.blur_sigma_voxel[1])

    def list_shapes(self, num_channels: int, dims: int) -> dict[str, Shape]:
        """Values of a sample; a factor of 1, a kernel of one voxel and a full size change nothing."""
        channel = (num_channels,)
        return {
            "noise_std": channel,
            "noise_seed": channel,
            "blurred": channel,
            "kernel": (num_channels, 2 * self.blur_reach + 1),
            "brightness": channel,
            "contrasted": channel,
            "contrast": channel,
            "coarsened": channel,
            "coarse_size": (num_channels, dims),
            "gamma": channel,
            "power": channel,
            "sign": channel,
        }

    def draw(
        self, generator: np.random.Generator, num_channels: int, patch_size: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """The values of one sample."""
        values = {name: np.zeros(shape) for name, shape in self.list_shapes(num_channels, len(patch_size)).items()}
        for name in ("brightness", "contrast", "power", "sign"):
            values[name][:] = 1
        values["kernel"][:, self.blur_reach] = 1
        values["coarse_size"][:] = patch_size
        for channel in range(num_channels):
            self._draw_channel(generator, {name: value[channel : channel + 1] for name, value in values.items()})
        return values

    def _draw_channel(self, generator: np.random.Generator, values: dict[str, np.ndarray]) -> None:
        """Set what happens to a channel in the rows given."""
        chances = generator.random(6)
        if chances[0] < self.noise_probability:
            values["noise_std"][0] = generator.uniform(0, self.noise_std)
            values["noise_seed"][0] = generator.integers(2**32)
        if chances[1] < self.blur_probability:
            values["blurred"][0] = 1
            values["kernel"][0] = build_kernel(generator.uniform(*self.blur_sigma_voxel), self.blur_reach)
        if chances[2] < self.brightness_probability:
            values["brightness"][0] = 1 + generator.uniform(-self.brightness_range, self.brightness_range)
        if chances[3] < self.contrast_probability:
            values["contrasted"][0] = 1
            values["contrast"][0] = 1 + generator.uniform(-self.contrast_range, self.contrast_range)
        if chances[4] < self.low_resolution_probability:
            values["coarsened"][0] = 1
            zoom = generator.uniform(*self.low_resolution_zoom)
            values["coarse_size"][0] = np.maximum(1, np.round(values["coarse_size"][0] * zoom))
        if chances[5] < self.gamma_probability:
            values["gamma"][0] = 1
            values["power"][0] = generator.uniform(*self.gamma_range)
            values["sign"][0] = -1 if generator.random() < 0.5 else 1

    def apply(self, images: torch.Tensor, values: Values, everywhere: bool | None = None) -> torch.Tensor:
        """A batch with its values changed.

        Args:
            images: shape (batch, channels, *spatial), float32; may be written into.
            values: of the samples, from `draw`, on the device of the images.
            everywhere: compute every change for all channels; None: on a GPU.
        """
        everywhere = images.is_cuda if everywhere is None else everywhere
        planes = images.reshape(-1, *images.shape[2:])
        rows = {name: values[name].flatten(0, 1) for name in self.list_shapes(1, 1)}
        steps: tuple[tuple[float, str, Callable[..., torch.Tensor], tuple[str, ...]], ...] = (
            (self.noise_probability, "noise_std", add_noise, ("noise_std", "noise_seed")),
            (self.blur_probability, "blurred", blur, ("kernel",)),
            (self.brightness_probability, "brightened", scale, ("brightness",)),
            (self.contrast_probability, "contrasted", change_contrast, ("contrast",)),
            (self.low_resolution_probability, "coarsened", reduce_resolution, ("coarse_size",)),
            (self.gamma_probability, "gamma", apply_gamma, ("power", "sign")),
        )
        rows["brightened"] = rows["brightness"] != 1
        for probability, chosen, change, names in steps:
            if probability > 0:
                planes = change_chosen(planes, rows[chosen] != 0, change, [rows[name] for name in names], everywhere)
        return planes.reshape(images.shape)


def change_chosen(
    planes: torch.Tensor,
    chosen: torch.Tensor,
    change: Callable[..., torch.Tensor],
    numbers: list[torch.Tensor],
    everywhere: bool,
) -> torch.Tensor:
    """Planes, shape (channels of all samples, *spatial), changed where chosen; or whole samples, shape (samples, channels, *spatial)."""
    if everywhere:
        return torch.where(_beside(chosen, planes), change(planes, *numbers), planes)
    rows = chosen.nonzero()[:, 0]
    if len(rows):
        planes[rows] = change(planes[rows], *(value[rows] for value in numbers))
    return planes


def _beside(numbers: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
    """One number per plane, in a shape that broadcasts."""
    return numbers.view(-1, *[1] * (planes.dim() - 1))


def add_noise(planes: torch.Tensor, std: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Planes with normal noise of a standard deviation of their own."""
    noise = draw_noise(seeds, planes[0].numel()).view(planes.shape)
    return planes + _beside(std.to(planes.dtype), planes) * noise


def draw_noise(seeds: torch.Tensor, count: int) -> torch.Tensor:
    """Standard normal values, shape (seeds, count), float32: a function of seed and place alone, on any device.

    Two hashes of the place give two uniform numbers, and those a normal one (Box and Muller 1958).
    """
    place = torch.arange(count, device=seeds.device)
    seed = seeds.long()[:, None]
    first, second = (_hash(place + _hash(seed + salt)) for salt in (0x9E3779B9, 0x7F4A7C15))
    radius = torch.sqrt(-2 * torch.log((first.float() + 0.5) / 2**32))
    return radius * torch.cos(second.float() * (2 * math.pi / 2**32))


def _hash(numbers: torch.Tensor) -> torch.Tensor:
    """32 well-mixed bits of each whole number: the finaliser "lowbias32" (Wellons 2018, Prospecting for Hash Functions)."""
    numbers = numbers & _MASK
    numbers = ((numbers ^ (numbers >> 16)) * 0x7FEB352D) & _MASK
    numbers = ((numbers ^ (numbers >> 15)) * 0x846CA68B) & _MASK
    return numbers ^ (numbers >> 16)


def _find_reach(sigma_voxel: float) -> int:
    return max(1, math.ceil(3 * sigma_voxel))


def build_kernel(sigma_voxel: float, reach: int) -> np.ndarray:
    """Weights of a Gaussian that ends at three sigma, sum 1, shape (2 * reach + 1,)."""
    places = np.arange(-reach, reach + 1)
    weights = np.where(np.abs(places) <= _find_reach(sigma_voxel), np.exp(-(places**2) / (2 * sigma_voxel**2)), 0)
    return weights / weights.sum()


def blur(planes: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each plane blurred along every axis with its own kernel, shape (planes, taps); the border voxels are repeated."""
    weights = kernels.to(planes.dtype)
    reach = weights.shape[1] // 2
    dims = planes.dim() - 1
    for axis in range(1, dims + 1):
        size = planes.shape[axis]
        border = [reach if other == axis else 0 for other in range(dims, 0, -1) for _ in range(2)]
        padded = functional.pad(planes[:, None], border, mode="replicate")[:, 0]
        # a sum of shifted images: a convolution with one channel takes three times as long on a CPU
        blurred = _beside(weights[:, 0], planes) * padded.narrow(axis, 0, size)
        for shift in range(1, weights.shape[1]):
            blurred.addcmul_(_beside(weights[:, shift], planes), padded.narrow(axis, shift, size))
        planes = blurred
    return planes


def scale(planes: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Every value multiplied."""
    return planes * _beside(factors.to(planes.dtype), planes)


def change_contrast(planes: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The distances from the mean multiplied, within the range of values."""
    flat = planes.flatten(1)
    mean, (low, high) = _beside(flat.mean(1), planes), flat.aminmax(dim=1)
    stretched = mean + _beside(factors.to(planes.dtype), planes) * (planes - mean)
    return torch.minimum(torch.maximum(stretched, _beside(low, planes)), _beside(high, planes))


def reduce_resolution(planes: torch.Tensor, coarse_size: torch.Tensor) -> torch.Tensor:
    """Each plane shortened to `coarse_size` voxels per axis, shape (planes, dims), nearest neighbour, and enlarged again linearly.

    Both are done at once, axis by axis: a voxel lies between the two coarse ones that it would be enlarged from, and each of those is one
    voxel of the image.
    """
    for axis in range(1, planes.dim()):
        size, coarse = planes.shape[axis], coarse_size[:, axis - 1, None]
        places = torch.arange(size, device=planes.device, dtype=coarse.dtype)
        place = ((places + 0.5) * (coarse / size) - 0.5).clamp(min=0)
        low = place.floor()
        high = torch.minimum(low + 1, coarse - 1)
        share = (place - low).to(planes.dtype)
        along = [size if other == axis else 1 for other in range(1, planes.dim())]
        ends = []
        for end in (low, high):
            source = ((end + 0.5) * (size / coarse)).floor().clamp(max=size - 1).long()
            ends.append(planes.gather(axis, source.view(-1, *along).expand_as(planes)))
        planes = ends[0] + share.view(-1, *along) * (ends[1] - ends[0])
    return planes


def apply_gamma(planes: torch.Tensor, power: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    """The values to a power between their extremes; mean and standard deviation stay. A constant plane stays as it is.

    Args:
        planes: shape (planes, *spatial).
        power: one per plane.
        sign: -1 for the inverted image, else 1.
    """
    sign = _beside(sign.to(planes.dtype), planes)
    planes = planes * sign
    flat = planes.flatten(1)
    low, high = (_beside(end, planes) for end in flat.aminmax(dim=1))
    deviation, mean = (_beside(value, planes) for value in torch.std_mean(flat, dim=1))
    extent = (high - low).clamp(min=1e-7)
    changed = ((planes - low) / extent) ** _beside(power.to(planes.dtype), planes)
    deviation_then, mean_then = (_beside(value, planes) for value in torch.std_mean(changed.flatten(1), dim=1))
    return sign * (mean + (changed - mean_then) * (deviation / deviation_then.clamp(min=1e-7)))
