"""Which cases are evaluated, and with which weights: never with weights that were trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder, require_ensemble
from unet_pipeline.bundle.unlabelled import find_trained_pool, name_case
from unet_pipeline.bundle.weights_origin import find_measured_weights
from unet_pipeline.config_values import quote_name
from unet_pipeline.dataset.annotated_labels import list_missing
from unet_pipeline.dataset.dataset import Dataset, is_pair_header, list_pair_names
from unet_pipeline.dataset.manifest import read_manifest
from unet_pipeline.errors import BundleError, EvaluationError
from unet_pipeline.evaluation.cross_validation import name_folds
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import show_all_cases
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.inputs import PredictionInput


@dataclass(frozen=True)
class ReferencedImage:
    """An image and its reference label map; `pixel_spacing_mm` is a picture's, where the dataset knows it; `patient` is None for a
    patient with this case only; `missing_values` are those of labels that the reference does not show, absent or not."""

    source: PredictionInput
    label: Path
    pixel_spacing_mm: tuple[float, ...] | None = None
    patient: str | None = None
    missing_values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Group:
    """Cases that the same weights predict: those of one network, or of an ensemble."""

    cases: tuple[ReferencedImage, ...]
    weights: tuple[Path, ...]
    fold: int | None


def group_by_fold(folder: BundleFolder, plan: Plan) -> tuple[list[Group], tuple[str, ...], str]:
    """The validation cases of every trained fold with that fold's weights.

    Returns:
        Groups, names of the cases left out (none), title.

    Raises:
        EvaluationError: the dataset is not where the plan says, or a fold has no case that was not trained on.
    """
    folds = folder.trained_folds()
    # a packaged bundle has model.pt only, of the fold that is noted; stock MONAI notes none, and trains the plan's
    weights = {fold: find_measured_weights(folder, fold) for fold in folds} or {
        folder.fold_of_weights(plan.fold): folder.weights
    }
    root = folder.root / plan.dataset_dir
    if not root.is_dir():
        raise EvaluationError(
            f"The dataset of {folder.name} is not where the plan says: {plan.dataset_dir} (from the bundle's root). "
            "Correct dataset_dir in configs/plan.yaml and run `unet-pipeline plan --refresh BUNDLE`."
        )
    patients = folder.read_patients()
    groups = []
    for fold, path in weights.items():
        split = folder.read_split(fold)
        trained = {case.case for case in split.training}
        cases = tuple(
            ReferencedImage(
                PredictionInput(case.case, (root / case.image,)),
                root / case.label,
                tuple(case.spacing_mm) if case.spacing_mm else None,
                patients.get(case.case),
                tuple(case.missing_values),
            )
            for case in split.validation
            if case.case not in trained
        )
        if not cases:
            raise EvaluationError(
                f"Fold {fold} of {folder.name} validates on the case(s) that it was trained on, because the dataset has one patient; "
                "a result on them would say nothing. Evaluate on a dataset of other patients."
            )
        groups.append(Group(cases, (path,), fold))
    return groups, (), f"{plan.dataset_name}, {name_folds(list(weights), plan.num_folds)}"


def group_dataset(
    folder: BundleFolder, plan: Plan, dataset: Dataset, ensemble: bool = False
) -> tuple[list[Group], tuple[str, ...], str]:
    """The cases of a dataset, but for those whose image the bundle's weights, or any of an ensemble's, were trained on.

    Returns:
        One group, names of the cases left out, title.

    Raises:
        EvaluationError: every case was in the training.
    """
    weights = require_ensemble(folder) if ensemble else (folder.weights,)
    folds = folder.trained_folds() if ensemble else (folder.fold_of_weights(plan.fold),)
    trained = set().union(*(hash_training_images(folder, fold) for fold in folds))
    # patients that were found when the bundle was planned, by --patient or by equal images
    known = folder.read_patients() if quote_name(dataset.name) == plan.dataset_name else {}
    cases, excluded = [], []
    for case in dataset.cases:
        images = tuple(dataset.root / image for image in case.images)
        source = PredictionInput(case.name, images, case.missing_channels)
        if any(compute_sha256(file) in trained for file in source.list_files() if not is_pair_header(file)):
            excluded.append(case.name)
        else:
            patient = known.get(case.name) or case.patient
            missing = tuple(plan.label_table[label] for label in list_missing(case, plan.label_table))
            label = dataset.root / case.require_label()
            cases.append(ReferencedImage(source, label, case.spacing_mm, patient, missing))
    if not cases:
        raise EvaluationError(
            f"Every case of {dataset.name} was in the training of {folder.name}; a result on them would say nothing. "
            "Evaluate on other data, or without DATASET for the validation fold."
        )
    title = f"{dataset.name}, {show_all_cases(len(cases))}"
    if excluded:
        title += f" that {'was' if len(cases) == 1 else 'were'} not in the training"
    title += f", ensemble of folds {', '.join(map(str, folds))}" if ensemble else ""
    return [Group(tuple(cases), weights, None)], tuple(excluded), title


def hash_training_images(folder: BundleFolder, fold: int) -> set[str]:
    """SHA-256 of every image file that a fold was trained on, unlabelled ones too, and of the copies made of them."""
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    pool = find_trained_pool(folder, fold)
    kept = [] if pool is None else [image for image in pool.images if not image.left_out]
    # the lists of a training with a pool have its images; the manifest has those of the dataset alone
    trained = {case.case for case in folder.read_split(fold).training} - {name_case(image.name) for image in kept}
    if missing := sorted(trained - manifest.cases.keys()):
        raise BundleError(
            f"evidence/dataset_manifest.json of {folder.name} lacks case {missing[0]}, which fold {fold} trained on; expected every case. "
            "Get it from a copy of the bundle."
        )
    sha256 = {copy.image_sha256 for copy in manifest.prepared if copy.case in trained}
    for name in trained:
        for image in manifest.cases[name].image:
            # the files of a DICOM series lie below the folder that stands for the image
            sha256 |= {
                entry.sha256
                for entry in manifest.files
                if entry.path in (image, *list_pair_names(image)) or entry.path.startswith(f"{image}/")
            }
    return sha256 | {own for image in kept for own in image.files_sha256.values()}
