"""One process or several that train together: who this one is, and the little that they tell each other outside of the steps."""

from __future__ import annotations

import atexit
import os
import re
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from unet_pipeline.errors import TrainingError

# a process that is gone is noticed at once by its connection; one that loads or validates may be waited for
_PATIENCE = timedelta(hours=6)
_LOST = re.compile(
    r"gloo|NCCL|ncclUnhandled|Connection (closed|reset|refused)|Broken pipe|Socket ?Timeout|TCPStore|recvValue|sendBytes",
    re.IGNORECASE,
)
_host_group: dist.ProcessGroup | None = None


class LostProcessError(TrainingError):
    """Another process of the training is gone."""


def is_launched() -> bool:
    """Whether a launcher such as torchrun has started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def start_process_group() -> None:
    """Join the processes that torchrun started, once; NCCL with GPUs, Gloo without, and for what the hosts tell each other."""
    global _host_group
    if dist.is_initialized():
        return
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(local_device())
    try:
        dist.init_process_group(backend="nccl" if has_gpus else "gloo", timeout=_PATIENCE)
        _host_group = dist.new_group(backend="gloo", timeout=_PATIENCE) if has_gpus else None
    except (RuntimeError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"The {os.environ.get('WORLD_SIZE')} processes of the training do not find each other ({cause}). Start them with "
            "`unet-pipeline train BUNDLE --processes N`, or with torchrun on every machine."
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device() -> torch.device:
    """The device of this process.

    Raises:
        TrainingError: there are more processes on this machine than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    require_gpus(local_rank() + 1)
    return torch.device("cuda", local_rank())


def require_gpus(num_processes: int) -> None:
    """Whether every process of this machine can have a GPU of its own, where there are any.

    Raises:
        TrainingError: there are fewer.
    """
    num_gpus = torch.cuda.device_count()
    if 0 < num_gpus < num_processes:
        raise TrainingError(
            f"{num_processes} processes for {num_gpus} GPU(s); expected one GPU each. Train with at most {num_gpus} process(es) on this "
            "machine, or on its processor with CUDA_VISIBLE_DEVICES= in front of the command."
        )


def rank() -> int:
    """Number of this process, 0 when there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def num_processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_secondary() -> bool:
    """Whether another process does the writing and printing."""
    return rank() > 0


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def num_local_processes() -> int:
    """Processes that train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if num_processes() > 1 else 1


def find_share(total: int, process: int, processes: int) -> range:
    """The part of `total` things in a row that a process gets; the first processes get one more where they cannot be dealt evenly."""
    each, left = divmod(total, processes)
    first = process * each + min(process, left)
    return range(first, first + each + (process < left))


def take_from_first(value: Any) -> Any:
    """The value of the first process, in all of them; it must be picklable."""
    if num_processes() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_host_group)
    return values[0]


def gather_values(value: Any) -> list[Any]:
    """The values of all processes, in all of them."""
    if num_processes() == 1:
        return [value]
    values = [None] * num_processes()
    dist.all_gather_object(values, value, group=_host_group)
    return values


def find_highest(number: int) -> int:
    """The highest number of all processes; no GPU is waited for."""
    if num_processes() == 1:
        return number
    highest = torch.tensor(number)
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=_host_group)
    return int(highest)


def explain_lost_process(error: BaseException) -> LostProcessError | None:
    """What the end of another process looks like in this one; None for any other error."""
    if num_processes() == 1 or not isinstance(error, RuntimeError) or not _LOST.search(str(error)):
        return None
    return LostProcessError(
        f"Process {rank()} of 0 to {num_processes() - 1} has lost the others: one of them has ended, or its machine. The checkpoints are "
        "whole; look for the message of the one that ended, then continue with `unet-pipeline train BUNDLE --resume`, on any number of "
        "processes."
    )
