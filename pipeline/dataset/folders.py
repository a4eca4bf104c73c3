"""Reader of plain folders: images in one folder and label maps in another, or both side by side, paired by file stem."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.dataset import Case, Dataset, case_name, image_suffix, list_images
from pipeline.dataset.dicom_folders import find_series, list_dicom_files, name_by_first_folder, name_series
from pipeline.dataset.problems import ERROR, NOTE, Message, Problem
from pipeline.errors import DatasetError

LAYOUT = "plain folders"
SIDE_BY_SIDE = "files side by side"
IMAGES, LABELS = "images", "labels"
IMAGE_FOLDERS = (IMAGES, "image", "imgs", "img", "imagesTr")
LABEL_FOLDERS = (LABELS, "label", "masks", "mask", "segmentations", "annotations", "gt", "labelsTr")
IMAGE_ENDINGS = ("_image", "_img")
LABEL_ENDINGS = ("_label", "_labels", "_mask", "_seg", "_segmentation", "_gt")

NO_LABEL = Message("no-label", ERROR, "has no label", "Add {expected}, or remove the image.")
NO_IMAGE = Message("no-image", ERROR, "has no image", "Add {expected}, or remove the label.")
SAME_CASE = Message("same-case", ERROR, "has the case name of {other}", "Keep one file per case.")
LONE_PAIR = Message(
    "lone-pair",
    NOTE,
    "is taken as the label map of {image}: the folder has two images, and one ends as label maps do",
    "Give both one stem, such as case.nii.gz and case_seg.nii.gz, if that is wrong.",
)


def matches(root: Path) -> bool:
    """Whether `root` has a folder of images and one of labels, or images beside their label maps."""
    if not root.is_dir():
        return False
    return bool(_find_folders(root, IMAGE_FOLDERS) and _find_folders(root, LABEL_FOLDERS)) or bool(_pair_files(root)[0])


def read(root: Path) -> Dataset:
    """The dataset at `root`; an image without label, or a label without image, is a problem of the layout.

    Raises:
        DatasetError: two folders could be the images, or the labels.
    """
    if not _find_folders(root, IMAGE_FOLDERS) or not _find_folders(root, LABEL_FOLDERS):
        pairs, notes = _pair_files(root)
        return Dataset(root=root, layout=SIDE_BY_SIDE, cases=pairs, problems_of_layout=notes)
    image_folder, label_folder = (_choose_folder(root, names) for names in (IMAGE_FOLDERS, LABEL_FOLDERS))
    images, problems = _find_cases(root, image_folder)
    labels, problems_of_labels = _find_cases(root, label_folder)
    problems += problems_of_labels
    images = _name_as_labels(root / image_folder, root, images, labels)
    images, labels = _strip_endings(images, labels)
    suffix = _ending(labels) or _ending(images)
    problems += [
        NO_LABEL.about(images[name].as_posix(), expected=f"{label_folder}/{name}{suffix}")
        for name in sorted(images.keys() - labels.keys())
    ]
    suffix = _ending(images) or _ending(labels)
    problems += [
        NO_IMAGE.about(labels[name].as_posix(), expected=f"{image_folder}/{name}{suffix}")
        for name in sorted(labels.keys() - images.keys())
    ]
    cases = tuple(Case(name, images[name], labels[name]) for name in sorted(images.keys() & labels.keys()))
    return Dataset(root=root, layout=LAYOUT, cases=cases, problems_of_layout=tuple(problems))


def _find_folders(root: Path, names: tuple[str, ...]) -> list[str]:
    known = {name.casefold() for name in names}
    return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name.casefold() in known)


def _choose_folder(root: Path, names: tuple[str, ...]) -> str:
    found = _find_folders(root, names)
    if len(found) > 1:
        raise DatasetError(
            f"Dataset folder {root} has {' and '.join(f'{name}/' for name in found)}; expected one of them. Remove or rename the other."
        )
    return found[0]


def _find_cases(root: Path, folder: str) -> tuple[dict[str, Path], list[Problem]]:
    """Files by case name, and those whose name another file has already taken; DICOM files and series count as files."""
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    place = root / folder
    named = [(case_name(path), path) for path in list_images(place)]
    named += [(name, path) for path, name in _name_dicom(place).items()]
    for name, path in named:
        relative = path.relative_to(root)
        first = found.setdefault(name, relative)
        if first != relative:
            problems.append(SAME_CASE.about(relative.as_posix(), other=first.name))
    return found, problems


def _name_dicom(place: Path) -> dict[Path, str]:
    """Series and single pictures below a folder by their path; a sub-folder of files that are none is there to be complained about."""
    series = [path for path in find_series(place) if path != place] or list_dicom_files(place)
    covered = {place / path.relative_to(place).parts[0] for path in series}
    others = (path for path in sorted(place.iterdir()) if path.is_dir() and _has_files(path) and path not in covered)
    return name_by_first_folder(place, series) | {path: path.name for path in others}


def _name_as_labels(place: Path, root: Path, images: dict[str, Path], labels: dict[str, Path]) -> dict[str, Path]:
    """Images by case name, a series that is alone in its patient's folder by its whole path where the label map has that name."""
    named = {}
    for name, path in images.items():
        whole = name_series(place, root / path) if (root / path).is_dir() else name
        named[whole if name not in labels and whole in labels else name] = path
    return named


def _has_files(folder: Path) -> bool:
    plain = not folder.name.startswith((".", "__"))
    return plain and any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())


def _strip_endings(images: dict[str, Path], labels: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Case names without endings such as _image and _mask, where that pairs more files and joins none."""
    best = (images, labels)
    for image_endings, label_endings in (((), LABEL_ENDINGS), (IMAGE_ENDINGS, ()), (IMAGE_ENDINGS, LABEL_ENDINGS)):
        stripped = _strip(images, image_endings), _strip(labels, label_endings)
        joined = len(stripped[0]) < len(images) or len(stripped[1]) < len(labels)
        if not joined and len(stripped[0].keys() & stripped[1].keys()) > len(best[0].keys() & best[1].keys()):
            best = stripped
    return best


def _strip(files: dict[str, Path], endings: tuple[str, ...]) -> dict[str, Path]:
    return {_strip_one(name, endings): path for name, path in files.items()}


def _strip_one(name: str, endings: tuple[str, ...]) -> str:
    longest_first = sorted(endings, key=len, reverse=True)
    ending = next((ending for ending in longest_first if name.lower().endswith(ending) and name.lower() != ending), "")
    return name[: len(name) - len(ending)]


def _ending(files: dict[str, Path]) -> str:
    """Suffix of the first file, for a message that says what is missing."""
    return image_suffix(next(iter(files.values()))) if files else ""


def _pair_files(root: Path) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """Cases of a folder whose files lie side by side: CASE.ext or CASE_image.ext, and CASE_seg.ext or the like."""
    files = {case_name(path): path.relative_to(root) for path in list_images(root)}
    labels = {name: path for name, path in files.items() if _strip_one(name, LABEL_ENDINGS) != name}
    images = {name: path for name, path in files.items() if name not in labels}
    if len(images) == len(labels) == 1:
        ((name, image),), (label,) = images.items(), labels.values()
        note = () if _strip_endings(images, labels)[1].keys() == {name} else (LONE_PAIR.about(label, image=image),)
        return (Case(_strip_one(name, IMAGE_ENDINGS), image, label),), note
    images, labels = _strip_endings(images, labels)
    paired = sorted(images.keys() & labels.keys())
    if not paired:
        return (), ()
    problems = [
        NO_LABEL.about(images[name].as_posix(), expected=f"{name}_seg{image_suffix(images[name])}")
        for name in sorted(images.keys() - labels.keys())
    ]
    problems += [
        NO_IMAGE.about(labels[name].as_posix(), expected=f"{name}{image_suffix(labels[name])}")
        for name in sorted(labels.keys() - images.keys())
    ]
    return tuple(Case(name, images[name], labels[name]) for name in paired), tuple(problems)
