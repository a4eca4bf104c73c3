"""A volume in a notebook: the widget of ipyniivue where a kernel runs it, and a picture everywhere else."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.evidence.report.overlay import COLOURS, draw_overlay
from unet_pipeline.evidence.report.pictures import PREDICTION_COLOURS, REFERENCE_COLOURS
from unet_pipeline.viewer.layers import encode_volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OPACITY = 0.5  # of label maps: the image shows through
_CROSSHAIR_WIDTH = 0.5  # voxels
_HEIGHT_PX = 400
_DPI = 80


@dataclass(frozen=True)
class ImageView:
    """What `view_image` made; as the last line of a cell it shows itself.

    Attributes:
        figure: three planes through the labels; all there is where no kernel runs, as on a web page.
        widget: `ipyniivue.NiiVue`, the image its first volume and each label map one more; None where it is not
            installed, and for pictures, which have no third axis.
    """

    figure: Figure
    widget: Any = None

    def _ipython_display_(self) -> None:
        """The widget, and the picture below it: a notebook that is opened again has no widget until the cell is run."""
        from IPython.display import Image, display

        if self.widget is not None:
            display(self.widget)
        with io.BytesIO() as file:
            self.figure.savefig(file, format="jpeg", dpi=_DPI)  # a notebook keeps it
            display(Image(data=file.getvalue(), format="jpeg"))


def view_image(
    image: MedicalImage,
    label_maps: Mapping[str, MedicalImage] | None = None,
    label_table: Mapping[str, int] | None = None,
) -> ImageView:
    """Look at an image with its label maps in a notebook: slices and 3D to turn and scroll, or a picture.

    Args:
        image: its first channel is shown.
        label_maps: title and label map on the image's grid; of several, the first has cool colours and the others warm ones.
        label_table: name and value; the first label is the background. Every value but 0, if None.

    Raises:
        DatasetError: a label map has another shape than the image.
    """
    maps = dict(label_maps or {})
    figure = draw_overlay(image, maps, label_table)
    if len(image.spatial_shape) != 3 or find_spec("ipyniivue") is None:
        return ImageView(figure)
    return ImageView(figure, _build_widget(image, maps, label_table))


def _build_widget(image: MedicalImage, maps: Mapping[str, MedicalImage], label_table: Mapping[str, int] | None) -> Any:
    from ipyniivue import NiiVue, ShowRender, Volume

    volumes = [Volume(data=encode_volume(image), name="image.nii.gz", colormap="gray", colorbar_visible=False)]
    for number, (title, label_map) in enumerate(maps.items()):
        layer = Volume(data=encode_volume(label_map), name=f"{title}.nii.gz", opacity=_OPACITY, colorbar_visible=False)
        colours = COLOURS if len(maps) == 1 else PREDICTION_COLOURS if number else REFERENCE_COLOURS
        layer.set_colormap_label(_colour(title, _name_values(label_map, label_table), colours))
        volumes.append(layer)
    widget = NiiVue(
        height=_HEIGHT_PX,
        crosshair_width=_CROSSHAIR_WIDTH,
        crosshair_color=(1.0, 1.0, 1.0, 0.6),
        multiplanar_show_render=ShowRender.ALWAYS,
    )
    widget.load_volumes(volumes)
    return widget


def _name_values(label_map: MedicalImage, label_table: Mapping[str, int] | None) -> dict[str, int]:
    if label_table is not None:
        return dict(list(label_table.items())[1:])
    return {f"value {int(value)}": int(value) for value in set(label_map.array.ravel().tolist()) - {0}}


def _colour(title: str, values: Mapping[str, int], colours: tuple[str, ...]) -> dict[str, list[Any]]:
    """The table that NiiVue takes: 0 and every value between those that are named are transparent."""
    chosen = [colours[place % len(colours)] for place in range(len(values))]
    parts = {
        channel: [0, *(int(colour[start : start + 2], 16) for colour in chosen)]
        for channel, start in (("R", 1), ("G", 3), ("B", 5))
    }
    return {
        **parts,
        "A": [0, *[255] * len(values)],
        "I": [0, *values.values()],
        "labels": ["", *(f"{title} {name}".strip() for name in values)],
    }
