"""Facts about a whole dataset in a file beside it, for layouts that have no place for them: names of labels and channels, regions, folds.

A list of cases says what each case is, and not what its label values mean; `dataset_facts.json` does. It fills in what the layout leaves
open, and changes nothing that the layout says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.names import CHANNEL, REGION, order_labels, require_name
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json
from unet_pipeline.text_files import read_json_of_unique_keys

FACTS_FILE = "dataset_facts.json"


class FoldFacts(BaseModel):
    """Case names of one fold."""

    model_config = ConfigDict(extra="forbid")

    train: list[str]
    val: list[str]


class DatasetFacts(BaseModel):
    """Contents of dataset_facts.json; each field is one of `Dataset`."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, int] | None = None
    channels: list[str] | None = None
    ignore_value: int | None = None
    regions: dict[str, list[int]] = {}
    folds: list[FoldFacts] = []
    licence: str = ""
    reference: str = ""


def add_facts(dataset: Dataset) -> Dataset:
    """The dataset with what dataset_facts.json at its root says, where its layout does not say it.

    Raises:
        DatasetError: the file is damaged, has another form, or names a case that is not there.
    """
    path = dataset.root / FACTS_FILE
    if not path.is_file():
        return dataset
    try:
        facts = DatasetFacts.model_validate(
            read_json_of_unique_keys(path, DatasetError, FACTS_FILE, "Correct it or remove it.")
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise DatasetError(
            f"{FACTS_FILE} has another form than expected: {place}: {first['msg'].lower()}. Expected objects such as "
            '{"labels": {"background": 0, "liver": 1}}. Correct it or remove it.'
        ) from error
    known = {case.name for case in dataset.cases}
    if unknown := sorted({name for fold in facts.folds for name in (*fold.train, *fold.val)} - known):
        raise DatasetError(
            f"{FACTS_FILE} names the case {unknown[0]} in a fold, which the dataset lacks. Correct it or add the case."
        )
    for name in facts.regions:
        require_name(name, REGION, FACTS_FILE)
    for name in facts.channels or ():
        require_name(name, CHANNEL, FACTS_FILE)
    return replace(
        dataset,
        labels=dataset.labels or (order_labels(facts.labels, FACTS_FILE) if facts.labels else None),
        channels=dataset.channels or (tuple(facts.channels) if facts.channels else None),
        ignore_value=facts.ignore_value if dataset.ignore_value is None else dataset.ignore_value,
        regions=dataset.regions or {name: tuple(values) for name, values in facts.regions.items()},
        folds=dataset.folds or tuple((tuple(sorted(fold.train)), tuple(sorted(fold.val))) for fold in facts.folds),
        licence=dataset.licence or facts.licence,
        reference=dataset.reference or facts.reference,
        lists=(*dataset.lists, Path(FACTS_FILE)),
    )


def write_facts(folder: Path, dataset: Dataset) -> None:
    """Write dataset_facts.json of a dataset into `folder`; nothing where there is nothing to say."""
    facts = DatasetFacts(
        labels=dataset.labels,
        channels=list(dataset.channels) if dataset.channels else None,
        ignore_value=dataset.ignore_value,
        regions={name: list(values) for name, values in dataset.regions.items()},
        folds=[FoldFacts(train=list(training), val=list(validation)) for training, validation in dataset.folds],
        licence=dataset.licence,
        reference=dataset.reference,
    )
    if content := facts.model_dump(mode="json", exclude_defaults=True):
        write_json(folder / FACTS_FILE, content)
