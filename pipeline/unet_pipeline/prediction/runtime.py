"""What runs the network: PyTorch, its TorchScript copy, or its ONNX copy. Everything around it stays the config's.

The copies are made by `package` (pipeline/unet_pipeline/handover/export.py) and hold the weights of models/model.pt.
"""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet_pipeline.boundary import describe_failure
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.records import ExportEntry
from unet_pipeline.errors import BundleError, PredictionError, suggest
from unet_pipeline.files import compute_sha256
from unet_pipeline.text_files import read_model

TORCH, TORCHSCRIPT, ONNX = "torch", "torchscript", "onnx"
RUNTIMES = (TORCH, TORCHSCRIPT, ONNX)
_ON_CUDA, _ON_CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def check_runtime(folder: BundleFolder, runtime: str, ensemble: bool = False) -> None:
    """Whether a bundle can be run that way.

    Args:
        runtime: one of `RUNTIMES`.
        ensemble: the folds together are asked for.

    Raises:
        PredictionError: unknown runtime, an ensemble of exported networks, or onnxruntime is not installed.
        BundleError: the bundle was not exported, or its weights or the export have changed since.
    """
    if runtime not in RUNTIMES:
        raise PredictionError(f"Unknown runtime {runtime!r}; {suggest(runtime, RUNTIMES)}.")
    if runtime == TORCH:
        return
    if ensemble:
        raise PredictionError(
            f"The export for {runtime} holds one network, and an ensemble needs those of all folds. "
            "Use --runtime torch, or leave out --ensemble."
        )
    if runtime == ONNX and importlib.util.find_spec("onnxruntime") is None:
        raise PredictionError("onnxruntime is not installed. Install it with `pip install 'unet-pipeline[export]'`.")
    _check_export(folder, runtime)


def _check_export(folder: BundleFolder, runtime: str) -> None:
    path = folder.export(runtime)
    shown = path.relative_to(folder.root)
    remedy = f"Run `unet-pipeline package {shlex.quote(str(folder.root))} --export {runtime}`."
    if not path.is_file() or not folder.exports.is_file():
        missing = (shown if not path.is_file() else folder.exports.relative_to(folder.root)).as_posix()
        raise BundleError(f"{folder.name} has no export for {runtime}: {missing} is missing. {remedy}")
    entry = read_model(folder.exports, dict[str, ExportEntry]).get(runtime, ExportEntry())
    if entry.sha256 != compute_sha256(path):
        raise BundleError(f"{shown} in {folder.name} is not the file that evidence/exports.json describes. {remedy}")
    if entry.weights_sha256 != compute_sha256(folder.weights):
        raise BundleError(f"{shown} in {folder.name} was made of other weights than models/model.pt. {remedy}")


def choose_device(runtime: str, device: str | None) -> str | None:
    """The device for a runtime: ONNX takes the CPU where none is asked for and onnxruntime has no GPU."""
    if runtime == ONNX and device is None and _ON_CUDA not in _list_providers():
        return "cpu"
    return device


def build_exported_network(path: Path, runtime: str, device: torch.device) -> torch.nn.Module:
    """The exported network, which takes and gives tensors on `device` as the eager one does.

    Args:
        path: model.ts or model.onnx.
        runtime: TORCHSCRIPT or ONNX.
        device: of the tensors; of the computation too.

    Raises:
        BundleError: the file cannot be read.
        PredictionError: onnxruntime has no such device.
    """
    try:
        if runtime == TORCHSCRIPT:
            return torch.jit.load(path, map_location=device).eval()
        return OnnxNetwork(path, device)
    except PredictionError:
        raise
    except Exception as error:  # both libraries raise many kinds for a damaged file
        cause = describe_failure(error)
        raise BundleError(
            f"{path.parent.name}/{path.name} cannot be read: {cause}. Package the bundle again."
        ) from error


class OnnxNetwork(torch.nn.Module):
    """An ONNX file as a module: one input and one output, any batch, sizes that the network divides.

    Args:
        path: of the file.
        device: "cpu", or "cuda" with onnxruntime-gpu installed.

    Raises:
        PredictionError: onnxruntime has no such device.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        import onnxruntime

        providers: list[Any] = [_ON_CPU]
        if device.type == "cuda":
            if _ON_CUDA not in _list_providers():
                raise PredictionError(
                    "The installed onnxruntime has no GPU; expected onnxruntime-gpu. Install it, or use --device cpu."
                )
            providers = [(_ON_CUDA, {"device_id": device.index or 0}), _ON_CPU]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.input_name = self.session.get_inputs()[0].name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of `x`, on its device, float32."""
        array = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float32)
        (logits,) = self.session.run(None, {self.input_name: array})
        return torch.from_numpy(logits).to(x.device)


def _list_providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())
