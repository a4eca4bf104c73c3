"""A plan while it is made."""

from __future__ import annotations

from typing import Any


class Draft:
    """Fields and reasons while they are collected."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def add(self, reason: str, **fields: Any) -> None:
        """Set fields, each with the same reason; those that are there get another value."""
        for name, value in fields.items():
            self.values[name] = value
            self.reasons[name] = reason
