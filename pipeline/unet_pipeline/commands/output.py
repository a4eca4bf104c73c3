"""Lines on stdout."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from unet_pipeline.progress import hide_progress

PROGRAM = "unet-pipeline"
_is_quiet = False


def say(text: str = "") -> None:
    """One line of a result on stdout, at once."""
    print(text, flush=True)


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
    hide_progress(is_quiet)


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
