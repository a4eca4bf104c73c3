"""A network's weights from a file: numbers that fit, or one clear error; no code of the file is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from unet_pipeline.boundary import describe_failure
from unet_pipeline.errors import BundleError


def load_weights(network: torch.nn.Module, weights: Path, device: torch.device) -> None:
    """Load a state_dict strictly and without running code of the file.

    Raises:
        BundleError: the file is damaged, its parameters are not the network's, or they are no numbers.
    """
    shown = f"{weights.parent.name}/{weights.name}"
    try:
        state = torch.load(weights, map_location=device, weights_only=True)
        network.load_state_dict(state, strict=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        cause = describe_failure(error)
        raise BundleError(f"{shown} does not fit the network of the bundle: {cause}. Train again.") from error
    require_finite(state, shown, "Train again.")


def require_finite(state: Mapping[str, object], shown: str, remedy: str) -> None:
    """Whether all weights are numbers.

    Raises:
        BundleError: names the first that are not, and how many there are.
    """
    real = {name: value for name, value in state.items() if torch.is_tensor(value) and value.is_floating_point()}
    bad = {name: count for name, value in real.items() if (count := int((~torch.isfinite(value)).sum()))}
    if bad:
        raise BundleError(
            f"{shown} has {sum(bad.values())} weights that are NaN or infinite, the first in {next(iter(bad))}; expected numbers. {remedy}"
        )
