"""Voxels and grid of one image, whatever the format of its file was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_pipeline.messages import Problem
from unet_pipeline.results import Result

if TYPE_CHECKING:
    from unet_pipeline.types import Affine, ImageArray

LARGEST_VALUE = 1e18  # its square is still a number in float32, as the normalisation needs


@dataclass(frozen=True)
class ImageGrid:
    """What the header of a file, or of a DICOM series, says about its voxels.

    Attributes:
        num_channels: as in the array of a `MedicalImage`.
        spatial_shape: likewise.
        affine: likewise.
        spacing_mm: likewise.
        value_bytes: of one voxel in one channel, as it is read.
    """

    num_channels: int
    spatial_shape: tuple[int, ...]
    affine: Affine
    spacing_mm: tuple[float, ...]
    value_bytes: int


@dataclass(frozen=True, repr=False)
class MedicalImage(Result):
    """Voxels and grid of one file, or of one DICOM series.

    Attributes:
        array: shape (channels, i, j) or (channels, i, j, k), values after the file's own scaling.
        affine: voxel indices to world coordinates in mm, RAS+; identity for pictures, which have no spacing.
        spacing_mm: voxel size along each spatial axis; 1.0 per axis for pictures, meaning pixels.
        notes: what the reader saw and did that a user should know; warnings and notes, never errors.
        modality: DICOM's code, such as "CT"; "" where the file does not say.
    """

    array: ImageArray
    affine: Affine
    spacing_mm: tuple[float, ...]
    notes: tuple[Problem, ...] = ()
    modality: str = ""

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def grid(self) -> ImageGrid:
        """All but the voxels."""
        return ImageGrid(
            self.array.shape[0], self.spatial_shape, self.affine, self.spacing_mm, self.array.dtype.itemsize
        )
