"""A trained bundle -> models/model.ts and models/model.onnx, each compared with the eager network before it is kept.

TorchScript carries metadata.json and inference.json inside, where MONAI Deploy looks for them. A copy that gives other logits or
another label map than the eager network is refused.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.metadata import compute_least_size
from unet_pipeline.errors import BundleError, suggest
from unet_pipeline.evaluation.metrics import compute_dice
from unet_pipeline.files import compute_sha256, write_atomically, write_json
from unet_pipeline.handover.parity import list_images
from unet_pipeline.handover.verify import load_network
from unet_pipeline.messages import show_shape
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.engines import build_engines
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.runtime import ONNX, TORCHSCRIPT, build_exported_network
from unet_pipeline.prediction.transforms import TransformsEngine
from unet_pipeline.text_files import read_model

FORMATS = (TORCHSCRIPT, ONNX)
OPSET = 17  # read by onnxruntime from 1.12 and TensorRT from 8.6 on
LARGEST_DIFFERENCE_FRACTION = 1e-3  # of the largest logit; float32 in another order gives about 1e-6
SMALLEST_DICE = 0.999
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class LogitParity:
    """Logits of both networks for noise of one shape (batch, channels, *spatial)."""

    shape: tuple[int, ...]
    max_abs_difference: float
    largest_logit: float


@dataclass(frozen=True)
class LabelMapParity:
    """Label maps of both networks for one image; `dice` is the lowest of the labels that either has."""

    image: str
    dice: float


@dataclass(frozen=True)
class Export:
    """One exported file, of what it was made, and how near it is to the eager network.

    Attributes:
        file: relative to the bundle's root.
        method: how the network was read: scripted or traced.
        made_of: SHA-256 of the files that went into it.
        versions: of the libraries that wrote and ran it.
        multiples: sizes that the network takes are these times a whole number; without padding, plus an offset.
    """

    file: str
    sha256: str
    weights_sha256: str
    method: str
    made_of: dict[str, str]
    versions: dict[str, str]
    multiples: tuple[int, ...]
    logits: tuple[LogitParity, ...]
    label_maps: tuple[LabelMapParity, ...]

    def describe(self) -> str:
        """The parity in a line."""
        difference = max(parity.max_abs_difference for parity in self.logits)
        shapes = " and ".join(show_shape(parity.shape) for parity in self.logits)
        maps = "; ".join(f"label maps of {parity.image} Dice {parity.dice:.6f}" for parity in self.label_maps)
        return f"{self.file} ({self.method}): logits differ by at most {difference:.1e} at {shapes}; {maps}"


def choose_formats(text: str | None) -> tuple[str, ...]:
    """Formats to export.

    Args:
        text: names joined by commas, "none", or None for all that the installed packages can write.

    Raises:
        BundleError: unknown format, or onnx is asked for and its packages are not installed.
    """
    installed = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    if text is None:
        return FORMATS if installed else (TORCHSCRIPT,)
    if text == "none":
        return ()
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in FORMATS:
            raise BundleError(f"Unknown export format {name!r}; {suggest(name, (*FORMATS, 'none'))}.")
    if ONNX in asked and not installed:
        raise BundleError(
            "onnx and onnxruntime are not installed. Install them with `pip install 'unet-pipeline[export]'`."
        )
    return tuple(name for name in FORMATS if name in asked)


def export_bundle(folder: BundleFolder, formats: Sequence[str]) -> tuple[Export, ...]:
    """Write the exports and evidence/exports.json; earlier exports in other formats go, and one that is up to date stays.

    Args:
        folder: with weights, configs and metadata as they will be handed over.
        formats: of `FORMATS`.

    Raises:
        BundleError: an export does not agree with the eager network; it is not written.
    """
    known = read_model(folder.exports, dict[str, Export]) if folder.exports.is_file() else {}
    for name in known.keys() - set(formats):
        folder.export(name).unlink(missing_ok=True)
    todo = [name for name in formats if not _is_current(folder, name, known.get(name))]
    exports = {name: known[name] for name in formats if name not in todo}
    if todo:
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every size that it reads
            exporter = Exporter(folder, Path(temporary))
            exports |= {name: exporter.export(name) for name in todo}
    formats_written = {name: asdict(exports[name]) for name in formats}
    if formats_written:
        write_json(folder.exports, formats_written)
    else:
        folder.exports.unlink(missing_ok=True)
    return tuple(exports[name] for name in formats)


def _is_current(folder: BundleFolder, name: str, entry: Export | None) -> bool:
    path = folder.export(name)
    if entry is None or not path.is_file():
        return False
    return (
        entry.sha256 == compute_sha256(path)
        and entry.made_of == _hash_sources(folder, name)
        and entry.versions == _list_versions(name)
    )


def _hash_sources(folder: BundleFolder, name: str) -> dict[str, str]:
    """SHA-256 of what goes into an export."""
    paths = [folder.weights, folder.config("inference"), *sorted(folder.modules.glob("*.py"))]
    if name == TORCHSCRIPT:
        paths.append(folder.metadata)
    return {path.relative_to(folder.root).as_posix(): compute_sha256(path) for path in paths}


def _list_versions(name: str) -> dict[str, str]:
    from importlib import metadata

    return {
        library: metadata.version(library) for library in ("torch", *(("onnx", "onnxruntime") if name == ONNX else ()))
    }


class Exporter:
    """Writes and compares the exports of one bundle; the eager network and its label maps are made once.

    Args:
        folder: of the bundle.
        temporary: for files that go away.
    """

    def __init__(self, folder: BundleFolder, temporary: Path) -> None:
        self.folder, self.temporary = folder, temporary
        self.plan: Plan = read_plan(folder.plan)
        self.engines = build_engines(folder, (folder.weights,), temporary, PredictOptions(device="cpu"))
        self.network: Any = load_network(folder)
        self.images = list_images(folder, self.plan, temporary)
        self.expected = {shown: _predict_classes(self.engines.transforms, path) for shown, path in self.images.items()}

    def export(self, name: str) -> Export:
        """Write one export beside the others, once it agrees.

        Raises:
            BundleError: it does not agree.
        """
        staged = self.temporary / self.folder.export(name).name
        method = self._write_torchscript(staged) if name == TORCHSCRIPT else self._write_onnx(staged)
        network = build_exported_network(staged, name, torch.device("cpu"))
        logits = tuple(self._compare_logits(network, shape) for shape in self._list_shapes())
        exported = self.engines.with_networks(network).transforms
        label_maps = tuple(
            LabelMapParity(shown, _compare_classes(self.expected[shown], _predict_classes(exported, path)))
            for shown, path in self.images.items()
        )
        self._require_parity(name, logits, label_maps)
        final = self.folder.export(name)
        with write_atomically(final) as partial:
            partial.write_bytes(staged.read_bytes())
        return Export(
            file=final.relative_to(self.folder.root).as_posix(),
            sha256=compute_sha256(final),
            weights_sha256=compute_sha256(self.folder.weights),
            method=method,
            made_of=_hash_sources(self.folder, name),
            versions=_list_versions(name),
            multiples=tuple(self.plan.total_stride),
            logits=logits,
            label_maps=label_maps,
        )

    def _write_torchscript(self, path: Path) -> str:
        from monai.data import save_net_with_metadata

        traced = not NETWORKS[self.plan.network_name].scriptable
        with torch.no_grad():
            example = torch.rand(self._shape(compute_least_size(self.plan)))
            module = (
                torch.jit.trace(self.network, example, check_trace=False) if traced else torch.jit.script(self.network)
            )
        configs = {"inference.json": self.folder.config("inference").read_bytes()}
        stream = io.BytesIO()  # a file's name would become part of its content
        metadata = self.folder.read_metadata()
        save_net_with_metadata(
            module, stream, include_config_vals=False, meta_values=metadata, more_extra_files=configs
        )
        _write_without_source_paths(stream, path)
        return "traced" if traced else "scripted"

    def _write_onnx(self, path: Path) -> str:
        # the older exporter: dynamo's cannot express the residual encoder's pooling of dynamic sizes, and takes 20 to 200 times as long
        axes = {0: "batch", **{2 + axis: f"size_{axis}" for axis in range(self.plan.spatial_dims)}}
        with torch.no_grad():
            torch.onnx.export(
                self.network,
                (torch.rand(self._shape(compute_least_size(self.plan))),),
                str(path),
                input_names=["image"],
                output_names=["pred"],
                dynamic_axes={"image": axes, "pred": axes},
                opset_version=OPSET,
                dynamo=False,
            )
        return f"traced, opset {OPSET}"

    def _shape(self, spatial: Sequence[int], batch: int = 1) -> tuple[int, ...]:
        return (batch, len(self.plan.channel_names), *spatial)

    def _list_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The window's shape, and that of two smaller or larger ones of another form; none is the export's own."""
        least, steps = compute_least_size(self.plan), self.plan.total_stride
        other = [size + step * (1 + axis) for axis, (size, step) in enumerate(zip(least, steps, strict=True))]
        return self._shape(self.plan.window_size), self._shape(other, batch=2)

    def _compare_logits(self, network: torch.nn.Module, shape: tuple[int, ...]) -> LogitParity:
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected, exported = self.network(noise), network(noise)
        if exported.shape != expected.shape:
            raise BundleError(f"An export gives {tuple(exported.shape)} for {shape}; expected {tuple(expected.shape)}.")
        return LogitParity(shape, float((exported - expected).abs().max()), float(expected.abs().max()))

    def _require_parity(self, name: str, logits: Sequence[LogitParity], label_maps: Sequence[LabelMapParity]) -> None:
        remedy = f"The export is not written; leave it out with --export, and report it with {self.plan.network_name}."
        for parity in logits:
            allowed = LARGEST_DIFFERENCE_FRACTION * max(1.0, parity.largest_logit)
            if not parity.max_abs_difference <= allowed:  # NaN fails too
                raise BundleError(
                    f"The export for {name} of {self.folder.name} differs from the network by {parity.max_abs_difference:.3g} in "
                    f"the logits of an input of shape {parity.shape}; expected at most {allowed:.3g}. {remedy}"
                )
        for map_parity in label_maps:
            if not map_parity.dice >= SMALLEST_DICE:
                raise BundleError(
                    f"The export for {name} of {self.folder.name} gives another label map of {map_parity.image}: Dice "
                    f"{map_parity.dice:.6f}; expected at least {SMALLEST_DICE}. {remedy}"
                )


def _predict_classes(engine: TransformsEngine, image: Path) -> np.ndarray:
    return engine.predict_probabilities(image).argmax(axis=0)


def _compare_classes(expected: np.ndarray, exported: np.ndarray) -> float:
    """Lowest Dice over the classes that either label map has."""
    classes = np.union1d(expected, exported)
    return min(float(compute_dice(expected == number, exported == number)) for number in classes)


def _write_without_source_paths(stream: io.BytesIO, path: Path) -> None:
    """TorchScript without its debugging records, which hold the paths of the sources on this machine and are never needed."""
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(entry.filename, _ZIP_TIME), source.read(entry))
