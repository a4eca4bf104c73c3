"""What lies in an input folder and is not predicted: said before the first image, so that nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from unet_pipeline.dataset.case_files import list_subfolders
from unet_pipeline.dataset.dataset import list_images
from unet_pipeline.dataset.dicom_file import is_dicom_file, is_directory_file
from unet_pipeline.messages import show_first
from unet_pipeline.prediction.inputs import PredictionInput

_BESIDE = (
    ".bval", ".bvec", ".csv", ".db", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rtf", ".sha256", ".tsv", ".txt",
    ".xls", ".xlsx", ".xml", ".yaml", ".yml",
)  # fmt: skip
_MOST_SHOWN = 5


def say_passed_over(source: Path, inputs: Sequence[PredictionInput], announce: Callable[[str], None]) -> None:
    """Call `announce` with each line of `list_passed_over`."""
    for line in list_passed_over(source, inputs):
        announce(line)


def list_passed_over(source: Path, inputs: Sequence[PredictionInput]) -> list[str]:
    """A line for each kind of what is left out of an input folder; none for a file.

    Args:
        source: the input: a folder, an image, or the DICOMDIR of a medium.
        inputs: what is predicted of it.
    """
    folder = source if source.is_dir() else source.parent
    lines = _list_missing(folder) if source.is_dir() or is_directory_file(source) else []
    if not source.is_dir():
        return lines
    files_used = {file.resolve() for item in inputs for file in (*item.files, *item.list_files())}
    if folder.resolve() not in files_used:  # what lies in the folder of a series its reader names
        files = [path.name for path in sorted(folder.iterdir()) if _is_left_out(path, files_used)]
        if files:
            lines.append(f"left out {len(files)} file(s) in no known format: {show_first(files, _MOST_SHOWN)}")
    if folders := [
        path.name for path in list_subfolders(folder) if not _is_used(path, files_used) and list_images(path)
    ]:
        lines.append(
            f"left out {len(folders)} folder(s) with images, which are to be given one by one: {show_first(folders, _MOST_SHOWN)}"
        )
    return lines


def _is_left_out(path: Path, files_used: set[Path]) -> bool:
    is_plain = path.is_file() and not path.name.startswith(".") and not is_directory_file(path)
    return is_plain and path.suffix.lower() not in _BESIDE and path.resolve() not in files_used


def _is_used(folder: Path, files_used: set[Path]) -> bool:
    return any(path.is_relative_to(folder.resolve()) for path in files_used)


def _list_missing(folder: Path) -> list[str]:
    """A line about the files that the DICOMDIR of a folder names and that are not there."""
    directory = next((path for path in folder.iterdir() if is_directory_file(path) and path.is_file()), None)
    if directory is None or not is_dicom_file(directory):
        return []
    from unet_pipeline.dataset.dicom_stream import read_elements

    missing = []
    try:
        for record in read_elements(directory, force=True).get("DirectoryRecordSequence") or ():
            parts = record.get("ReferencedFileID")
            parts = [parts] if isinstance(parts, str) else list(parts or ())
            if parts and not folder.joinpath(*parts).is_file() and folder.joinpath(*parts[:-1]).is_dir():
                missing.append("/".join(parts))
    except Exception:  # a damaged directory is no part of any image
        return [f"left out {directory.name}, which is damaged; see that every slice is there"]
    if not missing:
        return []
    return [
        f"warning: {directory.name} names {len(missing)} file(s) that are not there: {show_first(missing, _MOST_SHOWN)}. "
        "Copy the medium again."
    ]
