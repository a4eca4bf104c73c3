"""What has changed since a result was recorded: found from hashes and records, before anything is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from unet_pipeline.bundle.earlier import is_same_value
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationRunRecord, RunRecord, TrainingRecord
from unet_pipeline.bundle.weights_origin import find_measured_weights, hash_trained_weights
from unet_pipeline.config_values import FINDING_IDS
from unet_pipeline.dataset.listed_files import find_changed_copies, find_changed_instances, find_changed_lists
from unet_pipeline.dataset.manifest import Manifest, read_manifest
from unet_pipeline.evaluation.cross_validation import PACKAGES_WITHOUT_EFFECT
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE
from unet_pipeline.evidence.records.machine import describe_machine, read_code_version, read_versions
from unet_pipeline.evidence.records.record import resolve_config
from unet_pipeline.evidence.reproduce import reproduction_messages as messages
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import Problem
from unet_pipeline.planning.earlier_plans import rename_fields
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.progress import progress_bar
from unet_pipeline.text_files import read_json_object

# `tune` writes these after a training; they concern the inference, whose config the evaluation's record names
_AFTER_TRAINING = ("temperature", "fill_holes", "keep_largest_component", "remove_small_objects")
_PLACES = ("dataset_dir", "dataset_location", *FINDING_IDS, "output_dir", "weights_path", "resume")
_MACHINE_FACTS = ("processor", "instructions", "num_threads", "gpu", "gpu_driver", "cuda", "cudnn", "python")
_SHOWN_DIGITS = 12
_OWN_SOURCE = "the source of unet-pipeline"


def find_changes_of_data(
    folder: BundleFolder, root: Path, dataset_manifest_sha256: Sequence[str | None]
) -> Iterator[Problem]:
    """Files of the dataset that are gone or have another content than in the manifest.

    Args:
        root: the dataset, or the folder of the copies that `plan` made of it.
        dataset_manifest_sha256: from the records.
    """
    if any(sha256 != compute_sha256(folder.dataset_manifest) for sha256 in dataset_manifest_sha256):
        yield messages.MANIFEST_CHANGED.about("evidence/dataset_manifest.json")
    if not root.is_dir():
        yield messages.NO_DATASET.about(f"{root.name}/")
        return
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    yield from compare_files(root, _list_files(manifest))
    find_instances = find_changed_copies if manifest.prepared else find_changed_instances
    for difference in find_instances(manifest, root, {}):
        shown = f"{difference.path} of case {difference.case}" if difference.case else difference.path
        yield messages.INSTANCES_CHANGED.about(shown, change=difference.kind)
    lists, facts = ([], []) if manifest.prepared else find_changed_lists(manifest, root, {})
    yield from (messages.LIST_CHANGED.about(", ".join(lists), fact=fact) for fact in facts)


def compare_files(root: Path, expected: Sequence[tuple[str, str, str]]) -> Iterator[Problem]:
    """Files that are gone or have another content.

    Args:
        root: of the paths.
        expected: path, case (empty for none) and SHA-256.
    """
    with progress_bar("compare files", len(expected)) as bar:
        for path, case, sha256 in expected:
            shown = f"{path} (case {case})" if case else path
            file = root / path
            if not file.is_file():
                yield messages.FILE_GONE.about(shown)
            elif (sha256_now := compute_sha256(file)) != sha256:
                yield messages.FILE_CHANGED.about(
                    shown, now=sha256_now[:_SHOWN_DIGITS], recorded=sha256[:_SHOWN_DIGITS]
                )
            bar.advance()


def _list_files(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Path, case and SHA-256 of every file that is trained or evaluated on: the copies where there are some."""
    if not manifest.prepared:
        return list_sources(manifest)
    images = [(copy.image, copy.case, copy.image_sha256) for copy in manifest.prepared]
    return [*images, *((copy.label, copy.case, copy.label_sha256) for copy in manifest.prepared)]


def list_sources(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Path, case (empty for none) and SHA-256 of every file of the dataset."""
    case_of = manifest.find_cases()
    return [(entry.path, case_of[entry.path], entry.sha256) for entry in manifest.files]


def find_changes_of_split(folder: BundleFolder, fold: int, record: TrainingRecord) -> Iterator[Problem]:
    """Whether the fold's list of cases is the recorded one, and which cases lie elsewhere now."""
    if record.split_sha256 == compute_sha256(folder.split(fold)):
        return
    now = {side: {case.case for case in cases} for side, cases in folder.read_split(fold)}
    moves = []
    for side, names in record.split.items():
        for name in names:
            if name not in now[side]:
                other = next((where for where, members in now.items() if name in members), "no list")
                moves.append(f"{name} was in {side}, is in {other}")
    detail = "; ".join(moves[:5]) + ("; ..." if len(moves) > 5 else "")
    yield messages.SPLIT_CHANGED.about(_name_split(folder, fold), moves=f": {detail}" if detail else "")


def _name_split(folder: BundleFolder, fold: int) -> str:
    return f"evidence/splits/{folder.split(fold).name}"


def find_changes_of_plan(folder: BundleFolder, record: TrainingRecord) -> Iterator[Problem]:
    """Numbers of the plan and ids of train.json that are other ones than in a training."""
    if record.plan:
        now = read_plan(folder.plan).model_dump(mode="json")
        # a version that knew fewer numbers trained as the later ones' defaults say
        recorded = {name: field.default for name, field in Plan.model_fields.items() if not field.is_required()}
        recorded |= rename_fields(record.plan, "the record")
        for name in sorted(now.keys() | recorded.keys()):
            before, planned = recorded.get(name), now.get(name)
            if before != planned and name != "dataset_dir":
                message = messages.PLAN_TUNED if name in _AFTER_TRAINING else messages.PLAN_CHANGED
                yield message.about("configs/plan.yaml", name=name, now=planned, before=before)
    resolved = folder.runs / record.id / record.resolved_config
    if resolved.is_file():
        config = read_json_object(resolved)
        now = resolve_config(folder, {key: value for key, value in read_overrides(record).items() if key in config})
        for name in sorted((now.keys() | config.keys()) - {*_PLACES, "fold"}):  # `train --fold` names the fold
            if not is_same_value(config.get(name), now.get(name)):
                yield messages.CONFIG_CHANGED.about("configs/train.json", run="training", where=f": {name}")
    elif record.config_sha256 != compute_sha256(folder.config("train")):
        yield messages.CONFIG_CHANGED.about("configs/train.json", run="training", where="")


def read_overrides(record: TrainingRecord) -> dict[str, object]:
    """Ids that the user had set in a training, beside the places of a run."""
    fixed = (*_PLACES, "fold")
    return {key: value for key, value in record.overrides.items() if key not in fixed}


def find_changes_of_versions(record: RunRecord) -> Iterator[Problem]:
    """Packages, code and machine against those of a record."""
    installed = read_versions()
    for name, version in record.versions.items():
        if name in PACKAGES_WITHOUT_EFFECT or installed.get(name) == version:
            continue
        yield messages.VERSION_CHANGED.about(name, now=installed.get(name, "not installed"), before=version)
    code = read_code_version()
    if code.commit != record.code.commit:
        now, before = (_shorten(commit) for commit in (code.commit, record.code.commit))
        yield messages.OTHER_COMMIT.about(_OWN_SOURCE, now=now, before=before)
    for when, changed in (("now", code.changed), ("then", record.code.changed)):
        if changed:
            yield messages.UNCOMMITTED.about(_OWN_SOURCE, when=when)
    machine = describe_machine()
    for name in _MACHINE_FACTS:
        current, recorded = getattr(machine, name), getattr(record.machine, name)
        if name in record.machine.model_fields_set and current != recorded:
            yield messages.MACHINE_DIFFERS.about("this machine", name=name, now=current, before=recorded)


def _shorten(commit: str | None) -> str:
    return commit[:_SHOWN_DIGITS] if commit else "unknown"


def find_weights(folder: BundleFolder, fold: int) -> Path | None:
    """The weights of a fold: its own file, or the bundle's where they come from it."""
    own = folder.fold_weights(fold)
    if own.is_file():
        return own
    is_origin = folder.fold_of_weights(read_plan(folder.plan).fold) == fold
    return folder.weights if is_origin and folder.weights.is_file() else None


def find_changes_of_weights(folder: BundleFolder, fold: int, record: TrainingRecord) -> Iterator[Problem]:
    """Whether the bundle has the weights that a training recorded."""
    path = find_weights(folder, fold)
    if path is None:
        yield messages.NO_WEIGHTS.about(folder.name, fold=fold)
    elif record.result and hash_trained_weights(folder, path) != record.result.weights_sha256:
        yield messages.WEIGHTS_CHANGED.about(f"models/{path.name}", fold=fold)


def find_changes_of_evaluation(
    folder: BundleFolder, target: Path, fold: int, record: EvaluationRunRecord | None
) -> Iterator[Problem]:
    """Whether the numbers in evidence are those that were recorded, of these weights and this inference config.

    Args:
        fold: that is reproduced.
        record: of the evaluation; None when it was made before there were records.
    """
    if record is None:
        yield messages.NOT_RECORDED.about(f"evidence/evaluations/{target.name}")
        return
    result = record.result
    for name, sha256 in ((METRICS_FILE, result.metrics_sha256), (SUMMARY_FILE, result.summary_sha256)):
        if compute_sha256(target / name) != sha256:
            yield messages.NUMBERS_CHANGED.about(f"evidence/evaluations/{target.name}/{name}")
    if record.inference_config_sha256 != compute_sha256(folder.config("inference")):
        yield messages.CONFIG_CHANGED.about("configs/inference.json", run="evaluation", where="")
    recorded_split = record.split_sha256.get(str(fold))
    if recorded_split is not None and recorded_split != compute_sha256(folder.split(fold)):
        yield messages.SPLIT_OF_EVALUATION.about(_name_split(folder, fold))
    path = find_measured_weights(folder, fold) if folder.fold_weights(fold).is_file() else find_weights(folder, fold)
    evaluated = [weights.sha256 for weights in record.weights if weights.fold == fold]
    if path is not None and evaluated and compute_sha256(path) not in evaluated:
        yield messages.WEIGHTS_OF_EVALUATION.about(f"models/{path.name}")
