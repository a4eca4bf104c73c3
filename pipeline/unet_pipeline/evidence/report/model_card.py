"""docs/README.md of a bundle, its model card: what it is for, what it was trained on, how well it does, how to run it."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.evidence.report.answers import render_document
from unet_pipeline.evidence.report.drafts import write_draft
from unet_pipeline.evidence.report.history import History

CASE_SHEET = "cases.svg"


def write_model_card(history: History) -> Path:
    """Write docs/README.md; one that its authors edited is kept, and the new draft lies beside it."""
    return write_draft(history.folder.docs / "README.md", build_model_card(history))


def build_model_card(history: History) -> str:
    """The model card as Markdown: everything from the record, and a mark where only the authors can know."""
    return render_document(
        "model_card.md", history, case_sheet=CASE_SHEET if (history.folder.docs / CASE_SHEET).is_file() else None
    )
