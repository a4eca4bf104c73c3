"""Whether an image lies as those of the training do: its cells beside their mean, as it is, mirrored and with two axes exchanged."""

from __future__ import annotations

import numpy as np

_TINY = 1e-9


def measure_layout(thumbnail: np.ndarray, template: np.ndarray) -> dict[str, float]:
    """How well an image's cells follow the template's, -1 to 1, and how much better than when they are mirrored or turned.

    Args:
        thumbnail: of the image, as many cells along each axis.
        template: mean of the training's thumbnails.
    """
    own = _correlate(thumbnail, template)
    numbers = {"layout_match": own}
    for axis in range(thumbnail.ndim):
        numbers[f"layout_match_over_mirrored_{axis}"] = own - _correlate(np.flip(thumbnail, axis), template)
    numbers["layout_match_over_exchanged_axes"] = own - _correlate(np.swapaxes(thumbnail, 0, 1), template)
    return numbers


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum() + _TINY))
