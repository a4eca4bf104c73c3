"""What the engine `volumes` has to know of a bundle's transforms; anything that it does not know is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai.inferers import Inferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CopyItemsd,
    DeleteItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    MapLabelValued,
    NormalizeIntensityd,
    Orientationd,
    SaveImaged,
    ScaleIntensity,
    ScaleIntensityd,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.utils import GridSampleMode, GridSamplePadMode

from unet_pipeline.prediction.windows import is_plain
from unet_pipeline.types import IMAGE

_LOADING = (LoadImaged, EnsureChannelFirstd, Orientationd, Spacingd)
_INTENSITIES = (ScaleIntensityRanged, NormalizeIntensityd, EnsureTyped)


class UnknownStepError(Exception):
    """A step of a bundle that is not as `plan` writes it for volumes; its text ends the sentence why images go MONAI's own way."""


@dataclass(frozen=True)
class VolumeRecipe:
    """How volumes are finished.

    Attributes:
        class_transforms: of the bundle, behind the argmax.
        logit_scale: in front of the softmax; 1 over the temperature.
    """

    class_transforms: tuple[Any, ...]
    logit_scale: float


def read_recipe(
    preprocessing: Compose,
    inferer: Inferer,
    to_probabilities: Sequence[Any],
    to_classes: Sequence[Any],
    to_files: Sequence[Any],
    suffix: str,
) -> VolumeRecipe:
    """The recipe of a bundle's components.

    Args:
        to_probabilities: its transforms behind the network.
        to_classes: those behind the probabilities.
        to_files: those that give classes their values and write them.
        suffix: of the images and label maps.

    Raises:
        UnknownStepError: a step is none that `plan` writes for volumes.
    """
    if not suffix.startswith(".nii"):
        raise UnknownStepError("pictures are small")
    if not is_plain(inferer):
        raise UnknownStepError(f"{type(inferer).__name__} is not the plain sliding window")
    transforms = list_image_transforms(preprocessing)
    if not begins_as_planned(preprocessing) or any(type(one) not in _INTENSITIES for one in transforms[4:]):
        raise UnknownStepError("the preprocessing is not what `plan` writes")
    spacing = transforms[3]
    if spacing.mode[0] != GridSampleMode.BILINEAR or spacing.padding_mode[0] != GridSamplePadMode.BORDER:
        raise UnknownStepError(f"the interpolation is {spacing.mode[0]}")
    scale = _read_logit_scale(to_probabilities)
    ends = [type(transform) for transform in (*to_classes, *to_files)]
    if ends[0] is not AsDiscreted or ends[-2:] != [MapLabelValued, SaveImaged]:
        raise UnknownStepError("the output is not what `plan` writes")
    return VolumeRecipe(tuple(to_classes[1:]), scale)


def _read_logit_scale(to_probabilities: Sequence[Any]) -> float:
    behind = [type(transform) for transform in to_probabilities]
    if behind[-2:] != [Activationsd, Invertd] or behind[:-2] not in ([], [ScaleIntensityd]):
        raise UnknownStepError("the probabilities are changed on their way back")
    if not all(to_probabilities[-2].softmax) or any(to_probabilities[-2].sigmoid):
        raise UnknownStepError("the probabilities are no softmax")
    scalers = [transform.scaler for transform in to_probabilities[:-2]]
    if any(_is_rescaled(scaler) for scaler in scalers):
        raise UnknownStepError("the logits are not only multiplied by a factor")
    return float(1 + scalers[0].factor) if scalers else 1.0


def _is_rescaled(scaler: ScaleIntensity) -> bool:
    return scaler.minv is not None or scaler.maxv is not None or scaler.factor is None


def list_image_transforms(preprocessing: Compose) -> list[Any]:
    """Those of a bundle's preprocessing that change the image; others move further items of the sample."""
    return [
        transform
        for transform in preprocessing.transforms
        if not isinstance(transform, CopyItemsd | DeleteItemsd) or IMAGE in transform.keys
    ]


def begins_as_planned(preprocessing: Any) -> bool:
    """Whether the image comes to the network's grid as `plan` writes it."""
    if not isinstance(preprocessing, Compose):
        return False
    return tuple(type(transform) for transform in list_image_transforms(preprocessing)[:4]) == _LOADING
