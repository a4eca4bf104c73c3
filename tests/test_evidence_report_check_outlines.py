"""Outlines as paths lie on the borders of the pixels' centres and enclose what the mask has."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.tiles import Tile, make_tile
from unet_pipeline.evidence.report.check_outlines import draw_veil, trace_labels


def build_tile(mask: np.ndarray) -> Tile:
    """A tile whose mask has the rows and columns of an array."""
    label = MedicalImage(mask.T[None], np.eye(4), (1.0, 1.0))
    return make_tile(Case("a", Path("a.png"), None), None, label, most_pixels=max(mask.shape))


def follow(path: str) -> list[np.ndarray]:
    """Corners of each closed line, shape (corners, 2) as x, y in pixels of the picture."""
    lines = []
    for start, steps in re.findall(r"M(-?\d+ -?\d+)l([-\d ]*)z", path):
        numbers = np.array([*start.split(), *steps.split()], int).reshape(-1, 2)
        lines.append(np.cumsum(numbers, axis=0) / 2)
    return lines


def measure_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def test_trace_labels_rectangle_is_where_its_pixels_are() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:30] = 4  # up to the right edge
    ((number, path),) = trace_labels(build_tile(mask), {4: 8})
    (corners,) = follow(path)
    assert number == 1  # of seven colours
    assert (corners.min(axis=0), corners.max(axis=0)) == (pytest.approx([10, 5]), pytest.approx([30, 15]))
    assert measure_area(corners) == pytest.approx(200 - 4 / 8)  # cut corners


def test_trace_labels_single_pixel_and_hole_are_seen() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:12, 2:12], mask[5:8, 5:8], mask[16, 16] = 1, 0, 1
    ((_, path),) = trace_labels(build_tile(mask), {1: 0})
    assert sorted(round(measure_area(line), 1) for line in follow(path)) == [0.5, 8.5, 99.5]


def test_trace_labels_each_label_has_its_path() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:8, 2:8], mask[10:18, 10:18] = 3, 200
    assert [number for number, _ in trace_labels(build_tile(mask), {3: 1, 200: 0})] == [1, 0]


def test_trace_labels_empty_mask_has_none() -> None:
    tile = build_tile(np.zeros((9, 9), np.uint8))
    assert (trace_labels(tile, {}), draw_veil(tile)) == ([], "")


def test_draw_veil_is_the_more_opaque_the_brighter() -> None:
    tile = build_tile(np.linspace(0, 1, 100)[None, :].repeat(100, axis=0))
    content = base64.b64decode(draw_veil(tile).partition(",")[2])
    alpha = np.asarray(PillowImage.open(io.BytesIO(content)))[0, :, 3].astype(int)
    assert alpha[0] == 0
    assert (np.diff(alpha) >= 0).all()
    assert alpha[-1] > 100
    assert trace_labels(tile, {}) == []
