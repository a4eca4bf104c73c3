"""What a result shows: one line, facts, tables and pictures; how it is shown is `page`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first `num_texts` columns are words, the others numbers. `num_left_out` rows are only counted."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1
    num_left_out: int = 0


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn when it is asked for; `alt` says in words what it shows. A page shows `svg` where there is one."""

    alt: str
    draw: Callable[[], Figure]
    svg: str = ""


@dataclass(frozen=True)
class Summary:
    """Parts of a page, in their order.

    Attributes:
        line: in one line, without the name of the class.
        facts: name and value.
        notes: sentences.
    """

    line: str
    facts: Mapping[str, object] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()


def list_problems(title: str, problems: Sequence[object], most: int = 20) -> tuple[Table, ...]:
    """Problems as a table, a row each; no table without one."""
    if not problems:
        return ()
    rows = [(str(getattr(one, "severity", "")), str(getattr(one, "file", "")), _say(one)) for one in problems[:most]]
    return (Table(title, ("kind", "file", "what, and what to do"), rows, 3, max(0, len(problems) - most)),)


def _say(problem: object) -> str:
    return f"{getattr(problem, 'cause', '')}. {getattr(problem, 'remedy', '')}".strip(". ") + "."


def join_size(sizes: Sequence[float]) -> str:
    """Such as "240 × 240 × 155"."""
    return " × ".join(f"{size:g}" for size in sizes)


def count(number: int, singular: str) -> str:
    """A number and its noun, in the plural where that is right."""
    return f"{number:,} {singular}" if number == 1 else f"{number:,} {singular}s"
