"""Chooses the reader of a dataset by looking at its folder, or by the name that the user gives."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from pipeline.dataset import decathlon, folders, nnunet, table, unlabelled
from pipeline.dataset.dataset import SHOWN_FORMATS, Dataset
from pipeline.dataset.dataset_facts import add_facts
from pipeline.dataset.paths import find_links_outside, find_names_that_look_alike
from pipeline.errors import DatasetError, suggest

READERS: dict[str, ModuleType] = {"decathlon": decathlon, "nnunet": nnunet, "table": table, "folders": folders}
_EXPECTED = {
    "decathlon": "a dataset.json with a `training` list",
    "nnunet": "a dataset.json with `channel_names`, imagesTr/CASE_0000.ext and labelsTr/CASE.ext",
    "table": "a cases.csv or cases.json with the columns image and label",
    "folders": f"the folders {folders.IMAGES}/ and {folders.LABELS}/ with one file stem on both sides, or CASE.ext beside CASE_seg.ext",
}


def read_dataset(root: Path | str, layout: str | None = None) -> Dataset:
    """The dataset at `root` as its layout's reader sees it; no image is opened yet.

    Args:
        root: a folder, or a list of cases.
        layout: a name in `READERS`; found by looking when None.

    Raises:
        DatasetError: the folder is missing, empty, of no known layout, has no case, or has two cases of one name.
    """
    root = Path(root)
    if layout is not None and layout not in READERS:
        raise DatasetError(f"Unknown layout {layout!r}; {suggest(layout, READERS)}.")
    if not root.is_dir() and not (root.is_file() and table.matches(root)):
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise DatasetError(
            f"Dataset folder {root} {what}. Expected a folder with images and labels, or a CSV or JSON list. Check the path."
        )
    if root.is_dir() and not any(root.iterdir()):
        raise DatasetError(f"Dataset folder {root} is empty. Expected images and labels. Check the path.")
    dataset = add_facts(_choose_reader(root, layout).read(root))
    if not dataset.cases:
        raise DatasetError(
            f"Dataset folder {root} ({dataset.layout}) has no pair of image and label. "
            f"Expected the same file stem on both sides; readable are {SHOWN_FORMATS}." + _first_problem(dataset)
        )
    _require_names(root, dataset)
    files = sorted({path for case in dataset.cases for path in case.files} | _find_left_over(dataset))
    problems = (
        *find_links_outside(dataset.root, files),
        *find_names_that_look_alike(files, [case.name for case in dataset.cases]),
    )
    return replace(dataset, problems_of_layout=(*dataset.problems_of_layout, *problems))


def _find_left_over(dataset: Dataset) -> set[Path]:
    """Files of problems, which are in no case."""
    paths = (Path(problem.file) for problem in dataset.problems_of_layout)
    return {path for path in paths if (dataset.root / path).is_file()}


def _choose_reader(root: Path, layout: str | None) -> ModuleType:
    if layout is not None:
        if not READERS[layout].matches(root):
            raise DatasetError(f"Dataset folder {root} has not the layout {layout}. Expected {_EXPECTED[layout]}.")
        return READERS[layout]
    for name, reader in READERS.items():
        if (root.is_dir() or name == "table") and reader.matches(root):
            return reader
    if root.is_dir() and unlabelled.matches(root):
        return unlabelled
    listed = "; ".join(f"{expected} ({name})" for name, expected in _EXPECTED.items())
    raise DatasetError(
        f"Dataset folder {root} has no known layout. Expected {listed}. The README shows each in four lines."
    )


def _require_names(root: Path, dataset: Dataset) -> None:
    """Whether every case has a name of its own that can be a file name."""
    names = [case.name for case in dataset.cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"Dataset folder {root} has the case {repeated[0]} more than once. Keep one file per case.")
    for name in names:
        unusable = not name or name.startswith(".") or any(letter in '/\\:*?"<>|' for letter in name)
        if unusable or any(unicodedata.category(letter).startswith("C") for letter in name):
            raise DatasetError(
                f"Dataset folder {root} has the case name {name!r}, which cannot be a file name. Rename the case."
            )


def _first_problem(dataset: Dataset) -> str:
    if not dataset.problems_of_layout:
        return ""
    first = dataset.problems_of_layout[0]
    return f" For example, {first.file} {first.cause}."
