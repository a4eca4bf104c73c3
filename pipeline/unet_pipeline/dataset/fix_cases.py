"""One case -> its corrected image and label map in the copy, where something is to be corrected, and what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_pipeline.dataset import geometry
from unet_pipeline.dataset.case_reading import read_case_image, read_case_label
from unet_pipeline.dataset.dataset import Case, case_name, image_suffix
from unet_pipeline.dataset.dicom_structures import has_dicom_label
from unet_pipeline.dataset.fix_images import make_grey, measure_difference
from unet_pipeline.dataset.fix_masks import read_grey_mask, threshold_mask
from unet_pipeline.dataset.fix_record import Change, hash_source
from unet_pipeline.dataset.fix_rules import CaseRules
from unet_pipeline.dataset.formats import FORMATS, PICTURE_SUFFIXES, STOCK_SUFFIXES
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.dataset.label_values import ROUNDED
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import fits_png, write_image
from unet_pipeline.errors import ImageFileError
from unet_pipeline.files import compute_sha256

_SHOWN_VALUES = 8


@dataclass
class FixedCase:
    """A case in the copy.

    Attributes:
        case: with the paths in the copy.
        changes: what was changed.
        replaced: files of the source, relative to it, that others stand for.
        reasons: why a file was not mended, by file.
    """

    case: Case
    changes: list[Change] = field(default_factory=list)
    replaced: set[Path] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class _Draft:
    """An image that is being corrected, and the changes so far, as (kind, wrong, done, before, after)."""

    image: MedicalImage
    steps: list[tuple[str, str, str, Any, Any]] = field(default_factory=list)


def fix_case(rules: CaseRules, case: Case, target: Path) -> FixedCase:
    """Write what is to be corrected of a case below `target`; all else is copied by the caller.

    Raises:
        OSError: it cannot be written.
    """
    fixed = FixedCase(case)
    image = _read_image(rules, case)
    _fix_images(rules, fixed, image, target)
    if case.masks is not None and not has_dicom_label(case):  # SEG and RTSTRUCT stay what they are
        _fix_masks(rules, fixed, case, image, target)
    elif case.masks is None and case.label is not None:
        fixed.case = replace(fixed.case, label=_fix_label(rules, fixed, case, image, target))
        _fix_instances(rules, fixed, case, image, target)
    return fixed


def _fix_label(rules: CaseRules, fixed: FixedCase, case: Case, image: MedicalImage | None, target: Path) -> Path:
    """Where the label map of a case lies in the copy, once it is corrected."""
    path, draft = case.require_label(), _correct_label(rules, fixed, case, image)
    return path if draft is None or not draft.steps else _write(rules, fixed, path, draft, target, is_label=True)


def _fix_masks(rules: CaseRules, fixed: FixedCase, case: Case, image: MedicalImage | None, target: Path) -> None:
    """Masks of single structures stay files of their own."""
    alone = {mask: replace(case, label=mask.path, masks=None) for mask in case.masks or ()}
    paths = {mask: _fix_label(rules, fixed, one, image, target) for mask, one in alone.items()}
    fixed.case = replace(fixed.case, masks=tuple(replace(mask, path=path) for mask, path in paths.items()))


def _read_image(rules: CaseRules, case: Case) -> MedicalImage | None:
    try:
        return read_case_image(rules.root, case, rules.options)
    except ImageFileError:
        return None


# images


def _fix_images(rules: CaseRules, fixed: FixedCase, image: MedicalImage | None, target: Path) -> None:
    if image is None:
        return
    results = []
    for path in fixed.case.images:
        own = image if len(fixed.case.images) == 1 else None
        draft = _correct_image(rules, fixed.case, path, own)
        results.append(path if draft is None else _write(rules, fixed, path, draft, target))
    fixed.case = replace(fixed.case, image=results[0], further_channels=tuple(results[1:]))


def _correct_image(rules: CaseRules, case: Case, path: Path, image: MedicalImage | None) -> _Draft | None:
    slices = _takes_pages_as_slices(rules, path)
    if slices is None and case.name not in rules.grey:
        return None
    steps = [slices] if slices else []
    image = image or read_image(rules.root / path, path.as_posix(), rules.options.pages_as_slices)
    if case.name in rules.grey:
        difference = measure_difference(image)
        wrong = (
            "has three channels that are the same" if not difference else "has three channels that are nearly the same"
        )
        before = {"channels": 3, "greatest_difference_percent": round(100 * difference, 2)}
        done = "one channel was kept" if not difference else "their mean became one channel"
        image = make_grey(image)
        steps.append(("image-grey", wrong, done, before, {"channels": 1}))
    return _Draft(image, steps)


def _takes_pages_as_slices(rules: CaseRules, path: Path) -> tuple[str, str, str, Any, Any] | None:
    """The change of a TIFF file that is a volume only because the user says so, which its copy has to be without that."""
    if not rules.options.pages_as_slices or image_suffix(path) not in FORMATS["TIFF"].suffixes:
        return None
    shown = path.as_posix()
    told = read_image(rules.root / path, shown, pages_as_slices=True).spatial_shape
    try:
        untold: Any = list(read_image(rules.root / path, shown).spatial_shape)
    except ImageFileError as error:
        untold, wrong = None, error.cause
    else:
        wrong = "does not say that its pages are slices"
    done = "written as a volume of NIfTI, as --pages-as-slices says"
    return None if untold == list(told) else ("pages-as-slices", wrong, done, untold, list(told))


# label maps


def _correct_label(rules: CaseRules, fixed: FixedCase, case: Case, image: MedicalImage | None) -> _Draft | None:
    """The label map of `case` with whole values on the grid of its image; None where it cannot be read or mended."""
    path = case.require_label()
    shown = path.as_posix()
    draft = _threshold(rules, path)
    if draft is None:
        try:
            label, _ = read_case_label(rules.root, case, None, rules.options)
            slices = _takes_pages_as_slices(rules, path)
        except ImageFileError:
            return None
        draft = _Draft(label, [slices] if slices else [])
        for note in label.notes:
            if note.code == ROUNDED.code:
                before = _list_raw_values(rules, path)
                draft.steps.append(("values-rounded", note.cause, "rounded", before, _list_values(label.array)))
    return draft if image is None or _put_on_grid(rules, fixed, draft, image, shown) else None


def _threshold(rules: CaseRules, path: Path) -> _Draft | None:
    """The mask with two values; None where it is none, and where it has these values already."""
    masks = rules.masks
    if path not in masks.wrong:
        return None
    mask = read_grey_mask(rules.root / path, path.as_posix(), rules.options.pages_as_slices)
    thresholded = threshold_mask(mask, masks.white, masks.value)
    changed = int(np.count_nonzero(mask.array != thresholded.array))
    if not changed and _is_readable(rules, path):
        return None
    done = (
        f"values above {masks.white / 2:g} became {masks.value}, all others 0; {changed} of {mask.array.size} changed"
    )
    before, after = _list_values(mask.array), _list_values(thresholded.array)
    return _Draft(thresholded, [("mask-thresholded", masks.wrong[path], done, before, after)])


def _is_readable(rules: CaseRules, path: Path) -> bool:
    try:
        read_label_map(rules.root / path, path.as_posix(), rules.options.pages_as_slices)
    except ImageFileError:
        return False
    return True


def _put_on_grid(rules: CaseRules, fixed: FixedCase, draft: _Draft, image: MedicalImage, shown: str) -> bool:
    """Put a label map on the grid of its image where that needs no choice, or the user has made it; whether it lies there."""
    label = draft.image
    comparison = geometry.compare_grids(image, label, shown)
    problem = comparison.problem
    if (
        problem is None or problem.code == geometry.PIXEL_SIZE_TAKEN.code
    ):  # a picture has no place for the size of a pixel
        return True
    before: Any = {"shape": list(label.spatial_shape), "affine": label.affine.tolist()}
    after: Any = {"shape": list(image.spatial_shape), "affine": image.affine.tolist()}
    if comparison.kind == geometry.PLACED:
        placed = geometry.put_on_grid(label, image, shown)
        causes = [note.cause for note in placed.notes[len(label.notes) :]]
        draft.image = placed
        draft.steps.append(("label-placed", problem.cause, "; ".join(causes), before, after))
        return True
    if comparison.kind == geometry.ROUNDING or comparison.copy_header_helps:
        turned = comparison.copy_header_helps and geometry.fill_the_same(image, label)
        if turned and rules.options.resample_labels:
            draft.image = geometry.resample_label(label, image)
            done = "its voxels were put where its own header says, on the image's grid"
            draft.steps.append(("label-resampled", problem.cause, done, before, after))
            return True
        if turned and not rules.options.copy_header:
            fixed.reasons[shown] = (
                "its voxels fill exactly the image's grid, the other way round: --resample-labels takes its header for right, "
                "--copy-header the order of its voxels"
            )
            return False
        draft.image = geometry.with_grid_of(label, image)
        draft.steps.append(("header-copied", problem.cause, "the image's header was taken", before, after))
        return True
    if comparison.resampling_helps and rules.options.resample_labels:
        draft.image = geometry.resample_label(label, image)
        draft.steps.append(("label-resampled", problem.cause, "each voxel took the nearest one", before, after))
        return True
    return False


def _fix_instances(rules: CaseRules, fixed: FixedCase, case: Case, image: MedicalImage | None, target: Path) -> None:
    """The instance map of a case goes the way of its label map: on the image's grid, with whole values."""
    instances = find_instances(rules.root / case.require_label())
    if instances is None:
        return
    path = instances.relative_to(rules.root)
    draft = _correct_label(rules, fixed, replace(case, label=path), image)
    if draft is not None and draft.steps:
        _write(rules, fixed, path, draft, target, is_label=True)


# values and files


def _list_values(array: np.ndarray) -> dict[str, object]:
    """How many values there are, the first of them, and the ends."""
    values = np.unique(array)
    shown = [round(float(value), 6) for value in values[:_SHOWN_VALUES]]
    return {
        "num_values": int(values.size),
        "values": [int(value) if value.is_integer() else value for value in shown],
        "least": round(float(values[0]), 6),
        "greatest": round(float(values[-1]), 6),
    }


def _list_raw_values(rules: CaseRules, path: Path) -> Any:
    try:
        raw = read_image(rules.root / path, path.as_posix(), rules.options.pages_as_slices)
    except ImageFileError:  # joined from several files
        return None
    return _list_values(raw.array)


def _write(rules: CaseRules, fixed: FixedCase, path: Path, draft: _Draft, target: Path, is_label: bool = False) -> Path:
    """Write a corrected image below `target`; its path there. A label map gets the smallest type that holds its values."""
    image = draft.image
    if is_label:
        ends = int(image.array.min()), int(image.array.max())
        image = replace(image, array=image.array.astype(np.result_type(*map(np.min_scalar_type, ends))))
    result = _name_result(rules.root, path, image)
    write_image(target / result, image)
    hashes = {"source_sha256": hash_source(rules.root / path), "result_sha256": compute_sha256(target / result)}
    fixed.replaced.add(path)
    fixed.changes += [
        Change(
            file=path.as_posix(),
            kind=kind,
            wrong=wrong,
            done=done,
            before=before,
            after=after,
            result=result.as_posix(),
            **hashes,
        )
        for kind, wrong, done, before, after in draft.steps
    ]
    return result


def _name_result(root: Path, path: Path, image: MedicalImage) -> Path:
    """The same name with a suffix of stock MONAI's formats; another name where a file of the source has that one."""
    suffix = image_suffix(path)
    stem = case_name(path) if suffix else path.name
    fits = image.array.ndim == 3 and fits_png(image.array.dtype, image.array.shape[0])
    if suffix in PICTURE_SUFFIXES and fits and np.array_equal(image.affine, np.eye(4)):
        suffix = ".png"
    elif suffix not in STOCK_SUFFIXES or suffix in PICTURE_SUFFIXES:
        suffix = ".nii.gz"
    result = path.with_name(f"{stem}{suffix}")
    if result != path and (root / result).exists():
        result = path.with_name(f"{stem}_corrected{suffix}")
    return result


def list_replaced(fixed: Iterable[FixedCase]) -> set[Path]:
    """All files of the source that others stand for."""
    return {path for one in fixed for path in one.replaced}


def list_changes(fixed: Sequence[FixedCase]) -> list[Change]:
    """All changes, in the order of the cases."""
    return [change for one in fixed for change in one.changes]
