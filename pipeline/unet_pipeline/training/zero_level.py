"""What an intensity of 0 in the file becomes for the network: stains and bias fields multiply light and signal, not z-scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import MapTransform, NormalizeIntensityd, Transform

from unet_pipeline.training.loading import CaseCompose
from unet_pipeline.types import IMAGE

ZERO_LEVEL = "zero_level"


class ZeroLeveld(Transform):
    """Applies a NormalizeIntensityd and notes where each channel's 0 came to lie, shape (channels,), float64.

    A channel of one value has its noted 0 at that value.
    """

    def __init__(self, normalize: NormalizeIntensityd) -> None:
        self.normalize = normalize

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        before = torch.as_tensor(data[IMAGE]).as_subclass(torch.Tensor).flatten(1).double()
        normalised = dict(self.normalize(data))
        after = torch.as_tensor(normalised[IMAGE]).as_subclass(torch.Tensor).flatten(1).double()
        (low, high), (low_then, high_then) = before.aminmax(dim=1), after.aminmax(dim=1)
        # a straight line through both ends, whatever constants it was made with
        slope = (high_then - low_then) / (high - low).clamp(min=1e-12)
        return normalised | {ZERO_LEVEL: (low_then - low * slope).numpy()}


class ZeroLevelCompose(CaseCompose):
    """`CaseCompose` that notes the zero level at every normalisation of the image."""

    def __init__(self, transforms: Sequence[MapTransform], **settings: Any) -> None:
        noting = [
            ZeroLeveld(transform)
            if isinstance(transform, NormalizeIntensityd) and IMAGE in transform.keys
            else transform
            for transform in transforms
        ]
        super().__init__(noting, **settings)
