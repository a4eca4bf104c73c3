"""What the lists of a dataset said when it was planned, and whether they say the same now.

Lists are the files that say what the cases are: a table, dataset.json, splits_final.json, dataset_facts.json. Their content counts, not their
bytes: a table with a further column, or saved again by another program, says the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from unet_pipeline.dataset.dataset import Case, Dataset

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file, with its path from the dataset's root."""

    path: str
    num_bytes: int
    sha256: Sha256


class CaseEntry(BaseModel):
    """Files of a case, a folder standing for the files of a DICOM series, and what the dataset says about it (`dataset.Case`)."""

    image: Annotated[list[str], Field(min_length=1)]
    label: str | None
    patient: str | None = None
    split: str | None = None
    spacing_mm: list[float] | None = None
    annotated: list[str] | None = None


class FoldEntry(BaseModel):
    """Case names of a fold that the dataset brings."""

    training: list[str]
    validation: list[str]


class Listing(BaseModel):
    """What holds for all cases, and where it was read.

    Attributes:
        given: the list that the dataset was read from; None for a folder.
        files: the lists; the path of one outside the dataset's root starts with "..".
        labels, channels, ignore_value, regions, folds: as in `dataset.Dataset`, before anything that the user said on the command line.
        instances: files of the instance map of each case that has one.
    """

    given: str | None = None
    files: list[FileEntry] = []
    labels: dict[str, int] | None = None
    channels: list[str] | None = None
    ignore_value: int | None = None
    regions: dict[str, list[int]] = {}
    folds: list[FoldEntry] = []
    instances: dict[str, list[FileEntry]] = {}


def describe_case(case: Case) -> CaseEntry:
    """The facts of one case."""
    return CaseEntry(
        image=[path.as_posix() for path in case.images],
        label=None if case.label is None else case.label.as_posix(),
        patient=case.patient,
        split=case.split,
        spacing_mm=None if case.spacing_mm is None else list(case.spacing_mm),
        annotated=None if case.annotated is None else list(case.annotated),
    )


def describe_listing(
    dataset: Dataset, files: Sequence[FileEntry] = (), instances: Mapping[str, list[FileEntry]] | None = None
) -> Listing:
    """The facts of a dataset as its reader found it."""
    return Listing(
        given=dataset.given_list.as_posix() if dataset.given_list is not None else None,
        files=list(files),
        labels=dataset.labels,
        channels=None if dataset.channels is None else list(dataset.channels),
        ignore_value=dataset.ignore_value,
        regions={name: list(values) for name, values in dataset.regions.items()},
        folds=[
            FoldEntry(training=list(training), validation=list(validation)) for training, validation in dataset.folds
        ],
        instances=dict(instances or {}),
    )


def find_changed_facts(cases: Mapping[str, CaseEntry], listing: Listing, dataset: Dataset) -> list[str]:
    """What a dataset says otherwise than when it was planned, in words; cases first. The names of patients are not told.

    Args:
        cases, listing: as they were.
        dataset: the dataset as it is read now.
    """
    now = {case.name: describe_case(case) for case in dataset.cases}
    changes = [f"case {name} is gone" for name in cases if name not in now]
    changes += [f"case {name} is new" for name in now if name not in cases]
    for name, before in cases.items():
        if name in now:
            changes += _compare_cases(name, before, now[name])
    return [*changes, *_compare_wholes(listing, describe_listing(dataset))]


def _compare_cases(name: str, before: CaseEntry, now: CaseEntry) -> Iterator[str]:
    if before.image != now.image:
        yield f"the image of case {name} is {', '.join(now.image)}, was {', '.join(before.image)}"
    if before.label != now.label:
        yield f"the label of case {name} is {now.label or 'none'}, was {before.label or 'none'}"
    if not _is_same_text(before.patient, now.patient):
        yield f"case {name} has another patient"
    if before.split != now.split:
        yield f"the split of case {name} is {now.split or 'none'}, was {before.split or 'none'}"
    if before.annotated != now.annotated:
        was, is_now = (
            "all labels" if names is None else ", ".join(names) for names in (before.annotated, now.annotated)
        )
        yield f"case {name} is annotated with {is_now}, was with {was}"
    if not _is_same_size(before.spacing_mm, now.spacing_mm):
        yield f"the spacing_mm of case {name} is {_show_size(now.spacing_mm)}, was {_show_size(before.spacing_mm)}"


def _compare_wholes(before: Listing, now: Listing) -> Iterator[str]:
    tables: tuple[tuple[str, Any, Any], ...] = (
        ("the label table is", before.labels, now.labels),
        ("the list of channels is", before.channels, now.channels),
        ("the value to ignore is", before.ignore_value, now.ignore_value),
        ("the table of regions is", before.regions, now.regions),
    )
    for name, was, value in tables:
        if was != value:
            yield f"{name} {_show(value)}, was {_show(was)}"
    if len(before.folds) != len(now.folds):
        yield f"there are {len(now.folds)} folds, were {len(before.folds)}"
        return
    for number, (was, fold_now) in enumerate(zip(before.folds, now.folds, strict=True)):
        for side in ("training", "validation"):
            was_there, is_there = set(getattr(was, side)), set(getattr(fold_now, side))
            yield from (f"case {case} is in the {side} of fold {number}" for case in sorted(is_there - was_there))
            yield from (f"case {case} left the {side} of fold {number}" for case in sorted(was_there - is_there))


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_show(number)}" for name, number in value.items()) or "none"
    if isinstance(value, list):
        return ("+" if value and isinstance(value[0], int) else ", ").join(map(str, value))
    return "none" if value is None else str(value)


def _is_same_text(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same, or the same number: pandas writes 7 as 7.0 where another row is empty."""
    if one is None or other is None or one == other:
        return one == other
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _is_same_size(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    """Whether two spacings are the same; a single number stands for every axis."""
    if one is None or other is None:
        return one == other
    num_axes = max(len(one), len(other))
    first, second = ([*sizes] * num_axes if len(sizes) == 1 else [*sizes] for sizes in (one, other))
    return len(first) == len(second) and all(
        math.isclose(*pair, rel_tol=1e-6) for pair in zip(first, second, strict=True)
    )


def _show_size(sizes: Sequence[float] | None) -> str:
    return "none" if sizes is None else "x".join(f"{size:g}" for size in sizes)
