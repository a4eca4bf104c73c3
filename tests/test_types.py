"""Shared names come without the library of the shapes, which annotations alone need."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.types import Affine, ImageArray, LabelMap, Mask

    SHAPES = (Affine, ImageArray, LabelMap, Mask)


def test_names_come_without_jaxtyping() -> None:
    code = "import sys; from pipeline.types import IMAGE, BACKGROUND; print('jaxtyping' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
