"""Masks of one case that overlap: each combination of structures is a value of the joined label map, each structure a region of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from unet_pipeline.dataset.case_building import MOST_STRUCTURES
from unet_pipeline.dataset.case_reading import read_case_grid, read_mask
from unet_pipeline.dataset.dataset import Case, Dataset, StructureMask
from unet_pipeline.dataset.names import name_region_value
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.structure_masks import read_patterns
from unet_pipeline.errors import DatasetError, ImageFileError
from unet_pipeline.messages import NOTE, Message
from unet_pipeline.progress import progress_bar
from unet_pipeline.types import BACKGROUND

MOST_OVERLAPPING = 62  # bits of a pattern

REGIONS_OF_MASKS = Message(
    "overlaps-are-regions",
    NOTE,
    "has masks that overlap: {shown}; each structure is a region of the values that it is in",
    "Nothing has to be done. Without --overlaps the structure with the higher value would win.",
)


def combine_structures(dataset: Dataset, options: ReadOptions) -> Dataset:
    """The dataset with a value for every combination of structures that a case has, and a region for every structure that overlaps.

    It stays as it is where overlaps were not asked for. All masks are read. A mask that cannot be read is left to `check`, which names it.

    Args:
        dataset: with its structures named.

    Raises:
        DatasetError: a case has no masks, or is annotated with a part of its structures; too many structures or combinations.
    """
    if not options.overlaps or any(case.combinations is not None for case in dataset.cases):
        return dataset
    _require_masks(dataset)
    structures = [name for name in dataset.labels or {} if name != BACKGROUND]
    numbered = [_number(case, structures) for case in dataset.cases]
    patterns: set[int] = set()
    with progress_bar("find overlaps", len(numbered)) as bar:
        for case in numbered:
            patterns |= _find_patterns(dataset, case, options)
            bar.advance(note=case.name)
    ordered = sorted(patterns - {0}, key=lambda pattern: (pattern.bit_count(), pattern))
    if len(ordered) > MOST_STRUCTURES:
        raise DatasetError(
            f"The masks of {dataset.name} overlap in {len(ordered)} ways; expected at most {MOST_STRUCTURES}. "
            "Leave structures out."
        )
    value_of = {pattern: value for value, pattern in enumerate(ordered, start=1)}
    labels, regions = _name_values(structures, value_of)
    combinations = tuple(value_of.items())
    shown = ", ".join(f"{_describe(structures, pattern)} is {value}" for pattern, value in combinations)
    notes = [REGIONS_OF_MASKS.about("dataset", shown=shown)] if regions else []
    return replace(
        dataset,
        cases=tuple(replace(case, combinations=combinations) for case in numbered),
        labels=labels,
        regions=regions,
        problems_of_layout=(*dataset.problems_of_layout, *notes),
    )


def combine_by(dataset: Dataset, labels: Mapping[str, int], regions: Mapping[str, Sequence[int]]) -> Dataset:
    """A dataset with masks and the values that a plan has for their combinations.

    Args:
        labels, regions: of the plan; structures that neither names are left out.

    Raises:
        DatasetError: too many structures.
    """
    alone = [name for name, value in labels.items() if value != 0 and name != name_region_value(value, regions)]
    values_of = {**{name: set(values) for name, values in regions.items()}, **{name: {labels[name]} for name in alone}}
    structures = list(values_of)
    combinations = tuple(
        (sum(1 << bit for bit, name in enumerate(structures) if value in values_of[name]), value)
        for value in labels.values()
        if value != 0
    )
    cases = tuple(
        case if case.masks is None else replace(_number(case, structures), combinations=combinations)
        for case in dataset.cases
    )
    return replace(dataset, cases=cases, labels=dict(labels))


def _require_masks(dataset: Dataset) -> None:
    for case in dataset.cases:
        if case.label is not None and case.masks is None:
            raise DatasetError(
                f"Case {case.name} has a label map; --overlaps expects a mask per structure in every case. Leave it out."
            )
        if case.annotated is not None:
            raise DatasetError(
                f"Case {case.name} is annotated with a part of its structures, which --overlaps cannot join. Leave out one of both."
            )
    if len(dataset.labels or ()) > MOST_OVERLAPPING:
        raise DatasetError(
            f"{dataset.name} has {len(dataset.labels or ()) - 1} structures; expected at most {MOST_OVERLAPPING} that may overlap. "
            "Choose some with --label."
        )


def _number(case: Case, structures: Sequence[str]) -> Case:
    """The case with the place of each structure as the value of its mask, counted from 1; other structures are left out."""
    places = {name.casefold(): place for place, name in enumerate(structures, start=1)}
    masks = [mask for mask in case.masks or () if mask.structure.casefold() in places]
    return replace(case, masks=tuple(replace(mask, value=places[mask.structure.casefold()]) for mask in masks))


def _find_patterns(dataset: Dataset, case: Case, options: ReadOptions) -> set[int]:
    if not case.masks:
        return set()

    def read(mask: StructureMask) -> np.ndarray:
        return read_mask(dataset.root, mask, grid, options).array

    try:
        grid = read_case_grid(dataset.root, case, options)
        return set(np.unique(read_patterns(case.masks, grid.spatial_shape, read)).tolist())
    except ImageFileError:
        return set()


def _name_values(
    structures: Sequence[str], value_of: Mapping[int, int]
) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """The label table and the regions: a structure that overlaps no other is a plain label."""
    regions, labels = dict[str, tuple[int, ...]](), {BACKGROUND: 0}
    alone = dict[int, str]()
    for bit, name in enumerate(structures):
        patterns = [pattern for pattern in value_of if pattern >> bit & 1]
        if patterns == [1 << bit]:
            alone[1 << bit] = name
        elif not patterns:
            labels[name] = len(value_of) + len(labels)  # no file has it, which `check` says
        else:
            regions[name] = tuple(value_of[pattern] for pattern in patterns)
    labels |= {alone.get(pattern) or name_region_value(value, regions): value for pattern, value in value_of.items()}
    return labels, regions


def _describe(structures: Iterable[str], pattern: int) -> str:
    return " and ".join(name for bit, name in enumerate(structures) if pattern >> bit & 1)
