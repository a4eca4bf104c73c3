"""Several datasets as one: labels are the same by name, and what a dataset does not name is unknown in its cases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unet_pipeline.dataset.annotated_labels import list_missing
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.names import order_labels
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, Message
from unet_pipeline.types import BACKGROUND

COLUMN = "dataset"  # of the further columns of a list of cases
_IGNORED = 255

NOT_OF_TABLE = Message(
    "value-not-of-its-dataset",
    ERROR,
    "has the value {value}, which the label table of its own dataset lacks ({declared})",
    "Name it in that dataset, in dataset.json or dataset_facts.json, or correct the file.",
)


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """One dataset of several: its root is the folder that they all lie in, and a further column says which one a case is of.

    Labels with the same name, letter case aside, are one label. A dataset that lacks labels of the others is annotated with its own only.
    Names of cases and patients that several datasets have get the name of their dataset in front. Folds that a dataset brings are not kept.

    Args:
        datasets: as their readers found them; a single one is returned as it is.

    Raises:
        DatasetError: a dataset names no labels, lies nowhere near the others or is given twice; channels or regions differ.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    _require_joinable(datasets)
    root = Path(os.path.commonpath([dataset.root.resolve() for dataset in datasets]))
    labels = _join_labels(datasets)
    is_partial = any(_name_labels(dataset) != _name_labels(datasets[0]) for dataset in datasets)
    ignore_value = _IGNORED if any(dataset.ignore_value is not None for dataset in datasets) else None
    repeated = {
        name for name, times in Counter(case.name for one in datasets for case in one.cases).items() if times > 1
    }
    regions: dict[str, tuple[int, ...]] = {}
    cases: list[Case] = []
    for name, dataset in zip(_name_datasets(datasets, root), datasets, strict=True):
        values = _map_values(dataset, labels, ignore_value)
        for region, parts in dataset.regions.items():
            mapped = tuple(sorted(values[part] for part in parts))
            if regions.setdefault(region, mapped) != mapped:
                raise DatasetError(
                    f"Region {region!r} of {dataset.name} joins other labels than that of another dataset. Rename one."
                )
        cases += [
            _move(
                case,
                dataset,
                Path(os.path.relpath(dataset.root.resolve(), root)),
                name,
                values,
                case.name in repeated,
                is_partial,
            )
            for case in dataset.cases
        ]
    return Dataset(
        root=root,
        layout=" and ".join(dict.fromkeys(dataset.layout for dataset in datasets)),
        cases=tuple(cases),
        channels=next((dataset.channels for dataset in datasets if dataset.channels), None),
        labels=labels,
        licence="; ".join(dict.fromkeys(dataset.licence for dataset in datasets if dataset.licence)),
        reference="; ".join(dict.fromkeys(dataset.reference for dataset in datasets if dataset.reference)),
        ignore_value=ignore_value,
        regions=regions,
        problems_of_layout=tuple(problem for dataset in datasets for problem in dataset.problems_of_layout),
        joined_name=" + ".join(_name_datasets(datasets, root)),
    )


def fit_to_labels(dataset: Dataset, labels: dict[str, int]) -> Dataset:
    """A dataset with the values of another label table, where it names labels; those that it lacks are unknown in its cases.

    Args:
        dataset: as its reader found it.
        labels: name and file value of each label.
    """
    if dataset.labels is None:
        return dataset
    known = {name.casefold(): (name, value) for name, value in labels.items()}
    if not all(name.casefold() in known for name in dataset.labels):
        return dataset
    values = {value: known[name.casefold()][1] for name, value in dataset.labels.items()}
    if dataset.ignore_value is not None:
        values[dataset.ignore_value] = dataset.ignore_value
    is_partial = len(dataset.labels) < len(labels)
    cases = tuple(_recode(case, dataset, values, is_partial) for case in dataset.cases)
    return replace(dataset, cases=cases, labels=labels)


def recode(label: MedicalImage, case: Case) -> MedicalImage:
    """A label map with the values of the joined label table; as it is, where its dataset has the same values or is the only one.

    Raises:
        ImageFileError: a value that the case's own dataset does not name.
    """
    if case.values is None:
        return label
    values = dict(case.values)
    array = np.zeros(label.array.shape, np.uint8)
    for value in np.unique(label.array).tolist():
        if value not in values:
            declared = ", ".join(map(str, values))
            raise NOT_OF_TABLE.error(case.require_label().as_posix(), value=value, declared=declared)
        array[label.array == value] = values[value]
    return replace(label, array=array) if is_recoded(case) else label


def is_recoded(case: Case) -> bool:
    """Whether the joined label table has other values than the case's own dataset."""
    return any(before != now for before, now in case.values or ())


def _require_joinable(datasets: Sequence[Dataset]) -> None:
    roots = [dataset.root.resolve() for dataset in datasets]
    for number, dataset in enumerate(datasets):
        if any(root in (roots[number], *roots[number].parents) for place, root in enumerate(roots) if place != number):
            raise DatasetError(
                f"Dataset {dataset.name} is given twice, or lies in another one. Expected folders beside each other."
            )
        if dataset.labels is None:
            raise DatasetError(
                f"Dataset {dataset.name} does not name its label values; expected names, by which labels of several datasets are the same. "
                'Write them into its dataset_facts.json, such as {"labels": {"background": 0, "liver": 1}}.'
            )
    if os.path.commonpath(roots) == Path(roots[0]).anchor:
        raise DatasetError(
            f"The datasets {', '.join(dataset.name for dataset in datasets)} have no folder in common; expected one that they all lie in. "
            "Move or link them below one folder."
        )
    named = {dataset.channels for dataset in datasets if dataset.channels}
    if len(named) > 1:
        shown = " and ".join(sorted(", ".join(channels) for channels in named))
        raise DatasetError(
            f"The datasets have the channels {shown}; expected the same. Rename them in dataset.json or dataset_facts.json."
        )


def _name_labels(dataset: Dataset) -> set[str]:
    return {name.casefold() for name in dataset.labels or ()}


def _join_labels(datasets: Sequence[Dataset]) -> dict[str, int]:
    """The labels of all datasets; values are those of the first dataset, then the lowest that are free."""
    table = dict(datasets[0].labels or {})
    for dataset in datasets[1:]:
        for name, value in (dataset.labels or {}).items():
            if name.casefold() not in {known.casefold() for known in table}:
                taken = set(table.values())
                table[name] = value if value not in taken else min(set(range(1, 256)) - taken)
    return order_labels(table)


def _name_datasets(datasets: Sequence[Dataset], root: Path) -> list[str]:
    """Names that tell the datasets apart: those of their folders, or the paths where two are the same."""
    names = [dataset.name for dataset in datasets]
    if len(set(names)) == len(names):
        return names
    return ["_".join(dataset.root.resolve().relative_to(root).parts) for dataset in datasets]


def _map_values(dataset: Dataset, labels: dict[str, int], ignore_value: int | None) -> dict[int, int]:
    value_of = {name.casefold(): value for name, value in labels.items()}
    values = {value: value_of[name.casefold()] for name, value in (dataset.labels or {}).items()}
    if dataset.ignore_value is not None and ignore_value is not None:
        values[dataset.ignore_value] = ignore_value
    return values


def _recode(case: Case, dataset: Dataset, values: dict[int, int], is_partial: bool) -> Case:
    """A case with the values of another label table, annotated with what its dataset names."""
    labels = dataset.labels or {}
    missing = list_missing(case, labels)
    annotated = tuple(name for name in labels if name not in missing and name != BACKGROUND)
    return replace(
        case,
        values=tuple(sorted(values.items())) if case.masks is None else None,
        annotated=annotated if is_partial or missing else None,
        masks=None
        if case.masks is None
        else tuple(
            sorted((replace(mask, value=values[mask.value]) for mask in case.masks), key=lambda mask: mask.value)
        ),
    )


def _move(
    case: Case, dataset: Dataset, place: Path, name: str, values: dict[int, int], is_repeated: bool, is_partial: bool
) -> Case:
    """A case with its paths from the joined root."""
    moved = _recode(case, dataset, values, is_partial)
    return replace(
        moved,
        name=f"{name}_{case.name}" if is_repeated else case.name,
        image=place / case.image,
        label=None if case.label is None else place / case.label,
        further_channels=tuple(place / path for path in case.further_channels),
        patient=None if case.patient is None else f"{name}/{case.patient}",
        columns={**case.columns, COLUMN: name},
        masks=None if moved.masks is None else tuple(replace(mask, path=place / mask.path) for mask in moved.masks),
    )
