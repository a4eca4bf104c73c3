"""Experiments and decisions: a page each, all of them listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .documented_commands import ROOT
from .scripts import load_script


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_experiments_table_is_what_the_script_makes() -> None:
    page = read("docs/experiments.md")
    made = load_script("docs/build_experiments.py").build_experiments_text(page)
    assert page == made, "run `.venv/bin/python docs/build_experiments.py`"


def test_schemas_are_what_the_script_makes_and_all_are_listed() -> None:
    script = load_script("docs/build_schemas.py")
    for name in script.RECORDS:
        assert read(f"docs/{name}") == script.build_schema_text(name), "run `.venv/bin/python docs/build_schemas.py`"
    files = {path.name for path in (ROOT / "docs").glob("*.schema.json")}
    assert files == {*script.RECORDS, "check.schema.json"}  # that one is build_messages.py's
    listed = re.findall(r"^\| \[(\S+)\]\(\.\./\1\)", read("docs/reference/schemas.md"), re.MULTILINE)
    assert sorted(listed) == sorted(files)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "experiments").glob("*.md")), ids=lambda page: page.stem)
def test_experiment_begins_with_title_date_and_verdict(page: Path) -> None:
    title, _, dated = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert re.fullmatch(rf"{page.name[:10]}: \S.*", dated)


def test_every_decision_is_listed_once_and_is_a_page_at_most() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert sorted(re.findall(r"\(decisions/(.+?)\)", read("docs/design.md"))) == [page.name for page in pages]
    assert [page.name for page in pages if len(page.read_text(encoding="utf-8").split()) > 600] == []
