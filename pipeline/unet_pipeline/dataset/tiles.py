"""Tile: a case as it is looked at, one slice of its image and of its mask in a bounded size, with what its files told."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.intensities import flatten_in_memory_order
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.radiological import turn_radiological, turn_spacing
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import ERROR, SEVERITIES, Problem, show_shape

LEAST_PIXELS, MOST_PIXELS = 160, 480
_PIXELS_OF_ALL = 24_000_000  # of the pictures of all cases together, up to 1,000 cases
_MAX_DRAWN_VALUES = 64  # of a slice; one with more is no label map and is drawn by its brightness
_NUM_SAMPLES = 512
_JPEG_QUALITY = 85

EMPTY_MASK, NO_MASK, MASK_UNREADABLE = "mask is empty", "no mask", "mask cannot be read"
NO_IMAGE, IMAGE_UNREADABLE = "no image", "image cannot be read"


def choose_tile_pixels(num_cases: int) -> int:
    """Longer side of each case's picture: from 480 pixels for 100 cases or fewer to 160 for 1,000 or more."""
    return round(min(max(math.sqrt(_PIXELS_OF_ALL / max(num_cases, 1)), LEAST_PIXELS), MOST_PIXELS))


@dataclass(frozen=True)
class Tile:
    """A case, or a file that is of none.

    Attributes:
        title: name of the case, or the file.
        files: as messages name them.
        size: (width, height) of the picture in pixels.
        picture: JPEG; empty where there is no image that can be read.
        mask: PNG of the picture's size: 0 is background, n the n-th of `values`, or brightness where `values` is empty. Empty without mask.
        marks: what is missing or empty, in words.
        shape, spacing_mm, voxels_by_value: as in `CaseFindings`, of the image even where the case cannot be used.
        samples: intensities of the first channel, evenly spread over the image; finite, float32.
        split: "train", "validation" or "test" where the dataset says so.
    """

    title: str
    files: tuple[str, ...]
    size: tuple[int, int] = (LEAST_PIXELS, LEAST_PIXELS)
    picture: bytes = b""
    mask: bytes = b""
    values: tuple[int, ...] = ()
    marks: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    voxels_by_value: dict[int, int] = field(default_factory=dict)
    samples: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    split: str = ""

    def is_about(self, problem: Problem) -> bool:
        """Whether a problem is one of this case: of its name, of a file of it, or of a file in its folder of slices."""
        file = problem.file.partition("!")[0]
        return file == self.title or any(file == own or file.startswith(f"{own}/") for own in self.files)

    def read_picture(self) -> np.ndarray:
        """Shape (rows, columns, 3), uint8; black without image."""
        if not self.picture:
            return np.zeros((self.size[1], self.size[0], 3), np.uint8)
        return np.array(PillowImage.open(io.BytesIO(self.picture)).convert("RGB"))

    def read_mask(self) -> np.ndarray:
        """Shape (rows, columns), uint8, as `mask` has it; zeros without mask."""
        if not self.mask:
            return np.zeros((self.size[1], self.size[0]), np.uint8)
        return np.array(PillowImage.open(io.BytesIO(self.mask)))


def make_tile(
    case: Case,
    image: MedicalImage | None,
    mask: MedicalImage | None,
    marks: tuple[str, ...] = (),
    voxels_by_value: dict[int, int] | None = None,
    most_pixels: int = MOST_PIXELS,
) -> Tile:
    """The slice with most foreground, grey values from the 1st to the 99th percentile.

    Args:
        case: whose name, files and split it gets.
        image: 2D or 3D; three channels are shown as colours, otherwise the first channel counts. None: the mask alone is shown.
        mask: as its file has it; one of another shape than the image's is stretched over it, and marked so. None shows the middle slice.
        marks: what is missing.
        voxels_by_value: of the label map.
        most_pixels: longer side of the picture.
    """
    files = tuple(dict.fromkeys(path.as_posix() for path in (*case.files, *filter(None, [case.label]))))
    tile = Tile(case.name, files, marks=marks, voxels_by_value=voxels_by_value or {}, split=case.split or "")
    if image is not None:
        tile = replace(tile, shape=image.spatial_shape, spacing_mm=image.spacing_mm, samples=_sample(image))
    if image is not None and mask is not None and mask.spatial_shape != image.spatial_shape:
        shapes = f"mask of {show_shape(mask.spatial_shape)}", f"image of {show_shape(image.spatial_shape)}"
        tile = replace(tile, marks=(*marks, " stretched over ".join(shapes)))
        if len(mask.spatial_shape) != len(image.spatial_shape):
            tile, mask = replace(tile, marks=(*marks, " beside ".join(shapes))), None
    drawn = image or mask
    if drawn is None:
        return tile
    shown, mask_rows, pixel_mm = pick_slice(drawn, mask)
    size = _fit(shown.shape[:2], pixel_mm, most_pixels)
    if image is not None:
        tile = replace(tile, picture=_encode_picture(_to_grey_levels(shown), size))
    if mask_rows is not None:
        indices, values = _index_values(_resize_nearest(mask_rows, size))
        tile = replace(tile, mask=_encode(PillowImage.fromarray(indices), "PNG"), values=values)
    return replace(tile, size=size)


def order_tiles(tiles: Sequence[Tile], problems: Sequence[Problem]) -> tuple[Tile, ...]:
    """Tiles by their worst problem; the problems come worst first."""
    named: dict[str, int] = {}  # severity by every name that a message may give its case
    for problem in problems:
        for name in (place := Path(problem.file.partition("!")[0]), *place.parents):
            named.setdefault(name.as_posix(), SEVERITIES.index(problem.severity))

    def badness(tile: Tile) -> int:
        return min(named.get(name, len(SEVERITIES)) for name in (tile.title, *tile.files))

    return tuple(sorted(tiles, key=badness))


def draw_lone_files(dataset: Dataset, most_pixels: int, options: ReadOptions) -> list[Tile]:
    """Tiles of images without a label map and of label maps without an image, which are no cases."""
    tiles = []
    for problem in dataset.problems_of_layout:
        lacks_image = "no-image" in problem.code
        if problem.severity != ERROR or not (lacks_image or "no-label" in problem.code) or problem.file == "dataset":
            continue
        path = Path(problem.file)
        try:
            read = read_image(dataset.root / path, problem.file, options.pages_as_slices)
        except ImageFileError:
            read = None
        image, mask, mark = (None, read, NO_IMAGE) if lacks_image else (read, None, NO_MASK)
        tiles.append(make_tile(Case(problem.file, path, None), image, mask, (mark,), most_pixels=most_pixels))
    return tiles


def _sample(image: MedicalImage) -> np.ndarray:
    voxels = flatten_in_memory_order(image.array[0])
    samples = voxels[:: max(1, math.ceil(voxels.size / _NUM_SAMPLES))].astype(np.float32)
    return samples[np.isfinite(samples)]


def _fit(shape: tuple[int, ...], pixel_mm: tuple[float, float], most_pixels: int) -> tuple[int, int]:
    """Width and height in which the longer side has `most_pixels` and the picture the proportions of the body."""
    height, width = shape[0] * pixel_mm[0], shape[1] * pixel_mm[1]
    scale = most_pixels / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _encode_picture(rows: np.ndarray, size: tuple[int, int]) -> bytes:
    picture = PillowImage.fromarray(rows).resize(size)
    return _encode(picture, "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def _encode(picture: PillowImage.Image, form: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def _index_values(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A mask as indices of its values from 1 on, and the values; brightness and no values where it is no label map."""
    finite = np.nan_to_num(mask, nan=0, posinf=0, neginf=0)
    values = np.unique(finite)
    if len(values) > _MAX_DRAWN_VALUES or not np.array_equal(values, np.round(values)):
        return (np.abs(finite) * (255 / np.abs(finite).max())).astype(np.uint8), ()
    values = values[values != 0]
    indices = np.where(finite == 0, 0, np.searchsorted(values, finite) + 1)
    return indices.astype(np.uint8), tuple(int(value) for value in values)


def pick_slice(
    image: MedicalImage, label: MedicalImage | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float]]:
    """A 2D view as it is shown: pictures upright; volumes axial in radiological orientation (patient's right on the left).

    Args:
        image: 2D or 3D.
        label: of as many axes; of another shape, the level of the image is at the same share of its height.

    Returns:
        Pixels of shape (rows, columns) or (rows, columns, 3); labels of shape (rows, columns); height and width of a pixel.
    """
    colours = image.array.shape[0] == 3
    if len(image.spatial_shape) == 2:
        rows = image.array.transpose(2, 1, 0) if colours else image.array[0].T
        labels = None if label is None else label.array[0].T
        return rows, labels, (image.spacing_mm[1], image.spacing_mm[0])
    voxels, spacing_mm = _turn_to_axial(image)
    labels = None if label is None else _turn_to_axial(label)[0]
    level = voxels.shape[2] // 2
    shown = None
    if labels is not None:
        level_of_labels = labels.shape[2] // 2
        if labels.any():
            level_of_labels = int(np.count_nonzero(labels, axis=(0, 1)).argmax())
        level = int((level_of_labels + 0.5) * voxels.shape[2] / labels.shape[2])
        shown = labels[:, :, level_of_labels].T
    return voxels[:, :, level].T, shown, (spacing_mm[1], spacing_mm[0])


def _turn_to_axial(image: MedicalImage) -> tuple[np.ndarray, tuple[float, ...]]:
    """Voxels and spacing with axes to left, posterior, superior: columns run to the patient's left, rows to the back."""
    return turn_radiological(image.array[0], image.affine), turn_spacing(image.spacing_mm, image.affine)


def _to_grey_levels(rows: np.ndarray) -> np.ndarray:
    """Values to 0 to 255, from the 1st to the 99th percentile of what is finite."""
    if rows.ndim == 3 and rows.dtype == np.uint8:
        return np.ascontiguousarray(rows)
    values = rows.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    scaled = (values - low) / max(high - low, 1e-6)
    return (np.nan_to_num(scaled, nan=0, posinf=1, neginf=0).clip(0, 1) * 255).astype(np.uint8)


def _resize_nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = np.minimum((np.arange(size[1]) + 0.5) * mask.shape[0] / size[1], mask.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(size[0]) + 0.5) * mask.shape[1] / size[0], mask.shape[1] - 1).astype(int)
    return mask[np.ix_(rows, columns)]
