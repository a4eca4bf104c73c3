"""What is to be predicted: files, folders of files, files per channel, DICOM series; and each in a form that MONAI reads."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from unet_pipeline.dataset.case_folders import find_case_files
from unet_pipeline.dataset.case_reading import read_case_grid, read_case_image
from unet_pipeline.dataset.dataset import Case, case_name, image_suffix, is_picture, list_images
from unet_pipeline.dataset.deeper import suggest_deeper
from unet_pipeline.dataset.dicom_file import dicom_case_name, is_dicom_file, is_directory_file
from unet_pipeline.dataset.dicom_folders import find_series, holds_images, list_dicom_files, name_series
from unet_pipeline.dataset.file_names import natural_key, split_case
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES, SHOWN_FORMATS
from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.pages import read_pages
from unet_pipeline.dataset.paths import find_dead_end
from unet_pipeline.dataset.stock import stock_reads
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.errors import PredictionError

Seen = TypeVar("Seen", MedicalImage, ImageGrid)
_UNNAMED_CHANNEL = re.compile(r"channel_\d+")  # what a channel is called whose name the dataset does not say
_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # nnU-Net's names of files per channel
_MAX_SHOWN = 6  # names of files in a message


@dataclass(frozen=True)
class Channels:
    """The channels of a network, in their order, and which of them an image may lack."""

    count: int
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def folded(self) -> list[str]:
        """Names without letter case."""
        return [name.casefold() for name in self.names]

    def can_lack(self, places: Iterable[int]) -> bool:
        """Whether an image may lack the channels at these places."""
        return all(self.names[place] in self.missing if self.names else False for place in places)

    def describe_missing(self) -> str:
        """For a message that says which channels are expected."""
        return f", of which only {', '.join(self.missing)} may be missing" if self.missing else ""

    def place(self, case: str, files: Mapping[int, Path]) -> PredictionInput:
        """An image of the files at their places.

        Raises:
            PredictionError: a channel is missing that the network was trained with always.
        """
        missing = tuple(place for place in range(self.count) if place not in files)
        if not self.can_lack(missing):
            lacking = ", ".join(self.names[place] for place in missing if self.names[place] not in self.missing)
            shown = ", ".join(path.name for _, path in sorted(files.items()))
            raise PredictionError(
                f"Image {case} has the files {shown} and none of the channel(s) {lacking}; the bundle was trained with "
                f"{', '.join(self.names)}{self.describe_missing() or ' in every image'}. Add the files, or "
                "plan and train with --missing-channels any."
            )
        return PredictionInput(case, tuple(path for _, path in sorted(files.items())), missing)


@dataclass(frozen=True)
class PredictionInput:
    """One image to predict: its name, which the label map gets, and its file, files per channel, or DICOM folder.

    `missing_channels` are the places, among all channels, of those that it has no file of.
    """

    name: str
    files: tuple[Path, ...]
    missing_channels: tuple[int, ...] = ()

    def absolute(self) -> PredictionInput:
        """The same with absolute paths, for a worker, which may stand elsewhere."""
        return replace(self, files=tuple(path.absolute() for path in self.files))

    def list_files(self) -> tuple[Path, ...]:
        """All files: those of a DICOM folder one by one, and voxels beside their header."""
        return tuple(file for path in self.files for file in list_image_files(path))

    def read(self, spatial_dims: int | None = None) -> MedicalImage:
        """The image.

        Args:
            spatial_dims: that are expected; of 3, the pages of a TIFF file of which no tag speaks are slices.

        Raises:
            ImageFileError: a file cannot be read.
        """
        return self._look(read_case_image, spatial_dims)

    def read_grid(self, spatial_dims: int | None = None) -> ImageGrid:
        """The image's grid, from headers alone.

        Args:
            spatial_dims: as in `read`.

        Raises:
            ImageFileError: a header cannot be read.
        """
        return self._look(read_case_grid, spatial_dims)

    def _look(self, look: Callable[[Path, Case, ReadOptions], Seen], spatial_dims: int | None) -> Seen:
        folder, case = self.files[0].parent, self._as_case()
        return read_pages(lambda as_slices: look(folder, case, ReadOptions(pages_as_slices=as_slices)), spatial_dims)

    def _as_case(self) -> Case:
        folder = self.files[0].parent
        others = (path.name if path.parent == folder else os.path.relpath(path, folder) for path in self.files[1:])
        further = tuple(map(Path, others))
        return Case(self.name, Path(self.files[0].name), None, further, missing_channels=self.missing_channels)

    def is_stock_readable(self, suffix: str) -> bool:
        """Whether stock MONAI reads the same voxels from it without help, and on the grid that files of that suffix have.

        A picture has no place in the world, so a 2D volume file is none for a network that was trained on pictures, nor the other way.
        """
        is_alone = len(self.files) == 1 and not self.missing_channels and stock_reads(self.files[0])
        return is_alone and is_picture(self.files[0]) == (suffix in PICTURE_SUFFIXES)

    def write_readable(self, image: MedicalImage, folder: Path, suffix: str) -> Path:
        """A file that stock MONAI reads: the image's own, or a copy in `folder` with that suffix."""
        if self.is_stock_readable(suffix):
            return self.files[0]
        path = folder / f"{self.name}{suffix}"
        write_image(path, image)
        return path


def measure_input(source: PredictionInput) -> float:
    """Bytes of its files; those that are not there are for `read` to complain about."""
    return float(sum(file.stat().st_size for file in source.files if file.exists()))


def list_inputs(
    source: Path, num_channels: int = 1, channel_names: Sequence[str] = (), missing_channels: Sequence[str] = ()
) -> list[PredictionInput]:
    """The images to predict.

    Args:
        source: an image, a DICOM series, a folder of images, a folder with one per case, or a folder with series below it at any depth.
        num_channels: of the network; with several, files named CASE_0000, CASE_0001, ... are one image, and so are those named by
            their channels, CASE_t1, CASE_t2, ...
        channel_names: of the network, in their order.
        missing_channels: names of those that an image may lack.

    Raises:
        PredictionError: it does not exist, is no image, has no image, or has two images of one name.
    """
    channels = Channels(num_channels, tuple(channel_names), tuple(missing_channels))
    if source.is_file() and is_directory_file(source) and is_dicom_file(source):
        source = source.parent  # it names the files that lie below its folder
    if source.is_file():
        if not image_suffix(source) and not is_dicom_file(source):
            raise PredictionError(f"{source.name} is not in a known format; expected {SHOWN_FORMATS}. Convert it.")
        name = case_name(source) if image_suffix(source) else dicom_case_name(source)
        return [_read_lone_channel(source, channels) or PredictionInput(name, (source,))]
    if not source.is_dir():
        raise _describe_missing(source)
    series = find_series(source)
    if len(series) > 1:  # such as segmentations of the others; of one alone the reader says what it is
        series = [path for path in series if holds_images(path)] or series
    images = [path for path in list_images(source) if source not in series or not _is_beside_series(path, source)]
    inputs = [] if images else _list_case_folders(source, channels)
    inputs = inputs or [
        *_group_channels(images, channels),
        *(_name_series(source, path, bool(images)) for path in series),
    ]
    if not inputs:
        deeper = suggest_deeper(source, lambda folder: bool(list_images(folder))) or "Check the path."
        raise PredictionError(f"Input folder {source} has no image; expected {SHOWN_FORMATS}. {deeper}")
    _require_own_names(inputs, source)
    return inputs


def _describe_missing(source: Path) -> PredictionError:
    """Why an input is neither a file nor a folder."""
    if problem := find_dead_end(source, f"Input {source}"):
        return PredictionError(f"{problem.file} {problem.cause}. {problem.remedy}")
    cause = "is a device or a pipe" if source.exists() else "does not exist"
    return PredictionError(f"Input {source} {cause}. Expected an image file or a folder of images.")


def _is_beside_series(path: Path, folder: Path) -> bool:
    """Whether a picture in the folder of a series is no image of its own, such as a screenshot; reading the series names it."""
    return is_picture(path) and len(list_dicom_files(folder)) > 1


def _name_series(source: Path, path: Path, has_images: bool) -> PredictionInput:
    """A series below `source`, or a DICOM file that is an image of its own; so is the only one in a folder of images."""
    files = list_dicom_files(path) if path == source and has_images else []
    path = files[0] if len(files) == 1 else path
    return PredictionInput(name_series(source, path), (path,))


def _require_own_names(inputs: Sequence[PredictionInput], source: Path) -> None:
    """Whether every image gets a label map of its own, whatever the file system takes for one name.

    Raises:
        PredictionError: two names are the same, or differ in upper and lower case or in the form of Unicode only.
    """
    first_of: dict[str, str] = {}
    for name in sorted(item.name for item in inputs):
        composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if (other := first_of.setdefault(composed, name)) != name:
            raise PredictionError(
                f"Input folder {source.name} has images named {other} and {name}, which many file systems take for one name; both would "
                "get one output. Rename one."
            )
    names = [item.name for item in inputs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PredictionError(
            f"Input folder {source.name} has two images named {repeated[0]}; both would get one output. Rename one."
        )


def _list_case_folders(source: Path, channels: Channels) -> list[PredictionInput]:
    """One input per folder with the images of a case; label files in it are passed over."""
    return [
        _order_channels(name, files.images, channels)
        for name, files in sorted(find_case_files(source).items())
        if not all(path.is_dir() for path in files.images.values())  # series are listed one by one
    ]


def _read_lone_channel(path: Path, channels: Channels) -> PredictionInput | None:
    """A file whose name says that it is one channel of several; None for any other, and where none may be missing."""
    if not channels.missing or not image_suffix(path):
        return None
    numbered = _CHANNEL_FILE.fullmatch(case_name(path))
    if numbered and int(numbered["channel"]) < channels.count:
        return channels.place(numbered["case"], {int(numbered["channel"]): path})
    named = _group_by_name([path], channels)
    return named[0] if named else None


def _order_channels(case: str, images: Mapping[str, Path], channels: Channels) -> PredictionInput:
    """The files of a case in the order of the network's channels: by their names, or as they are where those say nothing."""
    by_name = {channel.casefold(): path for channel, path in images.items()}
    num_channels, wanted = channels.count, channels.folded
    if wanted and all(name in by_name for name in wanted):
        return PredictionInput(case, tuple(by_name[name] for name in wanted))
    if channels.missing and set(by_name) <= set(wanted):
        return channels.place(case, {wanted.index(name): path for name, path in by_name.items()})
    if channels.missing and all(name.isdecimal() and int(name) < num_channels for name in by_name):
        return channels.place(case, {int(name): path for name, path in by_name.items()})
    in_order = tuple(images[channel] for channel in sorted(images, key=natural_key))
    named = any(channel and not channel.isdecimal() for channel in images) and not all(
        _UNNAMED_CHANNEL.fullmatch(name) for name in wanted
    )
    is_whole = len(in_order) == 1 and not (num_channels > 1 and set(by_name) & set(wanted))
    if is_whole or (len(in_order) == num_channels and not named):
        return PredictionInput(case, in_order)
    names = ", ".join(path.name for path in in_order[:_MAX_SHOWN]) + (
        " and others" if len(in_order) > _MAX_SHOWN else ""
    )
    raise PredictionError(
        f"Case {case} has the images {names}; the bundle expects {num_channels} channel(s) ({', '.join(channels.names)}). Name the files "
        f"after the channels, as CASE_CHANNEL, or remove the others; if they are images of several cases, give {in_order[0].parent}."
    )


def _group_channels(images: Iterable[Path], channels: Channels) -> list[PredictionInput]:
    """One input per image, or per case whose files are named by channel."""
    images = list(images)
    num_channels = channels.count
    if by_name := _group_by_name(images, channels):
        return by_name
    alone, files_of = [], dict[str, dict[int, Path]]()
    for image in images:
        match = _CHANNEL_FILE.fullmatch(case_name(image))
        if num_channels > 1 and match:
            files_of.setdefault(match["case"], {})[int(match["channel"])] = image
        else:
            alone.append(PredictionInput(case_name(image), (image,)))
    for case, files in files_of.items():
        if set(files) - set(range(num_channels)) or not channels.can_lack(set(range(num_channels)) - set(files)):
            names = ", ".join(path.name for _, path in sorted(files.items()))
            raise PredictionError(
                f"Image {case} has the channel files {names}; the bundle expects {num_channels}, numbered "
                f"{case}_0000 to {case}_{num_channels - 1:04d}{channels.describe_missing()}. Complete them."
            )
        alone.append(channels.place(case, files))
    return sorted(alone, key=lambda item: item.name)


def _group_by_name(images: Sequence[Path], channels: Channels) -> list[PredictionInput]:
    """One input per case whose files are named CASE_CHANNEL with the network's channel names; none unless every file is."""
    wanted = channels.folded
    if len(wanted) < 2 or len(set(wanted)) < len(wanted):
        return []
    files_of: dict[str, dict[str, Path]] = {}
    for image in images:
        name = case_name(image)
        parts = split_case(name.casefold(), set(wanted))
        if parts is None or not parts[1]:
            return []
        start = name.casefold().find(parts[1])
        files_of.setdefault(name[start : start + len(parts[1])], {})[parts[0]] = image
    return [_order_channels(case, files, channels) for case, files in sorted(files_of.items())]
