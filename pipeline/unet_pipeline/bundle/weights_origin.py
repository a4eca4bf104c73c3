"""Which weights a bundle hands over: what a training wrote, or the same in half precision."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.files import compute_sha256


def hash_trained_weights(folder: BundleFolder, path: Path) -> str:
    """SHA-256 of what the training wrote, where `path` is models/model.pt in half precision; otherwise the file's own."""
    own, origin = compute_sha256(path), folder.read_weights_origin()
    return origin.trained_sha256 if origin and origin.trained_sha256 and origin.sha256 == own else own


def is_halved(folder: BundleFolder) -> bool:
    """Whether models/model.pt is another file than the training wrote."""
    path = folder.weights
    return path.is_file() and hash_trained_weights(folder, path) != compute_sha256(path)


def find_measured_weights(folder: BundleFolder, fold: int) -> Path:
    """What stands for a trained fold in an evaluation: models/model.pt where it holds that fold's weights in half precision, as they
    are handed over; otherwise the fold's own file."""
    path = folder.fold_weights(fold)
    if not (path.is_file() and folder.fold_of_weights(-1) == fold and is_halved(folder)):
        return path
    return folder.weights if compute_sha256(path) == hash_trained_weights(folder, folder.weights) else path
