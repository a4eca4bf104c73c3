"""Splits that a dataset brings: nnU-Net's splits_final.json, and fold numbers of single entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_pipeline.dataset.names import show_value
from unet_pipeline.errors import DatasetError
from unet_pipeline.text_files import read_json

SPLITS_FILE = "splits_final.json"
Folds = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def read_nnunet_splits(path: Path, cases: Sequence[str]) -> Folds:
    """Folds of nnU-Net's splits_final.json, a list of {"train": [names], "val": [names]}.

    Returns:
        (training, validation) of every fold.

    Raises:
        DatasetError: another form, an unknown case, or a case on both sides.
    """
    content = read_json(path, DatasetError, path.name, "Correct it or remove it.")
    known, folds = set(cases), []
    if not isinstance(content, list) or not content:
        raise DatasetError(
            f"{path.name} has another form than a list of folds: it is {show_value(content)}; expected "
            '[{"train": [names], "val": [names]}, ...]. Correct it or remove it.'
        )
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(side), list) for side in ("train", "val")):
            raise DatasetError(
                f'{path.name}, fold {number}, has another form than {{"train": [names], "val": [names]}}. Correct it or remove it.'
            )
        training, validation = (tuple(sorted(map(str, entry[side]))) for side in ("train", "val"))
        if unknown := sorted({*training, *validation} - known):
            raise DatasetError(
                f"{path.name}, fold {number}, names the case {unknown[0]}, which the dataset lacks. Correct the file or add the case."
            )
        if both := sorted(set(training) & set(validation)):
            raise DatasetError(
                f"{path.name}, fold {number}, has the case {both[0]} in train and in val. Leave it on one side."
            )
        folds.append((training, validation))
    return tuple(folds)


def build_folds(fold_of: Mapping[str, int]) -> Folds:
    """Folds from the number of the fold that validates each case."""
    numbers = sorted(set(fold_of.values()))
    return tuple(
        (
            tuple(sorted(case for case, fold in fold_of.items() if fold != number)),
            tuple(sorted(case for case, fold in fold_of.items() if fold == number)),
        )
        for number in numbers
    )
