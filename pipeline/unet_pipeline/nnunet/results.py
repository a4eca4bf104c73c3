"""Results of nnU-Net v2 (plans.json, dataset.json) -> the plan of a bundle with the same network and the same images in it.

nnU-Net's arrays have the axes of the file in reverse, then in the order of `transpose_forward`; a plan has them as in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.dataset.dataset import STOCK_SUFFIXES
from unet_pipeline.dataset.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from unet_pipeline.dataset.names import (
    CHANNEL,
    LABEL,
    build_label_table,
    find_names_that_are_syntax,
    read_channel_names,
)
from unet_pipeline.errors import PlanError, suggest
from unet_pipeline.planning.plan import build_plan_from
from unet_pipeline.planning.planner import PlannedBundle, plan_from_fingerprint
from unet_pipeline.text_files import read_json_object

NETWORKS = {"PlainConvUNet": "dynunet", "ResidualEncoderUNet": "resenc"}
_PICTURES, _REORIENTED = "NaturalImage2DIO", "NibabelIOWithReorient"
_READERS = ("SimpleITKIO", "NibabelIO", _REORIENTED, _PICTURES)
# subtrahend and divisor that do what a scheme does to every image alike
_FIXED = {"NoNormalization": (0.0, 1.0), "RGBTo01Normalization": (0.0, 255.0)}
_FOLD = re.compile(r"fold_(\d+|all)")


@dataclass(frozen=True)
class NnunetResults:
    """A folder of nnU-Net's results that has been read.

    Attributes:
        root: has plans.json, dataset.json and the folds.
        plans: contents of plans.json.
        dataset: contents of dataset.json.
        configuration: name of the configuration, such as 3d_fullres.
        checkpoints: by fold; the fold -1 was trained on all cases.
    """

    root: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration: str
    checkpoints: Mapping[int, Path]

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration, with what it inherits from others."""
        joined: dict[str, Any] = {}
        name = self.configuration
        while name:
            own = self.plans["configurations"][name]
            joined = {**own, **joined}
            name = own.get("inherits_from", "")
        return joined

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of the network."""
        return self.settings["architecture"]["arch_kwargs"]

    @property
    def network(self) -> str:
        """Name of the network in a plan."""
        return NETWORKS[str(self.settings["architecture"]["network_class_name"]).rpartition(".")[2]]

    @property
    def axes(self) -> tuple[int, ...]:
        """For each axis of the file the axis of nnU-Net's network."""
        dims = len(self.settings["patch_size"])
        forward = list(self.plans.get("transpose_forward", range(3)))
        return tuple(forward.index(2 - axis) - (3 - dims) for axis in range(dims))


def read_results(root: Path, checkpoint: str) -> NnunetResults:
    """The results at `root`: a folder such as nnUNetTrainer__nnUNetPlans__3d_fullres, or one that holds a single such folder.

    Raises:
        PlanError: a file is missing, no fold has the checkpoint, or the network or the data are of a kind that has no place in a plan.
    """
    folders = [root] if (root / "plans.json").is_file() else sorted(path.parent for path in root.glob("*/plans.json"))
    if len(folders) != 1:
        names = ", ".join(path.name for path in folders) or "none"
        raise PlanError(
            f"{root} has no plans.json, and below it are several folders with one, or none: {names}. Give one such as "
            "Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres."
        )
    folder = folders[0]
    folds = {match[1]: path for path in sorted(folder.iterdir()) if (match := _FOLD.fullmatch(path.name))}
    checkpoints = {
        -1 if fold == "all" else int(fold): path / checkpoint
        for fold, path in folds.items()
        if (path / checkpoint).is_file()
    }
    if not checkpoints:
        present = sorted({path.name for fold in folds.values() for path in fold.glob("*.pth")})
        raise PlanError(
            f"No fold of {folder.name} has {checkpoint}; {suggest(checkpoint, present)}. Finish the training, or name another file with "
            "--checkpoint."
        )
    numbered = {fold: path for fold, path in checkpoints.items() if fold >= 0}
    results = NnunetResults(
        folder,
        _read_json(folder / "plans.json"),
        _read_json(folder / "dataset.json"),
        folder.name.rpartition("__")[2],
        numbered or checkpoints,
    )
    _check(results)
    return results


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path, (), PlanError, remedy="Give a whole folder of results.")
    except OSError as error:
        raise PlanError(
            f"{path.parent.name}/{path.name} cannot be read: {error.strerror}. Give a whole folder of results."
        ) from error


def _check(results: NnunetResults) -> None:
    """Whether a plan can say all that these results mean.

    Raises:
        PlanError: names the first that it cannot.
    """
    name, configurations = results.configuration, results.plans.get("configurations", {})
    if name not in configurations:
        raise PlanError(
            f"plans.json has no configuration {name!r}, as the folder is named; {suggest(name, configurations)}. Keep nnU-Net's folder name."
        )
    settings = results.settings
    if "architecture" not in settings:
        raise PlanError(
            f"Configuration {name} has no architecture; expected plans of nnU-Net 2.4 or later. Plan again with a newer nnU-Net."
        )
    kind = str(settings["architecture"]["network_class_name"]).rpartition(".")[2]
    reader, dims = results.plans.get("image_reader_writer"), len(settings["patch_size"])
    named = results.dataset.get("labels", {})
    schemes = set(settings["normalization_schemes"])
    problems = {
        f"the network {kind}; expected {' or '.join(NETWORKS)}": kind not in NETWORKS,
        "a cascade (previous_stage), which needs two networks": bool(settings.get("previous_stage")),
        f"the reader {reader}; expected one of {', '.join(_READERS)}": reader not in _READERS,
        f"a network of {dims} dimensions for {reader}; expected 2 for pictures and 3 for volumes": (reader == _PICTURES)
        != (dims == 2),
        "labels that join several values (regions), each with a sigmoid of its own": any(
            isinstance(value, list) for value in named.values()
        ),
        "use_mask_for_norm, a normalisation within the non-zero part of an image": any(settings["use_mask_for_norm"]),
        f"the normalisations {', '.join(sorted(schemes))}; expected one for all channels, of ZScoreNormalization, CTNormalization, "
        f"{', '.join(_FIXED)}": len(schemes) != 1 or not schemes <= {"ZScoreNormalization", "CTNormalization", *_FIXED},
    }
    problems |= _list_problems_of_network(results, kind) if kind in NETWORKS else {}
    for problem, applies in problems.items():
        if applies:
            raise PlanError(
                f"{results.root.name} has {problem}. Such results cannot be imported; predict with nnU-Net."
            )


def _list_problems_of_network(results: NnunetResults, kind: str) -> dict[str, bool]:
    """What would make the bundle's network another one than nnU-Net's, and whether it is so."""
    arguments = results.architecture
    convolutions = {*arguments.get("n_conv_per_stage", [2]), *arguments.get("n_conv_per_stage_decoder", [])}
    expected = {2} if kind == "PlainConvUNet" else {2, 1} if "n_conv_per_stage" in arguments else {1, 2}
    per_stage = convolutions != {2} if kind == "PlainConvUNet" else set(arguments["n_conv_per_stage_decoder"]) != {1}
    kernels = [list(kernel) for kernel in arguments["kernel_sizes"]]
    shrinking = any(
        below < above or (below - above) % 2
        for level, kernel in enumerate(kernels[1:])
        for above, below in zip(kernels[level], kernel, strict=True)
    )
    norm, activation = arguments.get("norm_op_kwargs") or {}, arguments.get("nonlin_kwargs") or {}
    return {
        f"{sorted(convolutions)} convolutions per stage; expected {sorted(expected)}": per_stage,
        f"the kernels {kernels}, which get smaller on the way down": kind == "PlainConvUNet" and shrinking,
        f"{len(kernels)} stages; expected 3 or more": len(kernels) < 3,
        f"the normalisation {arguments.get('norm_op')} with {norm}; expected InstanceNorm with scale and shift": "InstanceNorm"
        not in str(arguments.get("norm_op"))
        or not norm.get("affine")
        or norm.get("eps", 1e-5) != 1e-5,
        f"the activation {arguments.get('nonlin')} with {activation}; expected LeakyReLU of slope 0.01": not str(
            arguments.get("nonlin")
        ).endswith("LeakyReLU")
        or activation.get("negative_slope", 0.01) != 0.01,
        "dropout": arguments.get("dropout_op") is not None,
        "convolutions without bias": kind == "ResidualEncoderUNet" and not arguments.get("conv_bias"),
    }


def read_fingerprint(results: NnunetResults) -> Fingerprint:
    """The dataset as nnU-Net's dataset_fingerprint.json knows it: shapes after cropping, spacing, intensities; no counts of labels.

    Raises:
        PlanError: there is none.
    """
    content, dims = _read_json(results.root / "dataset_fingerprint.json"), len(results.settings["patch_size"])
    named = dict(results.dataset["labels"])
    ignored = named.pop("ignore", None)
    labels = build_label_table(named.items(), "dataset.json")
    channels = read_channel_names(results.dataset["channel_names"], "channel_names", "dataset.json")
    if problems := find_names_that_are_syntax({LABEL: labels, CHANNEL: channels}, "dataset.json"):
        raise problems[0].as_error()
    statistics = content["foreground_intensity_properties_per_channel"]
    suffix = str(results.dataset.get("file_ending", ".nii.gz"))
    return Fingerprint(
        dataset_name=str(results.plans["dataset_name"]),
        layout="nnU-Net results",
        suffix=suffix if suffix in STOCK_SUFFIXES else ".png" if dims == 2 else ".nii.gz",
        spatial_dims=dims,
        channels=channels,
        labels=labels,
        ignore_value=ignored,
        intensities=tuple(
            IntensityStatistics(**{name: statistics[str(index)][name] for name in IntensityStatistics.model_fields})
            for index in range(len(channels))
        ),
        cases=tuple(
            CaseFingerprint(
                case=f"case_{index:04d}",
                shape=tuple(int(size) for size in shape[::-1][:dims]),
                spacing_mm=(1.0,) * dims if dims == 2 else tuple(float(size) for size in spacing[::-1]),
                num_voxels={},
            )
            for index, (shape, spacing) in enumerate(
                zip(content["shapes_after_crop"], content["spacings"], strict=True)
            )
        ),
    )


def plan_from_nnunet(
    results: NnunetResults,
    fingerprint: Fingerprint,
    dataset_dir: str,
    num_folds: int,
    mirrored_axes: Sequence[int] | None,
) -> PlannedBundle:
    """The plan of a bundle with nnU-Net's network, whose training here would follow the preset `full`.

    Args:
        fingerprint: of its dataset.
        dataset_dir: see `plan_from_fingerprint`.
        num_folds: see `plan_from_fingerprint`.
        mirrored_axes: of nnU-Net's network, along which its training mirrored; from the checkpoint.

    Raises:
        PlanError: the dataset has other channels or labels than the network.
    """
    own = read_fingerprint(results)
    for what in ("labels", "channels", "spatial_dims"):
        if getattr(fingerprint, what) != getattr(own, what):
            raise PlanError(
                f"{fingerprint.dataset_name} has the {what} {getattr(fingerprint, what)}; expected those of nnU-Net's dataset.json: "
                f"{getattr(own, what)}. Give the dataset that was trained on."
            )
    fold = min(results.checkpoints)
    drafted = plan_from_fingerprint(
        fingerprint, dataset_dir, "full", num_folds, max(fold, 0), network=results.network, machine_memory=None
    )
    values = {
        **_convert_network(results),
        **_convert_intensities(results, own),
        "mirror_probability": tuple(0.5 if axis in (mirrored_axes or ()) else 0.0 for axis in results.axes),
    }
    reason = f"of nnU-Net's {results.configuration}, from which the bundle was imported"
    reasons = {**drafted.reasons, **dict.fromkeys(values, reason)}
    reasons["axcodes"] = f"{reason}: it looks at {'reoriented' if values['axcodes'] else 'the stored'} voxels"
    reasons["image_interpolation"] = (
        "linear; nnU-Net's is cubic, so an image of another spacing gives slightly other values"
    )
    return PlannedBundle(build_plan_from({**drafted.plan.model_dump(), **values}, "The plan"), reasons)


def _convert_network(results: NnunetResults) -> dict[str, Any]:
    settings, arguments, axes = results.settings, results.architecture, results.axes

    def turn(sizes: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(sizes[axis] for axis in axes)

    levels = len(arguments["features_per_stage"])
    heads = max(1, levels - 3)  # nnU-Net gives the lowest of its heads no weight
    weights = [0.5**head for head in range(heads + 1)]
    patch_size = tuple(int(size) for size in turn(settings["patch_size"]))
    return {
        "axcodes": "RAS" if results.plans.get("image_reader_writer") == _REORIENTED else None,
        "spacing_mm": (1.0, 1.0) if len(axes) == 2 else tuple(float(size) for size in turn(settings["spacing"])),
        "filters": tuple(arguments["features_per_stage"]),
        "kernel_size": tuple(turn(kernel) for kernel in arguments["kernel_sizes"]),
        "strides": tuple(turn(stride) for stride in arguments["strides"]),
        "num_blocks": tuple(arguments["n_blocks_per_stage"]) if results.network == "resenc" else None,
        "transposed_bias": results.network == "dynunet" and bool(arguments["conv_bias"]),
        "num_supervised_heads": heads,
        "supervision_weights": tuple(round(weight / sum(weights), 6) for weight in weights),
        "patch_size": patch_size,
        "window_size": patch_size,
        "batch_size": settings["batch_size"],
    }


def _convert_intensities(results: NnunetResults, fingerprint: Fingerprint) -> dict[str, Any]:
    (scheme,) = set(results.settings["normalization_schemes"])
    unclipped = {"clip_intensity": False, "intensity_lower": 0.0, "intensity_upper": 1.0}
    if scheme == "ZScoreNormalization":
        return {**unclipped, "intensity_subtrahend": None, "intensity_divisor": None}
    if scheme in _FIXED:
        subtrahend, divisor = _FIXED[scheme]
        count = len(fingerprint.channels)
        return {**unclipped, "intensity_subtrahend": (subtrahend,) * count, "intensity_divisor": (divisor,) * count}
    statistics = results.plans["foreground_intensity_properties_per_channel"]
    channels = [statistics[str(index)] for index in range(len(fingerprint.channels))]
    lower, upper = ({channel[name] for channel in channels} for name in ("percentile_00_5", "percentile_99_5"))
    if len(lower) > 1 or len(upper) > 1:
        raise PlanError(
            f"{results.root.name} clips its CT channels at different intensities, {sorted(lower)} and {sorted(upper)}; expected one window "
            "for all. Such results cannot be imported; predict with nnU-Net."
        )
    return {
        "clip_intensity": True,
        "intensity_lower": lower.pop(),
        "intensity_upper": upper.pop(),
        "intensity_subtrahend": tuple(channel["mean"] for channel in channels),
        "intensity_divisor": tuple(max(channel["std"], 1e-8) for channel in channels),
    }
