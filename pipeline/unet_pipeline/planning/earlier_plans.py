"""What a plan.yaml of an earlier version says otherwise now: it is read so, and `plan --refresh` writes it so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REGION_LOSS = "Dice on the regions that the dataset declares, cross-entropy on the plain classes"


def find_changes(content: Mapping[str, object]) -> dict[str, tuple[Any, str]]:
    """Fields of a plan.yaml that are read with another value, with the reason."""
    if content.get("regions") and content.get("loss") == "dice_ce":
        return {"loss": ("region_dice_ce", f"{REGION_LOSS}; the name was dice_ce before")}
    return {}
