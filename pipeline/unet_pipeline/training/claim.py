"""Two trainings never write the same run folder or the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_pipeline.bundle.folder import RUN_LOCK
from unet_pipeline.locks import hold_lock, take_lock
from unet_pipeline.training.processes import is_secondary


def _list_locks(output_dir: Path, weights_path: Path) -> tuple[tuple[Path, str], ...]:
    return (
        (weights_path.with_name(f".{weights_path.name}.lock"), f"{weights_path.parent.name}/{weights_path.name}"),
        (output_dir / RUN_LOCK, f"The run folder {output_dir.name}"),
    )


def claim_outputs(output_dir: str, weights_path: str) -> None:
    """Keep other processes from both until this one ends; called by train.json before anything is built.

    Raises:
        InUseError: another process trains into one of them.
    """
    if not is_secondary():
        for path, subject in _list_locks(Path(output_dir), Path(weights_path)):
            take_lock(path, subject)


@contextmanager
def hold_outputs(output_dir: Path, weights_path: Path) -> Iterator[None]:
    """The same while the block runs, before the run folder's record is touched.

    Raises:
        InUseError: another process trains into one of them.
    """
    (weights, named_weights), (run, named_run) = _list_locks(output_dir, weights_path)
    with hold_lock(weights, named_weights), hold_lock(run, named_run):
        yield
