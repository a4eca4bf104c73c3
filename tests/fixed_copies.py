"""A corrected copy beside its source, for the tests: nothing of the source may change, and the list of changes must hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.check import PREPARED, check_dataset
from unet_pipeline.dataset.fix import FixedDataset, fix_dataset
from unet_pipeline.dataset.fix_record import Change
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.files import compute_sha256

AFFINE = np.array([[0.8, 0, 0, -10], [0, 1, 0, 5], [0, 0, 1.5, 7], [0, 0, 0, 1.0]])
SECOND = "case_02"


def list_files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): compute_sha256(path) for path in sorted(root.rglob("*")) if path.is_file()
    }


def fix(root: Path, **arguments: Any) -> FixedDataset:
    """The copy beside the source, which is the same before and after; every change has the hashes of its files."""
    before = list_files(root)
    out = root.with_name(f"{root.name}_fixed")
    fixed = fix_dataset(root, out, **arguments)
    assert list_files(root) == before
    written = list_files(out)
    assert json.loads((out / "fixes.json").read_text())["changes"] == [
        json.loads(change.model_dump_json()) for change in fixed.record.changes
    ]
    for change in fixed.record.changes:
        if change.file in before:
            assert change.source_sha256 == before[change.file]
        if change.result:
            assert change.result_sha256 == written[change.result]
    assert not list(root.parent.glob(".*"))
    return fixed


def list_changes(fixed: FixedDataset) -> list[Change]:
    """All changes but those of the lists that name the cases, which follow from them."""
    return [change for change in fixed.record.changes if change.kind != "list-written"]


def only_change(fixed: FixedDataset) -> Change:
    (change,) = list_changes(fixed)
    return change


def codes_of(root: Path) -> set[str]:
    """Codes of what `check` says about a folder without any option."""
    return {problem.code for problem in check_dataset(read_dataset(root)).problems} - {PREPARED.code}


def read_rows(path: Path) -> np.ndarray:
    with PillowImage.open(path) as picture:
        return np.asarray(picture)


def edit_label(root: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write the label map of the second case again, with another array or affine."""
    path = root / "labels" / f"{SECOND}.nii.gz"
    image = nib.load(path)
    array, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def smooth_jpeg(path: Path) -> Path:
    target = path.with_suffix(".jpg")
    with PillowImage.open(path) as picture:
        picture.save(target, quality=80)
    path.unlink()
    return target


def smooth_jpeg_in_png(path: Path) -> Path:
    temporary = path.with_name("temporary.jpg")
    with PillowImage.open(path) as picture:
        picture.convert("RGB").save(temporary, quality=70)
    with PillowImage.open(temporary) as picture:
        picture.save(path)
    temporary.unlink()
    return path


def smooth_bilinear(path: Path) -> Path:
    with PillowImage.open(path) as picture:
        size = picture.size
        smoothed = picture.resize((size[0] * 2, size[1] * 2), PillowImage.Resampling.BILINEAR).resize(
            size, PillowImage.Resampling.BILINEAR
        )
    smoothed.save(path)
    return path
