"""Where a dataset.json and the files beside it disagree: files that it does not list, and a number of cases that is another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_pipeline.dataset.dataset import Case, list_images
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


def find_unlisted(root: Path, cases: Sequence[Case]) -> list[Problem]:
    """Images and label maps in the folders of the listed ones that no case names."""
    listed = {(root / path).resolve() for case in cases for path in case.files}
    folders = sorted({(root / path).parent for case in cases for path in case.files})
    return [
        NOT_LISTED.about(path.relative_to(root), list="dataset.json")
        for folder in folders
        if folder.is_dir()
        for path in list_images(folder)
        if path.resolve() not in listed
    ]


def find_wrong_count(content: Mapping[str, Any], num_cases: int, name: str = "dataset.json") -> list[Problem]:
    """Whether `numTraining` of a dataset.json is another number than that of its cases, or none; nothing where it has none."""
    declared = content.get("numTraining")
    if declared is None:
        return []
    try:
        is_right = int(declared) == num_cases
    except (TypeError, ValueError, OverflowError):
        is_right = False
    return (
        []
        if is_right
        else [
            WRONG_COUNT.about(
                name, declared=declared if isinstance(declared, str) else json.dumps(declared), found=num_cases
            )
        ]
    )
