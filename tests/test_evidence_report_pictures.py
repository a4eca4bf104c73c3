"""Outlines lie on the borders of pixels, and every pixel of an error map has the colour of what happened there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import unet_pipeline
from unet_pipeline.evidence.report.pictures import (
    ERRORS,
    PREDICTION_COLOURS,
    REFERENCE_COLOURS,
    Plane,
    draw_outlines,
    encode,
    find_errors,
    show_grey,
    trace_outline,
)


def test_trace_outline_of_one_pixel_is_a_diamond_around_its_centre() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    numbers = [int(text) for text in re.findall(r"-?\d+", trace_outline(mask))]
    start, steps = np.array(numbers[:2]), np.array(numbers[2:]).reshape(-1, 2)
    corners = {tuple(point) for point in (start + np.cumsum(steps, axis=0)).tolist()}
    assert corners == {(4, 3), (6, 3), (5, 2), (5, 4)}  # half pixels: the centre is (5, 3)


def test_trace_outline_full_mask_is_closed_at_the_edges_and_empty_one_is_nothing() -> None:
    assert trace_outline(np.zeros((2, 2), bool)) == ""
    full = trace_outline(np.ones((5, 5), bool))
    assert full.count("M") == full.count("z") == 1


def test_trace_outline_straight_lines_are_one_step() -> None:
    mask = np.zeros((200, 200), bool)
    mask[20:180, 20:180] = True
    assert len(trace_outline(mask)) < 80


def test_find_errors_every_pair_of_labels() -> None:
    reference, prediction = np.array([0, 1, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    ignored = np.array([False, False, False, False, False, True])
    errors = {name: np.flatnonzero(mask).tolist() for name, mask in find_errors(reference, prediction, ignored).items()}
    assert errors == {"missed": [1], "false alarm": [2], "agreed": [3], "wrong label": [4]}


def test_draw_outlines_large_noisy_picture_stays_small() -> None:
    generator = np.random.default_rng(0)
    image, labels = generator.random((900, 1400)), (generator.random((2, 900, 1400)) > 0.5).astype(np.uint8)
    svg = draw_outlines(Plane("", image, labels[0], labels[1]), [1], "<noise>")
    assert len(svg) < 6_000_000
    assert 'viewBox="0 0 512 329"' in svg
    assert "&lt;noise&gt;" in svg


def test_show_grey_of_a_constant_and_of_undefined_values_is_a_picture() -> None:
    assert show_grey(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]
    assert show_grey(np.full((2, 2), np.nan)).dtype == np.uint8


def test_encode_large_picture_is_jpeg() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    assert encode(noise).startswith("data:image/jpeg")
    assert encode(noise[:20, :20]).startswith("data:image/png")


def test_colours_are_those_of_the_viewer() -> None:
    script = (Path(unet_pipeline.__file__).parent / "viewer" / "assets" / "masks.js").read_text(encoding="utf-8")
    for name, colours in (("REFERENCE", REFERENCE_COLOURS), ("PREDICTION", PREDICTION_COLOURS)):
        assert re.findall("#[0-9A-F]{6}", script.partition(f"{name}_COLOURS")[2].partition("]")[0]) == list(colours)
    errors = re.findall("#[0-9A-F]{6}", script.partition("ERROR_COLOURS")[2].partition("]")[0])
    assert errors[1:] == list(ERRORS.values())
