"""A plan while it is made."""

from __future__ import annotations

from typing import Any

from unet_pipeline.messages import name_elements


class Draft:
    """Fields and reasons while they are collected.

    Args:
        is_flat: the images are pictures, so reasons speak of pixels and areas.
    """

    def __init__(self, is_flat: bool = False) -> None:
        self.is_flat = is_flat
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def add(self, reason: str, **fields: Any) -> None:
        """Set fields, each with the same reason; those that are there get another value."""
        for name, value in fields.items():
            self.values[name] = value
            self.reasons[name] = name_elements(reason, self.is_flat)
