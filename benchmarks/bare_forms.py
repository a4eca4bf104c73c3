"""The bare network of a bundle's plan in several forms: forward, loss, backward, clipping and step on a batch that is there already.

It is the ceiling for a training loop. `Form` says how the network is computed; `time_blocks` measures, on a GPU between two
synchronisations around a block of steps, so that nothing waits inside.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.planning.plan import read_plan

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
_WARM_STEPS = 10


@dataclass(frozen=True)
class Form:
    """How a network is computed.

    Attributes:
        mode: of torch.compile; None for no compilation, "traced" for its first half alone, which takes no compiler.
        channels_last: memory format of network and images.
        whole_step: captured in one CUDA graph and replayed.
    """

    mode: str | None = None
    channels_last: bool = True
    whole_step: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds of a step, one per block; of the warm-up; and the most memory of tensors, in GiB (0 on a CPU)."""

    step_s: tuple[float, ...]
    warm_s: float
    peak_gib: float


@dataclass(frozen=True)
class Problem:
    """What a form is measured on: a network, its loss, and one batch on the device."""

    network: torch.nn.Module
    loss: Any
    images: torch.Tensor
    labels: torch.Tensor
    autocast: bool

    @property
    def device(self) -> torch.device:
        return self.images.device


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_blocks(step: Callable[[], Any], num_blocks: int, num_steps: int, device: torch.device) -> tuple[float, ...]:
    """Seconds of a step, one mean per block of `num_steps`."""
    found = []
    for _ in range(num_blocks):
        synchronize(device)
        started_s = time.perf_counter()
        for _ in range(num_steps):
            step()
        synchronize(device)
        found.append((time.perf_counter() - started_s) / num_steps)
    return tuple(found)


def build_problem(folder: BundleFolder, device: torch.device) -> Problem:
    """The plan's network and loss, and a batch of noise."""
    from monai.bundle import ConfigParser

    from unet_pipeline.device.precision import supports_fast_bfloat16

    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(str(folder.config("train")))
    parser.read_meta(str(folder.metadata))
    plan = read_plan(folder.plan)
    network, loss = (parser.get_parsed_content(name) for name in ("network_def", "train#loss"))
    generator = torch.Generator().manual_seed(0)
    shape = (plan.batch_size, 1, *plan.patch_size)
    images = torch.randn((plan.batch_size, len(plan.channel_names), *plan.patch_size), generator=generator)
    labels = torch.randint(0, len(plan.label_table), shape, generator=generator).float()
    return Problem(network, loss, images.to(device), labels.to(device), supports_fast_bfloat16(device))


def measure_form(problem: Problem, form: Form, num_blocks: int, num_steps: int) -> Timing:
    """Warm up, which compiles, then time some blocks of steps."""
    device = problem.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    started_s = time.perf_counter()
    step = build_step(problem, form)
    for _ in range(_WARM_STEPS if device.type == "cuda" else 1):
        step()
    synchronize(device)
    warm_s = time.perf_counter() - started_s
    step_s = time_blocks(step, num_blocks, num_steps, device)
    peak_gib = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return Timing(step_s, warm_s, peak_gib)


def build_step(problem: Problem, form: Form) -> Callable[[], Any]:
    """One training step of a copy of the network."""
    torch._dynamo.reset()
    device, is_cuda = problem.device, problem.device.type == "cuda"
    network, images = copy.deepcopy(problem.network).to(device).train(), problem.images
    if form.channels_last:
        memory_format = CHANNELS_LAST[images.dim() - 2]
        network, images = network.to(memory_format=memory_format), images.contiguous(memory_format=memory_format)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=is_cuda or None, capturable=form.whole_step)
    forward = network
    if form.mode is not None:
        how = {"backend": "eager"} if form.mode == "traced" else {"mode": form.mode}
        forward = torch.compile(network, **how)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        # the casts of a captured step must be part of it
        with torch.autocast(device.type, torch.bfloat16, problem.autocast, cache_enabled=not form.whole_step):
            output = forward(images)
        compute_loss(problem.loss, output, problem.labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    return capture(step, device) if form.whole_step else step


def compute_loss(loss: Any, output: Any, labels: torch.Tensor) -> torch.Tensor:
    """The loss of all heads; MONAI's own sum begins with a zero from the host, which no CUDA graph can capture."""
    if isinstance(output, torch.Tensor) or not hasattr(loss, "get_weights"):
        return loss(output, labels)
    weights = loss.get_weights(len(output))
    terms = [weight * loss.get_loss(head.float(), labels) for weight, head in zip(weights, output, strict=True)]
    return torch.stack(terms).sum()


def capture(step: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The step as one CUDA graph."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_STEPS):
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
