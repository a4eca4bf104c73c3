"""A mask file per structure -> one label map: values by name, the same in all cases, and every overlap named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from unet_pipeline.dataset.dataset import Case, Dataset, StructureMask
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.names import order_labels
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem
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
    "overlaps the mask of {other} in case {case} in {count} voxels; they count as {winner}",
    "The structure with the higher value wins: choose the values with --label NAME=VALUE, or save masks without overlap.",
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
    if labels is None or not has_masks(dataset):
        return dataset
    table = order_labels(labels if 0 in labels.values() else {BACKGROUND: 0} | labels)
    value_of = {name.casefold(): (name, value) for name, value in table.items()}
    cases, left_out = [], set[str]()
    for case in dataset.cases:
        masks = [(mask, value_of.get(mask.structure.casefold())) for mask in case.masks or ()]
        left_out |= {mask.structure for mask, structure in masks if structure is None}
        kept = [
            replace(mask, structure=structure[0], value=structure[1])
            for mask, structure in masks
            if structure is not None
        ]
        if background := [mask.structure for mask in kept if mask.value == 0]:
            raise DatasetError(
                f"The label table gives the structure {background[0]} the value 0, which voxels without a mask have; expected 1 to 255. Give "
                "it another value."
            )
        cases.append(replace(case, masks=tuple(sorted(kept, key=lambda mask: mask.value))))
    notes: list[Problem] = []
    if left_out:
        shown = ", ".join(sorted(left_out)[:5]) + (", ..." if len(left_out) > 5 else "")
        notes.append(STRUCTURES_LEFT_OUT.about("dataset", count=len(left_out), shown=shown))
    return replace(dataset, cases=tuple(cases), labels=table, problems_of_layout=(*dataset.problems_of_layout, *notes))


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
    joined = np.zeros((1, *shape), np.uint8)
    name_of = {mask.value: mask.structure for mask in case.masks or ()}
    problems: list[Problem] = []
    for mask in case.masks or ():
        read_mask = read(mask)
        _require_binary(read_mask.array, mask)
        problems += read_mask.notes
        inside = read_mask.array != 0
        for value, count in zip(*np.unique(joined[inside], return_counts=True), strict=True):
            if value:
                values = {"other": name_of[int(value)], "case": case.name, "count": int(count)}
                problems.append(MASKS_OVERLAP.about(mask.path.as_posix(), winner=mask.structure, **values))
        joined[inside] = mask.value
    return joined, problems


def _require_binary(array: np.ndarray, mask: StructureMask) -> None:
    lowest, highest = array.min(), array.max()
    if lowest == 0 and (highest <= 1 or not np.any((array != 0) & (array != highest))):
        return
    values = np.unique(array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")
        raise NOT_BINARY.error(mask.path.as_posix(), structure=mask.structure, shown=shown)
