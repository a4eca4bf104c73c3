"""What an audit of a bundle finds, as data: every message has a code, a severity, what was found, why it matters, and what to do.

A module that finds something keeps its messages as constants beside the code that gives them. `docs/build_messages.py`
collects them for the users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DANGER, WARNING, NOTE = "danger", "warning", "note"
SEVERITIES = (DANGER, WARNING, NOTE)
_MAX_SHOWN, _MAX_TEXTS = 160, 200


@dataclass(frozen=True)
class Finding:
    """One thing that somebody who opens the bundle should know.

    Attributes:
        severity: a danger fails the audit; a warning may be meant; a note only informs.
        code: of the message.
        file: relative to the bundle's root; behind "!" a file inside that file.
        place: id in a config, line of a module; empty for the file as a whole.
        what: was found, continuing the sentence that begins with the file.
        why: it matters, as a sentence.
        remedy: what to do, as a sentence.
    """

    severity: str
    code: str
    file: str
    place: str
    what: str
    why: str
    remedy: str

    @property
    def where(self) -> str:
        """File and place."""
        return f"{self.file} ({self.place})" if self.place else self.file

    def __str__(self) -> str:
        return f"{self.severity}: {self.where} {self.what}. {self.why} {self.remedy}"


@dataclass(frozen=True)
class Notice:
    """A kind of finding; `{names}` in what, why and remedy are filled in.

    Attributes:
        code: short and stable, in lower case with hyphens; `audit --json` shows it.
        severity: see `Finding`.
        what: see `Finding`.
        why: see `Finding`.
        remedy: see `Finding`.
    """

    code: str
    severity: str
    what: str
    why: str
    remedy: str

    def about(self, file: str, place: str = "", **values: Any) -> Finding:
        """The finding in one place; everything that comes from the bundle is made printable and short."""
        shown = {name: _show_all(value) if isinstance(value, list) else show(value) for name, value in values.items()}
        what, why, remedy = (text.format(**shown) for text in (self.what, self.why, self.remedy))
        return Finding(self.severity, self.code, show(file), show(place), what, why, remedy)


def _show_all(values: list[str]) -> str:
    more = [f"{len(values) - _MAX_TEXTS} more"] if len(values) > _MAX_TEXTS else []
    return "; ".join([*map(show, values[:_MAX_TEXTS]), *more])


def show(value: object) -> str:
    """Text from a bundle without control characters, which could forge lines on a terminal, and not too long."""
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in str(value))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
