"""What the record says, in sentences: the model card and the reporting checklists are filled from these.

Every function takes the history of a bundle and returns Markdown, or None where the record says nothing. None is never
replaced by a guess: the document then asks its authors.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from pipeline.bundle.history import (
    EvaluationRecord,
    History,
    format_support,
    format_value,
    title_metric,
)
from pipeline.bundle.metadata import INTENDED_USE
from pipeline.bundle.model_choice import tell_model_choice
from pipeline.bundle.shortfall import describe_shortfall
from pipeline.evaluation.summary import ALL_LABELS
from pipeline.networks.table import NETWORKS

_SET_BY_TRAIN = ("bundle_root", "fold", "output_dir", "weights_path", "resume")


def tell_technology(history: History) -> str:
    """Kind of method, labels and dimensions."""
    plan = history.plan
    labels = ", ".join(list(plan.label_table)[1:])
    return f"Segmentation of {labels} in {plan.spatial_dims}D images by a convolutional network (deep learning, U-Net family)."


def tell_intended_use(history: History) -> str:
    """What every bundle of this package is for."""
    return INTENDED_USE


def tell_data(history: History) -> str | None:
    """Name, size, channels, labels and terms of the data set."""
    plan, manifest = history.plan, history.manifest
    if not manifest:
        return None
    patients = history.num_patients
    of_patients = f" of {patients} patients" if patients is not None else "; no two are known to be of one patient"
    facts = [
        f"{plan.dataset_name}: {manifest['num_cases']} labelled cases{of_patients}",
        f"channels: {', '.join(plan.channel_names)}",
        f"labels: {', '.join(f'{name}={value}' for name, value in plan.label_table.items())}",
    ]
    facts += [f"{name.lower()}: {value}" for name, value in history.data_facts.items() if name != "Data set"]
    return "; ".join(facts) + "."


def tell_predictors(history: History) -> str:
    """What the network sees."""
    channels = ", ".join(history.plan.channel_names)
    return f"The voxels of the image, channels {channels}; nothing else enters the network."


def tell_preprocessing(history: History) -> str:
    """Grid and intensities that the network sees."""
    plan = history.plan
    unit = "mm" if plan.spatial_dims == 3 else "pixels"
    grid = "x".join(f"{size:g}" for size in plan.spacing_mm)
    clipped = (
        f"clipped to {plan.intensity_lower:g} to {plan.intensity_upper:g}" if plan.clip_intensity else "not clipped"
    )
    scaled = (
        "z-score per image and channel" if plan.intensity_subtrahend is None else "z-score with the data set's values"
    )
    turned = f"Oriented to {plan.axcodes}" if plan.axcodes else "In the orientation of the files"
    return (
        f"{turned}, resampled to {grid} {unit} ({plan.image_interpolation}); intensities {clipped}, {scaled}. "
        "Reasons in configs/plan.yaml. Predictions return to each image's own grid."
    )


def tell_selection(history: History) -> str | None:
    """Which cases of the data set were taken."""
    if not history.manifest:
        return None
    return (
        f"None selected by hand: all {history.manifest['num_cases']} cases that the data set lists were read and checked. A data set "
        "with a file that cannot be used stops the planning; no case is left out in silence."
    )


def tell_missing_data(history: History) -> str | None:
    """What happens to cases and voxels without annotation."""
    if not history.manifest:
        return None
    ignored = (
        f"Voxels with the value {history.plan.ignore_value} have no annotation and count neither in the loss nor in a result."
        if history.plan.ignore_value is not None
        else "Every voxel has a label."
    )
    return f"Cases without image or label map are refused when the bundle is planned. {ignored}"


def tell_split(history: History) -> str | None:
    """Method, seed and size of every fold."""
    if not history.folds or not history.split_record:
        return None
    counts = "; ".join(
        f"fold {fold.fold}: {len(fold.training)} training, {len(fold.validation)} validation" for fold in history.folds
    )
    held_out = f"; {len(history.test_cases)} test cases held out by the data set" if history.test_cases else ""
    return (
        f"{history.plan.num_folds} folds: {history.split_record['method']} (seed {history.split_record['seed']}). {counts}{held_out}. "
        "Lists and SHA-256 in evidence/splits/."
    )


def tell_disjoint_level(history: History) -> str | None:
    """Whether patients or cases are apart in the folds."""
    if not history.split_record or not history.folds:
        return None
    if shared := history.folds_with_shared_patients():
        return f"Not disjoint: in fold {', '.join(map(str, shared))} a patient is on both sides."
    if history.num_patients is None:
        return "Cases; no two cases are known to be of one patient. Images with the same voxels count as one patient."
    return f"Patients: {history.num_patients}, each on one side of every fold."


def tell_model(history: History) -> str:
    """Network, levels, patches and classes."""
    plan = history.plan
    channels = "-".join(map(str, plan.filters))
    patch = "x".join(map(str, plan.patch_size))
    return (
        f"{plan.network_name} ({NETWORKS[plan.network_name].paper}), {len(plan.filters)} levels with {channels} channels, "
        f"{plan.normalisation} normalisation; patches of {patch}, {len(plan.label_table)} classes. Every number with its reason: "
        "configs/plan.yaml; every part and connection: configs/train.json."
    )


def tell_software(history: History) -> str | None:
    """Versions and commit of the latest run that has them."""
    versions = next((run["versions"] for run in reversed(history.runs) if run.get("versions")), None)
    if versions is None:
        return None
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    code: dict[str, Any] = next((run["code"] for run in reversed(history.runs) if run.get("code")), {})
    commit = code.get("commit")
    changed = ", changed since" if code.get("changed") else ""
    return f"{listed}" + (f"; commit {commit}{changed}" if commit else "") + "."


def tell_initialization(history: History) -> str | None:
    """Where the first weights came from."""
    if not history.runs:
        return None
    if any("initial_weights_sha256" in run for run in history.runs):
        return "From weights of an earlier training; their SHA-256 is in the run record (evidence/runs/)."
    seeds = sorted({str((run.get("settings") or {}).get("seed", history.plan.seed)) for run in history.runs})
    return f"Random, from seed {', '.join(seeds)} and the fold."


def tell_training(history: History) -> str:
    """What was planned, and every run with time and machine."""
    plan = history.plan
    planned = (
        f"Planned: {plan.num_epochs} epochs of {plan.iterations_per_epoch} iterations with {plan.batch_size} patches, AdamW at a learning "
        f"rate of {plan.learning_rate:g} with warm-up and cosine decay, loss {plan.loss}; augmentation as in configs/plan.yaml."
    )
    runs = "; ".join(_tell_run(run) for run in history.runs)
    return planned + (f" Run: {runs}." if runs else " No run record.")


def _tell_run(run: dict[str, Any]) -> str:
    machine = run.get("machine") or {}
    told = f"{run.get('id', 'run')} {run.get('state', 'of unknown state')}"
    if "num_epochs" in (run.get("result") or {}):
        told += f", {run['result']['num_epochs']} epochs"
    if short := describe_shortfall(run):
        told += f" (cut short: {short})"
    if overrides := list_overrides(run):
        told += f" with {', '.join(overrides)}"
    if "duration_s" in run:
        told += f" in {run['duration_s'] / 60:.1f} min"
    if machine.get("processor"):
        device = machine.get("gpu") or f"{machine.get('num_cores')} cores of {machine['processor']}"
        told += f" on {device}"
    return told


def list_overrides(run: dict[str, Any]) -> list[str]:
    """What a run set otherwise than the plan, as KEY=VALUE."""
    settings = run.get("settings") or {}
    return [f"{key}={value}" for key, value in settings.items() if key not in _SET_BY_TRAIN]


def tell_ensembling(history: History) -> str | None:
    """Which results are of an ensemble."""
    titles = [found.title for found in history.evaluations if "ensemble" in found.title]
    if titles:
        return "Probabilities averaged over the folds in: " + "; ".join(titles) + "."
    return "None in the results here; every case is predicted by one network." if history.evaluations else None


def tell_metrics(history: History) -> str | None:
    """Metrics of the first evaluation and their grid."""
    if not history.evaluations:
        return None
    titles = dict.fromkeys(title_metric(row) for row in history.evaluations[0].rows)
    return f"{', '.join(titles)}, per case and label on the image's own grid, from the prediction files; then the mean over cases."


def tell_uncertainty(history: History) -> str | None:
    """How the intervals were made."""
    return f"{history.evaluations[0].interval}." if history.evaluations else None


def tell_calibration(history: History) -> str | None:
    """Calibration error before and after the temperature."""
    if not history.tuning or "calibration" not in history.tuning:
        return None
    found = history.tuning["calibration"]
    if found.get("obstacle"):
        return (
            f"Expected calibration error {found['error_before']:.4f} on {history.tuning['num_cases']} out-of-fold predictions; no "
            f"temperature was taken, because {found['obstacle']}."
        )
    return (
        f"Expected calibration error {found['error_before']:.4f} before and {found['error_after']:.4f} after a temperature of "
        f"{found['temperature']:.4f}, on {history.tuning['num_cases']} out-of-fold predictions."
    )


def tell_subgroups(history: History) -> str | None:
    """Which evaluations have subgroups."""
    found = [record for record in history.evaluations if record.summary.get("subgroups")]
    return f"Results per subgroup in {', '.join(record.title for record in found)}: see the report." if found else None


def tell_internal_results(history: History) -> str | None:
    """Results on the validation cases."""
    record = history.find_evaluation("validation")
    return None if record is None else tell_results_of(record)


def tell_external_results(history: History) -> str | None:
    """Results on data sets that the evaluation was given; whether they are external only the authors know."""
    others = [record for record in history.evaluations if record.name != "validation"]
    if not others:
        return None
    told = " ".join(tell_results_of(record) for record in others)
    return f"{told} Whether these data are external to the training is for the authors to say."


def tell_results(history: History) -> str | None:
    """Results of every evaluation."""
    return " ".join(tell_results_of(record) for record in history.evaluations) or None


def tell_results_of(record: EvaluationRecord) -> str:
    """Every metric of the mean of labels in one sentence; the labels are in the report's table."""
    rows = [row for row in record.rows if row["label"] == ALL_LABELS and row.get("mean") is not None]
    told = "; ".join(
        f"{title_metric(row)} {format_value(row['metric'], row['mean'])} ({format_support(row)})" for row in rows
    )
    return f"{record.title}, {ALL_LABELS}: {told or 'undefined in every case'}."


def tell_failures(history: History) -> str | None:
    """How many failures each evaluation lists."""
    found = [(record.title, record.summary.get("failures")) for record in history.evaluations]
    listed = [f"{title}: {len(failures)} listed" for title, failures in found if isinstance(failures, list)]
    return f"{'; '.join(listed)}. Cases and pictures: evidence/report.html." if listed else None


def tell_counts(history: History) -> str | None:
    """Cases found, used, held out and left out."""
    if not history.manifest or not history.folds:
        return None
    excluded = {record.title: len(record.summary.get("excluded", ())) for record in history.evaluations}
    left_out = "; ".join(
        f"{title}: {count} left out, because they were trained on" for title, count in excluded.items() if count
    )
    used = len({*(name for fold in history.folds for name in (*fold.training, *fold.validation))})
    found, held_out = int(history.manifest["num_cases"]), len(history.test_cases)
    told = f"{found} cases found, {used} in the cross-validation, {held_out} held out as test"
    if rest := found - used - held_out:
        told += f"; {rest} not in any fold"
    elif not left_out:
        told += "; none left out"
    return told + (f"; {left_out}." if left_out else ".")


def tell_characteristics(history: History) -> str | None:
    """Median shape and volume of every label; nothing about people, which the images do not carry."""
    cases = history.fingerprint.get("cases")
    if not cases:
        return None
    shape = "x".join(f"{statistics.median(sizes):g}" for sizes in zip(*(case["shape"] for case in cases), strict=True))
    labels = list(history.plan.label_table)[1:]
    present = "; ".join(
        f"{label} in {sum(case['num_voxels'].get(label, 0) > 0 for case in cases)} of {len(cases)} cases"
        for label in labels
    )
    return f"Images: median {shape} voxels; {present}. Nothing about the patients is in the record."


def tell_limits(history: History) -> str:
    """What the results do not show."""
    lines = [
        "One data set; the intervals are over its cases and say nothing about other scanners, protocols or patients."
    ]
    if not any(record.name != "validation" for record in history.evaluations):
        lines.append("No test on data of another origin.")
    trained = history.trained_folds
    if not trained and history.imported_folds:
        lines.append("The weights are of a training on all cases together, so that no fold has a result of its own.")
    elif len(trained) < history.plan.num_folds:
        lines.append(f"{len(trained)} of {history.plan.num_folds} folds trained.")
    if shown := [fold.fold for fold in history.folds if set(fold.training) & set(fold.validation)]:
        lines.append(
            f"In fold {', '.join(map(str, shown))} the validation shows cases that were trained on, because there is one patient: nothing "
            "could be validated."
        )
    lines += [f"The training {run} was cut short: {short}." for run, short in history.list_cut_short()]
    if history.num_patients is None:
        lines.append(
            "The record does not say which images are of one patient, so that a patient may lie on both sides of a split."
        )
    return " ".join(lines)


def tell_details(history: History) -> str:
    """Where the technical detail is."""
    return "configs/plan.yaml, configs/*.json and evidence/ of the bundle: manifest, splits, run records, results per case."


def tell_availability(history: History) -> str:
    """Software, weights and data, with their terms."""
    licence = history.data_facts.get("Licence")
    weights = history.hashes.get("weights, models/model.pt")
    told = "Software: unet-pipeline, Apache-2.0. "
    told += f"Weights: models/model.pt, SHA-256 {weights}. " if weights else "Weights: none yet. "
    return told + (
        f"Data: {history.plan.dataset_name}, licence {licence}."
        if licence
        else "Data: terms not stated by the data set."
    )


def tell_code(history: History) -> str:
    """Where the code is."""
    return "unet-pipeline, Apache-2.0; the configs lie in the bundle and run with stock MONAI."


def tell_output(history: History) -> str:
    """What the network gives."""
    return (
        "A label map on the image's own grid, one class per voxel ("
        + ", ".join(f"{value}={name}" for name, value in history.plan.label_table.items())
        + "): the class of the highest probability; probabilities on request."
    )


def tell_imbalance(history: History) -> str:
    """How patches are drawn, and the loss."""
    ratios = ", ".join(
        f"{label} {share:g}" for label, share in zip(history.plan.label_table, history.plan.crop_ratios, strict=False)
    )
    return f"Patches are centred on the labels in the shares {ratios}; the loss is {history.plan.loss}."


def tell_separation(history: History) -> str | None:
    """How evaluated cases are kept apart from the training."""
    if not history.evaluations:
        return None
    given = [record.title for record in history.evaluations if record.was_given]
    if len(given) == len(history.evaluations):
        return None
    return (
        "Every case was predicted with weights that were not trained on it; a case whose image was trained on is left out of an "
        "evaluation on another data set."
    ) + (f" Except for label maps that were given, whose weights are not known: {'; '.join(given)}." if given else "")


# fmt: off
ANSWERS: dict[str, Callable[[History], str | None]] = {
    tell.__name__.removeprefix("tell_"): tell
    for tell in (
        tell_model_choice, tell_technology, tell_intended_use, tell_data, tell_predictors, tell_preprocessing,
        tell_selection, tell_missing_data, tell_split, tell_disjoint_level, tell_model, tell_software,
        tell_initialization, tell_training, tell_ensembling, tell_metrics, tell_uncertainty, tell_calibration,
        tell_subgroups, tell_internal_results, tell_external_results, tell_results, tell_failures, tell_counts,
        tell_characteristics, tell_limits, tell_details, tell_availability, tell_code, tell_output, tell_imbalance,
        tell_separation,
    )
}
# fmt: on
