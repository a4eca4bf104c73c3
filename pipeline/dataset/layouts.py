"""Chooses the reader of a dataset folder by looking at it."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset import decathlon, folders
from pipeline.dataset.dataset import Dataset
from pipeline.errors import DatasetError

READERS = (decathlon, folders)


def read_dataset(root: Path | str) -> Dataset:
    """The dataset at `root` as its layout's reader sees it; no image is opened yet.

    Raises:
        DatasetError: the folder is missing, empty, of no known layout, has no case, or has two cases of one name.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise DatasetError(f"Dataset folder {root} {what}. Expected a folder with images and labels. Check the path.")
    if not any(root.iterdir()):
        raise DatasetError(f"Dataset folder {root} is empty. Expected images and labels. Check the path.")
    for reader in READERS:
        if reader.matches(root):
            dataset = reader.read(root)
            break
    else:
        raise DatasetError(
            f"Dataset folder {root} has no known layout. Expected dataset.json with a `training` list "
            f"({decathlon.LAYOUT}), or the folders {folders.IMAGES}/ and {folders.LABELS}/ ({folders.LAYOUT})."
        )
    if not dataset.cases:
        raise DatasetError(
            f"Dataset folder {root} ({dataset.layout}) has no pair of image and label. "
            "Expected the same file stem on both sides, in .nii, .nii.gz or .png." + _first_problem(dataset)
        )
    names = [case.name for case in dataset.cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"Dataset folder {root} has the case {repeated[0]} more than once. Keep one file per case.")
    return dataset


def _first_problem(dataset: Dataset) -> str:
    if not dataset.problems_of_layout:
        return ""
    file, cause, _ = dataset.problems_of_layout[0]
    return f" For example, {file} {cause}."
