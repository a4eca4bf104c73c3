"""Names and shapes that every stage shares.

Dictionary keys are MONAI's. Arrays are channel first; spatial axes are called i, j, k in the order in which MONAI's
readers give them: for NIfTI the file's own axes, for pictures i runs along the width and j along the height.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

IMAGE = "image"
LABEL = "label"
PRED = "pred"
CASE = "case"
WEIGHT = "weight"
SEED = "seed"  # of one sample's augmentation

BACKGROUND = "background"

ImageArray = Shaped[np.ndarray, "channels *spatial"]
LabelMap = Integer[np.ndarray, "*spatial"]
Mask = Bool[np.ndarray, "*spatial"]
Affine = Float[np.ndarray, "4 4"]
