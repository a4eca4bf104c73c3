"""Weights + images -> label maps on the images' own grids, one case after the other.

The components come from the bundle's inference.json and nowhere else, so that `python -m monai.bundle run` gives the
same label maps. Added here: checks of the input, mirroring, whole files or none, and one bad image that does not stop the others.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from pipeline.bundle_folder import BundleFolder
from pipeline.config_values import quote_paths
from pipeline.errors import PredictionError, suggest
from pipeline.lean_imports import leave_out_readers
from pipeline.planning.plan import Plan, read_plan
from pipeline.prediction import streaming
from pipeline.prediction.device_network import DeviceForm, DeviceNetwork, record_on
from pipeline.prediction.late_head import LateHead, build_late_head, take_heads_off
from pipeline.prediction.mirroring import Joined, Mirrored
from pipeline.prediction.modality import read_modalities
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.runtime import TORCH, build_exported_network, choose_device
from pipeline.prediction.stopwatch import Stopwatch, TimedNetwork
from pipeline.prediction.weights import load_weights
from pipeline.training.instance_norm import speed_up_instance_norm
from pipeline.training.precision import BFLOAT16, FLOAT32, supports_fast_bfloat16

PRECISIONS = (FLOAT32, BFLOAT16, "auto")
_AFTER_THE_NETWORK = ("native_probability_transforms", "native_label_transforms", "output_transforms")


def build_predictor(
    folder: BundleFolder,
    weights: Sequence[Path],
    output_dir: Path,
    device: str | None = None,
    mirror: bool = False,
    tuned: bool = True,
    runtime: str = TORCH,
    precision: str = "float32",
    accelerated: bool | None = None,
) -> Predictor:
    """The predictor of a bundle.

    Args:
        folder: the bundle.
        weights: state_dict files; of several, the probabilities are averaged.
        output_dir: gets the label maps, named like the images.
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.
        mirror: average the logits over each window's mirrored copies, as the training mirrored; twice the cost per axis.
        tuned: with the temperature of the plan; False for temperature 1.
        runtime: what runs the network; other than torch, its export takes the place of `weights`.
        precision: see `choose_precision`.
        accelerated: networks as `DeviceNetwork`; on a GPU, if None.

    Raises:
        BundleError: the weights do not fit the network.
        PredictionError: the device does not exist.
    """
    components = _build_components(folder, output_dir, choose_device(runtime, device), tuned)
    members = _build_members(folder, components["network"], weights, components["device"], runtime)
    plan = read_plan(folder.plan)
    to_probabilities, to_classes, to_files = (components[name] for name in _AFTER_THE_NETWORK)
    precision, stopwatch = choose_precision(precision, components["device"], runtime), Stopwatch()
    before = components["preprocessing"], components["inferer"]
    obstacle = streaming.find_obstacle(*before, to_probabilities, [*to_classes, *to_files], plan.output_suffix)
    if accelerated is None:
        accelerated = components["device"].type == "cuda" and runtime == TORCH
    wrap = _choose_wrapper(components["device"], stopwatch, precision, accelerated)
    mirrored = partial(Mirrored, axes=plan.mirrored_axes, at_once=accelerated)
    prepare = (lambda member: wrap(mirrored(member))) if mirror else wrap
    networks: tuple[TimedNetwork, ...] = tuple(map(prepare, members))
    late_heads = _build_late_heads(members, plan, components, prepare) if obstacle is None and runtime == TORCH else ()
    return Predictor(
        plan=plan,
        preprocessing=components["preprocessing"],
        networks=networks,
        inferer=components["inferer"],
        to_probabilities=Compose(to_probabilities),
        to_files=Compose([*to_classes, *to_files]),
        device=components["device"],
        obstacle=obstacle,
        class_transforms=tuple(to_classes[1:]),
        label_values=tuple(components["label_values"]),
        logit_scale=streaming.read_logit_scale(to_probabilities) if obstacle is None else 1.0,
        precision=precision,
        stopwatch=stopwatch,
        late_heads=late_heads,
        joint=_join([head.body for head in late_heads] or list(networks), wrap),
        modalities=read_modalities(folder, plan.channel_names),
    )


def _choose_wrapper(
    device: torch.device, stopwatch: Stopwatch, precision: str, accelerated: bool
) -> Callable[[torch.nn.Module], TimedNetwork]:
    """What makes the callable of a network."""
    bfloat16 = precision == BFLOAT16
    if accelerated:
        form = DeviceForm(bfloat16=bfloat16)
        return partial(DeviceNetwork, stopwatch=stopwatch, device=device, form=form, record=record_on(device))
    return partial(TimedNetwork, stopwatch=stopwatch, bfloat16=bfloat16, device=device)


def _join(bodies: Sequence[object], wrap: Callable[[torch.nn.Module], TimedNetwork]) -> DeviceNetwork | None:
    """All that is blended as one network on a GPU; None elsewhere."""
    networks = [body for body in bodies if isinstance(body, DeviceNetwork)]
    if len(networks) < 2:
        return networks[0] if networks else None
    joint = wrap(Joined([body.network for body in networks]))
    return joint if isinstance(joint, DeviceNetwork) else None


def _build_late_heads(
    members: Sequence[torch.nn.Module],
    plan: Plan,
    components: dict[str, Any],
    prepare: Callable[[torch.nn.Module], TimedNetwork],
) -> tuple[LateHead, ...]:
    shape = (1, len(plan.channel_names), *components["inferer"].roi_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    halves = take_heads_off(members, images.to(components["device"]), len(plan.label_table))
    return tuple(build_late_head(prepare(body), convolution) for body, convolution in halves)


def _build_components(folder: BundleFolder, output_dir: Path, device: str | None, tuned: bool) -> dict[str, Any]:
    """The parts of inference.json that a prediction needs, by their ids."""
    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(folder.read_config("inference"))
    parser.update(quote_paths({"bundle_root": folder.root, "output_dir": output_dir}))
    if device is not None:
        parser["device"] = build_device(device)
    if not tuned:
        parser["uncalibrated"] = True
    with warnings.catch_warnings(), leave_out_readers():
        warnings.simplefilter("ignore")
        return {
            name: parser.get_parsed_content(name)
            for name in ("device", "network", "preprocessing", "inferer", "label_values", *_AFTER_THE_NETWORK)
        }


def _build_members(
    folder: BundleFolder, network: torch.nn.Module, weights: Sequence[Path], device: torch.device, runtime: str
) -> list[torch.nn.Module]:
    """The networks with their weights, in the device's fastest form; an export has them inside."""
    if runtime != TORCH:
        return [build_exported_network(folder.export(runtime), runtime, device)]
    members = [network, *(copy.deepcopy(network) for _ in weights[1:])]
    for member, path in zip(members, weights, strict=True):
        load_weights(member, path, device)
        member.eval()
        if device.type == "cpu":
            speed_up_instance_norm(member)
    return members


def choose_precision(name: str, device: torch.device, runtime: str = TORCH) -> str:
    """float32 or bfloat16 for a choice of the user; `auto` takes bfloat16 where the device is fast with it.

    Raises:
        PredictionError: unknown choice, or bfloat16 for an exported network, which computes in float32.
    """
    if name not in PRECISIONS:
        raise PredictionError(f"Unknown precision {name!r}; {suggest(name, PRECISIONS)}.")
    if runtime != TORCH:
        if name == BFLOAT16:
            raise PredictionError(
                f"Runtime {runtime} computes in float32; bfloat16 was asked for. Take the runtime torch."
            )
        return FLOAT32
    if name == "auto":
        return BFLOAT16 if supports_fast_bfloat16(device) else FLOAT32
    return name


def settle_precision(name: str, device: str | None) -> str:
    """What `choose_precision` takes on a device; a GPU when there is one, if None."""
    return choose_precision(name, build_device(device or ("cuda" if torch.cuda.is_available() else "cpu")))


def build_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        PredictionError: unknown name, or no such device in this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PredictionError(f"Device {name!r} cannot be used here: {str(error).splitlines()[0]}. Try cpu.") from error
    return device
