"""Chooses the reader of a dataset by looking at its folder, or by the name that the user gives."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from unet_pipeline.dataset import case_folders, decathlon, dicom_labels, folders, nnunet, table, unlabelled
from unet_pipeline.dataset.annotated_labels import add_annotated
from unet_pipeline.dataset.dataset import Dataset, list_images
from unet_pipeline.dataset.dataset_facts import FACTS_FILE, add_facts
from unet_pipeline.dataset.decathlon import read_description
from unet_pipeline.dataset.deeper import suggest_deeper
from unet_pipeline.dataset.dicom_structures import name_dicom_structures
from unet_pipeline.dataset.formats import SHOWN_FORMATS
from unet_pipeline.dataset.given_splits import SPLITS_FILE
from unet_pipeline.dataset.joining import join_datasets
from unet_pipeline.dataset.missing_channels import ANY, settle_missing_channels, unite_channels
from unet_pipeline.dataset.names import CHANNEL, LABEL, require_name, show_value
from unet_pipeline.dataset.paths import find_dead_end, find_links, find_names_that_look_alike, name_kind, require_file
from unet_pipeline.dataset.table_rows import SPREADSHEET_SUFFIXES, require_no_spreadsheet
from unet_pipeline.errors import DatasetError, suggest

READERS: dict[str, ModuleType] = {
    "decathlon": decathlon,
    "nnunet": nnunet,
    "table": table,
    "dicom_labels": dicom_labels,
    "folders": folders,
    "case_folders": case_folders,
}
_LISTS = (decathlon, table)  # a file may be given, and where its paths start from
# files that say what a folder is, and the layouts that read them, none for all
_READERS_OF = {
    decathlon.FILE: ("decathlon", "nnunet"),
    SPLITS_FILE: ("nnunet",),
    FACTS_FILE: (),
    **dict.fromkeys(table.NAMES, ("table",)),
}
_EXPECTED = {
    "decathlon": "a dataset.json with a `training` list, or another list of that form",
    "nnunet": "a dataset.json with `channel_names`, imagesTr/CASE_0000.ext and labelsTr/CASE.ext",
    "table": "a cases.csv or cases.json with the columns image and label",
    "dicom_labels": "DICOM series, and a SEG or RTSTRUCT that refers to each, in any folders",
    "folders": f"the folders {folders.IMAGES}/ and {folders.LABELS}/ with one file stem on both sides, or CASE.ext beside CASE_seg.ext",
    "case_folders": "a folder per case with images and a label map, or with a mask per structure as CASE/segmentations/liver.nii.gz",
}


def read_dataset(
    root: Path | str,
    layout: str | None = None,
    follow_links: bool = False,
    data_root: Path | str | None = None,
    missing_channels: Sequence[str] = (),
) -> Dataset:
    """The dataset at `root` as its layout's reader sees it; no image is opened yet.

    Args:
        root: a folder, or a list of cases.
        layout: a name in `READERS`; found by looking when None.
        follow_links: links may lead out of the dataset.
        data_root: the folder that the paths of a list start from; found by looking when None.
        missing_channels: names of the channels that a case may lack, or "any"; a case that lacks another is an error and left out.

    Raises:
        DatasetError: the folder is missing, empty, of no known layout, has no case, or has two cases of one name.
    """
    root, data_root = Path(root), Path(data_root) if data_root is not None else None
    if layout is not None and layout not in READERS:
        raise DatasetError(f"Unknown layout {layout!r}; {suggest(layout, READERS)}.")
    _require_dataset(root, data_root)
    reader = _choose_reader(root, layout)
    if data_root is not None and reader not in _LISTS:
        raise DatasetError(f"{root} is no list of cases, so no paths start from {data_root}. Leave out --data-root.")
    dataset = name_dicom_structures(reader.read(root, data_root) if reader in _LISTS else reader.read(root))
    dataset = settle_missing_channels(add_annotated(add_facts(dataset)), missing_channels)
    if not dataset.cases:
        raise DatasetError(
            f"Dataset folder {root} ({dataset.layout}) has no pair of image and label. "
            f"Expected the same file stem on both sides; readable are {SHOWN_FORMATS}." + _first_problem(dataset)
        )
    _require_names(root, dataset)
    files = sorted({path for case in dataset.cases for path in case.files} | _find_left_over(dataset))
    problems = (
        *find_links(dataset.root, files, follow_links),
        *find_names_that_look_alike(files, [case.name for case in dataset.cases]),
    )
    return replace(dataset, problems_of_layout=(*dataset.problems_of_layout, *problems))


def read_datasets(
    places: Sequence[Path | str],
    layout: str | None = None,
    follow_links: bool = False,
    data_root: Path | str | None = None,
    missing_channels: Sequence[str] = (),
) -> Dataset:
    """One dataset of all that lie at `places`, each read as `read_dataset` does; `data_root` is of the first.

    Raises:
        DatasetError: one cannot be read, or they cannot be joined.
    """
    roots = [data_root, *[None] * (len(places) - 1)]
    is_joined = len(places) > 1 and bool(missing_channels)
    allowed = (ANY,) if is_joined else missing_channels
    datasets = [
        read_dataset(place, layout, follow_links, root, allowed) for place, root in zip(places, roots, strict=True)
    ]
    if not is_joined:
        return join_datasets(datasets)
    # what may be missing is said of all channels, of which a dataset may have none at all
    return settle_missing_channels(join_datasets(unite_channels(datasets)), missing_channels)


def _require_dataset(root: Path, data_root: Path | None) -> None:
    """Whether there is something to read.

    Raises:
        DatasetError: nothing, an empty folder, or a file that is no list.
    """
    if problem := find_dead_end(root, root.name):
        raise problem.as_error()
    if not root.is_dir() and not (root.is_file() and any(reader.matches(root) for reader in _LISTS)):
        kind = name_kind(root)
        what = "is a file, not a folder" if root.is_file() else f"is {kind}" if kind else "does not exist"
        raise DatasetError(
            f"Dataset folder {root} {what}. Expected a folder with images and labels, or a CSV or JSON list. Check the path."
        )
    if root.is_dir() and not any(root.iterdir()):
        raise DatasetError(f"Dataset folder {root} is empty. Expected images and labels. Check the path.")
    if data_root is not None and not data_root.is_dir():
        raise DatasetError(f"Folder {data_root} of --data-root does not exist. Check the path.")


def _find_left_over(dataset: Dataset) -> set[Path]:
    """Files of problems, which are in no case."""
    paths = (Path(problem.file) for problem in dataset.problems_of_layout)
    return {path for path in paths if (dataset.root / path).is_file()}


def _choose_reader(root: Path, layout: str | None) -> ModuleType:
    _require_descriptions(root, layout)
    if layout is not None:
        if not READERS[layout].matches(root):
            raise DatasetError(f"Dataset folder {root} has not the layout {layout}. Expected {_EXPECTED[layout]}.")
        return READERS[layout]
    for name, reader in READERS.items():
        if name == "table" and root.is_dir():
            _refuse_unused_description(root)
        if (root.is_dir() or reader in _LISTS) and reader.matches(root):
            return reader
    for path in sorted(root.iterdir()):
        if problem := find_dead_end(path, path.name):
            raise problem.as_error()
        if path.suffix.lower() in SPREADSHEET_SUFFIXES and path.is_file():
            require_no_spreadsheet(path)
    if lists := [path.name for reader in _LISTS for path in reader.find_lists(root)]:
        raise DatasetError(
            f"Dataset folder {root} has the lists of cases {', '.join(lists)}; expected one. Give the path of one of them as DATASET."
        )
    if unlabelled.matches(root):
        return unlabelled
    deeper = suggest_deeper(root, lambda folder: any(reader.matches(folder) for reader in READERS.values()))
    if deeper := deeper or suggest_deeper(root, lambda folder: bool(list_images(folder))):
        raise DatasetError(f"Dataset folder {root} has no images of its own. {deeper}")
    listed = "; ".join(f"{expected} ({name})" for name, expected in _EXPECTED.items())
    raise DatasetError(
        f"Dataset folder {root} has no known layout. Expected {listed}. The README shows each in four lines."
    )


def _require_descriptions(root: Path, layout: str | None) -> None:
    """Whether what has the name of a description is a file that can be read, of those that the layout needs.

    Raises:
        DatasetError: it is a folder, a pipe, a socket, a device, or a link that leads nowhere.
    """
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        readers = _READERS_OF.get(path.name.lower())
        if readers is not None and (layout is None or not readers or layout in readers):
            require_file(path, path.name)


def _refuse_unused_description(root: Path) -> None:
    """A dataset.json says what the folder is; one that no reader can use is not passed over for another layout.

    Raises:
        DatasetError: there is one.
    """
    path = root / decathlon.FILE
    if not os.path.lexists(path):
        return
    content = read_description(path)
    keys = f"the keys {', '.join(map(show_value, content))}" if isinstance(content, dict) and content else "no keys"
    raise DatasetError(
        f"{path.name} has {keys}, which is no known description of a dataset. Expected {_EXPECTED['decathlon']} (decathlon), or "
        f"`channel_names`, `labels` and `file_ending` (nnunet). Complete it, or read the folder without it: --layout folders, "
        "--layout case_folders or --layout table."
    )


def _require_names(root: Path, dataset: Dataset) -> None:
    """Whether every case has a name of its own that can be a file name, and channels and labels have names at all."""
    for name in dataset.channels or ():
        require_name(name, CHANNEL, "dataset")
    for name in dataset.labels or ():
        require_name(name, LABEL, "dataset")
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
