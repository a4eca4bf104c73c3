"""Documents that are written as drafts and that their authors may edit: an edited one is never overwritten."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from unet_pipeline.files import write_text
from unet_pipeline.text_files import read_text

TO_FILL = "**for the authors to fill**"
_MARK = re.compile(r"\n<!-- draft ([0-9a-f]{64}) -->\n\Z")


def write_draft(path: Path, text: str) -> Path:
    """Write a draft with the SHA-256 of its text in the last line, by which a later call notices an edit.

    Args:
        text: Markdown.

    Returns:
        `path`; or, when somebody edited the document since, NAME.draft.md beside it, which the new draft went to.
    """
    if path.is_file() and not is_untouched(read_text(path)):
        path = path.with_suffix(f".draft{path.suffix}")
    text = text.rstrip("\n") + "\n"
    write_text(path, f"{text}\n<!-- draft {_hash(text)} -->\n")
    return path


def is_untouched(content: str) -> bool:
    """Whether a document is as `write_draft` left it."""
    mark = _MARK.search(content)
    return mark is not None and mark[1] == _hash(content[: mark.start()])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
