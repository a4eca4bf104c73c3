"""What all templates share."""

from __future__ import annotations

import jinja2
import pytest

from unet_pipeline.evidence.report.environment import create_environment, mark_code, read_part


def test_mark_code_escapes_and_marks() -> None:
    assert mark_code("run `a < b` now") == "run <code>a &lt; b</code> now"
    assert mark_code("one ` only") == "one ` only"


def test_create_environment_refuses_unknown_names() -> None:
    with pytest.raises(jinja2.UndefinedError):
        create_environment().from_string("{{ nothing }}").render()


def test_read_part_stays_as_it_is() -> None:
    assert "content-visibility" in read_part("check.css")
