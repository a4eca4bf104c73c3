"""Names and shapes that every stage shares.

Dictionary keys are MONAI's. Arrays are channel first; spatial axes are called i, j, k in the order in which MONAI's
readers give them: for NIfTI the file's own axes, for pictures i runs along the width and j along the height.

Annotations are not read when the program runs: import shapes below `if TYPE_CHECKING`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_pipeline.shapes import Affine, ImageArray, LabelMap, Mask

__all__ = [
    "BACKGROUND",
    "CASE",
    "IMAGE",
    "LABEL",
    "PRED",
    "WEIGHT",
    "Affine",
    "ImageArray",
    "LabelMap",
    "Mask",
]

IMAGE = "image"
LABEL = "label"
PRED = "pred"
CASE = "case"
WEIGHT = "weight"

BACKGROUND = "background"


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("unet_pipeline.shapes"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
