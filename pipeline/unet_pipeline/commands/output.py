"""Lines on stdout."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TextIO

from unet_pipeline.progress import show_progress

PROGRAM = "unet-pipeline"
_COMMAND = re.compile(rf"\s*(Next: |cd |(\S*/)?{PROGRAM} )")
_INDENT = re.compile(r" *(\S+ {2,})?")
_is_quiet = False


def say(text: str = "") -> None:
    """Lines of a result on stdout, at once; on a terminal they are wrapped at words, but for commands, which are to be copied."""
    if (width := measure_width(sys.stdout)) is not None:
        text = "\n".join(_wrap(line, width) for line in text.split("\n"))
    print(text, flush=True)


def measure_width(stream: TextIO) -> int | None:
    """Columns of a terminal; None for a file or a pipe, whose lines stay whole for the programs that read them."""
    return max(1, shutil.get_terminal_size().columns) if stream.isatty() else None


def _wrap(line: str, width: int) -> str:
    """A line that continues below its text: behind its indent and its first word, where a column follows that."""
    if len(line) <= width or _COMMAND.match(line):
        return line
    start = _INDENT.match(line)
    indent = len(start[0]) if start and len(start[0]) <= width // 2 else 0
    wrapped = textwrap.wrap(
        line[indent:], width - indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return line[:indent] + f"\n{' ' * indent}".join(wrapped)


def tell(text: str = "") -> None:
    """One line about what is being done or could be done next, on stdout; not with `--quiet`."""
    if not _is_quiet:
        say(text)


def tell_next(*words: str | Path) -> None:
    """The command that comes next, as it can be typed here."""
    tell(f"Next: {shlex.join([show_program(), *map(str, words)])}")


def show_program() -> str:
    """What has to be typed to run it again: its name, or where it lies, such as .venv/bin of a clone."""
    place = Path(sys.argv[0])
    is_elsewhere = place.stem == PROGRAM and place.name != sys.argv[0] and shutil.which(PROGRAM) is None
    return show_path(place) if is_elsewhere else PROGRAM


def set_quiet(is_quiet: bool) -> None:
    """Leave out progress and whatever is told, or not, in this process from now on."""
    global _is_quiet
    _is_quiet = is_quiet
    show_progress(not is_quiet)


def flush_output() -> None:
    """Write what waits in stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()


def say_plan_notes(bundle: Path) -> None:
    """What is read otherwise than it stands in the plan.yaml of an earlier version."""
    from unet_pipeline.bundle.folder import BundleFolder
    from unet_pipeline.planning.plan import read_notes

    path = BundleFolder(bundle).plan
    for note in read_notes(path) if path.is_file() else ():
        say(
            f"note     configs/plan.yaml: {note}; `unet-pipeline plan --refresh {shlex.quote(str(bundle))}` writes it so."
        )


def show_path(path: Path) -> str:
    """A path as the user would type it: relative where it lies below the current folder."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else path)
