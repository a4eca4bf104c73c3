"""Writes the table of docs/experiments.md from the pages in docs/experiments/: `.venv/bin/python docs/build_experiments.py`.

A page is named DATE-title.md; below its title stands `DATE: VERDICT`, then hypothesis, command and numbers. A test compares the table
with what is made here.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "experiments"
TARGET = FOLDER.with_suffix(".md")
_BEGIN, _END = "<!-- experiments: begin -->\n", "<!-- experiments: end -->"


def build_experiments_text(text: str) -> str:
    """The page with its table made again, the latest experiment first."""
    pages = sorted(FOLDER.glob("*.md"), key=lambda page: (page.name[:10], page.name), reverse=True)
    rows = "".join(_describe(page) for page in pages)
    head, rest = text.split(_BEGIN)[0], text.split(_END)[1]
    return f"{head}{_BEGIN}| date | experiment | verdict |\n|---|---|---|\n{rows}{_END}{rest}"


def _describe(page: Path) -> str:
    title, _, dated = page.read_text(encoding="utf-8").splitlines()[:3]
    date, _, verdict = dated.partition(": ")
    return f"| {date} | [{title.removeprefix('# ')}](experiments/{page.name}) | {verdict} |\n"


if __name__ == "__main__":
    TARGET.write_text(build_experiments_text(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
