"""What `check`, `predict` and `reproduce` say about a file, as data: every message has a code, a severity, a cause and a remedy.

A module that finds something keeps its messages as constants beside the code that gives them. `docs/build_messages.py`
collects them for the users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unet_pipeline.errors import ImageFileError

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Problem:
    """One finding: how bad, which file (relative to the dataset or bundle), the cause, what to do, and the code of its message."""

    severity: str
    file: str
    cause: str
    remedy: str
    code: str = ""

    def as_error(self) -> ImageFileError:
        """The same as an exception, for a file that cannot be used."""
        return ImageFileError(self.file, self.cause, self.remedy, self.code)

    def __str__(self) -> str:
        return f"{self.severity}: {self.file} {self.cause}. {self.remedy}"


@dataclass(frozen=True)
class Message:
    """A kind of problem.

    Attributes:
        code: short and stable, in lower case with hyphens; `--json` shows it.
        severity: an error stops the verb, of `check` the `plan` after it; a warning may be meant; a note says what was done.
        cause: continues the sentence that begins with the file; `{names}` are filled in.
        remedy: what to do, as a sentence; `{names}` are filled in.
    """

    code: str
    severity: str
    cause: str
    remedy: str

    def about(self, file: object, **values: Any) -> Problem:
        """The problem of one file."""
        return Problem(self.severity, str(file), self.cause.format(**values), self.remedy.format(**values), self.code)

    def error(self, file: object, **values: Any) -> ImageFileError:
        """The same as an exception, for a file that cannot be used at all."""
        return ImageFileError(str(file), self.cause.format(**values), self.remedy.format(**values), self.code)
