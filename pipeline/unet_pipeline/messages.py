"""What `check`, `predict`, `reproduce` and `audit` say about a file, as data: every message has a code, a severity, a cause and a remedy.

A module that finds something keeps its messages as constants beside the code that gives them. `docs/build_messages.py`
collects them for the users.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from unet_pipeline.errors import ImageFileError

DANGER, ERROR, WARNING, NOTE = "danger", "error", "warning", "note"
SEVERITIES = (DANGER, ERROR, WARNING, NOTE)
_MAX_SHOWN, _MAX_TEXTS = 160, 200
_INDENT = "  "
_FLAT_WORDS = {"voxel": "pixel", "Voxel": "Pixel", "volume": "area", "Volume": "Area"}


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        severity: see `Message`.
        file: relative to the dataset or bundle; behind "!" a file inside that file.
        cause: continues the sentence that begins with the file.
        remedy: what to do, as a sentence.
        code: of its message.
        place: id in a config, line of a module; empty for the file as a whole.
        why: it matters, as a sentence; empty where the cause says it.
    """

    severity: str
    file: str
    cause: str
    remedy: str
    code: str = ""
    place: str = ""
    why: str = ""

    @property
    def where(self) -> str:
        """File and place."""
        return f"{self.file} ({self.place})" if self.place else self.file

    def as_error(self) -> ImageFileError:
        """The same as an exception, for a file that cannot be used."""
        return ImageFileError(self.file, self.cause, self.remedy, self.code)

    def __str__(self) -> str:
        return f"{self.severity}: {self.where} {self.cause}. {f'{self.why} ' if self.why else ''}{self.remedy}"


@dataclass(frozen=True)
class Message:
    """A kind of problem; `{names}` in cause, why and remedy are filled in.

    Attributes:
        code: short and stable, in lower case with hyphens; `--json` shows it.
        severity: a danger fails an audit; an error stops the verb, of `check` the `plan` after it; a warning may be meant; a note says what
            was done.
        cause: see `Problem`.
        remedy: see `Problem`.
        why: see `Problem`.
        is_of_bundle: whatever is filled in comes from a bundle that nobody vouches for: it is made printable and short.
    """

    code: str
    severity: str
    cause: str
    remedy: str
    why: str = ""
    is_of_bundle: bool = False

    @classmethod
    def of_bundle(cls, code: str, severity: str, cause: str, why: str, remedy: str) -> Message:
        """A message about a file of a bundle that nobody vouches for."""
        return cls(code, severity, cause, remedy, why, is_of_bundle=True)

    def about(self, file: object, place: object = "", **values: Any) -> Problem:
        """The problem of one file, or of one place in it."""
        prepare = show if self.is_of_bundle else str
        if self.is_of_bundle:
            values = {
                name: _show_all(value) if isinstance(value, list) else show(value) for name, value in values.items()
            }
        cause, why, remedy = (text.format(**values) for text in (self.cause, self.why, self.remedy))
        return Problem(self.severity, prepare(file), cause, remedy, self.code, prepare(place), why)

    def error(self, file: object, **values: Any) -> ImageFileError:
        """The same as an exception, for a file that cannot be used at all."""
        return self.about(file, **values).as_error()


def _show_all(values: list[str]) -> str:
    more = [f"{len(values) - _MAX_TEXTS} more"] if len(values) > _MAX_TEXTS else []
    return "; ".join([*map(show, values[:_MAX_TEXTS]), *more])


def show(value: object) -> str:
    """Text from a bundle without control characters, which could forge lines on a terminal, and not too long."""
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in str(value))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def show_first(names: Sequence[object], most: int) -> str:
    """The first of many names and how many more there are, such as "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def show_cases(count: int) -> str:
    """A number of cases, such as "1 case" and "3 cases"."""
    return "1 case" if count == 1 else f"{count} cases"


def show_all_cases(count: int) -> str:
    """The cases of a data set that all count, such as "the one case" and "all 3 cases"."""
    return "the one case" if count == 1 else f"all {count} cases"


def show_clauses(clauses: Sequence[str], most: int) -> str:
    """The first of many clauses and how many more there are, such as "a is new; b is gone; and 3 more"."""
    more = [f"and {len(clauses) - most} more"] if len(clauses) > most else []
    return "; ".join([*clauses[:most], *more])


def show_shape(shape: Iterable[int]) -> str:
    """Voxels along each axis, such as "35x51x35"."""
    return "x".join(map(str, shape))


def list_problems(problems: Sequence[Problem], most: int = 5) -> Iterator[str]:
    """Lines of problems, one kind below the other; of many of one kind the first `most` and their number."""
    for _, group in groupby(problems, key=lambda problem: problem.severity):
        by_code: dict[str, list[Problem]] = {}
        for problem in group:
            by_code.setdefault(problem.code, []).append(problem)
        for alike in by_code.values():
            yield from _list_alike(alike, most)


def _list_alike(alike: list[Problem], most: int) -> Iterator[str]:
    """One problem as a sentence; several under one heading, with what they share in it."""
    first, more = alike[0], len(alike) - most
    if len(alike) == 1:
        yield str(first)
        return
    advice = {(problem.why, problem.remedy) for problem in alike}
    heading = f"{first.severity}: {len(alike)} files with the problem {first.code!r}."
    yield " ".join([heading, *(text for text in advice.pop() if text)]) if len(advice) == 1 else heading
    for problem in alike[:most]:
        sentence = str(problem).removeprefix(f"{problem.severity}: ")
        yield f"{_INDENT}{sentence if advice else f'{problem.where} {problem.cause}'}"
    if more > 0:
        yield f"{_INDENT}and {more} more"


def list_failures(messages: Sequence[str], most: int = 5) -> Iterator[str]:
    """Lines of what failed: images with one remedy below it, which is said once; of many the first `most` and their number.

    Args:
        messages: "FILE CAUSE. REMEDY" of each.
        most: images of one remedy that are named.
    """
    by_remedy: dict[str, list[str]] = {}
    for message in messages:
        cause, _, remedy = message.partition(". ")
        by_remedy.setdefault(remedy, []).append(cause)
    for remedy, causes in by_remedy.items():
        if len(causes) == 1 or not remedy:
            shown = [f"{cause}. {remedy}" if remedy else cause for cause in causes[:most]]
        else:
            yield f"{len(causes)} images: {remedy}"
            shown = [f"{_INDENT}{cause}" for cause in causes[:most]]
        yield from shown
        if len(causes) > most:
            yield f"{_INDENT}and {len(causes) - most} more"


def name_elements(text: str, is_flat: bool = True) -> str:
    """A text of this package about voxels and volumes; of pictures about pixels and areas."""
    for solid, flat in _FLAT_WORDS.items() if is_flat else ():
        text = re.sub(rf"\b{solid}(?=s?\b)", flat, text)
    return text
