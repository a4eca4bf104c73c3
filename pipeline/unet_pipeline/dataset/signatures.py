"""What a file holds by its first bytes, for messages about a name that says something else."""

from __future__ import annotations

from unet_pipeline.messages import ERROR, Message

GZIP = b"\x1f\x8b"
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"\0\0\0\x0cjP": "JPEG 2000",
    GZIP: "gzip",
    b"%PDF": "PDF",
    b"PK": "ZIP",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x89HDF": "HDF5",
    b"CDF": "MINC (netCDF)",
    b"NRRD000": "NRRD",
    b"ObjectType": "MetaImage",
    b"NDims": "MetaImage",
    b"\x93NUMPY": "NumPy",
    b"#?RADIANCE": "Radiance HDR",
    b"ENVI": "ENVI",
    b"version https://git-lfs": "Git LFS pointer",
    b"/annex/objects": "git-annex pointer",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"{": "JSON",
}
_START_BYTES = 132
WEB_PAGE = Message(
    "web-page",
    ERROR,
    "holds a web page (HTML), as of a download that failed, and not the image",
    "Download the file again.",
)


def name_content(start: bytes) -> str:
    """Name of the format that a file's first bytes belong to, such as "PNG"; "" for none that is known.

    Args:
        start: at least 132 bytes, or all of a shorter file.
    """
    if start[128:_START_BYTES] == b"DICM":
        return "DICOM"
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), "")


def refuse_web_page(content: str, shown: str) -> None:
    """Whether a file is what it is named as, and not what a server sent in its place.

    Args:
        content: from `name_content`.

    Raises:
        ImageFileError: it is a web page.
    """
    if content == "HTML":
        raise WEB_PAGE.error(shown)
