"""Whole channels of a sample set to their mean, so that a network learns to do without them (Neverova et al. 2016, ModDrop).

Channels that a case lacks are set again behind the other augmentation, which may have moved them. In a z-score the mean is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unet_pipeline.training.row_layout import Shape, Values

_KEPT = "kept_channels"


class ChannelDropout:
    """Sets channels of a sample to 0.

    Args:
        probability: of a sample that channels are dropped; which ones is drawn evenly from all non-empty sets that leave a channel.
        channel_names: of the images, in their order.
        missing_channels: names of those that may be dropped.
    """

    def __init__(self, probability: float, channel_names: Sequence[str], missing_channels: Sequence[str]) -> None:
        self.probability = probability
        self.may_drop = np.array([name in missing_channels for name in channel_names])

    def list_shapes(self) -> dict[str, Shape]:
        """Of a sample's numbers: 1 for a channel that is kept, 0 for one that is not."""
        return {_KEPT: self.may_drop.shape}

    def draw(self, generator: np.random.Generator, is_there: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The channels of one sample that are kept.

        Args:
            generator: of the sample.
            is_there: shape (channels,), those that the case has; all of them if None.
        """
        there = np.ones(self.may_drop.shape, bool) if is_there is None else np.asarray(is_there, bool)
        kept, candidates = there.copy(), np.flatnonzero(self.may_drop & there)
        spares_one = len(candidates) == there.sum()  # all of them would leave nothing
        is_wanted = generator.random() < self.probability
        if not is_wanted or len(candidates) <= spares_one:
            return {_KEPT: kept.astype(float)}
        chosen = np.zeros(len(candidates), bool)
        while not chosen.any() or (spares_one and chosen.all()):
            chosen = generator.random(len(candidates)) < 0.5
        kept[candidates[chosen]] = False
        return {_KEPT: kept.astype(float)}

    def apply(self, images: torch.Tensor, values: Values) -> torch.Tensor:
        """A batch without the channels that are not kept.

        Args:
            images: shape (batch, channels, *spatial), float32.
            values: of the samples, on the device of the images.
        """
        kept = values[_KEPT].to(images.dtype)
        return images * kept.reshape(*kept.shape, *[1] * (images.ndim - 2))


def find_channels_that_are_there(image: torch.Tensor) -> np.ndarray:
    """Which channels of a preprocessed case differ from place to place, as all do that it has, shape (channels,).

    Args:
        image: shape (channels, *spatial).
    """
    low, high = image.as_subclass(torch.Tensor).flatten(1).aminmax(dim=1)
    return (low < high).numpy(force=True)
