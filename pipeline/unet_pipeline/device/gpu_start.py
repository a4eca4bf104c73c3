"""A GPU made ready beside the imports: its driver and libraries take seconds in which Python's own lock is free."""

from __future__ import annotations

import threading

import torch


def start_device(device: str | None) -> threading.Thread | None:
    """Let a thread set up a GPU, and load the libraries of convolutions and matrices; a failure shows when the device is used.

    Args:
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.

    Returns:
        The thread; None where there is nothing to set up.
    """
    name = device or "cuda"
    if not name.startswith("cuda") or not torch.cuda.is_available():
        return None
    thread = threading.Thread(target=_set_up, args=(name,), name="start-device")
    thread.start()
    return thread


def _set_up(name: str) -> None:
    try:
        images, kernels = torch.zeros(1, 1, 8, 8, 8, device=name), torch.zeros(1, 1, 3, 3, 3, device=name)
        with torch.inference_mode():
            torch.nn.functional.conv3d(images, kernels)
            torch.mm(images[0, 0, 0], images[0, 0, 0])
        torch.cuda.synchronize(images.device)
    except (RuntimeError, AssertionError):
        return
