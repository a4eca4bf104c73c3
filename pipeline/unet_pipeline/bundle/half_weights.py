"""Weights as they are handed over: convolutions in float16, which halves the file; everything that computes with them takes float32.

PyTorch's `load_state_dict` copies into the network's own float32 parameters, here as in stock MONAI. float16, because it keeps three bits
more than bfloat16 and trained weights lie far inside its range (docs/experiments.md). What has one axis, such as biases and the means and
variances of norms, stays as it is: it is a hundredth of the file, and variances may be large.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.weights_origin import hash_trained_weights
from unet_pipeline.errors import BundleError, suggest
from unet_pipeline.files import compute_sha256, write_atomically, write_json
from unet_pipeline.planning.plan import read_plan

FLOAT16, FLOAT32 = "float16", "float32"
WEIGHT_TYPES = (FLOAT16, FLOAT32)


def require_weight_type(name: str) -> None:
    """Whether weights can be stored as that.

    Raises:
        BundleError: unknown name.
    """
    if name not in WEIGHT_TYPES:
        raise BundleError(f"Unknown type of weights {name!r}; {suggest(name, WEIGHT_TYPES)}.")


def halve_state(state: Mapping[str, object]) -> dict[str, object]:
    """A state_dict with its float32 arrays of two and more axes in float16.

    Tensors that share their memory, as the layers with two names of MONAI's DynUNet, go on sharing it.

    Raises:
        BundleError: a value is beyond the range of float16.
    """
    halves: dict[tuple[int, torch.Size], torch.Tensor] = {}
    return {
        name: _halve(name, value, halves) if torch.is_tensor(value) and _is_large(value) else value
        for name, value in state.items()
    }


def _is_large(value: torch.Tensor) -> bool:
    return value.dtype == torch.float32 and value.dim() > 1


def _halve(name: str, value: torch.Tensor, halves: dict[tuple[int, torch.Size], torch.Tensor]) -> torch.Tensor:
    key = value.data_ptr(), value.shape
    if key not in halves:
        half = value.half()
        if bool((half.isinf() & ~value.isinf()).any()):
            raise BundleError(
                f"The weights {name} reach {float(value.abs().max()):.3g}; expected at most {torch.finfo(half.dtype).max:.0f}, which is what "
                "float16 holds. Package with --weights float32."
            )
        halves[key] = half
    return halves[key]


def holds_full_weights(path: Path) -> bool:
    """Whether a state_dict file has float32 arrays that `halve_state` would change."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return any(torch.is_tensor(value) and _is_large(value) for value in state.values())


def halve_weights(folder: BundleFolder) -> None:
    """Store models/model.pt in float16, and note the SHA-256 of what the training wrote; weights of single folds stay as they are.

    Raises:
        BundleError: a value is beyond the range of float16; nothing was changed.
    """
    state = halve_state(torch.load(folder.weights, map_location="cpu", weights_only=True))
    trained = hash_trained_weights(folder, folder.weights)
    fold = folder.fold_of_weights(read_plan(folder.plan).fold)
    with write_atomically(folder.weights) as partial:
        torch.save(state, partial)
    sha256 = compute_sha256(folder.weights)
    write_json(folder.weights_origin, {"fold": fold, "sha256": sha256, "trained_sha256": trained})
