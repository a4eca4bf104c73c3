"""What an image looks like before any network: its header, intensities, texture, colours and layout, as named numbers.

Everything is computed from voxels as they were read, on a sample of at most `MOST_VOXELS`, so that it costs little beside a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.missing_channels import COLUMN as MISSING_COLUMN
from unet_pipeline.dataset.missing_channels import COMPLETE, name_pattern

MOST_VOXELS = 1 << 18  # of the sample that intensities and texture are measured on
THUMBNAIL = 12  # cells along each axis
JPEG_BLOCK = 8  # pixels
_LAGS = (1, 2, 4)  # voxels
_QUANTILES = (0.005, 0.1, 0.25, 0.5, 0.75, 0.9, 0.995)
_TINY = 1e-6
_LEAST_CUT = (
    1e-2  # of voxels at one value: smaller shares hardly differ, as a few bright voxels more do not tell of a cut
)
_FLOORS_OF_GROUPS = {"grid": 0.02}
_LOGARITHMIC = ("_spread", "_spread_ratio", "_mean_ratio", "_at_lowest", "_at_highest")
_COMPRESSED = ("_mean", "_lowest", "_highest")
_WORLD_AXES = ("left_right", "posterior_anterior", "inferior_superior")
_PICTURE_AXES = ("width", "height")


@dataclass(frozen=True)
class ImageProperties:
    """What was measured of one image.

    Attributes:
        numbers: by name; sizes, spacings and spreads as natural logarithms, so that twice is as far as half.
        words: that are equal or not: channels, dimensions, orientation, modality, missing_channels.
        thumbnail: mean of each cell of the standardised image, `THUMBNAIL` cells along each axis, axes as in the training's world.
    """

    numbers: Mapping[str, float]
    words: Mapping[str, str]
    thumbnail: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def is_whole(self) -> bool:
        """Whether no channel is missing."""
        return self.words.get(MISSING_COLUMN, COMPLETE) == COMPLETE


def measure_image(
    image: MedicalImage, counts_pixels: bool, lacking: Mapping[int, str] | None = None
) -> ImageProperties:
    """Measure an image.

    Args:
        image: as it was read.
        counts_pixels: it is a picture, whose pixels have no size.
        lacking: place and name of the channels that it lacks, which are not measured; None where none may be missing.
    """
    array, affine = orient(image.array, image.affine) if not counts_pixels else (image.array, image.affine)
    spacing = np.ones(array.ndim - 1) if counts_pixels else np.linalg.norm(affine[:3, :3], axis=0)
    axes = _PICTURE_AXES if counts_pixels else _WORLD_AXES
    words = {"channels": str(len(array)), "dimensions": str(array.ndim - 1)}
    if not counts_pixels:
        words["orientation"] = name_orientation(image.affine)
    if image.modality:
        words["modality"] = image.modality
    if lacking is not None:
        words[MISSING_COLUMN] = name_pattern(list(lacking.values()))
    numbers = _measure_grid(array.shape[1:], spacing, axes, counts_pixels)
    places = [place for place in range(len(array)) if place not in (lacking or ())]
    sample = np.stack([_take_sample(array[place]) for place in places]).astype(np.float32)
    centre, spread = _find_scale(sample)
    numbers |= _measure_intensities(sample, centre, spread, places)
    if not lacking:
        numbers |= _measure_colours(sample)
    grey = _standardise(sample, centre, spread).mean(axis=0)
    numbers |= _measure_texture(grey, axes)
    return ImageProperties(numbers, words, _shrink(grey))


def orient(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume with its axes along R, A and S; voxels are only turned, not interpolated.

    Args:
        array: shape (channels, i, j, k), or (channels, i, j), which stays as it is.
        affine: of the voxels, in mm.
    """
    if array.ndim != 4:
        return array, affine
    import nibabel as nib

    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(np.moveaxis(array, 0, -1), orientation)
    new_affine = affine @ nib.orientations.inv_ornt_aff(orientation, array.shape[1:])
    return np.moveaxis(turned, -1, 0), new_affine


def name_orientation(affine: np.ndarray) -> str:
    """Such as "RAS": where the axes of the file run to."""
    import nibabel as nib

    return "".join(code or "?" for code in nib.aff2axcodes(affine))


def _measure_grid(
    shape: tuple[int, ...], spacing: np.ndarray, axes: tuple[str, ...], counts_pixels: bool
) -> dict[str, float]:
    unit = "pixels" if counts_pixels else "mm"
    numbers = {}
    for axis, size, step in zip(axes, shape, spacing[: len(shape)], strict=False):
        numbers[f"extent_{axis}_{unit}"] = float(np.log(size * step))
        if not counts_pixels:
            numbers[f"spacing_{axis}_mm"] = float(np.log(step))
    return numbers


def _take_sample(channel: np.ndarray) -> np.ndarray:
    """The middle of each axis of a channel, so that neighbours stay neighbours, and all of it where that is few enough."""
    if channel.size <= MOST_VOXELS:
        return channel
    # whole planes of a volume, spread over it, for the two first axes; a picture is cut out of the middle
    if channel.ndim == 3:
        num_planes = max(8, MOST_VOXELS // prod(channel.shape[:2]))
        start = max(0, (channel.shape[2] - num_planes) // 2)
        channel = channel[:, :, start : start + num_planes]
    share = min(1.0, (MOST_VOXELS / channel.size) ** 0.5)
    window = []
    for size in channel.shape[:2]:
        kept = max(1, int(size * share)) // JPEG_BLOCK * JPEG_BLOCK or size
        start = (size - kept) // 2 // JPEG_BLOCK * JPEG_BLOCK
        window.append(slice(start, start + kept))
    return channel[tuple(window)]


def _find_scale(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = sample.reshape(len(sample), -1)
    return flat.mean(axis=1), flat.std(axis=1) + _TINY


def _standardise(sample: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    shape = (-1, *[1] * (sample.ndim - 1))
    return (sample - centre.reshape(shape)) / spread.reshape(shape)


def _measure_intensities(
    sample: np.ndarray, centre: np.ndarray, spread: np.ndarray, places: Sequence[int]
) -> dict[str, float]:
    numbers = {}
    for number, channel in enumerate(sample):
        flat = channel.reshape(-1)
        flat = flat[:: max(1, flat.size // 20000)]
        raw = np.quantile(flat, _QUANTILES)
        key = f"channel_{places[number]}"
        numbers[f"{key}_mean"] = _compress(float(centre[number]))
        numbers[f"{key}_spread"] = float(np.log(spread[number]))
        numbers[f"{key}_lowest"] = _compress(float(raw[0]))
        numbers[f"{key}_highest"] = _compress(float(raw[-1]))
        shares = (raw - centre[number]) / spread[number]
        numbers |= {f"{key}_standardised_q{q:g}": float(v) for q, v in zip(_QUANTILES, shares, strict=True)}
        standard = (flat - centre[number]) / spread[number]
        numbers[f"{key}_skewness"] = float(np.clip(np.mean(standard**3), -20, 20))
        for end, share in (("lowest", np.mean(flat <= flat.min())), ("highest", np.mean(flat >= flat.max()))):
            numbers[f"{key}_share_at_{end}"] = float(np.log(share + 1e-3))
            numbers[f"{key}_cut_at_{end}"] = float(np.log(share + _LEAST_CUT))
        numbers[f"{key}_edge_at_highest"] = _measure_edge(flat)
    return numbers


def _measure_edge(flat: np.ndarray) -> float:
    """Log of how many times more values lie at the highest than in a twentieth of the range below it, as where they were cut off."""
    highest = float(flat.max())
    step = (highest - float(flat.min())) / 20
    near = np.mean((flat >= highest - step) & (flat < highest))
    return float(np.log((np.mean(flat >= highest) + 1e-3) / (near + 1e-3)))


def _compress(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


def _measure_colours(sample: np.ndarray) -> dict[str, float]:
    """How the channels go together: correlations, and log ratios of means and spreads."""
    if len(sample) < 2:
        return {}
    flat = sample.reshape(len(sample), -1)
    flat = flat[:, :: max(1, flat.shape[1] // 20000)]
    correlations = np.atleast_2d(np.corrcoef(flat + np.linspace(0, _TINY, flat.shape[1])))
    numbers = {}
    for first in range(len(flat)):
        for second in range(first + 1, len(flat)):
            key = f"channels_{first}_{second}"
            numbers[f"{key}_correlation"] = float(np.arctanh(np.clip(correlations[first, second], -0.999, 0.999)))
            ratio = (flat[second].std() + _TINY) / (flat[first].std() + _TINY)
            numbers[f"{key}_spread_ratio"] = float(np.log(ratio))
            numbers[f"{key}_mean_ratio"] = float(np.log((flat[second].mean() + 1) / (flat[first].mean() + 1)))
    inverse = np.linalg.inv(correlations + _TINY * 10 * np.eye(len(flat)))
    for number in range(len(flat)):  # what the other channels do not explain
        numbers[f"channel_{number}_own_share"] = float(-0.5 * np.log(inverse[number, number]))
    return numbers


def _measure_texture(grey: np.ndarray, axes: tuple[str, ...]) -> dict[str, float]:
    """Differences between neighbours along each axis, and how much larger they are at the borders of JPEG's blocks."""
    numbers = {}
    for axis, name in zip(range(grey.ndim), axes, strict=False):
        lines = np.moveaxis(grey, axis, 0)
        for lag in _LAGS:
            if len(lines) > lag:
                steps = np.abs(lines[lag:] - lines[:-lag])
                numbers[f"step_{lag}_{name}"] = float(np.log(steps.mean() + 1e-4))
                if lag == 1:
                    by_place = steps.reshape(len(steps), -1).mean(axis=1)
                    numbers[f"blocks_{name}"] = _measure_blocks(by_place)
                    numbers[f"flat_share_{name}"] = float(np.log(np.mean(steps < 1e-3) + 1e-3))
                    strong = np.sqrt(np.mean(steps**2)) / (steps.mean() + 1e-4)
                    numbers[f"step_peakedness_{name}"] = float(np.log(strong + _TINY))
    return numbers


def _measure_blocks(by_place: np.ndarray) -> float:
    """Log of the largest mean step of the eight places within a block over the median of the eight."""
    whole = by_place[: len(by_place) // JPEG_BLOCK * JPEG_BLOCK].reshape(-1, JPEG_BLOCK)
    if len(whole) < 2:
        return 0.0
    places = np.median(whole, axis=0) + 1e-4
    return float(np.log(places.max() / np.median(places)))


def _shrink(grey: np.ndarray) -> np.ndarray:
    """Means of cells, `THUMBNAIL` along each axis; an axis of fewer voxels has one voxel in several cells."""
    for axis in range(grey.ndim):
        edges = np.linspace(0, grey.shape[axis], THUMBNAIL + 1)
        starts = np.minimum(edges[:-1].astype(int), grey.shape[axis] - 1)
        ends = np.maximum(edges[1:].astype(int), starts + 1)
        sums = np.concatenate([np.zeros_like(np.take(grey, [0], axis)), np.cumsum(grey, axis, dtype=np.float64)], axis)
        width = (ends - starts).reshape([-1 if one == axis else 1 for one in range(grey.ndim)])
        grey = (np.take(sums, ends, axis) - np.take(sums, starts, axis)) / width
    return grey.astype(np.float32)


def find_group(name: str) -> str:
    """The group of a property: grid, colour, intensity, texture or layout."""
    if name.startswith(("extent_", "spacing_")):
        return "grid"
    if name.startswith("channels_") or name.endswith("_own_share"):
        return "colour"
    if name.startswith("channel_"):
        return "intensity"
    return "layout" if name.startswith("layout_") else "texture"


def find_floor(name: str) -> float:
    """The least spread that a property is given, because few and equal images show none: 2 % of a size, a third of a small share."""
    if "share_at_" in name or "edge_at_" in name or name.startswith("flat_share_"):
        return 0.3
    if "cut_at_" in name:
        return 0.15
    if name.endswith("_skewness"):
        return 0.2
    return _FLOORS_OF_GROUPS.get(find_group(name), 0.05) if not name.startswith("blocks_") else 0.03


def show_number(name: str, value: float) -> str:
    """A property as a reader knows it: sizes, spreads and shares without their logarithm."""
    if name.startswith(("extent_", "spacing_", "step_", "blocks_", "flat_share_")) or name.endswith(_LOGARITHMIC):
        return f"{np.exp(value):.3g}"
    if name.startswith("channel_") and name.endswith(_COMPRESSED):
        return f"{np.sign(value) * np.expm1(abs(value)):.4g}"
    return f"{value:.3g}"
