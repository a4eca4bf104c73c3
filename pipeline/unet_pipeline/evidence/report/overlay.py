"""A picture of an image with the outlines of its label maps: one panel for 2D, three planes for 3D."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset import contact_sheet
from unet_pipeline.dataset.image import MedicalImage, read_image, read_label_map
from unet_pipeline.dataset.radiological import turn_radiological, turn_spacing
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = tuple("#{:02X}{:02X}{:02X}".format(*colour) for colour in contact_sheet.COLOURS)
_PLANES = (("sagittal", 0, "A"), ("coronal", 1, "R"), ("axial", 2, "R"))  # with what is on the left of the view


def draw_overlay(
    image: MedicalImage,
    label_maps: Mapping[str, MedicalImage] | MedicalImage | None = None,
    label_table: Mapping[str, int] | None = None,
) -> Figure:
    """Figure with the outlines of each label map; without label maps the image alone.

    A volume has a row per label map and a column per plane, through the labels' centre, in radiological views: the patient's right is on
    the left, marked R, and in the sagittal plane the front, marked A. A picture has its label maps side by side.

    Args:
        image: the first channel is shown, RGB as it is; its affine says how a volume lies.
        label_maps: title and label map on the image's grid, or one of them without a title.
        label_table: name and value; the first label, the background, is not outlined. Every value but 0, if None.

    Raises:
        DatasetError: a label map has another shape than the image.
    """
    maps = {"": label_maps} if isinstance(label_maps, MedicalImage) else dict(label_maps or {})
    _require_one_grid(image, maps)
    if len(image.spatial_shape) == 3:
        image, maps = _turn(image, image), {title: _turn(label_map, image) for title, label_map in maps.items()}
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


def _turn(volume: MedicalImage, image: MedicalImage) -> MedicalImage:
    """The voxels of a volume on the image's grid in the order of radiological views; its affine stays that of the file."""
    array = np.stack([turn_radiological(channel, image.affine) for channel in volume.array])
    return replace(volume, array=array, spacing_mm=turn_spacing(image.spacing_mm, image.affine))


def _draw_rows(
    image: MedicalImage, label_maps: Mapping[str, MedicalImage | None], drawn: list[tuple[str, int]]
) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    planes = _PLANES if len(image.spatial_shape) == 3 else (("", -1, ""),)
    num_rows, num_columns = (len(label_maps), len(planes)) if len(planes) > 1 else (1, len(label_maps))
    centre = _find_centre(image, label_maps.values())
    figure = Figure(figsize=(3.2 * max(num_columns, 2), 3.4 * num_rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = iter(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for title, label_map in label_maps.items():
        for plane, axis, side in planes:
            panel = next(panels)
            _show_slice(panel, image, axis, centre)
            if label_map is not None:
                _draw_outlines(panel, _turn_plane(_take(label_map.array[0], axis, centre)), drawn)
            panel.set_title(", ".join(filter(None, (title, plane))), fontsize=10)
            place = {"transform": panel.transAxes, "va": "center", "fontsize": 10}
            panel.text(0.02, 0.5, side, color="white", bbox={"facecolor": "black", "pad": 1.5, "lw": 0}, **place)
            panel.set_anchor("N")  # planes of different heights begin on one line
            panel.set_axis_off()
    lines = [Line2D([], [], color=COLOURS[number % len(COLOURS)], label=name) for number, (name, _) in enumerate(drawn)]
    if lines:
        figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 4), fontsize=9, frameon=False)
    return figure


def _draw_outlines(panel, labels: np.ndarray, drawn: list[tuple[str, int]]) -> None:  # type: ignore[no-untyped-def]
    for number, (_, value) in enumerate(drawn):
        inside = labels == value
        if inside.any() and not inside.all():
            panel.contour(inside, levels=[0.5], colors=[COLOURS[number % len(COLOURS)]], linewidths=0.9)


def write_overlay(path: Path, image: Path, label_maps: Mapping[str, Path], label_table: Mapping[str, int]) -> Path:
    """Draw files and write the picture as PNG; returns `path`."""
    maps = {title: read_label_map(label_map, known_values=None) for title, label_map in label_maps.items()}
    figure = draw_overlay(read_image(image), maps, label_table)
    with write_atomically(path) as partial:
        figure.savefig(partial, dpi=120)
    return path


def _find_centre(image: MedicalImage, label_maps: Iterable[MedicalImage | None]) -> tuple[int, ...]:
    """Of the first label map that has a label, else of the image."""
    for label_map in label_maps:
        if label_map is not None and len(inside := np.argwhere(label_map.array[0] > 0)):
            return tuple(round(float(index)) for index in inside.mean(axis=0))
    return tuple(round((size - 1) / 2) for size in image.spatial_shape)


def _take(volume: np.ndarray, axis: int, centre: tuple[int, ...]) -> np.ndarray:
    return volume if axis < 0 else np.take(volume, centre[axis], axis=axis)


def _turn_plane(plane: np.ndarray) -> np.ndarray:
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
    plane = _turn_plane(_take(image.array[0], axis, centre)).astype(np.float32)
    low, high = np.percentile(plane, [1, 99.5])
    panel.imshow(
        plane,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-6),
        aspect=aspect,
        origin="upper" if axis in (-1, 2) else "lower",
    )
