"""Where a dataset.json and the files beside it disagree: files that it does not list, and a number of cases that is another one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_pipeline.dataset.dataset import Case, list_images
from unet_pipeline.dataset.names import parse_whole_number, show_value
from unet_pipeline.messages import WARNING, Message, Problem

NOT_LISTED = Message(
    "not-listed",
    WARNING,
    "is not listed in {list} and is left out",
    "Add it to the list together with its partner, if it is to be used.",
)
WRONG_COUNT = Message(
    "case-count",
    WARNING,
    "says numTraining {declared}, and there are {found} cases",
    "Correct it, or look for the missing cases.",
)
NO_COUNT = Message(
    "case-count-unusable",
    WARNING,
    "says numTraining {declared}, which is no whole number, and there are {found} cases",
    "Correct it, or look for missing cases.",
)


def find_unlisted(root: Path, cases: Sequence[Case]) -> list[Problem]:
    """Images and label maps in the folders of the listed ones that no case names."""
    listed = {os.path.realpath(root / path) for case in cases for path in case.files}
    folders = sorted({(root / path).parent for case in cases for path in case.files})
    return [
        NOT_LISTED.about(path.relative_to(root), list="dataset.json")
        for folder in folders
        if folder.is_dir()
        for path in list_images(folder)
        if os.path.realpath(path) not in listed
    ]


def find_wrong_count(content: Mapping[str, object], num_cases: int, name: str = "dataset.json") -> list[Problem]:
    """Whether `numTraining` of a dataset.json is another number than that of its cases, or none; nothing where it is missing."""
    if "numTraining" not in content:
        return []
    declared = content["numTraining"]
    try:
        number = parse_whole_number(declared)
    except ValueError:
        return [NO_COUNT.about(name, declared=show_value(declared), found=num_cases)]
    return [] if number == num_cases else [WRONG_COUNT.about(name, declared=show_value(number), found=num_cases)]
