"""What `check --fix` changed, file by file, and what it could not: the contents of fixes.json in the corrected copy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.dataset.report import ProblemRecord
from unet_pipeline.files import write_json

FIXES_FILE = "fixes.json"
_CHUNK_BYTES = 1 << 20


class Change(BaseModel):
    """One thing that is other in the copy than in the source.

    Attributes:
        file: of the source, relative to it; "dataset" for what concerns all cases.
        kind: such as "mask-thresholded"; one of `KINDS`.
        wrong: what was wrong.
        done: what was done.
        before, after: the values: those of a label map, an affine, a shape, or a label table.
        source_sha256: of the file; of an image in several files, of their bytes one after the other; empty for no file.
        result: the file in the copy; empty where there is none.
        result_sha256: of it.
    """

    file: str
    kind: str
    wrong: str
    done: str
    before: Any = None
    after: Any = None
    source_sha256: str = ""
    result: str = ""
    result_sha256: str = ""


class Remaining(ProblemRecord):
    """An error that is still there in the copy; `reason` says why it was not mended, where that was tried."""

    reason: str = ""


class FixRecord(BaseModel):
    """Contents of fixes.json.

    Attributes:
        source: name of the source's folder.
        options: what the user said about reading and naming.
        changes: in the order of the cases. What is not in it was copied byte for byte.
        not_fixed: errors of the copy, with what to do about each.
        left_out: files of the source that are not in the copy: links that lead out of it, and what cannot be read as a file.
    """

    source: str
    options: dict[str, object]
    changes: list[Change]
    not_fixed: list[Remaining]
    left_out: list[str]


KINDS = {
    "mask-thresholded": "thresholded to two values",
    "values-rounded": "values rounded to whole numbers",
    "header-copied": "the image's header taken",
    "label-placed": "put on the image's grid",
    "label-resampled": "resampled to the image's grid",
    "image-grey": "grey saved as colours made grey",
    "pages-as-slices": "pages written as slices of a volume",
    "labels-named": "label names given",
    "patients-named": "patients given",
    "channels-named": "channels named anew",
    "list-written": "lists written",
    "excluded": "left out as listed with --exclude",
}


def write_record(folder: Path, record: FixRecord) -> None:
    """Write fixes.json into `folder`."""
    write_json(folder / FIXES_FILE, record.model_dump(mode="json"))


def hash_source(path: Path) -> str:
    """SHA-256 of an image: of its file, or of all its files one after the other; empty if one is not there or cannot be read."""
    files = list_image_files(path)
    digest = hashlib.sha256()
    try:
        for file in files:
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest() if files else ""
