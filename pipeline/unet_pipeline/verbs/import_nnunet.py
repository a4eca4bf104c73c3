"""`import-nnunet`: trained results of nnU-Net as a bundle that predicts, and with their dataset one that is evaluated and trained on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.write import require_free
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.given_splits import SPLITS_FILE, Folds, read_nnunet_splits
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.nnunet.results import NnunetResults, plan_from_nnunet, read_fingerprint, read_results
from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.splits import choose_splits
from unet_pipeline.results import Result

if TYPE_CHECKING:
    from unet_pipeline.nnunet.bundle import TrainedOn

_FOLDS = 5  # nnU-Net's number


@dataclass(frozen=True, repr=False)
class ImportedFolder(Result):
    """A bundle that `import-nnunet` wrote.

    Attributes:
        epochs: that nnU-Net trained, by fold; the fold -1 was trained on all cases.
    """

    bundle: BundleFolder
    plan: Plan
    epochs: Mapping[int, int]

    def describe_differences(self) -> tuple[str, ...]:
        """Where a prediction of the bundle can differ from nnU-Net's, although the networks are equal."""
        is_mirrored = bool(self.plan.mirrored_axes)
        return (
            *(("nnU-Net mirrors unless told not to: --mirror does the same here",) if is_mirrored else ()),
            "images of another spacing than the plan's are interpolated linearly here, and cubically by nnU-Net",
            "images larger than the patch are cut into windows at other places",
            "images with a border of zeros are not cropped before their mean and deviation are taken",
        )


def import_nnunet(
    results: Path | str,
    bundle: Path | str,
    dataset: Path | str | None = None,
    splits: Path | str | None = None,
    checkpoint: str = "checkpoint_final.pth",
) -> ImportedFolder:
    """Make a bundle of a trained nnU-Net v2: the same networks, with weights for every fold.

    nnU-Net is not needed, and no code of the checkpoints is run.

    Args:
        results: such as nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres.
        bundle: does not exist yet.
        dataset: that it was trained on, for evidence and for `evaluate`; the bundle predicts without it.
        splits: splits_final.json, if it lies neither with the dataset nor with the results.
        checkpoint: name of the file in each fold.

    Raises:
        PlanError: no results, results of a kind that cannot be imported, or another dataset.
        DatasetError: the dataset has an error, or its splits are not known.
        TrainingError: a checkpoint cannot be read, or is not the network of plans.json.
        BundleError: the bundle's folder exists and is not empty.
    """
    root = Path(bundle)
    require_free(root)
    trained = read_results(Path(results), checkpoint)
    from unet_pipeline.nnunet.bundle import write_imported_bundle
    from unet_pipeline.nnunet.weights import read_checkpoint

    checkpoints = {fold: read_checkpoint(path) for fold, path in trained.checkpoints.items()}
    copies = root.resolve().with_name(f"{root.resolve().name}_data")
    data = _find_data(trained, dataset, splits)
    is_prepared = data is not None and data.report.needs_preparation
    place = copies if is_prepared or data is None else data.report.dataset.root
    planned = plan_from_nnunet(
        trained,
        read_fingerprint(trained) if data is None else data.report.require_no_errors(),
        Path(os.path.relpath(place.resolve(), root.resolve())).as_posix(),
        max(_FOLDS, *checkpoints) if data is None else len(data.splits.folds),
        checkpoints[min(checkpoints)].mirrored_axes,
    )
    if data is not None and is_prepared:
        data = replace(data, prepared=prepare_dataset(data.report, copies)[1])
    try:
        folder = write_imported_bundle(root, planned, trained, checkpoints, data)
    except BaseException:
        if is_prepared:
            shutil.rmtree(copies, ignore_errors=True)
        raise
    return ImportedFolder(folder, planned.plan, {fold: read.epoch for fold, read in checkpoints.items()})


def _find_data(trained: NnunetResults, dataset: Path | str | None, splits: Path | str | None) -> TrainedOn | None:
    """The dataset with the splits that nnU-Net trained with; None if none was given."""
    if dataset is None:
        return None
    from unet_pipeline.nnunet.bundle import TrainedOn

    if min(trained.checkpoints) < 0:
        raise DatasetError(
            f"{trained.root.name} was trained on all cases (fold_all), so none is left to evaluate on. Import it without --dataset."
        )
    read = read_dataset(dataset)
    read = replace(read, folds=_find_splits(trained, read, splits))
    report = check_dataset(read)
    report.require_no_errors()
    chosen = choose_splits(report, _FOLDS, 0)
    if max(trained.checkpoints) >= len(chosen.folds):
        raise DatasetError(
            f"{trained.root.name} has fold {max(trained.checkpoints)}; the splits have {len(chosen.folds)} folds. Give those of the training "
            "with --splits."
        )
    return TrainedOn(report, chosen)


def _find_splits(trained: NnunetResults, read: Dataset, splits: Path | str | None) -> Folds:
    """As given, or as they lie with the dataset or the results, or by the cases that each fold has validated."""
    names = [case.name for case in read.cases]
    if splits is not None:
        return read_nnunet_splits(Path(splits), names)
    for place in (trained.root, trained.root.parent):
        if (place / SPLITS_FILE).is_file():
            return read_nnunet_splits(place / SPLITS_FILE, names)
    if read.folds:
        return read.folds
    ending = str(trained.dataset.get("file_ending", ".nii.gz"))
    validated = {
        fold: {path.name.removesuffix(ending) for path in (checkpoint.parent / "validation").glob(f"*{ending}")}
        & set(names)
        for fold, checkpoint in trained.checkpoints.items()
    }
    if sorted(validated) != list(range(len(validated))) or not all(validated.values()):
        raise DatasetError(
            f"Which cases {trained.root.name} was trained on is not known: no splits_final.json, and no validation/ in its folds. Give "
            "nnUNet_preprocessed/DATASET/splits_final.json with --splits."
        )
    return tuple((tuple(sorted(set(names) - cases)), tuple(sorted(cases))) for _, cases in sorted(validated.items()))
