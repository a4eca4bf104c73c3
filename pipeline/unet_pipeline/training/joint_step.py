"""A step of several processes that is the step of one: each computes its share of the batch, and the loss is that of the whole batch.

A loss may pool over its batch, as a Dice of the batch does, so that no mean of the processes' losses equals it. The outputs of all are
therefore brought to every process, which computes the loss of the whole batch and the gradient of its own share; the sum of these over the
processes is the gradient, whatever the loss and however uneven the shares (docs/decisions).
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from unet_pipeline.errors import TrainingError
from unet_pipeline.training.processes import num_processes, rank

Heads = torch.Tensor | list[torch.Tensor] | tuple[torch.Tensor, ...]


class JointNetwork(DistributedDataParallel):
    """PyTorch's, but the gradients of the processes are added up and not averaged.

    Args:
        module: on its device; batch normalisation in it becomes synchronised.
        batch_size: of all processes together.

    Raises:
        TrainingError: batch normalisation that cannot be synchronised.
    """

    def __init__(self, module: torch.nn.Module, batch_size: int) -> None:
        if any(isinstance(part, _BatchNorm) for part in module.modules()):
            module = _synchronise(module, batch_size)
        super().__init__(module, broadcast_buffers=False)
        self.register_comm_hook(None, _add_up)


def _synchronise(module: torch.nn.Module, batch_size: int) -> torch.nn.Module:
    """Batch normalisation over the batch of all processes."""
    device = next(module.parameters()).device
    if device.type != "cuda":
        raise TrainingError(
            f"The network has batch normalisation, which {num_processes()} processes would have to compute over the whole batch; PyTorch can "
            "do that on GPUs only. Train in one process, or plan with --padded, whose instance normalisation needs no batch."
        )
    if batch_size < num_processes():
        raise TrainingError(
            f"The network has batch normalisation, and a batch of {batch_size} leaves some of {num_processes()} processes without a "
            f"sample to normalise. Train with at most {batch_size} processes, or a larger batch_size."
        )
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)


# PyTorch looks at its annotations, which therefore are no strings in this module
def _add_up(_: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda sums: sums.value()[0])


def join_batch(heads: Heads, labels: torch.Tensor, sizes: Sequence[int]) -> tuple[Heads, torch.Tensor]:
    """Outputs and targets of the whole batch; gradients go to the own share of the outputs.

    Args:
        heads: logits of this process's samples, shape (samples, classes, *spatial), or one such array per head. A process without a
            share computes one sample, which is left out.
        labels: their targets, shape (samples, any, *spatial).
        sizes: samples of each process.
    """
    if len(sizes) == 1:
        return heads, labels
    joint = [_join(head, sizes) for head in ([heads] if isinstance(heads, torch.Tensor) else heads)]
    return (joint[0] if isinstance(heads, torch.Tensor) else joint), _join(labels, sizes)


def _join(rows: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    most, own = max(sizes), sizes[rank()]
    sent = rows.detach()[:most].contiguous()
    if len(sent) < most:
        sent = torch.cat([sent, sent.new_zeros((most - len(sent), *sent.shape[1:]))])
    received = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(received, sent)
    shares = [share[:size] for share, size in zip(received, sizes, strict=True)]
    shares[rank()] = rows[:own]
    return torch.cat(shares)
