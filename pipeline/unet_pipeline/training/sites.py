"""What differs between hospitals in images of the same kind, drawn for one sample and applied to a whole batch.

Stain, mixed channels, colour, grey curve, bias field and JPEG; `plan --for-other-sites` chooses their ranges. The network sees z-scores of
a whole image, so that what a change does to the mean and the standard deviation of a patch is undone, as the z-score of the changed image
would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from unet_pipeline.training.intensity import change_chosen
from unet_pipeline.training.row_layout import Shape, Values
from unet_pipeline.training.spatial import Range

# optical density of haematoxylin, eosin and a third stain in red, green and blue (Ruifrok and Johnston 2001)
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_DARKEST = 1 / 256  # of the brightest value; its logarithm is still finite
_CURVE_NODES, _FIELD_NODES, _BLOCK = 17, 4, 8
# of luminance at quality 50 (ITU-T T.81, annex K)
_QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class SiteAugmentation:
    """Each part is drawn for every sample, the curve for every channel of it.

    Args:
        stain_probability: of another optical density of the stains; for images of 3 channels.
        stain_range: each entry of the stain matrix times or by e to at most this.
        colour_probability: of a gain and an offset of every channel, which another share of tissue and background gives a z-score.
        colour_range: gains are e to at most this far from 0, offsets at most this many standard deviations.
        curve_probability: of a monotone Bezier curve through the range of values.
        curve_range: 0 for the identity, 1 for control points anywhere between 0 and 1.
        bias_field_probability: of a smooth factor over the image.
        bias_field_range: its logarithm is at most this at the control points.
        jpeg_probability: of JPEG's quantisation, in 2D.
        jpeg_quality: its range, 1 to 100.
        mix_probability: of channels that are mixed towards one grey image, itself a random mean of them; for several channels.
        mix_range: the share of the grey image is at most this; 1 leaves no colour.
    """

    stain_probability: float = 0.0
    stain_range: float = 0.0
    colour_probability: float = 0.0
    colour_range: float = 0.0
    curve_probability: float = 0.0
    curve_range: float = 0.0
    bias_field_probability: float = 0.0
    bias_field_range: float = 0.0
    jpeg_probability: float = 0.0
    jpeg_quality: Range = (100.0, 100.0)
    mix_probability: float = 0.0
    mix_range: float = 0.0

    def list_shapes(self, num_channels: int, dims: int) -> dict[str, Shape]:
        """Values of a sample; `zero_level` is what an intensity of 0 in the file is for the network."""
        channel = (num_channels,)
        return {
            "zero_level": channel,
            "stained": (),
            "stain_matrix": (len(STAINS), len(STAINS)),
            "coloured": (),
            "colour_gain": channel,
            "colour_offset": channel,
            "curved": channel,
            "curve": (num_channels, _CURVE_NODES),
            "biased": (),
            "bias_field": (_FIELD_NODES,) * dims,
            "compressed": (),
            "quantisation": (),
            "mixed": (),
            "mix_matrix": (num_channels, num_channels),
        }

    def draw(self, generator: np.random.Generator, num_channels: int, dims: int) -> dict[str, np.ndarray]:
        """The values of one sample, with a zero level of 0."""
        values = {name: np.zeros(shape) for name, shape in self.list_shapes(num_channels, dims).items()}
        chances = generator.random(4)
        if chances[0] < self.stain_probability and num_channels == len(STAINS):
            values["stained"][()] = 1
            stains = STAINS * np.exp(generator.uniform(-self.stain_range, self.stain_range, STAINS.shape))
            values["stain_matrix"][:] = stains.T @ np.linalg.inv(STAINS).T
        if chances[1] < self.colour_probability:
            values["coloured"][()] = 1
            values["colour_gain"][:] = np.exp(generator.uniform(-self.colour_range, self.colour_range, num_channels))
            values["colour_offset"][:] = generator.uniform(-self.colour_range, self.colour_range, num_channels)
        if chances[2] < self.bias_field_probability:
            values["biased"][()] = 1
            shape = values["bias_field"].shape
            values["bias_field"][:] = generator.uniform(-self.bias_field_range, self.bias_field_range, shape)
        if chances[3] < self.jpeg_probability and dims == 2:
            values["compressed"][()] = 1
            values["quantisation"][()] = scale_quantisation(generator.uniform(*self.jpeg_quality))
        for channel in np.flatnonzero(generator.random(num_channels) < self.curve_probability):
            values["curved"][channel] = 1
            values["curve"][channel] = build_curve(generator.random((2, 2)), self.curve_range)
        # behind the others, so that a plan without it draws what it drew before
        if num_channels > 1 and self.mix_probability > 0 and generator.random() < self.mix_probability:
            values["mixed"][()] = 1
            share, weights = generator.uniform(0, self.mix_range), generator.dirichlet(np.ones(num_channels))
            values["mix_matrix"][:] = (1 - share) * np.eye(num_channels) + share * weights
        return values

    def apply(self, images: torch.Tensor, values: Values, everywhere: bool | None = None) -> torch.Tensor:
        """A batch with its values changed.

        Args:
            images: shape (batch, channels, *spatial), float32; may be written into.
            values: of the samples, from `draw`, on the device of the images.
            everywhere: compute every change for all samples; None: on a GPU.
        """
        everywhere = images.is_cuda if everywhere is None else everywhere
        zero = values["zero_level"]
        steps: tuple[tuple[bool, str, Callable[..., torch.Tensor], list[torch.Tensor]], ...] = (
            (
                self.stain_probability > 0 and images.shape[1] == len(STAINS),
                "stained",
                change_stain,
                [values["stain_matrix"], zero],
            ),
            (self.bias_field_probability > 0, "biased", apply_bias_field, [values["bias_field"], zero]),
            (self.mix_probability > 0 and images.shape[1] > 1, "mixed", mix_channels, [values["mix_matrix"]]),
        )
        for wanted, chosen, change, numbers in steps:
            if wanted:
                images = change_chosen(images, values[chosen] != 0, change, numbers, everywhere)
        if self.curve_probability > 0:
            planes, curves = images.flatten(0, 1), [values["curve"].flatten(0, 1)]
            chosen_planes = values["curved"].flatten() != 0
            images = change_chosen(planes, chosen_planes, apply_curve, curves, everywhere).view(images.shape)
        if self.colour_probability > 0:
            numbers = [values["colour_gain"], values["colour_offset"]]
            images = change_chosen(images, values["coloured"] != 0, change_colour, numbers, everywhere)
        if self.jpeg_probability > 0 and images.dim() == 4:
            images = change_chosen(images, values["compressed"] != 0, compress, [values["quantisation"]], everywhere)
        return images


def build_sites(settings: Mapping[str, Any] | None) -> SiteAugmentation | None:
    """From `other_sites` of a plan; None without."""
    return None if settings is None else SiteAugmentation(**settings)


def _per_channel(numbers: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Numbers of shape (samples, channels) beside the voxels of `images`."""
    return numbers.to(images.dtype).view(*numbers.shape, *[1] * (images.dim() - 2))


def _restore(changed: torch.Tensor, images: torch.Tensor, dims: int) -> torch.Tensor:
    """Changed values with the mean and the standard deviation that they had over the last `dims` axes."""
    axes = tuple(range(-dims, 0))
    (deviation, mean), (deviation_then, mean_then) = (
        torch.std_mean(values, dim=axes, keepdim=True, correction=0) for values in (images, changed)
    )
    return mean + (changed - mean_then) * (deviation / deviation_then.clamp(min=1e-7))


def change_stain(images: torch.Tensor, matrices: torch.Tensor, zero_level: torch.Tensor) -> torch.Tensor:
    """Stained tissue with other stains: its optical density, shape (samples, 3, *spatial), times a matrix of shape (3, 3) each.

    The brightness of the light cancels out in the z-score, so that only the zero level of a channel must be known.
    """
    light = images - _per_channel(zero_level, images)
    brightest = light.amax(tuple(range(2, images.dim())), keepdim=True).clamp(min=1e-6)
    density = -torch.log((light / brightest).clamp(min=_DARKEST))
    mixed = torch.einsum("nij,nj...->ni...", matrices.to(images.dtype), density)
    return _restore(torch.exp(-mixed), images, images.dim() - 2)


def mix_channels(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Every channel a mean of all, with the weights of a row of a matrix of shape (channels, channels) for each sample."""
    mixed = torch.einsum("nij,nj...->ni...", matrices.to(images.dtype), images)
    return _restore(mixed, images, images.dim() - 2)


def change_colour(images: torch.Tensor, gains: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Every channel with a gain and an offset, shape (samples, channels) each."""
    return images * _per_channel(gains, images) + _per_channel(offsets, images)


def build_curve(control: np.ndarray, strength: float) -> np.ndarray:
    """A rising cubic Bezier curve from (0, 0) to (1, 1) at evenly spaced places, shape (17,) (Zhou et al. 2021, Models Genesis).

    Args:
        control: x and y of both inner control points, shape (2, 2), 0 to 1.
        strength: 0 takes those of the identity instead, 1 these.
    """
    identity = np.array([[1 / 3, 1 / 3], [2 / 3, 2 / 3]])
    points = identity + strength * (np.sort(control, axis=0) - identity)
    share = np.linspace(0, 1, 200)[:, None]
    path = 3 * share * (1 - share) ** 2 * points[0] + 3 * share**2 * (1 - share) * points[1] + share**3
    return np.interp(np.linspace(0, 1, _CURVE_NODES), path[:, 0], path[:, 1])


def apply_curve(planes: torch.Tensor, curves: torch.Tensor) -> torch.Tensor:
    """Planes, shape (planes, *spatial), through a curve of their own between their extremes; mean and deviation stay."""
    flat = planes.flatten(1)
    low, high = flat.aminmax(dim=1, keepdim=True)
    last = curves.shape[1] - 1
    place = (flat - low) / (high - low).clamp(min=1e-7) * last
    below = place.floor().clamp(max=last - 1)
    nodes = curves.to(planes.dtype)
    start, end = (nodes.gather(1, (below + step).long()) for step in (0, 1))
    return _restore(start + (place - below) * (end - start), flat, 1).view(planes.shape)


def apply_bias_field(images: torch.Tensor, fields: torch.Tensor, zero_level: torch.Tensor) -> torch.Tensor:
    """Intensities times a smooth field, whose logarithm is given at control points, shape (samples, *points)."""
    dims = images.dim() - 2
    mode = "bicubic" if dims == 2 else "trilinear"
    smooth = functional.interpolate(
        fields[:, None].to(images.dtype), size=images.shape[2:], mode=mode, align_corners=True
    )
    zero = _per_channel(zero_level, images)
    return _restore((images - zero) * torch.exp(smooth) + zero, images, dims)


def scale_quantisation(quality: float) -> float:
    """Factor of JPEG's table for a quality from 1 to 100, as the Independent JPEG Group's library has it; 1 at 50, 0 at 100."""
    return 50 / quality if quality < 50 else 2 - quality / 50


def compress(images: torch.Tensor, quantisation: torch.Tensor) -> torch.Tensor:
    """Images, shape (samples, channels, i, j), after JPEG's quantisation of 8x8 blocks; every channel as luminance is."""
    sizes = images.shape[2:]
    low, high = (end[..., None, None] for end in images.flatten(2).aminmax(dim=2))
    unit = (high - low).clamp(min=1e-7) / 255
    missing = [-size % _BLOCK for size in sizes]
    levels = functional.pad((images - low) / unit - 128, (0, missing[1], 0, missing[0]), mode="replicate")
    rows, columns = (size // _BLOCK for size in levels.shape[2:])
    blocks = levels.unflatten(3, (columns, _BLOCK)).unflatten(2, (rows, _BLOCK)).transpose(3, 4)
    cosines = _build_cosines(images)
    table = torch.tensor(_QUANTISATION, dtype=images.dtype, device=images.device)
    steps = (table * quantisation.to(images.dtype).view(-1, 1, 1, 1, 1, 1) + 0.5).floor().clamp(min=1)
    kept = torch.round(cosines @ blocks @ cosines.T / steps) * steps
    restored = (cosines.T @ kept @ cosines).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return (restored[:, :, : sizes[0], : sizes[1]] + 128).clamp(0, 255) * unit + low


def _build_cosines(images: torch.Tensor) -> torch.Tensor:
    """The orthonormal discrete cosine transform of 8 values, shape (8, 8)."""
    places = torch.arange(_BLOCK, dtype=images.dtype, device=images.device)
    waves = torch.cos(places[:, None] * (places + 0.5) * (torch.pi / _BLOCK)) * (2 / _BLOCK) ** 0.5
    return torch.cat([waves[:1] / 2**0.5, waves[1:]])
