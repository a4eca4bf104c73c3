"""Reader of a folder per case: CASE/ct.nii.gz with CASE/segmentations/liver.nii.gz, or CASE/CASE-t1n.nii.gz with CASE/CASE-seg.nii.gz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unet_pipeline.dataset.case_building import build_cases
from unet_pipeline.dataset.case_files import CaseFiles, list_subfolders, read_case_files
from unet_pipeline.dataset.dataset import Dataset, case_name
from unet_pipeline.dataset.file_names import MODALITIES, is_image_word
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.dataset.pairing import pair_names
from unet_pipeline.dataset.table_columns import SPLITS
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import ERROR, NOTE, Message, Problem

LAYOUT = "a folder per case"
_MAX_DEPTH = 4  # GROUP/PATIENT/VISIT/images
_MOST_GROUPS = 4  # more folders around the cases' own are patients, fewer are groups such as HGG and LGG

FOLDER_WITHOUT_LABEL = Message(
    "case-folder-no-label", ERROR, "has images and no label map, as other folders have", "Add it, or remove the folder."
)
FOLDER_WITHOUT_IMAGE = Message(
    "case-folder-no-image", ERROR, "has label maps and no image, as other folders have", "Add it, or remove the folder."
)
PATIENT_FOLDERS = Message(
    "patient-folders",
    NOTE,
    "has {count} folders that hold those of {total} cases; the cases in one are taken for one patient, and stay together",
    "Say with --patient which part of a case's name is the patient, if that is wrong.",
)
GROUP_FOLDERS = Message(
    "group-folders",
    NOTE,
    "has {count} folders that hold those of {total} cases; every case is taken for a patient of its own",
    "Say with --patient which part of a case's name is the patient, if that is wrong.",
)


def matches(root: Path) -> bool:
    """Whether `root` has a folder per case with images and label files, or is such a folder."""
    return root.is_dir() and any(files.images and files.labels for files in _find_cases(root))


def read(root: Path) -> Dataset:
    """The dataset at `root`; a folder without label map or without image is a problem of the layout.

    Raises:
        DatasetError: masks whose names no two cases share.
    """
    case_files = _find_cases(root)
    complete = {name: files for name, files in _name_cases(root, case_files).items() if files.images and files.labels}
    lone = [files for files in case_files if not (files.images and files.labels)]
    problems: list[Problem] = [
        (FOLDER_WITHOUT_LABEL if files.images else FOLDER_WITHOUT_IMAGE).about(_relative(root, files.folder))
        for files in lone
    ]
    images = _unify_lone_images({name: files.images for name, files in complete.items()})
    labels = _unify_lone_labels({name: files.labels for name, files in complete.items()})
    built = build_cases(_relate(root, images), _relate(root, labels), root)
    folder_of = {name: files.folder.relative_to(root) for name, files in complete.items()}
    dataset = Dataset(
        root=root,
        layout=LAYOUT,
        cases=built.cases,
        channels=built.channels,
        labels=built.labels,
        problems_of_layout=(*problems, *built.problems),
    )
    return _group_cases(dataset, folder_of)


def find_case_files(root: Path) -> dict[str, CaseFiles]:
    """The files of every case below `root` by case name, whether it has a label map or not; empty without a folder per case."""
    return _name_cases(root, [files for files in _find_cases(root) if files.images])


def _find_cases(root: Path) -> list[CaseFiles]:
    """Folders with images or label files; the folder of all only where its masks have a folder of their own."""
    own = read_case_files(root)
    if own.images and any(path.parent != root for path in own.labels.values()) and not _holds_several_cases(own):
        return [own]
    case_files = list(_walk(root, 1, {root.resolve()}))
    return (
        case_files if any(files.labels for files in case_files) else [_take_masks_beside(files) for files in case_files]
    )


def _walk(folder: Path, depth: int, seen: set[Path]) -> Iterator[CaseFiles]:
    for path in list_subfolders(folder):
        resolved = path.resolve()
        if resolved in seen:  # a link that leads back
            continue
        files = read_case_files(path)
        if files.images or files.labels:
            if not _holds_several_cases(files):
                yield files
        elif depth < _MAX_DEPTH:
            yield from _walk(path, depth + 1, {*seen, resolved})


def _holds_several_cases(files: CaseFiles) -> bool:
    """Whether several images of one folder have a label file each."""
    images, labels = (list({case_name(path) for path in paths.values()}) for paths in (files.images, files.labels))
    return len(images) > 1 and len(labels) > 1 and len(pair_names(images, labels).images) > 1


def _take_masks_beside(files: CaseFiles) -> CaseFiles:
    """One image with a modality's name, and beside it files with other names: those are masks of structures."""
    images = {part: path for part, path in files.images.items() if not part or is_image_word(part)}
    others = {part: path for part, path in files.images.items() if part not in images}
    return CaseFiles(files.folder, images, others) if len(images) == 1 and len(others) > 1 else files


def _name_cases(root: Path, case_files: Sequence[CaseFiles]) -> dict[str, CaseFiles]:
    """Cases by the name of their folder, with those around it where two have one name."""
    paths = [files.folder.relative_to(root) for files in case_files]
    times = Counter(path.name for path in paths)
    plain = all(count == 1 for count in times.values())
    names = [(path.name if plain else "_".join(path.parts)) or root.resolve().name for path in paths]
    return dict(zip(names, case_files, strict=True))


def _unify_lone_images(images: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """One image per case is its image whatever its name, unless the names are those of different modalities."""
    parts = {part.casefold() for files in images.values() for part in files}
    if len(parts) > 1 and all(len(files) == 1 for files in images.values()) and not parts & MODALITIES:
        return {name: {"": next(iter(files.values()))} for name, files in images.items()}
    spelled: dict[str, str] = {}
    return {
        name: {spelled.setdefault(part.casefold(), part): path for part, path in files.items()}
        for name, files in images.items()
    }


def _unify_lone_labels(labels: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """One file of one name in every case is a label map, unless it is the mask of a structure."""
    parts = {part.casefold() for files in labels.values() for part in files}
    if len(parts) != 1 or "" in parts or all(_is_binary(path) for path in next(iter(labels.values())).values()):
        return labels
    return {name: {"": next(iter(files.values()))} for name, files in labels.items()}


def _is_binary(path: Path) -> bool:
    try:
        return len(np.unique(read_label_map(path).array)) <= 2
    except ImageFileError:
        return True


def _relate(root: Path, files: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    return {name: {part: path.relative_to(root) for part, path in parts.items()} for name, parts in files.items()}


def _relative(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _group_cases(dataset: Dataset, folder_of: dict[str, Path]) -> Dataset:
    """Cases with the split or the patient that the folder around their own names."""
    group_of = {name: folder.parent for name, folder in folder_of.items()}
    groups = {group for group in group_of.values() if group.parts}
    if not groups:
        return dataset
    if all(group.parts and group.parts[0].lower() in SPLITS for group in group_of.values()):
        cases = (replace(case, split=SPLITS[group_of[case.name].parts[0].lower()]) for case in dataset.cases)
        return replace(dataset, cases=tuple(cases))
    count = {"count": len(groups), "total": len(dataset.cases)}
    names_differ = all(folder.name == name for name, folder in folder_of.items())
    if len(groups) <= _MOST_GROUPS and names_differ:
        notes = [GROUP_FOLDERS.about("dataset", **count)] if len(groups) > 1 else []
        return replace(dataset, problems_of_layout=(*dataset.problems_of_layout, *notes))
    cases = (replace(case, patient=group_of[case.name].as_posix()) for case in dataset.cases)
    note = PATIENT_FOLDERS.about("dataset", **count)
    return replace(dataset, cases=tuple(cases), problems_of_layout=(*dataset.problems_of_layout, note))
