"""Small bundles in the manner of MONAI's model zoo: its ids, its short target names, weights of its own form, no plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import UNet

from unet_pipeline.files import write_json

UNET = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}


def write_metadata(root: Path, num_channels: int, outputs: list[str]) -> None:
    """The part of metadata.json that says what goes in and out."""
    image = {
        "type": "image",
        "format": "magnitude",
        "num_channels": num_channels,
        "spatial_shape": ["4*n"] * 3,
        "channel_def": {str(index): f"MR {index}" for index in range(num_channels)},
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(outputs),
        "spatial_shape": ["4*n"] * 3,
        "channel_def": {str(index): name for index, name in enumerate(outputs)},
    }
    content = {
        "version": "0.1.0",
        "monai_version": "1.3.0",
        "optional_packages_version": {"nibabel": "5.2.1", "pytorch-ignite": "0.4.11"},
        "task": "phantoms",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
    write_json(root / "configs" / "metadata.json", content)


def build_loop(handlers: list[Any]) -> dict[str, Any]:
    """Data, engine and run, which stock MONAI needs beside the parts."""
    return {
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "handlers": handlers,
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": True,
        },
    }


def write_softmax_bundle(root: Path, network_def: dict[str, Any] | None = None, spacing: float = 1.5) -> Path:
    """Two classes, argmax, resampled and inverted, a loader called by `initialize`; as spleen_ct_segmentation is built."""
    config = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/nowhere/Task09_Spleen",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_def or {"_target_": "UNet", **UNET},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "LAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [spacing] * 3, "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": 0,
                    "a_max": 200,
                    "b_min": 0,
                    "b_max": 1,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "sw_batch_size": 2,
            "overlap": 0.5,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_ext": ".nii.gz",
                    "output_postfix": "trans",
                    "separate_folder": True,
                },
            ],
        },
        **build_loop([{"_target_": "StatsHandler", "iteration_log": False}]),
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
    }
    write_json(root / "configs" / "inference.json", config)
    write_metadata(root, 1, ["background", "Organ"])
    (root / "models").mkdir(exist_ok=True)
    if network_def is None:
        torch.manual_seed(33)
        torch.save(UNet(**UNET).state_dict(), root / "models" / "model.pt")
    return root


def threshold_network(thresholds: list[float], num_channels: int = 1, classes: bool = False) -> dict[str, torch.Tensor]:
    """Weights of a convolution of one voxel: output i is positive where the first channel is above threshold i.

    With `classes`, an output 0 comes first that is always 0, so that the softmax of two is a threshold.
    """
    rows = ([0.0] if classes else []) + [1.0] * len(thresholds)
    weight = torch.zeros(len(rows), num_channels, 1, 1, 1)
    weight[:, 0, 0, 0, 0] = torch.tensor(rows)
    bias = torch.tensor(([0.0] if classes else []) + [-value for value in thresholds])
    return {"weight": weight, "bias": bias}


def write_sigmoid_bundle(root: Path, thresholds: list[float], num_channels: int = 2) -> Path:
    """Structures that overlap, a sigmoid and a threshold for each, a list of files as image; as brats_mri_segmentation is built."""
    names = [f"Level {index}" for index in range(len(thresholds))]
    config = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/nowhere/brats",
        "datalist": "$[sorted(glob.glob(@dataset_dir + '/*.nii.gz'))]",
        "device": "$torch.device('cpu')",
        "network_def": {
            "_target_": "torch.nn.Conv3d",
            "in_channels": num_channels,
            "out_channels": len(thresholds),
            "kernel_size": 1,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 1, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg"},
            ],
        },
        **build_loop(
            [
                {
                    "_target_": "CheckpointLoader",
                    "load_path": "$@bundle_root + '/models/model.pt'",
                    "load_dict": {"model": "@network"},
                },
                {"_target_": "StatsHandler", "iteration_log": False},
            ]
        ),
        "evaluating": ["$@evaluator.run()"],
    }
    write_json(root / "configs" / "inference.json", config)
    write_metadata(root, num_channels, names)
    (root / "models").mkdir(exist_ok=True)
    # under a key, as a CheckpointSaver writes it
    torch.save({"model": threshold_network(thresholds, num_channels)}, root / "models" / "model.pt")
    return root
