"""Results of nnU-Net v2 -> a bundle with the same networks, which runs with stock MONAI and without nnU-Net."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.write import write_data, write_whole
from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.prepare import PreparedCase
from unet_pipeline.files import compute_sha256, write_json, write_text
from unet_pipeline.networks.counting import build_network
from unet_pipeline.nnunet.results import NnunetResults
from unet_pipeline.nnunet.weights import NnunetCheckpoint, load_nnunet_weights
from unet_pipeline.planning.planner import PlannedBundle
from unet_pipeline.planning.splits import Splits
from unet_pipeline.training.checkpoint import save_weights


@dataclass(frozen=True)
class TrainedOn:
    """The dataset that nnU-Net was trained on, once it was found."""

    report: CheckReport
    splits: Splits
    prepared: tuple[PreparedCase, ...] = ()


def write_imported_bundle(
    root: Path,
    planned: PlannedBundle,
    results: NnunetResults,
    checkpoints: Mapping[int, NnunetCheckpoint],
    data: TrainedOn | None,
) -> BundleFolder:
    """Write a bundle with the weights of every fold; the folder appears whole or not at all.

    Args:
        root: does not exist yet, or is empty.
        planned: from `plan_from_nnunet`.
        data: the dataset; without it the bundle predicts, and cannot be evaluated on cases that it has not seen.

    Raises:
        BundleError: `root` exists and is not empty.
        TrainingError: a checkpoint is not the network of the plan.
    """
    plan, first = planned.plan, min(checkpoints)

    def fill(folder: BundleFolder) -> None:
        network = build_network(plan.shape).eval()
        described: dict[str, object] = {}
        for fold, checkpoint in checkpoints.items():
            load_nnunet_weights(network, plan.network_name, checkpoint.weights, results.axes, plan.strides)
            path = folder.weights if fold < 0 else folder.fold_weights(fold)
            save_weights(path, network)
            source = results.checkpoints[fold]
            described[source.parent.name] = {
                "checkpoint": source.name,
                "checkpoint_sha256": compute_sha256(source),
                "weights_sha256": compute_sha256(path),
                "epochs": checkpoint.epoch,
                "trainer": checkpoint.trainer,
            }
        if first >= 0:
            shutil.copyfile(folder.fold_weights(first), folder.weights)
            write_json(folder.weights_origin, {"fold": first, "sha256": compute_sha256(folder.weights)})
        if data is not None:
            write_data(folder, plan, data.report, data.splits, data.prepared)
        write_json(
            folder.imported,
            {"from": "nnU-Net v2", "configuration": results.configuration, "folds": described, "plans": results.plans},
        )
        write_text(folder.docs / "data_license.txt", _describe_data(results, data))

    return write_whole(root, planned, fill, f"imported from nnU-Net, {results.configuration}")


def _describe_data(results: NnunetResults, data: TrainedOn | None) -> str:
    licence = data.report.dataset.licence if data is not None else results.dataset.get("licence", "")
    reference = data.report.dataset.reference if data is not None else results.dataset.get("reference", "")
    return (
        f"Data set: {results.plans['dataset_name']}\n"
        f"Licence: {licence or 'not stated by the data set'}\n"
        f"Reference: {reference or 'not stated by the data set'}\n"
        "The weights were trained on these data by nnU-Net v2 (Isensee et al. 2021, Nature Methods 18:203-211); the terms of the data may "
        "bind the weights too.\n"
    )
