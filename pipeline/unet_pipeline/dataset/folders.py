"""Reader of plain folders: images in one folder and label maps in another, or both side by side, paired by their names.

A case may have a file per channel (CASE_t1, CASE_0000) and a mask per structure (CASE_liver, CASE/liver, liver/CASE).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unet_pipeline.dataset.case_building import build_cases
from unet_pipeline.dataset.case_files import read_channels, read_structures
from unet_pipeline.dataset.dataset import Case, Dataset, case_name, image_suffix, list_images
from unet_pipeline.dataset.dicom_folders import find_series, list_dicom_files, name_by_first_folder, name_series
from unet_pipeline.dataset.file_names import split_image_word, strip_label_words
from unet_pipeline.dataset.pairing import Pairing, pair_names
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, Message, Problem

LAYOUT = "plain folders"
SIDE_BY_SIDE = "files side by side"
IMAGES, LABELS = "images", "labels"
# the first group is taken before the second
IMAGE_FOLDERS = ((IMAGES, "image", "imgs", "img", "imagesTr"), ("scan", "scans", "volume", "volumes", "originals"))
LABEL_FOLDERS = (
    (LABELS, "label", "masks", "mask", "segmentations", "annotations", "gt", "labelsTr"),
    (
        "segmentation",
        "seg",
        "segs",
        "labelmaps",
        "groundtruth",
        "ground_truth",
        "ground-truth",
        "annotation",
        "roi",
        "rois",
    ),
)

_Side = Mapping[str, Mapping[str, Path]]  # name of a file or folder -> channel or structure -> path below the root

NO_LABEL = Message("no-label", ERROR, "has no label", "Add {expected}, or remove the image.")
NO_IMAGE = Message("no-image", ERROR, "has no image", "Add {expected}, or remove the label.")
SAME_CASE = Message("same-case", ERROR, "has the case name of {other}", "Keep one file per case.")
LONE_PAIR = Message(
    "lone-pair",
    NOTE,
    "is taken as the label map of {image}: the folder has two images, and one ends as label maps do",
    "Give both one stem, such as case.nii.gz and case_seg.nii.gz, if that is wrong.",
)
LOOSE_PAIRS = Message(
    "loose-pairs",
    NOTE,
    "is taken as the image of {label}, whose name it begins or ends with, and so on for {count} cases",
    "Give both one stem, or list the pairs in cases.csv, if that is wrong.",
)


def matches(root: Path) -> bool:
    """Whether `root` has a folder of images and one of labels, or images beside their label maps."""
    if not root.is_dir():
        return False
    return _has_both_folders(root) or bool(_read_side_by_side(root).cases)


def read(root: Path) -> Dataset:
    """The dataset at `root`; an image without label, or a label without image, is a problem of the layout.

    Raises:
        DatasetError: two folders could be the images, or the labels.
    """
    if not _has_both_folders(root):
        return _read_side_by_side(root)
    image_folder, label_folder = (_choose_folder(root, names) for names in (IMAGE_FOLDERS, LABEL_FOLDERS))
    _require_files_at_their_place(root, image_folder, label_folder)
    images, problems = _list_side(root, image_folder, is_label=False)
    labels, problems_of_labels = _list_side(root, label_folder, is_label=True)
    images = _name_as_labels(root / image_folder, root, images, labels)
    labels = _turn_structure_folders(images, labels)
    pairing = pair_names(list(images), list(labels))
    missing = _find_lone(pairing, images, labels, f"{label_folder}/{{name}}", f"{image_folder}/{{name}}")
    return _build(root, LAYOUT, pairing, images, labels, [*problems, *problems_of_labels, *missing])


def _require_files_at_their_place(root: Path, images: str, labels: str) -> None:
    """Whether the pairs lie in the two folders and not in folders of one name below them, as in images/train and labels/train.

    Raises:
        DatasetError: they do; a folder there would be taken for a case with its channels.
    """
    if list_images(root / images):
        return
    for folder in sorted(path for path in (root / images).iterdir() if path.is_dir()):
        other = root / labels / folder.name
        names = [{case_name(path) for path in list_images(side)} for side in (folder, other) if side.is_dir()]
        if len(names) == 2 and len(names[0] & names[1]) > 1:
            raise DatasetError(
                f"The files of {root} lie one level deeper than expected, in {images}/{folder.name} and {labels}/{folder.name}. "
                f"Move them up into {images}/ and {labels}/, or list the pairs in cases.csv."
            )


def _build(root: Path, layout: str, pairing: Pairing, images: _Side, labels: _Side, problems: list[Problem]) -> Dataset:
    built = build_cases(_merge(pairing.images, images), _merge(pairing.labels, labels), root)
    if pairing.is_loose and built.cases:
        first, count = built.cases[0], len(built.cases)
        problems.append(LOOSE_PAIRS.about(first.image.as_posix(), label=first.require_label().as_posix(), count=count))
    return built.as_dataset(root, layout, problems)


def _merge(names: Mapping[str, Mapping[str, str]], side: _Side) -> dict[str, dict[str, Path]]:
    """Paths by case and channel or structure; a folder of files brings its own."""
    return {
        case: {inner or part: path for part, name in parts.items() for inner, path in side[name].items()}
        for case, parts in names.items()
    }


def _find_lone(pairing: Pairing, images: _Side, labels: _Side, label: str, image: str) -> list[Problem]:
    """Files without partner; `label` and `image` say where one is expected, with {name} for the case."""
    suffix = _ending(labels) or _ending(images)
    problems = [
        NO_LABEL.about(_first(images[name]), expected=f"{label.format(name=case)}{suffix}")
        for name, case in sorted(pairing.lone_images.items())
    ]
    suffix = _ending(images) or _ending(labels)
    problems += [
        NO_IMAGE.about(_first(labels[name]), expected=f"{image.format(name=case)}{suffix}")
        for name, case in sorted(pairing.lone_labels.items())
    ]
    return problems


def _first(files: Mapping[str, Path]) -> str:
    return min(files.values()).as_posix()


def _ending(side: _Side) -> str:
    """Suffix of the first file, for a message that says what is missing."""
    return image_suffix(min(next(iter(side.values())).values())) if side else ""


def _has_both_folders(root: Path) -> bool:
    return bool(_find_folders(root, IMAGE_FOLDERS) and _find_folders(root, LABEL_FOLDERS))


def _find_folders(root: Path, groups: tuple[tuple[str, ...], ...]) -> list[str]:
    """Folders with a name of the first group that has any."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    for names in groups:
        known = {name.casefold() for name in names}
        if matching := [name for name in folders if name.casefold() in known]:
            return matching
    return []


def _choose_folder(root: Path, groups: tuple[tuple[str, ...], ...]) -> str:
    candidates = _find_folders(root, groups)
    if len(candidates) > 1:
        raise DatasetError(
            f"Dataset folder {root} has {' and '.join(f'{name}/' for name in candidates)}; expected one of them. Remove or rename the other."
        )
    return candidates[0]


def _list_side(root: Path, folder: str, is_label: bool) -> tuple[_Side, list[Problem]]:
    """Files by name, and those whose name another file has already taken.

    A sub-folder with images is a case with a file per channel or structure, one with other files a DICOM series.
    """
    files_of: dict[str, dict[str, Path]] = {}
    problems: list[Problem] = []
    for path in list_images(root / folder):
        relative = path.relative_to(root)
        first = files_of.setdefault(case_name(path), {"": relative})[""]
        if first != relative:
            problems.append(SAME_CASE.about(relative.as_posix(), other=first.name))
    named, split = _name_dicom(root / folder), set[Path]()
    for path in sorted(path for path in (root / folder).iterdir() if path.is_dir() and _has_files(path)):
        if parts := read_structures(path) if is_label else read_channels(path):
            files = {part: file.relative_to(root) for part, file in parts.items()}
            split.add(path)
            if files_of.setdefault(path.name, files) is not files:
                problems.append(SAME_CASE.about(path.relative_to(root).as_posix(), other=_first(files_of[path.name])))
    for path, name in named.items():
        files = {"": path.relative_to(root)}
        if not split.intersection((path, *path.parents)) and files_of.setdefault(name, files) is not files:
            problems.append(SAME_CASE.about(files[""].as_posix(), other=_first(files_of[name])))
    return files_of, problems


def _name_dicom(place: Path) -> dict[Path, str]:
    """Series and single pictures below a folder by their path; a sub-folder of files that are none is there to be complained about."""
    series = [path for path in find_series(place) if path != place] or list_dicom_files(place)
    covered = {place / path.relative_to(place).parts[0] for path in series}
    others = (path for path in sorted(place.iterdir()) if path.is_dir() and _has_files(path) and path not in covered)
    return name_by_first_folder(place, series) | {path: path.name for path in others}


def _name_as_labels(place: Path, root: Path, images: _Side, labels: _Side) -> _Side:
    """Images by case name, a series that is alone in its patient's folder by its whole path where the label map has that name."""
    named = {}
    for name, files in images.items():
        path = files.get("")
        whole = name_series(place, root / path) if path is not None and (root / path).is_dir() else name
        named[whole if name not in labels and whole in labels else name] = files
    return named


def _has_files(folder: Path) -> bool:
    plain = not folder.name.startswith((".", "__"))
    return plain and any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())


def _turn_structure_folders(images: _Side, labels: _Side) -> _Side:
    """Labels by case, where the folder of the labels has a folder per structure instead of one per case."""
    turned: dict[str, dict[str, Path]] = {}
    for name, files in labels.items():
        if "" in files and len(files) == 1 and image_suffix(files[""]) and files[""].parent.name != name:
            return labels  # there are label maps
        for path in files.values():
            turned.setdefault(case_name(path), {})[name] = path
    num_before = pair_names(list(images), list(labels)).num_placed
    pairing = pair_names(list(images), list(turned))
    if pairing.num_placed <= num_before:
        return labels
    return {name: files if len(labels) > 1 else {"": next(iter(files.values()))} for name, files in turned.items()}


def _read_side_by_side(root: Path) -> Dataset:
    """Cases of a folder whose files lie side by side: CASE.ext or CASE_image.ext, and CASE_seg.ext or the like."""
    files = {case_name(path): path.relative_to(root) for path in list_images(root)}
    labels = {name: {"": path} for name, path in files.items() if strip_label_words(name) != name}
    images = {name: {"": path} for name, path in files.items() if name not in labels}
    pairing = pair_names(list(images), list(labels))
    if len(images) == len(labels) == 1:
        return _read_lone_pair(root, *images.items(), *labels.items())
    problems = _find_lone(pairing, images, labels, "{name}_seg", "{name}") if pairing.images else []
    return _build(root, SIDE_BY_SIDE, pairing, images, labels, problems)


def _read_lone_pair(
    root: Path, image: tuple[str, Mapping[str, Path]], label: tuple[str, Mapping[str, Path]]
) -> Dataset:
    """The only image and the only label map of a folder belong together, whatever their names."""
    (name, images), (name_of_label, labels) = image, label
    case = Case(split_image_word(name)[0], images[""], labels[""])
    alike = strip_label_words(name_of_label) in (name, case.name)
    note = () if alike else (LONE_PAIR.about(labels[""], image=images[""]),)
    return Dataset(root=root, layout=SIDE_BY_SIDE, cases=(case,), problems_of_layout=note)
