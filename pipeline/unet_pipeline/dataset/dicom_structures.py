"""Label maps that are DICOM objects: the segments of a SEG, or the regions of an RTSTRUCT, as structures of a dataset.

A structure has one name and one value in all cases; several segments of one name in a file are one structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from unet_pipeline.dataset.case_building import find_missing_structures
from unet_pipeline.dataset.dataset import Case, Dataset, StructureMask
from unet_pipeline.dataset.dicom_file import read_header
from unet_pipeline.dataset.dicom_folders import list_dicom_files
from unet_pipeline.dataset.dicom_index import LABEL_MODALITIES, RTSTRUCT, read_modality
from unet_pipeline.dataset.dicom_messages import CORRUPT
from unet_pipeline.dataset.dicom_rtstruct import list_rois, read_rois
from unet_pipeline.dataset.dicom_seg import list_segments, read_segments
from unet_pipeline.dataset.file_names import natural_key
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import ERROR, NOTE, Message, Problem
from unet_pipeline.types import BACKGROUND

NO_STRUCTURE = Message(
    "dicom-label-without-structure",
    ERROR,
    "is a {modality} that names no segment and no region",
    "Export it again, or remove it with its case.",
)
EMPTY_STRUCTURE = Message(
    "dicom-label-empty",
    NOTE,
    "names {structure} and marks nothing of it in the image",
    "It is taken to be absent there; draw it where it is not.",
)


def find_label_object(root: Path, label: Path | None) -> Path | None:
    """The SEG or RTSTRUCT that a label is, or the only one in the folder that it is; None for any other label."""
    if label is None:
        return None
    path = root / label
    if path.is_dir():
        files = [file for file in list_dicom_files(path) if read_modality(file) in LABEL_MODALITIES]
        return files[0].relative_to(root) if len(files) == 1 else None
    return label if read_modality(path) in LABEL_MODALITIES else None


def name_dicom_structures(dataset: Dataset) -> Dataset:
    """The dataset with a mask per structure wherever a label map is a SEG or RTSTRUCT; any other dataset as it is."""
    paths = {
        case.name: path
        for case in dataset.cases
        if case.masks is None and (path := find_label_object(dataset.root, case.label)) is not None
    }
    numbers_of = {name: _list_structures(dataset.root / path) for name, path in paths.items()}
    readable = {name: numbers for name, numbers in numbers_of.items() if numbers is not None}
    if not readable:
        return dataset
    spelled: dict[str, str] = {}
    for name in sorted(readable):
        for structure in readable[name]:
            spelled.setdefault(structure.casefold(), structure)
    structures = [spelled[key] for key in sorted(spelled, key=natural_key) if key != BACKGROUND]
    value_of = {structure.casefold(): value for value, structure in enumerate(structures, start=1)}
    cases, problems = [], list[Problem]()
    for case in dataset.cases:
        if case.name not in readable:
            cases.append(case)
            continue
        masks = _join_spellings(readable[case.name], paths[case.name], value_of, spelled)
        if not masks:
            modality = read_modality(dataset.root / paths[case.name])
            problems.append(NO_STRUCTURE.about(paths[case.name].as_posix(), modality=modality))
        cases.append(replace(case, label=paths[case.name], masks=masks))
    problems += find_missing_structures([case for case in cases if case.masks is not None], structures)
    table = {BACKGROUND: 0} | {structure: value_of[structure.casefold()] for structure in structures}
    problems_of_layout = (*dataset.problems_of_layout, *problems)
    return replace(dataset, cases=tuple(cases), labels=table, problems_of_layout=problems_of_layout)


def _list_structures(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Numbers of the segments or regions by their name; None for a damaged file, which its reader will complain about."""
    try:
        header = read_header(path)
        names = list_rois(header) if read_modality(path) == RTSTRUCT else list_segments(header)
    except Exception:  # whatever pydicom raises for a damaged file
        return None
    numbers: dict[str, tuple[int, ...]] = {}
    for number, name in names.items():
        numbers[name] = (*numbers.get(name, ()), number)
    return numbers


def _join_spellings(
    numbers: Mapping[str, tuple[int, ...]], path: Path, value_of: Mapping[str, int], spelled: Mapping[str, str]
) -> tuple[StructureMask, ...]:
    """The masks of a case in the order of their values; names that differ in letter case only are one structure."""
    joined: dict[str, tuple[int, ...]] = {}
    for structure, own in numbers.items():
        key = structure.casefold()
        if key in value_of:
            joined[key] = (*joined.get(key, ()), *own)
    masks = (StructureMask(spelled[key], value_of[key], path, own) for key, own in joined.items())
    return tuple(sorted(masks, key=lambda mask: mask.value))


def read_structure(root: Path, mask: StructureMask, grid: ImageGrid | MedicalImage | None) -> MedicalImage:
    """The mask of a structure in a SEG or RTSTRUCT; see `read_segments` and `read_rois`.

    Raises:
        ImageFileError: the file is damaged, or does not say where its frames or contours lie.
    """
    path, shown = root / mask.path, mask.path.as_posix()
    read = read_rois if read_modality(path) == RTSTRUCT else read_segments
    try:
        image = read(path, shown, mask.structure, mask.numbers, grid)
    except ImageFileError:
        raise
    except Exception as error:  # whatever a damaged header raises; its text may have values of the header
        raise CORRUPT.error(shown, cause=f"{type(error).__name__} where {mask.structure} is read") from error
    if image.array.any():
        return image
    empty = EMPTY_STRUCTURE.about(shown, structure=mask.structure)
    return MedicalImage(image.array, image.affine, image.spacing_mm, (*image.notes, empty), image.modality)


def has_dicom_label(case: Case) -> bool:
    """Whether the structures of a case lie in a SEG or RTSTRUCT."""
    return any(mask.numbers for mask in case.masks or ())
