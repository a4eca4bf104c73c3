"""`train --unlabelled`: images without labels, labelled by the bundle's own folds, trained on, and kept only where that is shown to help.

The training of fold k gets the pool as network k labels it, the only one that has not seen the validation cases of fold k; so their labels
reach none of the label maps that it is trained on. What the other networks decide is one thing, the same for all folds: whether an image
is used at all. The trainings have the settings, steps and seed of those they are compared with, and begin from the same weights.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_trusted
from unet_pipeline.bundle.data_state import require_unchanged_data
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.unlabelled import PoolRecord, find_pool_record
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.errors import BundleError, TrainingError
from unet_pipeline.evaluation.groups import Group, group_by_fold
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.locks import hold_lock
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.inputs import PredictionInput, list_inputs
from unet_pipeline.results import Result
from unet_pipeline.verbs.evaluate import evaluate
from unet_pipeline.verbs.train import TrainingJob, gather_overrides, train_all
from unet_pipeline.verbs.unlabelled_pool import hash_pool, label_pool, sort_pool, write_images
from unet_pipeline.verbs.unlabelled_work import (
    PoolWork,
    choose_pool_cache_rate,
    compute_key,
    find_accepted,
    finish_publication,
    locate_work,
    open_work,
    publish,
    write_lists,
)

if TYPE_CHECKING:
    from unet_pipeline.bundle.unlabelled import PoolGain
    from unet_pipeline.training.run import TrainingRun

LABELLED_BY = (
    "for the training of a fold by that fold's own network, and those of its further seeds, which have not seen its validation cases; "
    "the networks of all folds decide together which images are used"
)
# ids that change where and how fast a training runs, not what comes out
_FREE = ("device", "num_workers", "cache_rate", "device_cache_gib", "checkpoint_interval_s")


@dataclass(frozen=True, repr=False)
class PoolTrial(Result):
    """What came of a pool of unlabelled images.

    Attributes:
        record: of the images, the gain and the decision, as evidence/unlabelled/KEY.json has it; None where a signal stopped a training.
        work: folder beside the bundle with label maps and trainings, which may be removed once all is decided.
        path: of the record.
        stopped_by: the signal, if any.
    """

    record: PoolRecord | None
    work: Path
    path: Path
    stopped_by: str | None = None


@dataclass(frozen=True)
class _Trial:
    """What all steps need: the work, the bundle's plan, its folds, and who computes."""

    work: PoolWork
    plan: Plan
    groups: Sequence[Group]
    overrides: Mapping[int, dict[str, object]]
    device: str | None
    workers: JobOptions | None
    tracking: str | None
    announce: Callable[[str], None]

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(self.overrides)

    def evaluate(self, bundle: Path, out: Path | None) -> Path:
        """Measure every fold of a bundle on its validation cases; the folder of the numbers."""
        who = self.workers or JobOptions()
        measured = evaluate(bundle, None, out, device=self.device, trust=True, check_data=False, **who.as_arguments())
        return measured.folder


def train_with_unlabelled(
    bundle: Path | str,
    pool: Path | str,
    overrides: Mapping[str, object] | None = None,
    announce: Callable[[str], None] = lambda line: None,
    device: str | None = None,
    trust: bool = False,
    tracking: str | None = None,
    check_data: bool = True,
    jobs: int = 1,
    engine: str = "local",
    threads: int | None = None,
    address: str | None = None,
    sbatch: Mapping[str, str] | None = None,
) -> PoolTrial:
    """Train all trained folds anew with pseudo-labels of unlabelled images; the bundle gets those weights only if they are better.

    The pool is labelled, filtered and trained on in BUNDLE_unlabelled_KEY beside the bundle. The weights are kept if the 95 % interval of
    the paired gain in Dice on the validation cases, patients as units, lies above 0; otherwise models/ stays as it is. The same call
    again goes on where it was stopped, and tells what is decided already.

    Args:
        bundle: two or more trained folds.
        pool: images as for `predict`; those that the dataset has are left out.
        overrides: ids of train.json that change nothing of what comes out, such as num_workers.
        announce: called with what is done, and what is left out.
        device: that labels and measures, as in `predict`.
        trust, tracking, check_data: as in `train`.
        jobs, engine, threads, address, sbatch: who labels, trains and measures, as in `predict` and `train`.

    Raises:
        CohortError: workers cannot be had, or trainings failed (the message lists them; the others are done).
        BundleError: fewer than two trained folds; the bundle needs trust; or its weights were changed in the meantime.
        DatasetError: the data have changed since the bundle was planned.
        EvaluationError: a fold validates on what it was trained on.
        PredictionError: the pool has no image.
        TrainingError: the bundle gives instances, an id changes what comes out, or a fold was trained otherwise than the plan says now.
        InUseError: another process tries the same pool.
    """
    workers = JobOptions(jobs, engine, threads, address, sbatch or {}).workers()
    folder = open_trusted(bundle, "train", trust, sealed=False)
    folder.require_data()
    if finish_publication(folder):
        announce("kept     an earlier call was cut off while it handed over the weights; they are all in place now")
    _require_able(folder)
    if check_data:
        require_unchanged_data(folder)
    settings = _recall_settings(folder, gather_overrides(folder, None, False, overrides))
    return _try_or_recall(folder, Path(pool), settings, (device, workers, tracking, announce))


def _try_or_recall(
    folder: BundleFolder,
    pool: Path,
    settings: dict[int, dict[str, object]],
    who: tuple[str | None, JobOptions | None, str | None, Callable[[str], None]],
) -> PoolTrial:
    """What was decided about a pool, now or earlier; `who` are device, workers, tracking and announce."""
    plan = read_plan(folder.plan)
    inputs = list_inputs(pool, len(plan.channel_names), plan.channel_names, plan.missing_channels)
    images_sha256 = hash_pool(inputs)
    if (known := find_accepted(folder, images_sha256)) is not None:
        return _conclude(locate_work(folder, known.key), known)
    key = compute_key(folder, list(settings), images_sha256, settings)
    work = open_work(folder, key, list(settings))
    trial = _Trial(work, plan, group_by_fold(folder, plan)[0], settings, *who)
    with hold_lock(work.copy.root / ".unlabelled.lock", f"The trial {work.copy.name}"):
        decided = work.read_decision() or _try_pool(trial, pool.resolve().name, inputs, images_sha256)
        if isinstance(decided, str):
            return PoolTrial(None, work.copy.root, find_pool_record(folder, key), decided)
        publish(work, decided)
    return _conclude(work, decided)


def _conclude(work: PoolWork, record: PoolRecord) -> PoolTrial:
    return PoolTrial(record, work.copy.root, find_pool_record(work.folder, work.key))


def _require_able(folder: BundleFolder) -> None:
    if (num_folds := len(folder.trained_folds())) < 2:
        raise BundleError(
            f"{folder.name} has weights of {num_folds} fold(s); expected two or more, because with --unlabelled every fold is trained again, "
            "with the images on whose labels the networks of the folds agree. Train the folds first: "
            f"`unet-pipeline train {shlex.quote(str(folder.root))} --fold all`."
        )
    if read_plan(folder.plan).instance_targets is not None:
        raise TrainingError(
            f"{folder.name} gives instances, and its folds would have to agree on objects, not on label maps, which is not built. Train it "
            "without --unlabelled."
        )


def _recall_settings(folder: BundleFolder, given_now: Mapping[str, object]) -> dict[int, dict[str, object]]:
    """Overrides of the training of each trained fold, so that with the pool it is trained in the same way.

    Raises:
        TrainingError: an id that is given now changes what comes out; or a fold was trained otherwise than the plan says now.
    """
    from unet_pipeline.evidence.records.continuation import list_overrides
    from unet_pipeline.evidence.records.record import find_latest_training
    from unet_pipeline.evidence.reproduce.reproduction_checks import find_changes_of_plan
    from unet_pipeline.messages import ERROR

    if changing := [key for key in given_now if key not in _FREE]:
        raise TrainingError(
            f"{changing[0]} changes what comes out of a training, so a gain would not be that of the unlabelled images; with --unlabelled "
            f"only {', '.join(_FREE)} may be given. Leave it out: each fold is trained as it was."
        )
    settings = {}
    for fold in folder.trained_folds():
        record = find_latest_training(folder, fold)
        if (
            record is None
            or record.result is None
            or record.result.weights_sha256 != compute_sha256(folder.fold_weights(fold))
        ):
            settings[fold] = dict(given_now)  # of stock MONAI, which trains as the plan says
            continue
        for change in find_changes_of_plan(folder, record):
            if change.severity == ERROR:
                raise TrainingError(
                    f"Fold {fold} of {folder.name} was trained otherwise than the bundle says now ({change}) A gain would not be that of "
                    "the unlabelled images. Train all folds again first."
                )
        start = record.overrides.get("initial_weights")
        if start is not None:
            raise TrainingError(
                f"Fold {fold} of {folder.name} was started from {Path(str(start)).name} by `train --from`, and its record does not say "
                "where that lies; expected the plan's start. Plan with `plan --from`, train, and try the images then."
            )
        anew = {"initial_weights": None} if "initial_weights" in record.overrides else {}
        settings[fold] = {**list_overrides(record), **anew, **given_now}
    return settings


def _try_pool(
    trial: _Trial, name: str, inputs: Sequence[PredictionInput], images_sha256: Mapping[str, Mapping[str, str]]
) -> PoolRecord | str:
    """Label, filter, train and measure; the decision is written into the work's folder. The signal that stopped it, if one did."""
    from unet_pipeline.studies.pool import describe_left_out, reject_before_training

    work, announce = trial.work, trial.announce
    announce(f"work     {work.copy.root}")
    contract_sha256 = _provide_contract(trial)
    trial.evaluate(work.folder.root, work.before)
    labelled = label_pool(work, trial.plan, trial.folds, inputs, images_sha256, (trial.device, trial.workers, announce))
    images, least = sort_pool(work, trial.plan, labelled)
    kept = {image.name for image in images if not image.left_out}
    left_out = describe_left_out(images)
    announce(f"pool     {len(kept)} of {len(images)} images are kept" + (f"; left out: {left_out}" if left_out else ""))
    record = PoolRecord(
        key=work.key,
        pool=name,
        dataset=trial.plan.dataset_name,
        labelled_by=LABELLED_BY,
        images=images,
        num_kept=len(kept),
        least_agreement=least,
        contract_sha256=contract_sha256,
        overrides=dict(trial.overrides),
        teachers_sha256=work.hash_teachers(trial.folds),
        accepted=False,
        reason=reject_before_training(images),
    )
    if not record.reason:
        runs = _train_folds(trial, [source for source in inputs if source.name in kept])
        if (stopped_by := next((run.stopped_by for run in runs if run.stopped_by), None)) is not None:
            return stopped_by
        record = _judge(trial, record)
    write_json(work.decision, record.model_dump(mode="json"))
    return record


def _provide_contract(trial: _Trial) -> str:
    """SHA-256 of the contract that the pool is compared with: the bundle's, or one made now; empty where there are too few cases."""
    from unet_pipeline.quality.contract import CONTRACT_FILE, read_contract
    from unet_pipeline.quality.fitting import FEWEST_CASES, write_contract
    from unet_pipeline.quality.inspector import hash_contract

    folder, copy = trial.work.folder, trial.work.copy
    known = read_contract(folder)
    split = folder.read_split(trial.folds[0])
    if hash_contract(copy):
        return hash_contract(copy)
    if known is not None and known.weights_sha256 == [compute_sha256(group.weights[0]) for group in trial.groups]:
        shutil.copyfile(folder.evidence / CONTRACT_FILE, copy.evidence / CONTRACT_FILE)
    elif len({case.case for case in (*split.training, *split.validation)}) >= FEWEST_CASES:
        write_contract(copy, trial.plan, trial.groups, trial.device)
    return hash_contract(copy)


def _train_folds(trial: _Trial, kept: Sequence[PredictionInput]) -> tuple[TrainingRun, ...]:
    work, plan = trial.work, trial.plan
    images = write_images(work, plan, kept)
    trainings = []
    for fold in trial.folds:
        write_lists(work, fold, kept, images)
        cached = {"cache_rate": choose_pool_cache_rate(work, fold)}
        trainings.append(TrainingJob(work.copy, fold, {**cached, **trial.overrides[fold]}, None))
    return train_all(work.copy, trainings, trial.workers, True, trial.tracking, False, trial.announce)


def _judge(trial: _Trial, record: PoolRecord) -> PoolRecord:
    """Compare the trainings with and without the pool, case by case."""
    from unet_pipeline.evaluation.comparison import compare_cases, read_measured_cases
    from unet_pipeline.studies.pool import decide, describe_gain

    after = trial.evaluate(trial.work.copy.root, None)
    pair = (read_measured_cases(trial.work.before, "without the pool"), read_measured_cases(after, "with it"))
    gain: PoolGain = describe_gain(compare_cases(*pair, metrics=("dice",)).rows[0])
    accepted, reason = decide(gain)
    students = {fold: compute_sha256(trial.work.copy.fold_weights(fold)) for fold in trial.folds}
    update = {"gain": gain, "accepted": accepted, "reason": reason, "students_sha256": students}
    return record.model_copy(update=update)
