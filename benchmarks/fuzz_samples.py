"""Small intact files of every format that a dataset may have, for `fuzz_readers.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
import tifffile
from PIL import Image as PillowImage
from pydicom.dataset import Dataset, FileMetaDataset

VOLUME = np.random.default_rng(0).integers(0, 4, (9, 8, 7)).astype(np.int16)
AFFINE = np.diag([0.8, 1.0, 2.5, 1.0])
ROWS = np.random.default_rng(1).integers(0, 3, (13, 17)).astype(np.uint8)
COLOURS = np.stack([ROWS * 80, 255 - ROWS, ROWS], axis=-1)


@dataclass(frozen=True)
class Sample:
    """What is opened.

    Attributes:
        name: of the format.
        files: name and content of each; the first is damaged most of the time.
        opened: the name that is given to the reader; "." for the folder.
        is_dataset: it is the list of a dataset, and not an image.
    """

    name: str
    files: dict[str, bytes]
    opened: str
    is_dataset: bool = False


def build_samples(folder: Path) -> list[Sample]:
    """All samples; `folder` is for their making and is empty afterwards."""
    samples = []
    for name, write in (*_VOLUMES.items(), *_PICTURES.items(), *_TIFFS.items()):
        write(folder / name)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        others = [other for other in files if other != name]
        opened = name if name in files else others[0]
        samples.append(Sample(name, {opened: files[opened], **files}, opened))
        for path in folder.iterdir():
            path.unlink()
    slices = {f"{level}.dcm": _write_slice(folder / "slice", level) for level in range(3)}
    (folder / "slice").unlink()
    samples += [Sample("series", slices, "."), Sample("0.dcm", {"0.dcm": slices["0.dcm"]}, "0.dcm")]
    return samples + _build_lists()


def _nifti(kind: type = nib.Nifti1Image, array: np.ndarray = VOLUME) -> Callable[[Path], None]:
    return lambda path: nib.save(kind(array, AFFINE), path)


def _itk(compress: bool = False, vector: bool = False) -> Callable[[Path], None]:
    array = np.stack([VOLUME, VOLUME], axis=-1) if vector else VOLUME
    return lambda path: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=vector), str(path), compress)


def _picture(rows: np.ndarray, mode: str | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        picture = PillowImage.fromarray(rows)
        (picture.convert(mode) if mode else picture).save(path)

    return write


def _tiff(array: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})


_COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_VOLUMES: dict[str, Callable[[Path], None]] = {
    "plain.nii": _nifti(),
    "packed.nii.gz": _nifti(),
    "second.nii": _nifti(nib.Nifti2Image),
    "channels.nii.gz": _nifti(array=np.stack([VOLUME, VOLUME], axis=-1)[:, :, :, None]),
    "colours.nii": _nifti(array=np.zeros(VOLUME.shape, _COLOUR)),
    "real.nii": _nifti(array=(VOLUME * 0.99).astype(np.float32)),
    "pair.hdr": _nifti(nib.Nifti1Pair),
    "analyze.hdr": _nifti(nib.AnalyzeImage, VOLUME),
    "plain.nrrd": _itk(),
    "packed.nrrd": _itk(compress=True),
    "vector.nrrd": _itk(vector=True),
    "detached.nhdr": _itk(),
    "plain.mha": _itk(),
    "packed.mha": _itk(compress=True),
    "detached.mhd": _itk(),
}
_PICTURES: dict[str, Callable[[Path], None]] = {
    "grey.png": _picture(ROWS),
    "deep.png": _picture(ROWS.astype(np.uint16) * 200),
    "colours.png": _picture(COLOURS),
    "alpha.png": _picture(COLOURS, "RGBA"),
    "palette.png": _picture(ROWS, "P"),
    "bits.png": _picture(ROWS > 1),
    "grey.jpg": _picture(ROWS * 80),
    "colours.jpeg": _picture(COLOURS),
}
_TIFFS: dict[str, Callable[[Path], None]] = {
    "grey.tif": _tiff(ROWS),
    "deep.tif": _tiff(COLOURS.astype(np.uint16) * 200, photometric="rgb", compression="lzw", predictor=True),
    "deflate.tif": _tiff(COLOURS, photometric="rgb", compression="zlib"),
    "zstd.tif": _tiff(ROWS, compression="zstd"),
    "packbits.tif": _tiff(ROWS, compression="packbits"),
    "jpeg.tif": _tiff(COLOURS, photometric="rgb", compression="jpeg"),
    "tiles.tif": _tiff(np.tile(ROWS, (3, 3)), tile=(16, 16), compression="zlib"),
    "big.tif": _tiff(ROWS, bigtiff=True),
    "palette.tif": _tiff(ROWS, photometric="palette", colormap=np.zeros((3, 256), np.uint16)),
    "imagej.tif": _tiff(np.stack([ROWS] * 4), imagej=True, metadata={"axes": "ZYX"}),
    "hyperstack.tif": _tiff(np.zeros((2, 3, 13, 17), np.uint16), imagej=True, metadata={"axes": "ZCYX"}),
    "ome.tif": _tiff(np.stack([ROWS] * 4), ome=True, metadata={"axes": "CYX"}),
}


def _write_slice(path: Path, level: int) -> bytes:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = pydicom.uid.MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = f"1.2.3.{level + 1}"
    header.SeriesInstanceUID, header.StudyInstanceUID, header.Modality = "1.2.3", "1.2", "MR"
    header.InstanceNumber, header.Rows, header.Columns = level, *ROWS.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 2 * level], [1, 0, 0, 0, 1, 0]
    header.PixelSpacing, header.SliceThickness = [0.75, 0.5], 2.0
    header.PixelData = ROWS.astype("<u2").tobytes()
    header.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def _build_lists() -> list[Sample]:
    """The lists of a dataset of two cases in every layout that has one."""
    names = ("a", "b")
    images = {f"{folder}/{name}.nii.gz": b"" for name in names for folder in ("imagesTr", "labelsTr")}
    channels = {f"imagesTr/{name}_0000.nii.gz": b"" for name in names}
    entries = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    labels = {"0": "background", "1": "organ"}
    decathlon = {"name": "x", "modality": {"0": "MRI"}, "labels": labels, "numTraining": 2, "training": entries}
    raw = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "organ": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    lines = ["case,image,label,patient,split,spacing_mm,age"]
    lines += [f"{name},imagesTr/{name}.nii.gz,labelsTr/{name}.nii.gz,p{name},,1.0,40" for name in names]
    table = [{"case": name, **entry} for name, entry in zip(names, entries, strict=True)]
    lists = {
        "dataset.json": (json.dumps(decathlon).encode(), images),
        "dataset.json of nnU-Net": (json.dumps(raw).encode(), images | channels),
        "cases.csv": ("\n".join(lines).encode(), images),
        "cases.json": (json.dumps(table).encode(), images),
    }
    return [
        Sample(name, {name.split()[0]: content, **files}, ".", is_dataset=True)
        for name, (content, files) in lists.items()
    ]
