"""Bundles of earlier versions, in which the package was called `pipeline`: their configs name parts that lie elsewhere now."""

from __future__ import annotations

import re
import shlex
from typing import Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.earlier_plans import RENAMED_FIELDS
from unet_pipeline.text_files import read_text

RENAMED_IDS = {
    "classes_without_holes": "fill_holes_classes",
    "classes_of_one_part": "keep_largest_component_classes",
    **RENAMED_FIELDS,
}
_REFERENCE = re.compile(r"@(\w+)")
# what those versions wrote into the configs of a training; those of an inference never named the package
_EARLIER_TARGET = re.compile(r'"(pipeline\.training\.\w+\.\w+)"')
_PART = re.compile(r"(?:unet_)?pipeline(?:\.\w+)*\.(\w+)")


def require_current_config(folder: BundleFolder) -> None:
    """Refuse a train.json of a version whose parts are no longer there, before MONAI says so in its own words.

    Raises:
        PlanError: it names one.
    """
    if target := _EARLIER_TARGET.search(read_text(folder.config("train"))):
        raise PlanError(
            f"configs/train.json was written by an earlier version of unet-pipeline: it names {target[1]}, and the package is called "
            f"unet_pipeline now. Write the configs again with `unet-pipeline plan --refresh {shlex.quote(str(folder.root))}`."
        )


def rename_ids(content: Any) -> Any:
    """A config with today's names of its ids and of the references to them."""
    if isinstance(content, dict):
        return {RENAMED_IDS.get(key, key): rename_ids(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rename_ids(value) for value in content]
    if isinstance(content, str) and content.startswith(("@", "$")):
        return _REFERENCE.sub(lambda match: f"@{RENAMED_IDS.get(match[1], match[1])}", content)
    return content


def is_same_value(before: Any, now: Any) -> bool:
    """Whether two values of a config are equal, wherever the parts of this package that they name lie in its version."""
    return bool(_name_parts(before) == _name_parts(now))


def _name_parts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name_parts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_name_parts(part) for part in value]
    part_name = _PART.fullmatch(value) if isinstance(value, str) else None
    return part_name[1] if part_name else value
