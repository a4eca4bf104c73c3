"""What a bundle's evidence holds about its quality: files of numbers, each with a version."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.text_files import read_model

Model = TypeVar("Model", bound=BaseModel)


def read_sealed(folder: BundleFolder, file: str, kind: type[Model], version: int, verb: str) -> Model | None:
    """A file of the evidence; None where the bundle has none.

    Args:
        folder: the bundle.
        file: name in evidence/.
        kind: of the record, with a field `version`.
        version: that is read.
        verb: that makes the file.

    Raises:
        BundleError: the file is damaged, or of another version.
    """
    path = folder.evidence / file
    if not path.is_file():
        return None
    shown = f"evidence/{file} of {folder.name}"
    remedy = f"Remove it, and make it again with `unet-pipeline {verb} BUNDLE`."
    record = read_model(path, kind, BundleError, shown, remedy)
    if (found := getattr(record, "version", None)) != version:
        raise BundleError(f"{shown} is of version {found}; expected {version}. {remedy}")
    return record
