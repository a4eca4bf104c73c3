"""Reader of nnU-Net's raw layout, version 2: dataset.json with `channel_names`, imagesTr/CASE_0000.ext, labelsTr/CASE.ext."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_pipeline.dataset.dataset import Case, Dataset, case_name, image_suffix
from unet_pipeline.dataset.given_splits import SPLITS_FILE, read_nnunet_splits
from unet_pipeline.dataset.listed_tests import find_test_images
from unet_pipeline.dataset.listing import find_unlisted, find_wrong_count
from unet_pipeline.dataset.names import (
    REGION,
    build_label_table,
    name_region_value,
    parse_label_value,
    read_channel_names,
    require_name,
)
from unet_pipeline.dataset.paths import parse_path
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, Message, Problem
from unet_pipeline.text_files import read_json_of_unique_keys

LAYOUT = "nnU-Net raw"
FILE = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")

NO_CHANNEL = Message(
    "channel-missing",
    ERROR,
    "has no file of channel {channel} ({expected})",
    "Add it, or remove the case; if cases may lack channels, say so with --missing-channels any.",
)
EXTRA_CHANNEL = Message(
    "channel-extra",
    ERROR,
    "is channel {channel}, and dataset.json names {count} channel(s)",
    "Name it in {key}, or remove the file.",
)
NO_CHANNEL_NUMBER = Message(
    "channel-number",
    ERROR,
    "has no channel number in its name; expected CASE_0000{ending}",
    "Rename it, channel 0000 first.",
)
NO_LABEL = Message("nnunet-no-label", ERROR, "has no label", "Add {expected}, or remove the image.")
NO_IMAGE = Message("nnunet-no-image", ERROR, "has no image", "Add {expected}, or remove the label.")
REGIONS = Message(
    "regions",
    NOTE,
    "declares regions that join several values ({regions}); the label maps have the plain values {values}",
    "The overlap is trained and measured on the regions.",
)


def matches(root: Path) -> bool:
    """Whether `root` has a dataset.json with channel names."""
    path = root / "dataset.json"
    if not path.is_file():
        return False
    content = _read_json(path)
    return isinstance(content, dict) and "channel_names" in content and "labels" in content


def read(root: Path) -> Dataset:
    """The dataset at `root`.

    Raises:
        DatasetError: dataset.json or splits_final.json is not valid.
    """
    content = _read_json(root / "dataset.json")
    channels = _read_channels(content)
    labels, regions, ignore_value, notes = _read_labels(content)
    if isinstance(content.get("dataset"), dict):
        cases, problems = _read_listed(content["dataset"], len(channels), root)
        problems += find_unlisted(root, cases)
    else:
        ending = str(content.get("file_ending", ""))
        if not ending.startswith("."):
            raise DatasetError('dataset.json has no usable "file_ending"; expected one such as ".nii.gz".')
        cases, problems = _find_cases(root, ending, len(channels))
    problems += find_wrong_count(content, len(cases))
    splits = root / SPLITS_FILE
    folds = read_nnunet_splits(splits, [case.name for case in cases]) if splits.is_file() else ()
    return Dataset(
        root=root,
        layout=LAYOUT,
        cases=tuple(cases),
        channels=channels,
        labels=labels,
        licence=str(content.get("licence", content.get("license", ""))),
        reference=str(content.get("reference", "")).strip(),
        ignore_value=ignore_value,
        regions=regions,
        folds=folds,
        problems_of_layout=(*problems, *notes),
        test_images=find_test_images(root, content),
        lists=(Path("dataset.json"), *([Path(SPLITS_FILE)] if splits.is_file() else [])),
    )


def _read_json(path: Path) -> Any:
    return read_json_of_unique_keys(path, DatasetError, path.name, "Correct it.")


def _read_channels(content: Mapping[str, object]) -> tuple[str, ...]:
    numbered = content["channel_names"]
    named = numbered if isinstance(numbered, dict) else None
    channels = read_channel_names(named, "channel_names", FILE)
    if sorted(map(int, named or ())) != list(range(len(channels))) or not channels:
        raise DatasetError("dataset.json numbers its channel_names with gaps; expected 0, 1, ... Renumber them.")
    return channels


def _read_labels(
    content: Mapping[str, object],
) -> tuple[dict[str, int], dict[str, tuple[int, ...]], int | None, list[Problem]]:
    """Label table of plain values, regions, the value to ignore, and a note about the regions.

    A region lists the values that it joins.
    """
    if not isinstance(content["labels"], dict):
        raise DatasetError('dataset.json has no usable "labels"; expected {"background": 0, "liver": 1}. Correct it.')
    values_of = {name: _read_values(name, value) for name, value in content["labels"].items()}
    ignored = values_of.pop("ignore", (None,))
    if len(ignored) > 1:
        raise DatasetError(f"dataset.json has the values {ignored} to ignore; expected one. Leave one of them.")
    named = [(name, values[0]) for name, values in values_of.items() if len(values) == 1]
    regions = {require_name(name, REGION, FILE): values for name, values in values_of.items() if len(values) > 1}
    only_joined = {value for values in regions.values() for value in values} - {value for _, value in named}
    table = build_label_table(
        [*named, *((name_region_value(value, regions), value) for value in sorted(only_joined))], FILE
    )
    notes = []
    if regions:
        shown = ", ".join(f"{name} = {'+'.join(map(str, values))}" for name, values in regions.items())
        plain = ", ".join(f"{name}={value}" for name, value in table.items())
        notes.append(REGIONS.about(FILE, regions=shown, values=plain))
    return table, regions, ignored[0], notes


def _read_values(name: str, value: object) -> tuple[int, ...]:
    """The value of a label in a tuple, or those of a region."""
    listed = value if isinstance(value, list) and value else [value]
    return tuple(parse_label_value(number, name, FILE) for number in listed)


def _find_cases(root: Path, ending: str, num_channels: int) -> tuple[list[Case], list[Problem]]:
    problems: list[Problem] = []
    channels_of: dict[str, dict[int, Path]] = {}
    for path in _list_with_ending(root / IMAGES, ending):
        relative = path.relative_to(root)
        match = _CHANNEL.fullmatch(path.name[: -len(ending)])
        if match is None:
            problems.append(NO_CHANNEL_NUMBER.about(relative, ending=ending))
        elif int(match["channel"]) >= num_channels:
            problems.append(
                EXTRA_CHANNEL.about(relative, channel=int(match["channel"]), count=num_channels, key="channel_names")
            )
        else:
            channels_of.setdefault(match["case"], {})[int(match["channel"])] = relative
    labels = {path.name[: -len(ending)]: path.relative_to(root) for path in _list_with_ending(root / LABELS, ending)}
    cases = []
    for name, files in sorted(channels_of.items()):
        missing = [channel for channel in range(num_channels) if channel not in files]
        if name not in labels:
            problems.append(NO_LABEL.about(next(iter(files.values())), expected=f"{LABELS}/{name}{ending}"))
        for channel in missing:
            shown = f"{IMAGES}/{name}_{channel:04d}{ending}"
            problems.append(NO_CHANNEL.about(next(iter(files.values())), channel=channel, expected=shown))
        if name in labels:
            first, *others = (path for _, path in sorted(files.items()))
            case = Case(name, first, labels[name], further_channels=tuple(others), missing_channels=tuple(missing))
            cases.append(case)
    for name in sorted(labels.keys() - channels_of.keys()):
        problems.append(NO_IMAGE.about(labels[name], expected=f"{IMAGES}/{name}_0000{ending}"))
    return cases, problems


def _list_with_ending(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.name.lower().endswith(ending.lower()) and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _read_listed(listed: Mapping[str, object], num_channels: int, root: Path) -> tuple[list[Case], list[Problem]]:
    """Cases of the `dataset` dictionary: {"case": {"images": [path, ...], "label": path}}."""
    cases = []
    for name, entry in sorted(listed.items()):
        fields = entry if isinstance(entry, dict) else {}
        images, label = fields.get("images"), fields.get("label")
        if (
            not isinstance(images, list)
            or len(images) != num_channels
            or all(path is None for path in images)
            or not isinstance(label, str)
        ):
            raise DatasetError(
                f'dataset.json, case {name}, is {entry!r}; expected {{"images": [{num_channels} path(s)], "label": path}}. Complete it.'
            )
        where = f"dataset.json, case {name}"
        first, *others = (parse_path(str(path), where, root) for path in images if path is not None)
        missing = tuple(place for place, path in enumerate(images) if path is None)
        stem = name if not image_suffix(Path(name)) else case_name(Path(name))
        cases.append(
            Case(stem, first, parse_path(label, where, root), further_channels=tuple(others), missing_channels=missing)
        )
    return cases, []
