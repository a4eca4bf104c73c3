"""One process or several: what the multi-GPU overlay asks."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


def start_process_group() -> None:
    """Join the processes that torchrun started; NCCL with GPUs, Gloo without."""
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")


def local_device() -> torch.device:
    """The device of this process."""
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")


def rank() -> int:
    """Number of this process, 0 when there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def num_processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_secondary() -> bool:
    """Whether another process does the writing and printing."""
    return rank() > 0
