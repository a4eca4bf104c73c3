"""What a plan.yaml of an earlier version says otherwise now: it is read so, and `plan --refresh` writes it so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unet_pipeline.errors import PlanError

REGION_LOSS = "Dice on the regions that the dataset declares, cross-entropy on the plain classes"
RENAMED_FIELDS = {
    "without_holes": "fill_holes",
    "one_part": "keep_largest_component",
    "smallest_part": "remove_small_objects",
}
_EARLIER_KEY = re.compile(rf"""^(["']?)({"|".join(RENAMED_FIELDS)})\1(?=\s*:)""", re.MULTILINE)


def rename_fields(content: Mapping[str, object], shown: str) -> dict[str, object]:
    """The fields of a plan under today's names.

    Raises:
        PlanError: a field stands under both of its names in the file `shown`.
    """
    for earlier, name in RENAMED_FIELDS.items():
        if earlier in content and name in content:
            raise PlanError(f"{shown} has {earlier} and {name}, its name of today. Remove {earlier}.")
    return {RENAMED_FIELDS.get(name, name): value for name, value in content.items()}


def rename_keys(text: str) -> str:
    """The text of a plan.yaml with today's names; all else stays."""
    return _EARLIER_KEY.sub(lambda match: RENAMED_FIELDS[match[2]], text)


def find_changes(content: Mapping[str, object]) -> dict[str, tuple[Any, str]]:
    """Fields of a plan.yaml that are read with another value, with the reason."""
    if content.get("regions") and content.get("loss") == "dice_ce":
        return {"loss": ("region_dice_ce", f"{REGION_LOSS}; the name was dice_ce before")}
    return {}


def list_notes(content: Mapping[str, object]) -> tuple[str, ...]:
    """What is read otherwise than it stands there, as clauses."""
    renamed = [f"{name} is called {RENAMED_FIELDS[name]} now" for name in content if name in RENAMED_FIELDS]
    changed = [f"{name} is {value} now ({reason})" for name, (value, reason) in find_changes(content).items()]
    return (*renamed, *changed)
