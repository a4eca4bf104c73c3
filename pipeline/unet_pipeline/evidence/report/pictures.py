"""A plane of an image as SVG: under the outlines of reference and prediction, or under the map of its errors.

The image lies in it as a data URI of its own pixels; the outlines are paths that stay one pixel wide at every size.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from PIL import Image as PillowImage

# Okabe and Ito's palette and tints of it, as in the viewer: reference and prediction are never of one colour
REFERENCE_COLOURS = ("#56B4E9", "#009E73", "#0072B2", "#7FDBCA", "#A6C8FF")
PREDICTION_COLOURS = ("#E69F00", "#D55E00", "#F0E442", "#CC79A7", "#FFB38A")
ERRORS = {"missed": "#56B4E9", "false alarm": "#E69F00", "agreed": "#8C8C8C", "wrong label": "#CC79A7"}
ERROR_WORDS = {"missed": "blue", "false alarm": "orange", "agreed": "grey", "wrong label": "pink"}
_MOST_PIXELS = 512  # a larger side is made smaller first: more cannot be seen and would fill the file
_MOST_PNG_BYTES = 60_000  # a larger one is stored as JPEG


@dataclass(frozen=True)
class Plane:
    """One plane of one case; arrays as (rows, columns).

    Attributes:
        name: "axial", "coronal" or "sagittal", "" for a picture.
        image: of any numbers, or (rows, columns, 3) in uint8.
        reference: label values.
        prediction: label values.
        aspect: height of a pixel by its width.
        ignored: where the reference says nothing.
    """

    name: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    aspect: float = 1.0
    ignored: np.ndarray | None = None


def draw_outlines(plane: Plane, values: Sequence[int], alt: str) -> Markup:
    """The image with the outlines of every label: the reference's solid, the prediction's dashed, each of its own colour."""
    small = _fit(plane)
    paths = []
    for number, value in enumerate(values):
        for labels, colours, dash in (
            (small.reference, REFERENCE_COLOURS, ""),
            (small.prediction, PREDICTION_COLOURS, ' stroke-dasharray="4 2"'),
        ):
            if line := trace_outline(labels == value):
                paths.append(f'<path d="{line}" stroke="{colours[number % len(colours)]}"{dash}/>')
    return _wrap(small, show_grey(small.image), "".join(paths), alt)


def draw_errors(plane: Plane, alt: str) -> Markup:
    """The darkened image with what was missed, a false alarm, agreed, or given another label, each in its colour."""
    small = _fit(plane)
    shown = show_grey(small.image)
    painted = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
    painted = (painted.astype(np.float32) * 0.45).astype(np.uint8)
    for name, mask in find_errors(small.reference, small.prediction, small.ignored).items():
        painted[mask] = [int(ERRORS[name][place : place + 2], 16) for place in (1, 3, 5)]
    return _wrap(small, painted, "", alt, "errors")


def find_errors(
    reference: np.ndarray, prediction: np.ndarray, ignored: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Masks by the names of `ERRORS`; 0 is the background, and `ignored` pixels are in none."""
    kept = np.ones(reference.shape, bool) if ignored is None else ~ignored
    same = reference == prediction
    return {
        "missed": kept & (reference != 0) & (prediction == 0),
        "false alarm": kept & (reference == 0) & (prediction != 0),
        "agreed": kept & same & (reference != 0),
        "wrong label": kept & ~same & (reference != 0) & (prediction != 0),
    }


def trace_outline(mask: np.ndarray) -> str:
    """The border of a mask as the data of an SVG path, in half pixels; "" for an empty one."""
    if not mask.any():
        return ""
    from contourpy import contour_generator

    # an empty frame, so that a mask at the picture's edge is closed too; half a pixel lies between neighbours' centres
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float32)).lines(0.5)
    return "".join(_write_path(np.asarray(line)) for line in lines)


def _write_path(line: np.ndarray) -> str:
    points = np.round(line * 2).astype(int) - 1  # the frame's width less the half to a pixel's own edge
    steps = np.diff(points, axis=0)
    turns = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
    ends = np.diff(points[[0, *turns, len(points) - 1]], axis=0)
    return f"M{points[0][0]} {points[0][1]}l" + " ".join(f"{x} {y}" for x, y in ends.tolist()) + "z"


def show_grey(image: np.ndarray) -> np.ndarray:
    """An image as uint8: colours as they are, other numbers from their 1st to their 99.5th percentile."""
    if image.ndim == 3 and image.dtype == np.uint8:
        return image
    grey = image[..., 0] if image.ndim == 3 else image
    finite = grey[np.isfinite(grey)]
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(grey.astype(np.float64), nan=low) - low) / max(high - low, 1e-6)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _fit(plane: Plane) -> Plane:
    rows, columns = plane.reference.shape
    factor = _MOST_PIXELS / max(rows, columns)
    if factor >= 1:
        return plane
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    shown = np.asarray(PillowImage.fromarray(show_grey(plane.image)).resize(size, PillowImage.Resampling.LANCZOS))
    across = ((np.arange(size[0]) + 0.5) / factor).astype(int).clip(0, columns - 1)
    down = ((np.arange(size[1]) + 0.5) / factor).astype(int).clip(0, rows - 1)
    reference, prediction = (labels[np.ix_(down, across)] for labels in (plane.reference, plane.prediction))
    ignored = None if plane.ignored is None else plane.ignored[np.ix_(down, across)]
    return Plane(plane.name, shown, reference, prediction, plane.aspect, ignored)


def _wrap(plane: Plane, shown: np.ndarray, paths: str, alt: str, kind: str = "") -> Markup:
    rows, columns = plane.reference.shape
    height = round(rows * plane.aspect, 2)
    frame = f'width="{columns}" height="{height:g}"'
    drawn = (
        f'<g fill="none" stroke-width="1" transform="scale(.5 {plane.aspect / 2:.6g})">{paths}</g>'.replace(
            "<path ", '<path vector-effect="non-scaling-stroke" '
        )
        if paths
        else ""
    )
    return Markup(  # the text that comes from outside is escaped here
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture {kind}" viewBox="0 0 {columns} {height:g}" role="img" '
        f'aria-label="{escape(alt)}"><image {frame} preserveAspectRatio="none" href="{encode(shown)}"/>{drawn}</svg>'
    )


def encode(shown: np.ndarray) -> str:
    """A picture as data URI: PNG, or JPEG where that would be large."""
    image = PillowImage.fromarray(shown)
    for form, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 88})):
        stream = io.BytesIO()
        image.save(stream, form, **options)
        if form == "JPEG" or len(stream.getvalue()) <= _MOST_PNG_BYTES:
            break
    return embed(stream.getvalue(), form.lower())


def embed(content: bytes, form: str) -> str:
    """A picture as an address that needs no network; `form` is "png" or "jpeg"."""
    return f"data:image/{form};base64,{base64.b64encode(content).decode('ascii')}"
