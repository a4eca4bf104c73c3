"""The table of file formats: everything that the package knows of a format and that is not in its reader.

`image.py` has the reader of each. DICOM is no row: its files are told by their content and may have any name.
"""

from __future__ import annotations

from dataclasses import dataclass

PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")  # NIfTI or Analyze in two files


@dataclass(frozen=True, kw_only=True)
class Format:
    """A row.

    Attributes:
        suffixes: in small letters, with their dot; they choose the reader.
        stock_suffixes: those of them that MONAI reads with the packages that it needs anyway. `plan` copies files of the others.
        is_picture: has no place in the world and counts in pixels; a reader of `picture_file.py` decodes it.
        shown: in messages about readable formats; the name, if not given.
    """

    suffixes: tuple[str, ...]
    stock_suffixes: tuple[str, ...] = ()
    is_picture: bool = False
    shown: str = ""


FORMATS = {
    "NIfTI": Format(
        suffixes=(".nii.gz", ".nii", *PAIR_SUFFIXES),
        stock_suffixes=(".nii.gz", ".nii"),
        shown="NIfTI (.nii, .nii.gz, .hdr with .img)",
    ),
    "NRRD": Format(suffixes=(".nrrd", ".nhdr")),
    "MetaImage": Format(suffixes=(".mha", ".mhd"), shown="MHA/MHD"),
    "PNG": Format(suffixes=(".png",), stock_suffixes=(".png",), is_picture=True),
    "TIFF": Format(suffixes=(".tif", ".tiff"), is_picture=True),
    "JPEG": Format(suffixes=(".jpg", ".jpeg"), stock_suffixes=(".jpg", ".jpeg"), is_picture=True),
}

FORMAT_OF = {suffix: name for name, row in FORMATS.items() for suffix in row.suffixes}
IMAGE_SUFFIXES = tuple(FORMAT_OF)
STOCK_SUFFIXES = tuple(suffix for row in FORMATS.values() for suffix in row.stock_suffixes)
PICTURE_SUFFIXES = tuple(suffix for row in FORMATS.values() if row.is_picture for suffix in row.suffixes)
SHOWN_FORMATS = ", ".join(row.shown or name for name, row in FORMATS.items()) + ", or a folder with one DICOM series"
