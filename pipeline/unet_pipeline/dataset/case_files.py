"""The files of one case in a folder of its own: which is which channel, which the label map, and which the mask of a structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unet_pipeline.dataset.dataset import case_name, list_images
from unet_pipeline.dataset.dicom import is_dicom_file
from unet_pipeline.dataset.file_names import (
    IMAGE_WORDS,
    is_label_word,
    remove_common_start,
    split_case,
    strip_label_words,
)


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Attributes:
        folder: of the case.
        images: by channel; "" for one without a name of its own.
        labels: by structure; "" for a label map of all.
    """

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)


def read_channels(folder: Path) -> dict[str, Path]:
    """The images of a folder that holds those of one case, by channel."""
    return _by_part(_part_names(list_images(folder), folder.name), _channel)


def read_structures(folder: Path, cases: Collection[str] = ()) -> dict[str, Path]:
    """The label files of a folder that holds those of one case, by structure; "" for a label map.

    Args:
        cases: names that stand for the case in the names of files; that of the folder is one.
    """
    known = {name.casefold() for name in (folder.name, *cases)}
    return _by_part({path: _without_case(case_name(path), known) for path in list_images(folder)}, _structure)


def read_case_files(folder: Path) -> CaseFiles:
    """What the files directly in a folder, and in its sub-folders of images, masks or DICOM series, are; no image is read."""
    parts = _part_names(list_images(folder), folder.name)
    labels = {path: part for path, part in parts.items() if is_label_word(part) or strip_label_words(part) != part}
    case_files = CaseFiles(
        folder,
        _by_part({path: part for path, part in parts.items() if path not in labels}, _channel),
        _by_part(labels, _structure),
    )
    names = [folder.name, *(case_name(path) for path in case_files.images.values())]
    for path in list_subfolders(folder):
        files = list_images(path)
        if is_label_word(path.name) and files:
            case_files.labels.update(read_structures(path, names))
        elif path.name.lower() in IMAGE_WORDS and files:
            case_files.images.update(_by_part(_part_names(files, folder.name), _channel))
        elif not files and not is_label_word(path.name) and holds_dicom(path):
            case_files.images[_channel(path.name)] = path
    return case_files


def list_subfolders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted by name, but for hidden ones and those of archives."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def holds_dicom(folder: Path) -> bool:
    """Whether a file directly in a folder is a DICOM file."""
    return any(is_dicom_file(path) for path in folder.iterdir() if path.is_file())


def _channel(part: str) -> str:
    return "" if part.lower() in IMAGE_WORDS else part


def _structure(part: str) -> str:
    rest = strip_label_words(part)
    return "" if is_label_word(rest) else rest


def _by_part(parts: Mapping[Path, str], name: Callable[[str], str]) -> dict[str, Path]:
    """Files by the name of their part; two of one name keep their whole names."""
    named = {path: name(part) for path, part in parts.items()}
    times = Counter(named.values())
    return {part if times[part] == 1 else case_name(path): path for path, part in named.items()}


def _part_names(paths: Iterable[Path], case: str) -> dict[Path, str]:
    """What distinguishes the files of a case: their names without that of the case, or without what all begin with."""
    names = {path: case_name(path) for path in paths}
    known = {case.casefold()}
    if any(split_case(name.casefold(), known) for name in names.values()):
        return {path: _without_case(name, known) for path, name in names.items()}
    common = remove_common_start(names.values())
    return {path: common[name] for path, name in names.items()}


def _without_case(name: str, known: Collection[str]) -> str:
    """The rest of a name, as it is written."""
    split = split_case(name.casefold(), known)
    if split is None:
        return name
    start = name.casefold().find(split[1])
    return name[start : start + len(split[1])]
