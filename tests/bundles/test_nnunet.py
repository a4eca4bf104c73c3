"""Results of nnU-Net become bundles with equal networks: compared with nnU-Net's networks, written again in `nnunet_results`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import nnunet_results as nnunet
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError, DatasetError, PlanError, TrainingError
from unet_pipeline.files import write_json
from unet_pipeline.networks.counting import build_network, count_parameters
from unet_pipeline.planning.plan import read_plan

NETWORKS = ["PlainConvUNet", "ResidualEncoderUNet"]
SPACING_MM = (1.5, 1.5, 2.0)  # of the phantoms; nnU-Net has it in reverse


def load_network(root: Path, weights: Path | None = None) -> torch.nn.Module:
    folder = BundleFolder(root)
    network = build_network(read_plan(folder.plan).shape).eval()
    network.load_state_dict(torch.load(weights or folder.weights, weights_only=True), strict=True)
    return network


def turn(x: torch.Tensor, transpose: tuple[int, ...]) -> torch.Tensor:
    """A batch with the axes of the file as nnU-Net's network gets it: axes in reverse, then in the order of its plans."""
    return x.permute(0, 1, 4, 3, 2).permute(0, 1, *(2 + axis for axis in transpose))


def turn_back(x: torch.Tensor, transpose: tuple[int, ...]) -> torch.Tensor:
    return x.permute(0, 1, *(2 + transpose.index(axis) for axis in range(3))).permute(0, 1, 4, 3, 2)


def write_nnunet_raw(root: Path, num_cases: int = 6) -> Path:
    for seed in range(num_cases):
        image, label = phantoms.draw_organ(seed)
        phantoms.write_volume(root / "imagesTr" / f"organ_{seed}_0000.nii.gz", image)
        phantoms.write_volume(root / "labelsTr" / f"organ_{seed}.nii.gz", label)
    labels = {"background": 0, "organ": 1, "tumour": 2}
    content = {"channel_names": {"0": "MR0"}, "labels": labels, "numTraining": num_cases, "file_ending": ".nii.gz"}
    write_json(root / "dataset.json", content)
    return root


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_import_nnunet_network_gives_nnunets_logits(tmp_path: Path, network: str, transpose: tuple[int, ...]) -> None:
    """Two channels, kernels that are flat at the first level, a size that the total stride divides, axes in any order."""
    results, networks = nnunet.write_results(tmp_path / "results", network, num_channels=2, transpose=transpose)
    imported = unet_pipeline.import_nnunet(results, tmp_path / "bundle")
    own = load_network(tmp_path / "bundle")
    x = torch.randn(2, 2, 32, 48, 16, generator=torch.Generator().manual_seed(1))
    x = turn_back(x.permute(0, 1, 4, 3, 2), transpose)
    with torch.inference_mode():
        expected = turn_back(networks["0"](turn(x, transpose)), transpose)
        found = own(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    unbiased = count_parameters(imported.plan.shape)
    assert unbiased == sum(parameter.numel() for parameter in own.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_import_nnunet_label_maps_are_those_of_nnunets_steps(tmp_path: Path, network: str) -> None:
    """Z-score, padding to the patch with 0, network, argmax: nnU-Net's steps for an image of the planned spacing within one patch."""
    changes = {"patch_size": [24, 40, 40]}
    results, networks = nnunet.write_results(tmp_path / "results", network, changes=changes)
    phantoms.silently(unet_pipeline.import_nnunet, results, tmp_path / "bundle")
    image, _ = phantoms.draw_organ(4)
    affine = np.diag([-1.5, 1.5, 2.0, 1.0])  # as stored, and not turned to RAS
    path = phantoms.write_volume(tmp_path / "images" / "organ.nii.gz", image, affine)
    (written,) = phantoms.silently(unet_pipeline.predict, tmp_path / "bundle", path, tmp_path / "out").written
    x = torch.from_numpy(image.transpose(2, 1, 0).copy())[None, None]
    x = (x - x.mean()) / x.std(unbiased=False)
    gaps = [wanted - size for wanted, size in zip(changes["patch_size"], x.shape[2:], strict=True)]
    padding = [side for gap in reversed(gaps) for side in (gap // 2, gap - gap // 2)]
    with torch.inference_mode():
        logits = networks["0"](torch.nn.functional.pad(x, padding))[0]
    inside = tuple(slice(gap // 2, gap // 2 + size) for gap, size in zip(gaps, x.shape[2:], strict=True))
    expected = logits[(slice(None), *inside)].argmax(dim=0).numpy().transpose(2, 1, 0)
    assert len(np.unique(expected)) > 1
    found = np.asarray(nib.load(written).dataobj)
    assert (found != expected).mean() < 1e-4, "a voxel may be decided by rounding, and no more"


def test_import_nnunet_pictures_give_nnunets_logits(tmp_path: Path) -> None:
    """The rows of a picture are the second axis here and the first in nnU-Net."""
    labels = {"background": 0, "cell": 1}
    results, networks = nnunet.write_results(tmp_path / "results", dims=2, labels=labels)
    imported = phantoms.silently(unet_pipeline.import_nnunet, results, tmp_path / "bundle")
    assert imported.plan.patch_size == (48, 32)
    assert imported.plan.mirrored_axes == (0,), "nnU-Net's axis 1 is the width"
    x = torch.randn(1, 1, 48, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = networks["0"](x.transpose(2, 3)).transpose(2, 3)
        torch.testing.assert_close(load_network(tmp_path / "bundle")(x), expected, rtol=0, atol=1e-4)
    picture, _ = phantoms.draw_cell(0)
    PillowImage.fromarray(picture).save(tmp_path / "cell.png")
    out = phantoms.silently(unet_pipeline.predict, tmp_path / "bundle", tmp_path / "cell.png", tmp_path / "out")
    assert PillowImage.open(out.written[0]).size == phantoms.PICTURE_SIZE


def test_import_nnunet_plan_says_what_nnunet_planned(tmp_path: Path) -> None:
    results, _ = nnunet.write_results(tmp_path / "results", folds=("0", "2"))
    imported = unet_pipeline.import_nnunet(results.parent, tmp_path / "bundle")
    plan = imported.plan
    assert (plan.patch_size, plan.spacing_mm, plan.axcodes) == ((32, 32, 16), SPACING_MM, None)
    assert plan.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert plan.kernel_size[0] == (3, 3, 1)
    assert plan.mirrored_axes == (0, 2)
    assert imported.epochs == {0: 7, 2: 8}
    folder = BundleFolder(tmp_path / "bundle")
    assert folder.trained_folds() == (0, 2)
    assert folder.weights.read_bytes() == folder.fold_weights(0).read_bytes()
    recorded = json.loads(folder.imported.read_text())
    assert recorded["folds"]["fold_2"]["epochs"] == 8
    assert unet_pipeline.audit(tmp_path / "bundle").passed


def test_import_nnunet_ct_is_clipped_and_scaled_by_the_dataset(tmp_path: Path) -> None:
    results, _ = nnunet.write_results(tmp_path / "results", changes={"normalization_schemes": ["CTNormalization"]})
    plan = unet_pipeline.import_nnunet(results, tmp_path / "bundle").plan
    assert (plan.clip_intensity, plan.intensity_lower, plan.intensity_upper) == (True, -10.0, 90.0)
    assert (plan.intensity_subtrahend, plan.intensity_divisor) == ((50.0,), (20.0,))


def test_import_nnunet_with_dataset_evaluates_the_cases_that_each_fold_has_not_seen(tmp_path: Path) -> None:
    results, _ = nnunet.write_results(tmp_path / "results", folds=("0", "1"))
    dataset = write_nnunet_raw(tmp_path / "Dataset001_Organ")
    cases = [f"organ_{seed}" for seed in range(6)]
    splits = [{"train": cases[2:], "val": cases[:2]}, {"train": [*cases[:2], *cases[4:]], "val": cases[2:4]}]
    write_json(tmp_path / "splits_final.json", splits)
    phantoms.silently(
        unet_pipeline.import_nnunet, results, tmp_path / "bundle", dataset, tmp_path / "splits_final.json"
    )
    assert [case.case for case in BundleFolder(tmp_path / "bundle").read_split(1).validation] == cases[2:4]
    result = phantoms.silently(unet_pipeline.evaluate, tmp_path / "bundle")
    assert sorted(set(result.rows["case"])) == cases[:4]
    phantoms.silently(unet_pipeline.package, tmp_path / "bundle", export="none")
    assert unet_pipeline.audit(tmp_path / "bundle.zip").passed


def test_import_nnunet_splits_follow_from_what_each_fold_validated(tmp_path: Path) -> None:
    results, _ = nnunet.write_results(tmp_path / "results", folds=("0", "1"))
    dataset = write_nnunet_raw(tmp_path / "Dataset001_Organ")
    with pytest.raises(DatasetError, match=r"was trained on is not known: .* Give .*splits_final\.json with --splits"):
        phantoms.silently(unet_pipeline.import_nnunet, results, tmp_path / "bundle", dataset)
    for fold in range(2):
        for seed in range(3 * fold, 3 * fold + 3):
            path = results / f"fold_{fold}" / "validation" / f"organ_{seed}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    phantoms.silently(unet_pipeline.import_nnunet, results, tmp_path / "bundle", dataset)
    split = BundleFolder(tmp_path / "bundle").read_split(1)
    assert [case.case for case in split.training] == ["organ_0", "organ_1", "organ_2"]


def test_import_nnunet_bundle_can_be_fine_tuned(tmp_path: Path) -> None:
    """Labels in the orientation of the files too, and the weights taken whole."""
    results, _ = nnunet.write_results(tmp_path / "results")
    dataset = write_nnunet_raw(tmp_path / "Dataset001_Organ")
    phantoms.silently(unet_pipeline.import_nnunet, results, tmp_path / "bundle")
    phantoms.silently(unet_pipeline.plan, dataset, tmp_path / "fine", "quick", 3, initial=tmp_path / "bundle")
    short = {
        "num_epochs": 1,
        "iterations_per_epoch": 1,
        "val_interval": 1,
        "learning_rate": 1e-9,
    }
    phantoms.silently(unet_pipeline.train, tmp_path / "fine", overrides=short)
    before, after = (load_network(tmp_path / name).state_dict() for name in ("bundle", "fine"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


@pytest.mark.parametrize(
    "verb",
    [unet_pipeline.evaluate, unet_pipeline.train, unet_pipeline.tune, unet_pipeline.package, unet_pipeline.report],
)
def test_import_nnunet_without_dataset_can_predict_only(tmp_path: Path, verb: Any) -> None:
    results, _ = nnunet.write_results(tmp_path / "results")
    phantoms.silently(unet_pipeline.import_nnunet, results, tmp_path / "bundle")
    with pytest.raises(BundleError, match="bundle was imported without the dataset"):
        verb(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "regions"),
        ({"changes": {"use_mask_for_norm": [True]}}, "use_mask_for_norm"),
        ({"changes": {"normalization_schemes": ["RescaleTo01Normalization"]}}, "normalisations RescaleTo01"),
        ({"changes": {"previous_stage": "3d_lowres"}}, "cascade"),
        ({"image_reader_writer": "NaturalImage2DIO"}, "3 dimensions for NaturalImage2DIO; expected 2"),
        ({"architecture": {"n_conv_per_stage": [2, 3, 2, 2]}}, r"\[2, 3\] convolutions per stage; expected \[2\]"),
        ({"architecture": {"dropout_op": "torch.nn.Dropout3d"}}, "dropout"),
        ({"architecture": {"norm_op": "torch.nn.BatchNorm3d"}}, "expected InstanceNorm"),
        ({"architecture": {"kernel_sizes": [[3] * 3, [1, 3, 3], [3] * 3, [3] * 3]}}, "smaller on the way down"),
    ],
)
def test_import_nnunet_what_a_plan_cannot_say_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    labels = options.pop("labels", None)
    results, _ = nnunet.write_results(tmp_path / "results", **options)
    if labels:
        path = results / "dataset.json"
        write_json(path, json.loads(path.read_text()) | {"labels": labels})
    with pytest.raises(PlanError, match=rf"has .*{message}.*cannot be imported"):
        unet_pipeline.import_nnunet(results, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_import_nnunet_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    results, _ = nnunet.write_results(tmp_path / "results")

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "marker",)

    torch.save({"network_weights": {}, "logging": Payload()}, results / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(TrainingError, match=r"fold_0/checkpoint_final\.pth cannot be read .* without running code"):
        unet_pipeline.import_nnunet(results, tmp_path / "bundle")
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("decoder.transpconvs.0.bias"), r"no tensor decoder\.transpconvs\.0\.bias"),
        (
            lambda weights: weights.update({"decoder.seg_layers.2.bias": torch.zeros(5)}),
            r"decoder\.seg_layers\.2\.bias has shape \(5,\); expected \(3,\)",
        ),
    ],
)
def test_import_nnunet_checkpoint_of_another_network_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    results, _ = nnunet.write_results(tmp_path / "results")
    path = results / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    change(content["network_weights"])
    torch.save(content, path)
    with pytest.raises(TrainingError, match=message):
        unet_pipeline.import_nnunet(results, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_import_nnunet_unknown_checkpoint_names_the_nearest(tmp_path: Path) -> None:
    results, _ = nnunet.write_results(tmp_path / "results")
    with pytest.raises(PlanError, match=r"has checkpoint_best\.pth; did you mean 'checkpoint_final\.pth'"):
        unet_pipeline.import_nnunet(results, tmp_path / "bundle", checkpoint="checkpoint_best.pth")


@pytest.mark.nnunet
@pytest.mark.parametrize("network", NETWORKS)
def test_nnunets_own_network_gives_the_same_logits(network: str) -> None:
    """The network of these tests is nnU-Net's."""
    package = importlib.import_module("dynamic_network_architectures.architectures.unet")
    settings = nnunet.build_settings(network)
    own = nnunet.build_network(settings, 2, 3)
    arguments = {
        **settings,
        "conv_op": torch.nn.Conv3d,
        "norm_op": torch.nn.InstanceNorm3d,
        "nonlin": torch.nn.LeakyReLU,
    }
    theirs = getattr(package, network)(input_channels=2, num_classes=3, deep_supervision=False, **arguments).eval()
    theirs.load_state_dict(own.state_dict(), strict=True)
    x = torch.randn(1, 2, 16, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(own(x), theirs(x), rtol=0, atol=1e-5)
