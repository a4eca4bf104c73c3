"""A pool of unlabelled images: label maps by the network of every fold, and which images are left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_pipeline.bundle.run_record import ContractVerdict, LabelMapEntry
from unet_pipeline.bundle.unlabelled import PoolImage
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.dataset.image_files import hash_image_files
from unet_pipeline.dataset.manifest import Manifest, read_manifest
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.outputs import output_path
from unet_pipeline.progress import progress_bar
from unet_pipeline.studies.pool import (
    LABELLED,
    NOT_PREDICTED,
    TWICE,
    choose_least_agreement,
    find_reason,
    measure_agreement,
)
from unet_pipeline.verbs.unlabelled_work import PoolWork

Computing = tuple[str | None, JobOptions | None, Callable[[str], None]]


@dataclass(frozen=True)
class LabelledImage:
    """An image of the pool with its label map and its comparison with the input contract by every fold, or why it has none."""

    source: PredictionInput
    files_sha256: dict[str, str]
    left_out: str = ""
    entries: Mapping[int, LabelMapEntry] | None = None


def hash_pool(inputs: Sequence[PredictionInput]) -> dict[str, dict[str, str]]:
    """SHA-256 of every file of each image, by its name; of an image that cannot be read, nothing: predicting says why."""
    hashes: dict[str, dict[str, str]] = {}
    with progress_bar("hash images", len(inputs)) as bar:
        for source in inputs:
            try:
                hashes[source.name] = hash_image_files(source.files)
            except OSError:
                hashes[source.name] = {}
            bar.advance(note=source.name)
    return hashes


def label_pool(
    work: PoolWork,
    plan: Plan,
    folds: Sequence[int],
    inputs: Sequence[PredictionInput],
    images_sha256: Mapping[str, Mapping[str, str]],
    computing: Computing,
) -> list[LabelledImage]:
    """Label maps of the pool by each fold; what was made before is kept.

    Args:
        folds: whose networks label.
        computing: device, workers and where to announce.
    """
    manifest = read_manifest(work.folder.dataset_manifest, work.folder.name)
    reasons = _find_known(manifest, images_sha256)
    left = [source for source in inputs if source.name not in reasons]
    entries: dict[int, dict[str, object]] = {}
    for fold in folds:
        if not left:
            break
        failures, entries[fold] = _label(work, fold, left, computing)
        for source in left:
            if not isinstance(entries[fold].get(source.name), LabelMapEntry):
                reasons.setdefault(source.name, f"{NOT_PREDICTED}: {_find_failure(source, failures)}")
        left = [source for source in left if source.name not in reasons]
    return [
        LabelledImage(source, dict(images_sha256[source.name]), reasons[source.name])
        if source.name in reasons
        else LabelledImage(
            source,
            dict(images_sha256[source.name]),
            entries={fold: entry for fold in folds if isinstance(entry := entries[fold][source.name], LabelMapEntry)},
        )
        for source in inputs
    ]


def _find_known(manifest: Manifest, images_sha256: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Images that are files of the dataset, or that the pool has twice, with the reason."""
    known = {entry.sha256: entry.path for entry in manifest.files}
    known |= {copy.image_sha256: copy.image for copy in manifest.prepared}
    first_of: dict[tuple[str, ...], str] = {}
    reasons = {}
    for name, hashes in images_sha256.items():
        if shared := [known[sha256] for sha256 in hashes.values() if sha256 in known]:
            reasons[name] = f"{LABELLED}: {shared[0]}"
        elif hashes and (first := first_of.setdefault(tuple(hashes.values()), name)) != name:
            reasons[name] = f"{TWICE}: as {first}"
    return reasons


def _label(
    work: PoolWork, fold: int, inputs: Sequence[PredictionInput], computing: Computing
) -> tuple[tuple[str, ...], dict[str, object]]:
    """Failures, and the entry of every label map by the image's name."""
    from unet_pipeline.evidence.records.prediction_record import read_entries
    from unet_pipeline.prediction.run import FailedImagesError
    from unet_pipeline.verbs.predict import predict_recorded

    device, workers, announce = computing
    out, weights, failures = work.label_maps(fold), work.list_teachers(fold), tuple[str, ...]()
    options = PredictOptions(device, ensemble=len(weights) > 1)
    try:
        predict_recorded(work.copy, inputs, out, weights, options, announce, jobs=workers, compares=True)
    except FailedImagesError as error:
        failures = error.messages
    return failures, dict(read_entries(out))


def _find_failure(source: PredictionInput, failures: Sequence[str]) -> str:
    named = [line for line in failures if source.files[0].name in line or source.name in line]
    return (named or ["no label map was made"])[0]


def sort_pool(work: PoolWork, plan: Plan, labelled: Sequence[LabelledImage]) -> tuple[list[PoolImage], float]:
    """Every image with the agreement of its label maps and why it is left out, if it is; and the least agreement.

    The least agreement comes from the evaluation of the folds on labelled cases in `work.before`.
    """
    from unet_pipeline.evaluation.case_values import tabulate_cases
    from unet_pipeline.evaluation.files import read_rows, read_summary

    rows = read_rows(work.before)
    table = tabulate_cases(rows, read_summary(work.before).scored_labels)
    least = choose_least_agreement(next(one for one in table.series if one.metric == "dice").values)
    may_be_empty = bool((rows.groupby("case")["num_voxels_reference"].sum() == 0).any())
    with progress_bar("compare folds", len(labelled)) as bar:
        images = []
        for one in labelled:
            images.append(_sort(work, plan, one, least, may_be_empty))
            bar.advance(note=one.source.name)
    return images, least


def _sort(work: PoolWork, plan: Plan, one: LabelledImage, least: float, may_be_empty: bool) -> PoolImage:
    if one.entries is None:
        return PoolImage(name=one.source.name, files_sha256=one.files_sha256, left_out=one.left_out)
    maps: list[np.ndarray] = [
        read_label_map(output_path(one.source, work.label_maps(fold), plan.output_suffix), known_values=None).array[0]
        for fold in one.entries
    ]
    agreement = measure_agreement(maps, list(plan.label_table.values())[1:])
    judgements = [entry.contract or ContractVerdict() for entry in one.entries.values()]
    return PoolImage(
        name=one.source.name,
        files_sha256=one.files_sha256,
        agreement=agreement,
        left_out=find_reason(agreement, judgements, least, may_be_empty),
        label_maps_sha256={fold: entry.label_map_sha256 for fold, entry in one.entries.items()},
    )


def write_images(work: PoolWork, plan: Plan, kept: Sequence[PredictionInput]) -> dict[str, Path]:
    """By name, the file of each image that stock MONAI reads: its own, or a copy in the work's folder."""
    folder = work.place / "images"
    files = {}
    for source in kept:
        copy = output_path(source, folder, plan.image_suffix)
        if source.is_stock_readable(plan.image_suffix):
            files[source.name] = source.files[0]
        elif copy.is_file():
            files[source.name] = copy
        else:
            folder.mkdir(parents=True, exist_ok=True)
            files[source.name] = source.write_readable(source.read(plan.spatial_dims), folder, plan.image_suffix)
    return files
