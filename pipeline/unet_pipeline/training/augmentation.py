"""The patches of a batch: where each is cut out and how it is changed, drawn on the host, computed where the network is.

The numbers of a sample come from its own seed (`samples.py`), so that neither the batch it falls into nor the number of
workers or processes changes it. They are a row of one small table; with it, a step needs nothing else from the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from monai.transforms.utils import generate_label_classes_crop_centers

from unet_pipeline.training.channel_dropout import ChannelDropout
from unet_pipeline.training.intensity import IntensityAugmentation
from unet_pipeline.training.row_layout import RowLayout, Values
from unet_pipeline.training.sampling import PackedVoxels, Source, sample_each, sample_packed
from unet_pipeline.training.sites import SiteAugmentation
from unet_pipeline.training.spatial import SpatialAugmentation, find_box


class PatchAugmentation:
    """Crops patches and changes them.

    Args:
        patch_size: voxels along each axis; every case is at least as large.
        num_channels: of the images.
        crop_ratios: how often a patch is centred on a voxel of each class.
        spatial: what moves voxels.
        intensity: what changes values; None for nothing.
        sites: what differs between hospitals, before `intensity`; None for nothing.
        channel_dropout: what sets whole channels to 0, behind all; None for nothing.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        num_channels: int,
        crop_ratios: Sequence[float],
        spatial: SpatialAugmentation,
        intensity: IntensityAugmentation | None = None,
        sites: SiteAugmentation | None = None,
        channel_dropout: ChannelDropout | None = None,
    ) -> None:
        self.patch_size, self.num_channels = tuple(patch_size), num_channels
        self.crop_ratios = list(crop_ratios)
        self.spatial, self.intensity, self.sites = spatial, intensity, sites
        self.channel_dropout = channel_dropout

    @cached_property
    def layout(self) -> RowLayout:
        """Of a sample's numbers."""
        dims = len(self.patch_size)
        places = dict.fromkeys(("case_shape", "box_shape", "lower", "centre"), (dims,))
        changes = {} if self.intensity is None else self.intensity.list_shapes(self.num_channels, dims)
        sites = {} if self.sites is None else self.sites.list_shapes(self.num_channels, dims)
        dropout = {} if self.channel_dropout is None else self.channel_dropout.list_shapes()
        return RowLayout({"offset": (), **places, **self.spatial.list_shapes(), **changes, **sites, **dropout})

    def draw(
        self,
        seed: int,
        case_shape: Sequence[int],
        class_indices: Sequence[np.ndarray],
        zero_level: Sequence[float] | None = None,
        is_there: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Everything about one sample; `lower` and `box_shape` are the part of the case that it is made of.

        Args:
            seed: of the sample.
            case_shape: voxels along each axis.
            class_indices: for each class the flat indices of its voxels, to centre patches on.
            zero_level: what an intensity of 0 in the file is in the case, one value per channel; `sites` needs it.
            is_there: which channels the case has; `channel_dropout` needs it. All of them if None.
        """
        generator = np.random.default_rng(seed)
        (chosen,) = generate_label_classes_crop_centers(
            self.patch_size,
            1,
            list(case_shape),
            class_indices,
            self.crop_ratios,
            np.random.RandomState(seed),
            warn=False,
        )
        patch = np.asarray(self.patch_size)
        centre = np.asarray(chosen) - patch // 2 + (patch - 1) / 2
        values = {"offset": np.zeros(()), "case_shape": np.asarray(case_shape), "centre": centre}
        values |= self.spatial.draw(generator)
        if self.intensity is not None:
            values |= self.intensity.draw(generator, self.num_channels, self.patch_size)
        if self.sites is not None:
            # numbers of their own, so that the others are those of a training without
            values |= self.sites.draw(np.random.default_rng((seed, 1)), self.num_channels, len(patch))
            values["zero_level"] = values["zero_level"] if zero_level is None else np.asarray(zero_level)
        if self.channel_dropout is not None:  # numbers of their own too
            values |= self.channel_dropout.draw(np.random.default_rng((seed, 2)), is_there)
        values["lower"], values["box_shape"] = find_box(
            values["matrix"], values["field"], centre, self.patch_size, case_shape
        )
        return values

    def __call__(self, table: torch.Tensor, sources: Sequence[Source]) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch out of parts of cases, on the CPU.

        Args:
            table: shape (batch, width): rows of the samples.
            sources: for each sample the part that its row names.

        Returns:
            Images, shape (batch, channels, *patch), and targets, shape (batch, 1 or 2, *patch): classes, and weights if there are any.
        """
        values = self.layout.decode(table)
        with torch.no_grad():
            images, targets = sample_each(sources, values, self.patch_size)
            return self._change_values(images, values), targets

    def take_packed(
        self, table: torch.Tensor, voxels: PackedVoxels, everywhere: bool | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same out of one buffer, with the table beside it; `offset` says where the voxels of a sample begin."""
        values = self.layout.decode(table)
        with torch.no_grad():
            images, targets = sample_packed(voxels, values, self.patch_size, self.num_channels)
            return self._change_values(images, values, everywhere), targets

    def _change_values(self, images: torch.Tensor, values: Values, everywhere: bool | None = None) -> torch.Tensor:
        for part in (self.sites, self.intensity):
            if part is not None:
                images = part.apply(images, values, everywhere)
        return images if self.channel_dropout is None else self.channel_dropout.apply(images, values)
