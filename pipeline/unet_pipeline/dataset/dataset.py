"""What every reader makes of a user's folder: cases, channels and the label table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unet_pipeline.dataset.formats import IMAGE_SUFFIXES, PAIR_SUFFIXES, PICTURE_SUFFIXES
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import Problem


@dataclass(frozen=True)
class StructureMask:
    """The mask file of one structure, relative to the dataset's root, and the value that the structure gets in the joined label map.

    `numbers` are the segments of a SEG, or the regions of an RTSTRUCT, that are the structure; empty for a file that is a mask.
    """

    structure: str
    value: int
    path: Path
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """One image and its reference label map, as paths relative to the dataset's root.

    Attributes:
        image: the image file, or the folder of a DICOM series; the first channel when there is a file per channel.
        label: None where the folder has images only, which can be checked and predicted. With `masks` it stands for all of them in
            messages: their folder, or the first of them.
        further_channels: files of the other channels, in their order.
        missing_channels: places, among all channels, of those that the case has no file of.
        annotated: names or values of the labels that the label map shows; the others are unknown in it, not absent. None: it shows all.
        combinations: pairs of a pattern of masks, whose bit n - 1 is that of the mask with value n, and the value of the joined label map
            that it has; None: masks do not overlap, or the highest wins.
        values: pairs of a value of the label file and the one that it stands for, in cases of several datasets; None elsewhere.
        masks: one file per structure instead of a label map, in the order of their values; a structure without file is empty. None where
            `label` is a label map.
        patient: cases of one patient stay on one side of every split; None: the case is a patient of its own.
        split: "train", "validation" or "test" where the dataset says so; a test case is never trained on.
        spacing_mm: of the image where only the dataset knows it, as for pictures in a table.
        columns: further columns of a table with their values as text, for results by subgroup.
    """

    name: str
    image: Path
    label: Path | None
    further_channels: tuple[Path, ...] = ()
    patient: str | None = None
    split: str | None = None
    spacing_mm: tuple[float, ...] | None = None
    columns: dict[str, str] = field(default_factory=dict, hash=False)
    masks: tuple[StructureMask, ...] | None = None
    annotated: tuple[str, ...] | None = None
    values: tuple[tuple[int, int], ...] | None = None
    combinations: tuple[tuple[int, int], ...] | None = None
    missing_channels: tuple[int, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """All image files."""
        return (self.image, *self.further_channels)

    @property
    def channel_files(self) -> tuple[Path | None, ...]:
        """The image files by channel, None for one that is missing."""
        there = iter(self.images)
        places = range(len(self.images) + len(self.missing_channels))
        return tuple(None if place in self.missing_channels else next(there) for place in places)

    @property
    def label_files(self) -> tuple[Path, ...]:
        """The file of the label map, or those of its structures; empty without any."""
        if self.masks is not None:
            return tuple(dict.fromkeys(mask.path for mask in self.masks))
        return () if self.label is None else (self.label,)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, those of the label map last."""
        return (*self.images, *self.label_files)

    def require_label(self) -> Path:
        """The label map's path.

        Raises:
            DatasetError: the case has none.
        """
        if self.label is None:
            raise DatasetError(f"Case {self.name} has no label map; expected one. Give a labelled dataset.")
        return self.label


@dataclass(frozen=True)
class Dataset:
    """A labelled folder as its reader found it.

    `labels` maps each name to the value that the label files carry, the smallest value first; None means that the
    folder does not say, and `check` finds the values in the files. `channels` names the image channels, where the
    folder says so. `problems_of_layout` are the findings of the reader itself. `ignore_value` is a value of the label files that marks
    voxels without annotation. `folds` are the (training, validation) case names of every fold, where the dataset brings
    its own. `regions` are names for several values together, such as a whole tumour of its parts; they may overlap.
    `lists` are the files that say what the cases are, from the root; `given_list` is the one of them that the dataset was
    read from, None where it was read from a folder. `test_images` are files that a list names for testing, whether they have a
    label or not.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...] | None = None
    labels: dict[str, int] | None = None
    licence: str = ""
    reference: str = ""
    ignore_value: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    problems_of_layout: tuple[Problem, ...] = field(default=())
    lists: tuple[Path, ...] = ()
    test_images: tuple[Path, ...] = ()
    given_list: Path | None = None
    joined_name: str = ""

    @property
    def name(self) -> str:
        """That of its folder, or of the datasets that were joined to it."""
        return self.joined_name or self.root.resolve().name

    @property
    def suffix(self) -> str:
        """The one file suffix of all images, such as ".nii.gz".

        Raises:
            DatasetError: the images have different suffixes.
        """
        suffixes = sorted({image_suffix(image) or "DICOM" for case in self.cases for image in case.images})
        if len(suffixes) != 1:
            raise DatasetError(f"Dataset {self.name} mixes the image formats {', '.join(suffixes)}; expected one.")
        return suffixes[0]


def image_suffix(path: Path) -> str:
    """The suffix that chooses the reader, such as ".nii.gz"; "" for any other file."""
    name = path.name.lower()
    return max((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), key=len, default="")


def is_picture(path: Path) -> bool:
    """Whether a file has no place in the world and counts in pixels, by its suffix."""
    return image_suffix(path) in PICTURE_SUFFIXES


def case_name(path: Path) -> str:
    """File name without its image suffix."""
    return path.name[: len(path.name) - len(image_suffix(path))]


def list_images(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files are passed over, and of a pair of files the header is listed."""
    images = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and image_suffix(path))
    headers = {case_name(path) for path in images if image_suffix(path).startswith(".hdr")}
    return [path for path in images if not (image_suffix(path).startswith(".img") and case_name(path) in headers)]


def list_parts(path: Path) -> list[Path]:
    """The files of an image that are there: both of a pair, of any other only itself."""
    return [path, *[path.with_name(name) for name in list_pair_names(path.name) if path.with_name(name).is_file()][:1]]


def list_pair_names(name: str) -> list[str]:
    """Names, with their folder, that the other file of a pair may have; none for an image in one file."""
    suffix = image_suffix(Path(name))
    if suffix not in PAIR_SUFFIXES:
        return []
    other = ".img" if suffix.startswith(".hdr") else ".hdr"
    stem = name[: len(name) - len(suffix)]
    return [stem + form for ending in (other, f"{other}.gz") for form in (ending, ending.upper())]


def is_pair_header(path: Path) -> bool:
    """Whether a file is the header of a pair, which may be the same for many images."""
    return image_suffix(path).startswith(".hdr")
