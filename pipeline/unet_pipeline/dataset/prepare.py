"""Copies of images and label maps in the formats that stock MONAI reads: NIfTI, and PNG for pictures.

A training must run from the bundle's config alone, and every file in between is of one kind. What MONAI cannot read, or
reads otherwise than `check` does, is therefore written once; the user's files stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.case_reading import read_case_grid, read_case_image, read_case_instances, read_case_label
from unet_pipeline.dataset.dataset import Case, Dataset, is_picture
from unet_pipeline.dataset.instance_maps import INSTANCES
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.missing_channels import zero_constant
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.pages import read_pages
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256, stage_folder, write_json
from unet_pipeline.progress import progress_bar
from unet_pipeline.text_files import read_json_object

if TYPE_CHECKING:
    from unet_pipeline.dataset.check import CheckReport

COPIES_RECORD, LABELS = "copies.json", "labels"


@dataclass(frozen=True)
class PreparedCase:
    """Where the copies of a case lie, relative to the prepared folder, and their SHA-256."""

    case: str
    image: str
    image_sha256: str
    label: str
    label_sha256: str
    instances: str | None = None
    instances_sha256: str | None = None


def prepare_dataset(report: CheckReport, target: Path) -> tuple[Dataset, tuple[PreparedCase, ...]]:
    """Write copies of all cases, with their instance maps, below `target`, whole or not at all.

    Args:
        report: of a dataset without errors.
        target: does not exist yet, or is empty.

    Returns:
        The dataset of the copies, and what was written.

    Raises:
        DatasetError: `target` has files, or an image has a form that no copy can have.
    """
    fingerprint = report.require_no_errors()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DatasetError(
            f"{target.name} exists already; `plan` wants to write readable copies of {report.dataset.name} there. "
            "Remove it, or choose another name for the bundle."
        )
    cases, prepared = [], []
    with stage_folder(target.parent) as staging:
        with progress_bar("prepare", len(report.dataset.cases)) as bar:
            for case in report.dataset.cases:
                copy = _copy_case(report, case, staging, fingerprint.suffix)
                cases.append(
                    replace(
                        case,
                        image=Path(copy.image),
                        label=Path(copy.label),
                        further_channels=(),
                        missing_channels=(),
                        masks=None,
                        values=None,
                        combinations=None,
                    )
                )
                prepared.append(copy)
                bar.advance(note=case.name)
        write_json(staging / COPIES_RECORD, _describe_copies(report, target, prepared))
        staging.chmod(0o755)  # mkdtemp makes it private
        if target.exists():
            target.rmdir()
        staging.replace(target)
    dataset = replace(report.dataset, root=target, cases=tuple(cases), lists=(), given_list=None)
    return dataset, tuple(prepared)


def _describe_copies(report: CheckReport, target: Path, prepared: Sequence[PreparedCase]) -> dict[str, object]:
    """What the copies were made of: the dataset's place, as seen from the copies, and the SHA-256 of its files and of the copies."""
    return {
        "dataset_name": report.dataset.name,
        "source": Path(os.path.relpath(report.dataset.root.resolve(), target.resolve())).as_posix(),
        "source_sha256": {record.path: record.sha256 for record in report.manifest},
        "copies": [vars(copy) for copy in prepared],
    }


def find_source(copies: Path) -> Path | None:
    """The dataset that the copies in a folder were made of; None if that is not known, or if it is not there any more.

    Raises:
        DatasetError: the record beside the copies is damaged.
    """
    path = copies / COPIES_RECORD
    if not path.is_file():
        return None
    shown, remedy = f"{copies.resolve().name}/{COPIES_RECORD}", "Restore it from a copy, or plan again."
    source = copies / str(read_json_object(path, ("source",), DatasetError, shown, remedy)["source"])
    return source if source.is_dir() else None


def _copy_case(report: CheckReport, case: Case, folder: Path, suffix: str) -> PreparedCase:
    root = report.dataset.root
    image = read_case_image(root, case, report.options)
    if report.options.missing_channels:
        image = replace(image, array=zero_constant(image.array))
    label, _ = read_case_label(root, case, image, report.options)
    image_path, label_path = Path("images") / f"{case.name}{suffix}", Path(LABELS) / f"{case.name}{suffix}"
    write_image(folder / image_path, image)
    on_grid = MedicalImage(label.array.astype(np.uint8), image.affine, image.spacing_mm)
    write_image(folder / label_path, on_grid)
    instances = Path(INSTANCES) / f"{case.name}{suffix}"
    has_instances = _copy_instances(report, case, image, folder / instances)
    return PreparedCase(
        case.name,
        image_path.as_posix(),
        compute_sha256(folder / image_path),
        label_path.as_posix(),
        compute_sha256(folder / label_path),
        instances.as_posix() if has_instances else None,
        compute_sha256(folder / instances) if has_instances else None,
    )


def write_joined_label(root: Path, case: Case, folder: Path, spatial_dims: int | None = None) -> Path:
    """Write the label map of a case with a mask per structure, on the image's grid.

    Args:
        case: with masks.
        folder: gets CASE.nii.gz, or CASE.png for a picture; an earlier file of that name is replaced.
        spatial_dims: as in `read_pages`.

    Raises:
        ImageFileError: a mask cannot be read, or lies on another grid.
    """

    def read(pages_as_slices: bool) -> tuple[ImageGrid, MedicalImage]:
        options = ReadOptions(pages_as_slices=pages_as_slices)
        grid = read_case_grid(root, case, options)
        return grid, read_case_label(root, case, grid, options)[0]

    grid, label = read_pages(read, spatial_dims)
    in_png = all(map(is_picture, case.images)) and len(grid.spatial_shape) == 2
    path = folder / f"{case.name}{'.png' if in_png else '.nii.gz'}"
    write_image(path, label)
    return path


def _copy_instances(report: CheckReport, case: Case, image: MedicalImage, target: Path) -> bool:
    """Write the case's instance map on the grid of its image; whether it has one."""
    known = read_case_instances(report.dataset.root, case, image, report.options)
    if known is None:
        return False
    _write_instances(target, MedicalImage(known[0].array, image.affine, image.spacing_mm))
    return True


def write_split_instances(case: Case, instances: MedicalImage, folder: Path, value: int) -> Path:
    """Write the mask of an instance map into `labels/`, and the map into `instances/`.

    Args:
        case: whose name the files get.
        instances: 0 outside, a value per object.
        folder: of both; earlier files of that name are replaced.
        value: of the mask's label.

    Returns:
        Where the mask is: .png for a picture, otherwise .nii.gz.
    """
    in_png = len(instances.spatial_shape) == 2 and is_picture(case.require_label())
    name = f"{case.name}{'.png' if in_png else '.nii.gz'}"
    mask = ((instances.array > 0) * value).astype(np.uint8)
    write_image(folder / LABELS / name, replace(instances, array=mask))
    _write_instances(folder / INSTANCES / name, instances)
    return folder / LABELS / name


def _write_instances(path: Path, instances: MedicalImage) -> None:
    ends = int(instances.array.min()), int(instances.array.max())
    smallest = np.result_type(*map(np.min_scalar_type, ends))  # PNG holds 16 bits
    write_image(path, replace(instances, array=instances.array.astype(smallest)))
