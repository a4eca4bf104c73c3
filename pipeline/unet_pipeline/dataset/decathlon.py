"""Reader of lists with `training` in JSON: the Medical Segmentation Decathlon, nnU-Net's raw layout of version 1, and MONAI's data lists.

The Decathlon names one file per case. nnU-Net's first version writes the same list, and a file CASE_0000 per channel lies in the folder.
MONAI's lists (Auto3DSeg, BraTS) may name the channels one by one, may lack the label table, and number folds in the entries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_pipeline.dataset.dataset import Case, Dataset, case_name, list_images
from unet_pipeline.dataset.file_names import remove_common_start
from unet_pipeline.dataset.given_splits import Folds, build_folds
from unet_pipeline.dataset.listed_entries import (
    ListedCase,
    find_first_channels,
    name_listed,
    read_entries,
    read_extra_entries,
)
from unet_pipeline.dataset.listed_paths import describe_place, find_data_root
from unet_pipeline.dataset.listed_tests import TEST_KEYS, find_test_images
from unet_pipeline.dataset.listing import NOT_LISTED, find_wrong_count
from unet_pipeline.dataset.names import build_label_table, parse_whole_number, read_channel_names, show_value
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import NOTE, WARNING, Message, Problem
from unet_pipeline.text_files import read_json_of_unique_keys

UNLABELLED_ENTRIES = Message(
    "entries-without-label", NOTE, "lists {count} case(s) without label under {key!r}", "They are left out."
)
FOLDS_UNUSED = Message(
    "folds-unused",
    WARNING,
    "numbers folds that are left out: {reason}",
    "`plan` draws folds of its own; correct the numbers if these are meant.",
)
LAYOUT = "Medical Segmentation Decathlon"
NNUNET_1 = "nnU-Net raw, version 1"
MONAI_LIST = "MONAI data list"
FILE = "dataset.json"


def matches(root: Path) -> bool:
    """Whether `root` is or has a list with training pairs.

    Raises:
        DatasetError: dataset.json is not valid JSON.
    """
    return find_list(root) is not None


def find_list(root: Path) -> Path | None:
    """The list at `root`: the file itself, dataset.json, or where there is none the only JSON file that is such a list."""
    if root.is_file():
        return root if root.suffix.lower() == ".json" and _is_list(read_description(root)) else None
    path = root / FILE
    if path.is_file():
        return path if _is_list(read_description(path)) else None
    lists = find_lists(root)
    return lists[0] if len(lists) == 1 else None


def find_lists(root: Path) -> list[Path]:
    """The JSON files of a folder that are such lists."""
    return [path for path in sorted(root.glob("*.json")) if not path.name.startswith(".") and _looks_like_a_list(path)]


def _is_list(content: object) -> bool:
    """Whether it has training pairs; a dataset.json of nnU-Net's second version may have kept those of the first."""
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        return False
    return not ("channel_names" in content and "file_ending" in content)


def _looks_like_a_list(path: Path) -> bool:
    try:
        return path.is_file() and _is_list(read_description(path))
    except DatasetError:
        return False


def read(root: Path, data_root: Path | None = None) -> Dataset:
    """The dataset that the list at `root` describes.

    Args:
        root: the list, or its folder.
        data_root: the folder that the paths start from; found by looking when None.

    Raises:
        DatasetError: the list is not valid, or an entry lacks its image or label.
    """
    path = find_list(root)
    if path is None:
        raise DatasetError(f'{root} has no list of cases; expected {FILE} with a "training" list.')
    content = read_description(path)
    labels, channels = _read_labels(content, path.name), _read_channels(content, path.name)
    training = read_entries(content["training"], "training", path.name)
    place = data_root or find_data_root(
        path.parent, [text for entry in training for text in entry.paths], ("", "_0000")
    )
    extra, problems = _read_other_parts(content, path.name)
    entries = [entry.placed(place) for entry in (*training, *extra)]
    split, problems_of_channels = find_first_channels(place, entries, len(channels or ()))
    cases = name_listed(split, {entry.where: entry.split for entry in extra})
    problems += problems_of_channels
    images = [image for case in cases for image in case.images]
    problems += describe_place(path.name, path.parent, place, data_root, images)
    problems += find_wrong_count(content, len(training), path.name)
    folds, problems_of_folds = _read_folds(content["training"], training, cases, path.name)
    problems += problems_of_folds
    is_nnunet = any(before.images != after.images for before, after in zip(entries, split, strict=False))
    is_decathlon = labels is not None and path.name == FILE and all(len(entry.images) == 1 for entry in entries)
    listed_in = Path(os.path.relpath(path, place))
    return Dataset(
        root=place,
        layout=NNUNET_1 if is_nnunet else LAYOUT if is_decathlon else f"{MONAI_LIST} ({path.name})",
        cases=cases,
        channels=channels or _name_channels(cases),
        labels=labels,
        licence=str(content.get("licence", content.get("license", ""))),
        reference=str(content.get("reference", "")).strip(),
        folds=folds,
        problems_of_layout=(*problems, *_find_unlisted(place, cases, path.name)),
        lists=(listed_in,),
        given_list=listed_in,
        test_images=find_test_images(place, content),
    )


def read_description(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: it is not valid.
    """
    return read_json_of_unique_keys(path, DatasetError, path.name, "Correct it.")


def _read_labels(content: Mapping[str, object], name: str) -> dict[str, int] | None:
    """The label table, by value as in the Decathlon or by name as in nnU-Net's second version; None without one."""
    if "labels" not in content:
        return None
    table = content["labels"]
    if not isinstance(table, dict):
        raise DatasetError(
            f'{name} has no usable "labels"; expected an object such as {{"0": "background", "1": "liver"}}. Correct it.'
        )
    if all(str(key).strip().isdecimal() for key in table):
        return build_label_table([(label, value) for value, label in table.items()], name)
    return build_label_table(table.items(), name)


def _read_channels(content: Mapping[str, object], name: str) -> tuple[str, ...] | None:
    """Names of the channels, in the order of their numbers; None without any."""
    key = "modality" if "modality" in content else "channel_names"
    return read_channel_names(content.get(key, {}), key, name) or None


def _name_channels(cases: tuple[Case, ...]) -> tuple[str, ...] | None:
    """What distinguishes the files of a case's channels, such as ("t1", "flair"), where it is the same in every case."""
    whole = [case for case in cases if not case.missing_channels]
    name_sets = {tuple(remove_common_start(case_name(path) for path in case.images).values()) for case in whole}
    names = name_sets.pop() if len(name_sets) == 1 else ()
    return names if len(names) > 1 and not any(name.isdecimal() for name in names) else None


def _read_other_parts(content: Mapping[str, object], name: str) -> tuple[list[ListedCase], list[Problem]]:
    """Labelled cases for validation and for testing, and what is left out."""
    extra: list[ListedCase] = []
    problems: list[Problem] = []
    for key in ("validation", *TEST_KEYS):
        listed = content.get(key)
        if not isinstance(listed, list):
            continue
        entries = read_extra_entries(listed, key, name)
        extra += entries
        if key == "validation" and len(entries) < len(listed):
            problems.append(UNLABELLED_ENTRIES.about(name, count=len(listed) - len(entries), key=key))
    return extra, problems


def _read_folds(
    listed: list[dict[str, Any]], training: list[ListedCase], cases: tuple[Case, ...], name: str
) -> tuple[Folds, list[Problem]]:
    """Folds where every training entry says in which one it validates; a note where some do and the folds cannot be used."""
    numbered = [entry.get("fold") for entry in listed]
    if all(value is None for value in numbered):
        return (), []
    numbers = [_parse_fold(value) for value in numbered]
    wrong = [
        (entry, value) for entry, (value, number) in enumerate(zip(numbered, numbers, strict=True)) if number is None
    ]
    if wrong:
        entry, value = wrong[0]
        what = "no fold" if value is None else f"the fold {show_value(value)}"
        reason = f"training entry {entry} has {what}; expected a whole number from 0 on in every entry"
    elif len(set(numbers)) < 2:
        reason = f"all entries have the fold {numbers[0]}; expected two or more"
    elif any(case.split == "validation" for case in cases):
        reason = 'the list "validation" says already what validates'
    elif len(cases) < len(training):
        reason = f"{len(training) - len(cases)} of the entries cannot be used"
    else:
        of_training = dict(zip((case.name for case in cases), numbers, strict=False))
        return build_folds({case: number for case, number in of_training.items() if number is not None}), []
    return (), [FOLDS_UNUSED.about(name, reason=reason)]


def _parse_fold(value: object) -> int | None:
    try:
        number = parse_whole_number(value)
    except ValueError:
        return None
    return number if number >= 0 else None


def _find_unlisted(root: Path, cases: tuple[Case, ...], name: str) -> list[Problem]:
    """Files that no entry names beside those that entries do, where all images lie in one folder and all label maps in another."""
    listed = {(root / path).absolute() for case in cases for path in case.files}
    images = {path.parent for case in cases for path in case.images}
    labels = {path.parent for case in cases for path in case.label_files}
    if len(images) != 1 or len(labels) != 1:
        return []
    return [
        NOT_LISTED.about(path.relative_to(root).as_posix(), list=name)
        for folder in sorted(images | labels)
        if (root / folder).is_dir()
        for path in list_images(root / folder)
        if path.absolute() not in listed
    ]
