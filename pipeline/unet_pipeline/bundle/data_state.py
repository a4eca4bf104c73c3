"""Are the data that a bundle trains and is measured on those that it was planned from?

Compared with evidence/dataset_manifest.json, whose SHA-256 decide. So that not every call reads every file, the bundle keeps what each file
looked like when it was compared last, in a hidden file that belongs to this machine and is never packaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.listed_files import find_changed_copies, find_changed_instances, find_changed_lists
from unet_pipeline.dataset.manifest import (
    GONE,
    Difference,
    Manifest,
    Stamp,
    find_differences,
    find_new_slices,
    is_at_rest,
    read_manifest,
)
from unet_pipeline.dataset.prepare import find_source
from unet_pipeline.errors import BundleError, DatasetError
from unet_pipeline.files import write_json
from unet_pipeline.messages import show_clauses, show_first
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.text_files import read_json

if TYPE_CHECKING:
    from unet_pipeline.dataset.check import CheckReport

_MAX_SHOWN = 5


def note_seen_files(folder: BundleFolder, report: CheckReport) -> None:
    """Keep what the files of a dataset looked like when they were checked."""
    stamps = {record.path: record.stamp for record in report.manifest if record.stamp and is_at_rest(record.stamp)}
    write_json(folder.seen_files, {"files": stamps, "copies": {}})


def find_dataset(folder: BundleFolder, settings: Mapping[str, object]) -> Path:
    """Where a training looks for its images and label maps.

    Args:
        settings: ids of train.json that the run sets.
    """
    if "dataset_dir" in settings:
        return Path(str(settings["dataset_dir"]))
    config = read_json(folder.config("train"))
    written = str(config.get("dataset_dir", "$"))
    if "dataset_location" not in settings and not written.startswith("$"):  # edited by hand
        return Path(written)
    return folder.root / str(settings.get("dataset_location", config.get("dataset_location", "")))


def is_planned_dataset(folder: BundleFolder, root: Path) -> bool:
    """Whether a folder is the dataset that the bundle was planned from, or that of the copies."""
    data = folder.root / read_plan(folder.plan).dataset_dir
    source = find_source(data)
    return root.resolve() in {place.resolve() for place in (data, source) if place is not None}


def require_unchanged_data(folder: BundleFolder, root: Path | None = None) -> None:
    """Whether every file that is there has the content that it had when the bundle was planned, and the dataset's lists say the same.

    Of copies that `plan` made, both the copies and the files that they were made of are compared, the latter where they still are. A file
    that is not there is for its reader to miss, unless copies of it are used.

    Args:
        root: the dataset, or the folder of the copies; where the plan says, if None.

    Raises:
        BundleError: the manifest is missing, empty or damaged, or lacks a case of the splits.
        DatasetError: files have changed; names them and what to do.
    """
    plan = read_plan(folder.plan)
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    _require_cases(folder, plan.num_folds, manifest)
    root = root if root is not None else folder.root / plan.dataset_dir
    if not root.is_dir():
        return
    stamps = _read_stamps(folder)
    before = {name: dict(known) for name, known in stamps.items()}
    if manifest.prepared:
        _require_copies(manifest, root, stamps["copies"])
        if (source := find_source(root)) is not None:
            differences = _compare(manifest, source, stamps["files"])
            if len(differences) < len(manifest.files) or any(difference.kind != GONE for difference in differences):
                _require_source(manifest, source, differences, stamps["files"], root.resolve().name)
    else:
        differences = [
            difference for difference in _compare(manifest, root, stamps["files"]) if difference.kind != GONE
        ]
        _require_source(manifest, root, differences, stamps["files"])
    if stamps != before:
        with suppress(OSError):  # a bundle that cannot be written to is compared from its files each time
            write_json(folder.seen_files, stamps)


def _require_source(
    manifest: Manifest, root: Path, differences: Sequence[Difference], stamps: dict[str, Stamp], copies: str = ""
) -> None:
    """Whether images and label maps, instance maps and lists of the dataset are what they were; `copies` is the folder of the copies."""
    further = f"The copies in {copies}/ are of the files as they were." if copies else ""
    _refuse(manifest, [*differences, *find_changed_instances(manifest, root, stamps)], further)
    lists, facts = find_changed_lists(manifest, root, stamps)
    if facts:
        raise DatasetError(
            f"{', '.join(lists)} changed since `plan`: {show_clauses(facts, _MAX_SHOWN)}. Plan, splits and results of the bundle belong "
            f"to {manifest.dataset_name} as evidence/dataset_manifest.json records it. Put the list back as it was, or plan again with "
            "`unet-pipeline plan DATASET NEW_BUNDLE`."
        )


def _compare(manifest: Manifest, root: Path, stamps: dict[str, Stamp]) -> list[Difference]:
    expected: dict[str, tuple[int | None, str]] = {
        entry.path: (entry.num_bytes, entry.sha256) for entry in manifest.files
    }
    return [*find_differences(root, expected, manifest.find_cases(), stamps), *find_new_slices(root, manifest)]


def _require_copies(manifest: Manifest, root: Path, stamps: dict[str, Stamp]) -> None:
    expected: dict[str, tuple[int | None, str]] = {}
    cases: dict[str, str] = {}
    for copy in manifest.prepared:
        expected |= {copy.image: (None, copy.image_sha256), copy.label: (None, copy.label_sha256)}
        cases |= {copy.image: copy.case, copy.label: copy.case}
    differences = [
        difference for difference in find_differences(root, expected, cases, stamps) if difference.kind != GONE
    ]
    differences += find_changed_copies(manifest, root, stamps)
    if differences:
        raise DatasetError(
            f"{_list(differences)} in {root.resolve().name}/, where `plan` wrote copies of {manifest.dataset_name}: the content is another "
            "one than evidence/dataset_manifest.json records. Change the dataset's own files instead, and plan again with `unet-pipeline "
            "plan DATASET NEW_BUNDLE`."
        )


def _refuse(manifest: Manifest, differences: Sequence[Difference], further: str = "") -> None:
    if differences:
        raise DatasetError(
            f"{_list(differences)}: the content of {manifest.dataset_name} is another one than evidence/dataset_manifest.json records, and "
            f"plan, splits and results belong to that. {further}{' ' if further else ''}Put the files back as they were, or plan again "
            "with `unet-pipeline plan DATASET NEW_BUNDLE`."
        )


def _list(differences: Sequence[Difference]) -> str:
    return f"{len(differences)} file(s) changed since `plan`: {show_first(differences, _MAX_SHOWN)}"


def _require_cases(folder: BundleFolder, num_folds: int, manifest: Manifest) -> None:
    """Whether the manifest has every case of the splits, under the files that the splits name."""
    copies = {copy.case: (copy.image, copy.label) for copy in manifest.prepared}
    own = {name: (case.image[0], case.label) for name, case in manifest.cases.items()}
    known = copies or own
    for fold in range(num_folds):
        if not folder.split(fold).is_file():
            continue
        split = folder.read_split(fold)
        for entry in (*split.training, *split.validation):
            if known.get(entry.case) != (entry.image, entry.label):
                raise BundleError(
                    f"evidence/dataset_manifest.json of {folder.name} does not have case {entry.case} with the files that "
                    f"evidence/splits/{folder.split(fold).name} names; both must be as `plan` wrote them. Get them from a copy of the "
                    "bundle, or plan again with `unet-pipeline plan DATASET NEW_BUNDLE`."
                )


def _read_stamps(folder: BundleFolder) -> dict[str, dict[str, Stamp]]:
    """What files looked like when they were compared last; nothing where that is not known."""
    stamps: dict[str, dict[str, Stamp]] = {"files": {}, "copies": {}}
    with suppress(OSError, ValueError, AttributeError, TypeError):
        seen_files = json.loads(folder.seen_files.read_text(encoding="utf-8"))
        for name, known in stamps.items():
            known.update({str(path): tuple(stamp) for path, stamp in seen_files[name].items()})
    return stamps
