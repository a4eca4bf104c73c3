"""Values of options that the command line reads itself."""

from __future__ import annotations

import pytest
import typer

from unet_pipeline.commands.options import parse_memory


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("free", "free"), ("1", 1.0), ("11.5", 11.5)])
def test_parse_memory_number_or_free(text: str | None, expected: float | str | None) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["0.5", "-4", "0", "8GB", "", "nan", "inf", "Free", "all"])
def test_parse_memory_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a number of GiB, 1 or more, or free"):
        parse_memory(text)
