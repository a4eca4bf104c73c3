"""A picture of an image with the outlines of its label maps: one panel for 2D, three planes for 3D."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset import contact_sheet
from unet_pipeline.dataset.image import MedicalImage, read_image, read_label_map
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = tuple("#{:02X}{:02X}{:02X}".format(*colour) for colour in contact_sheet.COLOURS)
_PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))


def draw_overlay(
    image: MedicalImage,
    label_maps: Mapping[str, MedicalImage] | MedicalImage | None = None,
    label_table: Mapping[str, int] | None = None,
) -> Figure:
    """Figure with one row per label map and one column per plane, through the labels' centre; without label maps the image alone.

    Args:
        image: the first channel is shown, RGB as it is; 3D images are assumed to be in or near RAS order.
        label_maps: title and label map on the image's grid, or one of them without a title.
        label_table: name and value; the first label, the background, is not outlined. Every value but 0, if None.

    Raises:
        DatasetError: a label map has another shape than the image.
    """
    maps = {"": label_maps} if isinstance(label_maps, MedicalImage) else dict(label_maps or {})
    _require_one_grid(image, maps)
    values = sorted({int(value) for label_map in maps.values() for value in np.unique(label_map.array)} - {0})
    named = {"": 0} | {f"value {value}": value for value in values} if label_table is None else label_table
    return _draw_rows(image, maps or {"": None}, list(named.items())[1:])


def _require_one_grid(image: MedicalImage, label_maps: Mapping[str, MedicalImage]) -> None:
    for title, label_map in label_maps.items():
        if label_map.spatial_shape != image.spatial_shape:
            raise DatasetError(
                f"The label map {title!r} has shape {label_map.spatial_shape}, and its image {image.spatial_shape}; expected the same. "
                "Give the label map of this image."
            )


def _draw_rows(
    image: MedicalImage, label_maps: Mapping[str, MedicalImage | None], drawn: list[tuple[str, int]]
) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    planes = _PLANES if len(image.spatial_shape) == 3 else (("", -1),)
    centre = _find_centre(image, next(iter(label_maps.values())))
    figure = Figure(figsize=(3.2 * max(len(planes), 2), 3.4 * len(label_maps) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(label_maps), len(planes), squeeze=False)
    for row, (title, label_map) in enumerate(label_maps.items()):
        for column, (plane, axis) in enumerate(planes):
            panel = axes[row][column]
            _show_slice(panel, image, axis, centre)
            labels = np.zeros(0) if label_map is None else _turn(_take(label_map.array[0], axis, centre))
            for number, (_, value) in enumerate(drawn):
                if (labels == value).any() and not (labels == value).all():
                    panel.contour(
                        labels == value, levels=[0.5], colors=[COLOURS[number % len(COLOURS)]], linewidths=0.9
                    )
            panel.set_title(", ".join(filter(None, (title, plane))), fontsize=10)
            panel.set_anchor("N")  # planes of different heights begin on one line
            panel.set_axis_off()
    lines = [Line2D([], [], color=COLOURS[number % len(COLOURS)], label=name) for number, (name, _) in enumerate(drawn)]
    if lines:
        figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 4), fontsize=9, frameon=False)
    return figure


def write_overlay(path: Path, image: Path, label_maps: Mapping[str, Path], label_table: Mapping[str, int]) -> Path:
    """Draw files and write the picture as PNG; returns `path`."""
    maps = {title: read_label_map(label_map, known_values=None) for title, label_map in label_maps.items()}
    figure = draw_overlay(read_image(image), maps, label_table)
    with write_atomically(path) as partial:
        figure.savefig(partial, dpi=120)
    return path


def _find_centre(image: MedicalImage, label_map: MedicalImage | None) -> tuple[int, ...]:
    inside = np.argwhere(label_map.array[0] > 0) if label_map is not None else ()
    middle = np.mean(inside, axis=0) if len(inside) else (np.array(image.spatial_shape) - 1) / 2
    return tuple(round(float(index)) for index in middle)


def _take(volume: np.ndarray, axis: int, centre: tuple[int, ...]) -> np.ndarray:
    return volume if axis < 0 else np.take(volume, centre[axis], axis=axis)


def _turn(plane: np.ndarray) -> np.ndarray:
    """Rows downwards, columns to the right, as pictures are drawn."""
    return np.swapaxes(plane, 0, 1)


def _show_slice(panel, image: MedicalImage, axis: int, centre: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    remaining = [size for index, size in enumerate(image.spacing_mm) if index != axis]
    aspect = remaining[1] / remaining[0]
    if axis < 0 and image.array.shape[0] == 3:
        colours = np.transpose(image.array, (2, 1, 0))
        if colours.dtype != np.uint8:  # matplotlib takes others for numbers from 0 to 1
            colours = np.clip(colours / max(float(colours.max()), 1e-6), 0, 1)
        panel.imshow(colours, aspect=aspect)
        return
    plane = _turn(_take(image.array[0], axis, centre)).astype(np.float32)
    low, high = np.percentile(plane, [1, 99.5])
    panel.imshow(
        plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect, origin="upper" if axis < 0 else "lower"
    )
