"""Label maps that were made before an evaluation: what their record, predictions_run.json, says about their images and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.records import ExportEntry
from unet_pipeline.bundle.run_record import LabelMapEntry, PredictionRecord, read_record
from unet_pipeline.bundle.weights_origin import hash_trained_weights
from unet_pipeline.dataset.dataset import is_pair_header
from unet_pipeline.dataset.image_files import hash_image_files
from unet_pipeline.dataset.manifest import Manifest, read_manifest
from unet_pipeline.errors import EvaluationError, FileContentError
from unet_pipeline.evaluation.groups import Group, ReferencedImage, hash_training_images
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.evidence.records.prediction_record import PREDICTIONS_RECORD, hash_configs
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import show_first
from unet_pipeline.prediction.reuse import EDITED
from unet_pipeline.text_files import read_model

_MAX_SHOWN = 3
_NO_RECORD = f"{PREDICTIONS_RECORD} beside them does not say of which image and with which weights they were made"
_OTHER_WEIGHTS = "they were made with other weights than those of {bundle}, so the numbers are not this bundle's"
_OTHER_CONFIGS = "they were made with other configs or modules than those of {bundle} today"


@dataclass(frozen=True)
class _Found:
    """A given label map with the entry of its record, and the hashes of the image that it is compared on."""

    case: str
    entry: LabelMapEntry
    image_sha256: frozenset[str]


def judge_given(folder: BundleFolder, groups: Sequence[Group], out: Path, pairs: Sequence[Pair]) -> list[str]:
    """Whether label maps that were made before are of the images, and of weights that have not seen them.

    Args:
        groups: cases and the weights that the numbers are for.
        pairs: references with the given label maps, in the order of the groups' cases.

    Returns:
        What a reader of the numbers must know: label maps of other weights or configs, edited ones, and those that no record names.

    Raises:
        EvaluationError: a label map is of another image, or its weights were trained on the image.
    """
    entries, notes = _read_entries(out)
    of_reason: dict[str, list[str]] = {}
    trained, exported, configs_sha256 = _list_trained(folder), _list_exported(folder), hash_configs(folder)
    is_recorded = any(pair.prediction.name in entries for pair in pairs)
    manifest = read_manifest(folder.dataset_manifest, folder.name) if folder.is_planned and is_recorded else None
    wrong, seen = [], []
    remaining = iter(pairs)
    for group in groups:
        weights = {compute_sha256(path) for path in group.weights}
        for case in group.cases:
            path = next(remaining).prediction
            if not path.is_file():  # for its reader to miss
                continue
            entry_of_case = _find_entry(manifest, case, entries, path)
            reason = _describe_unknown(entry_of_case, path)
            if reason is None and entry_of_case is not None:
                image_sha256, entry = entry_of_case.image_sha256, entry_of_case.entry
                if set(entry.files_sha256.values()).isdisjoint(image_sha256):
                    wrong.append(entry_of_case.case)
                    continue
                sha256_used = {exported.get(sha256, sha256) for sha256 in entry.weights_sha256}
                if any(not trained[sha256].isdisjoint(image_sha256) for sha256 in sha256_used & trained.keys()):
                    seen.append(entry_of_case.case)
                if sha256_used != weights:
                    reason = _OTHER_WEIGHTS.format(bundle=folder.name)
                elif entry.configs_sha256 != configs_sha256:
                    reason = _OTHER_CONFIGS.format(bundle=folder.name)
            if reason is not None:
                of_reason.setdefault(reason, []).append(case.source.name)
    _refuse(folder, out, wrong, seen)
    return [
        *notes,
        *(f"Label maps given of {show_first(names, _MAX_SHOWN)}: {reason}." for reason, names in of_reason.items()),
    ]


def _list_trained(folder: BundleFolder) -> dict[str, set[str]]:
    """For the SHA-256 of each file of weights, those of the images that it was trained on; what an external bundle saw is not known."""
    if not folder.is_planned:
        return {}
    folds = {compute_sha256(folder.fold_weights(fold)): fold for fold in folder.trained_folds()}
    # a packaged bundle has model.pt only, and what the training wrote may have been used before
    if folder.weights_origin.is_file():
        for sha256 in (compute_sha256(folder.weights), hash_trained_weights(folder, folder.weights)):
            folds.setdefault(sha256, folder.fold_of_weights(0))
    return {sha256: hash_training_images(folder, fold) for sha256, fold in folds.items()}


def _list_exported(folder: BundleFolder) -> dict[str, str]:
    """For the SHA-256 of each exported network, that of the weights it holds."""
    if not folder.exports.is_file():
        return {}
    entries = read_model(folder.exports, dict[str, ExportEntry]).values()
    return {entry.sha256: entry.weights_sha256 for entry in entries}


def _read_entries(out: Path) -> tuple[Mapping[str, LabelMapEntry], list[str]]:
    """Entries of the record by label map file, and what is wrong with it."""
    try:
        record = read_record(out / PREDICTIONS_RECORD, PredictionRecord)
    except (OSError, FileContentError) as error:
        return {}, [f"{PREDICTIONS_RECORD} beside the label maps cannot be read: {str(error).partition('. ')[0]}."]
    images = record.images.values() if record else ()
    return {entry.label_map: entry for entry in images if isinstance(entry, LabelMapEntry)}, []


def _find_entry(
    manifest: Manifest | None, case: ReferencedImage, entries: Mapping[str, LabelMapEntry], path: Path
) -> _Found | None:
    if path.name not in entries:
        return None
    files = case.source.list_files()
    hashes = zip(files, hash_image_files(case.source.files).values(), strict=True)
    own = {sha256 for file, sha256 in hashes if not is_pair_header(file)}  # many images may have one header
    return _Found(case.source.name, entries[path.name], frozenset(own | _list_twins(manifest, case.source.name, own)))


def _list_twins(manifest: Manifest | None, name: str, own: set[str]) -> set[str]:
    """Hashes of the files that a copy of the case was made of, and of the copy, where `own` are those of either."""
    if manifest is None or name not in manifest.cases:
        return set()
    copies = {copy.image_sha256 for copy in manifest.prepared if copy.case == name}
    images = manifest.cases[name].image
    files = {
        entry.sha256
        for entry in manifest.files
        if entry.path in images or any(entry.path.startswith(f"{image}/") for image in images)
    }
    return copies | files if own & (copies | files) else set()


def _describe_unknown(entry_of_case: _Found | None, path: Path) -> str | None:
    if entry_of_case is None:
        return _NO_RECORD
    return EDITED if entry_of_case.entry.label_map_sha256 != compute_sha256(path) else None


def _refuse(folder: BundleFolder, out: Path, wrong: Sequence[str], seen: Sequence[str]) -> None:
    if wrong:
        raise EvaluationError(
            f"{len(wrong)} label map(s) in {out.name}/ were made of another image than that of the case, as {PREDICTIONS_RECORD} records: "
            f"{show_first(wrong, _MAX_SHOWN)}. Predict the images of this dataset, into another folder."
        )
    if seen:
        raise EvaluationError(
            f"{len(seen)} label map(s) in {out.name}/ were made with weights of {folder.name} that were trained on the image, as "
            f"{PREDICTIONS_RECORD} records: {show_first(seen, _MAX_SHOWN)}. A result on them says nothing; evaluate without --predictions."
        )
