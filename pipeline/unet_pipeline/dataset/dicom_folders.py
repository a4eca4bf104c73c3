"""Where the DICOM series lie below a folder, at any depth, and what they are called: after their path, never after their patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from unet_pipeline.dataset.dicom_file import dicom_case_name, is_dicom_file, is_directory_file
from unet_pipeline.dataset.dicom_stream import read_elements

_COLOUR_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.4"  # multi-frame, such as the overlays of this package
NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "DOC")
VOLUME_MODALITIES = ("CT", "MR", "PT", "NM")
PASSED_OVER = (".", "__")  # hidden folders, and __MACOSX


def find_series(folder: Path) -> list[Path]:
    """Folders that hold the files of a series, and single files that are pictures of their own, in the order of their paths.

    Args:
        folder: looked at itself, and in its sub-folders at any depth; links that lead back are not followed again.
    """
    return list(_walk(folder, set()))


def name_series(root: Path, path: Path) -> str:
    """Name of a series by its path below `root`, its folders joined by "_"; the folder's own for `root` itself."""
    if path == root:
        return root.resolve().name
    *folders, last = path.relative_to(root).parts
    return "_".join([*folders, dicom_case_name(Path(last)) if path.is_file() else last])


def name_by_first_folder(root: Path, series: Sequence[Path]) -> dict[Path, str]:
    """Name of each series below `root`: of its first folder, such as the patient's, where nothing else lies in it; otherwise by path."""
    first = {path: root / path.relative_to(root).parts[0] for path in series}
    tops = list(first.values())
    return {path: name_series(root, top if tops.count(top) == 1 else path) for path, top in first.items()}


def list_dicom_files(folder: Path) -> list[Path]:
    """DICOM files directly in a folder, sorted by name; the directory file of a medium and hidden files are none."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and not is_directory_file(path) and is_dicom_file(path)
    ]


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    files = list_dicom_files(folder)
    if len(files) > 1 and _are_pictures_of_their_own(files):
        yield from files
    elif files:
        yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(PASSED_OVER):
            yield from _walk(path, seen)


def _are_pictures_of_their_own(files: Sequence[Path]) -> bool:
    """Whether every file is an X-ray or the like: one frame without a position, of which no volume can be made."""
    tags = ["ImagePositionPatient", "NumberOfFrames", "Modality", "Rows"]
    for file in files:
        try:
            header = read_elements(file, force=True, stop_before_pixels=True, specific_tags=tags)
            frames = int(header.get("NumberOfFrames", 1) or 1)
        except Exception:  # a damaged file is for the reader to complain about
            return False
        is_picture = "ImagePositionPatient" not in header and frames == 1 and "Rows" in header
        if not is_picture or str(header.get("Modality", "")) in VOLUME_MODALITIES:
            return False
    return True


def holds_images(series: Path) -> bool:
    """Whether any file of a series, or the one file, is an image; segmentations, structure sets, reports and overlays are none."""
    for file in list_dicom_files(series) if series.is_dir() else [series]:
        try:
            header = read_elements(file, force=True, stop_before_pixels=True, specific_tags=["Modality", "SOPClassUID"])
        except Exception:  # a damaged file is for the reader to complain about
            return True
        if str(header.get("Modality", "")) not in NO_IMAGES and header.get("SOPClassUID") != _COLOUR_CAPTURE:
            return True
    return False
