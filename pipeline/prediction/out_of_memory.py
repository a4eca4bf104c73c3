"""Memory that is not enough: how PyTorch and NumPy say it, and what the user can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import PredictionError

# of RuntimeErrors: PyTorch's allocators and those of the libraries under it have no class of their own for all of them
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def release_cached_memory(device: torch.device) -> None:
    """Hand what PyTorch keeps for later back to a GPU; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def explain_out_of_memory(name: str, device: torch.device, probabilities: bool, mirror: bool) -> Iterator[None]:
    """Within the block, memory that runs out becomes an error that says what helps.

    Args:
        name: of the image.
        device: that computes.
        probabilities: whether they were asked for.
        mirror: whether mirrored copies are averaged.

    Raises:
        PredictionError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        remedies = _list_remedies(device, probabilities, mirror)
        raise PredictionError(
            f"{name} needs more memory than is free for it on {device}, with one window at a time. {remedies}"
        ) from None


def _list_remedies(device: torch.device, probabilities: bool, mirror: bool) -> str:
    found = []
    if device.type != "cpu":
        found.append("take `--device cpu`")
    if probabilities:
        found.append("leave out `--probabilities`, which hold every class of the whole image")
    if mirror and device.type != "cpu":
        found.append("leave out `--mirror`")
    if not found:
        found.append("close other programs, or predict on a machine with more memory")
    listed = ", or ".join(found)
    return f"{listed[0].upper()}{listed[1:]}; `--dry-run` shows what each image takes."
