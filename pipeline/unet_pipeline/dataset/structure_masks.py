"""A mask file per structure -> one label map: values by name, the same in all cases, and every overlap named."""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from unet_pipeline.dataset.dataset import Case, Dataset, StructureMask
from unet_pipeline.dataset.file_names import natural_key
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.names import order_labels
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem, name_elements
from unet_pipeline.types import BACKGROUND

NOT_BINARY = Message(
    "mask-not-binary",
    ERROR,
    "is the mask of {structure} and has the values {shown}; expected 0 and one other value",
    "Save one mask per structure, or one label map with all of them.",
)
MASKS_OVERLAP = Message(
    "masks-overlap",
    WARNING,
    "overlaps the mask of {other} in case {case} in {count} {elements}; they count as {winner}",
    "The structure with the higher value wins: choose the values with --label NAME=VALUE, save masks without overlap, or give --overlaps.",
)
COMBINATION = Message(
    "unknown-combination",
    ERROR,
    "has voxels in the masks of {names} at once, which no case of the training had",
    "Correct the masks, or train with cases that have this overlap.",
)
NO_MASK = Message(
    "no-mask",
    ERROR,
    "stands for masks of which the label table names none, and the image has no grid to take for them",
    "Put the image right, or name one of its structures with --label.",
)
STRUCTURES_LEFT_OUT = Message(
    "structures-left-out",
    NOTE,
    "has masks of {count} structure(s) that the label table does not name ({shown}); they are left out",
    "Name them with --label if they are meant.",
)
SPELLINGS = Message(
    "structure-spellings",
    ERROR,
    "has structures whose names differ in spaces and punctuation only, so that one may count as two: {shown}",
    "If they are one, take the names of most cases: {together} If they are not: {apart} Correct the values, if others are wanted.",
)


def has_masks(dataset: Dataset) -> bool:
    """Whether the structures of a dataset lie in files of their own."""
    return any(case.masks is not None for case in dataset.cases)


def name_structures(dataset: Dataset, labels: dict[str, int] | None) -> Dataset:
    """The dataset with the values of a label table for its structures; those that the table lacks are left out, with a note.

    Args:
        dataset: one without masks per structure is returned as it is.
        labels: name and value of each structure, letter case aside; the background may be missing. Those that the reader gave if None.

    Raises:
        DatasetError: the table is no usable one, or gives a structure the background's value.
    """
    if not has_masks(dataset):
        return dataset
    if labels is None:
        return replace(dataset, problems_of_layout=(*dataset.problems_of_layout, *_find_spellings(dataset)))
    table = order_labels(labels if 0 in labels.values() else {BACKGROUND: 0} | labels)
    value_of = _list_spellings(table)
    cases, left_out = [], set[str]()
    for case in dataset.cases:
        if case.masks is None:
            cases.append(case)
            continue
        masks = _look_up(value_of, case.masks)
        left_out |= {mask.structure for mask, structure in masks if structure is None}
        kept = [
            replace(mask, structure=structure[0], value=structure[1])
            for mask, structure in masks
            if structure is not None
        ]
        if background := [mask.structure for mask in kept if mask.value == 0]:
            raise DatasetError(
                f"The label table gives the structure {background[0]} the value 0, which stands for no mask at all; expected 1 to 255. Give "
                "it another value."
            )
        cases.append(replace(case, masks=tuple(sorted(kept, key=lambda mask: mask.value))))
    notes: list[Problem] = []
    if left_out:
        shown = ", ".join(sorted(left_out)[:5]) + (", ..." if len(left_out) > 5 else "")
        notes.append(STRUCTURES_LEFT_OUT.about("dataset", count=len(left_out), shown=shown))
    return replace(dataset, cases=tuple(cases), labels=table, problems_of_layout=(*dataset.problems_of_layout, *notes))


def _simplify(name: str) -> str:
    """A name without letter case, spaces and punctuation, in which spellings of one name agree."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())
    return plain or name


def _list_spellings(table: dict[str, int]) -> dict[str, tuple[str, int]]:
    """Name and value by the name as it is, letter case aside, and by its simplified form where only one name has it."""
    times = Counter(_simplify(name) for name in table)
    simplified = {_simplify(name): (name, value) for name, value in table.items() if times[_simplify(name)] == 1}
    return simplified | {name.casefold(): (name, value) for name, value in table.items()}


def _look_up(
    value_of: dict[str, tuple[str, int]], masks: Sequence[StructureMask]
) -> list[tuple[StructureMask, tuple[str, int] | None]]:
    """Each mask of a case with its name and value in the table; another spelling counts where no mask has the name itself."""
    exact = {mask.structure: value_of.get(mask.structure.casefold()) for mask in masks}
    others = [value_of.get(_simplify(mask.structure)) for mask in masks]
    free = [other for other in others if other not in exact.values() and others.count(other) == 1]
    return [
        (mask, exact[mask.structure] or (other if other in free else None))
        for mask, other in zip(masks, others, strict=True)
    ]


def _find_spellings(dataset: Dataset) -> Iterator[Problem]:
    """An error about names that differ in punctuation only and that no case has at once: likely one structure under two values."""
    names_of: dict[str, dict[str, int]] = {}
    has_both = set[str]()
    for case in dataset.cases:
        keys = [_simplify(mask.structure) for mask in case.masks or ()]
        has_both |= {key for key in keys if keys.count(key) > 1}
        for key, mask in zip(keys, case.masks or (), strict=True):
            names = names_of.setdefault(key, {})
            names[mask.structure] = names.get(mask.structure, 0) + 1
    variants = {key: names for key, names in names_of.items() if len(names) > 1 and key not in has_both}
    if not variants:
        return
    usual = [max(names, key=lambda name: (names[name], name)) for key, names in names_of.items() if key in variants]
    kept = [name for key, names in names_of.items() if key not in variants for name in names]
    together = _write_options([BACKGROUND, *sorted([*usual, *kept], key=natural_key)])
    apart = _write_options([BACKGROUND, *sorted(value for value in dataset.labels or () if value != BACKGROUND)])
    shown = "; ".join(
        ", ".join(f"{name} ({count} case(s))" for name, count in names.items()) for names in variants.values()
    )
    yield SPELLINGS.about("dataset", shown=shown, together=together, apart=apart)


def _write_options(names: Sequence[str]) -> str:
    return " ".join(f"--label {shlex.quote(f'{name}={value}')}" for value, name in enumerate(names))


def join_masks(
    case: Case, shape: tuple[int, ...], read: Callable[[StructureMask], MedicalImage]
) -> tuple[np.ndarray, list[Problem]]:
    """The label map of a case whose structures lie in files of their own, and what is to be said about it.

    Where masks overlap, the structure with the higher value is kept.

    Args:
        case: with masks in the order of their values.
        shape: of the image, without channels.
        read: reads a mask on the image's grid.

    Returns:
        The map, uint8 of shape (1, *shape), 0 where no mask is; the notes of all masks, and a warning per pair that overlaps.

    Raises:
        ImageFileError: a mask cannot be read, lies on another grid, or has more than two values.
    """
    if case.combinations is not None:
        return _join_combinations(case, shape, read)
    joined = np.zeros((1, *shape), np.uint8)
    name_of = {mask.value: mask.structure for mask in case.masks or ()}
    problems: list[Problem] = []
    elements = name_elements("voxels", len(shape) == 2)
    for mask in case.masks or ():
        read_mask = read(mask)
        _require_binary(read_mask.array, mask)
        problems += read_mask.notes
        inside = read_mask.array != 0
        for value, count in zip(*np.unique(joined[inside], return_counts=True), strict=True):
            if value:
                values = {"other": name_of[int(value)], "case": case.name, "count": int(count), "elements": elements}
                problems.append(MASKS_OVERLAP.about(mask.path.as_posix(), winner=mask.structure, **values))
        joined[inside] = mask.value
    return joined, problems


def read_patterns(
    masks: Sequence[StructureMask], shape: tuple[int, ...], read: Callable[[StructureMask], np.ndarray]
) -> np.ndarray:
    """Which masks each voxel is in, int64 of shape (1, *shape): bit n - 1 is that of the mask with value n."""
    patterns = np.zeros((1, *shape), np.int64)
    for mask in masks:
        array = read(mask)
        _require_binary(array, mask)
        patterns |= (array != 0).astype(np.int64) << (mask.value - 1)
    return patterns


def _join_combinations(
    case: Case, shape: tuple[int, ...], read: Callable[[StructureMask], MedicalImage]
) -> tuple[np.ndarray, list[Problem]]:
    """The label map of masks that may overlap, a value for each combination."""
    problems: list[Problem] = []

    def read_array(mask: StructureMask) -> np.ndarray:
        image = read(mask)
        problems.extend(image.notes)
        return image.array

    patterns = read_patterns(case.masks or (), shape, read_array)
    value_of = {0: 0, **dict(case.combinations or ())}
    joined = np.zeros(patterns.shape, np.uint8)
    for pattern in np.unique(patterns).tolist():
        if pattern not in value_of:
            names = " and ".join(mask.structure for mask in case.masks or () if pattern >> (mask.value - 1) & 1)
            raise COMBINATION.error(case.require_label().as_posix(), names=names)
        joined[patterns == pattern] = value_of[pattern]
    return joined, problems


def _require_binary(array: np.ndarray, mask: StructureMask) -> None:
    lowest, highest = array.min(), array.max()
    if lowest == 0 and (highest <= 1 or not np.any((array != 0) & (array != highest))):
        return
    values = np.unique(array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")
        raise NOT_BINARY.error(mask.path.as_posix(), structure=mask.structure, shown=shown)
