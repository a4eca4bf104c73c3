"""What has changed since a result was recorded: found from hashes and records, before anything is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.earlier import is_same_value
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationRunRecord, RunRecord, TrainingRecord
from unet_pipeline.dataset.listed_files import find_changed_copies, find_changed_instances, find_changed_lists
from unet_pipeline.dataset.manifest import CHANGED, Manifest, read_manifest
from unet_pipeline.evaluation.cross_validation import PACKAGES_WITHOUT_EFFECT
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE
from unet_pipeline.evidence.records.machine import describe_machine, read_code_version, read_versions
from unet_pipeline.evidence.records.record import resolve_config
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.progress import progress_bar
from unet_pipeline.text_files import read_json_object

DATA, SPLIT, PLAN, CONFIG, VERSION, WEIGHTS, EVIDENCE = (
    "data",
    "split",
    "plan",
    "config",
    "version",
    "weights",
    "evidence",
)
CODE, MACHINE = "code", "machine"
# `tune` writes these after a training; they concern the inference, whose config the evaluation's record names
_AFTER_TRAINING = ("temperature", "without_holes", "one_part", "smallest_part")
_PLACES = ("dataset_dir", "dataset_location", "bundle_root", "output_dir", "weights_path", "resume")
_MACHINE_FACTS = ("processor", "instructions", "num_threads", "gpu", "gpu_driver", "cuda", "cudnn", "python")
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Finding:
    """One difference to the record.

    Attributes:
        subject: "data", "split", "plan", "config", "version", "weights", "evidence", "code" or "machine".
        detail: what it is, in words.
        stops: whether a run would not be the recorded one; other differences may change digits.
    """

    subject: str
    detail: str
    stops: bool = True


def find_changes_of_data(
    folder: BundleFolder, root: Path, dataset_manifest_sha256: Sequence[str | None]
) -> Iterator[Finding]:
    """Files of the dataset that are gone or have another content than in the manifest.

    Args:
        folder: the bundle.
        root: the dataset, or the folder of the copies that `plan` made of it.
        dataset_manifest_sha256: from the records.
    """
    if any(sha256 != compute_sha256(folder.dataset_manifest) for sha256 in dataset_manifest_sha256):
        yield Finding(DATA, "evidence/dataset_manifest.json is another one than at the time of the record")
    if not root.is_dir():
        yield Finding(DATA, f"the dataset is not at {root.name}/; say with --dataset where it is")
        return
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    yield from compare_files(root, _list_files(manifest))
    find_instances = find_changed_copies if manifest.prepared else find_changed_instances
    for difference in find_instances(manifest, root, {}):
        yield Finding(DATA, f"{difference} {CHANGED}" if difference.kind == CHANGED else str(difference))
    lists, facts = ([], []) if manifest.prepared else find_changed_lists(manifest, root, {})
    yield from (Finding(DATA, f"{', '.join(lists)} has changed: {fact}") for fact in facts)


def compare_files(root: Path, expected: Sequence[tuple[str, str, str]]) -> Iterator[Finding]:
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
                yield Finding(DATA, f"{shown} is missing")
            elif (found := compute_sha256(file)) != sha256:
                yield Finding(
                    DATA, f"{shown} has changed: SHA-256 {found[:_SHOWN_DIGITS]}, recorded {sha256[:_SHOWN_DIGITS]}"
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


def find_changes_of_split(folder: BundleFolder, fold: int, record: TrainingRecord) -> Iterator[Finding]:
    """Whether the fold's list of cases is the recorded one, and which cases lie elsewhere now.

    Args:
        folder: the bundle.
        fold: of the record.
        record: of a training.
    """
    if record.split_sha256 == compute_sha256(folder.split(fold)):
        return
    now = {side: {case.case for case in cases} for side, cases in folder.read_split(fold)}
    moves = []
    for side, names in record.split.items():
        for name in names:
            if name not in now[side]:
                other = next((where for where, found in now.items() if name in found), "no list")
                moves.append(f"{name} was in {side}, is in {other}")
    detail = "; ".join(moves[:5]) + ("; ..." if len(moves) > 5 else "")
    yield Finding(SPLIT, f"evidence/splits/{folder.split(fold).name} has changed{': ' if detail else ''}{detail}")


def find_changes_of_plan(folder: BundleFolder, record: TrainingRecord) -> Iterator[Finding]:
    """Numbers of the plan and ids of train.json that are other ones than in a training.

    Args:
        folder: the bundle.
        record: of the training.
    """
    if record.plan:
        now = read_plan(folder.plan).model_dump(mode="json")
        # a version that knew fewer numbers trained as the later ones' defaults say
        recorded = {name: field.default for name, field in Plan.model_fields.items() if not field.is_required()}
        recorded |= record.plan
        for name in sorted(now.keys() | recorded.keys()):
            before, found = recorded.get(name), now.get(name)
            if before != found and name != "dataset_dir":
                later = name in _AFTER_TRAINING
                yield Finding(PLAN, f"{name} is {found}, was {before}{' in the training' if later else ''}", not later)
    resolved = folder.runs / record.id / record.resolved_config
    if resolved.is_file():
        config = read_json_object(resolved)
        now = resolve_config(folder, {key: value for key, value in read_overrides(record).items() if key in config})
        for name in sorted((now.keys() | config.keys()) - {*_PLACES, "fold"}):  # `train --fold` names the fold
            if not is_same_value(config.get(name), now.get(name)):
                yield Finding(CONFIG, f"{name} in configs/train.json is another one than in the training")
    elif record.config_sha256 != compute_sha256(folder.config("train")):
        yield Finding(CONFIG, "configs/train.json is another file than in the training")


def read_overrides(record: TrainingRecord) -> dict[str, object]:
    """Ids that the user had set in a training, beside the places of a run."""
    fixed = (*_PLACES, "fold")
    return {key: value for key, value in record.overrides.items() if key not in fixed}


def find_changes_of_versions(record: RunRecord) -> Iterator[Finding]:
    """Packages, code and machine against those of a record."""
    installed = read_versions()
    for name, version in record.versions.items():
        if name in PACKAGES_WITHOUT_EFFECT or installed.get(name) == version:
            continue
        yield Finding(VERSION, f"{name} is {installed.get(name, 'not installed')}, was {version}")
    code = read_code_version()
    if code.commit != record.code.commit:
        yield Finding(CODE, f"commit {_shorten(code.commit)}, was {_shorten(record.code.commit)}", stops=False)
    for when, changed in (("now", code.changed), ("then", record.code.changed)):
        if changed:
            yield Finding(CODE, f"the source has changes {when} that no commit has", stops=False)
    machine = describe_machine()
    for name in _MACHINE_FACTS:
        now, then = getattr(machine, name), getattr(record.machine, name)
        if name in record.machine.model_fields_set and now != then:
            yield Finding(MACHINE, f"{name} is {now}, was {then}", stops=False)


def _shorten(commit: str | None) -> str:
    return commit[:_SHOWN_DIGITS] if commit else "unknown"


def find_weights(folder: BundleFolder, fold: int) -> Path | None:
    """The weights of a fold: its own file, or the bundle's where they come from it."""
    own = folder.fold_weights(fold)
    if own.is_file():
        return own
    is_origin = folder.fold_of_weights(read_plan(folder.plan).fold) == fold
    return folder.weights if is_origin and folder.weights.is_file() else None


def find_changes_of_weights(folder: BundleFolder, fold: int, record: TrainingRecord) -> Iterator[Finding]:
    """Whether the bundle has the weights that a training recorded."""
    path = find_weights(folder, fold)
    if path is None:
        yield Finding(WEIGHTS, f"the bundle has no weights of fold {fold}", stops=False)
    elif record.result and compute_sha256(path) != record.result.weights_sha256:
        yield Finding(WEIGHTS, f"models/{path.name} is not what the recorded training of fold {fold} wrote")


def find_changes_of_evaluation(
    folder: BundleFolder, target: Path, fold: int, record: EvaluationRunRecord | None
) -> Iterator[Finding]:
    """Whether the numbers in evidence are those that were recorded, of these weights and this inference config.

    Args:
        folder: the bundle.
        target: folder of the evaluation.
        fold: that is reproduced.
        record: of the evaluation; None when it was made before there were records.
    """
    if record is None:
        yield Finding(EVIDENCE, "the evaluation has no record: its weights and config are not known", stops=False)
        return
    result = record.result
    for name, sha256 in ((METRICS_FILE, result.metrics_sha256), (SUMMARY_FILE, result.summary_sha256)):
        if compute_sha256(target / name) != sha256:
            yield Finding(EVIDENCE, f"{name} was changed after the evaluation")
    if record.inference_config_sha256 != compute_sha256(folder.config("inference")):
        yield Finding(CONFIG, "configs/inference.json is another one than in the evaluation")
    recorded_split = record.split_sha256.get(str(fold))
    if recorded_split is not None and recorded_split != compute_sha256(folder.split(fold)):
        yield Finding(SPLIT, f"evidence/splits/{folder.split(fold).name} is another one than in the evaluation")
    path = find_weights(folder, fold)
    used = [weights.sha256 for weights in record.weights if weights.fold == fold]
    if path is not None and used and compute_sha256(path) not in used:
        yield Finding(WEIGHTS, f"the evaluation was made with other weights than models/{path.name}")
