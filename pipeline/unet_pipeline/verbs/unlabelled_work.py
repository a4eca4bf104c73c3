"""BUNDLE_unlabelled_KEY: the bundle in which a pool of unlabelled images is tried, so that the bundle itself stays as it is.

It is a copy beside the bundle without its results, with the weights that label as models/teacher_fold_*.pt; its data lists have the pool's
images behind the labelled ones. KEY stands for the pool, the weights and the settings, so the same call finds its own work again. What
was decided is written here first; the bundle gets new weights, the runs that made them and the record in one go.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.seal import break_seal
from unet_pipeline.bundle.unlabelled import PoolRecord, find_pool_record, find_trained_pool, name_case, read_pool
from unet_pipeline.cohort.items import hash_parts
from unet_pipeline.dataset.fingerprint import read_fingerprint
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256, remove_partial, stage_folder, write_json, write_together
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.planning.rules import CACHE_GIB, choose_cache_rate
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.outputs import output_path
from unet_pipeline.text_files import read_json_object
from unet_pipeline.verbs.train import copy_weights


@dataclass(frozen=True)
class PoolWork:
    """Where the pieces of a trial lie; `folder` is the bundle, `copy` the one beside it."""

    folder: BundleFolder
    copy: BundleFolder
    key: str

    @property
    def place(self) -> Path:
        """Of everything that is not part of an ordinary bundle; among its results, of which an audit knows that nothing runs."""
        return self.copy.root / "output" / "unlabelled"

    @property
    def before(self) -> Path:
        """The evaluation of the bundle's own folds."""
        return self.place / "before"

    @property
    def decision(self) -> Path:
        return self.place / "decision.json"

    def label_maps(self, fold: int) -> Path:
        """Folder of the pool's label maps by the network of a fold."""
        return self.place / f"labels_fold_{fold}"

    def list_teachers(self, fold: int) -> tuple[Path, ...]:
        """Weights that label for a fold: its own, then those of its further seeds."""
        return tuple(sorted(self.copy.models.glob(f"teacher_fold_{fold}.pt"))) + tuple(
            sorted(self.copy.models.glob(f"teacher_fold_{fold}_seed_*.pt"))
        )

    def hash_teachers(self, folds: Sequence[int]) -> dict[int, list[str]]:
        """SHA-256 of those, by fold."""
        return {fold: [compute_sha256(path) for path in self.list_teachers(fold)] for fold in folds}

    def read_decision(self) -> PoolRecord | None:
        """What was decided; None as long as nothing is."""
        return read_pool(self.decision, self.copy.name) if self.decision.is_file() else None


def list_fold_weights(folder: BundleFolder, fold: int) -> list[Path]:
    """All weights of a fold that have not seen its validation cases."""
    return [folder.fold_weights(fold), *sorted(folder.models.glob(f"model_fold_{fold}_seed_*.pt"))]


def compute_key(
    folder: BundleFolder,
    folds: Sequence[int],
    images_sha256: Mapping[str, Mapping[str, str]],
    overrides: Mapping[int, Mapping[str, object]],
) -> str:
    """Short name of a trial: another pool, other weights, lists, configs or settings have another one."""
    files = [folder.config("train"), folder.config("inference"), folder.plan]
    files += [path for fold in folds for path in (folder.split(fold), *list_fold_weights(folder, fold))]
    return hash_parts([[compute_sha256(path) for path in files], images_sha256, overrides])[:8]


def locate_work(folder: BundleFolder, key: str) -> PoolWork:
    """Where the work of a trial lies, or would lie: beside the bundle."""
    root = folder.root.resolve()
    return PoolWork(folder, BundleFolder(root.with_name(f"{root.name}_unlabelled_{key}")), key)


def open_work(folder: BundleFolder, key: str, folds: Sequence[int]) -> PoolWork:
    """The work of a trial, begun now or by an earlier call; its folder appears whole or not at all."""
    from unet_pipeline.evidence.reproduce.reproduction import copy_for_run
    from unet_pipeline.training.run import name_run, next_run_dir

    work = locate_work(folder, key)
    target = work.copy.root
    if target.is_dir():
        return work
    with stage_folder(target.parent) as staging:
        copy = copy_for_run(folder, staging / "copy", target, {})
        shutil.copyfile(folder.plan, copy.plan)  # the copy lies beside the bundle, so the data are at the same place
        for fold in folds:
            for path in list_fold_weights(folder, fold):
                shutil.copyfile(path, copy.models / path.name.replace("model_", "teacher_", 1))
            # the training takes the next number that the bundle has free, and keeps it when it is handed over
            (copy.runs / next_run_dir(folder, name_run(fold)).name).mkdir(parents=True)
        os.replace(copy.root, target)
    return work


def write_lists(work: PoolWork, fold: int, kept: Sequence[PredictionInput], images: Mapping[str, Path]) -> None:
    """Put the pool's images, with their label maps by the fold's own network, behind the labelled cases of its training.

    Labelled cases are repeated until they are about half of the list, so that half of every epoch is labelled.

    Args:
        kept: images that are trained on; `images` has the file of each that stock MONAI reads.
    """
    plan = read_plan(work.folder.plan)
    start = work.copy.root / plan.dataset_dir
    own = work.folder.split(fold)
    lists = read_json_object(own, ("training",))
    labelled = lists["training"]
    if not isinstance(labelled, list) or not labelled:
        raise BundleError(f'{own.name} of {work.folder.name} has no cases in "training". Restore it from a copy.')

    def place(path: Path) -> str:
        return Path(
            os.path.relpath(path, start)
        ).as_posix()  # which knows no links, as MONAI does not when it joins them

    pool = [
        {
            "case": name_case(source.name),
            "image": place(images[source.name]),
            "label": place(output_path(source, work.label_maps(fold), plan.output_suffix)),
        }
        for source in kept
    ]
    repeats = max(1, round(len(pool) / len(labelled)))
    content = {**lists, "training": [*labelled * repeats, *pool]}
    path = work.copy.split(fold)
    if read_json_object(path) != content:
        write_json(path, content)


def choose_pool_cache_rate(work: PoolWork, fold: int) -> float:
    """Share of the longer list that stays in memory, within what the plan allows for the labelled cases alone."""
    plan, folder = read_plan(work.folder.plan), work.folder
    if not folder.fingerprint.is_file():
        return plan.cache_rate
    known = read_fingerprint(folder.fingerprint)
    num_listed = len(work.copy.read_split(fold).training) + len(work.copy.read_split(fold).validation)
    budget_gib = CACHE_GIB * min(1.0, known.num_cases / num_listed)
    return min(plan.cache_rate, choose_cache_rate(known, plan.spacing_mm, budget_gib).value)


def publish(work: PoolWork, record: PoolRecord) -> None:
    """Give the bundle what was decided: the record; and where the pool is accepted, the weights and runs of the trainings with it.

    The bundle in which it was tried gets the record too: its weights were trained with the pool, whatever was decided.

    It may be called again after a process was killed in it.

    Raises:
        BundleError: the bundle's weights are neither those that labelled nor those that were trained with the pool.
    """
    folder = work.folder
    if record.accepted:
        _require_known_weights(folder, record)
        for fold in record.students_sha256:
            _hand_over_runs(work, fold)
    break_seal(folder)
    with write_together():
        for fold in record.students_sha256 if record.accepted else ():
            copy_weights(work.copy.fold_weights(fold), folder.fold_weights(fold))
            if fold == folder.fold_of_weights(read_plan(folder.plan).fold):
                copy_weights(work.copy.fold_weights(fold), folder.weights)
                write_json(folder.weights_origin, {"fold": fold, "sha256": record.students_sha256[fold]})
        for one in (work.copy, folder):
            write_json(find_pool_record(one, record.key), record.model_dump(mode="json"))


def _require_known_weights(folder: BundleFolder, record: PoolRecord) -> None:
    for fold, sha256 in record.students_sha256.items():
        path = folder.fold_weights(fold)
        if not path.is_file() or compute_sha256(path) not in (sha256, record.teachers_sha256[fold][0]):
            raise BundleError(
                f"models/{path.name} of {folder.name} was changed while the pool was tried; expected the weights that labelled it. "
                "Nothing was changed. Run the same command again, which begins with the weights there are now."
            )


def _hand_over_runs(work: PoolWork, fold: int) -> None:
    """Copy the runs of a fold, each whole or not at all."""
    for run_dir in sorted(work.copy.runs.glob(f"fold_{fold}-*")):
        target = work.folder.runs / run_dir.name
        if not target.is_dir():
            with stage_folder(work.folder.runs) as staging:
                shutil.copytree(run_dir, staging / run_dir.name)
                os.replace(staging / run_dir.name, target)


def finish_publication(folder: BundleFolder) -> bool:
    """Hand over again where a process was killed in it, so that no bundle keeps weights of both kinds; whether there was such a case."""
    root = folder.root.resolve()
    for place in sorted(root.parent.glob(f"{glob.escape(root.name)}_unlabelled_*")):
        work = locate_work(folder, place.name.rpartition("_")[2])
        record = work.read_decision()
        if record is None or not record.accepted or find_pool_record(folder, record.key).is_file():
            continue
        paths = {folder.fold_weights(fold): sha256 for fold, sha256 in record.students_sha256.items()}
        if any(path.is_file() and compute_sha256(path) == sha256 for path, sha256 in paths.items()):
            remove_partial(folder.models)
            publish(work, record)
            return True
    return False


def find_accepted(folder: BundleFolder, images_sha256: Mapping[str, Mapping[str, str]]) -> PoolRecord | None:
    """The record of the same pool where the weights of all its folds were trained with it already."""
    records = [find_trained_pool(folder, fold) for fold in folder.trained_folds()]
    first = records[0] if records else None
    if first is None or not first.accepted or any(record is None or record.key != first.key for record in records):
        return None
    return first if {image.name: image.files_sha256 for image in first.images} == images_sha256 else None
