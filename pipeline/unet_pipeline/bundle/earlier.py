"""Bundles of earlier versions: their configs name parts that lie elsewhere now, and find their own modules in another way."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from typing import Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.earlier_plans import RENAMED_FIELDS
from unet_pipeline.text_files import read_text

_FINDING = ("_requires_", "%modules")  # as in wiring/own_modules.yaml
RENAMED_IDS = {
    "classes_without_holes": "fill_holes_classes",
    "classes_of_one_part": "keep_largest_component_classes",
    **RENAMED_FIELDS,
}
_REFERENCE = re.compile(r"@(\w+)")
# what earlier versions wrote into the configs of a training, and this one does
_TARGET = re.compile(r'"(pipeline\.training\.\w+\.\w+|unet_pipeline(?:\.\w+)+\.\w+)"')
_PART = re.compile(r"(?:unet_)?pipeline(?:\.\w+)*\.(\w+)")


def require_current_config(folder: BundleFolder) -> None:
    """Refuse a train.json of a version whose parts are no longer there, before MONAI says so in its own words.

    Raises:
        PlanError: it names one.
    """
    targets = dict.fromkeys(_TARGET.findall(read_text(folder.config("train"))))
    if gone := next((target for target in targets if not _is_there(target.rpartition(".")[0])), None):
        raise PlanError(
            f"configs/train.json names {gone}, which this version of unet-pipeline does not have. If an earlier version wrote it, write the "
            f"configs again with `unet-pipeline plan --refresh {shlex.quote(str(folder.root))}`."
        )


def _is_there(module: str) -> bool:
    """Whether a module of this package exists; an own `pipeline.py` of the user's is none."""
    try:
        return module.startswith("unet_pipeline.") and find_spec(module) is not None
    except ModuleNotFoundError:  # nor does what it lies in
        return False


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
    """Whether two values of a config are equal, wherever the parts of this package that they name lie in its version.

    Imports for expressions compute nothing, nor does what the wiring lets a component require to find its module.
    """
    return bool(_name_parts(before) == _name_parts(now))


def _name_parts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name_parts(part) for key, part in value.items() if (key, part) != _FINDING}
    if isinstance(value, list):
        return [_name_parts(part) for part in value if not str(part).startswith("$import ")]
    part_name = _PART.fullmatch(value) if isinstance(value, str) else None
    return part_name[1] if part_name else value
