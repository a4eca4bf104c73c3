"""Shapes of arrays that every stage shares, for annotations; import them from `unet_pipeline.types`.

They are apart from the names there because jaxtyping takes as long to import as all of the command line.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

ImageArray = Shaped[np.ndarray, "channels *spatial"]
LabelMap = Integer[np.ndarray, "*spatial"]
Mask = Bool[np.ndarray, "*spatial"]
Affine = Float[np.ndarray, "4 4"]
