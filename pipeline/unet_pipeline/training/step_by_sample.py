"""A step whose gradient is the sum of its samples' gradients in float64: the same bits in one process and in several.

Kernels add up over a batch in an order that depends on its size, and the first steps of Adam turn the last bit of a gradient near zero into
a step of another size (docs/experiments). Sample by sample the gradients are the same wherever a sample is computed, and their sum in float64
does not depend on its order, but for one bit in some billions. So a deterministic training works like this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from unet_pipeline.training.joint_step import Heads, JointNetwork, join_batch
from unet_pipeline.training.processes import num_processes, rank
from unet_pipeline.training.randomness import derive_seed


def is_by_sample(network: torch.nn.Module, device: torch.device, deterministic: bool) -> bool:
    """Whether a training steps like this: a deterministic one, but with batch normalisation, and but for a captured step on one GPU."""
    if not deterministic or (device.type != "cpu" and num_processes() == 1):
        return False
    return not any(isinstance(part, _BatchNorm) for part in network.modules())


def compute_by_sample(
    network: torch.nn.Module,
    forward: Callable[[torch.Tensor], Heads],
    loss_function: Callable[[Heads, torch.Tensor], torch.Tensor],
    batch: tuple[torch.Tensor, torch.Tensor],
    sizes: Sequence[int],
    seed: int,
) -> tuple[Heads, torch.Tensor]:
    """Outputs of this process's samples and the loss of the whole batch; the parameters get the gradient of that loss.

    Args:
        network: whose parameters have no gradients yet.
        forward: images of shape (1, channels, *spatial) -> logits, or those of all heads.
        loss_function: of logits and targets of the whole batch.
        batch: images and targets of this process; one sample that is left out where it has no share.
        sizes: samples of each process.
        seed: of the step, from which dropout is seeded for each sample.
    """
    images, labels = batch
    first, outputs = sum(sizes[: rank()]), list[list[torch.Tensor]]()
    with network.no_sync() if isinstance(network, JointNetwork) else nullcontext():
        for place in range(len(images)):
            torch.manual_seed(derive_seed("dropout", seed, first + place))
            output = forward(images[place : place + 1])
            outputs.append([output] if (is_single := isinstance(output, torch.Tensor)) else list(output))
    heads = [torch.cat([parts.detach() for parts in level]).requires_grad_() for level in zip(*outputs, strict=True)]
    loss = loss_function(*join_batch(heads[0] if is_single else heads, labels, sizes))
    loss.backward()
    _add_up(list(network.parameters()), outputs[: sizes[rank()]], heads)
    return (heads[0] if is_single else heads), loss


def _add_up(
    parameters: list[torch.nn.Parameter], outputs: list[list[torch.Tensor]], heads: Sequence[torch.Tensor]
) -> None:
    """Give the parameters the sum of the gradients of all samples of all processes; None where no sample has one."""
    sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    uses = torch.zeros(len(parameters), dtype=torch.float64, device=heads[0].device)
    for place, output in enumerate(outputs):
        wanted = [torch.zeros_like(head) if head.grad is None else head.grad for head in heads]
        gradients = torch.autograd.grad(
            output, parameters, [gradient[place : place + 1] for gradient in wanted], allow_unused=True
        )
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                sums[number] += gradient
                uses[number] += 1
    flat = torch.cat([uses, *(part.reshape(-1) for part in sums)])
    if num_processes() > 1:
        dist.all_reduce(flat)
    counts, *parts = flat.split([len(parameters), *(parameter.numel() for parameter in parameters)])
    for parameter, part, count in zip(parameters, parts, counts.tolist(), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype) if count else None
