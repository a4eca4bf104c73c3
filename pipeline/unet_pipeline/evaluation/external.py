"""Outputs of an external bundle -> rows per case and label: which of its outputs is which label of a dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd

from unet_pipeline.dataset.dataset import Dataset, image_suffix
from unet_pipeline.dataset.formats import FORMATS
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.nifti_file import read_stored_shape
from unet_pipeline.dataset.pages import read_label_pages
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.cases import evaluate_pairs
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.external import ExternalFormat
from unet_pipeline.types import BACKGROUND

if TYPE_CHECKING:
    from unet_pipeline.evaluation.cases import MeasureAll

_IGNORED = 255


@dataclass(frozen=True)
class Outputs:
    """What is measured.

    Attributes:
        values_of: name and values in the label files of each label or structure.
        in_channels: every structure has a place of its own along the last axis of the file, in this order; otherwise label maps.
        scored: names that the mean is taken over.
        notes: what a reader of the numbers must know.
    """

    values_of: Mapping[str, tuple[int, ...]]
    in_channels: bool
    scored: tuple[str, ...]
    notes: tuple[str, ...] = ()


def name_outputs(form: ExternalFormat, dataset: Dataset, pairs: Sequence[Pair]) -> Outputs:
    """Names and values of a bundle's outputs.

    Label maps carry the dataset's values; its names win, and where it has none, those of the bundle's metadata. Structures that may
    overlap have names only, and the dataset must have a label or a region of each name (in any case).

    Raises:
        EvaluationError: a structure's name is none of the dataset's, or a prediction is missing.
    """
    if missing := [pair.case for pair in pairs if not pair.prediction.is_file()]:
        raise EvaluationError(
            f"{len(missing)} of {len(pairs)} predictions are missing, for example of case {missing[0]}. Predict these cases first; a case "
            "without prediction is never left out."
        )
    declared = {name: (value,) for name, value in (dataset.labels or {}).items()} | dict(dataset.regions)
    if _has_channels(pairs[0]):
        known = {name.strip().lower(): values for name, values in declared.items()}
        if unknown := [name for name in form.output_names if name.strip().lower() not in known]:
            raise EvaluationError(
                f"{dataset.name} has no label or region {unknown[0]!r}, which the bundle predicts; it has "
                f"{', '.join(declared) or 'no names'}. Name the regions in the dataset.json of the nnU-Net layout, such as "
                '{"whole tumour": [1, 2, 4]}.'
            )
        values_of = {name: known[name.strip().lower()] for name in form.output_names}
        return Outputs(values_of, True, tuple(values_of))
    names = dict(enumerate(form.output_names))
    table = {name: value[0] for name, value in declared.items() if len(value) == 1} or {
        name: value for value, name in names.items()
    }
    notes = tuple(
        f"Value {value} is {name!r} in the dataset and {names[value]!r} in the bundle's metadata."
        for name, value in table.items()
        if value in names and name.strip().lower() != names[value].strip().lower() and value != 0
    )
    scored = tuple(name for name in table if name.lower() != BACKGROUND)
    return Outputs({name: (value,) for name, value in table.items()}, False, scored, notes)


def _has_channels(pair: Pair) -> bool:
    if image_suffix(pair.prediction) not in FORMATS["NIfTI"].suffixes:
        return False
    return len(read_stored_shape(pair.prediction)) > len(
        read_label_pages(pair.reference, pair.spatial_dims).spatial_shape
    )


def compare_outputs(
    pairs: Sequence[Pair],
    outputs: Outputs,
    ignore_value: int | None = None,
    notes: list[Problem] | None = None,
    measure_all: MeasureAll | None = None,
) -> pd.DataFrame:
    """Rows as from `evaluate_pairs`, for label maps or for structures that may overlap; `notes` gets the changes of label maps.

    Structures are measured in this process, whatever `measure_all` is: their masks are files for that long only.

    Raises:
        EvaluationError: files on another grid, or a prediction with a value that is no label.
    """
    if not outputs.in_channels:
        table = {name: values[0] for name, values in outputs.values_of.items()}
        return evaluate_pairs(pairs, table, ignore_value, notes=notes, measure_all=measure_all)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for channel, (name, values) in enumerate(outputs.values_of.items()):
            masks = [_write_masks(pair, channel, values, ignore_value, Path(folder)) for pair in pairs]
            rows = evaluate_pairs(masks, {BACKGROUND: 0, name: 1}, _IGNORED, notes=None if channel else notes)
            tables.append(rows[rows["label"] == name])
    joined = pd.concat(tables, ignore_index=True)
    order = {case: index for index, case in enumerate(dict.fromkeys(joined["case"]))}
    return joined.sort_values("case", key=lambda cases: cases.map(order), kind="stable", ignore_index=True)


def _write_masks(pair: Pair, channel: int, values: tuple[int, ...], ignore_value: int | None, folder: Path) -> Pair:
    """One structure of a case as two label maps with the value 1."""
    reference, predicted = read_label_pages(pair.reference, pair.spatial_dims), read_image(pair.prediction)
    label_map = reference.array[0]
    mask = np.isin(label_map, values).astype(np.uint8)
    if ignore_value is not None:
        mask[label_map == ignore_value] = _IGNORED
    paths = tuple(folder / f"{pair.case}_{side}.nii.gz" for side in ("reference", "prediction"))
    inside = (predicted.array[channel] > 0).astype(np.uint8)
    for path, array, affine in zip(paths, (mask, inside), (reference.affine, predicted.affine), strict=True):
        nib.save(nib.Nifti1Image(array, affine), path)
    return replace(pair, reference=paths[0], prediction=paths[1])
