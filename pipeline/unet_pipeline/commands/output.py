"""Lines on stdout."""

from __future__ import annotations

import sys
from pathlib import Path


def say(text: str = "") -> None:
    """One line on stdout, at once."""
    print(text, flush=True)


def flush_output() -> None:
    """Write what waits in stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()


def show_path(path: Path) -> str:
    """A path as the user would type it: relative where it lies below the current folder."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else path)
