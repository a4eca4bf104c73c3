"""Reader of the Medical Segmentation Decathlon layout: dataset.json with `training`, `labels` and `modality`."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.dataset import Case, Dataset, case_name, order_labels
from pipeline.dataset.given_splits import Folds, build_folds
from pipeline.dataset.listing import find_unlisted, find_wrong_count
from pipeline.dataset.paths import parse_path
from pipeline.errors import DatasetError
from pipeline.text_files import read_json

LAYOUT = "Medical Segmentation Decathlon"


def matches(root: Path) -> bool:
    """Whether `root` has a dataset.json with a list of training pairs."""
    path = root / "dataset.json"
    if not path.is_file():
        return False
    content = _read_json(path)
    return isinstance(content, dict) and isinstance(content.get("training"), list)


def read(root: Path) -> Dataset:
    """The dataset at `root`.

    Raises:
        DatasetError: dataset.json is not valid, or an entry lacks its image or label.
    """
    content = _read_json(root / "dataset.json")
    cases = tuple(_read_entry(entry, number) for number, entry in enumerate(content["training"]))
    try:
        labels = order_labels({str(name): int(value) for value, name in content["labels"].items()})
    except (KeyError, AttributeError, ValueError) as error:
        raise DatasetError(
            'dataset.json has no usable "labels"; expected an object such as {"0": "background", "1": "liver"}.'
        ) from error
    try:
        modality = sorted((int(number), str(name)) for number, name in content.get("modality", {}).items())
    except (AttributeError, ValueError) as error:
        raise DatasetError('dataset.json has no usable "modality"; expected an object such as {"0": "MRI"}.') from error
    channels = tuple(name for _, name in modality)
    return Dataset(
        root=root,
        layout=LAYOUT,
        cases=cases,
        channels=channels or None,
        labels=labels,
        licence=str(content.get("licence", content.get("license", ""))),
        reference=str(content.get("reference", "")).strip(),
        folds=_read_folds(content["training"], cases),
        problems_of_layout=(*find_unlisted(root, cases), *find_wrong_count(content, len(cases))),
    )


def _read_json(path: Path) -> dict:
    return read_json(path, DatasetError, path.name, "Correct it.")


def _read_entry(entry: object, number: int) -> Case:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("image"), str)
        or not isinstance(entry.get("label"), str)
    ):
        raise DatasetError(
            f'dataset.json, training entry {number}, is {entry!r}; expected {{"image": PATH, "label": PATH}}. '
            "Complete the entry or remove it."
        )
    where = f"dataset.json, training entry {number}"
    image, label = parse_path(entry["image"], where), parse_path(entry["label"], where)
    return Case(case_name(image), image, label)


def _read_folds(entries: list[dict], cases: tuple[Case, ...]) -> Folds:
    """Folds where every entry says in which one it validates."""
    numbers = [entry.get("fold") for entry in entries]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers) or len(set(numbers)) < 2:
        return ()
    return build_folds({case.name: int(entry["fold"]) for case, entry in zip(cases, entries, strict=True)})
