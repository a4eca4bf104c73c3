"""What is to be predicted: files, folders of files, files per channel, DICOM series; and each in a form that MONAI reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.case_reading import read_case_grid, read_case_image
from pipeline.dataset.dataset import (
    SHOWN_FORMATS,
    Case,
    case_name,
    image_suffix,
    list_images,
)
from pipeline.dataset.dicom_file import dicom_case_name, is_dicom_file, is_directory_file
from pipeline.dataset.dicom_folders import find_series, name_series
from pipeline.dataset.image_files import list_image_files
from pipeline.dataset.medical_image import ImageGrid, MedicalImage
from pipeline.dataset.options import ReadOptions
from pipeline.dataset.stock import stock_reads
from pipeline.dataset.writing import write_image
from pipeline.errors import PredictionError

_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # nnU-Net's names of files per channel


@dataclass(frozen=True)
class PredictionInput:
    """One image to predict: its name, which the label map gets, and its file, files per channel, or DICOM folder."""

    name: str
    files: tuple[Path, ...]

    def list_files(self) -> tuple[Path, ...]:
        """All files: those of a DICOM folder one by one, and voxels beside their header."""
        return tuple(file for path in self.files for file in list_image_files(path))

    def read(self) -> MedicalImage:
        """The image.

        Raises:
            ImageFileError: a file cannot be read.
        """
        return read_case_image(self.files[0].parent, self._as_case(), ReadOptions())

    def read_grid(self) -> ImageGrid:
        """The image's grid, from headers alone.

        Raises:
            ImageFileError: a header cannot be read.
        """
        return read_case_grid(self.files[0].parent, self._as_case())

    def _as_case(self) -> Case:
        first, *others = (Path(path.name) for path in self.files)
        return Case(self.name, first, None, further_channels=tuple(others))

    def is_stock_readable(self) -> bool:
        """Whether stock MONAI reads the same voxels from it without help."""
        return len(self.files) == 1 and stock_reads(self.files[0])

    def write_readable(self, image: MedicalImage, folder: Path, suffix: str) -> Path:
        """A file that stock MONAI reads: the image's own, or a copy in `folder`."""
        if self.is_stock_readable():
            return self.files[0]
        path = folder / f"{self.name}{suffix}"
        write_image(path, image)
        return path


def list_inputs(source: Path, num_channels: int = 1) -> list[PredictionInput]:
    """The images to predict.

    Args:
        source: an image, a DICOM series, a folder of images, or a folder with series below it at any depth.
        num_channels: of the network; with several, files named CASE_0000, CASE_0001, ... are one image.

    Raises:
        PredictionError: it does not exist, is no image, has no image, or has two images of one name.
    """
    if source.is_file() and is_directory_file(source) and is_dicom_file(source):
        source = source.parent  # it names the files that lie below its folder
    if source.is_file():
        if not image_suffix(source) and not is_dicom_file(source):
            raise PredictionError(f"{source.name} is not in a known format; expected {SHOWN_FORMATS}. Convert it.")
        return [PredictionInput(case_name(source) if image_suffix(source) else dicom_case_name(source), (source,))]
    if not source.is_dir():
        raise PredictionError(f"Input {source} does not exist. Expected an image file or a folder of images.")
    inputs = _group_channels(list_images(source), num_channels) or [
        PredictionInput(name_series(source, path), (path,)) for path in find_series(source)
    ]
    if not inputs:
        raise PredictionError(f"Input folder {source} has no image; expected {SHOWN_FORMATS}. Check the path.")
    names = [item.name for item in inputs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PredictionError(
            f"Input folder {source.name} has two images named {repeated[0]}; both would get one output. Rename one."
        )
    return inputs


def _group_channels(images: Iterable[Path], num_channels: int) -> list[PredictionInput]:
    """One input per image, or per case whose files are named by channel."""
    alone, files_of = [], dict[str, dict[int, Path]]()
    for image in images:
        match = _CHANNEL_FILE.fullmatch(case_name(image))
        if num_channels > 1 and match:
            files_of.setdefault(match["case"], {})[int(match["channel"])] = image
        else:
            alone.append(PredictionInput(case_name(image), (image,)))
    for case, files in files_of.items():
        if set(files) != set(range(num_channels)):
            found = ", ".join(path.name for _, path in sorted(files.items()))
            raise PredictionError(
                f"Image {case} has the channel files {found}; the bundle expects {num_channels}, numbered "
                f"{case}_0000 to {case}_{num_channels - 1:04d}. Complete them."
            )
        alone.append(PredictionInput(case, tuple(path for _, path in sorted(files.items()))))
    return sorted(alone, key=lambda item: item.name)
