"""The dataset manifest of a bundle: which files it was planned from, read again, and whether they are still what they were."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.dataset.listing_facts import CaseEntry, FileEntry, Listing, Sha256
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256
from unet_pipeline.progress import LARGE_BYTES, progress_bar

CHANGED, GONE, NEW = "changed", "is gone", "is new"
_RECENT_NS = 3_000_000_000  # a file that was changed so lately may change again without another time stamp


class CopyEntry(BaseModel):
    """Copies of a case that stock MONAI reads, with their paths from the folder of the copies."""

    case: str
    image: str
    image_sha256: Sha256
    label: str
    label_sha256: Sha256
    instances: str | None = None
    instances_sha256: Sha256 | None = None


class Manifest(BaseModel):
    """Contents of dataset_manifest.json; `listing` is None, and cases have files only, in one that was written before they were kept."""

    dataset_name: str
    layout: str
    num_cases: int
    reading: dict[str, object]
    cases: Annotated[dict[str, CaseEntry], Field(min_length=1)]
    files: Annotated[list[FileEntry], Field(min_length=1)]
    prepared: list[CopyEntry] = []
    listing: Listing | None = None

    def find_cases(self) -> dict[str, str]:
        """Case of each file; files that no case names, such as voxels beside their header, have the case of their header's folder or none."""
        owners = {
            path: name
            for name, case in self.cases.items()
            for path in (*case.image, *([case.label] if case.label else []))
        }
        case_of = {}
        for entry in self.files:
            parents = (str(parent) for parent in PurePosixPath(entry.path).parents)
            case_of[entry.path] = owners.get(entry.path) or next(
                (owners[path] for path in parents if path in owners), ""
            )
        return case_of


def read_manifest(path: Path, bundle: str) -> Manifest:
    """The manifest, once it is sure to name every file of every case.

    Args:
        path: of dataset_manifest.json.
        bundle: name, for the message.

    Raises:
        BundleError: it is missing, empty or damaged, or lacks the files of a case.
    """
    try:
        manifest = Manifest.model_validate_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        raise _refuse(path, bundle, f"{place}: {first['msg']}" if place else first["msg"]) from error
    except OSError as error:
        raise _refuse(path, bundle, error.strerror or "it cannot be read") from error
    recorded = {entry.path for entry in manifest.files}
    folders = {str(parent) for recorded_path in recorded for parent in PurePosixPath(recorded_path).parents}
    for name, case in manifest.cases.items():
        for file in (*case.image, *([case.label] if case.label else [])):
            if file not in recorded and file not in folders:
                raise _refuse(path, bundle, f"it has no SHA-256 of {file}, a file of case {name}")
    copied = {copy.case for copy in manifest.prepared}
    if copied and (missing := sorted(manifest.cases.keys() - copied)):
        raise _refuse(path, bundle, f"it has no copy of case {missing[0]}")
    return manifest


def _refuse(path: Path, bundle: str, cause: str) -> BundleError:
    return BundleError(
        f"evidence/{path.name} of {bundle} is missing, empty or damaged: {' '.join(cause.split())[:200]}. It says on which files the bundle "
        "was planned. Get it from a copy of the bundle, or plan again with `unet-pipeline plan DATASET NEW_BUNDLE`."
    )


# are they still what they were?


Stamp = tuple[int, int, int, int]


def read_stamp(path: Path) -> Stamp:
    """Size, times of the last change of content and of the inode in ns, and the inode: equal ones mean an equal file.

    The latter two tell a copy at another place, and a file whose time was set back, from the file that was seen.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_at_rest(stamp: Stamp) -> bool:
    """Whether a file was left alone for long enough that its next change gets another stamp."""
    return time.time_ns() - max(stamp[1], stamp[2]) > _RECENT_NS


@dataclass(frozen=True)
class Difference:
    """A file that is not what it was.

    Attributes:
        path: from the root.
        case: whose file it is; empty if that is not known.
        kind: CHANGED, GONE or NEW.
    """

    path: str
    case: str
    kind: str

    def __str__(self) -> str:
        of_case = f" of case {self.case}" if self.case else ""
        return f"{self.path}{of_case}" + ("" if self.kind == CHANGED else f" {self.kind}")


def find_differences(
    root: Path,
    expected: Mapping[str, tuple[int | None, str]],
    cases: Mapping[str, str],
    stamps: dict[str, Stamp],
) -> list[Difference]:
    """Files whose content is another one, or that are gone. Only files of another stamp are read.

    Args:
        root: of the paths.
        expected: number of bytes, where it is known, and SHA-256 of each file.
        stamps: of files that had the expected content when they were seen; those that have it now are added.
    """
    differences: list[Difference] = []
    unseen = []
    for path in expected:
        file = root / path
        if not file.is_file():
            differences.append(Difference(path, cases.get(path, ""), GONE))
        elif stamps.get(path) != read_stamp(file):
            unseen.append(path)
    num_bytes_unseen = sum((root / path).stat().st_size for path in unseen)
    with progress_bar("compare files", len(unseen), num_bytes_unseen > LARGE_BYTES) as bar:
        for path in unseen:
            num_bytes, sha256 = expected[path]
            stamp = read_stamp(root / path)
            stamps.pop(path, None)
            if (num_bytes is not None and stamp[0] != num_bytes) or compute_sha256(root / path) != sha256:
                differences.append(Difference(path, cases.get(path, ""), CHANGED))
            elif is_at_rest(stamp):
                stamps[path] = stamp
            bar.advance(note=path)
    return sorted(differences, key=lambda difference: difference.path)


def find_new_slices(root: Path, manifest: Manifest) -> Iterator[Difference]:
    """Files that came into the folder of a DICOM series."""
    known = {entry.path for entry in manifest.files}
    for name, case in manifest.cases.items():
        for image in case.image:
            if (root / image).is_dir():
                for file in list_image_files(root / image):
                    path = Path(os.path.relpath(file, root)).as_posix()
                    if path not in known:
                        yield Difference(path, name, NEW)
