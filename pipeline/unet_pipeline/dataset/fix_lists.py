"""Lists of a corrected copy: those of the source as far as they still say the right thing, otherwise cases.csv and dataset_facts.json."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from unet_pipeline.dataset.annotated_labels import COLUMN as ANNOTATED
from unet_pipeline.dataset.annotated_labels import FILE as ANNOTATED_FILE
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.dataset_facts import FACTS_FILE, write_facts
from unet_pipeline.dataset.fix_record import Change
from unet_pipeline.dataset.given_splits import SPLITS_FILE
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.missing_channels import ANY
from unet_pipeline.dataset.structure_masks import has_masks
from unet_pipeline.dataset.table import LAYOUT as TABLE
from unet_pipeline.dataset.table import find_table
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256, write_json, write_text
from unet_pipeline.text_files import read_json

CASES_FILE = "cases.csv"
_LISTS = ("dataset.json", SPLITS_FILE, ANNOTATED_FILE)


def write_lists(folder: Path, expected: Dataset, source: Dataset) -> Dataset:
    """Leave lists in `folder` from which a reader finds what is expected: those of the source, corrected where needed, or new ones.

    Args:
        folder: with all files of the copy, the lists of the source among them.
        expected: cases with their paths in the copy, and the facts about the whole dataset.
        source: as its reader found it.

    Returns:
        The dataset as a reader finds it in `folder`.

    Raises:
        DatasetError: no list can say it, because of a path.
    """
    written = _read_again(folder, expected, source) or _read_with_facts(folder, expected, source)
    if written is None and _rewrite_lists(folder, expected, source):
        written = _read_again(folder, expected, source)
    if written is None and has_masks(source):
        raise DatasetError(
            f"The layout of {source.name} does not hold once its files are corrected, and a list of cases has no place for a mask per "
            "structure. Expected masks that keep their names. Save the masks of a case as one label map."
        )
    if written is None:
        _remove_lists(folder, source)
        write_text(folder / CASES_FILE, format_cases(expected.cases))
        write_facts(folder, expected)
        written = _read_again(folder, expected, source)
    if written is None:
        raise DatasetError(
            f"A list of the corrected copy of {source.name} would not say the same as the source. Expected names of files and cases "
            "without line breaks. Rename them."
        )
    return written


def _remove_lists(folder: Path, source: Dataset) -> None:
    """Remove what would contradict a new list, or be read in its place."""
    for name in (*_LISTS, FACTS_FILE):
        (folder / name).unlink(missing_ok=True)
    table = find_table(folder) if source.layout.startswith(TABLE) else None
    if table is not None:
        table.unlink()


def _read_again(folder: Path, expected: Dataset, source: Dataset) -> Dataset | None:
    """The dataset in `folder`, if it is what is expected, without problems that the source had not."""
    try:
        lacking = any(case.missing_channels for case in expected.cases)
        written = read_dataset(folder, missing_channels=(ANY,) if lacking else ())
    except DatasetError:
        return None
    facts = ("labels", "channels", "ignore_value", "regions", "folds")
    same = all(getattr(written, name) == getattr(expected, name) for name in facts)
    same &= sorted(map(_describe, written.cases)) == sorted(map(_describe, expected.cases))
    counts = [Counter(problem.code for problem in dataset.problems_of_layout) for dataset in (written, source)]
    return written if same and counts[0] <= counts[1] else None


def _read_with_facts(folder: Path, expected: Dataset, source: Dataset) -> Dataset | None:
    """The dataset, if it needs no more than names beside it; they are not left otherwise."""
    write_facts(folder, expected)
    written = _read_again(folder, expected, source)
    if written is None:
        (folder / FACTS_FILE).unlink(missing_ok=True)
    return written


def _describe(case: Case) -> tuple[str, ...]:
    """What a list says about a case."""
    label = "" if case.label is None else case.label.as_posix()
    values = (case.patient, case.split, case.spacing_mm, case.annotated, sorted(case.columns.items()))
    masks = [f"{mask.structure}={mask.value} {mask.path.as_posix()}" for mask in case.masks or ()]
    label = " ".join(masks) if masks else label  # the folder, or the first of the masks
    return (case.name, label, *map(_name_file, case.channel_files), *map(str, values))


def _name_file(path: Path | None) -> str:
    return "" if path is None else path.as_posix()


def list_list_changes(folder: Path, source: Dataset) -> list[Change]:
    """Lists of a copy that are other than the source's: written again, new, or left out for another."""
    table = find_table(source.root) if source.layout.startswith(TABLE) else None
    names = dict.fromkeys([*_LISTS, CASES_FILE, FACTS_FILE, *([table.name] if table is not None else [])])
    added = [name for name in names if (folder / name).is_file() and not (source.root / name).is_file()]
    changes = []
    for name in names:
        before, after = source.root / name, folder / name
        hashes = [compute_sha256(path) if path.is_file() else "" for path in (before, after)]
        if hashes[0] == hashes[1]:
            continue
        done = "written again" if all(hashes) else "written" if hashes[1] else f"left out for {' and '.join(added)}"
        changes.append(
            Change(
                file=name if hashes[0] else "dataset",
                kind="list-written",
                wrong="does not say what the copy holds" if hashes[0] else "has no file that says so",
                done=done,
                source_sha256=hashes[0],
                result=name if hashes[1] else "",
                result_sha256=hashes[1],
            )
        )
    return changes


# lists of the source


def _rewrite_lists(folder: Path, expected: Dataset, source: Dataset) -> bool:
    """Correct dataset.json and splits_final.json of a copy: paths, cases that are left out, names of labels; whether there was one."""
    dropped = {case.name for case in source.cases} - {case.name for case in expected.cases}
    case_of = {case.name: case for case in expected.cases}
    moved: dict[str, str | None] = {}
    for case in source.cases:
        there = case_of.get(case.name)
        results = [None] * len(case.files) if there is None else list(there.files)
        for path, result in zip(case.files, results, strict=True):
            moved[path.as_posix()] = None if result is None else result.as_posix()
    rewritten = False
    for name in _LISTS:
        if not (folder / name).is_file():
            continue
        content = _rewrite(read_json(folder / name, DatasetError, name, "Correct it."), moved, dropped)
        if isinstance(content, dict):
            _set_facts(content, expected, source)
        write_json(folder / name, content)
        rewritten = True
    return rewritten


def _rewrite(content: Any, moved: Mapping[str, str | None], dropped: set[str]) -> Any:
    """JSON with other paths, and without what belongs to cases that are left out."""
    if isinstance(content, str):
        return moved.get(_normalise(content)) or content
    if isinstance(content, list):
        return [_rewrite(entry, moved, dropped) for entry in content if not _belongs(entry, moved, dropped)]
    if isinstance(content, dict):
        return {
            key: _rewrite(entry, moved, dropped)
            for key, entry in content.items()
            if not (isinstance(entry, dict) and _belongs(entry, moved, dropped))
        }
    return content


def _belongs(entry: Any, moved: Mapping[str, str | None], dropped: set[str]) -> bool:
    """Whether an entry of a list is a case, or the name of one, that is left out."""
    if isinstance(entry, str):
        return entry in dropped
    values = list(entry.values()) if isinstance(entry, dict) else []
    texts = [
        text for value in values for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
    ]
    return any(moved.get(path, path) is None for path in map(_normalise, texts))


def _normalise(text: str) -> str:
    return str(PurePosixPath(text.strip().replace("\\", "/")))


def _set_facts(content: dict[str, object], expected: Dataset, source: Dataset) -> None:
    """Number of cases, and names of channels and labels, in a dataset.json."""
    if "numTraining" in content:
        content["numTraining"] = len(expected.cases)
    for key in ("modality", "channel_names"):
        if key in content and expected.channels and expected.channels != source.channels:
            content[key] = {str(index): name for index, name in enumerate(expected.channels)}
    labels = content.get("labels")
    if expected.labels == source.labels or not isinstance(labels, dict) or not expected.labels:
        return
    if all(str(key).isdecimal() for key in labels):
        content["labels"] = {str(value): name for name, value in expected.labels.items()}
    else:
        kept = {name: value for name, value in labels.items() if isinstance(value, list) or name == "ignore"}
        content["labels"] = {**expected.labels, **kept}


# new lists


def format_cases(cases: Sequence[Case]) -> str:
    """cases.csv: a column only where some case has something to say in it; channels are separated by semicolons or have columns."""
    separated = not any(";" in path.as_posix() for case in cases for path in case.images)
    num_columns = 1 if separated else max(len(case.channel_files) for case in cases)
    names = ["image"] if separated else [f"image_{index}" for index in range(num_columns)]
    columns = {
        "patient": any(case.patient for case in cases),
        "split": any(case.split for case in cases),
        "spacing_mm": any(case.spacing_mm for case in cases),
        ANNOTATED: any(case.annotated for case in cases),
    }
    own = [name for name, is_given in columns.items() if is_given]
    further = list(dict.fromkeys(name for case in cases for name in case.columns))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", *names, "label", *own, *further])
    for case in cases:
        images = [_name_file(path) for path in case.channel_files]
        cells = [";".join(images)] if separated else [*images, *[""] * (num_columns - len(images))]
        spacing = "x".join(map(repr, case.spacing_mm or ()))
        values = {
            "patient": case.patient or "",
            "split": case.split or "",
            "spacing_mm": spacing,
            ANNOTATED: ";".join(case.annotated or ()),
        }
        label = "" if case.label is None else case.label.as_posix()
        rest = [*(values[name] for name in own), *(case.columns.get(name, "") for name in further)]
        writer.writerow([case.name, *cells, label, *rest])
    return stream.getvalue()


def keep_cases(dataset: Dataset, cases: Sequence[Case], patients: Mapping[str, str]) -> Dataset:
    """The dataset with other cases, their patients where those are given, and its folds without the cases that are left out."""
    names = {case.name for case in cases}
    folds = [tuple(tuple(name for name in side if name in names) for side in fold) for fold in dataset.folds]
    return replace(
        dataset,
        cases=tuple(replace(case, patient=patients.get(case.name, case.patient)) for case in cases),
        folds=tuple((training, validation) for training, validation in folds if training and validation),
    )
