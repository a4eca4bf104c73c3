"""Drafts of CLAIM 2024 and TRIPOD+AI for a bundle: each item filled from the record, or marked for the authors."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml

from unet_pipeline.evidence.report.answers import render_document, tell
from unet_pipeline.evidence.report.drafts import TO_FILL, write_draft
from unet_pipeline.evidence.report.history import History

CHECKLISTS = ("CLAIM_2024", "TRIPOD_AI")


@dataclass(frozen=True)
class Item:
    """One line of a checklist.

    Attributes:
        number: of the publication.
        section: of the publication's list.
        asks: what is asked for, in our words.
        sources: answers that fill it.
        partly: the record can give a part only; the authors add the rest.
    """

    number: str
    section: str
    asks: str
    sources: tuple[str, ...]
    partly: bool


@dataclass(frozen=True)
class Checklist:
    """A checklist and where it was published."""

    name: str
    title: str
    source: str
    items: tuple[Item, ...]


def read_checklist(name: str) -> Checklist:
    """One of `CHECKLISTS`."""
    path = resources.files("unet_pipeline.evidence.report") / "templates" / "checklists.yaml"
    checklist = yaml.safe_load(path.read_text(encoding="utf-8"))[name]
    items = tuple(
        Item(item["number"], section, item["asks"], tuple(item.get("from", ())), bool(item.get("also", False)))
        for section, entries in checklist["sections"].items()
        for item in entries
    )
    return Checklist(name, checklist["title"], checklist["source"], items)


def fill_item(item: Item, history: History) -> str:
    """The text of an item: what the record says, the mark for the authors, or both."""
    told = [answer for source in item.sources if (answer := tell(source, history))]
    if not told:
        return TO_FILL
    return " ".join(told) + (f" Rest {TO_FILL}." if item.partly else "")


def build_checklist(checklist: Checklist, history: History) -> str:
    """The draft as Markdown, one table per section."""
    texts = [fill_item(item, history) for item in checklist.items]
    num_open = texts.count(TO_FILL)
    num_partly = sum(TO_FILL in text for text in texts) - num_open
    counts = {"num_open": num_open, "num_partly": num_partly}
    return render_document("checklist.md", history, checklist=checklist, texts=texts, **counts)


def write_checklists(history: History) -> tuple[Path, ...]:
    """Write docs/CLAIM_2024.md and docs/TRIPOD_AI.md; one that was edited is kept, and the new draft lies beside it."""
    return tuple(
        write_draft(history.folder.docs / f"{name}.md", build_checklist(read_checklist(name), history))
        for name in CHECKLISTS
    )
