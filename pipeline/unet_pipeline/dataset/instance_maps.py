"""Instance maps: label maps in which every object has a value of its own, in the folder `instances` beside the folder of the label maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unet_pipeline.dataset.dataset import case_name, list_images

INSTANCES = "instances"


def find_instances(label: Path) -> Path | None:
    """The instance map of a label map `labels/NAME.png`: the image `instances/NAME` of any format, where there is one."""
    return _list_folder(label.parent.parent / INSTANCES).get(case_name(label))


def list_instances(labels: Mapping[str, Path]) -> dict[str, Path]:
    """The instance map of every case that has one, by the case's name.

    Args:
        labels: label map of each case.
    """
    folders: dict[Path, dict[str, Path]] = {}
    instance_maps = {}
    for case, label in labels.items():
        folder = label.parent.parent / INSTANCES
        if folder not in folders:
            folders[folder] = _list_folder(folder)
        if (path := folders[folder].get(case_name(label))) is not None:
            instance_maps[case] = path
    return instance_maps


def _list_folder(folder: Path) -> dict[str, Path]:
    """The first image of each name; empty without the folder."""
    instance_maps: dict[str, Path] = {}
    for path in list_images(folder) if folder.is_dir() else ():
        instance_maps.setdefault(case_name(path), path)
    return instance_maps
