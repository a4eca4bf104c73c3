"""Shared names and shapes: both are there when the program runs, and the shapes only when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unet_pipeline import shapes, types


@pytest.mark.parametrize("name", ["Affine", "ImageArray", "LabelMap", "Mask"])
def test_shapes_are_offered_beside_the_names(name: str) -> None:
    assert getattr(types, name) is getattr(shapes, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Volume'"):
        types.Volume  # noqa: B018


def test_names_come_without_jaxtyping() -> None:
    code = "import sys; from unet_pipeline.types import IMAGE, BACKGROUND; print('jaxtyping' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
