"""The engines of a bundle: its components, built from the inference config and nowhere else, with its weights.

So `python -m monai.bundle run` gives the same label maps.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.config_values import quote_paths
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.dataset.medical_image import ImageGrid
from unet_pipeline.device.instance_norm import speed_up_instance_norm
from unet_pipeline.device.precision import BFLOAT16
from unet_pipeline.lean_imports import leave_out_readers
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.deferred_head import DeferredHead, build_deferred_head, take_heads_off
from unet_pipeline.prediction.device_choice import build_device, choose_precision
from unet_pipeline.prediction.device_network import BATCHES_THAT_PAY_TRIALS, DeviceForm, DeviceNetwork, record_on
from unet_pipeline.prediction.engine import Engine
from unet_pipeline.prediction.external import build_external_engine
from unet_pipeline.prediction.mirroring import Joined, Mirrored
from unet_pipeline.prediction.modality import read_modalities
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.parts import Expected, Parts, Windowing
from unet_pipeline.prediction.recipe import UnknownStepError, read_recipe
from unet_pipeline.prediction.runtime import TORCH, build_exported_network, choose_device
from unet_pipeline.prediction.stopwatch import Stopwatch, TimedNetwork
from unet_pipeline.prediction.transforms import TransformsEngine, find_saver
from unet_pipeline.prediction.volumes import VolumesEngine
from unet_pipeline.prediction.weights import load_weights
from unet_pipeline.prediction.windows import is_plain

_AFTER_THE_NETWORK = ("native_probability_transforms", "native_label_transforms", "output_transforms")


@dataclass(frozen=True)
class Engines:
    """Both engines of a bundle.

    Attributes:
        parts: that both have.
        transforms: takes every image.
        volumes: takes most volumes; None where the bundle has a step that it does not know.
        reason: why there is no engine `volumes`.
    """

    parts: Parts
    transforms: TransformsEngine
    volumes: VolumesEngine | None = None
    reason: str = "it is an external bundle"

    def choose(self, grid: ImageGrid) -> Engine:
        """The engine for an image on that grid."""
        return self.volumes if self.volumes is not None and self.volumes.takes(grid) else self.transforms

    @property
    def num_blended(self) -> int:
        """Channels of the sums over windows, of one network."""
        return self.volumes.num_blended if self.volumes is not None else self.parts.num_classes

    def with_windowing(self, windowing: Windowing) -> Engines:
        """The same with other windows at once, or blended elsewhere; label maps differ by rounding at most."""
        inferer = copy.copy(self.parts.inferer)
        if is_plain(inferer):
            inferer.sw_batch_size = windowing.batch_size
        pays = windowing.num_windows >= windowing.batch_size * BATCHES_THAT_PAY_TRIALS
        for network in self._list_device_networks():
            network.resize(windowing.batch_size, tries_kernels=pays)
        return self._with_parts(replace(self.parts, inferer=inferer, windowing=windowing))

    def with_networks(self, *networks: Callable[[torch.Tensor], torch.Tensor]) -> Engines:
        """The same with other networks, as they are."""
        parts = replace(self.parts, networks=networks)
        volumes = None if self.volumes is None else VolumesEngine(parts, self.volumes.recipe)
        return replace(self, parts=parts, transforms=replace(self.transforms, parts=parts), volumes=volumes)

    def copy_for_thread(self) -> Engines:
        """The same networks with transforms of their own: MONAI's are not made for two threads."""
        volumes = None if self.volumes is None else self.volumes.copy_for_thread()
        return replace(self, transforms=self.transforms.copy_for_thread(), volumes=volumes)

    def _with_parts(self, parts: Parts) -> Engines:
        volumes = None if self.volumes is None else replace(self.volumes, parts=parts)
        return replace(self, parts=parts, transforms=replace(self.transforms, parts=parts), volumes=volumes)

    def list_notes(self) -> list[str]:
        """What was left out on the GPU, and why; each once."""
        return list(dict.fromkeys(note for network in self._list_device_networks() for note in network.notes))

    def _list_device_networks(self) -> list[DeviceNetwork]:
        return self.parts.list_device_networks() if self.volumes is None else self.volumes.list_device_networks()


def build_engines(
    folder: BundleFolder,
    weights: Sequence[Path],
    output_dir: Path,
    options: PredictOptions | None = None,
    tuned: bool = True,
    accelerated: bool | None = None,
) -> Engines:
    """The engines of a bundle.

    Args:
        weights: state_dict files; of several, the probabilities are averaged. An external bundle's config names its own.
        output_dir: for the bundle's writer.
        options: of the prediction; an export, for another runtime than torch, takes the place of `weights`.
        tuned: with the temperature of the plan; False for temperature 1.
        accelerated: networks as `DeviceNetwork`; on a GPU, if None.

    Raises:
        BundleError: the weights do not fit the network; or an external bundle cannot be built.
        PredictionError: the device does not exist.
    """
    options = options or PredictOptions()
    if not folder.is_planned:
        external = build_external_engine(folder, options.device)
        return Engines(external.parts, external)
    runtime = options.runtime
    components = _build_components(folder, output_dir, choose_device(runtime, options.device), tuned)
    device = components["device"]
    members = _build_members(folder, components["network"], weights, device, runtime)
    plan = read_plan(folder.plan)
    precision, stopwatch = choose_precision(options.precision, device, runtime), Stopwatch()
    if accelerated is None:
        accelerated = device.type == "cuda" and runtime == TORCH
    wrap = _choose_wrapper(device, stopwatch, precision, accelerated)
    mirrored = partial(Mirrored, axes=plan.mirrored_axes, at_once=accelerated)
    prepare = (lambda member: wrap(mirrored(member))) if options.mirror else wrap
    parts = Parts(
        expected=_describe_images(folder, plan),
        preprocessing=components["preprocessing"],
        networks=tuple(map(prepare, members)),
        inferer=components["inferer"],
        device=device,
        label_values=tuple(components["label_values"]),
        precision=precision,
        stopwatch=stopwatch,
        plan=plan,
    )
    to_probabilities, to_classes, to_files = (components[name] for name in _AFTER_THE_NETWORK)
    before, saver, pred_key = find_saver([*to_classes, *to_files])
    transforms = TransformsEngine(parts, Compose(to_probabilities), Compose(before), saver, pred_key=pred_key)
    try:
        recipe = read_recipe(
            parts.preprocessing, parts.inferer, to_probabilities, to_classes, to_files, plan.output_suffix
        )
    except UnknownStepError as step:
        return Engines(parts, transforms, reason=str(step))
    heads = _build_deferred_heads(members, parts, prepare) if runtime == TORCH else ()
    joint = _join([head.body for head in heads] or list(parts.networks), wrap)
    return Engines(parts, transforms, VolumesEngine(parts, recipe, heads, joint), "")


def _describe_images(folder: BundleFolder, plan: Plan) -> Expected:
    is_picture = plan.image_suffix in PICTURE_SUFFIXES
    return Expected(
        channel_names=tuple(plan.channel_names),
        spatial_dims=plan.spatial_dims,
        modalities=read_modalities(folder, plan.channel_names),
        spacing_mm=None if is_picture else tuple(plan.spacing_mm),
        suffix=plan.image_suffix,
        is_planned=True,
        missing_channels=tuple(plan.missing_channels),
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


def _build_deferred_heads(
    members: Sequence[torch.nn.Module], parts: Parts, prepare: Callable[[torch.nn.Module], TimedNetwork]
) -> tuple[DeferredHead, ...]:
    shape = (1, len(parts.expected.channel_names), *parts.inferer.roi_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(parts.device)
    halves = take_heads_off(members, images, len(parts.label_values))
    return tuple(build_deferred_head(prepare(body), convolution) for body, convolution in halves)


def _build_components(folder: BundleFolder, output_dir: Path, device: str | None, tuned: bool) -> dict[str, Any]:
    """The parts of inference.json that a prediction needs, by their ids."""
    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(folder.read_config("inference"))
    parser.update(quote_paths({"bundle_root": folder.root, "output_dir": output_dir}))
    if device is not None:
        parser["device"] = build_device(device)
    if not tuned:
        parser["uncalibrated"], parser["logit_factor"] = True, 0.0
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
