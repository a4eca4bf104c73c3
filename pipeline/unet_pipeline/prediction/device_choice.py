"""Which device and precision a prediction takes, by what the user asks for and the machine has."""

from __future__ import annotations

import torch

from unet_pipeline.device.precision import BFLOAT16, FLOAT32, supports_fast_bfloat16
from unet_pipeline.errors import PredictionError, suggest
from unet_pipeline.prediction.runtime import TORCH

PRECISIONS = (FLOAT32, BFLOAT16, "auto")


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
