"""nnU-Net's two networks in a few lines, with its names of the tensors, and small folders of results made with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unet_pipeline.files import write_json

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOLING = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Unit(nn.Module):
    """Convolution, normalisation, activation; the layers have two names each, as in nnU-Net."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: Sequence[int],
        stride: Sequence[int] | int = 1,
        bias: bool = True,
        active: bool = True,
    ) -> None:
        super().__init__()
        dims, padding = len(kernel), [(taps - 1) // 2 for taps in kernel]
        self.conv = CONVOLUTION[dims](before, after, tuple(kernel), stride, tuple(padding), bias=bias)
        self.norm = NORM[dims](after, eps=1e-5, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, *([nn.LeakyReLU(0.01)] if active else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all_modules(x)


class Stack(nn.Module):
    def __init__(self, count: int, before: int, after: int, kernel: Sequence[int], stride: Any = 1) -> None:
        super().__init__()
        first = Unit(before, after, kernel, stride)
        self.convs = nn.Sequential(first, *(Unit(after, after, kernel) for _ in range(count - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class Block(nn.Module):
    def __init__(self, before: int, after: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = Unit(before, after, kernel, tuple(stride))
        self.conv2 = Unit(after, after, kernel, active=False)
        dims = len(kernel)
        skip: list[nn.Module] = [POOLING[dims](tuple(stride), tuple(stride))] if max(stride) > 1 else []
        if before != after:
            skip.append(Unit(before, after, [1] * dims, bias=False, active=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x), 0.01)


class Blocks(nn.Module):
    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class Encoder(nn.Module):
    def __init__(self, channels: int, settings: dict[str, Any]) -> None:
        super().__init__()
        widths, kernels, strides = (settings[name] for name in ("features_per_stage", "kernel_sizes", "strides"))
        incoming = [channels, *widths]
        if "n_blocks_per_stage" in settings:
            self.stem = Stack(1, channels, widths[0], kernels[0])
            incoming[0] = widths[0]
            stages: list[nn.Module] = []
            for level, count in enumerate(settings["n_blocks_per_stage"]):
                first = Block(incoming[level], widths[level], kernels[level], strides[level])
                others = [
                    Block(widths[level], widths[level], kernels[level], [1] * len(kernels[0])) for _ in range(count - 1)
                ]
                stages.append(Blocks([first, *others]))
        else:
            self.stem = nn.Sequential()
            stages = [
                nn.Sequential(Stack(2, incoming[level], widths[level], kernels[level], tuple(strides[level])))
                for level in range(len(widths))
            ]
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Decoder(nn.Module):
    def __init__(self, encoder: Encoder, settings: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.encoder = encoder  # nnU-Net keeps it here too, so that its tensors have names more
        widths, kernels, strides = (settings[name] for name in ("features_per_stage", "kernel_sizes", "strides"))
        levels, dims = range(len(widths) - 2, -1, -1), len(kernels[0])
        counts = settings["n_conv_per_stage_decoder"]
        self.transpconvs = nn.ModuleList(
            TRANSPOSED[dims](widths[level + 1], widths[level], tuple(strides[level + 1]), tuple(strides[level + 1]))
            for level in levels
        )
        self.stages = nn.ModuleList(
            Stack(counts[number], 2 * widths[level], widths[level], kernels[level])
            for number, level in enumerate(levels)
        )
        self.seg_layers = nn.ModuleList(CONVOLUTION[dims](widths[level], classes, 1) for level in levels)

    def forward(self, found: list[torch.Tensor]) -> torch.Tensor:
        x = found[-1]
        for up, stage, skip in zip(self.transpconvs, self.stages, found[-2::-1], strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))
        return self.seg_layers[-1](x)


class NnunetNetwork(nn.Module):
    """PlainConvUNet, or ResidualEncoderUNet where the settings have blocks."""

    def __init__(self, channels: int, classes: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(channels, settings)
        self.decoder = Decoder(self.encoder, settings, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, at full resolution."""
        return self.decoder(self.encoder(x))


def build_settings(network: str, dims: int = 3, **changes: Any) -> dict[str, Any]:
    """Arguments of a network as plans.json has them: 4 levels, the first of flat kernels and strides in 3D."""
    flat = [1, 3, 3] if dims == 3 else [3, 3]
    step = [1, 2, 2] if dims == 3 else [2, 2]
    settings: dict[str, Any] = {
        "n_stages": 4,
        "features_per_stage": [4, 6, 8, 8],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [flat, [3] * dims, [3] * dims, [3] * dims],
        "strides": [[1] * dims, step, [2] * dims, [2] * dims],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    if network == "PlainConvUNet":
        settings |= {"n_conv_per_stage": [2] * 4, "n_conv_per_stage_decoder": [2] * 3}
    else:
        settings |= {"n_blocks_per_stage": [1, 2, 2, 1], "n_conv_per_stage_decoder": [1] * 3}
    return settings | changes


def build_network(settings: dict[str, Any], channels: int, classes: int, seed: int = 0) -> NnunetNetwork:
    """With weights that no symmetry hides: every bias, scale and shift is random too."""
    torch.manual_seed(seed)
    network = NnunetNetwork(channels, classes, settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def write_results(
    root: Path,
    network: str = "PlainConvUNet",
    dims: int = 3,
    num_channels: int = 1,
    labels: dict[str, Any] | None = None,
    folds: Sequence[str] = ("0",),
    transpose: Sequence[int] = (0, 1, 2),
    changes: dict[str, Any] | None = None,
    architecture: dict[str, Any] | None = None,
    **plans: Any,
) -> tuple[Path, dict[str, NnunetNetwork]]:
    """A folder of results, and the network of each fold.

    Args:
        changes: of the configuration.
        architecture: of the network's arguments.
        plans: further entries of plans.json.
    """
    labels = labels or {"background": 0, "organ": 1, "tumour": 2}
    settings = build_settings(network, dims, **(architecture or {}))
    name = "3d_fullres" if dims == 3 else "2d"
    folder = root / f"nnUNetTrainer__nnUNetPlans__{name}"
    package = "unet" if network == "PlainConvUNet" else "residual_unet"
    configuration = {
        "batch_size": 2,
        "patch_size": [16, 32, 32] if dims == 3 else [32, 48],
        "spacing": [2.0, 1.5, 1.5] if dims == 3 else [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * num_channels,
        "use_mask_for_norm": [False] * num_channels,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.{package}.{network}",
            "arch_kwargs": settings,
        },
        **(changes or {}),
    }
    statistics = {"mean": 50.0, "std": 20.0, "percentile_00_5": -10.0, "percentile_99_5": 90.0, "min": -20, "max": 99}
    intensities = {str(index): statistics for index in range(num_channels)}
    content = {
        "dataset_name": "Dataset001_Organ",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO" if dims == 3 else "NaturalImage2DIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [list(transpose).index(axis) for axis in range(3)],
        "configurations": {"base": configuration, name: {"inherits_from": "base"}},
        "foreground_intensity_properties_per_channel": intensities,
        **plans,
    }
    shape = [22, 34, 30] if dims == 3 else [1, 52, 72]
    fingerprint = {
        "shapes_after_crop": [shape] * 4,
        "spacings": [[2.0, 1.5, 1.5] if dims == 3 else [999.0, 1.0, 1.0]] * 4,
        "foreground_intensity_properties_per_channel": intensities,
    }
    channels = {str(index): f"MR{index}" for index in range(num_channels)}
    dataset = {
        "channel_names": channels,
        "labels": labels,
        "numTraining": 4,
        "file_ending": ".nii.gz" if dims == 3 else ".png",
    }
    write_json(folder / "plans.json", content)
    write_json(folder / "dataset_fingerprint.json", fingerprint)
    write_json(folder / "dataset.json", dataset)
    networks = {}
    for seed, fold in enumerate(folds):
        networks[fold] = build_network(settings, num_channels, len([name for name in labels if name != "ignore"]), seed)
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": networks[fold].state_dict(),
            "optimizer_state": {},
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.6)]},  # as nnU-Net keeps them
            "_best_ema": np.float64(0.55),
            "current_epoch": 7 + seed,
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": name, "device": torch.device("cpu")},
            "inference_allowed_mirroring_axes": (0, 2) if dims == 3 else (1,),
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder, networks
