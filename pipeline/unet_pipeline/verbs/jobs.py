"""`jobs`: how far a command is that works on many things."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet_pipeline.cohort.status import Jobs


def jobs(out: Path | str, again: bool = False) -> Jobs:
    """What is done, running, failed and set aside, and the time that is left.

    Args:
        out: output folder of a command that ran with `--jobs` or `--engine`, for `train` the bundle; it may be running.
        again: let the next run try again what was set aside: bad inputs, and items whose workers died.

    Raises:
        CohortError: the folder has no record of jobs.
        InUseError: with `again`, while a command works in the folder.
    """
    from unet_pipeline.bundle.folder import BundleFolder
    from unet_pipeline.cohort.record import RECORD
    from unet_pipeline.cohort.status import forget_failures, read_jobs

    folder, runs = Path(out), BundleFolder(Path(out)).runs
    if not (folder / RECORD).is_file() and (runs / RECORD).is_file():
        folder = runs
    if again:
        forget_failures(folder)
    return read_jobs(folder)
