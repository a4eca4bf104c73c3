"""Instance maps: label maps in which every object has a value of its own, in the folder `instances` beside the folder of the label maps."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.dataset.dataset import case_name, list_images

INSTANCES = "instances"


def find_instances(label: Path) -> Path | None:
    """The instance map of a label map `labels/NAME.png`: the image `instances/NAME` of any format, where there is one."""
    folder = label.parent.parent / INSTANCES
    if not folder.is_dir():
        return None
    return next((path for path in list_images(folder) if case_name(path) == case_name(label)), None)
