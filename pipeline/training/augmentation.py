"""Random changes of whole batches on the training's device: one interpolation for all that moves voxels, then intensities.

The numbers of a sample come from its own seed (`samples.py`), so that neither the batch it falls into nor the number of
workers or processes changes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

Range = tuple[float, float]


@dataclass(frozen=True)
class SpatialAugmentation:
    """Rotation, scaling, stretching, elastic deformation and mirroring, as one map from output to input.

    Args:
        spacing_mm: of the patch; rotations keep lengths in mm.
        affine_probability: of a sample to be rotated, scaled and stretched.
        rotation_range_rad: largest angle to either side; one in 2D, in 3D one about each axis.
        scale_range: smallest and largest enlargement of an object, drawn on a logarithmic scale.
        stretch_range: each axis is enlarged by a further factor of at most 1 + this, or its inverse.
        elastic_probability: of a sample to be deformed.
        elastic_control_points: random displacements per axis, with smooth interpolation (bicubic in 2D, linear in 3D) between them.
        elastic_sigma_voxel: standard deviation of the displacements along each axis.
        mirror_probability: per axis.
    """

    spacing_mm: Sequence[float]
    affine_probability: float
    rotation_range_rad: Sequence[float]
    scale_range: Range
    stretch_range: float
    elastic_probability: float
    elastic_control_points: Sequence[int]
    elastic_sigma_voxel: float
    mirror_probability: Sequence[float]

    def draw_matrix(self, generator: np.random.Generator) -> np.ndarray | None:
        """Output to input in mm about the centre, shape (dims, dims); None where nothing is to be done."""
        dims = len(self.spacing_mm)
        matrix = np.eye(dims)
        if generator.random() < self.affine_probability:
            for axis, limit in enumerate(self.rotation_range_rad):
                first, second = (0, 1) if dims == 2 else [other for other in range(3) if other != axis]
                matrix = matrix @ _rotate(dims, first, second, generator.uniform(-limit, limit))
            scale = math.exp(generator.uniform(*np.log(self.scale_range)))
            stretch = np.exp(generator.uniform(-1, 1, dims) * math.log1p(self.stretch_range))
            matrix = matrix / (scale * stretch)
        mirrored = generator.random(dims) < np.asarray(self.mirror_probability[:dims])
        matrix = matrix * np.where(mirrored, -1.0, 1.0)[:, None]
        return None if np.array_equal(matrix, np.eye(dims)) else matrix

    def draw_displacements(self, generator: np.random.Generator) -> np.ndarray | None:
        """Displacements in voxels at the control points, shape (dims, *points); None where nothing is to be done."""
        if generator.random() >= self.elastic_probability:
            return None
        points = tuple(self.elastic_control_points)
        return generator.normal(0, self.elastic_sigma_voxel, (len(points), *points))

    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, generators: Sequence[np.random.Generator]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the voxels of a batch; what comes from outside is mirrored at the border.

        Args:
            images: shape (batch, channels, *spatial); linear interpolation.
            targets: shape (batch, any, *spatial): classes first; nearest neighbour.
            generators: one per sample.
        """
        matrices = [self.draw_matrix(generator) for generator in generators]
        fields = [self.draw_displacements(generator) for generator in generators]
        changed = [index for index in range(len(matrices)) if matrices[index] is not None or fields[index] is not None]
        if not changed:
            return images, targets
        images, targets = images.clone(), targets.clone()
        # voxels that are only mirrored land on voxels: seven in eight patches would be interpolated for nothing
        mirrored = {index: _find_mirrored_axes(matrices[index]) for index in changed if fields[index] is None}
        for index, axes in mirrored.items():
            if axes is not None:
                images[index], targets[index] = images[index].flip(axes), targets[index].flip(axes)
        moved = [index for index in changed if mirrored.get(index) is None]
        if moved:
            grid = self._build_grid(
                [matrices[index] for index in moved],
                [fields[index] for index in moved],
                images.shape[2:],
                images.device,
            )
            images[moved] = _sample(images[moved], grid, "bilinear")
            targets[moved] = _sample(targets[moved].to(images.dtype), grid, "nearest").to(targets.dtype)
        return images, targets

    def _build_grid(
        self,
        matrices: Sequence[np.ndarray | None],
        fields: Sequence[np.ndarray | None],
        shape: Sequence[int],
        device: torch.device,
    ) -> torch.Tensor:
        """Where each output voxel is taken from, in PyTorch's coordinates: -1 to 1, the last axis first.

        Computed on the device: only matrices and control points travel there.
        What lies outside is reflected here, once for both interpolations; `grid_sample` does it again in each, and takes twice as long.
        """
        dims = len(shape)
        half_mm = np.asarray(shape) * np.asarray(self.spacing_mm) / 2
        places = torch.zeros(len(matrices), dims, *shape, device=device)
        for index, (matrix, field) in enumerate(zip(matrices, fields, strict=True)):
            relative = np.eye(dims) if matrix is None else matrix * half_mm[None, :] / half_mm[:, None]
            for axis, size in enumerate(shape):
                centres = (2 * torch.arange(size, device=device) + 1) / size - 1
                factors = torch.from_numpy(relative[::-1, axis].copy()).float().to(device)
                along = [size if other == axis else 1 for other in range(dims)]
                places[index] += (factors[:, None] * centres).view(dims, *along)
            if field is not None:
                mode = "bicubic" if dims == 2 else "trilinear"
                coarse = torch.from_numpy(field[None]).float().to(device)
                fine = functional.interpolate(coarse, size=tuple(shape), mode=mode, align_corners=True)[0]
                places[index] += fine.flip(0) * (2 / torch.tensor(shape[::-1], device=device)).view(-1, *[1] * dims)
        return (2 * places.clamp(-1, 1) - places).movedim(1, -1)


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

    def apply(self, images: torch.Tensor, generators: Sequence[np.random.Generator]) -> torch.Tensor:
        """A new batch; `images` has the shape (batch, channels, *spatial)."""
        planes = images.clone()
        for index, generator in enumerate(generators):
            for channel in range(images.shape[1]):
                planes[index, channel] = self._change(planes[index, channel], generator)
        return planes

    def _change(self, plane: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """One channel of one sample, shape (*spatial)."""
        chances = generator.random(6)
        if chances[0] < self.noise_probability:
            plane = plane + generator.uniform(0, self.noise_std) * _draw_noise(plane, generator)
        if chances[1] < self.blur_probability:
            plane = blur(plane, generator.uniform(*self.blur_sigma_voxel))
        if chances[2] < self.brightness_probability:
            plane = plane * (1 + generator.uniform(-self.brightness_range, self.brightness_range))
        if chances[3] < self.contrast_probability:
            factor = 1 + generator.uniform(-self.contrast_range, self.contrast_range)
            mean = plane.mean()
            plane = (mean + factor * (plane - mean)).clamp(plane.min(), plane.max())
        if chances[4] < self.low_resolution_probability:
            plane = reduce_resolution(plane, generator.uniform(*self.low_resolution_zoom))
        if chances[5] < self.gamma_probability:
            power, inverted = generator.uniform(*self.gamma_range), generator.random() < 0.5
            plane = -apply_gamma(-plane, power) if inverted else apply_gamma(plane, power)
        return plane


class BatchAugmentation:
    """Both kinds, on a batch that is on the device already."""

    def __init__(self, spatial: SpatialAugmentation, intensity: IntensityAugmentation) -> None:
        self.spatial, self.intensity = spatial, intensity

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A new batch.

        Args:
            images: shape (batch, channels, *spatial).
            targets: shape (batch, any, *spatial), classes first.
            seeds: one per sample.
        """
        generators = [np.random.default_rng(int(seed)) for seed in seeds]
        with torch.no_grad():
            images, targets = self.spatial.apply(images, targets, generators)
            return self.intensity.apply(images, generators), targets


def blur(plane: torch.Tensor, sigma_voxel: float) -> torch.Tensor:
    """Gaussian blur of one channel, shape (*spatial); the kernel ends at three sigma, the border voxels are repeated."""
    reach = max(1, math.ceil(3 * sigma_voxel))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma_voxel**2))
    weights = (kernel / kernel.sum()).tolist()
    for axis in range(plane.dim()):
        size = plane.shape[axis]
        border = [reach if other == axis else 0 for other in reversed(range(plane.dim())) for _ in range(2)]
        padded = functional.pad(plane[None, None], border, mode="replicate")[0, 0]
        # a sum of shifted images: a convolution with one channel takes three times as long on a CPU
        blurred = weights[0] * padded.narrow(axis, 0, size)
        for shift, weight in enumerate(weights[1:], 1):
            blurred.add_(padded.narrow(axis, shift, size), alpha=weight)
        plane = blurred
    return plane


def reduce_resolution(plane: torch.Tensor, zoom: float) -> torch.Tensor:
    """Every axis shortened to `zoom` of its voxels, nearest neighbour, and enlarged again linearly."""
    size = plane.shape
    smaller = [max(1, round(voxels * zoom)) for voxels in size]
    coarse = functional.interpolate(plane[None, None], size=smaller, mode="nearest-exact")
    mode = "bilinear" if plane.dim() == 2 else "trilinear"
    return functional.interpolate(coarse, size=size, mode=mode, align_corners=False)[0, 0]


def apply_gamma(plane: torch.Tensor, power: float) -> torch.Tensor:
    """The values to a power between their extremes; mean and standard deviation stay. A constant image stays as it is."""
    low, mean, deviation = plane.min(), plane.mean(), plane.std()
    extent = (plane.max() - low).clamp(min=1e-7)
    changed = ((plane - low) / extent) ** power
    return mean + (changed - changed.mean()) * deviation / changed.std().clamp(min=1e-7)


def _find_mirrored_axes(matrix: np.ndarray | None) -> list[int] | None:
    """Axes of a (channels, *spatial) tensor that a matrix mirrors; None where it does anything else, or there is none."""
    if matrix is None or not np.array_equal(np.abs(matrix), np.eye(len(matrix))):
        return None
    return [1 + axis for axis in np.flatnonzero(np.diag(matrix) < 0).tolist()]


def _sample(batch: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return functional.grid_sample(batch, grid, mode=mode, padding_mode="border", align_corners=False)


def _rotate(dims: int, first: int, second: int, angle: float) -> np.ndarray:
    rotation = np.eye(dims)
    rotation[[first, second], [first, second]] = math.cos(angle)
    rotation[first, second], rotation[second, first] = -math.sin(angle), math.sin(angle)
    return rotation


def _draw_noise(plane: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Standard normal values on the plane's device, from a seed of the sample's generator."""
    source = torch.Generator(plane.device).manual_seed(int(generator.integers(2**62)))
    return torch.randn(plane.shape, generator=source, device=plane.device, dtype=plane.dtype)
