"""Problems as lines of a terminal: grouped by kind, coloured where the terminal has colours, wrapped at words."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from unet_pipeline.commands.output import measure_width
from unet_pipeline.messages import list_problems

if TYPE_CHECKING:
    from unet_pipeline.messages import Problem

_INDENT = "  "
_LEAST_WIDTH = 20  # columns; below it a line for every word would be no easier to read
_ANSI = {"danger": "1;31", "error": "1;31", "warning": "1;33", "note": "1;36"}
_PLURALS = {"danger": "dangers", "error": "errors", "warning": "warnings", "note": "notes"}


def print_problems(problems: Sequence[Problem], indent: str = _INDENT) -> None:
    """Problems in words on stdout, worst first as they come, and where there are several how many of each severity."""
    if len(problems) > 1:
        say_wrapped(count_severities(problems), indent)
    for line in list_problems(problems):
        say_wrapped(line, indent)


def count_severities(problems: Sequence[Problem]) -> str:
    """How many problems of each severity there are, such as "1 error, 2 notes"."""
    counts = {severity: len(list(group)) for severity, group in groupby(problems, key=lambda one: one.severity)}
    return ", ".join(f"{count} {kind if count == 1 else _PLURALS[kind]}" for kind, count in counts.items())


def say_wrapped(line: str, indent: str = "") -> None:
    """One line on stdout, wrapped at words to the terminal; what follows its first line is indented further."""
    print(format_line(indent + line, sys.stdout), flush=True)  # `say` would count the colours' codes and wrap it again


def format_error(message: object) -> str:
    """The message of an error for stderr, each of its lines wrapped and coloured."""
    return "\n".join(format_line(line, sys.stderr) for line in f"Error: {message}".splitlines())


def format_line(line: str, stream: TextIO) -> str:
    """A line for a stream: wrapped at words where it has a width, its first word coloured where that is a severity and it has colours."""
    width = measure_width(stream)
    if width is not None and len(line) > width:
        indent = line[: len(line) - len(line.lstrip())]
        line = textwrap.fill(
            line.strip(),
            max(width, _LEAST_WIDTH),
            initial_indent=indent,
            subsequent_indent=f"{indent}{_INDENT}",
            break_long_words=False,  # a path or a command in two parts could not be copied
            break_on_hyphens=False,
        )
    word, colon, rest = line.partition(":")
    style = _ANSI.get(word.strip().lower())
    if not colon or style is None or not has_colours(stream):
        return line
    return f"\x1b[{style}m{word}{colon}\x1b[0m{rest}"


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours to a user who wants them (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return os.name == "nt" and not os.environ.get("NO_COLOR") and "WT_SESSION" in os.environ and stream.isatty()
    return stream.isatty()
