"""Bundles of earlier versions, in which the package was called `pipeline`: their configs name parts that lie elsewhere now."""

from __future__ import annotations

import re
import shlex
from typing import Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PlanError
from unet_pipeline.text_files import read_text

# what those versions wrote into the configs of a training; those of an inference never named the package
_EARLIER_TARGET = re.compile(r'"(pipeline\.training\.\w+\.\w+)"')
_PART = re.compile(r"(?:unet_)?pipeline(?:\.\w+)*\.(\w+)")


def require_current_config(folder: BundleFolder) -> None:
    """Refuse a train.json of a version whose parts are no longer there, before MONAI says so in its own words.

    Raises:
        PlanError: it names one.
    """
    if found := _EARLIER_TARGET.search(read_text(folder.config("train"))):
        raise PlanError(
            f"configs/train.json was written by an earlier version of unet-pipeline: it names {found[1]}, and the package is called "
            f"unet_pipeline now. Write the configs again with `unet-pipeline plan --refresh {shlex.quote(str(folder.root))}`."
        )


def is_same_value(before: Any, now: Any) -> bool:
    """Whether two values of a config are equal, wherever the parts of this package that they name lie in its version."""
    return bool(_name_parts(before) == _name_parts(now))


def _name_parts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name_parts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_name_parts(part) for part in value]
    found = _PART.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else value
