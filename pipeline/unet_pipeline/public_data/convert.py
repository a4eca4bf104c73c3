"""Published archives of pictures turned into layouts that `check` reads; each function writes a data set from an unpacked folder."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from unet_pipeline.boundary import describe_failure
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json
from unet_pipeline.public_data.card import PublicSet

LUNG_SIZE = (512, 512)  # width and height of the set that the lung bundle is trained on
# mean over the pixels of the largest minus the smallest of red, green and blue: 0 in grey images, at least 24 in the stained ones known
COLOUR_MIN_CHROMA = 10.0
# grey images with a dark background are fluorescence (median at most 41 of 255 in the known ones), with a bright one unstained tissue
DARK_MAX_MEDIAN = 100.0
_STAINS = {"nuclei_fluorescence": "fluorescence", "nuclei_histology": "stained"}
DAMAGED = "Remove the archive (in NAME_download, or the folder of --downloads) and run the same command again."
_NAME_CHARS = 12  # of the 64 of an image's name, as the sets of this project have them


def convert(card: PublicSet, unpacked: Path, out: Path) -> int:
    """Write the data set of a card.

    Args:
        card: names the conversion.
        unpacked: folder with the content of its archives, and its other files.
        out: folder that is made.

    Returns:
        Number of labelled images in the archive, which may be more than cases written where the set is a part of it.

    Raises:
        DatasetError: a file is missing, damaged, or not of the expected form.
    """
    return _CONVERSIONS[card.conversion](card, unpacked, out)


def keep_decathlon(card: PublicSet, unpacked: Path, out: Path) -> int:
    """The folder of the archive as it is; every file that its dataset.json lists must be there."""
    _find_one(unpacked, "dataset.json").parent.rename(out)
    dataset = read_dataset(out)
    for case in dataset.cases:
        for file in (*case.images, case.require_label()):
            if not (out / file).is_file():
                raise DatasetError(f"{card.name}: {file} is listed in dataset.json and not in the archive. {DAMAGED}")
    return len(dataset.cases)


def convert_em_stacks(card: PublicSet, unpacked: Path, out: Path) -> int:
    """train-volume.tif and train-labels.tif, a page per section, become slice_00.png and on."""
    volume, labels = (_read_stack(_find_one(unpacked, f"train-{name}.tif")) for name in ("volume", "labels"))
    if volume.shape != labels.shape or not set(np.unique(labels)) <= set(card.labels.values()):
        raise DatasetError(
            f"train-labels.tif has shape {labels.shape} and values {np.unique(labels)[:5].tolist()}; expected the shape {volume.shape} of "
            f"train-volume.tif and the values {sorted(card.labels.values())}. {DAMAGED}"
        )
    for number, (image, label) in enumerate(zip(volume, labels, strict=True)):
        _write_pair(out, f"slice_{number:02d}", image, label)
    return len(volume)


def convert_head_outlines(card: PublicSet, unpacked: Path, out: Path) -> int:
    """NAME.png and its outline NAME_Annotation.png become images, filled masks and cases.csv; the examination is the patient."""
    columns = ("filename", "pixel size(mm)", "head circumference (mm)")
    table = next((file for file in unpacked.rglob("training_set*.csv")), None)
    if table is None:
        raise DatasetError(f"The archives of {card.name} have no training_set*.csv; expected one. {DAMAGED}")
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not set(columns) <= rows[0].keys():
        raise DatasetError(f"{table.name} has the columns {list(rows[0]) if rows else []}; expected {list(columns)}.")
    images = {file.name: file for file in unpacked.rglob("*.png")}
    lines = []
    for name, spacing_mm, circumference_mm in ([row[column] for column in columns] for row in rows):
        case = Path(name).stem
        outline = f"{case}_Annotation.png"
        for file in (name, outline):
            if file not in images:
                raise DatasetError(f"{file} is missing in the archive, although {table.name} has {name}. {DAMAGED}")
        label = _fill_outline(_read_grey(images[outline]) > 0, outline)
        _write_pair(out, case, _read_grey(images[name]), label * np.uint8(card.labels["head"]))
        patient = case.partition("_")[0]
        lines.append([case, f"images/{case}.png", f"labels/{case}.png", patient, spacing_mm, circumference_mm])
    with (out / "cases.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "image", "label", "patient", "spacing_mm", "head_circumference_mm"])
        writer.writerows(lines)
    return len(rows)


def convert_lung_masks(card: PublicSet, unpacked: Path, out: Path) -> int:
    """Images and the masks of left and right lung become nnU-Net's layout with one label, at `LUNG_SIZE`, as the lung bundle's data are."""
    masks = {side: {file.name: file for file in unpacked.rglob(f"{side}Mask/*.png")} for side in ("left", "right")}
    images = sorted(unpacked.rglob("CXR_png/*.png"))
    for folder in ("imagesTr", "labelsTr"):
        (out / folder).mkdir(parents=True)
    for file in images:
        missing = [side for side, files in masks.items() if file.name not in files]
        if missing:
            raise DatasetError(f"{file.name} has no mask of the {missing[0]} lung in the archive. {DAMAGED}")
        image, left, right = (_read_grey(path) for path in (file, *(masks[side][file.name] for side in masks)))
        if not image.shape == left.shape == right.shape:
            raise DatasetError(
                f"{file.name}: image and masks have the sizes {image.shape}, {left.shape} and {right.shape}; expected the same. {DAMAGED}"
            )
        small = Image.fromarray(image.astype(np.float32)).resize(LUNG_SIZE, Image.Resampling.BOX)
        Image.fromarray(np.rint(np.asarray(small)).astype(image.dtype)).save(out / "imagesTr" / f"{file.stem}_0000.png")
        lungs = Image.fromarray(((left > 0) | (right > 0)).astype(np.uint8) * np.uint8(card.labels["lung"]))
        lungs.resize(LUNG_SIZE, Image.Resampling.NEAREST).save(out / "labelsTr" / file.name)
    facts: dict[str, object] = {"channel_names": {"0": "xray"}, "labels": card.labels, "numTraining": len(images)}
    write_json(
        out / "dataset.json",
        {**facts, "file_ending": ".png", "licence": card.licence, "reference": "; ".join(card.citation)},
    )
    return len(images)


def convert_nuclei(card: PublicSet, unpacked: Path, out: Path) -> int:
    """A folder per image with a mask per nucleus becomes images, label maps and instance maps of the card's type of image."""
    folders = sorted({file.parent.parent for file in unpacked.rglob("*/images/*.png")})
    short = {folder.name[:_NAME_CHARS] for folder in folders}
    num_chars = _NAME_CHARS if len(short) == len(folders) else None
    (out / "instances").mkdir(parents=True)
    for folder in folders:
        image = _read_colour(_find_one(folder / "images", "*.png"))
        kind = classify_stain(image)
        if kind != _STAINS[card.conversion]:
            continue
        instances = _join_masks(sorted((folder / "masks").glob("*.png")), image.shape[:2], folder.name)
        name = folder.name[:num_chars]
        pixels = image if kind == "stained" else image[..., 0]
        _write_pair(out, name, pixels, (instances > 0) * np.uint8(card.labels["nucleus"]))
        Image.fromarray(instances).save(out / "instances" / f"{name}.png")
    return len(folders)


def classify_stain(image: np.ndarray) -> str:
    """Type of a microscopic image by its colours: "stained", "fluorescence", or "unstained" for a grey one on a bright background.

    Args:
        image: red, green and blue along the last axis, 0 to 255.
    """
    values = image.astype(np.float32)
    if float((values.max(-1) - values.min(-1)).mean()) >= COLOUR_MIN_CHROMA:
        return "stained"
    return "fluorescence" if float(np.median(values)) <= DARK_MAX_MEDIAN else "unstained"


def _join_masks(files: list[Path], shape: tuple[int, ...], case: str) -> np.ndarray:
    """One number per mask, from 1, in the order of the names; of two that overlap the later one."""
    if not files:
        raise DatasetError(f"{case} has no mask in the archive; expected one per nucleus. {DAMAGED}")
    instances = np.zeros(shape, np.uint16)
    for number, file in enumerate(files, start=1):
        mask = _read_grey(file)
        if mask.shape != shape:
            raise DatasetError(
                f"{case}/masks/{file.name} has the size {mask.shape}; expected that of its image, {shape}. {DAMAGED}"
            )
        instances[mask > 0] = number
    return instances


def _fill_outline(outline: np.ndarray, name: str) -> np.ndarray:
    """The outline and what lies inside of it: the part of the rest that has the outline's centre, also where the image's border cuts it."""
    parts, num_parts = ndimage.label(~outline)
    rows, columns = np.nonzero(outline)
    centre = (round(rows.mean()), round(columns.mean())) if rows.size else (0, 0)
    inside = parts == parts[centre]
    if num_parts < 2 or not parts[centre]:
        raise DatasetError(f"{name} has no closed outline of a head; expected one. {DAMAGED}")
    return np.asarray(outline | inside)


def _find_one(folder: Path, pattern: str) -> Path:
    files = sorted(folder.rglob(pattern))
    if len(files) != 1:
        raise DatasetError(f"{len(files)} files {pattern} in {folder.name} of the archive; expected one. {DAMAGED}")
    return files[0]


def _read_stack(path: Path) -> np.ndarray:
    try:
        stack = tifffile.imread(path)
    except Exception as error:  # a damaged file fails in many ways
        describe_failure(error)
        raise DatasetError(f"{path.name} cannot be read. {DAMAGED}") from error
    if stack.ndim != 3 or stack.dtype != np.uint8:
        raise DatasetError(
            f"{path.name} has shape {stack.shape} of {stack.dtype}; expected sections, rows and columns of uint8. {DAMAGED}"
        )
    return np.asarray(stack)


def _open_picture(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except Exception as error:  # a damaged file fails in many ways, and a library names it by its whole path
        describe_failure(error)
        raise DatasetError(f"{path.parent.name}/{path.name} cannot be decoded. {DAMAGED}") from error
    return picture


def _read_grey(path: Path) -> np.ndarray:
    """Rows and columns, of 8 or 16 bit as stored; colours become grey."""
    picture = _open_picture(path)
    return np.asarray(picture if picture.mode == "I;16" else picture.convert("L"))


def _read_colour(path: Path) -> np.ndarray:
    return np.asarray(_open_picture(path).convert("RGB"))


def _write_pair(out: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    for folder, pixels in (("images", image), ("labels", label)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(out / folder / f"{name}.png")


_CONVERSIONS: dict[str, Callable[[PublicSet, Path, Path], int]] = {
    "decathlon": keep_decathlon,
    "em_stacks": convert_em_stacks,
    "head_outlines": convert_head_outlines,
    "lung_masks": convert_lung_masks,
    "nuclei_fluorescence": convert_nuclei,
    "nuclei_histology": convert_nuclei,
}
