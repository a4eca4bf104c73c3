"""A draft that its authors edited is never overwritten."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.evidence.report.drafts import is_untouched, write_draft


def test_write_draft_untouched_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    assert write_draft(path, "# One") == path
    assert is_untouched(path.read_text())
    assert write_draft(path, "# Two") == path
    assert path.read_text().startswith("# Two\n")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


def test_write_draft_edited_is_kept_and_the_new_one_lies_beside(tmp_path: Path) -> None:
    path = write_draft(tmp_path / "README.md", "# One\n\nfunding: to fill")
    edited = path.read_text().replace("to fill", "none")
    path.write_text(edited)
    assert write_draft(path, "# Two") == tmp_path / "README.draft.md"
    assert path.read_text() == edited
    assert (tmp_path / "README.draft.md").read_text().startswith("# Two\n")


def test_write_draft_document_of_somebody_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("mine")
    assert write_draft(path, "# Two") != path
    assert path.read_text() == "mine"
