"""Volumes as radiologists look at them: columns run to the patient's left, rows to the back, slices upwards."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np

from unet_pipeline.types import Affine


def _find_turn(affine: Affine) -> np.ndarray:
    return nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))


def turn_radiological(volume: np.ndarray, affine: Affine) -> np.ndarray:
    """The voxels of shape (i, j, k) with axes to the patient's left, back and head; the patient's right is on the left of a view."""
    return nib.orientations.apply_orientation(volume, _find_turn(affine))


def turn_spacing(spacing_mm: Sequence[float], affine: Affine) -> tuple[float, float, float]:
    """The voxel sizes along i, j, k in the order of the axes of `turn_radiological`."""
    turned = [0.0] * 3
    for axis, (target, _) in enumerate(_find_turn(affine)):
        turned[int(target)] = float(spacing_mm[axis])
    return turned[0], turned[1], turned[2]
