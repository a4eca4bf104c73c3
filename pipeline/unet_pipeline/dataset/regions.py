"""Regions: labels that join several values of the label files and may overlap, such as a whole tumour of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def name_value(value: int, regions: Mapping[str, Sequence[int]]) -> str:
    """Name of a value that only regions name: the regions that have it, and the value."""
    return f"{' and '.join(name for name, values in regions.items() if value in values)} {value}"
