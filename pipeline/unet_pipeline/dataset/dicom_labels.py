"""Reader of DICOM series with SEG or RTSTRUCT beside them, as archives give them: matched by what the objects refer to, not by names.

The files may lie in folders of patient, study and series, in images/ and labels/, or all in one folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.dicom_file import dicom_case_name
from unet_pipeline.dataset.dicom_index import (
    LABEL_MODALITIES,
    DicomIndex,
    ImageSeries,
    LabelObject,
    address_series,
    index_dicom,
    list_candidates,
    read_modality,
)
from unet_pipeline.dataset.folders import IMAGE_FOLDERS
from unet_pipeline.dataset.table_columns import SPLITS
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem, show_first

LAYOUT = "DICOM series with SEG or RTSTRUCT"
SERIES_NOT_THERE = Message(
    "dicom-label-without-series",
    ERROR,
    "is a {modality} whose series of images is not in the dataset",
    "Fetch the series that it was drawn on, or remove the file.",
)
SEVERAL_SERIES_MEANT = Message(
    "dicom-label-of-several-series",
    ERROR,
    "is a {modality} that refers to {count} series of the dataset: {listed}",
    "List the pair in cases.csv with the columns image and label, such as {first},{label}.",
)
SEVERAL_LABELS = Message(
    "dicom-several-labels",
    ERROR,
    "has {count} label objects: {listed}",
    "Keep one and move the others out of the dataset, or list the pairs in cases.csv with the columns image and label, such as "
    "{image},{label}.",
)
MATCHED_BY_FRAME = Message(
    "dicom-label-by-frame",
    WARNING,
    "names no series; it is taken for that of {image}, the only one with the same frame of reference",
    "Look at the contact sheet; list the pairs in cases.csv if that is wrong.",
)
SERIES_WITHOUT_LABEL = Message(
    "dicom-series-without-label",
    WARNING,
    "has {count} series that no SEG or RTSTRUCT refers to; they are left out: {listed}",
    "Nothing has to be done, unless one of them should have a label.",
)
SAME_PATIENT = Message(
    "dicom-patients-together",
    NOTE,
    "has {count} patients with several of the {total} cases; the cases of one stay together",
    "Say with --patient which part of a case's name is the patient, if that is wrong.",
)
ONE_PATIENT = Message(
    "dicom-one-patient",
    WARNING,
    "has one patient's number in the headers of all {total} cases, as some ways to remove names leave it; every case is taken for a "
    "patient of its own",
    "Say with --patient which part of a case's name is the patient, if some belong together.",
)
_UID = re.compile(r"\d+(\.\d+){3,}")
_PASSED_OVER = {name.lower() for names in IMAGE_FOLDERS for name in names} | set(SPLITS)
_MOST_SHOWN = 5
_ONE_PATIENT_CASES = 3  # fewer may well be of one


def matches(root: Path) -> bool:
    """Whether there is a SEG or RTSTRUCT and a series of images somewhere below `root`."""
    if not root.is_dir():
        return False
    has_label = has_image = False
    for path in list_candidates(root):
        modality = read_modality(path)
        has_label |= modality in LABEL_MODALITIES
        has_image |= bool(modality) and modality not in LABEL_MODALITIES
        if has_label and has_image:
            return True
    return False


def read(root: Path) -> Dataset:
    """The dataset at `root`; an object without its series, or several for one, is a problem of the layout."""
    index = index_dicom(root)
    labels_of: dict[int, list[LabelObject]] = {}
    problems: list[Problem] = []
    meant: set[int] = set()
    for label in index.labels:
        candidates, note = _find_series(index, label)
        meant |= {id(series) for series in candidates}
        if len(candidates) == 1:
            labels_of.setdefault(id(candidates[0]), []).append(label)
            problems += (
                [note.about(_show(root, label.path), image=_show(root, _locate(index, candidates[0])))] if note else []
            )
        else:
            problems.append(_describe_mismatch(root, index, label, candidates))
    labelled = [series for series in index.series if id(series) in labels_of]
    names, groups = _name_cases(root, labelled), _find_patients(labelled)
    cases = []
    for series in labelled:
        image, labels = _locate(index, series).relative_to(root), labels_of[id(series)]
        if len(labels) > 1:
            listed = ", ".join(f"{_show(root, label.path)} ({label.modality})" for label in labels)
            values = {"image": image.as_posix(), "label": _show(root, labels[0].path)}
            problems.append(SEVERAL_LABELS.about(image.as_posix(), count=len(labels), listed=listed, **values))
        patient = names[id(groups[id(series)])] if id(series) in groups else None
        label_path = labels[0].path.relative_to(root)
        cases.append(Case(names[id(series)], image, label_path, patient=patient, split=_read_split(root, series)))
    problems += _describe_rest(root, index, labelled, meant)
    problems += _describe_patients(labelled, groups)
    cases.sort(key=lambda case: case.name)
    return Dataset(root, LAYOUT, _settle_splits(cases), problems_of_layout=tuple(problems))


def _find_series(index: DicomIndex, label: LabelObject) -> tuple[list[ImageSeries], Message | None]:
    """The series that a label object refers to, by series, else by images, else by the frame of reference, which a message says."""
    named = [series for series in index.series if series.uid in label.series_uids]
    by_images = [series for series in named or index.series if series.instance_uids & label.instance_uids]
    if by_images or named:
        return by_images or named, None
    if label.series_uids or label.instance_uids:
        return [], None
    framed = [series for series in index.series if series.frame_uid and series.frame_uid in label.frame_uids]
    return framed, MATCHED_BY_FRAME if len(framed) == 1 else None


def _describe_mismatch(root: Path, index: DicomIndex, label: LabelObject, candidates: Sequence[ImageSeries]) -> Problem:
    shown = _show(root, label.path)
    if not candidates:
        return SERIES_NOT_THERE.about(shown, modality=label.modality)
    paths = [_show(root, _locate(index, series)) for series in candidates]
    values = {"modality": label.modality, "first": paths[0], "label": shown}
    return SEVERAL_SERIES_MEANT.about(shown, count=len(paths), listed=show_first(paths, _MOST_SHOWN), **values)


def _describe_rest(root: Path, index: DicomIndex, labelled: Sequence[ImageSeries], meant: set[int]) -> list[Problem]:
    rest = [series for series in index.series if id(series) not in meant]
    if not rest or not labelled:
        return []
    listed = show_first([_show(root, _locate(index, series)) for series in rest], _MOST_SHOWN)
    return [SERIES_WITHOUT_LABEL.about("dataset", count=len(rest), listed=listed)]


def _locate(index: DicomIndex, series: ImageSeries) -> Path:
    return address_series(series, index.num_series_in[series.folder] == 1)


def _show(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


# names and patients


def _name_cases(root: Path, labelled: Sequence[ImageSeries]) -> dict[int, str]:
    """Names by the folders around each series, without UIDs; with its number where several have the same folders."""
    parts_of = {id(series): _list_parts(root, series) for series in labelled}
    first = Counter(parts[0] for parts in parts_of.values() if parts)
    joined = Counter("_".join(parts) for parts in parts_of.values())
    names = {}
    for series in labelled:
        parts = parts_of[id(series)]
        name = "_".join(parts)
        if parts and first[parts[0]] == 1:
            names[id(series)] = parts[0]
        elif name and joined[name] == 1:
            names[id(series)] = name
        else:
            names[id(series)] = f"{name or 'series'}_{series.number}"
    return names


def _list_parts(root: Path, series: ImageSeries) -> list[str]:
    parts = list(series.folder.relative_to(root).parts)
    if len(series.files) == 1:
        parts.append(dicom_case_name(Path(series.files[0].name)))
    return [part for part in parts if part.lower() not in _PASSED_OVER and not _UID.fullmatch(part)]


def _find_patients(labelled: Sequence[ImageSeries]) -> dict[int, ImageSeries]:
    """For each series of a patient who has several, the first of them; none where all have one patient's number."""
    first_of: dict[str, ImageSeries] = {}
    for series in labelled:
        first_of.setdefault(series.patient, series)
    times = Counter(series.patient for series in labelled)
    if len(labelled) >= _ONE_PATIENT_CASES and len(times) == 1:
        return {}
    return {id(series): first_of[series.patient] for series in labelled if series.patient and times[series.patient] > 1}


def _describe_patients(labelled: Sequence[ImageSeries], groups: dict[int, ImageSeries]) -> list[Problem]:
    patients = {series.patient for series in labelled}
    if len(labelled) >= _ONE_PATIENT_CASES and len(patients) == 1 and "" not in patients:
        return [ONE_PATIENT.about("dataset", total=len(labelled))]
    count = len({id(first) for first in groups.values()})
    return [SAME_PATIENT.about("dataset", count=count, total=len(labelled))] if count else []


def _read_split(root: Path, series: ImageSeries) -> str | None:
    splits = [SPLITS[part.lower()] for part in series.folder.relative_to(root).parts if part.lower() in SPLITS]
    return splits[0] if splits else None


def _settle_splits(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Folders named after parts of a split count where every case lies in one."""
    if all(case.split for case in cases):
        return tuple(cases)
    return tuple(replace(case, split=None) for case in cases)
