"""Which files an image consists of: its own, every file of a DICOM series, and the voxels that lie beside their header."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from unet_pipeline.dataset.dataset import list_parts
from unet_pipeline.dataset.dicom_index import is_series_address, list_addressed_files
from unet_pipeline.dataset.itk import find_data_file
from unet_pipeline.errors import ImageFileError
from unet_pipeline.files import compute_sha256

_DETACHED_HEADERS = (".mhd", ".nhdr", ".mha", ".nrrd")  # the latter two have their voxels inside, as a rule


def list_image_files(path: Path) -> tuple[Path, ...]:
    """All files whose bytes decide about the image at `path`, sorted within a folder.

    Args:
        path: an image file, or the folder of a series. One that does not exist is given back, for a reader to complain about.
    """
    if path.is_dir():
        return tuple(_list_folder(path))
    if is_series_address(path):
        return tuple(list_addressed_files(path))
    suffix = path.suffix.lower()
    if suffix in _DETACHED_HEADERS and path.is_file():
        try:
            data_path = find_data_file(path)
        except (ImageFileError, OSError):  # a reader will say what is wrong with it
            return (path,)
        return (path,) if data_path == path else (path, data_path)
    return tuple(list_parts(path))


def _list_folder(folder: Path) -> list[Path]:
    """Files of a series: those in the folder, or, where it has sub-folders only, those below them."""
    own = sorted(path for path in folder.iterdir() if path.is_file())
    return own or sorted(path for path in folder.rglob("*") if path.is_file())


def hash_image_files(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of every file of an image, in the order of the channels, by its name.

    Files of one name in several folders are told apart by their path from the folder that they share. An image whose files were moved
    together has the same hashes.

    Args:
        paths: an image file, a folder of a series, or a file per channel.

    Raises:
        OSError: a file cannot be read.
    """
    files = [file for path in paths for file in list_image_files(path)]
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        shared = Path(os.path.commonpath([file.absolute().parent for file in files]))
        names = [file.absolute().relative_to(shared).as_posix() for file in files]
    return {name: compute_sha256(file) for name, file in zip(names, files, strict=True)}
