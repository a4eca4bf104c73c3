"""Memory that is not enough for a prediction, and what the user can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from unet_pipeline.boundary import is_out_of_memory
from unet_pipeline.errors import PredictionError


def release_cached_memory(device: torch.device) -> None:
    """Hand what PyTorch keeps for later back to a GPU; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def explain_out_of_memory(name: str, device: torch.device, probabilities: bool = False) -> Iterator[None]:
    """Within the block, memory that runs out becomes an error that says what helps.

    Args:
        name: of the image.
        device: that computes.
        probabilities: whether they were asked for.

    Raises:
        PredictionError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        place = "the memory of this machine" if device.type == "cpu" else f"the memory that is free on {device}"
        raise PredictionError(
            f"{name} does not fit into {place}, with one window at a time. {_find_remedy(device, probabilities)} "
            "`--dry-run` shows what each image takes."
        ) from None


def _find_remedy(device: torch.device, probabilities: bool) -> str:
    if probabilities:
        return "Leave out `--probabilities`, which hold every class of the whole image."
    if device.type != "cpu":
        return f"Take `--device cpu`, or end other programs on {device}."
    return "End other programs, or predict it on a machine with more memory."
