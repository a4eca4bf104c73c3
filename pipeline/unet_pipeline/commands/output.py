"""Lines on stdout."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def say(text: str = "") -> None:
    """One line on stdout, at once."""
    print(text, flush=True)


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
