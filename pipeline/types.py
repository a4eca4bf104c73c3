"""Names and shapes that every stage shares.

Dictionary keys are MONAI's. Arrays are channel first; spatial axes are called i, j, k in the order in which MONAI's
readers give them: for NIfTI the file's own axes, for pictures i runs along the width and j along the height.

Annotations are not read when the program runs: import shapes below `if TYPE_CHECKING`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Integer, Shaped  # takes as long to import as all of the command line

    ImageArray = Shaped[np.ndarray, "channels *spatial"]
    LabelMap = Integer[np.ndarray, "*spatial"]
    Mask = Bool[np.ndarray, "*spatial"]
    Affine = Float[np.ndarray, "4 4"]

IMAGE = "image"
LABEL = "label"
PRED = "pred"
CASE = "case"
WEIGHT = "weight"
SEED = "seed"  # of one sample's augmentation

BACKGROUND = "background"
